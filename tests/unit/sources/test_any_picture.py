"""Pictures whose bytes were changed at random, checked by the real processes: each is taken or
refused by an error of the worker's own, within bounds of time and memory."""

import asyncio
import contextlib
import os
import resource
import struct
import zlib
from collections.abc import Iterator

import psutil
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from handler.check_pictures import most_bytes
from handler.errors import InvalidImage
from handler.pictures.images import ImageLimits, InputImage
from handler.sources.checker import PictureChecker
from tests.fakes import hostile_pictures as hostile

LIMITS = ImageLimits(count=1, data_bytes=200_000, pixels=1_000_000, uncompressed_pixels=100_000)
# Of the processor, in all: a busy machine makes no picture slow.
MOST_CPU_S = 2.0

PHOTO = hostile.gradient(size=(48, 32))
FRAMES = [PHOTO, PHOTO.transpose(1)]
SEEDS = {
    "png": hostile.saved(PHOTO, "PNG", icc_profile=hostile.display_p3()),
    "png of 16 bits": hostile.saved(hostile.gradient("I;16", (24, 16)), "PNG"),
    "png palette": hostile.saved(PHOTO.quantize(8), "PNG", transparency=3),
    "apng": hostile.saved(PHOTO, "PNG", save_all=True, append_images=FRAMES),
    "jpeg": hostile.saved(PHOTO, "JPEG"),
    "jpeg progressive": hostile.saved(PHOTO.convert("CMYK"), "JPEG", progressive=True),
    "mpo": hostile.mpo(PHOTO, PHOTO),
    "webp": hostile.saved(PHOTO, "WEBP"),
    "webp lossless": hostile.saved(hostile.gradient("RGBA", (40, 30)), "WEBP", lossless=True),
    "webp animation": hostile.saved(PHOTO, "WEBP", save_all=True, append_images=FRAMES),
}
EDGES = [0, 1, 2, 255, 256, 0x3FFF, 0x7FFF, 0xFFFF, 0xFFFFFF, 0x7FFFFFFF, 0xFFFFFFFF]


def with_checksums(data: bytes) -> bytes:
    """A PNG whose chunks have theirs, so that what was changed in them is read."""
    out, at = bytearray(data[:8]), 8
    while at + 12 <= len(data):
        end = at + 8 + int.from_bytes(data[at : at + 4])
        body = data[at + 4 : end]
        out += data[at : at + 4] + body + struct.pack(">I", zlib.crc32(body))
        at = end + 4
    return bytes(out + data[at:])


@st.composite
def mutated(draw: st.DrawFn) -> bytes:
    data = bytearray(SEEDS[draw(st.sampled_from(sorted(SEEDS)))])
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, max(0, min(len(data), 400) - 1)) | st.integers(0, len(data) - 1))
        match draw(st.sampled_from(["bit", "number", "repeat", "drop", "cut"])):
            case "bit":
                data[at] ^= 1 << draw(st.integers(0, 7))
            case "number":
                order = draw(st.sampled_from(["big", "little"]))
                size = draw(st.sampled_from([2, 3, 4]))
                value = draw(st.sampled_from(EDGES)) % (1 << 8 * size)
                data[at : at + size] = value.to_bytes(size, order)  # type: ignore[arg-type]
            case "repeat":
                data[at:at] = bytes(data[at : at + draw(st.integers(1, 300))]) * draw(
                    st.integers(1, 50)
                )
            case "drop":
                del data[at : at + draw(st.integers(1, 100))]
            case "cut":
                del data[at:]
        if not data:
            return b""
    fixed = bytes(data)
    return with_checksums(fixed) if fixed.startswith(b"\x89PNG") else fixed


class Checks:
    """A loop and a checker for all examples."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self.checker = PictureChecker(LIMITS, {"PATH": os.environ["PATH"]}, 1)

    def check(self, data: bytes, as_photo: bool) -> InputImage:
        check = self.checker.check("a", data, "input.images[0]", as_photo=as_photo)
        return self.loop.run_until_complete(check)

    def close(self) -> None:
        self.checker.close()
        self.loop.close()


@pytest.fixture(scope="module")
def checks() -> Iterator[Checks]:
    checks = Checks()
    yield checks
    checks.close()


def cpu_s() -> float:
    """Of the processes that live and of those that have ended."""
    ended = resource.getrusage(resource.RUSAGE_CHILDREN)
    living = [child.cpu_times() for child in psutil.Process().children()]
    return ended.ru_utime + ended.ru_stime + sum(times.user + times.system for times in living)


@settings(
    max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(data=mutated(), as_photo=st.booleans())
def test_any_picture_is_taken_or_refused_within_bounds(
    checks: Checks, data: bytes, as_photo: bool
) -> None:
    before = cpu_s()
    with contextlib.suppress(InvalidImage):
        image = checks.check(data, as_photo)
        assert image.width * image.height <= LIMITS.pixels
    assert cpu_s() - before < MOST_CPU_S
    for child in psutil.Process().children():
        if child.status() != psutil.STATUS_ZOMBIE:
            assert child.memory_info().rss < most_bytes(LIMITS)
