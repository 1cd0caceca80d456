import io
import random
from collections.abc import Callable

import pytest
from PIL import Image, ImageEnhance, ImageFilter, ImageOps

from handler.settings import PROJECT_DIR
from scripts.picture_checks import beside, check_picture, check_repeat, mean_difference

SIZE = (1024, 1024)
with Image.open(PROJECT_DIR / "examples" / "portrait.jpg") as opened:
    PORTRAIT = opened.convert("RGB")
RESIZED = PORTRAIT.resize(SIZE, Image.Resampling.LANCZOS)


def png(picture: Image.Image) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, "PNG", compress_level=1)
    return buffer.getvalue()


def failed(data: bytes) -> set[str]:
    return {entry.what for entry in check_picture(data, SIZE, PORTRAIT) if not entry.is_right}


def white_noise() -> Image.Image:
    return Image.frombytes("RGB", SIZE, random.Random(1).randbytes(SIZE[0] * SIZE[1] * 3))


def latent_noise() -> Image.Image:
    """Noise of the size of a latent, as a decoder draws it: cells of 8 pixels."""
    small = Image.frombytes("RGB", (128, 128), random.Random(1).randbytes(128 * 128 * 3))
    return small.resize(SIZE, Image.Resampling.BICUBIC)


def gradient() -> Image.Image:
    return Image.linear_gradient("L").resize(SIZE).convert("RGB")


def checker(cell: int) -> Image.Image:
    pair = Image.new("L", (2, 2))
    pair.putdata([0, 255, 255, 0])
    tile = pair.resize((2 * cell, 2 * cell), Image.Resampling.NEAREST)
    board = Image.new("RGB", SIZE)
    for x in range(0, SIZE[0], tile.width):
        for y in range(0, SIZE[1], tile.height):
            board.paste(tile, (x, y))
    return board


def mosaic() -> Image.Image:
    """Blocks of one colour each, in the colours of the photo."""
    return RESIZED.reduce(32).resize(SIZE, Image.Resampling.NEAREST)


def starry_night() -> Image.Image:
    """A dark edit of the photo, such as the example asks for."""
    night = Image.new("RGB", SIZE, (6, 8, 26))
    draw = random.Random(2)
    for _ in range(2000):
        night.putpixel((draw.randrange(1024), draw.randrange(1024)), (220, 220, 255))
    mask = Image.radial_gradient("L").resize(SIZE).point(lambda level: 255 if level < 90 else 0)
    return Image.composite(RESIZED, night.filter(ImageFilter.GaussianBlur(1)), mask)


EDITS: dict[str, Callable[[], Image.Image]] = {
    "starry night": starry_night,
    "darker": lambda: ImageEnhance.Brightness(RESIZED).enhance(0.3),
    "grey": lambda: ImageOps.grayscale(RESIZED).convert("RGB"),
    "painted": lambda: ImageOps.posterize(RESIZED.filter(ImageFilter.MedianFilter(5)), 4),
    "mirrored": lambda: ImageOps.mirror(RESIZED),
}


@pytest.mark.parametrize("name", EDITS)
def test_a_photo_that_was_edited_passes(name: str) -> None:
    assert failed(png(EDITS[name]())) == set()


@pytest.mark.parametrize(
    ("make", "fault"),
    [
        (lambda: Image.new("RGB", SIZE), "it is not black"),
        (lambda: Image.new("RGB", SIZE, (1, 0, 2)), "it is not black"),
        (lambda: Image.new("RGB", SIZE, (255, 255, 255)), "it is not one colour"),
        (lambda: Image.new("L", SIZE, 128), "it is not one colour"),
        (gradient, "it has detail"),
        (white_noise, "it is no noise or grid"),
        (latent_noise, "it is no noise or grid"),
        (lambda: checker(1), "it is no noise or grid"),
        (lambda: checker(16), "it is no noise or grid"),
        (mosaic, "it is not made of flat blocks"),
        (lambda: RESIZED, "it is not the input"),
        (lambda: PORTRAIT, "it is 1024 x 1024"),
    ],
    ids=[
        "black", "all but black", "white", "one grey", "gradient", "white noise", "latent noise",
        "fine checker", "coarse checker", "mosaic", "the input", "wrong size",
    ],
)  # fmt: skip
def test_a_broken_picture_is_told_by_what_is_wrong(
    make: Callable[[], Image.Image], fault: str
) -> None:
    assert fault in failed(png(make()))


@pytest.mark.parametrize("data", [b"", b"no picture", png(RESIZED)[:-20_000], png(RESIZED)[:40]])
def test_a_picture_that_is_cut_off_does_not_decode(data: bytes) -> None:
    assert failed(data) == {"it decodes"}


def repeat(again: Image.Image, other: Image.Image) -> dict[str, bool]:
    return {entry.what: entry.is_right for entry in check_repeat(RESIZED, again, other)}


def test_a_repeat_may_be_the_same_or_far_nearer_than_another_seed() -> None:
    other = starry_night()
    moved = RESIZED.point(lambda level: min(255, level + 1))
    differs = {"another seed gives another picture": True}
    same, near = "the same seed gives the same picture", "the same seed gives nearly the same"
    assert repeat(RESIZED, other) == differs | {same: True}
    assert repeat(moved, other) == differs | {near: True}
    assert repeat(ImageOps.mirror(RESIZED), other) == differs | {near: False}


def test_a_seed_without_effect_is_a_fault() -> None:
    assert repeat(RESIZED, RESIZED)["another seed gives another picture"] is False


def test_pictures_of_different_sizes_are_as_far_apart_as_can_be() -> None:
    assert mean_difference(RESIZED, PORTRAIT) == 255


def test_two_pictures_stand_beside_each_other() -> None:
    both = beside(PORTRAIT, RESIZED)
    assert both.size == (2048, 1024)
    assert mean_difference(both.crop((1024, 0, 2048, 1024)), RESIZED) == 0
