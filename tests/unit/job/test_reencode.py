import hashlib
import io
import struct
import zlib
from typing import Any

import pytest
from PIL import Image, ImageSequence
from structlog.testing import capture_logs

from handler.contract.input_types import ImageFormat
from handler.job.outputs import OutputImage
from handler.job.reencode import Encoding, reencode


def saved(picture: Image.Image, kind: str = "PNG", name: str = "a.b.png") -> OutputImage:
    buffer = io.BytesIO()
    picture.save(buffer, kind)
    data = buffer.getvalue()
    sha256 = hashlib.sha256(data).hexdigest()
    return OutputImage(
        "9", name, "deep/a.b", data, f"image/{kind.lower()}", *picture.size, sha256
    )  # fmt: skip


def opened(image: OutputImage) -> Image.Image:
    picture = Image.open(io.BytesIO(image.data))
    picture.load()
    return picture


@pytest.mark.parametrize(
    ("image_format", "name", "content_type", "kind"),
    [("webp", "a.b.webp", "image/webp", "WEBP"), ("jpeg", "a.b.jpg", "image/jpeg", "JPEG")],
)
def test_a_picture_is_in_the_format_that_was_asked_for(
    image_format: str, name: str, content_type: str, kind: str
) -> None:
    image = reencode(
        saved(Image.new("RGB", (20, 10), "red")), Encoding(ImageFormat(image_format), 90)
    )
    assert (image.filename, image.content_type, image.path) == (name, content_type, "deep/a.b")
    assert (opened(image).format, opened(image).size) == (kind, (20, 10))
    assert image.sha256 == hashlib.sha256(image.data).hexdigest()


def test_a_png_that_is_to_be_one_stays_as_it_is_to_the_last_bit() -> None:
    image = saved(Image.new("RGB", (20, 10)))
    assert reencode(image, Encoding(ImageFormat.PNG, 90)) is image


def test_another_format_becomes_png() -> None:
    image = reencode(
        saved(Image.new("RGB", (4, 4), "blue"), "WEBP", "a.webp"), Encoding(ImageFormat.PNG, 90)
    )
    assert (image.filename, opened(image).format) == ("a.png", "PNG")


def test_white_shows_through_in_jpeg() -> None:
    image = reencode(saved(Image.new("RGBA", (8, 8), (0, 0, 0, 0))), Encoding(ImageFormat.JPEG, 90))
    assert opened(image).getpixel((4, 4)) == (255, 255, 255)


def test_transparency_survives_in_webp() -> None:
    image = reencode(saved(Image.new("RGBA", (8, 8), (0, 0, 0, 0))), Encoding(ImageFormat.WEBP, 90))
    assert opened(image).getpixel((4, 4))[3] == 0


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "I;16", "CMYK", "RGBA"])
@pytest.mark.parametrize("image_format", list(ImageFormat))
def test_every_mode_can_be_written(mode: str, image_format: ImageFormat) -> None:
    kind = "TIFF" if mode == "CMYK" else "PNG"
    image = reencode(saved(Image.new(mode, (8, 8)), kind), Encoding(image_format, 50))
    assert opened(image).size == (8, 8)


@pytest.mark.parametrize("image_format", [ImageFormat.WEBP, ImageFormat.JPEG])
@pytest.mark.parametrize(("mode", "kind"), [("I;16", "PNG"), ("I;16", "TIFF"), ("I", "TIFF")])
def test_a_depth_map_of_16_bits_keeps_its_greys(
    mode: str, kind: str, image_format: ImageFormat
) -> None:
    depths = [0, 256, 20_000, 40_000, 65_535]
    row = b"".join(struct.pack("<H", depth) * 16 for depth in depths)
    depth_map = Image.frombytes("I;16", (16 * len(depths), 16), row * 16).convert(mode)
    picture = opened(reencode(saved(depth_map, kind), Encoding(image_format, 100))).convert("L")
    greys = [picture.getpixel((16 * number + 8, 8)) for number in range(len(depths))]
    assert greys == pytest.approx([round(depth / 257) for depth in depths], abs=1)


