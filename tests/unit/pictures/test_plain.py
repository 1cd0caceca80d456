"""The modes of pictures, as a person sees them and as ComfyUI gets them."""

import io
from typing import Any

import pytest
from PIL import Image

from handler.pictures.images import ImageLimits, check_image
from tests.fakes import hostile_pictures as hostile

LIMITS = ImageLimits(count=1, data_bytes=10**7, pixels=10**7, uncompressed_pixels=10**6)
BLACK, WHITE, RED = (0, 0, 0), (255, 255, 255), (255, 0, 0)


def shown(data: bytes, *, limits: ImageLimits = LIMITS, as_photo: bool = False) -> Image.Image:
    """What ComfyUI opens."""
    image = check_image("a", data, "here", limits, as_photo=as_photo)
    with Image.open(io.BytesIO(image.for_comfy or image.data)) as picture:
        picture.load()
    assert picture.size == (image.width, image.height)
    return picture


def rgb(data: bytes, at: tuple[int, int] = (0, 0), **options: Any) -> Any:
    return shown(data, **options).convert("RGB").getpixel(at)


def is_near(pixel: Any, other: Any, most: int = 6) -> bool:
    return all(abs(one - two) <= most for one, two in zip(pixel, other, strict=True))


@pytest.mark.parametrize("limits", [LIMITS, ImageLimits(1, 10**7, 10**7)], ids=["small", "large"])
def test_16_bit_grey_has_its_levels(limits: ImageLimits) -> None:
    grey = Image.new("I;16", (40, 30), 32768)
    assert rgb(hostile.saved(grey, "PNG"), limits=limits) == (128, 128, 128)
    assert shown(hostile.saved(grey, "PNG"), limits=limits).mode == "RGB"


@pytest.mark.parametrize("value", [0, 257, 65535])
def test_16_bit_grey_reaches_black_and_white(value: int) -> None:
    level = value // 257
    assert rgb(hostile.saved(Image.new("I;16", (4, 4), value), "PNG")) == (level,) * 3


def test_cmyk_is_shown_in_its_colours() -> None:
    ink = Image.new("CMYK", (16, 16), (0, 255, 255, 0))
    assert is_near(rgb(hostile.saved(ink, "JPEG", quality=95)), RED)


@pytest.mark.parametrize(
    ("mode", "value", "color"),
    [
        ("1", 1, WHITE),
        ("L", 77, (77, 77, 77)),
        ("LA", (77, 255), (77, 77, 77)),
        ("P", 1, None),
        ("RGB", (1, 2, 3), (1, 2, 3)),
        ("RGBA", (1, 2, 3, 255), (1, 2, 3)),
    ],
)
@pytest.mark.parametrize("as_photo", [False, True])
def test_a_plain_mode_keeps_its_colours(mode: str, value: Any, color: Any, as_photo: bool) -> None:
    picture = Image.new(mode, (9, 7), value)
    expected = color or picture.convert("RGB").getpixel((0, 0))
    assert rgb(hostile.saved(picture, "PNG"), as_photo=as_photo) == expected


@pytest.mark.parametrize("kind", ["JPEG", "WEBP"])
def test_ycbcr_files_are_read_as_colours(kind: str) -> None:
    assert is_near(rgb(hostile.saved(Image.new("RGB", (16, 16), RED), kind)), RED)


TRANSPARENT = {
    "rgba": hostile.saved(Image.new("RGBA", (8, 8), (9, 9, 9, 0)), "PNG"),
    "grey and alpha": hostile.saved(Image.new("LA", (8, 8), (9, 0)), "PNG"),
    "one colour": hostile.saved(Image.new("RGB", (8, 8), RED), "PNG", transparency=RED),
    "one level": hostile.saved(Image.new("L", (8, 8), 9), "PNG", transparency=9),
    "one of a palette": hostile.saved(
        Image.new("RGB", (8, 8), RED).quantize(2), "PNG", transparency=bytes(2)
    ),
    "webp": hostile.saved(Image.new("RGBA", (8, 8), (9, 9, 9, 0)), "WEBP", lossless=True),
}


@pytest.mark.parametrize("data", TRANSPARENT.values(), ids=TRANSPARENT)
def test_a_transparent_photo_is_on_white(data: bytes) -> None:
    picture = shown(data, as_photo=True)
    assert (picture.mode, picture.getpixel((0, 0))) == ("RGB", WHITE)


@pytest.mark.parametrize("data", TRANSPARENT.values(), ids=TRANSPARENT)
def test_a_workflow_sees_that_a_picture_is_transparent(data: bytes) -> None:
    assert shown(data).convert("RGBA").getpixel((0, 0))[3] == 0


@pytest.mark.parametrize("kind", ["PNG", "WEBP"])
def test_of_an_animation_a_photo_is_the_first_frame(kind: str) -> None:
    frames = [Image.new("RGB", (8, 8), color) for color in (RED, BLACK, WHITE)]
    data = hostile.saved(frames[0], kind, save_all=True, append_images=frames[1:])
    picture = shown(data, as_photo=True)
    assert getattr(picture, "n_frames", 1) == 1
    assert is_near(picture.getpixel((0, 0)), RED)


def test_only_the_first_frame_of_an_animation_counts_as_a_photo() -> None:
    frames = [Image.new("RGB", (100, 100), (level, 0, 0)) for level in range(0, 250, 25)]
    data = hostile.saved(frames[0], "WEBP", save_all=True, append_images=frames[1:])
    limits = ImageLimits(count=1, data_bytes=10**6, pixels=100 * 100)
    assert shown(data, limits=limits, as_photo=True).size == (100, 100)


@pytest.mark.parametrize("as_photo", [False, True])
def test_rgb_keeps_its_numbers_whatever_its_profile(as_photo: bool) -> None:
    picture = Image.new("RGB", (16, 16), (200, 60, 60))
    data = hostile.saved(picture, "PNG", icc_profile=hostile.display_p3())
    assert rgb(data, as_photo=as_photo) == (200, 60, 60)


@pytest.mark.parametrize("profile", [b"no profile at all", hostile.display_p3()])
def test_cmyk_with_a_profile_that_can_not_be_its_own_is_shown_all_the_same(profile: bytes) -> None:
    ink = Image.new("CMYK", (16, 16), (0, 255, 255, 0))
    assert is_near(rgb(hostile.saved(ink, "JPEG", quality=95, icc_profile=profile)), RED)


def test_an_ordinary_photo_is_not_packed_again() -> None:
    data = hostile.saved(hostile.gradient(), "JPEG")
    large = ImageLimits(count=1, data_bytes=10**6, pixels=10**6)
    assert check_image("a", data, "here", large, as_photo=True).data is data


def test_a_converted_picture_stands_upright() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    data = hostile.saved(Image.new("CMYK", (30, 10)), "JPEG", exif=exif)
    assert shown(data).size == (10, 30)
