"""Pictures that a caller sends: base64 text or bytes to checked bytes."""

import base64
import binascii
import contextlib
import io
import re
from dataclasses import dataclass
from functools import partial
from typing import Any

from PIL import ExifTags, Image, UnidentifiedImageError

from handler.errors import InvalidImage
from handler.pictures.pillow import DECODER_ERRORS
from handler.pictures.stored_png import for_load_image

_DATA_URI = re.compile(r"data:([^;,]*)((?:;[^;,]*)*),", re.ASCII)
_LINE_BREAKS = str.maketrans("", "", "\r\n")
# In lower case, as HTML comes in both.
_LOOKS_LIKE = (
    (b"gif8", "a GIF"),
    (b"bm", "a BMP"),
    (b"%pdf", "a PDF"),
    (b"ii*\x00", "a TIFF"),
    (b"mm\x00*", "a TIFF"),
    (b"pk\x03\x04", "a ZIP archive"),
    (b"<svg", "an SVG"),
    (b"<?xml", "an XML text"),
    (b"<!doctype", "an HTML page"),
    (b"<html", "an HTML page"),
    (b"http", "an address"),
    (b"\x00\x00\x00", "an HEIC, AVIF or video file"),
)
# EXIF's orientations that swap width and height.
_ON_ITS_SIDE = frozenset({5, 6, 7, 8})


@dataclass(frozen=True, slots=True)
class ImageLimits:
    """Most pictures in a job; most bytes and pixels (all frames together) in a picture; most
    pixels in one that is kept uncompressed too."""

    count: int
    data_bytes: int
    pixels: int
    uncompressed_pixels: int = 0


@dataclass(frozen=True, slots=True)
class InputImage:
    """A whole, decodable picture. `extension` is by content: "png", "jpg" or "webp"; width and
    height are as it is shown, after the turn that its EXIF data asks for, which ComfyUI makes.
    `uncompressed`, if any, is a PNG that ComfyUI reads faster than `data`, with the same result."""

    name: str
    data: bytes
    extension: str
    width: int
    height: int
    uncompressed: bytes | None = None
    is_still: bool = True


def decode_image(name: str, text: str, where: str, limits: ImageLimits) -> InputImage:
    """Decode base64 or a data URI and check the picture whole.

    `where` names the entry for the message. Raises InvalidImage.
    """
    data = _decode_base64(text, limits, partial(_fault, name, where))
    return check_image(name, data, where, limits)


def check_image(name: str, data: bytes, where: str, limits: ImageLimits) -> InputImage:
    """Decode the picture whole. Raises InvalidImage."""
    fault = partial(_fault, name, where)
    if len(data) > limits.data_bytes:
        raise fault(
            f"{len(data)} bytes is over the limit of {limits.data_bytes} bytes",
            limit_bytes=limits.data_bytes,
        )
    kind, extension = _format_of(data, fault)
    try:
        with Image.open(io.BytesIO(data), formats=[kind]) as picture:
            width, height = picture.size
            frames = getattr(picture, "n_frames", 1)
            if width * height * frames > limits.pixels:
                raise fault(
                    f"{width} x {height} pixels in {frames} frame(s) is over the limit of "
                    f"{limits.pixels} pixels",
                    width=width,
                    height=height,
                    frames=frames,
                    limit_pixels=limits.pixels,
                )
            # ComfyUI's LoadImage reads every frame.
            for frame in range(frames):
                picture.seek(frame)
                picture.load()
            if picture.getexif().get(ExifTags.Base.Orientation) in _ON_ITS_SIDE:
                width, height = height, width
            is_small = width * height <= limits.uncompressed_pixels
            uncompressed = _uncompressed(picture) if frames == 1 and is_small else None
    except UnidentifiedImageError as exc:
        # Its own text names an object in memory.
        raise fault(f"the {kind} is broken or truncated: its header can't be read") from exc
    except DECODER_ERRORS as exc:
        raise fault(f"the {kind} is broken or truncated: {exc}") from exc
    return InputImage(name, data, extension, width, height, uncompressed, frames == 1)


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


def _format_of(data: bytes, fault: Any) -> tuple[str, str]:
    """Pillow's name of the format, and the file extension, by the first bytes."""
    if data.startswith(b"\x89PNG\r\n\x1a\n"):
        return "PNG", "png"
    if data.startswith(b"\xff\xd8\xff"):
        return "JPEG", "jpg"
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "WEBP", "webp"
    if not data:
        raise fault("is empty")
    head = data[:64].lstrip().lower()
    looks = next((what for start, what in _LOOKS_LIKE if head.startswith(start)), None)
    if looks is None and head.translate(None, b"\r\n\t").decode("latin-1").isprintable():
        looks = "a text"
    raise fault(f"is {looks or 'no picture that is known here'}; send PNG, JPEG or WebP")
