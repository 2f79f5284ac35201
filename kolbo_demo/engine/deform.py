"""Mouth curves to pixels: where each point of the face goes, and the warp that takes it there.

The face is warped in two layers, one above and one below the lip seam, so that lips part without
stretching. Each layer is a thin-plate spline (Bookstein, 1989) from where the landmarks shall be
to where the source shows them, faded out around the lower face. Between the layers the mouth's
inside shows. Pixels outside the lower face are never touched, and none is resampled twice.
"""

from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.interpolate import PchipInterpolator

from kolbo_demo.engine.head import (
    CHIN,
    LOWER_INNER,
    LOWER_OUTER,
    UPPER_INNER,
    UPPER_OUTER,
    Array,
    Head,
    Pose,
)

Pixels = NDArray[np.uint8]
Map = NDArray[np.floating]
Box = tuple[int, int, int, int]
Paint = Callable[[Map, Map], Map]

# Skin that both layers share, so that they meet without a tear beside the mouth.
_SHARED = (
    1, 2, 98, 327, 129, 358, 50, 280, 205, 425, 207, 427, 187, 411, 147, 376, 192, 416, 214, 434,
    212, 432, 216, 436, 206, 426, 132, 361, 58, 288, 172, 397, 136, 365,
)  # fmt: skip
_ABOVE = (164, 167, 393, 165, 391)
_BELOW = (
    18, 83, 313, 200, 201, 421, 199, 175, 152, 148, 377, 176, 400, 149, 378, 150, 379, 182, 406,
    204, 424, 194, 418,
)  # fmt: skip
_UPPER_LAYER = [*UPPER_OUTER, *UPPER_INNER, *_ABOVE, *_SHARED]
_LOWER_LAYER = [*LOWER_OUTER, *LOWER_INNER, *_BELOW, *_SHARED]
_BESIDE = (4.0, 10.0)
"""Millimetres outward of each mouth corner where helper points hold the layers together."""
_NECK = ((0.0, 42.0), (-45.0, 34.0), (45.0, 34.0))
"""Millimetres from the chin: the neck stays where it is."""

UPPER_SHARE = 0.22
"""Of the opening, what the upper lip raises; the lower lip drops the rest."""
TEETH_BIAS = 0.5
"""Millimetres by which an open source's lips are taken thinner, so that no teeth stick to them."""
REACH_X, REACH_UP, REACH_DOWN = 66.0, 46.0, 84.0
"""Millimetres from the mouth's middle where the warp has faded to nothing."""
STEP = 2.0
"""Millimetres between the nodes at which the splines are evaluated."""


@dataclass(frozen=True)
class Shape:
    """One frame's mouth: see `mouth.MouthCurves` for the units."""

    jaw: float
    aperture: float
    width: float
    protrusion: float
    tongue: float
    teeth: float
    closure: float

    @property
    def upper_lift(self) -> float:
        """Millimetres that the middle of the upper lip's edge rises."""
        return UPPER_SHARE * self.aperture + 1.5 * self.teeth * min(self.aperture / 2.0, 1.0)

    @property
    def lower_drop(self) -> float:
        """Millimetres that the middle of the lower lip's edge sinks."""
        return self.aperture - self.upper_lift


def displaced(head: Head, shape: Shape) -> Array:
    """The head's points (478, 3) mm with lips and chin as the mouth shape moves them."""
    rest = head.points
    out = rest.copy()
    centre, half = head.mouth_centre, head.half_width
    shift = _corner_shift(shape)
    out[:, :2] += _skin(rest[:, :2], head, shift, shape.jaw)
    out[list(_ABOVE), 1] -= 0.5 * shape.upper_lift
    for ring, inner, upper in (
        (UPPER_OUTER, False, True), (UPPER_INNER, True, True),
        (LOWER_OUTER, False, False), (LOWER_INNER, True, False),
    ):  # fmt: skip
        ids = list(ring)
        t = np.clip((rest[ids, 0] - centre[0]) / half, -1.2, 1.2)
        side = np.clip(np.abs(t), 0, 1)
        bow = (1 - side**2) ** (1.05 + 0.4 * shape.protrusion)
        rim = 1 - side**2  # outer rings round off more slowly
        y = shift[0, 1] * side**2
        if inner:
            y += bow * (-shape.upper_lift if upper else shape.lower_drop)
        elif upper:
            y += rim * (-0.8 * shape.upper_lift + 0.6 * shape.closure - 1.0 * shape.protrusion)
        else:
            y += rim * (0.92 * shape.lower_drop - 0.6 * shape.closure + 1.3 * shape.protrusion)
        out[ids, 1] = rest[ids, 1] + y
        out[ids, 0] = rest[ids, 0] + shape.width * t
    return out


