import asyncio
import hashlib
import io
import threading
import tracemalloc
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image

from handler.comfy.process import ComfyPaths
from handler.comfy_api.history import Execution
from handler.comfy_api.node_outputs import NodeText, SavedFile
from handler.contract.input_types import ImageFormat
from handler.errors import ComfyProtocol, NoOutput
from handler.job import read_outputs as module
from handler.job.folder import JobFolder, open_job_folder
from handler.job.outputs import Output, OutputFile, OutputImage, Outputs
from handler.job.read_outputs import TEXT_BYTES, read_outputs
from handler.job.reencode import Encoding

JOB = "0f4e"


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


def saved_as(
    filename: str, subfolder: str = JOB, folder_type: str = "output", node_id: str = "9"
) -> SavedFile:
    return SavedFile(node_id, filename, subfolder, folder_type)


def all_of(
    folder: JobFolder, files: tuple[SavedFile, ...] = (), texts: tuple[NodeText, ...] = ()
) -> Outputs:
    return asyncio.run(read_outputs(folder, Execution(files, texts, None, None), None))


def read(folder: JobFolder, *files: SavedFile) -> list[Output]:
    return list(all_of(folder, files).files)


def read_image(folder: JobFolder, file: SavedFile) -> OutputImage:
    [image] = read(folder, file)
    assert isinstance(image, OutputImage)
    return image


def read_file(folder: JobFolder, saved_file: SavedFile) -> OutputFile:
    [file] = read(folder, saved_file)
    assert isinstance(file, OutputFile)
    return file


def read_texts(folder: JobFolder, *texts: str) -> Outputs:
    return all_of(
        folder, texts=tuple(NodeText(str(number), text) for number, text in enumerate(texts))
    )


def picture(side: int = 32) -> Image.Image:
    return Image.linear_gradient("L").resize((side, side)).convert("RGB")


def saved(picture: Image.Image, compress_level: int = 0) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, "PNG", compress_level=compress_level)
    return buffer.getvalue()


def run_that_left(folder: JobFolder, *files: bytes) -> Execution:
    names = [f"{number:05}.png" for number in range(len(files))]
    for name, data in zip(names, files, strict=True):
        (folder.output_dir / JOB / name).write_bytes(data)
    return Execution(tuple(SavedFile("9", name, JOB, "output") for name in names), (), None, None)


def collected(
    folder: JobFolder, *files: bytes, encoding: Encoding | None = None
) -> list[OutputImage]:
    outputs = asyncio.run(read_outputs(folder, run_that_left(folder, *files), encoding))
    images = [file for file in outputs.files if isinstance(file, OutputImage)]
    assert len(images) == len(files)
    return images


def test_uncompressed_pictures_come_compressed(folder: JobFolder) -> None:
    [image] = collected(folder, saved(picture()))
    assert image.data == saved(picture(), 4)
    assert image.sha256 == hashlib.sha256(image.data).hexdigest()


def test_compressed_pictures_come_as_they_are(folder: JobFolder) -> None:
    [image] = collected(folder, saved(picture(), 9))
    assert image.data == saved(picture(), 9)


def test_pictures_come_in_the_format_that_was_asked_for(folder: JobFolder) -> None:
    [image] = collected(folder, saved(picture()), encoding=Encoding(ImageFormat.WEBP, 90))
    assert (image.filename, image.content_type) == ("00000.webp", "image/webp")


def test_a_picture_that_the_format_can_not_hold_comes_compressed_as_it_was_saved(
    folder: JobFolder,
) -> None:
    wide = Image.new("RGB", (16_384, 4))
    [image] = collected(folder, saved(wide), encoding=Encoding(ImageFormat.WEBP, 90))
    assert (image.filename, image.content_type) == ("00000.png", "image/png")
    assert image.data == saved(wide, 4)


def test_many_frames_are_never_in_memory_uncompressed(folder: JobFolder) -> None:
    frame = saved(picture(512))
    execution = run_that_left(folder, *[frame] * 30)
    tracemalloc.start()
    try:
        asyncio.run(read_outputs(folder, execution, None))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 10 * len(frame)


