import base64
import contextlib
import io
import struct
import zlib
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import ExifTags, Image

from handler.errors import InvalidImage
from handler.pictures.images import ImageLimits, InputImage, decode_image

LIMITS = ImageLimits(count=4, data_bytes=200_000, pixels=1_000_000)
UNCOMPRESSED = replace(LIMITS, uncompressed_pixels=24 * 16)


def encoded(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")


def saved(kind: str, mode: str = "RGB", size: tuple[int, int] = (24, 16), **options: Any) -> bytes:
    """A picture in which neighbours differ, so that a cut or a flipped bit has something to hit."""
    picture = Image.linear_gradient("L").resize(size).convert(mode)
    buffer = io.BytesIO()
    picture.save(buffer, kind, **options)
    return buffer.getvalue()


TURNED = Image.Exif()
TURNED[ExifTags.Base.Orientation] = 6
TURNED[ExifTags.Base.Software] = "a camera"


def animated(kind: str, frames: int, size: tuple[int, int]) -> bytes:
    pictures = [Image.new("RGB", size, (index * 10, 0, 0)) for index in range(frames)]
    buffer = io.BytesIO()
    pictures[0].save(buffer, kind, save_all=True, append_images=pictures[1:])
    return buffer.getvalue()


def png_of(*chunks: tuple[bytes, bytes]) -> bytes:
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))
        for name, body in (*chunks, (b"IEND", b""))
    )


def one_bit_header(width: int, height: int) -> tuple[bytes, bytes]:
    return b"IHDR", struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)


def decode(text: str, limits: ImageLimits = LIMITS) -> InputImage:
    return decode_image("photo.png", text, "input.images[0]", limits)


def fault_of(text: str, limits: ImageLimits = LIMITS) -> InvalidImage:
    with pytest.raises(InvalidImage) as caught:
        decode(text, limits)
    return caught.value


PNG, JPEG, WEBP = saved("PNG"), saved("JPEG"), saved("WEBP", lossless=True)


@pytest.mark.parametrize(
    ("data", "extension"), [(PNG, "png"), (JPEG, "jpg"), (WEBP, "webp")], ids=["png", "jpg", "webp"]
)
def test_a_picture_comes_out_as_it_went_in(data: bytes, extension: str) -> None:
    assert decode(encoded(data)) == InputImage("photo.png", data, extension, 24, 16)


def test_the_extension_is_that_of_the_content_and_not_of_the_name() -> None:
    image = decode_image("photo.png", encoded(JPEG), "input.images[0]", LIMITS)
    assert (image.name, image.extension) == ("photo.png", "jpg")


@pytest.mark.parametrize(
    ("kind", "mode", "options"),
    [
        ("PNG", "I;16", {}),
        ("PNG", "P", {}),
        ("PNG", "P", {"transparency": 0}),
        ("PNG", "1", {}),
        ("PNG", "LA", {}),
        ("PNG", "RGBA", {}),
        ("JPEG", "CMYK", {}),
        ("JPEG", "L", {}),
        ("JPEG", "RGB", {"progressive": True}),
        ("WEBP", "RGBA", {}),
        ("WEBP", "RGB", {"quality": 50}),
    ],
)
def test_every_mode_of_the_three_formats_is_accepted(
    kind: str, mode: str, options: dict[str, Any]
) -> None:
    image = decode(encoded(saved(kind, mode, **options)))
    assert (image.width, image.height) == (24, 16)


def test_every_fault_names_the_entry_and_the_picture() -> None:
    fault = fault_of("!")
    assert fault.message.startswith("input.images[0] ('photo.png'): ")
    assert fault.details == {"where": "input.images[0]", "name": "photo.png"}


@pytest.mark.parametrize(
    "text",
    [
        "this is not an image!!",
        encoded(PNG) + "!",
        encoded(PNG)[:-1] + " ",
        " " + encoded(PNG),
        "A" * 17,
        "QUJDQ",
        "QUI",
        "QQ=",
        "QUI=QUI=",
        "Kätzchen",
        "\ud800",
        encoded(b"\xff\xfe\xfd").replace("/", "_").replace("+", "-"),
    ],
)
def test_what_is_not_strict_base64_is_refused(text: str) -> None:
    assert "is not base64" in fault_of(text).message


@pytest.mark.parametrize("line_break", ["\n", "\r\n"])
def test_base64_wrapped_into_lines_is_accepted(line_break: str) -> None:
    wrapped = line_break.join(base64.encodebytes(PNG).decode("ascii").split("\n"))
    assert decode(wrapped).data == PNG


@pytest.mark.parametrize(
    "header",
    [
        "data:image/png;base64,",
        "data:;base64,",
        "data:image/png;charset=utf-8;base64,",
        # The bytes decide, whatever the header says.
        "data:image/jpeg;base64,",
        "data:application/octet-stream;base64,",
    ],
)
def test_a_data_uri_is_accepted(header: str) -> None:
    assert decode(header + encoded(PNG)).data == PNG


