import hashlib
import io

import pytest
from PIL import Image

from handler.job_folder import OutputImage
from handler.reencode import Encoding, ImageFormat, reencode


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
