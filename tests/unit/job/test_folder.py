import asyncio
import io
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image

from handler.comfy.process import ComfyPaths
from handler.comfy_api.history import Execution
from handler.comfy_api.node_outputs import NodeText, SavedFile
from handler.errors import ComfyProtocol, DiskFull, InternalError
from handler.job.folder import TEXT_BYTES, JobFolder, open_job_folder
from handler.job.outputs import Output, OutputFile, OutputImage, Outputs
from handler.pictures.images import InputImage

JOB = "0f4e"


def picture(kind: str = "PNG", size: tuple[int, int] = (3, 2)) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", size).save(buffer, kind)
    return buffer.getvalue()


def saved(
    filename: str, subfolder: str = JOB, folder_type: str = "output", node_id: str = "9"
) -> SavedFile:
    return SavedFile(node_id, filename, subfolder, folder_type)


def as_it_is(file: Output) -> Output:
    return file


def read(folder: JobFolder, *files: SavedFile) -> list[Output]:
    return list(folder.read_outputs(Execution(files, (), None, None), as_it_is).files)


def read_image(folder: JobFolder, file: SavedFile) -> OutputImage:
    [image] = read(folder, file)
    assert isinstance(image, OutputImage)
    return image


def read_file(folder: JobFolder, saved_file: SavedFile) -> OutputFile:
    [file] = read(folder, saved_file)
    assert isinstance(file, OutputFile)
    return file


def read_texts(folder: JobFolder, *texts: str) -> Outputs:
    shown = tuple(NodeText(str(number), text) for number, text in enumerate(texts))
    return folder.read_outputs(Execution((), shown, None, None), as_it_is)


@pytest.fixture
def paths(tmp_path: Path) -> ComfyPaths:
    paths = ComfyPaths.under(tmp_path / "run")
    for folder in (*paths.folders, paths.temp_dir / "temp"):
        folder.mkdir(parents=True)
    return paths


@pytest.fixture
def folder(paths: ComfyPaths) -> Iterator[JobFolder]:
    with open_job_folder(paths, JOB) as folder:
        yield folder


def left_in(paths: ComfyPaths) -> list[Path]:
    return [*paths.input_dir.iterdir(), *paths.output_dir.iterdir()]


def test_pictures_are_written_under_names_of_the_workers_own(
    folder: JobFolder, paths: ComfyPaths
) -> None:
    data = picture()
    images = [InputImage(name, data, "png", 3, 2) for name in ("../../cat [output]", "b.png")]
    files = folder.write_images(images)
    assert files == {"../../cat [output]": "0.png", "b.png": "1.png"}
    assert sorted(file.name for file in (paths.input_dir / JOB).iterdir()) == ["0.png", "1.png"]
    assert (paths.input_dir / JOB / "1.png").read_bytes() == data


def test_a_picture_that_is_there_uncompressed_is_written_so(
    folder: JobFolder, paths: ComfyPaths
) -> None:
    files = folder.write_images([InputImage("a", b"a JPEG", "jpg", 3, 2, b"a PNG")])
    assert files == {"a": "0.png"}
    assert (paths.input_dir / JOB / "0.png").read_bytes() == b"a PNG"


def test_a_picture_that_can_not_be_written_is_the_workers_fault(
    folder: JobFolder, paths: ComfyPaths
) -> None:
    (paths.input_dir / JOB).rmdir()
    with pytest.raises(InternalError, match="No such file") as caught:
        folder.write_images([InputImage("a", b"x", "png", 1, 1)])
    assert str(paths.input_dir) not in caught.value.message


def test_a_full_disk_is_told_and_asks_for_another_worker(
    folder: JobFolder, paths: ComfyPaths
) -> None:
    (paths.input_dir / folder.name / "0.png").symlink_to("/dev/full")
    with pytest.raises(DiskFull, match="no space is left; send") as caught:
        folder.write_images([InputImage("a", b"x", "png", 1, 1)])
    assert caught.value.refresh_worker


