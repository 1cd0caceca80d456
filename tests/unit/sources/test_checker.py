"""The real processes, on pictures that were made to take a worker's time and memory."""

import asyncio
import os
from collections.abc import Awaitable, Callable
from typing import Any

import psutil
import pytest

from handler.check_pictures import most_bytes
from handler.errors import InvalidImage
from handler.pictures.images import ImageLimits, InputImage
from handler.sources.checker import PictureChecker
from tests.fakes import hostile_pictures as hostile

LIMITS = ImageLimits(count=4, data_bytes=5_000_000, pixels=16_000_000, uncompressed_pixels=100_000)
ENV = {"PATH": os.environ["PATH"]}


def with_checker(work: Callable[[PictureChecker], Awaitable[Any]]) -> Any:
    async def run() -> Any:
        checker = PictureChecker(LIMITS, ENV, 2)
        try:
            async with asyncio.timeout(100):
                return await work(checker)
        finally:
            checker.close()

    return asyncio.run(run())


def check(data: bytes, *, as_photo: bool = False) -> InputImage:
    async def work(checker: PictureChecker) -> InputImage:
        return await checker.check("a.png", data, "input.images[0]", as_photo=as_photo)

    image = with_checker(work)
    assert isinstance(image, InputImage)
    return image


def fault_of(data: bytes) -> str:
    with pytest.raises(InvalidImage) as caught:
        check(data)
    assert caught.value.details["where"] == "input.images[0]"
    assert caught.value.details["name"] == "a.png"
    return caught.value.message


def test_a_picture_comes_back_as_the_check_in_this_process_gives_it() -> None:
    image = check(hostile.saved(hostile.gradient("RGBA"), "PNG"))
    assert (image.name, image.extension, image.width, image.height) == ("a.png", "png", 64, 48)
    assert image.for_comfy is not None
    assert image.for_comfy.startswith(b"\x89PNG")


def test_a_fault_comes_back_with_its_details() -> None:
    message = fault_of(hostile.empty_png((5000, 4000)))
    assert "5000 x 4000 pixels in 1 frame(s) is over the limit of 16000000" in message


def test_a_jpeg_of_thousands_of_scans_is_refused_before_it_is_decoded() -> None:
    data = hostile.jpeg_of_many_scans(60_000)
    assert len(data) < 1_500_000
    assert "the JPEG has over 100 scans" in fault_of(data)


def test_a_progressive_jpeg_of_as_many_scans_as_programs_write_is_taken() -> None:
    data = hostile.jpeg_of_many_scans(60, (256, 256))
    assert check(data).data == data


@pytest.mark.parametrize("as_photo", [False, True])
def test_of_an_mpo_only_the_first_picture_is_looked_at_and_kept(as_photo: bool) -> None:
    data = hostile.mpo_with_a_huge_second((60_000, 60_000))
    image = check(data, as_photo=as_photo)
    assert (image.extension, image.width, image.height) == ("jpg", 64, 48)
    assert b"MPF\0" not in image.data
    assert image.data.count(b"\xff\xd8\xff") == 1


def test_a_webp_with_a_huge_canvas_is_refused_by_its_size() -> None:
    assert "16383 x 16383 pixels" in fault_of(hostile.webp_of_a_huge_canvas((16383, 16383)))


def test_an_animation_of_thousands_of_frames_is_refused() -> None:
    assert "20000 frames is over the limit of 1000" in fault_of(hostile.apng_of_many_frames(20_000))


def test_a_check_that_is_cancelled_ends_at_once_and_leaves_its_place() -> None:
    """A thread, which a check was once, goes on to its end."""
    slow = hostile.empty_png((4000, 4000), hostile.profile_chunk(), color=6)
    fast = hostile.saved(hostile.gradient(), "PNG")

    async def work(checker: PictureChecker) -> None:
        for _ in range(3):
            checks = [
                asyncio.create_task(checker.check("a", slow, "w", as_photo=True)) for _ in range(2)
            ]
            await asyncio.sleep(0.2)
            for task in checks:
                task.cancel()
            await asyncio.gather(*checks, return_exceptions=True)
            assert all(task.cancelled() for task in checks)
        assert (await checker.check("b", fast, "w", as_photo=False)).width == 64

    with_checker(work)
    own = psutil.Process().children()
    assert not [child for child in own if child.status() != psutil.STATUS_ZOMBIE]


def test_the_kernel_holds_the_memory_of_a_check() -> None:
    async def work(checker: PictureChecker) -> None:
        await checker.check("a", hostile.saved(hostile.gradient(), "PNG"), "w", as_photo=False)
        [process] = psutil.Process().children()
        soft, _ = process.rlimit(psutil.RLIMIT_DATA)
        assert soft == most_bytes(LIMITS) < 800_000_000

    with_checker(work)


def test_the_largest_picture_needs_less_than_its_process_may_have() -> None:
    profile = hostile.profile_chunk()
    image = check(hostile.empty_png((4000, 4000), profile, color=6), as_photo=True)
    assert image.width == 4000
    assert image.for_comfy is not None
