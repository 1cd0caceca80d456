"""Small files that cost their reader far more than their size suggests, and the forms in which
phones and programs write ordinary pictures. Generators, so that no such file is kept."""

import io
import struct
import zlib
from typing import Any

from PIL import Image, ImageCms

Size = tuple[int, int]


def saved(picture: Image.Image, kind: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, kind, **options)
    return buffer.getvalue()


def gradient(mode: str = "RGB", size: Size = (64, 48)) -> Image.Image:
    return Image.linear_gradient("L").resize(size).convert(mode)


def png_chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def empty_png(size: Size, *more: bytes, depth: int = 8, color: int = 0) -> bytes:
    """All zeros, a thousandth of its pixels in bytes; `more` are chunks before the pixels."""
    width, height = size
    values = {0: 1, 2: 3, 4: 2, 6: 4}[color]
    row = b"\0" * (1 + (width * values * depth + 7) // 8)
    packer, rows = zlib.compressobj(6), bytearray()
    for _ in range(height):
        rows += packer.compress(row)
    rows += packer.flush()
    header = struct.pack(">IIBBBBB", width, height, depth, color, 0, 0, 0)
    chunks = [png_chunk(b"IHDR", header), *more, png_chunk(b"IDAT", bytes(rows))]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks) + png_chunk(b"IEND", b"")


def display_p3() -> bytes:
    """A profile of wider colours than sRGB, made of sRGB's own by another name and its primaries
    swapped: only that it is not sRGB counts."""
    profile = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    count = struct.unpack_from(">I", profile, 128)[0]
    tags = {
        bytes(profile[at : at + 4]): at for at in (132 + 12 * number for number in range(count))
    }
    red, green = tags[b"rXYZ"], tags[b"gXYZ"]
    profile[red + 4 : red + 12], profile[green + 4 : green + 12] = (
        profile[green + 4 : green + 12],
        profile[red + 4 : red + 12],
    )
    return bytes(profile).replace("sRGB".encode("utf-16-be"), "P3P3".encode("utf-16-be"))


def profile_chunk() -> bytes:
    """For a PNG."""
    return png_chunk(b"iCCP", b"P3\0\0" + zlib.compress(display_p3()))


def jpeg_of_many_scans(scans: int, size: Size = (2048, 2048)) -> bytes:
    """A progressive JPEG that refines nothing, over and over: 20 bytes a scan."""
    data = saved(Image.new("L", size), "JPEG", progressive=True)
    last = data.rindex(b"\xff\xda")
    return data[:last] + data[last:-2] * scans + b"\xff\xd9"


def mpo(first: Image.Image, second: Image.Image) -> bytes:
    """As a phone writes it."""
    return saved(first, "MPO", save_all=True, append_images=[second])


def mpo_with_a_huge_second(size: Size) -> bytes:
    """Its second frame says in its header that it is of `size`, and holds next to nothing."""
    data = bytearray(mpo(gradient(), gradient()))
    frame = data.rindex(b"\xff\xc0")
    data[frame + 5 : frame + 9] = struct.pack(">HH", size[1], size[0])
    return bytes(data)


def webp_of_a_huge_canvas(size: Size) -> bytes:
    """An animation whose only frame is small."""
    frames = [gradient(), gradient().transpose(Image.Transpose.FLIP_TOP_BOTTOM)]
    data = bytearray(saved(frames[0], "WEBP", save_all=True, append_images=frames[1:]))
    for at, side in ((24, size[0]), (27, size[1])):
        data[at : at + 3] = (side - 1).to_bytes(3, "little")
    return bytes(data)


def apng_of_many_frames(frames: int) -> bytes:
    """One pixel each."""
    control = struct.pack(">IIIIIHHBB", 0, 1, 1, 0, 0, 1, 1, 0, 0)
    data = bytearray(empty_png((1, 1), png_chunk(b"acTL", struct.pack(">II", frames, 0)),
                               png_chunk(b"fcTL", control)))  # fmt: skip
    pixel = zlib.compress(b"\0\0")
    more = b"".join(
        png_chunk(b"fcTL", struct.pack(">I", 2 * number - 1) + control[4:])
        + png_chunk(b"fdAT", struct.pack(">I", 2 * number) + pixel)
        for number in range(1, frames)
    )
    return bytes(data[:-12]) + more + bytes(data[-12:])
