"""Mouth curves to pixels: where each point of the face goes, and the warp that takes it there.

The face is warped in two layers, one above and one below the lip seam, so that lips part without
stretching. Each layer is a thin-plate spline (Bookstein, 1989) from where the landmarks shall be
to where the source shows them, faded out around the lower face. Between the layers the mouth's
inside shows. Pixels outside the lower face are never touched, and none is resampled twice.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

import cv2
import numpy as np

from kolbo_demo.engine.head_pose import (
    CHIN,
    LOWER_INNER,
    LOWER_OUTER,
    UPPER_INNER,
    UPPER_OUTER,
    Array,
    Head,
    Pose,
    smoothstep,
)
from kolbo_demo.engine.thin_plate import Box, Grid, Map, Picture, Pixels, Spline, sampled

Paint = Callable[[Map, Map], Map]
Moved = Callable[[Grid], Array]

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
UPPER_LAYER = [*UPPER_OUTER, *UPPER_INNER, *_ABOVE, *_SHARED]
LOWER_LAYER = [*LOWER_OUTER, *LOWER_INNER, *_BELOW, *_SHARED]
LIPS = [*UPPER_OUTER, *LOWER_OUTER, *UPPER_INNER, *LOWER_INNER]
_LAST = [len(LIPS) - 1 - LIPS[::-1].index(i) for i in LIPS]
"""Corners are in two rings: where the lower one has them counts."""
_BESIDE = (4.0, 10.0)
"""Millimetres outward of each mouth corner where helper points hold the layers together."""
_NECK = ((0.0, 42.0), (-45.0, 34.0), (45.0, 34.0))
"""Millimetres from the chin: the neck stays where it is."""

UPPER_SHARE = 0.22
"""Of the opening, what the upper lip raises; the lower lip drops the rest."""
TEETH_BIAS = 0.5
"""Millimetres by which an open source's lips are taken thinner, so that no teeth stick to them."""
SMILE_WIDE = 0.8
"""Millimetres that a corner goes out for one that a smile pulls it up."""
CHEEK = (18.0, 14.0)
"""Millimetres over which cheeks follow a corner of the mouth sideways (the fold beside it comes
along) and up and down."""
EASE_MOVES, LEAST_EASE = 10.0, 0.05
"""Millimetres that skin beside the mouth moves at most, and an amount of ease that nobody sees."""
REACH_X, REACH_UP, REACH_DOWN = 66.0, 46.0, 84.0
"""Millimetres from the mouth's middle where the warp has faded to nothing."""


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
    smile: float = 0.0

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
    out = head.points.copy()
    out[:, :2] += _skin_of(head)(_corner_shift(shape), shape.jaw)
    out[list(_ABOVE), 1] -= 0.5 * (shape.upper_lift + shape.protrusion)
    out[LIPS, :2] = lips(head, [shape])[0]
    _pushed(out, head, shape.jaw)
    return out


def lips(head: Head, shapes: Sequence[Shape]) -> Array:
    """Where the points LIPS are in each of many mouth shapes, (shapes, 44, 2) mm."""
    rest, centre = head.points[LIPS, :2], head.mouth_centre
    corners = np.array([_corner_shift(shape)[1] for shape in shapes])[..., None]
    lift, drop, pout, shut = np.array(
        [(shape.upper_lift, shape.lower_drop, shape.protrusion, shape.closure) for shape in shapes]
    ).T[..., None]
    t = np.clip((rest[:, 0] - centre[0]) / head.half_width, -1.2, 1.2)
    side = np.clip(np.abs(t), 0, 1)
    # Outer rings round off more slowly; of the inner ones a rounded mouth's are no wedge.
    upper, lower, upper_inner, lower_inner = np.split(1 - side**2, 4)
    sharp = 1.05 - 0.3 * pout
    moves = (
        upper * (-0.8 * lift + 0.6 * shut - 1.0 * pout),
        lower * (0.92 * drop - 0.6 * shut + 1.3 * pout),
        upper_inner**sharp * -lift,
        lower_inner**sharp * drop,
    )
    y = rest[:, 1] + corners[:, 1] * side**2 + np.concatenate(moves, 1)
    x = rest[:, 0] + corners[:, 0] * t
    return np.stack([x, y], -1)[:, _LAST]


