"""The sizes at which pictures are sampled, and which part of a photo has a ratio."""

import math
from typing import NamedTuple

from handler.contract import Ratio

# What the model was trained on, in pixels; above it, what it draws is reported to drift and zoom
# (QwenLM/Qwen-Image issue 160).
_MEGAPIXEL = 1024 * 1024
# The VAE's 8 pixels a latent, and the model's 2 latents a patch: other sizes are padded.
_GRID = 16
# How far the number of pixels may be from the wanted one, and what that is worth: a size that
# stretches the picture by a percent less may be a fifth smaller.
_SLACK = 0.1
_AREA_WEIGHT = 0.05
# Beyond it a picture is squeezed: it would have less than a patch on its short side.
_MOST_RATIO = 16
# An enlargement holds no more detail, and costs time.
_MOST_SCALE = 3
_LEAST_PIXELS = 256 * 256

# Exact, near a megapixel, on the grid.
RATIO_SIZES: dict[Ratio, tuple[int, int]] = {
    "1:1": (1024, 1024),
    "4:3": (1152, 864),
    "3:4": (864, 1152),
    "16:9": (1280, 720),
    "9:16": (720, 1280),
}
# FluxKontextImageScale's choice of sizes (comfy_extras/nodes_flux.py); each is there turned, too.
_TEMPLATE_SIZES = (
    (672, 1568), (688, 1504), (720, 1456), (752, 1392), (800, 1328), (832, 1248), (880, 1184),
    (944, 1104), (1024, 1024),
)  # fmt: skip


class Window(NamedTuple):
    """A part of a photo, or with a negative left or top more than the photo, in its pixels."""

    left: int
    top: int
    width: int
    height: int


def aligned_size(width: int, height: int, pixels: int = _MEGAPIXEL) -> tuple[int, int]:
    """Of this ratio, as nearly as the grid allows, and of about as many pixels. A photo on its side
    has the same size on its side."""
    if width < height:
        long, short = aligned_size(height, width, pixels)
        return short, long
    ratio = min(width / height, _MOST_RATIO)
    middle = math.sqrt(pixels / ratio)
    low = max(1, math.floor(middle * (1 - _SLACK) / _GRID))
    high = max(low, math.ceil(middle * (1 + _SLACK) / _GRID))
    sizes = [(max(1, round(rows * ratio)) * _GRID, rows * _GRID) for rows in range(low, high + 1)]

    def cost(size: tuple[int, int]) -> float:
        stretch = abs(math.log(size[0] / size[1] / ratio))
        return stretch + _AREA_WEIGHT * abs(math.log(size[0] * size[1] / pixels))

    return min(sizes, key=cost)


def piece_size(width: int, height: int) -> tuple[int, int]:
    """For a piece of a photo: its sides grow threefold at most."""
    enlarged = width * height * _MOST_SCALE**2
    return aligned_size(width, height, max(_LEAST_PIXELS, min(enlarged, _MEGAPIXEL)))


def template_size(width: int, height: int) -> tuple[int, int]:
    """To which FluxKontextImageScale brings a picture, by the same rule."""
    turned = [(height, width) for width, height in _TEMPLATE_SIZES]
    ratio = width / height
    _, *size = min((abs(ratio - w / h), w, h) for w, h in (*_TEMPLATE_SIZES, *turned))
    return size[0], size[1]


def cropped_to(ratio: Ratio, width: int, height: int) -> Window:
    """The largest part of that ratio, in the middle."""
    across, down = map(int, ratio.split(":"))
    new_width = max(1, min(width, round(height * across / down)))
    new_height = max(1, min(height, round(width * down / across)))
    return Window((width - new_width) // 2, (height - new_height) // 2, new_width, new_height)


def extended_to(ratio: Ratio, width: int, height: int) -> Window:
    """The smallest canvas of that ratio, with the photo in its middle."""
    across, down = map(int, ratio.split(":"))
    new_width = max(width, round(height * across / down))
    new_height = max(height, round(width * down / across))
    return Window((width - new_width) // 2, (height - new_height) // 2, new_width, new_height)
