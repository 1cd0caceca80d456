"""What the bytes of a picture tell before anything is decoded: its format, and how much of a JPEG
is its first picture. Pure."""

import re
from collections.abc import Iterator
from typing import NamedTuple

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
# JPEG's markers (ITU-T T.81, table B.1). Within a scan's data a 0xFF is followed by a zero or by
# one of the eight restart markers.
_NEXT_MARKER = re.compile(rb"\xff+([^\x00\xff\xd0-\xd7])", re.DOTALL)
_START_OF_SCAN, _END_OF_IMAGE, _APP2 = 0xDA, 0xD9, 0xE2
_WITHOUT_LENGTH = frozenset({0x01, 0xD8})


class Format(NamedTuple):
    """`name` is Pillow's."""

    name: str
    extension: str


class NotAPicture(ValueError):
    """Says what it looks like."""


def format_of(data: bytes) -> Format:
    """Raises NotAPicture."""
    if data.startswith(b"\x89PNG\r\n\x1a\n"):
        return Format("PNG", "png")
    if data.startswith(b"\xff\xd8\xff"):
        return Format("JPEG", "jpg")
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return Format("WEBP", "webp")
    if not data:
        raise NotAPicture("is empty")
    head = data[:64].lstrip().lower()
    looks = next((what for start, what in _LOOKS_LIKE if head.startswith(start)), None)
    if looks is None and head.translate(None, b"\r\n\t").decode("latin-1").isprintable():
        looks = "a text"
    raise NotAPicture(f"is {looks or 'no picture that is known here'}; send PNG, JPEG or WebP")


def canvas_size(data: bytes, kind: Format) -> tuple[int, int]:
    """Width and height of a WebP, whose decoder takes memory for all of it when it is made; (0, 0)
    for other formats, and for a header that the decoder refuses anyway (RFC 9649, 2.5 to 2.7)."""
    if kind.name != "WEBP" or len(data) < 30:
        return 0, 0
    match data[12:16]:
        case b"VP8X":
            size = int.from_bytes(data[24:27], "little"), int.from_bytes(data[27:30], "little")
            return size[0] + 1, size[1] + 1
        case b"VP8L":
            bits = int.from_bytes(data[21:25], "little")
            return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
        case _:
            bits = int.from_bytes(data[26:30], "little")
            return bits & 0x3FFF, bits >> 16 & 0x3FFF


class JpegParts(NamedTuple):
    """Of the first picture: how many scans it has, counted up to `most_scans` and one more, and
    the file without the others."""

    scans: int
    data: bytes


def first_picture(data: bytes, most_scans: int) -> JpegParts:
    """Phones append pictures to a JPEG (MPO, gain maps): an index in its head leads readers to
    them. `data` itself where there is none."""
    scans, end, kept_from, kept = 0, len(data), 0, []
    for start, marker, body_end in _segments(data):
        if marker == _START_OF_SCAN:
            scans += 1
            if scans > most_scans:
                break
        elif marker == _END_OF_IMAGE:
            end = start + 2
            break
        elif marker == _APP2 and data.startswith(b"MPF\0", start + 4):
            kept.append(data[kept_from:start])
            kept_from = body_end
    return JpegParts(scans, b"".join([*kept, data[kept_from:end]]) if kept else data)


def _segments(data: bytes) -> Iterator[tuple[int, int, int]]:
    """Start, marker, and end of the part with a length, of each segment after the first marker."""
    at = 2
    while found := _NEXT_MARKER.search(data, at):
        marker = found[1][0]
        start, body = found.end() - 2, found.end()
        length = 0 if marker in _WITHOUT_LENGTH else int.from_bytes(data[body : body + 2])
        at = body + length
        yield start, marker, at
