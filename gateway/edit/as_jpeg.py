"""A result as a JPEG, for whoever wants a small file: near, but no longer exact."""

import io
import threading
from typing import BinaryIO

import numpy as np
from PIL import Image

_QUALITY = 95
# A picture of 24 megapixels takes 72 MB while it is encoded.
_one_at_a_time = threading.BoundedSemaphore(1)


def as_jpeg(file: BinaryIO) -> bytes:
    """With the picture's colour profile; what is transparent becomes white. `file` is one that the
    gateway has stored, so it can be read."""
    with _one_at_a_time, Image.open(file) as image:
        profile = image.info.get("icc_profile")
        flat = _flat(image)
        buffer = io.BytesIO()
        flat.save(buffer, "JPEG", quality=_QUALITY, subsampling=0, icc_profile=profile)
        return buffer.getvalue()


def _flat(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I"):
        return Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    if image.mode in {"L", "RGB"} and "transparency" not in image.info:
        return image
    layered = image.convert("RGBA")
    ground = Image.new("RGBA", image.size, "white")
    flat = Image.alpha_composite(ground, layered).convert("RGB")
    return flat.convert("L") if image.mode == "LA" else flat
