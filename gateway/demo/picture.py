"""What the demo draws: so that everybody sees where an edit would be, and that it is none. Pure."""

import colorsys
import io
from dataclasses import dataclass

from PIL import Image, ImageDraw, ImageFont, ImageOps

from handler.pictures import (
    Box,
    Mask,
    Photo,
    changed_outside,
    cut,
    paste,
    read_mask,
    read_photo,
)

WORD = "DEMO"
_STRIPES = 12
_FORMATS = {"png": "PNG", "jpeg": "JPEG", "webp": "WEBP"}


@dataclass(frozen=True, slots=True)
class Drawn:
    """`changed_outside` is counted in `data`; None without a mask, or in a lossy format."""

    data: bytes
    width: int
    height: int
    changed_outside: int | None


def draw(
    photo_data: bytes,
    mask_data: bytes | None,
    *,
    seed: int,
    ratio: str | None = None,
    encoding: str = "png",
    quality: int = 90,
) -> Drawn:
    """The photo in its own size (with `ratio` the middle of it), its white turned to the seed's
    colour under stripes and the word, where the mask allows that. Takes seconds for a large photo.
    Raises handler.errors.InvalidImage."""
    photo = read_photo(photo_data)
    mask = read_mask(mask_data, photo.size) if mask_data is not None else None
    if ratio is not None:
        rows, columns = _middle(photo.size, ratio)
        photo = photo.part(rows, columns)
        mask = mask[rows, columns] if mask is not None else None
    width, height = photo.size
    result = _whole(photo, seed) if mask is None else _within(photo, mask, seed)
    if encoding == "png":
        data = result.as_png()
    else:
        buffer = io.BytesIO()
        result.as_rgb().save(buffer, _FORMATS[encoding], quality=quality)
        data = buffer.getvalue()
    if mask is None or encoding != "png":
        return Drawn(data, width, height, None)
    return Drawn(data, width, height, changed_outside(photo, read_photo(data), mask))


def _whole(photo: Photo, seed: int) -> Photo:
    drawn = _over(photo.as_rgb(), Box(0, 0, *photo.size), seed)
    return Photo.of(drawn, photo.icc_profile)


def _within(photo: Photo, mask: Mask, seed: int) -> Photo:
    piece = cut(photo, mask)
    area = Image.fromarray(piece.mask).getbbox()
    # A mask of which a ratio left nothing is empty, and `cut` has said so.
    assert area is not None
    patch = Photo.of(_over(piece.crop.as_rgb(), Box(*area), seed))
    return paste(photo, patch, mask, piece.box).photo


def _over(picture: Image.Image, area: Box, seed: int) -> Image.Image:
    """`area` is where the stripes are centred on, and the word is."""
    light, dark = _colors(seed)
    result = ImageOps.colorize(picture.convert("L"), dark, light)
    veil = Image.new("L", picture.size, 0)
    brush = ImageDraw.Draw(veil)
    width, height = area.size
    step = max(4, (width + height) // _STRIPES)
    for left in range(area.left - height - step, area.right + step, 2 * step):
        corners = [
            (left, area.bottom), (left + height, area.top),
            (left + height + step, area.top), (left + step, area.bottom),
        ]  # fmt: skip
        brush.polygon(corners, fill=110)
    result.paste("white", mask=veil)
    size = max(4, min(width // 3, height // 2))
    middle = (area.left + width / 2, area.top + height / 2)
    ImageDraw.Draw(result).text(
        middle, WORD, dark, ImageFont.load_default(size), anchor="mm",
        stroke_width=max(1, size // 12), stroke_fill="white",
    )  # fmt: skip
    return result


def _colors(seed: int) -> tuple[tuple[int, int, int], tuple[int, int, int]]:
    """Of seeds side by side, hues far apart."""
    hue = seed * 0.618034 % 1

    def color(saturation: float, value: float) -> tuple[int, int, int]:
        red, green, blue = colorsys.hsv_to_rgb(hue, saturation, value)
        return round(red * 255), round(green * 255), round(blue * 255)

    return color(0.55, 1), color(0.9, 0.35)


def _middle(size: tuple[int, int], ratio: str) -> tuple[slice, slice]:
    wide, high = map(int, ratio.split(":"))
    width, height = size
    new_width = max(1, min(width, round(height * wide / high)))
    new_height = max(1, min(height, round(width * high / wide)))
    left, top = (width - new_width) // 2, (height - new_height) // 2
    return slice(top, top + new_height), slice(left, left + new_width)
