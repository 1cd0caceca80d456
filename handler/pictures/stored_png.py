"""PNGs that are not compressed: as such pictures travel between the worker and ComfyUI, and zlib's
work is done here, while the GPU is on the next job.

On the other side comfy/worker_nodes/stored_pictures writes and reads them.
"""

import io
import struct
from collections.abc import Iterator

import numpy as np
from PIL import Image, ImageOps

from handler.pictures.pillow import DECODER_ERRORS
from handler.pictures.stored_layout import SIGNATURE, Bytes, Layout, pack

# By PNG's colour type: values a pixel, in the modes that ComfyUI's SaveImage writes.
_VALUES = {0: 1, 2: 3, 4: 2, 6: 4}
_HEADER_AT = slice(8, 33)
# SaveImage's own (ComfyUI, nodes.py).
_COMPRESS_LEVEL = 4
# LoadImage makes more than a conversion of the others, or they are rare.
_LOADED_MODES = frozenset({"L", "LA", "P", "RGB", "RGBA"})


def for_load_image(picture: Image.Image) -> bytes | None:
    """An uncompressed PNG of which ComfyUI's LoadImage and LoadImageMask make just what they make
    of the file that `picture`, of one frame, was opened from; None where that is not sure.

    Turns `picture` upright. Raises what Pillow raises on broken EXIF data.
    """
    if picture.mode not in _LOADED_MODES:
        return None
    # PNG's other form of transparency: LoadImage does not see it, LoadImageMask does.
    if picture.mode != "P" and "transparency" in picture.info:
        return None
    ImageOps.exif_transpose(picture, in_place=True)
    mode = "RGBA" if picture.has_transparency_data else "RGB"
    return store(picture if picture.mode == mode else picture.convert(mode))


def compress(data: bytes) -> bytes:
    """The file that SaveImage itself would have written, when `data` is an uncompressed PNG of 8
    bits a value; `data` when it is anything else. The other chunks are kept as they are.

    Takes a tenth of a second for a megapixel, so this does not belong on an event loop.
    """
    try:
        if not _is_stored(data):
            return data
        packed = _packed(data)
        if packed[_HEADER_AT] != data[_HEADER_AT]:
            return data
        pixels = [chunk for kind, chunk in _chunks(packed) if kind == b"IDAT"]
        chunks = [memoryview(SIGNATURE)]
        for kind, chunk in _chunks(data):
            if kind != b"IDAT":
                chunks.append(chunk)
            else:
                chunks += pixels
                pixels = []
        return b"".join(chunks)
    except DECODER_ERRORS:
        # Not for the worker to judge: it returns what the node wrote.
        return data


def _packed(data: bytes) -> bytes:
    buffer = io.BytesIO()
    with Image.open(io.BytesIO(data), formats=["PNG"]) as picture:
        picture.load()
        # Else Pillow writes some of it, in its own way.
        picture.info.clear()
        picture.save(buffer, "PNG", compress_level=_COMPRESS_LEVEL)
    return buffer.getvalue()


def store(picture: Image.Image) -> bytes | None:
    """An uncompressed PNG of an RGB or RGBA picture; None when its rows are too long for it."""
    layout = Layout(*picture.size, len(picture.getbands()))
    if not layout.fits:
        return None
    pixels = np.asarray(picture)

    def fill(rows: slice, out: Bytes) -> None:
        out[:] = pixels[rows]

    return pack(layout, [], fill)


def _is_stored(data: bytes) -> bool:
    """Whether the pixels begin with a stored block and the file is as large as all of them."""
    if not data.startswith(SIGNATURE) or data[12:16] != b"IHDR":
        return False
    width, height, depth, color_type, *_, interlace = struct.unpack_from(">IIBBBBB", data, 16)
    values = _VALUES.get(color_type)
    if values is None or depth != 8 or interlace or len(data) < height * (1 + width * values):
        return False
    pixels = next((chunk for kind, chunk in _chunks(data) if kind in {b"IDAT", b"acTL"}), b"")
    # The two bits of RFC 1951's block type, after the chunk's head and zlib's. Of an animation,
    # which has pixels in other chunks too, this is another chunk.
    return bytes(pixels[4:8]) == b"IDAT" and len(pixels) > 10 and pixels[10] & 0b110 == 0


def _chunks(data: bytes) -> Iterator[tuple[bytes, memoryview]]:
    """Kind, and the whole chunk with its length and its checksum. Raises ValueError."""
    view = memoryview(data)
    at = len(SIGNATURE)
    while at < len(data):
        end = at + 12 + int.from_bytes(data[at : at + 4])
        if end > len(data):
            raise ValueError("the PNG is cut off")
        yield data[at + 4 : at + 8], view[at:end]
        at = end
