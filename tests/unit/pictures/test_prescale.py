import io
from typing import Any

import numpy as np
import pytest
from PIL import ExifTags, Image, ImageOps

from handler.pictures.images import ImageLimits, InputImage, check_image
from handler.pictures.prescale import prescale

LIMITS = ImageLimits(count=3, data_bytes=10**7, pixels=10**7)
SIZE = (96, 64)


def sent(picture: Image.Image, kind: str = "PNG", **options: Any) -> InputImage:
    buffer = io.BytesIO()
    picture.save(buffer, kind, **options)
    return check_image("a", buffer.getvalue(), "input.images[0]", LIMITS)


def photo(mode: str = "RGB") -> Image.Image:
    channels = len(Image.new(mode, (1, 1)).getbands())
    pixels = np.random.default_rng(1).integers(0, 255, (200, 300, channels), dtype=np.uint8)
    return Image.fromarray(pixels[:, :, 0] if channels == 1 else pixels)


def as_comfyui_does(picture: InputImage, size: tuple[int, int], box: Any = None) -> bytes:
    """LoadImage's conversions (nodes.py), ImageCrop, and `lanczos` (comfy/utils.py)."""
    with Image.open(io.BytesIO(picture.data)) as opened:
        numbers = np.array(ImageOps.exif_transpose(opened).convert("RGB")).astype(np.float32) / 255
    if box:
        left, top, width, height = box
        numbers = numbers[top : top + height, left : left + width]
    image = Image.fromarray(np.clip(255.0 * numbers, 0, 255).astype(np.uint8))
    return image.resize(size, resample=Image.Resampling.LANCZOS).tobytes()


def pixels_of(picture: InputImage) -> bytes:
    with Image.open(io.BytesIO(picture.data)) as opened:
        assert opened.mode == "RGB"
        assert opened.size == (picture.width, picture.height)
        return opened.tobytes()


@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA"])
@pytest.mark.parametrize("box", [None, (50, 0, 200, 200)])
def test_its_pixels_are_those_that_comfyui_would_make(mode: str, box: Any) -> None:
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 3
    source = sent(photo(mode), exif=exif)
    scaled = prescale(source, SIZE, box)
    assert scaled
    assert pixels_of(scaled) == as_comfyui_does(source, SIZE, box)
    assert (scaled.name, scaled.extension) == ("a", "png")


def test_a_picture_that_would_grow_is_left_to_comfyui() -> None:
    assert prescale(sent(photo()), (300, 200)) is None
    assert prescale(sent(photo()), (512, 512)) is None


def test_a_picture_of_another_kind_is_left_to_comfyui() -> None:
    assert prescale(sent(photo().quantize()), SIZE) is None
    frames = [photo(), photo().rotate(90)]
    moving = sent(frames[0], "WEBP", save_all=True, append_images=frames[1:])
    assert prescale(moving, SIZE) is None