def _corner_shift(shape: Shape) -> Array:
    """How the picture's left and right mouth corners move from rest, (2, 2) mm."""
    down = 0.2 * shape.lower_drop * (1 - 0.5 * shape.protrusion)
    return np.array([[-shape.width, down], [shape.width, down]])


def _skin(at: Array, head: Head, shift: Array, jaw: float) -> Array:
    """How skin points (n, 2) mm move with the mouth's corners (`shift`, (2, 2) mm) and the jaw."""
    corners = head.points[[61, 291], :2]
    level = float(corners[:, 1].mean())
    down = _smooth((at[:, 1] - level + 2) / (head.points[CHIN, 1] - level - 8))
    beside = 1 - _smooth((np.abs(at[:, 0]) - 26) / 48)
    move = np.zeros_like(at)
    move[:, 1] = jaw * down * beside
    for corner, by in zip(corners, shift, strict=True):
        near = 0.8 * np.exp(-((at - corner) ** 2).sum(1) / (2 * 14.0**2))
        move[:, 0] += near * by[0]
        move[:, 1] += near * by[1] * (1 - down)
    return move


def _smooth(value: Array) -> Array:
    v = np.clip(value, 0.0, 1.0)
    return v * v * (3 - 2 * v)


def _helpers(head: Head) -> Array:
    """Points that no landmark gives: beside the mouth, then on the neck. (n, 3) mm."""
    beside = [
        head.points[corner] + np.array([side * out, 0.0, 0.4 * out])
        for corner, side in ((61, -1.0), (291, 1.0))
        for out in _BESIDE
    ]
    neck = [head.points[CHIN] + np.array([x, y, 0.0]) for x, y in _NECK]
    return np.array([*beside, *neck])


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


@dataclass(frozen=True)
class Opening:
    """The lips' inner edges in one output frame, over mouth millimetres."""

    to_mm: Array
    """(2, 3) affine from picture pixels to mouth millimetres (origin: the seam's middle)."""
    scale: float
    """Pixels a millimetre."""
    x: Array
    upper: Array
    lower: Array
    """Edge heights (mm, downward) at the places `x` (mm, rightward)."""

    @property
    def gap(self) -> float:
        """Widest opening, mm."""
        return float((self.lower - self.upper).max())


class MouthWarp:
    """Warps one person's lower face into mouth shapes."""

    def __init__(self, head: Head) -> None:
        self.head = head
        self._helpers = _helpers(head)

    def __call__(
        self,
        rgb: Pixels,
        source: Array,
        pose: Pose,
        shape: Shape,
        moved: Callable[[Array], Array] | None = None,
    ) -> "Layers":
        """Both layers of one frame.

        `source` (478, 3) are the landmarks (pixels) as `rgb` shows them. `moved` takes output
        pixels (n, 2) to how far from there the source shows the same point of a head that has
        moved; None leaves the head in place.
        """
        target = pose.project(displaced(self.head, shape))
        shown = _thinned(source[:, :2], pose)
        shared_to, helpers = self._skin_targets(source, pose, shape)
        target[list(_SHARED)] = shared_to
        origin = pose.project(self.head.mouth_centre[None])[0]
        axes = pose.matrix[:2, :2]
        back = np.linalg.inv(axes)
        to_mm = np.column_stack([back, -back @ origin])
        box = _box(origin, axes, rgb.shape)
        nodes, grid = _nodes(box, pose.scale)
        offset = np.zeros_like(nodes) if moved is None else moved(nodes)
        at = nodes + offset
        fade = _fade(at @ to_mm[:, :2].T + to_mm[:, 2])[:, None]
        maps = []
        for index in (_UPPER_LAYER, _LOWER_LAYER):
            to = np.concatenate([target[index], helpers[0]])
            from_ = np.concatenate([shown[index], helpers[1]])
            field = Spline(to, from_ - to)(at) * fade
            maps.append(_upsampled(field + offset, grid, box))
        head_map = _upsampled(offset, grid, box)
        return Layers(rgb, box, (maps[0], maps[1]), head_map, _opening(target, to_mm, pose.scale))

    def _skin_targets(
        self, source: Array, pose: Pose, shape: Shape
    ) -> tuple[Array, tuple[Array, Array]]:
        """Where shared skin goes, pixels; and where helper points go to and come from.

        Cheeks keep the expression that the source has: they only make the difference between the
        mouth that is there and the mouth that shall be.
        """
        rest = self.head.points
        present = pose.unproject(source[[61, 291, CHIN]]) - rest[[61, 291, CHIN]]
        jaw = float(present[2, 1])
        shift = _corner_shift(shape)

        def motion(at: Array) -> Array:
            to = _skin(at[:, :2], self.head, shift, shape.jaw)
            return to - _skin(at[:, :2], self.head, present[:2, :2], jaw)

        axes = pose.matrix[:2, :2].T
        shared = source[list(_SHARED), :2] + motion(rest[list(_SHARED)]) @ axes
        from_ = pose.project(self._helpers)
        return shared, (from_ + motion(self._helpers) @ axes, from_)


