"""A caller's photo as numbers, with what an edit must keep: its bits, alpha and colour profile."""

import contextlib
import io
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image, ImageCms, ImageFile

from handler.errors import InvalidImage
from handler.pictures.pillow import DECODER_ERRORS

Pixels = NDArray[np.unsignedinteger[Any]]

# Rows that are worked on together: what a row needs beside itself stays in the processor's cache,
# and a photo of 24 megapixels needs little memory beyond its own.
STRIP = 256
# SaveImage's own (ComfyUI, nodes.py).
_COMPRESS_LEVEL = 4
_COLOR_TYPES = {1: 0, 2: 4, 3: 2, 4: 6}
# Pillow gives of a PNG's 16 bits the upper 8, and takes little-endian values the same way: read as
# such, a PNG's give the lower 8.
_LOWER_BYTES = {"RGB;16B": "RGB;16L", "RGBA;16B": "RGBA;16L"}


@dataclass(frozen=True, slots=True)
class Photo:
    """`pixels` is (height, width, channels), upright, of 8 or 16 bits; the channels are those of
    "L", "LA", "RGB" or "RGBA"."""

    pixels: Pixels
    icc_profile: bytes | None = None

    @classmethod
    def of(cls, picture: Image.Image, icc_profile: bytes | None = None) -> "Photo":
        """`picture` is of one of these modes."""
        pixels = np.asarray(picture)
        return cls(pixels[:, :, None] if pixels.ndim == 2 else pixels, icc_profile)

    @property
    def size(self) -> tuple[int, int]:
        """Width and height."""
        return self.pixels.shape[1], self.pixels.shape[0]

    @property
    def has_alpha(self) -> bool:
        return self.pixels.shape[2] in {2, 4}

    def part(self, rows: slice, columns: slice) -> "Photo":
        return Photo(self.pixels[rows, columns], self.icc_profile)

    def as_rgb(self) -> Image.Image:
        """What a model gets to see: 8 bits, without alpha, the numbers in the profile's terms."""
        pixels = self.pixels if self.pixels.dtype == np.uint8 else self.pixels >> 8
        channels = pixels[:, :, :1] if pixels.shape[2] < 3 else pixels[:, :, :3]
        return _image(channels.astype(np.uint8, copy=False)).convert("RGB")

    def as_png(self, compress_level: int = _COMPRESS_LEVEL) -> bytes:
        """Takes a second for ten megapixels, so this does not belong on an event loop."""
        if self.pixels.dtype == np.uint16:
            return b"".join(_png_of_16_bits(self.pixels, self.icc_profile, compress_level))
        buffer = io.BytesIO()
        picture = _image(self.pixels)
        picture.save(
            buffer, "PNG", compress_level=compress_level, icc_profile=self.icc_profile or b""
        )
        return buffer.getvalue()


def read_photo(data: bytes) -> Photo:
    """The pixels of a PNG, JPEG or WebP, in its own bits and channels, turned as its EXIF data asks
    for. Palettes become RGB, with alpha where they have it, and CMYK, which no format that is
    delivered holds, becomes sRGB. Raises InvalidImage.
    """
    try:
        with Image.open(io.BytesIO(data), formats=["PNG", "JPEG", "WEBP"]) as picture:
            # The second picture of a phone's JPEG is a preview or a depth map.
            if picture.format != "MPO" and getattr(picture, "n_frames", 1) > 1:
                raise InvalidImage("an animated picture can't be edited within a mask; send one")
            pixels, profile = _read(picture, data)
            turn = picture.getexif().get(ExifTags.Base.Orientation)
            return Photo(np.ascontiguousarray(_turned(pixels, turn)), profile)
    except DECODER_ERRORS as exc:
        raise InvalidImage(f"the picture is broken or truncated: {exc}") from exc


def color_profile(data: bytes) -> bytes | None:
    """The ICC profile that a picture's numbers keep when an editor reads and writes them as RGB;
    None when it has none or one of other colours. The picture is not decoded."""
    with contextlib.suppress(*DECODER_ERRORS), Image.open(io.BytesIO(data)) as picture:
        if picture.mode in {"RGB", "RGBA", "P"}:
            return picture.info.get("icc_profile") or None
    return None


def strips(height: int) -> Iterator[slice]:
    for top in range(0, height, STRIP):
        yield slice(top, min(top + STRIP, height))


def _image(pixels: Pixels) -> Image.Image:
    return Image.fromarray(pixels[:, :, 0] if pixels.shape[2] == 1 else pixels)


