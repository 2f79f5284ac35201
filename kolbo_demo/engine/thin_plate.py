"""Thin-plate splines over a grid of nodes, and the one resampling of pixels."""

from functools import cached_property

import cv2
import numpy as np
from numpy.typing import NDArray

from kolbo_demo.engine.head_pose import Array

Pixels = NDArray[np.uint8]
Map = NDArray[np.floating]
Box = tuple[int, int, int, int]
"""Left, top, right, bottom in pixels."""

STEP = 2.5
"""Millimetres between the nodes at which the splines are evaluated."""

_BOTH_IN_ONE = np.empty(0, np.float32)
"""Where OpenCV takes a second map: the first holds x and y."""


class Spline:
    """A thin-plate spline through (n, 2) points with values (n, 2)."""

    def __init__(self, at: Array, values: Array) -> None:
        self._origin, self._unit = at.mean(0), float(at.std()) or 1.0
        p = (at - self._origin) / self._unit
        n = len(p)
        squared = np.square(p[:, :1] - p[:, 0]) + np.square(p[:, 1:] - p[:, 1])
        system = np.zeros((n + 3, n + 3))
        system[:n, :n] = squared * np.log(squared + 1e-12)
        system.flat[: n * (n + 3) : n + 4] += 1e-4
        system[:n, n] = system[n, :n] = 1
        system[:n, n + 1 :] = p
        system[n + 1 :, :n] = p.T
        right = np.concatenate([values, np.zeros((3, values.shape[1]))])
        weights = np.linalg.solve(system, right).astype(np.float32)
        self._bend = weights[:n]
        # Squared distances to all points are one product of (x, y, x² + y², 1) with this.
        self._apart = np.stack([-2 * p[:, 0], -2 * p[:, 1], np.ones(n), (p**2).sum(1)])
        self._apart = self._apart.astype(np.float32)
        self._plane = weights[[n + 1, n + 2, n, n]]
        self._plane[2] = 0

    def __call__(self, at: Array) -> Map:
        """Values at (m, 2) points, (m, 2) float32."""
        p = np.ones((len(at), 4), np.float32)
        p[:, :2] = (at - self._origin) / self._unit
        p[:, 2] = p[:, 0] ** 2 + p[:, 1] ** 2
        squared = np.maximum(p @ self._apart, np.float32(1e-12))
        squared *= np.log(squared)
        return squared @ self._bend + p @ self._plane


class Grid:
    """Nodes over a box of pixels, a whole number of pixels apart."""

    _BEYOND = 2
    """Nodes outside the box on each side, so that upsampling does not feel its edge."""

    def __init__(self, box: Box, scale: float, step: float = STEP) -> None:
        """`scale` is in pixels a millimetre, `step` in millimetres."""
        self.box = box
        left, top, right, bottom = box
        self.width, self.height = right - left, bottom - top
        self.cell = max(round(step * scale), 1)
        """Pixels between two nodes."""
        x, y = (
            first + (np.arange(-self._BEYOND, -(-size // self.cell) + self._BEYOND) + 0.5)
            * self.cell - 0.5
            for first, size in ((left, self.width), (top, self.height))
        )  # fmt: skip
        self.rows, self._columns = len(y), len(x)
        self.nodes = np.stack(np.meshgrid(x, y), -1).reshape(-1, 2)
        """(n, 2) pixels."""

    def over(self, first: int, last: int) -> slice:
        """The rows of nodes that rows of pixels need."""
        return slice(first // self.cell, -(-last // self.cell) + 2 * self._BEYOND)

    def part(self, rows: slice) -> slice:
        """Where these rows of nodes lie in `nodes`."""
        return slice(rows.start * self._columns, rows.stop * self._columns)

    @cached_property
    def _here(self) -> Map:
        """Each pixel's own place."""
        left, top, right, bottom = self.box
        x, y = np.arange(left, right, dtype=np.float32), np.arange(top, bottom, dtype=np.float32)
        return np.stack(np.meshgrid(x, y), -1)

    def upsampled(self, offsets: Array, rows: slice) -> Map:
        """Offsets (n, 2) at rows of nodes to the source pixel of each pixel under those rows."""
        out = self._resized(offsets, rows, cv2.INTER_CUBIC)
        # OpenCV's cubic does not keep to a straight line, so places are added afterwards.
        return out + self._here[rows.start * self.cell :][: len(out)]

    def roughly(self, offsets: Array) -> Map:
        """The same for all rows, straight from node to node: cheaper, for what is smooth."""
        return self._resized(self.nodes + offsets, slice(0, self.rows), cv2.INTER_LINEAR)

    def _resized(self, values: Array, rows: slice, interpolation: int) -> Map:
        count, edge = rows.stop - rows.start, self._BEYOND * self.cell
        nodes = values.reshape(count, self._columns, 2).astype(np.float32)
        size = (self._columns * self.cell, count * self.cell)
        out = np.asarray(cv2.resize(nodes, size, interpolation=interpolation), np.float32)
        last = min(size[1] - edge, edge + self.height - rows.start * self.cell)
        return out[edge:last, edge : edge + self.width]


class Fine:
    """A picture that is resampled in every frame: FACTOR times as fine, with Lanczos's filter.

    Linear interpolation between its pixels is as sharp as cubic between those of the picture, and
    three times as fast; what does not move comes out as it was.
    """

    FACTOR = 3

    def __init__(self, picture: Pixels, box: Box) -> None:
        """Only the pixels of the box are kept; those beyond are taken to be like its edge."""
        self.shape = picture.shape
        self._left, self._top, right, bottom = box
        part = picture[self._top : bottom, self._left : right].astype(np.uint16) << 6
        size = (part.shape[1] * self.FACTOR, part.shape[0] * self.FACTOR)
        finer = cv2.resize(part, size, interpolation=cv2.INTER_LANCZOS4)
        self._pixels = cv2.convertScaleAbs(finer, alpha=1 / 64)  # OpenCV is slow in 8 bits here

    def sampled(self, at: Map) -> Pixels:
        """See `sampled`."""
        f = self.FACTOR
        # Centre of pixel i: (i + .5) f - .5.
        shift = [(0.5 - self._left) * f - 0.5, (0.5 - self._top) * f - 0.5, 0, 0]
        finer = cv2.add(at * np.float32(f), np.array(shift))
        whole, parts = cv2.convertMaps(finer, _BOTH_IN_ONE, cv2.CV_16SC2)
        flags, border = cv2.INTER_LINEAR, cv2.BORDER_REPLICATE
        out = cv2.remap(self._pixels, whole, parts, flags, borderMode=border)
        return np.asarray(out, np.uint8)


Picture = Pixels | Fine


def sampled(picture: Picture, at: Map) -> Pixels:
    """The picture at a map's source pixels, (height, width, 2) float32: the one resampling."""
    if isinstance(picture, Fine):
        return picture.sampled(at)
    out = cv2.remap(picture, at, _BOTH_IN_ONE, cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE)
    return np.asarray(out, np.uint8)
