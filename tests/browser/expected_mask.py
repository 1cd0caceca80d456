"""What a mask must be, computed another way than the page does: by distance and winding."""

from itertools import pairwise
from typing import Any

import numpy as np

# An edge runs through these pixels: half of one may be counted either way.
_EDGE = 0.75


class ExpectedMask:
    """The mask of operations as the page keeps them.

    `white` is where a pixel's centre is inside, `edge` where an outline is nearer to the centre
    than three quarters of a pixel.
    """

    def __init__(self, ops: list[dict[str, Any]], photo: tuple[int, int], rows: int, columns: int):
        self._scale = np.array([columns / photo[0], rows / photo[1]])
        y, x = np.mgrid[0:rows, 0:columns] + 0.5
        self._centres = np.stack([x, y], -1)
        self.white = np.zeros((rows, columns), bool)
        self.edge = np.zeros((rows, columns), bool)
        for op in ops:
            getattr(self, op["t"])(op)

    def _points(self, op: dict[str, Any]) -> Any:
        return np.array(op["p"]).reshape(-1, 2) * self._scale

    def _put(self, inside: Any, edge: Any, erase: Any) -> None:
        self.white = self.white & ~inside if erase else self.white | inside
        self.edge |= edge

    def _distance(self, a: Any, b: Any) -> Any:
        line = b - a
        length = float(line @ line)
        along = np.clip(((self._centres - a) @ line) / length, 0, 1) if length else 0.0
        nearest = a + np.multiply.outer(along, line) if length else a
        return np.hypot(*np.moveaxis(self._centres - nearest, -1, 0))

    def brush(self, op: dict[str, Any]) -> None:
        points, radius = self._points(op), op["r"] * self._scale[0]
        pairs = list(pairwise(points)) or [(points[0], points[0])]
        distance = np.min([self._distance(a, b) for a, b in pairs], axis=0)
        self._put(distance <= radius, abs(distance - radius) < _EDGE, op.get("erase"))

    def area(self, op: dict[str, Any]) -> None:
        points = self._points(op)
        winding = np.zeros(self.white.shape, int)
        outline = np.full(self.white.shape, np.inf)
        x, y = np.moveaxis(self._centres, -1, 0)
        for a, b in zip(points, np.roll(points, -1, axis=0), strict=True):
            side = (b[0] - a[0]) * (y - a[1]) - (b[1] - a[1]) * (x - a[0])
            winding += ((a[1] <= y) & (b[1] > y) & (side > 0)).astype(int)
            winding -= ((a[1] > y) & (b[1] <= y) & (side < 0)).astype(int)
            outline = np.minimum(outline, self._distance(a, b))
        self._put(winding != 0, outline < _EDGE, op.get("erase"))

    def all(self, _: object) -> None:
        self.white[:] = True

    def none(self, _: object) -> None:
        self.white[:] = False

    def invert(self, _: object) -> None:
        self.white = ~self.white