def test_folders_that_can_not_be_made_are_the_workers_fault(paths: ComfyPaths) -> None:
    paths.output_dir.rmdir()
    paths.output_dir.touch()
    with pytest.raises(InternalError, match="Not a directory"), open_job_folder(paths, "job"):
        pass
    assert list(paths.input_dir.iterdir()) == []


def test_pictures_come_in_the_order_in_which_they_were_saved(
    folder: JobFolder, paths: ComfyPaths
) -> None:
    for name in ("b.png", "a.png"):
        (paths.output_dir / JOB / name).write_bytes(picture())
    assert [image.filename for image in read(folder, saved("b.png"), saved("a.png"))] == [
        "b.png",
        "a.png",
    ]


def test_a_workflows_own_subfolders_stay_in_the_path(folder: JobFolder, paths: ComfyPaths) -> None:
    (paths.output_dir / JOB / "deep" / "er").mkdir(parents=True)
    (paths.output_dir / JOB / "deep" / "er" / "cat.png").write_bytes(picture())
    image = read_image(folder, saved("cat.png", f"{JOB}/deep/er"))
    assert image.path == "deep/er/cat"


def test_a_picture_outside_the_jobs_folder_is_read_too(
    folder: JobFolder, paths: ComfyPaths
) -> None:
    (paths.output_dir / "stray.png").write_bytes(picture())
    image = read_image(folder, saved("stray.png", ""))
    assert image.path == "stray"


@pytest.mark.parametrize(
    ("subfolder", "filename"),
    [
        ("../..", "secret.png"),
        (JOB, "../../../secret.png"),
        (f"{JOB}/../../..", "secret.png"),
    ],
)
def test_a_file_outside_the_output_folder_is_never_read(
    folder: JobFolder, tmp_path: Path, subfolder: str, filename: str
) -> None:
    (tmp_path / "secret.png").write_bytes(picture())
    with pytest.raises(ComfyProtocol, match="outside the output folder"):
        read(folder, saved(filename, subfolder))


def test_an_absolute_subfolder_is_never_read(folder: JobFolder, tmp_path: Path) -> None:
    (tmp_path / "secret.png").write_bytes(picture())
    with pytest.raises(ComfyProtocol, match="outside the output folder"):
        read(folder, saved("secret.png", str(tmp_path)))


def test_a_link_out_of_the_output_folder_is_never_followed(
    folder: JobFolder, paths: ComfyPaths, tmp_path: Path
) -> None:
    (tmp_path / "secret.png").write_bytes(picture())
    (paths.output_dir / JOB / "cat.png").symlink_to(tmp_path / "secret.png")
    with pytest.raises(ComfyProtocol, match="outside the output folder"):
        read(folder, saved("cat.png"))


def test_a_missing_file_is_told(folder: JobFolder) -> None:
    with pytest.raises(
        ComfyProtocol, match=r"cat\.png, which node 9 saved, can't be read"
    ) as caught:
        read(folder, saved("cat.png"))
    assert caught.value.details == {"node_id": "9", "filename": "cat.png"}


def test_a_file_that_is_no_picture_stays_on_disk_until_the_end(
    folder: JobFolder, paths: ComfyPaths
) -> None:
    clip = paths.output_dir / JOB / "clip.mp4"
    clip.write_bytes(b"a clip")
    file = read_file(folder, saved("clip.mp4"))
    assert (file.source, file.path, file.extension) == (clip.resolve(), "clip", "mp4")


@pytest.mark.parametrize("folder_type", ["output", "temp"])
def test_a_file_from_elsewhere_is_taken_into_the_jobs_folder(
    folder: JobFolder, paths: ComfyPaths, folder_type: str
) -> None:
    """There the next job may write, while this one's file is still being sent."""
    root = {"output": paths.output_dir, "temp": paths.temp_dir / "temp"}[folder_type]
    (root / "clip.mp4").write_bytes(b"a clip")
    file = read_file(folder, saved("clip.mp4", "", folder_type))
    assert file.source.is_relative_to(paths.output_dir / JOB)
    assert file.source.read_bytes() == b"a clip"
    assert not (root / "clip.mp4").exists()


