"""Pictures that a caller sends: base64 text or bytes to checked bytes.

What a picture costs to check is up to who sends it: minutes, gigabytes. So the worker checks them
in processes that can be ended (handler/sources/checker.py).
"""

import base64
import binascii
import contextlib
import io
import re
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

from PIL import ExifTags, Image, UnidentifiedImageError

from handler.errors import InvalidImage
from handler.pictures.formats import NotAPicture, canvas_size, first_picture, format_of
from handler.pictures.pillow import DECODER_ERRORS
from handler.pictures.plain import is_understood, plain
from handler.pictures.stored_png import for_load_image, store

_DATA_URI = re.compile(r"data:([^;,]*)((?:;[^;,]*)*),", re.ASCII)
_LINE_BREAKS = str.maketrans("", "", "\r\n")
# EXIF's orientations that swap width and height.
_ON_ITS_SIDE = frozenset({5, 6, 7, 8})
# Cameras and libraries write up to 12 scans, the most eager of optimizers some dozens. Each is a
# walk over the whole picture.
_MOST_SCANS = 100
# Each costs a walk of its own, however small it is.
_MOST_FRAMES = 1000
# Of a picture that is only on its way to ComfyUI.
_QUICK = 1


@dataclass(frozen=True, slots=True)
class ImageLimits:
    """Most pictures in a job; most bytes and pixels (all frames together) in a picture; most
    pixels in one that is kept uncompressed too."""

    count: int
    data_bytes: int
    pixels: int
    uncompressed_pixels: int = 0


@dataclass(frozen=True, slots=True)
class SentImage:
    """An entry that holds a picture, as base64 or a data URI, not yet looked at. `where` names it
    in messages."""

    name: str
    where: str
    text: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class InputImage:
    """A whole, decodable picture. `extension` is by content: "png", "jpg" or "webp"; width and
    height are as it is shown, after the turn that its EXIF data asks for, which ComfyUI makes.
    `for_comfy`, if any, is a PNG that ComfyUI reads instead of `data`: faster, or as a person sees
    the picture."""

    name: str
    data: bytes = field(repr=False)
    extension: str
    width: int
    height: int
    for_comfy: bytes | None = field(default=None, repr=False)
    is_still: bool = True


def decode_image(
    name: str, text: str, where: str, limits: ImageLimits, *, as_photo: bool = False
) -> InputImage:
    """Decode base64 or a data URI and check the picture whole.

    `where` names the entry for the message. Raises InvalidImage.
    """
    data = decode_base64(SentImage(name, where, text), limits)
    return check_image(name, data, where, limits, as_photo=as_photo)


def decode_base64(sent: SentImage, limits: ImageLimits) -> bytes:
    """Raises InvalidImage."""
    return _decode_base64(sent.text, limits, partial(_fault, sent.name, sent.where))


def check_image(
    name: str, data: bytes, where: str, limits: ImageLimits, *, as_photo: bool = False
) -> InputImage:
    """Decode the picture whole. `as_photo` is for an edit by a prompt: of an animation the first
    frame only, on white. Raises InvalidImage, and MemoryError."""
    fault = partial(_fault, name, where)
    if len(data) > limits.data_bytes:
        raise fault(
            f"{len(data)} bytes is over the limit of {limits.data_bytes} bytes",
            limit_bytes=limits.data_bytes,
        )
    try:
        kind = format_of(data)
    except NotAPicture as exc:
        raise fault(str(exc)) from exc
    data = _first_of_several(data, kind.name, fault)
    _check_size(*canvas_size(data, kind), 1, limits, fault)
    with _decoding(kind.name, fault), Image.open(io.BytesIO(data), formats=[kind.name]) as picture:
        frames = _decode(picture, limits, fault, first_only=as_photo or kind.name == "JPEG")
        is_whole = frames == getattr(picture, "n_frames", 1)
        if not is_whole or (frames == 1 and not is_understood(picture, as_photo=as_photo)):
            shown = plain(picture, as_photo=as_photo)
            return _converted(InputImage(name, data, kind.extension, *shown.size), shown, limits)
        width, height = picture.size
        if picture.getexif().get(ExifTags.Base.Orientation) in _ON_ITS_SIDE:
            width, height = height, width
        is_small = width * height <= limits.uncompressed_pixels
        for_comfy = _uncompressed(picture) if frames == 1 and is_small else None
    return InputImage(name, data, kind.extension, width, height, for_comfy, frames == 1)


