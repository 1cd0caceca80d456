"""A photo on a larger canvas, whose empty part a model is to draw."""

from typing import NamedTuple

import numpy as np

from handler.errors import InvalidInput
from handler.pictures.feather import Mask
from handler.pictures.photo import Photo

# A model draws over it; a colour of the photo's own might look like a part of it.
_GREY = 127
# A canvas is several photos in memory.
_MOST_PIXELS = 64_000_000


class Canvas(NamedTuple):
    """`photo` goes on beyond its edges with their last pixels, for a patch to fade in from; what a
    model is `shown` is grey there. `added` is where."""

    photo: Photo
    shown: Photo
    added: Mask


def extend(photo: Photo, left: int, top: int, width: int, height: int) -> Canvas:
    """On a canvas of `width` and `height`, `left` and `top` of it before the photo. What is added
    is opaque. Raises InvalidInput for a canvas that is too large."""
    if width * height > _MOST_PIXELS:
        raise InvalidInput(
            f"the photo would become {width} x {height} pixels, which is over the limit of "
            f"{_MOST_PIXELS}; send a smaller one",
            width=width, height=height, limit_pixels=_MOST_PIXELS,
        )  # fmt: skip
    around = ((top, height - top - photo.size[1]), (left, width - left - photo.size[0]))
    added = np.pad(np.zeros(photo.size[::-1], dtype=np.bool_), around, constant_values=True)
    pixels = np.pad(photo.pixels, (*around, (0, 0)), mode="edge")
    if photo.has_alpha:
        pixels[added, -1] = np.iinfo(pixels.dtype).max
    shown = np.array(Photo(pixels).as_rgb())
    shown[added] = _GREY
    return Canvas(Photo(pixels, photo.icc_profile), Photo(shown, photo.icc_profile), added)