def test_values_that_no_format_holds_stay_as_they_were_saved() -> None:
    floats = saved(Image.new("F", (8, 8), 0.5), "TIFF", "a.tif")
    assert reencode(floats, Encoding(ImageFormat.WEBP, 90)) is floats
    buffer = io.BytesIO()
    pages = [Image.new("I;16", (8, 8), depth) for depth in (20_000, 40_000)]
    pages[0].save(buffer, "TIFF", save_all=True, append_images=pages[1:])
    depth_maps = OutputImage(
        "9", "a.tif", "a", buffer.getvalue(), "image/tiff", 8, 8, "0" * 64, frames=2
    )
    assert reencode(depth_maps, Encoding(ImageFormat.WEBP, 90)) is depth_maps


def png_of_16_bits(red: int, green: int, blue: int) -> bytes:
    def chunk(kind: bytes, body: bytes) -> bytes:
        crc = zlib.crc32(kind + body)
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", crc)

    header = struct.pack(">IIBBBBB", 8, 8, 16, 2, 0, 0, 0)
    rows = (b"\0" + struct.pack(">HHH", red, green, blue) * 8) * 8
    return b"".join(
        [
            b"\x89PNG\r\n\x1a\n", chunk(b"IHDR", header), chunk(b"IDAT", zlib.compress(rows)),
            chunk(b"IEND", b""),
        ]
    )  # fmt: skip


def test_colours_of_16_bits_keep_their_values() -> None:
    data = png_of_16_bits(40_000, 20_000, 10_000)
    image = OutputImage("9", "a.png", "a", data, "image/png", 8, 8, "0" * 64)
    colour = opened(reencode(image, Encoding(ImageFormat.JPEG, 100))).getpixel((4, 4))
    assert colour == pytest.approx((156, 78, 39), abs=3)


@pytest.mark.parametrize(
    ("size", "image_format"), [((16384, 1), ImageFormat.WEBP), ((1, 65501), ImageFormat.JPEG)]
)
def test_a_picture_that_is_too_large_for_the_format_stays_as_it_was_saved(
    size: tuple[int, int], image_format: ImageFormat
) -> None:
    image = saved(Image.new("RGB", size))
    with capture_logs() as logs:
        assert reencode(image, Encoding(image_format, 90)) is image
    [line] = logs
    assert line["event"] == "picture stays as it was saved"
    assert (line["filename"], line["format"]) == ("a.b.png", image_format)


@pytest.mark.parametrize(
    ("size", "image_format"), [((16383, 1), ImageFormat.WEBP), ((1, 65500), ImageFormat.JPEG)]
)
def test_a_picture_that_just_fits_the_format_is_converted(
    size: tuple[int, int], image_format: ImageFormat
) -> None:
    assert opened(reencode(saved(Image.new("RGB", size)), Encoding(image_format, 90))).size == size


def test_a_moving_picture_that_is_too_large_for_webp_stays_as_it_was_saved() -> None:
    first, second = (Image.new("RGB", (16384, 1), colour) for colour in ("red", "blue"))
    buffer = io.BytesIO()
    first.save(buffer, "GIF", save_all=True, append_images=[second], duration=50)
    image = OutputImage(
        "9", "a.gif", "a", buffer.getvalue(), "image/gif", 16384, 1, "0" * 64, frames=2
    )
    assert reencode(image, Encoding(ImageFormat.WEBP, 90)) is image


def test_less_quality_is_less_bytes() -> None:
    noise = Image.effect_noise((64, 64), 80).convert("RGB")
    small, large = (
        len(reencode(saved(noise), Encoding(ImageFormat.WEBP, quality)).data)
        for quality in (10, 95)
    )
    assert small < large


TIMES_MS = [40, 90, 140]


