"""Edits within a mask: what of the photo travels, and the piece that comes back put into it, with
the proof that nothing else changed."""

import io
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from PIL import ExifTags, Image

from gateway.edit.pictures import Picture
from gateway.errors import ChangedOutsideMask, InvalidMask, InvalidOutput
from handler.errors import InvalidImage as WorkerInvalidImage
from handler.pictures import (
    DECODER_ERRORS,
    Box,
    Photo,
    changed_outside,
    cut,
    mask_png,
    paste,
    read_mask,
    read_photo,
)

# A photo of 24 megapixels takes 72 MB, and its piece and its result as much again.
_one_at_a_time = threading.BoundedSemaphore(1)


@dataclass(frozen=True, slots=True)
class Piece:
    """What travels in place of the photo and its mask, and where it lies: left, top, right,
    bottom. `picture` None is the photo as it came, with a mask of its size."""

    picture: Picture | None
    mask: Picture
    box: tuple[int, int, int, int]


def cut_piece(photo: Picture, mask: Picture, *, whole: bool) -> Piece:
    """`whole` shows the model all of the photo. Raises InvalidMask."""
    with _one_at_a_time:
        try:
            pixels = read_photo(photo.data)
            allowed = read_mask(mask.data, pixels.size)
            found = cut(pixels, allowed, whole=whole)
        except WorkerInvalidImage as exc:
            raise InvalidMask(exc.message) from exc
        width, height = found.box.size
        travels = Picture("mask.png", mask_png(found.mask), "png", width, height)
        box = (found.box.left, found.box.top, found.box.right, found.box.bottom)
        if (width, height) == pixels.size:
            return Piece(None, travels, box)
        crop = Picture("crop.png", found.crop.as_png(), "png", width, height)
        return Piece(crop, travels, box)


def put_back(photo: bytes, mask: bytes, box: Sequence[int], patch: bytes) -> tuple[bytes, int]:
    """The whole photo as PNG, and how many of its pixels outside the mask changed: 0, counted in
    that PNG. The patch was blended into the photo's own pixels by the worker, so it has the size
    of `box`. Raises InvalidOutput, and ChangedOutsideMask."""
    with _one_at_a_time:
        place = Box(*box)
        drawn = _piece(patch, place.size)
        original = read_photo(photo)
        allowed = read_mask(mask, original.size)
        data = paste(original, drawn, allowed, place, feather=False).photo.as_png()
        # Of the very bytes that are delivered.
        changed = changed_outside(original, read_photo(data), allowed)
        check_unchanged(changed)
        return data, changed


def _piece(patch: bytes, size: tuple[int, int]) -> Photo:
    """Raises InvalidOutput."""
    try:
        # Before it is decoded: a small file may hold a picture that fills all memory.
        with Image.open(io.BytesIO(patch), formats=["PNG", "JPEG", "WEBP"]) as opened:
            width, height = opened.size
            is_turned = opened.getexif().get(ExifTags.Base.Orientation, 1) != 1
    except DECODER_ERRORS as exc:
        raise InvalidOutput("the edited piece is no picture") from exc
    if (width, height) != size:
        raise InvalidOutput(
            f"the edited piece has {width} x {height} pixels in place of {size[0]} x {size[1]}"
        )
    if is_turned:
        raise InvalidOutput("the edited piece is to be turned, which no worker's is")
    try:
        return read_photo(patch)
    except WorkerInvalidImage as exc:
        raise InvalidOutput(f"the edited piece is not usable: {exc.message}") from exc


def check_unchanged(pixels: Any) -> None:
    """Raises ChangedOutsideMask."""
    if pixels:
        raise ChangedOutsideMask(
            f"{pixels} pixels outside the mask are not the photo's; nothing is delivered"
        )