def _box(origin: Array, axes: Array, size: tuple[int, ...]) -> Box:
    """Left, top, right, bottom (pixels) of what the warp can reach."""
    rim = np.array(
        [(x, y) for x in (-REACH_X, REACH_X) for y in (-REACH_UP, REACH_DOWN)]
    ) @ axes.T + origin  # fmt: skip
    low, high = np.floor(rim.min(0)), np.ceil(rim.max(0))
    left, top = max(int(low[0]), 0), max(int(low[1]), 0)
    right, bottom = min(int(high[0]), size[1]), min(int(high[1]), size[0])
    return left, top, max(right, left + 1), max(bottom, top + 1)


def _fade(mm: Array) -> Array:
    """1 over the lower face, 0 from the reach on."""
    y = np.where(mm[:, 1] < 0, mm[:, 1] / REACH_UP, mm[:, 1] / REACH_DOWN)
    distance = np.hypot(mm[:, 0] / REACH_X, y)
    return 1 - _smooth((distance - 0.68) / 0.3)


def _opening(target: Array, to_mm: Array, scale: float) -> Opening:
    edges = []
    for ring in (UPPER_INNER, LOWER_INNER):
        mm = target[list(ring)] @ to_mm[:, :2].T + to_mm[:, 2]
        edges.append(mm)
    upper, lower = edges
    order = np.maximum.accumulate(upper[:, 0] + np.arange(11) * 1e-6)
    order_low = np.maximum.accumulate(lower[:, 0] + np.arange(11) * 1e-6)
    x = np.linspace(order[0], order[-1], 65)
    up = PchipInterpolator(order, upper[:, 1])(x)
    low = PchipInterpolator(order_low, lower[:, 1])(np.clip(x, order_low[0], order_low[-1]))
    middle = (up + low) / 2
    gap = np.maximum(low - up, 0)
    return Opening(to_mm, scale, x, middle - gap / 2, middle + gap / 2)


def _thinned(points: Array, pose: Pose) -> Array:
    """Source points whose inner lip edges are drawn back where the mouth stands open."""
    out = points.copy()
    down = pose.matrix[:2, 1]
    upper, lower = list(UPPER_INNER), list(LOWER_INNER)
    gap = ((points[lower] - points[upper]) @ down) / (down @ down)
    by = (TEETH_BIAS * _smooth((gap - 0.8) / 2.0))[:, None] * down
    out[upper] -= by
    out[lower] += by
    return out


def _nodes(box: Box, scale: float) -> tuple[Array, tuple[int, int]]:
    """Node centres (n, 2) pixels over a box, and their grid's (rows, columns)."""
    left, top, right, bottom = box
    columns = max(int((right - left) / (STEP * scale)), 8)
    rows = max(int((bottom - top) / (STEP * scale)), 8)
    x = left + (np.arange(columns) + 0.5) * (right - left) / columns - 0.5
    y = top + (np.arange(rows) + 0.5) * (bottom - top) / rows - 0.5
    return np.stack(np.meshgrid(x, y), -1).reshape(-1, 2), (rows, columns)