def _pushed(out: Array, head: Head, jaw: float) -> None:
    """Skin between lower lip and chin goes with both, in `out`: a lip that drops further than the
    jaw pushes it together and never overtakes it."""
    ring, below = list(LOWER_OUTER), list(_BELOW)
    rest = head.points
    x, y = rest[below, 0], rest[below, 1]
    edge = np.interp(x, rest[ring, 0], rest[ring, 1])
    drop = np.interp(x, rest[ring, 0], out[ring, 1] - rest[ring, 1])
    part = np.clip((y - edge) / (rest[CHIN, 1] - edge), 0, 1)
    beside = smoothstep((np.abs(x - head.mouth_centre[0]) / head.half_width - 0.6) / 0.8)
    pushed = y + drop + (jaw - drop) * part
    out[below, 1] = pushed + beside * (out[below, 1] - pushed)


def corners_in(head: Head, source: Array, shape: Shape) -> float:
    """How far (mm) each mouth corner is taken in from where the `source`, (478, 3) mm, has it."""
    half = [float(points[291, 0] - points[61, 0]) / 2 for points in (source, head.points)]
    return half[0] - half[1] - float(_corner_shift(shape)[1, 0])


def _corner_shift(shape: Shape) -> Array:
    """How the picture's left and right mouth corners move from rest, (2, 2) mm."""
    smile = shape.smile * (1 - 0.5 * shape.protrusion)
    out = shape.width + SMILE_WIDE * smile
    down = 0.2 * shape.lower_drop * (1 - 0.5 * shape.protrusion) - smile
    return np.array([[-out, down], [out, down]])


class _Skin:
    """How skin points move with the mouth's corners and the jaw."""

    def __init__(self, at: Array, head: Head) -> None:
        """`at` are the points at rest, (n, 2) mm."""
        corners = head.points[[61, 291], :2]
        level = float(corners[:, 1].mean())
        down = smoothstep((at[:, 1] - level + 2) / (head.points[CHIN, 1] - level - 8))
        beside = 1 - smoothstep((np.abs(at[:, 0]) - 26) / 48)
        far = -0.5 * ((at[:, None] - corners) ** 2).sum(2)
        self._jaw = down * beside
        self._x = 0.85 * np.exp(far / CHEEK[0] ** 2)
        self._y = 0.8 * np.exp(far / CHEEK[1] ** 2) * (1 - down)[:, None]

    def __call__(self, shift: Array, jaw: float) -> Array:
        """Moves (n, 2) mm, where corners move by `shift`, (2, 2) mm, and the jaw by `jaw`, mm."""
        return np.stack([self._x @ shift[:, 0], self._y @ shift[:, 1] + jaw * self._jaw], 1)


@lru_cache(8)
def _skin_of(head: Head) -> _Skin:
    """For all of a head's points: the same in every frame."""
    return _Skin(head.points[:, :2], head)


def _helpers(head: Head) -> Array:
    """Points that no landmark gives: beside the mouth, then on the neck. (n, 3) mm."""
    beside = [
        head.points[corner] + np.array([side * out, 0.0, 0.4 * out])
        for corner, side in ((61, -1.0), (291, 1.0))
        for out in _BESIDE
    ]
    neck = [head.points[CHIN] + np.array([x, y, 0.0]) for x, y in _NECK]
    return np.array([*beside, *neck])


