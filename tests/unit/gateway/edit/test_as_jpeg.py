"""A result as a JPEG: near to it, with its profile, in every mode that a picture can have."""

import io
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageCms

from gateway.edit.as_jpeg import as_jpeg

PROFILE = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


def encoded(image: Image.Image, **how: Any) -> Image.Image:
    file = io.BytesIO()
    image.save(file, "PNG", **how)
    file.seek(0)
    return Image.open(io.BytesIO(as_jpeg(file)))


def test_a_picture_stays_near_and_keeps_its_profile() -> None:
    photo = Image.radial_gradient("L").convert("RGB")
    found = encoded(photo, icc_profile=PROFILE)
    assert (found.format, found.mode, found.size) == ("JPEG", "RGB", photo.size)
    assert found.info["icc_profile"] == PROFILE
    difference = np.abs(np.asarray(found, int) - np.asarray(photo, int))
    assert difference.max() <= 6


@pytest.mark.parametrize(("mode", "expected"), [("RGBA", "RGB"), ("LA", "L"), ("P", "RGB")])
def test_what_is_transparent_becomes_white(mode: str, expected: str) -> None:
    clear = Image.new("RGBA", (16, 16), (0, 0, 0, 0)).convert(mode)
    how = {"transparency": 0} if mode == "P" else {}
    found = encoded(clear, **how)
    assert found.mode == expected
    assert np.asarray(found).min() >= 250


def test_sixteen_bits_become_the_eight_that_are_seen() -> None:
    deep = Image.fromarray(np.full((16, 16), 40_000, np.uint16))
    found = encoded(deep)
    assert found.mode == "L"
    assert abs(int(np.asarray(found).mean()) - (40_000 >> 8)) <= 1