@pytest.mark.parametrize(
    "text",
    [
        "data:image/png," + encoded(PNG),
        "data:image/png;base64" + encoded(PNG),
        "data:image/png;" + "x" * 5_000_000 + ";base64," + encoded(PNG),
        "data:" + ";" * 5_000_000,
        "data:",
    ],
    ids=["no base64", "no comma", "huge header", "only semicolons", "nothing else"],
)
def test_a_data_uri_that_is_not_base64_is_refused_with_an_example(text: str) -> None:
    fault = fault_of(text)
    assert "send data:image/png;base64,..." in fault.message
    assert len(fault.message) < 200


@pytest.mark.parametrize("text", ["data:image/png;base64,", "\n", ""])
def test_a_picture_without_bytes_is_called_empty(text: str) -> None:
    assert "is empty" in fault_of(text).message


@pytest.mark.parametrize(
    ("data", "what"),
    [
        (saved("GIF", "P"), "is a GIF"),
        (saved("BMP"), "is a BMP"),
        (saved("TIFF"), "is a TIFF"),
        (b"%PDF-1.7\n%\xe2\xe3", "is a PDF"),
        (b"<!DOCTYPE html><html>", "is an HTML page"),
        (b"\n<!doctype html>\n<html>", "is an HTML page"),
        (b"<html><body>404</body></html>", "is an HTML page"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "is an SVG"),
        (b"PK\x03\x04" + b"\0" * 30, "is a ZIP archive"),
        (b"https://example.com/photo.png", "is an address"),
        (b"a note that somebody called photo.png", "is a text"),
        (b"two lines\r\nof text", "is a text"),
        (b"\x00\x01\x02\x03", "is no picture that is known here"),
        (b"RIFF\x10\x00\x00\x00WAVEfmt ", "is no picture that is known here"),
    ],
)
def test_another_format_is_named_with_what_to_send_instead(data: bytes, what: str) -> None:
    message = fault_of(encoded(data)).message
    assert what in message
    assert "send PNG, JPEG or WebP" in message


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP"])
@pytest.mark.parametrize("kept", [0.4, 0.7, 0.95])
def test_a_truncated_picture_is_refused_by_the_name_of_its_format(kind: str, kept: float) -> None:
    whole = saved(kind, size=(200, 200))
    cut = whole[: int(len(whole) * kept)]
    assert f"the {kind} is broken or truncated" in fault_of(encoded(cut)).message