class Ease(NamedTuple):
    """Skin beside the mouth as it is when the corners have come in from a smile."""

    picture: Picture
    boxes: list[Box]
    """Where it differs from the source, pixels."""
    amount: float
    """0-1: how far they have come in."""


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

    def edges(self, x: Map) -> tuple[Map, Map]:
        """Upper and lower edge (mm) at places (h, w) float32, as at the ends beyond them."""
        place = (x - self.x[0]) * ((len(self.x) - 1) / max(self.x[-1] - self.x[0], 1e-6))
        both = np.stack([self.upper, self.lower], -1)[None].astype(np.float32)
        place = place.astype(np.float32, copy=False)
        row = np.zeros_like(place)
        found = cv2.remap(both, place, row, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
        upper, lower = cv2.split(found)
        return np.asarray(upper, np.float32), np.asarray(lower, np.float32)

    def band(self, box: Box, spare: float) -> tuple[int, int]:
        """First and last row of the box in which the seam or the mouth's inside can lie, `spare`
        pixels more on either side."""
        x = np.concatenate([(-REACH_X, REACH_X), self.x, self.x])
        y = np.concatenate([self.upper[[0, -1]], self.upper, self.lower])
        down = np.linalg.inv(self.to_mm[:, :2])[1]
        rows = down @ (np.stack([x, y]) - self.to_mm[:, 2:]) - box[1]
        height = box[3] - box[1]
        first = int(np.clip(np.floor(rows.min() - spare - 2), 0, height - 1))
        return first, int(np.clip(np.ceil(rows.max() + spare + 2), first + 1, height))


class MouthWarp:
    """Warps one person's lower face into mouth shapes."""

    def __init__(self, head: Head) -> None:
        self.head = head
        self._helpers = _helpers(head)
        skin = np.concatenate([head.points[list(_SHARED)], self._helpers])
        self._skin = _Skin(skin[:, :2], head)
        self._grid = lru_cache(1)(Grid)  # a still's face stays in its place

    def reach(self, pose: Pose, size: tuple[int, ...]) -> Box:
        """Left, top, right, bottom (pixels) of what is warped in a picture of (height, width)."""
        rim = np.array([(x, y) for x in (-REACH_X, REACH_X) for y in (-REACH_UP, REACH_DOWN)])
        rim = rim @ pose.matrix[:2, :2].T + pose.project(self.head.mouth_centre[None])[0]
        low, high = np.floor(rim.min(0)), np.ceil(rim.max(0))
        left, top = max(int(low[0]), 0), max(int(low[1]), 0)
        right, bottom = min(int(high[0]), size[1]), min(int(high[1]), size[0])
        return left, top, max(right, left + 1), max(bottom, top + 1)

    def __call__(
        self,
        rgb: Picture,
        source: Array,
        pose: Pose,
        shape: Shape,
        moved: Moved | None = None,
        ease: Ease | None = None,
    ) -> "Layers":
        """Both layers of one frame.

        `source` (478, 3) are the landmarks (pixels) as `rgb` shows them. `moved` tells how far
        from a grid's nodes the source shows the same points of a head that has moved, (n, 2)
        pixels; None leaves the head in place.
        """
        target = pose.project(displaced(self.head, shape))
        shown = _thinned(source[:, :2], pose)
        shared_to, helpers = self._skin_targets(source, pose, shape)
        target[list(_SHARED)] = shared_to
        to_mm = self.head.to_mouth_mm(pose)
        grid = self._grid(self.reach(pose, rgb.shape), pose.scale)
        nodes = grid.nodes
        offset = np.zeros_like(nodes) if moved is None else moved(grid)
        at = nodes + offset
        fade = _fade(at @ to_mm[:, :2].T + to_mm[:, 2])[:, None]
        opening = _opening(target, to_mm, pose.scale)
        first, last = opening.band(grid.box, float(np.abs(offset[:, 1]).max()))
        maps = []
        for index, rows in (
            (UPPER_LAYER, grid.over(0, last)),
            (LOWER_LAYER, grid.over(first, grid.height)),
        ):
            to = np.concatenate([target[index], helpers[0]])
            from_ = np.concatenate([shown[index], helpers[1]])
            part = grid.part(rows)
            reached = np.flatnonzero(fade[part])
            by = offset[part].copy()
            by[reached] += Spline(to, from_ - to)(at[part][reached]) * fade[part][reached]
            maps.append(grid.upsampled(by, rows))
        rows = grid.over(first, last)
        maps.append(grid.upsampled(offset[grid.part(rows)], rows))
        skipped = first % grid.cell
        upper, lower, head = maps[0][:last], maps[1][skipped:], maps[2][skipped:][: last - first]
        return Layers(rgb, grid.box, first, upper, lower, head, opening, target, ease)

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

        motion = self._skin(shift - present[:2, :2], shape.jaw - jaw)
        from_ = np.concatenate([source[list(_SHARED), :2], pose.project(self._helpers)])
        to = from_ + motion @ pose.matrix[:2, :2].T
        count = len(_SHARED)
        return to[:count], (to[count:], from_[count:])


def _fade(mm: Array) -> Array:
    """1 over the lower face, 0 from the reach on."""
    y = np.where(mm[:, 1] < 0, mm[:, 1] / REACH_UP, mm[:, 1] / REACH_DOWN)
    distance = np.hypot(mm[:, 0] / REACH_X, y)
    return 1 - smoothstep((distance - 0.68) / 0.3)


def _opening(target: Array, to_mm: Array, scale: float) -> Opening:
    rings = target[[UPPER_INNER, LOWER_INNER]] @ to_mm[:, :2].T + to_mm[:, 2]
    # Strictly ascending, also where a face in profile has its lips fold back.
    across = np.maximum.accumulate(rings[..., 0], axis=1) + np.arange(11) * 1e-6
    x = np.linspace(across[0, 0], across[0, -1], 65)
    up, low = (_monotone(a, ring[:, 1], x) for a, ring in zip(across, rings, strict=True))
    middle = (up + low) / 2
    gap = np.maximum(low - up, 0)
    return Opening(to_mm, scale, x, middle - gap / 2, middle + gap / 2)


def _monotone(x: Array, y: Array, at: Array) -> Array:
    """The cubic through points (n,) that overshoots nowhere (Fritsch and Butland, 1984), as flat as
    at the ends beyond them. scipy's takes four times as long, looking at its arguments."""
    h = np.diff(x)
    d = np.diff(y) / h
    one, two, bent = h[:-1] + 2 * h[1:], 2 * h[:-1] + h[1:], d[:-1] * d[1:]
    slope = np.zeros_like(y)
    weighed = one * d[1:] + two * d[:-1]
    np.divide((one + two) * bent, weighed, out=slope[1:-1], where=bent > 0)
    for end, a, b in ((0, 0, 1), (-1, -1, -2)):
        s = ((2 * h[a] + h[b]) * d[a] - h[a] * d[b]) / (h[a] + h[b])
        steep = d[a] * d[b] < 0 and abs(s) > 3 * abs(d[a])
        slope[end] = 0 if s * d[a] <= 0 else 3 * d[a] if steep else s
    i = np.clip(np.searchsorted(x, at, "right") - 1, 0, len(h) - 1)
    t = np.clip((at - x[i]) / h[i], 0, 1)
    bend = slope[i] * (1 - t) - slope[i + 1] * t + d[i] * (2 * t - 1)
    return y[i] + h[i] * t * (d[i] + (1 - t) * bend)


def _thinned(points: Array, pose: Pose) -> Array:
    """Source points whose inner lip edges are drawn back where the mouth stands open."""
    out = points.copy()
    down = pose.matrix[:2, 1]
    upper, lower = list(UPPER_INNER), list(LOWER_INNER)
    gap = ((points[lower] - points[upper]) @ down) / (down @ down)
    by = (TEETH_BIAS * smoothstep((gap - 0.8) / 2.0))[:, None] * down
    out[upper] -= by
    out[lower] += by
    return out


@dataclass(frozen=True)
class Layers:
    """The two warped layers of a frame, ready to be laid over it."""

    rgb: Picture
    box: Box
    """Left, top, right, bottom: the pixels that the layers cover."""
    first: int
    """Row of the box from which on the seam or the mouth's inside can lie."""
    upper: Map
    """Source pixel of each of the box's down to where the seam has ended."""
    lower: Map
    """The same from row `first` on."""
    head: Map
    """Where the unmoved mouth has each pixel of the rows that both layers cover."""
    opening: Opening
    target: Array
    """Where the landmarks of the lower face are to be, (478, 2) pixels."""
    ease: Ease | None = None

    def _skin(self, at: Map, first: int) -> Pixels:
        """The source at a map whose first row is the box's row `first`, creases eased."""
        out = sampled(self.rgb, at)
        if self.ease is None or self.ease.amount < LEAST_EASE:
            return out
        x, y = self.box[0], self.box[1] + first
        spare = int(EASE_MOVES * self.opening.scale)
        for left, top, right, bottom in self.ease.boxes:
            rows = slice(max(top - spare - y, 0), max(bottom + spare - y, 0))
            part = rows, slice(max(left - spare - x, 0), max(right + spare - x, 0))
            if out[part].size:
                eased = sampled(self.ease.picture, np.ascontiguousarray(at[part]))
                amount = self.ease.amount
                out[part] = cv2.addWeighted(out[part], 1 - amount, eased, amount, 0)
        return out

    def compose(self, paint: Paint) -> Pixels:
        """The box's pixels: upper layer, inside of the mouth, lower layer.

        `paint` gets x, y (mouth millimetres) of a patch of pixels and answers its colours.
        """
        first, last = self.first, len(self.upper)
        upper, lower = self._skin(self.upper, 0), self._skin(self.lower, first)
        out = np.concatenate([upper[:first], lower])
        if last <= first:
            return out
        o = self.opening
        x, y = (np.asarray(c, np.float32) for c in cv2.split(cv2.transform(self.head, o.to_mm)))
        up, low = o.edges(x)
        above = np.clip((up - y) * o.scale + 0.5, 0, 1)
        band = out[first:last]
        if float((o.lower - o.upper).max()) * o.scale > 0.2:
            # A closed mouth shows no inside: let the layers meet where the gap is under a pixel.
            closed = 1 - np.clip((low - up) * o.scale - 0.2, 0, 1)
            below = np.maximum(np.clip((y - low) * o.scale + 0.5, 0, 1), closed)
            inside = (above < 1) & (below < 1)
            if inside.any():
                rows, columns = np.flatnonzero(inside.any(1)), np.flatnonzero(inside.any(0))
                part = np.s_[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
                b = below[part][..., None]
                painted = b * band[part] + (1 - b) * paint(x[part], y[part])
                band[part] = np.clip(painted + 0.5, 0, 255).astype(np.uint8)
        band[:] = cv2.blendLinear(upper[first:], band, above, 1 - above)
        return out