def test_previews_come_last_and_are_called_so(folder: JobFolder, paths: ComfyPaths) -> None:
    (paths.temp_dir / "temp" / "p.png").write_bytes(picture())
    (paths.output_dir / JOB / "a.mp4").write_bytes(b"a clip")
    execution = Execution(
        (saved("a.mp4"), saved("p.png", "", "temp")),
        (NodeText("7", "x" * (TEXT_BYTES + 1)),),
        None,
        None,
    )
    files = folder.read_outputs(execution, as_it_is).files
    assert [(file.filename, file.is_preview) for file in files] == [
        ("a.mp4", False),
        ("text_00001_.txt", False),
        ("p.png", True),
    ]


def test_each_file_is_finished_before_the_next_is_read(
    folder: JobFolder, paths: ComfyPaths
) -> None:
    (paths.output_dir / JOB / "0.png").write_bytes(picture())
    finished = []

    def finish(file: Output) -> Output:
        finished.append(file.filename)
        (paths.output_dir / JOB / f"{len(finished)}.png").write_bytes(picture())
        return file

    files = tuple(saved(f"{number}.png") for number in range(3))
    folder.read_outputs(Execution(files, (), None, None), finish)
    assert finished == ["0.png", "1.png", "2.png"]


def test_texts_that_fit_stay_texts(folder: JobFolder) -> None:
    outputs = read_texts(folder, "a cat", "x" * (TEXT_BYTES - 5))
    assert [text.text[:5] for text in outputs.texts] == ["a cat", "xxxxx"]
    assert outputs.files == ()


def test_a_text_that_does_not_fit_is_a_whole_file(folder: JobFolder) -> None:
    long = "ä" * TEXT_BYTES
    outputs = read_texts(folder, "a cat", long, "a dog")
    assert [text.text for text in outputs.texts] == ["a cat", "a dog"]
    [file] = outputs.files
    assert isinstance(file, OutputFile)
    assert (file.node_id, file.path, file.kind) == ("1", "text_00001_", "text")
    assert file.source.read_text(encoding="utf-8") == long


def test_pictures_that_are_named_by_a_pattern_are_all_read(
    folder: JobFolder, paths: ComfyPaths
) -> None:
    """As VHS_VideoCombine names a sequence."""
    for name in ("clip_1.001.png", "clip_1.002.png", "clip_1.txt", "clip_2.001.png"):
        (paths.output_dir / JOB / name).write_bytes(picture())
    names = [file.filename for file in read(folder, saved("clip_1.%03d.png"))]
    assert names == ["clip_1.001.png", "clip_1.002.png"]


def test_a_pattern_that_no_picture_has_is_told(folder: JobFolder) -> None:
    with pytest.raises(ComfyProtocol, match="can't be read"):
        read(folder, saved("clip_1.%03d.png"))


def test_a_name_that_only_looks_like_a_pattern_is_a_name(
    folder: JobFolder, paths: ComfyPaths
) -> None:
    (paths.output_dir / JOB / "100%d.png").write_bytes(picture())
    assert [file.filename for file in read(folder, saved("100%d.png"))] == ["100%d.png"]


def test_a_folder_in_the_place_of_a_picture_is_told(folder: JobFolder, paths: ComfyPaths) -> None:
    (paths.output_dir / JOB / "cat.png").mkdir()
    with pytest.raises(ComfyProtocol, match="can't be read"):
        read(folder, saved("cat.png"))


@pytest.mark.parametrize("name", ["a\x00b.png", "x" * 5000])
def test_a_name_that_no_file_can_have_is_told(folder: JobFolder, name: str) -> None:
    with pytest.raises(ComfyProtocol):
        read(folder, saved(name))


def test_links_in_a_circle_are_told(folder: JobFolder, paths: ComfyPaths) -> None:
    (paths.output_dir / JOB / "cat.png").symlink_to(paths.output_dir / JOB / "cat.png")
    with pytest.raises(ComfyProtocol):
        read(folder, saved("cat.png"))


