"""What can be told of an edited picture without an eye. Pure: bytes and pictures in, findings out.

A sampler that met NaN leaves a black picture, an attention kernel that is wrong often noise, a VAE
that is wrong one colour or a grid. Whether the edit is the one that was asked for, only an eye
can tell. Levels are 0 to 255.
"""

import io
from dataclasses import dataclass

from PIL import Image, ImageChops, ImageFilter, ImageStat

# A night scene has a mean of 10 to 30; this is for what is all but black.
_LEAST_MEAN = 4.0
# Of the luminance's deviation; one colour with an encoder's noise stays below.
_LEAST_DEVIATION = 6.0
# Mean difference to the picture blurred by 2 pixels, as a share of the deviation: it does not
# depend on how bright the picture is. A gradient has none, the example photo 3.7 %.
_LEAST_DETAIL = 0.01
_BLOCK = 32
# Share of the deviation that is left of the means of blocks. Of noise and of grids that repeat
# within a block nothing is left, of noise in cells of a latent 0.3, of the example photo 0.9.
_LEAST_COARSE = 0.5
_MOST_FLAT_BLOCKS = 0.9
_FLAT_DEVIATION = 1.0
# The VAE alone changes more.
_LEAST_CHANGE = 1.0
# Kernels that add in another order each time change last digits, which a few steps amplify; the
# same picture is still nearer than what another seed makes.
_MOST_OF_OTHER_SEED = 0.1


@dataclass(frozen=True, slots=True)
class Finding:
    what: str
    is_right: bool
    seen: str


def decode(data: bytes) -> Image.Image:
    """The whole picture as RGB. Raises OSError when it is cut off or none."""
    try:
        with Image.open(io.BytesIO(data)) as picture:
            return picture.convert("RGB")
    except (SyntaxError, ValueError) as exc:  # what Pillow raises for some broken PNGs
        raise OSError(str(exc)) from exc


def check_picture(data: bytes, size: tuple[int, int], source: Image.Image) -> list[Finding]:
    """`source` is the picture that was edited, of the same proportions as `size`."""
    try:
        picture = decode(data)
    except OSError as exc:
        return [Finding("it decodes", False, str(exc))]
    shown = f"{picture.width} x {picture.height}"
    findings = [
        Finding("it decodes", True, f"{len(data)} bytes"),
        Finding(f"it is {size[0]} x {size[1]}", picture.size == size, shown),
    ]
    return findings + _content(picture) + [_change(picture, source)]


def check_repeat(first: Image.Image, again: Image.Image, other: Image.Image) -> list[Finding]:
    """`again` is of the same seed as `first`, `other` of another."""
    far = mean_difference(first, other)
    findings = [Finding("another seed gives another picture", far > 0, f"{far:.3f} levels away")]
    near = mean_difference(first, again)
    if near == 0:
        return [*findings, Finding("the same seed gives the same picture", True, "every pixel")]
    largest = max(high for _, high in ImageStat.Stat(ImageChops.difference(first, again)).extrema)
    seen = f"{near:.3f} levels away, at most {largest}; another seed: {far:.3f}"
    return [
        *findings,
        Finding("the same seed gives nearly the same", near <= _MOST_OF_OTHER_SEED * far, seen),
    ]


def mean_difference(one: Image.Image, other: Image.Image) -> float:
    """In levels, over all pixels and channels; 255 for pictures of different sizes."""
    if one.size != other.size:
        return 255.0
    means = ImageStat.Stat(ImageChops.difference(one, other)).mean
    return sum(means) / len(means)


def beside(one: Image.Image, other: Image.Image) -> Image.Image:
    """Both in one picture, of the second's height."""
    left = one.resize((max(1, one.width * other.height // one.height), other.height))
    both = Image.new("RGB", (left.width + other.width, other.height))
    both.paste(left, (0, 0))
    both.paste(other, (left.width, 0))
    return both


def _content(picture: Image.Image) -> list[Finding]:
    grey = picture.convert("L")
    mean, deviation = _mean(grey), _deviation(grey)
    blurred = ImageChops.difference(grey, grey.filter(ImageFilter.BoxBlur(2)))
    detail = _mean(blurred) / deviation if deviation else 0.0
    coarse = _deviation(grey.reduce(_BLOCK)) / deviation if deviation else 0.0
    flat = _flat_share(grey)
    return [
        Finding("it is not black", mean >= _LEAST_MEAN, f"mean level {mean:.1f}"),
        Finding(
            "it is not one colour", deviation >= _LEAST_DEVIATION, f"deviation {deviation:.1f}"
        ),
        Finding("it has detail", detail >= _LEAST_DETAIL, f"{detail:.1%}"),
        Finding("it is no noise or grid", coarse >= _LEAST_COARSE, f"{coarse:.0%} is coarse"),
        Finding("it is not made of flat blocks", flat <= _MOST_FLAT_BLOCKS, f"{flat:.0%} are"),
    ]


def _change(picture: Image.Image, source: Image.Image) -> Finding:
    resized = source.convert("RGB").resize(picture.size, Image.Resampling.LANCZOS)
    change = mean_difference(picture, resized)
    return Finding("it is not the input", change >= _LEAST_CHANGE, f"{change:.1f} levels away")


def _flat_share(grey: Image.Image) -> float:
    """Of the blocks, the share that has one level."""
    corners = [
        (x, y)
        for y in range(0, grey.height - _BLOCK + 1, _BLOCK)
        for x in range(0, grey.width - _BLOCK + 1, _BLOCK)
    ]
    blocks = (grey.crop((x, y, x + _BLOCK, y + _BLOCK)) for x, y in corners)
    flat = sum(_deviation(block) < _FLAT_DEVIATION for block in blocks)
    return flat / max(1, len(corners))


def _mean(grey: Image.Image) -> float:
    return float(ImageStat.Stat(grey).mean[0])


def _deviation(grey: Image.Image) -> float:
    return float(ImageStat.Stat(grey).stddev[0])
