import io
import zlib
from typing import Any

import numpy as np
import pytest
from PIL import ExifTags, Image, ImageCms, ImageOps

from handler.errors import InvalidImage
from handler.pictures.photo import Photo, read_photo

MAKE = np.random.default_rng(7)


def encoded(picture: Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, kind, **options)
    return buffer.getvalue()


def noise(channels: int, dtype: Any = np.uint8) -> np.ndarray[Any, Any]:
    top = np.iinfo(dtype).max
    return MAKE.integers(0, top, (300, 70, channels), dtype=dtype, endpoint=True)


SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_every_bit_of_a_photo_comes_back_as_it_was_written(channels: int, dtype: Any) -> None:
    pixels = noise(channels, dtype)
    again = read_photo(Photo(pixels, SRGB).as_png())
    assert again.pixels.dtype == dtype
    assert np.array_equal(again.pixels, pixels)
    assert again.icc_profile == SRGB


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_others_read_a_png_of_16_bits_too(channels: int) -> None:
    pixels = noise(channels, np.uint16)
    with Image.open(io.BytesIO(Photo(pixels, SRGB).as_png())) as picture:
        picture.load()
        assert picture.size == (70, 300)
        assert picture.info["icc_profile"] == SRGB
        upper = np.asarray(picture) if channels > 1 else np.asarray(picture)[..., None] >> 8
    if channels == 2:
        upper = upper[..., [0, 3]]
    assert np.array_equal(upper, pixels >> 8)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA"])
def test_a_photo_has_the_numbers_that_it_shows(mode: str) -> None:
    picture = Image.linear_gradient("L").resize((70, 90)).convert(mode)
    shown = {"1": "L", "P": "RGB"}.get(mode, mode)
    photo = read_photo(encoded(picture))
    expected = np.asarray(picture.convert(shown)).reshape(photo.pixels.shape)
    assert np.array_equal(photo.pixels, expected)


@pytest.mark.parametrize(("mode", "key"), [("L", 7), ("RGB", (7, 7, 7)), ("P", 7), ("I;16", 7)])
def test_a_colour_that_stands_for_nothing_becomes_alpha(mode: str, key: Any) -> None:
    grey = np.arange(70, dtype=np.uint8)[None].repeat(90, axis=0)
    picture = (
        Image.fromarray(grey.astype(np.uint16))
        if mode == "I;16"
        else Image.fromarray(grey).convert("L")
    )
    if mode == "P":
        picture.putpalette([value for value in range(256) for _ in range(3)])
    elif mode == "RGB":
        picture = picture.convert("RGB")
    photo = read_photo(encoded(picture, transparency=key))
    opaque = photo.pixels[0, :, -1] > 0
    assert photo.pixels.shape[2] in {2, 4}
    assert np.flatnonzero(~opaque).tolist() == [7]


def test_16_bits_with_a_colour_that_stands_for_nothing_keep_both() -> None:
    pixels = noise(3, np.uint16)
    data = Photo(pixels).as_png()
    key = b"".join(int(value).to_bytes(2) for value in pixels[3, 4])
    at = data.index(b"IDAT") - 4
    body = b"tRNS" + key
    chunk = len(key).to_bytes(4) + body + zlib.crc32(body).to_bytes(4)
    photo = read_photo(data[:at] + chunk + data[at:])
    assert np.array_equal(photo.pixels[..., :3], pixels)
    assert np.argwhere(photo.pixels[..., 3] == 0).tolist() == [[3, 4]]


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP"])
def test_a_photo_is_upright(kind: str, orientation: int) -> None:
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    data = encoded(Image.fromarray(noise(3)), kind, exif=exif)
    with Image.open(io.BytesIO(data)) as picture:
        expected = np.asarray(ImageOps.exif_transpose(picture))
    assert np.array_equal(read_photo(data).pixels, expected)


def test_16_bits_are_turned_as_well() -> None:
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    grey = Image.fromarray(noise(1, np.uint16)[..., 0])
    photo = read_photo(encoded(grey, exif=exif))
    assert np.array_equal(photo.pixels[..., 0], np.rot90(np.asarray(grey), -1))


def test_cmyk_becomes_srgb() -> None:
    data = encoded(Image.fromarray(noise(4), mode="CMYK"), "JPEG")
    photo = read_photo(data)
    with Image.open(io.BytesIO(data)) as picture:
        assert np.array_equal(photo.pixels, np.asarray(picture.convert("RGB")))
    assert photo.icc_profile is None


def test_cmyk_with_a_profile_of_another_kind_is_read_without_it() -> None:
    data = encoded(Image.fromarray(noise(4), mode="CMYK"), "JPEG", icc_profile=SRGB)
    assert read_photo(data).pixels.shape == (300, 70, 3)


def test_an_animation_is_refused() -> None:
    frames = [Image.new("RGB", (8, 8), color) for color in ("red", "blue")]
    data = encoded(frames[0], "WEBP", save_all=True, append_images=frames[1:])
    with pytest.raises(InvalidImage, match="animated"):
        read_photo(data)


def test_of_a_phones_jpeg_the_first_picture_counts() -> None:
    frames = [Image.new("RGB", (8, 8), color) for color in ("red", "blue")]
    data = encoded(frames[0], "MPO", save_all=True, append_images=frames[1:])
    assert read_photo(data).pixels[0, 0, 0] > 200


def test_a_photo_that_is_cut_off_is_refused() -> None:
    data = Photo(noise(3, np.uint16)).as_png()
    with pytest.raises(InvalidImage, match="broken or truncated"):
        read_photo(data[: len(data) // 2])


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_a_model_sees_8_bits_of_three_colours(channels: int, dtype: Any) -> None:
    pixels = noise(channels, dtype)
    shown = np.asarray(Photo(pixels).as_rgb())
    expected = (pixels >> 8 if dtype == np.uint16 else pixels)[..., : 1 if channels < 3 else 3]
    assert np.array_equal(shown, np.broadcast_to(expected, (300, 70, 3)))