def moving(kind: str, mode: str = "RGB", **more: Any) -> OutputImage:
    first, *others = [Image.new(mode, (16, 8), colour) for colour in ("red", "green", "blue")]
    buffer = io.BytesIO()
    first.save(buffer, kind, save_all=True, append_images=others, duration=TIMES_MS, **more)
    data = buffer.getvalue()
    return OutputImage(
        "9", f"a.{kind.lower()}", "a", data, f"image/{kind.lower()}", 16, 8, "0" * 64, frames=3
    )


def frames_of(image: OutputImage) -> tuple[list[int], list[Any]]:
    """How long each is shown, and its colour."""
    times, colours = [], []
    with Image.open(io.BytesIO(image.data)) as picture:
        for frame in ImageSequence.Iterator(picture):
            colours.append(frame.convert("RGB").getpixel((8, 4)))
            times.append(frame.info["duration"])
    return times, colours


@pytest.mark.parametrize("kind", ["PNG", "GIF", "WEBP"])
def test_a_moving_picture_keeps_moving_in_webp(kind: str) -> None:
    more = {"lossless": True, "exif": Image.Exif()} if kind == "WEBP" else {}
    image = reencode(moving(kind, **more), Encoding(ImageFormat.WEBP, 90))
    assert (image.filename, image.content_type, image.frames) == ("a.webp", "image/webp", 3)
    assert image.sha256 == hashlib.sha256(image.data).hexdigest()
    times, colours = frames_of(image)
    assert times == TIMES_MS
    for colour, strong in zip(colours, (0, 1, 2), strict=True):
        assert colour.index(max(colour)) == strong


@pytest.mark.parametrize(("loops", "shown"), [({"loop": 0}, 0), ({}, 1)])
def test_a_gif_that_plays_once_plays_once(loops: dict[str, int], shown: int) -> None:
    image = reencode(moving("GIF", **loops), Encoding(ImageFormat.WEBP, 90))
    assert opened(image).info["loop"] == shown


def test_transparent_frames_stay_so() -> None:
    clear, red = Image.new("RGBA", (8, 8)), Image.new("RGBA", (8, 8), "red")
    buffer = io.BytesIO()
    red.save(buffer, "PNG", save_all=True, append_images=[clear], duration=50, blend=0)
    image = OutputImage("9", "a.png", "a", buffer.getvalue(), "image/apng", 8, 8, "0", frames=2)
    picture = opened(reencode(image, Encoding(ImageFormat.WEBP, 90)))
    picture.seek(1)
    assert picture.convert("RGBA").getpixel((4, 4))[3] == 0


@pytest.mark.parametrize("kind", ["PNG", "GIF", "WEBP"])
@pytest.mark.parametrize("image_format", [ImageFormat.PNG, ImageFormat.JPEG])
def test_a_moving_picture_is_never_made_a_still_one(kind: str, image_format: ImageFormat) -> None:
    image = moving(kind)
    assert reencode(image, Encoding(image_format, 90)) is image


def test_the_workflow_does_not_survive_in_a_moving_picture() -> None:
    exif = Image.Exif()
    exif[0x0110] = "prompt: the workflow"
    image = moving("WEBP", exif=exif)
    assert b"the workflow" in image.data
    assert b"the workflow" not in reencode(image, Encoding(ImageFormat.WEBP, 90)).data


@pytest.mark.parametrize("image_format", [ImageFormat.WEBP, ImageFormat.JPEG])
def test_a_profile_of_colours_that_the_picture_no_longer_has_is_not_put_on_it(
    image_format: ImageFormat,
) -> None:
    buffer = io.BytesIO()
    Image.new("CMYK", (8, 8)).save(buffer, "JPEG", icc_profile=b"of CMYK")
    image = OutputImage("9", "a.jpg", "a", buffer.getvalue(), "image/tiff", 8, 8, "")
    again = reencode(image, Encoding(image_format, 90))
    with Image.open(io.BytesIO(again.data)) as picture:
        assert not picture.info.get("icc_profile")
