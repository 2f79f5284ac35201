"""Thin-plate splines over a grid of nodes, and the one resampling of pixels."""

import cv2
import numpy as np
from numpy.typing import NDArray

from kolbo_demo.engine.head import Array

Pixels = NDArray[np.uint8]
Map = NDArray[np.floating]
Box = tuple[int, int, int, int]
"""Left, top, right, bottom in pixels."""

STEP = 2.5
"""Millimetres between the nodes at which the splines are evaluated."""


class Spline:
    """A thin-plate spline through (n, 2) points with values (n, 2)."""

    def __init__(self, at: Array, values: Array) -> None:
        self._origin, self._unit = at.mean(0), float(at.std()) or 1.0
        self._at = (at - self._origin) / self._unit
        n = len(at)
        squared = ((self._at[:, None] - self._at[None]) ** 2).sum(-1)
        system = np.zeros((n + 3, n + 3))
        system[:n, :n] = squared * np.log(squared + 1e-12) + 1e-4 * np.eye(n)
        system[:n, n] = system[n, :n] = 1
        system[:n, n + 1 :] = self._at
        system[n + 1 :, :n] = self._at.T
        right = np.concatenate([values, np.zeros((3, values.shape[1]))])
        weights = np.linalg.solve(system, right).astype(np.float32)
        self._bend, self._plane = weights[:n], weights[n:]

    def __call__(self, at: Array) -> Map:
        """Values at (m, 2) points, (m, 2) float32."""
        p = ((at - self._origin) / self._unit).astype(np.float32)
        c = self._at.astype(np.float32)
        squared = (p[:, :1] - c[:, 0]) ** 2 + (p[:, 1:] - c[:, 1]) ** 2
        squared *= np.log(squared + 1e-12)
        return squared @ self._bend + self._plane[0] + p @ self._plane[1:]


class Grid:
    """Nodes over a box of pixels, a whole number of pixels apart."""

    SPARE = 3
    """Rows of nodes beyond those asked for, so that upsampling does not feel the edge."""

    def __init__(self, box: Box, scale: float) -> None:
        self.box = box
        left, top, right, bottom = box
        self.width, self.height = right - left, bottom - top
        self._cell = max(round(STEP * scale), 1)
        self.rows = -(-self.height // self._cell)
        self._columns = -(-self.width // self._cell)
        x = left + (np.arange(self._columns) + 0.5) * self._cell - 0.5
        y = top + (np.arange(self.rows) + 0.5) * self._cell - 0.5
        self.nodes = np.stack(np.meshgrid(x, y), -1).reshape(-1, 2)
        """(n, 2) pixels."""

    def over(self, first: int, last: int) -> slice:
        """The rows of nodes that rows of pixels need."""
        start = max(first // self._cell - self.SPARE, 0)
        return slice(start, min(-(-last // self._cell) + self.SPARE, self.rows))

    def part(self, rows: slice) -> slice:
        """Where these rows of nodes lie in `nodes`."""
        return slice(rows.start * self._columns, rows.stop * self._columns)

    def upsampled(self, offsets: Array, rows: slice) -> Map:
        """Offsets (n, 2) at rows of nodes to the source pixel of each pixel under those rows."""
        count = rows.stop - rows.start
        nodes = offsets.reshape(count, self._columns, 2).astype(np.float32)
        size = (self._columns * self._cell, count * self._cell)
        out = cv2.resize(nodes, size, interpolation=cv2.INTER_CUBIC)
        start = rows.start * self._cell
        out = np.asarray(out, np.float32)[: self.height - start, : self.width]
        left, top = self.box[:2]
        out[..., 0] += np.arange(left, left + self.width, dtype=np.float32)
        out[..., 1] += np.arange(top + start, top + start + len(out), dtype=np.float32)[:, None]
        return out


def sampled(rgb: Pixels, at: Map) -> Pixels:
    """The picture at a map's source pixels, (height, width, 2) float32: the one resampling."""
    x, y = at[..., 0], at[..., 1]
    out = cv2.remap(rgb, x, y, cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE)
    return np.asarray(out, np.uint8)
