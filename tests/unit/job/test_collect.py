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
from handler.comfy_api.node_outputs import SavedFile
from handler.contract.input_types import ImageFormat
from handler.job import collect as collect_module
from handler.job.collect import collect
from handler.job.folder import JobFolder, open_job_folder
from handler.job.outputs import OutputImage
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
    outputs = asyncio.run(collect(folder, run_that_left(folder, *files), encoding))
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
        asyncio.run(collect(folder, execution, None))
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

    monkeypatch.setattr(collect_module, "compress", compress)

    async def job() -> None:
        with open_job_folder(paths, JOB) as folder:
            await collect(folder, run_that_left(folder, *[saved(picture())] * 50), None)

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