def test_previews_and_stray_files_are_removed(folder: JobFolder, paths: ComfyPaths) -> None:
    preview = paths.temp_dir / "temp" / "ComfyUI_temp_00001_.png"
    stray = paths.output_dir / "elsewhere" / "stray.png"
    stray.parent.mkdir()
    for file in (preview, stray):
        file.write_bytes(picture())
    folder.drop_strays(
        [saved(preview.name, "", "temp"), saved(stray.name, "elsewhere"), saved("gone.png")]
    )
    assert not preview.exists()
    assert not stray.exists()


def test_the_jobs_own_files_stay_until_the_end(folder: JobFolder, paths: ComfyPaths) -> None:
    """They are sent after the strays are gone."""
    clip = paths.output_dir / JOB / "clip.mp4"
    clip.write_bytes(b"a clip")
    folder.drop_strays([saved("clip.mp4")])
    assert clip.exists()


def test_files_of_other_jobs_are_no_strays(folder: JobFolder, paths: ComfyPaths) -> None:
    other = paths.output_dir / "other" / "cat.png"
    other.parent.mkdir()
    other.write_bytes(picture())
    folder.drop_strays([saved("cat.png")])
    assert other.exists()


def test_what_a_run_names_outside_its_folders_is_not_removed(
    folder: JobFolder, paths: ComfyPaths, tmp_path: Path
) -> None:
    (tmp_path / "secret.png").touch()
    kept = paths.input_dir / "kept.png"
    kept.touch()
    folder.drop_strays(
        [
            saved("secret.png", "../.."),
            saved("secret.png", "../../..", "temp"),
            saved("kept.png", "", "input"),
            saved("a\x00b.png"),
        ]
    )
    assert (tmp_path / "secret.png").exists()
    assert kept.exists()


def test_the_folders_are_removed_at_the_end(paths: ComfyPaths) -> None:
    with open_job_folder(paths, JOB) as folder:
        folder.write_images([InputImage("a", picture(), "png", 3, 2)])
        (paths.output_dir / JOB / "deep").mkdir()
        (paths.output_dir / JOB / "deep" / "cat.png").touch()
        # Of a node that saves previews under its filename_prefix.
        (paths.temp_dir / "temp" / JOB).mkdir()
        (paths.temp_dir / "temp" / JOB / "preview.mp4").touch()
    assert left_in(paths) == []
    assert list((paths.temp_dir / "temp").iterdir()) == []


def test_the_folders_are_removed_after_a_fault(paths: ComfyPaths) -> None:
    with pytest.raises(ComfyProtocol), open_job_folder(paths, JOB):
        raise ComfyProtocol("a fault")
    assert left_in(paths) == []


def test_the_folders_are_removed_when_the_job_is_cancelled(paths: ComfyPaths) -> None:
    async def job() -> None:
        with open_job_folder(paths, JOB):
            await asyncio.Event().wait()

    async def scene() -> None:
        task = asyncio.create_task(job())
        await asyncio.wait({task}, timeout=0.05)
        assert len(left_in(paths)) == 2
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(scene())
    assert left_in(paths) == []


def test_the_folders_are_removed_while_a_cancelled_jobs_thread_still_writes(
    paths: ComfyPaths,
) -> None:
    """asyncio.to_thread leaves its thread running when the job is cancelled."""
    begun = threading.Event()

    def write() -> None:
        for index in range(20_000):
            try:
                (paths.input_dir / JOB / f"{index}.png").write_bytes(b"x")
            except OSError:
                return
            begun.set()

    with open_job_folder(paths, JOB):
        thread = threading.Thread(target=write)
        thread.start()
        begun.wait(10)
    thread.join(10)
    assert not thread.is_alive()
    assert left_in(paths) == []


def test_two_jobs_do_not_meet(paths: ComfyPaths) -> None:
    with open_job_folder(paths, "b"):
        with open_job_folder(paths, "a") as folder:
            folder.write_images([InputImage("cat.png", picture(), "png", 3, 2)])
            assert list((paths.input_dir / "b").iterdir()) == []
        assert (paths.input_dir / "b").exists()
