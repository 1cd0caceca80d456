import asyncio
import io
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image

from handler.comfy.process import ComfyPaths
from handler.comfy_api.node_outputs import SavedFile
from handler.errors import ComfyProtocol, DiskFull, InternalError
from handler.job.folder import JobFolder, open_job_folder
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
