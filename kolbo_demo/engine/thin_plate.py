"""Thin-plate splines evaluated on a grid of nodes, and resampling of pixels."""

from collections.abc import Iterator
from functools import cached_property

import cv2
import numpy as np
from numpy.typing import NDArray

from kolbo_demo.engine.head_pose import Array

Pixels = NDArray[np.uint8]
Map = NDArray[np.floating]
Box = tuple[int, int, int, int]
"""Left, top, right, bottom in pixels."""
Strip = tuple[slice, slice]
"""Rows and columns of a box."""

NODE_SPACING_MM = 2.5
"""Distance of the nodes at which splines are evaluated."""
_MIN_CELL = 3
"""Pixels between nodes in small faces; nodes nearer than that show no difference."""

_NO_SECOND_MAP = np.empty(0, np.float32)
"""OpenCV's second map argument; the first map holds x and y."""


class ThinPlateSpline:
    """Interpolates values (n, k) given at points (n, 2); Bookstein, 1989."""

    def __init__(self, points: Array, values: Array) -> None:
        self._origin, self._unit = points.mean(0), float(points.std()) or 1.0
        p = (points - self._origin) / self._unit
        n = len(p)
        squared = np.square(p[:, :1] - p[:, 0]) + np.square(p[:, 1:] - p[:, 1])
        system = np.zeros((n + 3, n + 3))
        system[:n, :n] = squared * np.log(squared + 1e-12)
        system.flat[: n * (n + 3) : n + 4] += 1e-4
        system[:n, n] = system[n, :n] = 1
        system[:n, n + 1 :] = p
        system[n + 1 :, :n] = p.T
        right_side = np.concatenate([values, np.zeros((3, values.shape[1]))])
        weights = np.linalg.solve(system, right_side).astype(np.float32)
        self._kernel_weights = weights[:n]
        # Squared distances to all points are one product of (x, y, x² + y², 1) with this.
        self._distance_terms = np.stack([-2 * p[:, 0], -2 * p[:, 1], np.ones(n), (p**2).sum(1)])
        self._distance_terms = self._distance_terms.astype(np.float32)
        self._affine_weights = weights[[n + 1, n + 2, n, n]]
        self._affine_weights[2] = 0

    def __call__(self, points: Array) -> Map:
        """Values (m, k) float32 at points (m, 2)."""
        p = np.ones((len(points), 4), np.float32)
        p[:, :2] = (points - self._origin) / self._unit
        p[:, 2] = p[:, 0] ** 2 + p[:, 1] ** 2
        squared = np.maximum(p @ self._distance_terms, np.float32(1e-12))
        squared *= np.log(squared)
        return squared @ self._kernel_weights + p @ self._affine_weights