def _first_of_several(data: bytes, kind: str, fault: Any) -> bytes:
    if kind != "JPEG":
        return data
    parts = first_picture(data, _MOST_SCANS)
    if parts.scans > _MOST_SCANS:
        raise fault(
            f"the JPEG has over {_MOST_SCANS} scans, each of which costs as much as a picture; "
            "save it again",
            limit_scans=_MOST_SCANS,
        )
    return parts.data


def _decode(picture: Image.Image, limits: ImageLimits, fault: Any, *, first_only: bool) -> int:
    """Every frame, as ComfyUI's LoadImage does, or the first; how many that were. Each one's size
    is looked at before it is decoded."""
    frames = 1 if first_only else getattr(picture, "n_frames", 1)
    _check_size(*picture.size, frames, limits, fault)
    pixels = 0
    for frame in range(frames):
        picture.seek(frame)
        pixels += picture.width * picture.height
        if pixels > limits.pixels:
            _check_size(*picture.size, frames, limits, fault, pixels)
        picture.load()
    return frames


def _check_size(
    width: int, height: int, frames: int, limits: ImageLimits, fault: Any, pixels: int = 0
) -> None:
    if max(width * height * frames, pixels) > limits.pixels:
        raise fault(
            f"{width} x {height} pixels in {frames} frame(s) is over the limit of "
            f"{limits.pixels} pixels",
            width=width,
            height=height,
            frames=frames,
            limit_pixels=limits.pixels,
        )
    if frames > _MOST_FRAMES:
        raise fault(
            f"{frames} frames is over the limit of {_MOST_FRAMES} frames",
            frames=frames,
            limit_frames=_MOST_FRAMES,
        )


def _converted(image: InputImage, shown: Image.Image, limits: ImageLimits) -> InputImage:
    """With a PNG of `shown` for ComfyUI to read."""
    if image.width * image.height <= limits.uncompressed_pixels and (stored := store(shown)):
        return replace(image, for_comfy=stored)
    buffer = io.BytesIO()
    # Else Pillow writes some of it, in its own way.
    shown.info.clear()
    shown.save(buffer, "PNG", compress_level=_QUICK)
    return replace(image, for_comfy=buffer.getvalue())


@contextlib.contextmanager
def _decoding(kind: str, fault: Any) -> Iterator[None]:
    try:
        yield
    except UnidentifiedImageError as exc:
        # Its own text names an object in memory.
        raise fault(f"the {kind} is broken or truncated: its header can't be read") from exc
    except DECODER_ERRORS as exc:
        raise fault(f"the {kind} is broken or truncated: {exc}") from exc


def _uncompressed(picture: Image.Image) -> bytes | None:
    # What is wrong with EXIF data, LoadImage tells.
    with contextlib.suppress(*DECODER_ERRORS):
        return for_load_image(picture)
    return None


def _fault(name: str, where: str, reason: str, **details: Any) -> InvalidImage:
    return InvalidImage(f"{where} ({name!r}): {reason}", where=where, name=name, **details)


def _decode_base64(text: str, limits: ImageLimits, fault: Any) -> bytes:
    if text.startswith("data:"):
        header = _DATA_URI.match(text[:200])
        if header is None or ";base64" not in header.group(2):
            raise fault("the data URI is not base64: send data:image/png;base64,...")
        text = text[header.end() :]
    if "\n" in text or "\r" in text:
        text = text.translate(_LINE_BREAKS)
    if len(text) // 4 * 3 > limits.data_bytes + 2:
        raise fault(
            f"about {len(text) // 4 * 3} bytes is over the limit of {limits.data_bytes} bytes",
            limit_bytes=limits.data_bytes,
        )
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as exc:
        raise fault(f"is not base64: {exc}") from exc
