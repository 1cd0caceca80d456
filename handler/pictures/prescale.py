"""A photo brought to the size at which it is sampled, while the GPU is on the job before: ComfyUI
would decode and scale twelve megapixels on the thread that keeps the GPU busy."""

import contextlib
import io
from dataclasses import replace

from PIL import Image, ImageOps

from handler.pictures.images import InputImage
from handler.pictures.pillow import DECODER_ERRORS
from handler.pictures.stored_png import store

# Of others LoadImage makes more than a conversion, or they are rare.
_MODES = frozenset({"L", "RGB", "RGBA"})


def prescale(
    picture: InputImage, size: tuple[int, int], crop: tuple[int, int, int, int] | None = None
) -> InputImage | None:
    """Of the same pixels as those that LoadImage, ImageCrop and ImageScale (lanczos) make of it,
    which tests/integration/test_edit.py holds; `crop` is left, top, width and height. None for a
    picture that is smaller than `size`, or for which that is not sure.

    Takes up to half a second, so this does not belong on an event loop.
    """
    if not picture.is_still or picture.width * picture.height <= size[0] * size[1]:
        return None
    with (
        contextlib.suppress(*DECODER_ERRORS),
        Image.open(io.BytesIO(picture.for_comfy or picture.data)) as opened,
    ):
        if opened.mode not in _MODES:
            return None
        ImageOps.exif_transpose(opened, in_place=True)
        rgb = opened.convert("RGB")
        if crop:
            left, top, width, height = crop
            rgb = rgb.crop((left, top, left + width, top + height))
        data = store(rgb.resize(size, Image.Resampling.LANCZOS))
        if data is not None:
            return replace(
                picture, data=bytes(data), extension="png", width=size[0], height=size[1],
                for_comfy=None,
            )  # fmt: skip
    return None