def _upsampled(offsets: NDArray[np.floating], grid: tuple[int, int], box: Box) -> Map:
    """Offsets at the nodes to a map (height, width, 2): the source pixel of each of the box's."""
    left, top, right, bottom = box
    size = (right - left, bottom - top)
    nodes = offsets.reshape(*grid, 2).astype(np.float32)
    out = np.asarray(cv2.resize(nodes, size, interpolation=cv2.INTER_CUBIC), np.float32)
    out[..., 0] += np.arange(left, right, dtype=np.float32)
    out[..., 1] += np.arange(top, bottom, dtype=np.float32)[:, None]
    return out


@dataclass(frozen=True)
class Layers:
    """The two warped layers of a frame, ready to be laid over it."""

    rgb: Pixels
    box: Box
    """Left, top, right, bottom: the pixels that the layers cover."""
    maps: tuple[Map, Map]
    """Source pixel of each of the box's, upper and lower layer."""
    head_map: Map
    """The same for the unmoved mouth: only the head's own motion."""
    opening: Opening

    def compose(self, paint: Paint) -> Pixels:
        """The box's pixels: upper layer, inside of the mouth, lower layer.

        `paint` gets x, y (mouth millimetres) of a patch of pixels and answers its colours.
        """
        first, last = self._band()
        upper = sampled(self.rgb, self.maps[0][:last])
        lower = sampled(self.rgb, self.maps[1][first:])
        out = np.concatenate([upper[:first], lower])
        if last <= first:
            return out
        o = self.opening
        m = o.to_mm.astype(np.float32)
        at = self.head_map[first:last]
        x = m[0, 0] * at[..., 0] + m[0, 1] * at[..., 1] + m[0, 2]
        y = m[1, 0] * at[..., 0] + m[1, 1] * at[..., 1] + m[1, 2]
        up, low = np.interp(x, o.x, o.upper), np.interp(x, o.x, o.lower)
        above = np.clip((up - y) * o.scale + 0.5, 0, 1)[..., None]
        # A closed mouth shows no inside: let the layers meet where the gap is under a pixel.
        closed = 1 - np.clip((low - up) * o.scale - 0.2, 0, 1)
        below = np.maximum(np.clip((y - low) * o.scale + 0.5, 0, 1), closed)[..., None]
        band = lower[: last - first].astype(np.float32)
        inside = ((1 - above) * (1 - below))[..., 0] > 0
        if inside.any():
            rows, columns = np.flatnonzero(inside.any(1)), np.flatnonzero(inside.any(0))
            part = np.s_[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
            b = below[part]
            band[part] = b * band[part] + (1 - b) * paint(x[part], y[part])
        band += above * (upper[first:last] - band)
        out[first:last] = np.clip(band + 0.5, 0, 255).astype(np.uint8)
        return out

    def _band(self) -> tuple[int, int]:
        """First and last row of the box in which the seam or the mouth's inside can lie."""
        o = self.opening
        ends = [(-REACH_X, o.upper[0]), (REACH_X, o.upper[-1])]
        low = [*ends, *zip(o.x, o.upper, strict=True), *zip(o.x, o.lower, strict=True)]
        mm = np.array(low) - o.to_mm[:, 2]
        rows = np.linalg.solve(o.to_mm[:, :2], mm.T)[1] - self.box[1]
        shift = self.head_map[..., 1] - np.arange(self.box[1], self.box[3])[:, None]
        spare = 3 + float(np.abs(shift).max())
        height = self.box[3] - self.box[1]
        first = int(np.clip(np.floor(rows.min() - spare), 0, height))
        return first, int(np.clip(np.ceil(rows.max() + spare), first, height))


def sampled(rgb: Pixels, at: Map) -> Pixels:
    """The picture at a map's source pixels, (height, width, 2) float32: the one resampling."""
    x, y = at[..., 0], at[..., 1]
    out = cv2.remap(rgb, x, y, cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE)
    return np.asarray(out, np.uint8)