@pytest.mark.parametrize(
    "data",
    [b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff\xe0", b"RIFF\x00\x00\x00\x00WEBP"],
    ids=["png", "jpg", "webp"],
)
def test_a_bare_signature_is_refused_without_naming_objects_of_python(data: bytes) -> None:
    message = fault_of(encoded(data)).message
    assert "is broken or truncated" in message
    assert "BytesIO" not in message


def test_a_picture_of_just_the_byte_limit_is_accepted_and_of_one_more_refused() -> None:
    def limit(data_bytes: int) -> ImageLimits:
        return ImageLimits(count=1, data_bytes=data_bytes, pixels=LIMITS.pixels)

    data = PNG + b"\0" * (-len(PNG) % 3)
    assert decode(encoded(data), limit(len(data))).data == data
    fault = fault_of(encoded(data), limit(len(data) - 1))
    assert f"{len(data)} bytes is over the limit of {len(data) - 1} bytes" in fault.message
    assert fault.details["limit_bytes"] == len(data) - 1


def test_far_too_long_a_text_is_refused_before_it_is_decoded() -> None:
    # 100 MB of what is no base64 at all: only a check that comes first can speak of the size.
    fault = fault_of("!" * 100_000_000)
    assert "about 75000000 bytes is over the limit of 200000 bytes" in fault.message


def test_a_picture_of_just_the_pixel_limit_is_accepted_and_of_one_more_refused() -> None:
    def limit(pixels: int) -> ImageLimits:
        return ImageLimits(count=1, data_bytes=LIMITS.data_bytes, pixels=pixels)

    assert decode(encoded(PNG), limit(24 * 16)).width == 24
    fault = fault_of(encoded(PNG), limit(24 * 16 - 1))
    assert "24 x 16 pixels in 1 frame(s) is over the limit of 383 pixels" in fault.message
    assert fault.details["limit_pixels"] == 383


def test_a_bomb_of_a_few_kilobytes_is_refused_by_its_size() -> None:
    side = 16_000
    rows = zlib.compress(b"\0" * ((side // 8 + 1) * side), 9)
    bomb = png_of(one_bit_header(side, side), (b"IDAT", rows))
    assert len(bomb) < 40_000
    fault = fault_of(encoded(bomb))
    assert (fault.details["width"], fault.details["height"]) == (side, side)


def test_a_picture_that_is_too_large_is_refused_before_it_is_unpacked() -> None:
    # Its rows are not there: had it been unpacked, it would be called broken.
    bomb = png_of(one_bit_header(60_000, 60_000), (b"IDAT", zlib.compress(b"\0" * 1000)))
    assert "60000 x 60000 pixels" in fault_of(encoded(bomb)).message


def test_a_compressed_text_that_unpacks_to_megabytes_is_refused() -> None:
    body = b"Comment\0\0" + zlib.compress(b"x" * 20_000_000, 9)
    row = zlib.compress(b"\0\0")
    bomb = png_of(one_bit_header(1, 1), (b"zTXt", body), (b"IDAT", row))
    assert "is broken or truncated" in fault_of(encoded(bomb)).message


@pytest.mark.parametrize("kind", ["PNG", "WEBP"])
def test_the_frames_of_an_animation_count_together(kind: str) -> None:
    data = animated(kind, frames=20, size=(40, 40))
    assert decode(encoded(data)).width == 40
    tight = ImageLimits(count=1, data_bytes=LIMITS.data_bytes, pixels=19 * 40 * 40)
    fault = fault_of(encoded(data), tight)
    assert "40 x 40 pixels in 20 frame(s)" in fault.message
    assert fault.details["frames"] == 20


@pytest.mark.parametrize("kind", ["PNG", "WEBP"])
def test_an_animation_that_ends_within_its_second_frame_is_refused(kind: str) -> None:
    first, second = saved(kind, size=(64, 64)), animated(kind, frames=2, size=(64, 64))
    assert decode(encoded(first)).width == 64
    assert f"the {kind} is broken" in fault_of(encoded(second[:-30])).message


def decoded_or_refused(text: str) -> None:
    with contextlib.suppress(InvalidImage):
        image = decode(text, UNCOMPRESSED)
        assert image.width * image.height <= LIMITS.pixels


@settings(deadline=None)  # a busy machine is no fault
@given(
    st.one_of(
        st.text(alphabet=st.characters(exclude_categories=()), max_size=80),
        st.text(alphabet="ABCabc019+/=\r\n", max_size=80),
        st.text(alphabet="dat:;,base64image/pngAQ=", max_size=60).map("data:".__add__),
    )
)
def test_any_text_is_a_picture_or_invalid_image(text: str) -> None:
    decoded_or_refused(text)


@settings(deadline=None)  # a busy machine is no fault
@given(
    st.sampled_from([b"", PNG[:8], PNG[:33], JPEG[:3], JPEG[:20], b"RIFF\x20\0\0\0WEBPVP8 "]),
    st.binary(max_size=200),
)
def test_any_bytes_are_a_picture_or_invalid_image(start: bytes, rest: bytes) -> None:
    decoded_or_refused(encoded(start + rest))


SEEDS = [
    PNG,
    saved("PNG", "P", transparency=0),
    saved("PNG", "I;16"),
    JPEG,
    saved("JPEG", "CMYK", progressive=True),
    saved("JPEG", exif=TURNED),
    WEBP,
    saved("WEBP"),
    animated("WEBP", 3, (8, 8)),
]


@pytest.mark.filterwarnings("ignore::UserWarning")  # Pillow's, of EXIF data that it mends
@settings(max_examples=400, deadline=None)  # a busy machine is no fault
@given(st.data())
def test_a_damaged_picture_is_a_picture_or_invalid_image(data: st.DataObject) -> None:
    damaged = bytearray(data.draw(st.sampled_from(SEEDS)))
    for _ in range(data.draw(st.integers(0, 5), label="flips")):
        bit = data.draw(st.integers(0, len(damaged) * 8 - 1), label="bit")
        damaged[bit // 8] ^= 1 << bit % 8
    end = data.draw(st.integers(1, len(damaged)), label="end")
    if data.draw(st.booleans(), label="is cut"):
        del damaged[end:]
    decoded_or_refused(encoded(bytes(damaged)))


def test_a_picture_up_to_the_limit_is_kept_uncompressed_too() -> None:
    image = decode(encoded(JPEG), UNCOMPRESSED)
    assert image.data == JPEG
    assert image.for_comfy is not None
    with (
        Image.open(io.BytesIO(JPEG)) as sent,
        Image.open(io.BytesIO(image.for_comfy), formats=["PNG"]) as kept,
    ):
        assert kept.tobytes() == sent.tobytes()


@pytest.mark.parametrize(
    "data",
    [saved("PNG", size=(25, 16)), animated("WEBP", 2, (8, 8))],
    ids=["one pixel column more", "two frames"],
)
def test_a_larger_or_moving_picture_is_kept_as_it_was_sent_only(data: bytes) -> None:
    assert decode(encoded(data), UNCOMPRESSED).for_comfy is None


def test_exif_data_that_can_not_be_written_anew_do_not_refuse_a_picture() -> None:
    """Turning a picture upright does that. LoadImage fails on it too, and says so."""
    orientation = struct.pack("<HHIHH", ExifTags.Base.Orientation, 3, 1, 6, 0)
    text_for_a_number = struct.pack("<HHI4s", ExifTags.Base.StripOffsets, 2, 4, b"abc")
    entries = struct.pack("<H", 2) + orientation + text_for_a_number + bytes(4)
    data = saved("JPEG", exif=b"Exif\0\0II*\0" + struct.pack("<I", 8) + entries)
    image = decode(encoded(data), UNCOMPRESSED)
    assert (image.width, image.height, image.for_comfy) == (16, 24, None)
