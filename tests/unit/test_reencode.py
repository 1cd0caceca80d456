import hashlib
import io
from typing import Any

import pytest
from PIL import Image, ImageSequence

from handler.input_types import ImageFormat
from handler.output_file import OutputImage
from handler.reencode import Encoding, reencode


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