def test_the_thread_of_a_cancelled_job_ends_at_the_next_file(
    paths: ComfyPaths, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun, cancelled = threading.Event(), threading.Event()
    threads: list[threading.Thread] = []

    def compress(data: bytes) -> bytes:
        threads.append(threading.current_thread())
        begun.set()
        assert cancelled.wait(10)
        return data

    monkeypatch.setattr(module, "compress", compress)

    async def job() -> None:
        with open_job_folder(paths, JOB) as folder:
            await read_outputs(folder, run_that_left(folder, *[saved(picture())] * 50), None)

    async def scene() -> None:
        task = asyncio.create_task(job())
        assert await asyncio.to_thread(begun.wait, 10)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    # The loop's end waits for no thread.
    asyncio.run(scene())
    cancelled.set()
    threads[0].join(10)
    assert not threads[0].is_alive()
    assert len(threads) == 1


def test_pictures_come_in_the_order_in_which_they_were_saved_as(
    folder: JobFolder, paths: ComfyPaths
) -> None:
    for name in ("b.png", "a.png"):
        (paths.output_dir / JOB / name).write_bytes(saved(picture(), 9))
    assert [image.filename for image in read(folder, saved_as("b.png"), saved_as("a.png"))] == [
        "b.png",
        "a.png",
    ]


def test_a_workflows_own_subfolders_stay_in_the_path(folder: JobFolder, paths: ComfyPaths) -> None:
    (paths.output_dir / JOB / "deep" / "er").mkdir(parents=True)
    (paths.output_dir / JOB / "deep" / "er" / "cat.png").write_bytes(saved(picture(), 9))
    image = read_image(folder, saved_as("cat.png", f"{JOB}/deep/er"))
    assert image.path == "deep/er/cat"


def test_a_picture_outside_the_jobs_folder_is_read_too(
    folder: JobFolder, paths: ComfyPaths
) -> None:
    (paths.output_dir / "stray.png").write_bytes(saved(picture(), 9))
    image = read_image(folder, saved_as("stray.png", ""))
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
    (tmp_path / "secret.png").write_bytes(saved(picture(), 9))
    with pytest.raises(ComfyProtocol, match="outside the output folder"):
        read(folder, saved_as(filename, subfolder))


def test_an_absolute_subfolder_is_never_read(folder: JobFolder, tmp_path: Path) -> None:
    (tmp_path / "secret.png").write_bytes(saved(picture(), 9))
    with pytest.raises(ComfyProtocol, match="outside the output folder"):
        read(folder, saved_as("secret.png", str(tmp_path)))


def test_a_link_out_of_the_output_folder_is_never_followed(
    folder: JobFolder, paths: ComfyPaths, tmp_path: Path
) -> None:
    (tmp_path / "secret.png").write_bytes(saved(picture(), 9))
    (paths.output_dir / JOB / "cat.png").symlink_to(tmp_path / "secret.png")
    with pytest.raises(ComfyProtocol, match="outside the output folder"):
        read(folder, saved_as("cat.png"))


def test_a_missing_file_is_told(folder: JobFolder) -> None:
    with pytest.raises(
        ComfyProtocol, match=r"cat\.png, which node 9 saved, can't be read"
    ) as caught:
        read(folder, saved_as("cat.png"))
    assert caught.value.details == {"node_id": "9", "filename": "cat.png"}


def test_a_file_that_is_no_picture_stays_on_disk_until_the_end(
    folder: JobFolder, paths: ComfyPaths
) -> None:
    clip = paths.output_dir / JOB / "clip.mp4"
    clip.write_bytes(b"a clip")
    file = read_file(folder, saved_as("clip.mp4"))
    assert (file.source, file.path, file.extension) == (clip.resolve(), "clip", "mp4")


@pytest.mark.parametrize("folder_type", ["output", "temp"])
def test_a_file_from_elsewhere_is_taken_into_the_jobs_folder(
    folder: JobFolder, paths: ComfyPaths, folder_type: str
) -> None:
    """There the next job may write, while this one's file is still being sent."""
    root = {"output": paths.output_dir, "temp": paths.temp_dir / "temp"}[folder_type]
    (root / "clip.mp4").write_bytes(b"a clip")
    file = read_file(folder, saved_as("clip.mp4", "", folder_type))
    assert file.source.is_relative_to(paths.output_dir / JOB)
    assert file.source.read_bytes() == b"a clip"
    assert not (root / "clip.mp4").exists()


def test_previews_come_last_and_are_called_so(folder: JobFolder, paths: ComfyPaths) -> None:
    (paths.temp_dir / "temp" / "p.png").write_bytes(saved(picture(), 9))
    (paths.output_dir / JOB / "a.mp4").write_bytes(b"a clip")
    shown = (NodeText("7", "x" * (TEXT_BYTES + 1)),)
    files = all_of(folder, (saved_as("a.mp4"), saved_as("p.png", "", "temp")), shown).files
    assert [(file.filename, file.is_preview) for file in files] == [
        ("a.mp4", False),
        ("text_00001_.txt", False),
        ("p.png", True),
    ]


def test_each_picture_is_finished_before_the_next_is_read(
    folder: JobFolder, paths: ComfyPaths, monkeypatch: pytest.MonkeyPatch
) -> None:
    (paths.output_dir / JOB / "0.png").write_bytes(saved(picture()))
    finished = []

    def compress(data: bytes) -> bytes:
        finished.append(data)
        (paths.output_dir / JOB / f"{len(finished)}.png").write_bytes(saved(picture()))
        return data

    monkeypatch.setattr(module, "compress", compress)
    read(folder, *(saved_as(f"{number}.png") for number in range(3)))
    assert len(finished) == 3


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
        (paths.output_dir / JOB / name).write_bytes(saved(picture(), 9))
    names = [file.filename for file in read(folder, saved_as("clip_1.%03d.png"))]
    # The others, which no node lists, come after them.
    assert names == ["clip_1.001.png", "clip_1.002.png", "clip_1.txt", "clip_2.001.png"]


def test_a_pattern_that_no_picture_has_is_told(folder: JobFolder) -> None:
    with pytest.raises(ComfyProtocol, match="can't be read"):
        read(folder, saved_as("clip_1.%03d.png"))


def test_a_name_that_only_looks_like_a_pattern_is_a_name(
    folder: JobFolder, paths: ComfyPaths
) -> None:
    (paths.output_dir / JOB / "100%d.png").write_bytes(saved(picture(), 9))
    assert [file.filename for file in read(folder, saved_as("100%d.png"))] == ["100%d.png"]


def test_a_folder_in_the_place_of_a_picture_is_told(folder: JobFolder, paths: ComfyPaths) -> None:
    (paths.output_dir / JOB / "cat.png").mkdir()
    with pytest.raises(ComfyProtocol, match="can't be read"):
        read(folder, saved_as("cat.png"))


@pytest.mark.parametrize("name", ["a\x00b.png", "x" * 5000])
def test_a_name_that_no_file_can_have_is_told(folder: JobFolder, name: str) -> None:
    with pytest.raises(ComfyProtocol):
        read(folder, saved_as(name))


def test_links_in_a_circle_are_told(folder: JobFolder, paths: ComfyPaths) -> None:
    (paths.output_dir / JOB / "cat.png").symlink_to(paths.output_dir / JOB / "cat.png")
    with pytest.raises(ComfyProtocol):
        read(folder, saved_as("cat.png"))


def test_a_file_in_the_jobs_folder_that_no_node_lists_comes_back(folder: JobFolder) -> None:
    own = folder.output_dir / JOB
    (own / "vae").mkdir()
    (own / "vae" / "model_00001_.safetensors").write_bytes(b"weights")
    (own / "a.txt").write_text("listed")
    prompt = {
        "7": {"class_type": "VAESave", "inputs": {"filename_prefix": f"{JOB}/vae/model"}},
        "8": {"class_type": "SaveImage", "inputs": {"filename_prefix": f"{JOB}/v"}},
        "9": {"class_type": "Other", "inputs": {}},
    }
    execution = Execution((saved_as("a.txt"),), (), None, None)
    files = asyncio.run(read_outputs(folder, execution, None, prompt=prompt)).files
    assert [(file.node_id, file.filename, file.path) for file in files] == [
        ("9", "a.txt", "a"), ("7", "model_00001_.safetensors", "vae/model_00001_")
    ]  # fmt: skip


def test_a_file_that_the_run_left_outside_all_jobs_folders_comes_back(folder: JobFolder) -> None:
    path = folder.output_dir / "tripo" / "task.glb"
    path.parent.mkdir()
    path.write_bytes(b"glTF")
    written = path.stat().st_ctime
    execution = Execution((), (), written - 1, written + 1)
    [file] = asyncio.run(read_outputs(folder, execution, None)).files
    assert isinstance(file, OutputFile)
    assert (file.filename, file.path, file.node_id) == ("task.glb", "tripo/task", "")
    assert file.source.read_bytes() == b"glTF"
    assert not path.exists()


def test_a_broken_picture_that_no_node_lists_comes_back_as_a_file(folder: JobFolder) -> None:
    (folder.output_dir / JOB / "half.png").write_bytes(b"\x89PNG\r\n\x1a\n half")
    [file] = asyncio.run(read_outputs(folder, Execution((), (), None, None), None)).files
    assert isinstance(file, OutputFile)
    assert file.filename == "half.png"


def test_what_another_run_left_or_a_link_leads_to_does_not_come_back(folder: JobFolder) -> None:
    other = folder.output_dir / "0f4e27a3-1111-4222-8333-123456789abc"
    other.mkdir()
    for path in (other / "theirs.png", folder.output_dir / "old.glb"):
        path.write_bytes(b"theirs")
    (folder.output_dir / JOB / "link.txt").symlink_to("/etc/passwd")
    written = (folder.output_dir / "old.glb").stat().st_ctime
    for start, end in ((written + 1, written + 2), (written - 2, written - 1)):
        with pytest.raises(NoOutput):
            asyncio.run(read_outputs(folder, Execution((), (), start, end), None))
    folder.drop_new([(written + 1, written + 2)])
    assert (folder.output_dir / "old.glb").exists()
    folder.drop_new([(written - 1, written + 1)])
    assert not (folder.output_dir / "old.glb").exists()
    assert (other / "theirs.png").exists()
