"""Edits within a mask: what of a photo a model gets to see, and its patch pasted back so that no
pixel outside the mask changes. The worker and the gateway both use it.

A caller's photo and mask are cut once; cut again, a piece stays whole, so a piece and its mask are
an ordinary masked job.
"""

import io
import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from handler.errors import InvalidImage
from handler.pictures.feather import Box, Mask, around, feather_alpha, stretched
from handler.pictures.photo import Photo, Pixels, strips
from handler.pictures.pillow import DECODER_ERRORS

# What a model needs to see around a mask, in pixels of the photo: at least so many on each side,
# so many in all, and no ratio beyond those it was trained on.
_LEAST_MARGIN = 64
_LEAST_SIDE = 256
_LONGEST_RATIO = 2.2
# A piece that is nearly the photo saves nothing, and the photo shows more.
_MOST_OF_PHOTO = 0.6


class Cut(NamedTuple):
    """The piece of the photo that a model gets, the mask of that piece, and where it lies."""

    crop: Photo
    mask: Mask
    box: Box


class Pasted(NamedTuple):
    """The photo with its patch, and how many pixels outside the mask are not the photo's."""

    photo: Photo
    pixels_changed_outside: int


def read_mask(data: bytes, size: tuple[int, int]) -> Mask:
    """Which pixels of a photo of that size (width, height) may change: where the picture is white,
    by half or more, and not transparent. A mask of another size is stretched over the photo;
    where several of its pixels fall on one, any of them counts. Raises InvalidImage.
    """
    try:
        with Image.open(io.BytesIO(data), formats=["PNG", "JPEG", "WEBP"]) as picture:
            if picture.format != "MPO" and getattr(picture, "n_frames", 1) > 1:
                raise InvalidImage("the mask is animated; send one picture")
            ImageOps.exif_transpose(picture, in_place=True)
            white = _white(picture)
    except DECODER_ERRORS as exc:
        raise InvalidImage(f"the mask is broken or truncated: {exc}") from exc
    return stretched(np.asarray(white) > 0, size)


def mask_png(mask: Mask) -> bytes:
    """As `read_mask` reads it: white where the photo may change."""
    buffer = io.BytesIO()
    Image.fromarray(mask).save(buffer, "PNG")
    return buffer.getvalue()


def cut(photo: Photo, mask: Mask, *, whole: bool = False) -> Cut:
    """The mask's surroundings, or the whole photo when that is wanted or not much more. Several
    places in one mask are in one piece. `mask` is (height, width), of the photo's size. Raises
    InvalidImage for a mask in which nothing may change.
    """
    area = around(mask)
    if area is None:
        raise InvalidImage(
            "the mask is empty: no pixel of it is white, so none may change; paint white what is "
            "to change, on black"
        )
    box = _with_context(area, photo.size)
    if whole or box is None:
        box = Box(0, 0, *photo.size)
    return Cut(photo.part(box.rows, box.columns), mask[box.rows, box.columns], box)


def paste(
    photo: Photo, patch: Photo, mask: Mask, box: Box | None = None, *, feather: bool = True
) -> Pasted:
    """A new photo with `patch`, brought to the size of `box`, wherever `mask` allows it. `mask` is
    the whole photo's; `box` None is the whole photo.

    A patch fades in from the mask's edge inwards, less deep where the mask is thin; not so without
    `feather`, for a patch that holds the photo's own pixels at the edge already. Pixels are
    selected, not multiplied: whatever a patch holds outside the mask stays there. Alpha stays the
    photo's.
    """
    box = box or Box(0, 0, *photo.size)
    inside = mask[box.rows, box.columns]
    alpha = feather_alpha(inside) if feather else None
    new = _as_in(photo, patch, box.size)
    pixels = photo.pixels.copy()
    target = pixels[box.rows, box.columns]
    for strip in strips(len(target)):
        may_change = inside[strip]
        blend = new[strip] if alpha is None else _blend(target[strip], new[strip], alpha[strip])
        # The channels of colour come first.
        np.copyto(target[strip][..., : blend.shape[2]], blend, where=may_change[..., None])
    result = Photo(pixels, photo.icc_profile)
    return Pasted(result, changed_outside(photo, result, mask))


def changed_outside(photo: Photo, result: Photo, mask: Mask) -> int:
    """How many pixels differ where the mask allows no change; all of them when the two are of
    another size, kind or depth."""
    if photo.pixels.shape != result.pixels.shape or photo.pixels.dtype != result.pixels.dtype:
        return int(np.count_nonzero(~mask))
    return sum(
        int(
            np.count_nonzero(
                (photo.pixels[strip] != result.pixels[strip]).any(axis=2) & ~mask[strip]
            )
        )
        for strip in strips(len(mask))
    )


def _white(picture: Image.Image) -> Image.Image:
    """255 where white, else 0."""
    if picture.mode == "I;16":
        return Image.fromarray(np.asarray(picture) >= 1 << 15).convert("L")
    if picture.has_transparency_data:
        over_black = Image.new("RGBA", picture.size, (0, 0, 0, 255))
        over_black.alpha_composite(picture.convert("RGBA"))
        picture = over_black
    return picture.convert("L").point([0] * 128 + [255] * 128)


def _with_context(box: Box, photo: tuple[int, int]) -> Box | None:
    """None for the whole photo. The size follows from the size of `box` and how far the photo
    reaches, so within the piece it is the piece's own."""
    margin = max(_LEAST_MARGIN, math.ceil(max(box.size) / 2))
    width, height = (
        min(max(side + 2 * margin, _LEAST_SIDE), most)
        for side, most in zip(box.size, photo, strict=True)
    )
    width = min(max(width, math.ceil(height / _LONGEST_RATIO)), photo[0])
    height = min(max(height, math.ceil(width / _LONGEST_RATIO)), photo[1])
    if width * height > _MOST_OF_PHOTO * photo[0] * photo[1]:
        return None
    left = _begin(box.left, box.right, width, photo[0])
    top = _begin(box.top, box.bottom, height, photo[1])
    return Box(left, top, left + width, top + height)


def _begin(start: int, end: int, length: int, most: int) -> int:
    """Of a window of `length` around the middle, pushed back to between 0 and `most`."""
    return max(0, min((start + end - length) // 2, most - length))


def _as_in(photo: Photo, patch: Photo, size: tuple[int, int]) -> Pixels:
    """The patch's colours in the photo's channels and depth."""
    grey = photo.pixels.shape[2] < 3
    if patch.size == size and patch.pixels.dtype == photo.pixels.dtype == np.uint16:
        colors = 1 if patch.pixels.shape[2] < 3 else 3
        if (colors == 1) == grey:
            return patch.pixels[..., :colors]
    picture = patch.as_rgb()
    if picture.size != size:
        picture = picture.resize(size, Image.Resampling.LANCZOS)
    pixels = np.asarray(picture.convert("L"))[..., None] if grey else np.asarray(picture)
    return pixels if photo.pixels.dtype == np.uint8 else pixels.astype(np.uint16) * np.uint16(257)


def _blend(old: Pixels, new: Pixels, alpha: NDArray[np.uint8]) -> Pixels:
    """`alpha` 255 gives `new` exactly."""
    weight = alpha[..., None].astype(np.uint32)
    colors = old[..., : new.shape[2]].astype(np.uint32)
    mixed = colors * (255 - weight) + new * weight + 127
    return (mixed // 255).astype(old.dtype)