def _read(picture: ImageFile.ImageFile, data: bytes) -> tuple[Pixels, bytes | None]:
    profile = picture.info.get("icc_profile") or None
    layout = picture.tile[0].args if picture.format == "PNG" and picture.tile else None
    if layout == "LA;16B":
        return _read_grey_and_alpha(picture), profile
    if layout in _LOWER_BYTES:
        upper = np.asarray(picture).astype(np.uint16)
        upper <<= 8
        with Image.open(io.BytesIO(data), formats=["PNG"]) as again:
            again.tile = [tile._replace(args=_LOWER_BYTES[layout]) for tile in again.tile]
            upper |= np.asarray(again)
        return _with_key(upper, picture.info.get("transparency")), profile
    if picture.mode == "I;16":
        grey = np.asarray(picture)[:, :, None]
        return _with_key(grey, picture.info.get("transparency")), profile
    if picture.mode == "CMYK":
        return np.asarray(_to_srgb(picture, profile)), None
    mode = _kept_mode(picture)
    # A conversion to its own mode would be a copy.
    pixels = np.asarray(picture if picture.mode == mode else picture.convert(mode))
    return (pixels[:, :, None] if pixels.ndim == 2 else pixels), profile


def _read_grey_and_alpha(picture: ImageFile.ImageFile) -> Pixels:
    """Pillow has no mode for it; as RGBA of 8 bits a pixel has as many bytes."""
    picture.tile = [tile._replace(args="RGBA") for tile in picture.tile]
    return np.asarray(picture).view(">u2").astype(np.uint16)


def _kept_mode(picture: Image.Image) -> str:
    is_grey = picture.mode in {"1", "L", "LA"}
    if picture.has_transparency_data:
        return "LA" if is_grey else "RGBA"
    return "L" if is_grey else "RGB"


def _with_key(pixels: Pixels, key: Any) -> Pixels:
    """PNG's other form of transparency: one colour stands for nothing."""
    if key is None:
        return pixels
    opaque = (pixels != np.asarray(key, dtype=np.uint16)).any(axis=2, keepdims=True)
    return np.concatenate([pixels, opaque * np.uint16(65535)], axis=2, dtype=np.uint16)


def _to_srgb(picture: Image.Image, profile: bytes | None) -> Image.Image:
    if profile:
        try:
            turned = ImageCms.profileToProfile(
                picture,
                ImageCms.ImageCmsProfile(io.BytesIO(profile)),
                ImageCms.createProfile("sRGB"),
                outputMode="RGB",
            )
        except (ImageCms.PyCMSError, OSError):
            turned = None  # a broken profile, or one of another kind of picture
        if turned is not None:
            return turned
    return picture.convert("RGB")


def _turned(pixels: Pixels, orientation: int | None) -> Pixels:
    """By EXIF's numbers."""
    match orientation:
        case 2:
            return pixels[:, ::-1]
        case 3:
            return pixels[::-1, ::-1]
        case 4:
            return pixels[::-1]
        case 5:
            return pixels.swapaxes(0, 1)
        case 6:
            return pixels[::-1].swapaxes(0, 1)
        case 7:
            return pixels[::-1, ::-1].swapaxes(0, 1)
        case 8:
            return pixels[:, ::-1].swapaxes(0, 1)
        case _:
            return pixels


def _png_of_16_bits(pixels: Pixels, profile: bytes | None, level: int) -> Iterator[bytes]:
    """Pillow writes 16 bits only in grey."""
    height, width, channels = pixels.shape
    header = struct.pack(">IIBBBBB", width, height, 16, _COLOR_TYPES[channels], 0, 0, 0)
    yield b"\x89PNG\r\n\x1a\n" + _chunk(b"IHDR", header)
    if profile:
        yield _chunk(b"iCCP", b"ICC Profile\0\0" + zlib.compress(profile))
    packer = zlib.compressobj(level)
    above = np.zeros((1, width * channels * 2), dtype=np.uint8)
    for strip in strips(height):
        rows = pixels[strip].astype(">u2").reshape(strip.stop - strip.start, -1).view(np.uint8)
        # PNG's filter 2: each byte less the one above it.
        lines = np.full((len(rows), 1 + rows.shape[1]), 2, dtype=np.uint8)
        lines[:, 1:] = rows - np.concatenate([above, rows[:-1]])
        above = rows[-1:]
        yield _chunk(b"IDAT", packer.compress(lines.tobytes()))
    yield _chunk(b"IDAT", packer.flush()) + _chunk(b"IEND", b"")


def _chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
