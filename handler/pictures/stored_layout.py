"""PNGs that are not compressed, read and written in milliseconds. To others they are PNGs like any.

Their layout: signature, IHDR, text chunks, one IDAT, IEND. The IDAT's zlib stream is made of stored
blocks (RFC 1951, 3.2.4), each of whole rows: so a block is a matrix, and NumPy needs no loop over
rows. Every row has filter 0. The worker and, by a link, its nodes inside ComfyUI load this file: of
the packages it knows only NumPy, which both environments have.
"""

import struct
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

SIGNATURE = b"\x89PNG\r\n\x1a\n"
_LARGEST_BLOCK = 65535
_BLOCK_HEAD_BYTES = 5
# Deflate with a window of 32 KB, level "fastest": what zlib itself writes at level 0.
_ZLIB_HEAD = b"\x78\x01"
# By number of channels: RGB and RGBA.
_COLOR_TYPES = {3: 2, 4: 6}
_PIXELS_AT = len(SIGNATURE) + 25 + 8 + len(_ZLIB_HEAD)
_END = struct.pack(">I4sI", 0, b"IEND", zlib.crc32(b"IEND"))

Bytes = NDArray[np.uint8]
# Fills the second array, (rows, width, channels), with those rows of the picture.
Fill = Callable[[slice, Bytes], None]


@dataclass(frozen=True, slots=True)
class Layout:
    """Where the rows of a picture lie. Only for pictures that `fits` holds for."""

    width: int
    height: int
    channels: int

    @property
    def fits(self) -> bool:
        is_known = self.channels in _COLOR_TYPES and self.width > 0 and self.height > 0
        return is_known and self.row_bytes <= _LARGEST_BLOCK

    @property
    def row_bytes(self) -> int:
        """With the byte that names the row's filter."""
        return 1 + self.width * self.channels

    @property
    def stream_bytes(self) -> int:
        """Of the blocks: without zlib's two bytes before and four after them."""
        return self.height * self.row_bytes + _BLOCK_HEAD_BYTES * -(-self.height // self._rows)

    @property
    def header(self) -> bytes:
        return struct.pack(
            ">IIBBBBB", self.width, self.height, 8, _COLOR_TYPES[self.channels], 0, 0, 0
        )

    @property
    def idat_bytes(self) -> int:
        return len(_ZLIB_HEAD) + self.stream_bytes + 4

    @property
    def _rows(self) -> int:
        return min(_LARGEST_BLOCK // self.row_bytes, self.height)

    def blocks(self, stream: Bytes) -> Iterator[tuple[slice, Bytes, bytes, Bytes]]:
        """For each block: its rows, its head as it lies in `stream` and as it has to be, and its
        matrix."""
        at = 0
        for first in range(0, self.height, self._rows):
            rows = slice(first, min(first + self._rows, self.height))
            size = (rows.stop - first) * self.row_bytes
            head = struct.pack("<BHH", rows.stop == self.height, size, size ^ 0xFFFF)
            start = at + _BLOCK_HEAD_BYTES
            at = start + size
            matrix = stream[start:at].reshape(rows.stop - first, self.row_bytes)
            yield rows, stream[start - _BLOCK_HEAD_BYTES : start], head, matrix


def pack(layout: Layout, text_chunks: list[tuple[bytes, bytes]], fill: Fill) -> bytes:
    """The file. `text_chunks` are kinds and bodies."""
    stream = np.empty(layout.stream_bytes, np.uint8)
    adler = 1
    for rows, place, head, matrix in layout.blocks(stream):
        place[:] = np.frombuffer(head, np.uint8)
        matrix[:, 0] = 0
        fill(rows, matrix[:, 1:].reshape(-1, layout.width, layout.channels))
        adler = zlib.adler32(matrix.data, adler)
    end = struct.pack(">I", adler)
    crc = zlib.crc32(end, zlib.crc32(stream.data, zlib.crc32(b"IDAT" + _ZLIB_HEAD)))
    parts: list[bytes | memoryview] = [
        SIGNATURE,
        _chunk(b"IHDR", layout.header),
        *(_chunk(kind, body) for kind, body in text_chunks),
        struct.pack(">I4s", layout.idat_bytes, b"IDAT"),
        _ZLIB_HEAD,
        stream.data,
        end,
        struct.pack(">I", crc),
        _END,
    ]
    return b"".join(parts)


def unpack(file: BinaryIO) -> Bytes | None:
    """The pixels, (height, width, channels), of a file that has just this layout and no text; None
    for any other, of which only the start is read. Raises OSError."""
    layout = _layout_of(file.read(_PIXELS_AT))
    if layout is None:
        return None
    rest = file.read()
    if len(rest) != layout.stream_bytes + 4 + 4 + len(_END):
        return None
    pixels = np.empty((layout.height, layout.width * layout.channels), np.uint8)
    stream = np.frombuffer(rest, np.uint8, layout.stream_bytes)
    for rows, place, head, matrix in layout.blocks(stream):
        if place.tobytes() != head or matrix[:, 0].any():
            return None
        pixels[rows] = matrix[:, 1:]
    return pixels.reshape(layout.height, layout.width, layout.channels)


def _layout_of(start: bytes) -> Layout | None:
    if len(start) < _PIXELS_AT:
        return None
    width, height, _, color_type = struct.unpack_from(">IIBB", start, 16)
    channels = next((n for n, number in _COLOR_TYPES.items() if number == color_type), 0)
    layout = Layout(width, height, channels)
    if not layout.fits:
        return None
    is_ours = start == (
        SIGNATURE
        + _chunk(b"IHDR", layout.header)
        + struct.pack(">I4s", layout.idat_bytes, b"IDAT")
        + _ZLIB_HEAD
    )
    return layout if is_ours else None


def _chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
