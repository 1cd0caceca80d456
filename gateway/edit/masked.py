"""Edits within a mask: what of the photo travels, and the piece that comes back put into it, with
the proof that nothing else changed."""

import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from gateway.edit.pictures import Picture
from gateway.errors import ChangedOutsideMask, InvalidMask, InvalidOutput
from handler.errors import InvalidImage as WorkerInvalidImage
from handler.pictures import Box, cut, mask_png, paste, read_mask, read_photo

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
    """The whole photo as PNG, and how many of its pixels outside the mask changed: 0. The patch
    was blended into the photo's own pixels by the worker. Raises InvalidOutput, and
    ChangedOutsideMask."""
    with _one_at_a_time:
        original = read_photo(photo)
        allowed = read_mask(mask, original.size)
        try:
            drawn = read_photo(patch)
        except WorkerInvalidImage as exc:
            raise InvalidOutput(f"the edited piece is not usable: {exc.message}") from exc
        done = paste(original, drawn, allowed, Box(*box), feather=False)
        check_unchanged(done.pixels_changed_outside)
        return done.photo.as_png(), done.pixels_changed_outside


def check_unchanged(pixels: Any) -> None:
    """Raises ChangedOutsideMask."""
    if pixels:
        raise ChangedOutsideMask(
            f"{pixels} pixels outside the mask are not the photo's; nothing is delivered"
        )
