"""Shapes of masks: where one lies, how a patch fades in at its edge, and where a sampler draws for
it."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from handler.pictures.photo import STRIP

Mask = NDArray[np.bool_]

# Pixels of the photo over which a patch fades in, at the mask's inner edge; more in a large mask,
# whose patch is enlarged.
_LEAST_FEATHER = 16
_MOST_FEATHER = 32
_SIDE_PER_FEATHER = 64


class Box(NamedTuple):
    """In pixels; `right` and `bottom` lie outside."""

    left: int
    top: int
    right: int
    bottom: int

    @property
    def rows(self) -> slice:
        return slice(self.top, self.bottom)

    @property
    def columns(self) -> slice:
        return slice(self.left, self.right)

    @property
    def size(self) -> tuple[int, int]:
        """Width and height."""
        return self.right - self.left, self.bottom - self.top


def around(mask: Mask) -> Box | None:
    """The smallest box with all of the mask."""
    columns = np.flatnonzero(mask.any(axis=0))
    rows = np.flatnonzero(mask.any(axis=1))
    if not len(rows):
        return None
    return Box(int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1)


def stretched(mask: Mask, size: tuple[int, int]) -> Mask:
    """Brought to `size` (width, height). A pixel of the result is set where any of those that fall
    on it is, so a thin stroke in a mask that is larger than its photo stays whole."""
    for axis, side in enumerate(reversed(size)):
        given, number = mask.shape[axis], np.arange(side)
        if side < given:
            # The first one whose middle falls on each.
            starts = -((side - 2 * number * given) // (2 * side))
            mask = np.logical_or.reduceat(mask, starts, axis=axis)
        elif side > given:
            mask = mask.take((2 * number + 1) * given // (2 * side), axis=axis)
    return mask


def noise_mask(mask: Mask, size: tuple[int, int], grow: int) -> Mask:
    """Where a sampler draws, on its own grid of `size` (width, height): every point that a masked
    pixel touches, and `grow` points around, so that what is pasted is drawn whole."""
    shrunk = Image.fromarray(mask.astype(np.uint8) * 255).resize(size, Image.Resampling.BOX)
    # One pixel of many hundreds is rounded to none.
    wide = ((np.asarray(shrunk) > 0) | stretched(mask, size)).astype(np.uint8)
    for step in range(grow):
        wide = _spread(wide, np.maximum, is_square=step % 2 == 0)
    return wide > 0


def feather_alpha(mask: Mask) -> NDArray[np.uint8]:
    """0 outside the mask, 255 from a feather's width inwards; at the photo's own edges there is
    nothing to fade into. A thin stroke has 255 along its middle."""
    alpha = np.zeros(mask.shape, dtype=np.uint8)
    area = around(mask)
    if area is None:
        return alpha
    width = max(_LEAST_FEATHER, min(max(area.size) // _SIDE_PER_FEATHER, _MOST_FEATHER))
    for top in range(area.top, area.bottom, STRIP):
        bottom = min(top + STRIP, area.bottom)
        # Each of the two passes looks as far as a feather is wide, and one pixel of what is outside
        # has to be there.
        reach = 2 * width + 1
        above, below = max(0, top - reach), min(bottom + reach, len(mask))
        left, right = max(0, area.left - 1), min(area.right + 1, mask.shape[1])
        piece = _ramp(mask[above:below, left:right], width)
        alpha[top:bottom, left:right] = piece[top - above : bottom - above]
    return alpha


def _ramp(mask: Mask, width: int) -> NDArray[np.uint8]:
    """Depth in the mask, as a share of the greatest depth in reach of it that `mask` connects."""
    inside = mask.view(np.uint8)
    depth = np.zeros_like(inside)
    layer = inside
    for step in range(width):
        if not layer.any():
            break
        depth += layer
        layer = _spread(layer, np.minimum, is_square=step % 2 == 0)
    deepest = depth
    for step in range(width):
        deepest = _spread(deepest, np.maximum, is_square=step % 2 == 0) * inside
    return np.asarray(depth.astype(np.uint16) * 255 // np.maximum(deepest, 1), dtype=np.uint8)


def _spread(
    values: NDArray[np.uint8], pick: Callable[..., object], *, is_square: bool
) -> NDArray[np.uint8]:
    """The least or the greatest of each pixel and its neighbours, 8 of them or 4: by turns, the
    two give nearly circles. What lies outside the array does not count."""
    across = values.copy()
    pick(across[:, 1:], values[:, :-1], out=across[:, 1:])
    pick(across[:, :-1], values[:, 1:], out=across[:, :-1])
    source = across if is_square else values
    result = across.copy()
    pick(result[1:], source[:-1], out=result[1:])
    pick(result[:-1], source[1:], out=result[:-1])
    return result
