import hashlib
import io
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageCms

from handler.contract.input_types import ImageFormat
from handler.errors import InternalError
from handler.job import photo_finish
from handler.job.outputs import OutputImage
from handler.job.photo_finish import Patching, PhotoFinish
from handler.job.reencode import Encoding, reencode
from handler.pictures.feather import Box
from handler.pictures.photo import Photo, read_photo

MAKE = np.random.default_rng(2)
SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


def noise(width: int, height: int, dtype: Any = np.uint8) -> Photo:
    top = np.iinfo(dtype).max
    return Photo(MAKE.integers(0, top, (height, width, 3), dtype=dtype), SRGB)


def drawn(picture: Image.Image) -> OutputImage:
    buffer = io.BytesIO()
    picture.save(buffer, "PNG", compress_level=0)
    data = buffer.getvalue()
    return OutputImage(
        "60", "edit_00001_.png", "edit_00001_", data, "image/png", *picture.size,
        hashlib.sha256(data).hexdigest(),
    )  # fmt: skip


def patching(dtype: Any = np.uint8) -> Patching:
    mask = np.zeros((300, 400), dtype=np.bool_)
    mask[100:200, 100:200] = True
    return Patching(noise(400, 300, dtype), mask, Box(50, 50, 250, 250))


def test_a_picture_gets_the_photos_size_and_its_colour_profile() -> None:
    image = drawn(noise(96, 64).as_rgb())
    result = PhotoFinish((300, 200), SRGB).apply(image, is_final=True)
    assert (result.width, result.height, result.changed_outside) == (300, 200, None)
    assert result.sha256 == hashlib.sha256(result.data).hexdigest()
    again = read_photo(result.data)
    assert (again.size, again.icc_profile) == ((300, 200), SRGB)


def test_a_profile_alone_changes_no_pixel() -> None:
    source = noise(96, 64)
    result = PhotoFinish(None, SRGB).apply(drawn(source.as_rgb()), is_final=True)
    assert np.array_equal(read_photo(result.data).pixels, source.pixels)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_outside_the_mask_the_delivered_file_is_the_photo(dtype: Any) -> None:
    on = patching(dtype)
    result = PhotoFinish(patching=on).apply(drawn(noise(1024, 1024).as_rgb()), is_final=True)
    assert result.changed_outside == 0
    again = read_photo(result.data)
    assert again.pixels.dtype == dtype
    assert again.icc_profile == SRGB
    assert np.array_equal(again.pixels[~on.mask], on.photo.pixels[~on.mask])
    assert (again.pixels[on.mask] != on.photo.pixels[on.mask]).any(axis=1).mean() > 0.9


def test_a_picture_that_is_not_the_callers_outside_is_not_delivered(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def careless(photo: Photo, *, is_final: bool) -> bytes:
        pixels = photo.pixels.copy()
        pixels[0, 0, 0] ^= 1
        return Photo(pixels, photo.icc_profile).as_png()

    monkeypatch.setattr(photo_finish, "_png", careless)
    with pytest.raises(InternalError, match="1 pixels outside the mask"):
        PhotoFinish(patching=patching()).apply(drawn(noise(64, 64).as_rgb()), is_final=True)


def test_a_lossy_format_claims_nothing_of_the_pixels_and_keeps_the_profile() -> None:
    image = drawn(noise(64, 64).as_rgb())
    result = PhotoFinish(patching=patching()).apply(image, is_final=False)
    for image_format in (ImageFormat.JPEG, ImageFormat.WEBP):
        lossy = reencode(result, Encoding(image_format, 90))
        assert lossy.changed_outside is None
        with Image.open(io.BytesIO(lossy.data)) as picture:
            assert picture.size == (400, 300)
            assert picture.info["icc_profile"] == SRGB