class Grid:
    """Nodes over a box of pixels, spaced by a whole number of pixels."""

    _MARGIN = 2
    """Nodes outside the box on each side, so that upsampling has no border effects."""

    def __init__(self, box: Box, scale: float, spacing: float = NODE_SPACING_MM) -> None:
        """`scale` is in pixels a millimetre, `spacing` in millimetres."""
        self.box = box
        left, top, right, bottom = box
        self.width, self.height = right - left, bottom - top
        self.cell = max(round(spacing * scale), _MIN_CELL)
        """Node spacing in pixels."""
        x, y = (
            first + (np.arange(-self._MARGIN, -(-size // self.cell) + self._MARGIN) + 0.5)
            * self.cell - 0.5
            for first, size in ((left, self.width), (top, self.height))
        )  # fmt: skip
        self.rows, self._columns = len(y), len(x)
        self.nodes = np.stack(np.meshgrid(x, y), -1).reshape(-1, 2)
        """Positions (n, 2) in pixels."""

    def node_rows(self, first: int, last: int) -> slice:
        """Rows of nodes that interpolation of pixel rows `first` to `last` needs."""
        return slice(first // self.cell, -(-last // self.cell) + 2 * self._MARGIN)

    def node_slice(self, rows: slice) -> slice:
        """The part of `nodes` in these rows."""
        return slice(rows.start * self._columns, rows.stop * self._columns)

    def cells_within(self, box: Box) -> Strip:
        """Rows and columns of nodes whose cells are in a box of the picture."""
        left, top, right, bottom = self._relative(box)
        return self._node_strip(
            -(-left // self.cell), -(-top // self.cell), right // self.cell, bottom // self.cell
        )

    def cells_around(self, box: Box) -> Strip:
        """Rows and columns of nodes whose cells share pixels with a box of the picture."""
        left, top, right, bottom = self._relative(box)
        return self._node_strip(
            left // self.cell, top // self.cell, -(-right // self.cell), -(-bottom // self.cell)
        )

    def _relative(self, box: Box) -> Box:
        left, top = self.box[:2]
        return box[0] - left, box[1] - top, box[2] - left, box[3] - top

    def _node_strip(self, left: int, top: int, right: int, bottom: int) -> Strip:
        left, top, right, bottom = (max(at + self._MARGIN, 0) for at in (left, top, right, bottom))
        return slice(top, bottom), slice(left, right)

    def joined_rows(self, cells: NDArray[np.bool_], height: int) -> NDArray[np.bool_]:
        """`cells` (rows, columns), with all rows alike that share a strip of `height` pixels."""
        step = max(height // self.cell, 1)
        joined = cells.copy()
        end = self.rows - self._MARGIN
        for first in range(self._MARGIN, end, step):
            rows = slice(first, min(first + step, end))
            joined[rows] = cells[rows].any(0)
        return joined

    def strips(self, cells: NDArray[np.bool_], height: int) -> Iterator[Strip]:
        """Rectangles of the box's pixels, about `height` rows each, over the cells of the nodes
        that are set in `cells` (rows, columns)."""
        step = max(height // self.cell, 1)
        inner = slice(self._MARGIN, -self._MARGIN)
        flags = np.zeros((-(-(self.rows - 2 * self._MARGIN) // step), self._columns), np.int8)
        flags[:, inner] = self.joined_rows(cells, height)[inner, inner][::step]
        strips, columns = np.nonzero(np.diff(flags))
        starts, ends = columns[::2] + 1 - self._MARGIN, columns[1::2] + 1 - self._MARGIN
        for strip, start, end in zip(
            strips[::2].tolist(), starts.tolist(), ends.tolist(), strict=True
        ):
            first, last = (strip * step * self.cell, (strip + 1) * step * self.cell)
            rows = slice(first, min(last, self.height))
            yield rows, slice(start * self.cell, min(end * self.cell, self.width))

    def bounds(self, cells: NDArray[np.bool_]) -> Box:
        """Left, top, right, bottom of the box's pixels over the cells that are set in `cells`
        (rows, columns), at least one."""
        (top, bottom), (left, right) = (
            np.flatnonzero(cells.any(axis))[[0, -1]] + (-self._MARGIN, 1 - self._MARGIN)
            for axis in (1, 0)
        )
        x, y, x_end, y_end = self.box
        return (
            x + max(int(left) * self.cell, 0), y + max(int(top) * self.cell, 0),
            min(x + int(right) * self.cell, x_end), min(y + int(bottom) * self.cell, y_end),
        )  # fmt: skip

    @cached_property
    def _pixel_positions(self) -> Map:
        """Position of each pixel, (height, width, 2)."""
        left, top, right, bottom = self.box
        x, y = np.arange(left, right, dtype=np.float32), np.arange(top, bottom, dtype=np.float32)
        positions = np.empty((len(y), len(x), 2), np.float32)
        positions[..., 0], positions[..., 1] = x, y[:, None]
        return positions

    def source_map(self, offsets: Array, rows: slice) -> Map:
        """Source position of each pixel under `rows` of nodes, from offsets (n, 2) at the nodes."""
        out = self._upsample(offsets, rows, cv2.INTER_CUBIC)
        # OpenCV's cubic does not reproduce straight lines: add positions after interpolation.
        return out + self._pixel_positions[rows.start * self.cell :][: len(out)]

    def linear_source_map(self, offsets: Array) -> Map:
        """As `source_map` for all rows, with linear interpolation: cheaper, for smooth offsets."""
        return self._upsample(self.nodes + offsets, slice(0, self.rows), cv2.INTER_LINEAR)

    def _upsample(self, values: Array, rows: slice, interpolation: int) -> Map:
        count, edge = rows.stop - rows.start, self._MARGIN * self.cell
        nodes = values.reshape(count, self._columns, 2).astype(np.float32)
        size = (self._columns * self.cell, count * self.cell)
        out = np.asarray(cv2.resize(nodes, size, interpolation=interpolation), np.float32)
        last = min(size[1] - edge, edge + self.height - rows.start * self.cell)
        return out[edge:last, edge : edge + self.width]


class UpsampledPicture:
    """A picture upsampled FACTOR times by Lanczos's filter, for resampling in every frame.

    Linear interpolation in it is as sharp as cubic interpolation in the picture and three times as
    fast; pixels that do not move are reproduced exactly.
    """

    FACTOR = 3

    def __init__(self, picture: Pixels, box: Box) -> None:
        """Upsamples only the pixels of `box`; positions outside are clamped to its edge."""
        self.shape = picture.shape
        self._left, self._top, right, bottom = box
        part = picture[self._top : bottom, self._left : right].astype(np.uint16) << 6
        size = (part.shape[1] * self.FACTOR, part.shape[0] * self.FACTOR)
        finer = cv2.resize(part, size, interpolation=cv2.INTER_LANCZOS4)
        self._pixels = cv2.convertScaleAbs(finer, alpha=1 / 64)  # OpenCV is slow in 8 bits here

    def resample(self, source_map: Map) -> Pixels:
        """See the function `resample`."""
        f = self.FACTOR
        # Centre of pixel i: (i + .5) f - .5.
        shift = [(0.5 - self._left) * f - 0.5, (0.5 - self._top) * f - 0.5, 0, 0]
        finer = cv2.add(source_map * np.float32(f), np.array(shift))
        whole, parts = cv2.convertMaps(finer, _NO_SECOND_MAP, cv2.CV_16SC2)
        flags, border = cv2.INTER_LINEAR, cv2.BORDER_REPLICATE
        out = cv2.remap(self._pixels, whole, parts, flags, borderMode=border)
        return np.asarray(out, np.uint8)


Picture = Pixels | UpsampledPicture


def resample(picture: Picture, source_map: Map) -> Pixels:
    """The picture's pixels at positions `source_map`, (height, width, 2) float32."""
    if isinstance(picture, UpsampledPicture):
        return picture.resample(source_map)
    out = cv2.remap(
        picture, source_map, _NO_SECOND_MAP, cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE
    )
    return np.asarray(out, np.uint8)
