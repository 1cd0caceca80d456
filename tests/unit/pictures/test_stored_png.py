import io
import struct
import zlib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import ExifTags, Image
from PIL.PngImagePlugin import PngInfo

from handler.pictures.stored_png import compress, for_load_image

SIZE = (70, 300)


def gradient(mode: str) -> Image.Image:
    return Image.linear_gradient("L").resize(SIZE).convert(mode)


def saved(picture: Image.Image, compress_level: int, **options: Any) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, "PNG", compress_level=compress_level, **options)
    return buffer.getvalue()


def texts() -> PngInfo:
    info = PngInfo()
    info.add_text("prompt", '{"1": {}}')
    info.add_text("workflow", "x" * 100_000)
    info.add_itxt("Ä", "€")
    return info


def with_chunk(data: bytes, kind: bytes, body: bytes, before: bytes) -> bytes:
    at = data.index(before) - 4
    chunk = struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
    return data[:at] + chunk + data[at:]


@pytest.mark.parametrize("mode", ["L", "LA", "RGB", "RGBA"])
def test_a_stored_png_becomes_the_file_that_level_4_gives(mode: str) -> None:
    picture = gradient(mode)
    packed = saved(picture, 4, pnginfo=texts())
    assert compress(saved(picture, 0, pnginfo=texts())) == packed


def test_chunks_of_every_kind_stay_where_they_are() -> None:
    data = saved(gradient("RGB"), 0, pnginfo=texts(), dpi=(72, 72), icc_profile=b"profile")
    data = with_chunk(data, b"tEXt", b"after\0the pixels", before=b"IEND")
    data = with_chunk(data, b"prVt", b"private", before=b"IDAT")
    packed = compress(data)
    assert len(packed) < len(data)
    start, end = data.index(b"IDAT") - 4, data.rindex(b"tEXt") - 4
    assert packed.startswith(data[:start])
    assert packed.endswith(data[end:])
    with Image.open(io.BytesIO(packed)) as picture:
        picture.verify()
    with Image.open(io.BytesIO(packed)) as picture:
        assert picture.tobytes() == gradient("RGB").tobytes()


def test_pixels_in_several_chunks_are_joined() -> None:
    picture = Image.effect_noise((900, 900), 90)
    data = saved(picture, 0)
    assert data.count(b"IDAT") > 1
    assert compress(data) == saved(picture, 4)


STORED = saved(gradient("RGB"), 0)


@pytest.mark.parametrize(
    "data",
    [
        saved(gradient("RGB"), 1),
        saved(gradient("RGB").quantize(), 0),
        saved(gradient("L").convert("I;16"), 0),
        saved(gradient("RGB"), 0, save_all=True, append_images=[gradient("L").convert("RGB")]),
        STORED[: len(STORED) // 2],
        STORED[:-12] + b"\xff\xff\xff\xff",
        STORED[:20],
        STORED.replace(b"IDAT", b"IDOT"),
        b"\xff\xd8\xff a JPEG",
        b"",
    ],
    ids=["compressed", "palette", "16 bits", "animation", "half", "broken end", "no header",
         "no pixels", "jpeg", "nothing"],
)  # fmt: skip
def test_anything_else_is_left_as_it_is(data: bytes) -> None:
    assert compress(data) is data


@given(at=st.integers(0, 120), value=st.integers(0, 255), cut=st.integers(0, len(STORED)))
def test_broken_files_raise_nothing(at: int, value: int, cut: int) -> None:
    broken = bytearray(STORED[:cut])
    if at < len(broken):
        broken[at] = value
    assert isinstance(compress(bytes(broken)), bytes)


@pytest.mark.parametrize("mode", ["L", "LA", "P", "RGB", "RGBA"])
def test_what_is_stored_for_load_image_is_a_whole_png(mode: str) -> None:
    picture = gradient(mode)
    data = for_load_image(picture)
    assert data is not None
    assert len(data) > SIZE[0] * SIZE[1] * 3
    with Image.open(io.BytesIO(data)) as stored:
        stored.verify()
    with Image.open(io.BytesIO(data)) as stored:
        assert stored.convert("RGBA").tobytes() == picture.convert("RGBA").tobytes()


def test_what_is_stored_for_load_image_stands_upright() -> None:
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    with Image.open(io.BytesIO(saved(gradient("RGB"), 1, exif=exif))) as picture:
        data = for_load_image(picture)
    assert data is not None
    with Image.open(io.BytesIO(data)) as stored:
        assert stored.size == SIZE[::-1]
        assert not stored.getexif()


@pytest.mark.parametrize("mode", ["1", "I;16", "CMYK"])
def test_modes_that_load_image_treats_in_its_own_way_are_not_stored(mode: str) -> None:
    assert for_load_image(gradient("L").convert(mode)) is None
