"""How far an edit lies from its photo, and what shows at a mask's edge. Pure: pictures in, figures
out. Figures only real weights can give a meaning to; none is a verdict."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageChops, ImageFilter, ImageStat

_RING = 16


@dataclass(frozen=True, slots=True)
class Offset:
    """Of the edit, in its pixels: to the right and down, and percent of enlargement. `peak` is how
    surely that is so, from 0 to 1: an edit that keeps little has a low one."""

    right: float
    down: float
    zoom_percent: float
    peak: float


@dataclass(frozen=True, slots=True)
class Edge:
    """On a ring of 16 pixels: mean difference in levels, and the mean of each colour's, inside the
    mask; and by how much the step over the edge itself is higher than the photo's."""

    inside: float
    tint: tuple[float, float, float]
    step: float


def offset(photo: Image.Image, edit: Image.Image) -> Offset:
    """By phase correlation of the whole and of its quarters."""
    scaled = _grey(photo.resize(edit.size, Image.Resampling.LANCZOS))
    drawn = _grey(edit)
    right, down, peak = _shift(scaled, drawn)
    height, width = drawn.shape
    parts: dict[tuple[int, int], tuple[float, float, float]] = {}
    for row in (0, 1):
        for column in (0, 1):
            rows = slice(row * height // 2, (row + 1) * height // 2)
            columns = slice(column * width // 2, (column + 1) * width // 2)
            parts[row, column] = _shift(scaled[rows, columns], drawn[rows, columns])
    # The middles of two quarters are half a side apart.
    across = np.mean([parts[row, 1][0] - parts[row, 0][0] for row in (0, 1)]) / (width / 2)
    along = np.mean([parts[1, column][1] - parts[0, column][1] for column in (0, 1)])
    zoom = 100 * (float(across) + float(along) / (height / 2)) / 2
    return Offset(right, down, zoom, peak)


def edge(photo: Image.Image, result: Image.Image, mask: Image.Image) -> Edge:
    """All of one size; `mask` is "L", white where the edit was allowed."""
    inner = mask
    for _ in range(_RING):
        inner = inner.filter(ImageFilter.MinFilter(3))
    ring = ImageChops.subtract(mask, inner)
    before, after = photo.convert("RGB"), result.convert("RGB")
    differences = ImageStat.Stat(ImageChops.difference(before, after), ring).mean
    means = zip(ImageStat.Stat(after, ring).mean, ImageStat.Stat(before, ring).mean, strict=True)
    red, green, blue = (new - old for new, old in means)
    step = _step(after, mask) - _step(before, mask)
    return Edge(sum(differences) / 3, (red, green, blue), step)


def _step(picture: Image.Image, mask: Image.Image) -> float:
    """Mean difference of neighbours of which one lies inside."""
    pixels = np.asarray(picture, dtype=np.int16)
    inside = np.asarray(mask) > 127
    across = np.abs(np.diff(pixels, axis=1))[inside[:, 1:] != inside[:, :-1]]
    along = np.abs(np.diff(pixels, axis=0))[inside[1:] != inside[:-1]]
    return float(np.concatenate([across, along]).mean())


def _grey(picture: Image.Image) -> NDArray[np.float64]:
    return np.asarray(picture.convert("L"), dtype=np.float64)


def _shift(one: NDArray[np.float64], other: NDArray[np.float64]) -> tuple[float, float, float]:
    """To the right, down, and the height of the correlation's peak."""
    window = np.outer(np.hanning(one.shape[0]), np.hanning(one.shape[1]))
    spectrum = np.fft.rfft2((other - other.mean()) * window) * np.conj(
        np.fft.rfft2((one - one.mean()) * window)
    )
    surface = np.fft.irfft2(spectrum / np.maximum(np.abs(spectrum), 1e-9), s=one.shape)
    row, column = np.unravel_index(int(surface.argmax()), surface.shape)
    down = _fine(surface[:, column], int(row))
    right = _fine(surface[row], int(column))
    return right, down, float(surface.max())


def _fine(line: NDArray[np.float64], at: int) -> float:
    """The top of the parabola through the peak and its neighbours; beyond the middle it counts from
    the other end."""
    before, top, after = (float(line[(at + step) % len(line)]) for step in (-1, 0, 1))
    bend = before - 2 * top + after
    place = at + ((before - after) / (2 * bend) if bend else 0.0)
    return place - len(line) if place > len(line) / 2 else place
