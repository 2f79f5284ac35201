"""Warps the lower face to a mouth shape.

The face is warped in two layers, one above and one below the lip seam, so that lips part without
stretching. Each layer is a thin-plate spline (Bookstein, 1989) from the landmarks' target positions
to their positions in the source, faded out around the lower face. The mouth's interior shows
between the layers. Pixels outside the lower face are unchanged; the others are resampled once.
"""

from collections.abc import Callable
from dataclasses import dataclass
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
from kolbo_demo.engine.mouth_shape import (
    SKIN_ABOVE,
    SKIN_BELOW,
    MouthShape,
    SkinMotion,
    corner_shift,
    shaped_points,
)
from kolbo_demo.engine.thin_plate import Box, Grid, Map, Picture, Pixels, ThinPlateSpline, resample

Paint = Callable[[Map, Map], Map]
HeadOffset = Callable[[Array], Array]

# Skin in both layers, so that they meet without a tear beside the mouth.
_SHARED = (
    1, 2, 98, 327, 129, 358, 50, 280, 205, 425, 207, 427, 187, 411, 147, 376, 192, 416, 214, 434,
    212, 432, 216, 436, 206, 426, 132, 361, 58, 288, 172, 397, 136, 365,
)  # fmt: skip
UPPER_LAYER = [*UPPER_OUTER, *UPPER_INNER, *SKIN_ABOVE, *_SHARED]
LOWER_LAYER = [*LOWER_OUTER, *LOWER_INNER, *SKIN_BELOW, *_SHARED]
_CORNER_ANCHORS_MM = (4.0, 10.0)
"""Distances outward of each mouth corner of the points that tie the layers together."""
_NECK_ANCHORS_MM = ((0.0, 42.0), (-45.0, 34.0), (45.0, 34.0))
"""Points below the chin (x, y) that fix the neck."""

LIP_INSET_MM = 0.5
"""Inset of an open source's lip edges, so that no teeth move along with the lips."""
TURN_MARGIN_MM = 6.0
"""Motion of the warp's edges relative to its centre when the head turns."""
CREASE_MARGIN_MM, MIN_CREASE_REMOVAL = 32.0, 0.05
"""Largest motion of skin beside the mouth with the head, and the least visible crease removal."""
REACH_X, REACH_UP, REACH_DOWN = 66.0, 46.0, 84.0
"""Extent of the warp from the mouth's centre, millimetres."""


def _anchor_points(head: Head) -> Array:
    """Points beside the mouth, then on the neck, that are no landmarks: (n, 3) mm."""
    beside = [
        head.points[corner] + np.array([side * out, 0.0, 0.4 * out])
        for corner, side in ((61, -1.0), (291, 1.0))
        for out in _CORNER_ANCHORS_MM
    ]
    neck = [head.points[CHIN] + np.array([x, y, 0.0]) for x, y in _NECK_ANCHORS_MM]
    return np.array([*beside, *neck])


class CreaseRemoval(NamedTuple):
    """The source without smile creases, mixed in as the mouth corners move inward."""

    picture: Picture
    boxes: list[Box]
    """Where `picture` differs from the source, pixels."""
    amount: float
    """Share of `picture` in the mix, 0-1."""


@dataclass(frozen=True)
class Opening:
    """The inner lip edges of one output frame, in mouth millimetres."""

    to_mm: Array
    """(2, 3) affine from picture pixels to mouth millimetres (origin: the seam's middle)."""
    scale: float
    """Pixels a millimetre."""
    x: Array
    upper: Array
    lower: Array
    """Edge heights (mm, downward) at positions `x` (mm, rightward)."""

    def edges(self, x: Map) -> tuple[Map, Map]:
        """Upper and lower edge (mm) at positions (h, w) float32, constant beyond the ends."""
        place = (x - self.x[0]) * ((len(self.x) - 1) / max(self.x[-1] - self.x[0], 1e-6))
        both = np.stack([self.upper, self.lower], -1)[None].astype(np.float32)
        place = place.astype(np.float32, copy=False)
        row = np.zeros_like(place)
        found = cv2.remap(both, place, row, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
        upper, lower = cv2.split(found)
        return np.asarray(upper, np.float32), np.asarray(lower, np.float32)

    def row_range(self, box: Box, margin: float) -> tuple[int, int]:
        """First and last row of the box that can show the seam or the mouth's interior, widened by
        `margin` pixels on either side."""
        x = np.concatenate([(-REACH_X, REACH_X), self.x, self.x])
        y = np.concatenate([self.upper[[0, -1]], self.upper, self.lower])
        down = np.linalg.inv(self.to_mm[:, :2])[1]
        rows = down @ (np.stack([x, y]) - self.to_mm[:, 2:]) - box[1]
        height = box[3] - box[1]
        first = int(np.clip(np.floor(rows.min() - margin - 2), 0, height - 1))
        return first, int(np.clip(np.ceil(rows.max() + margin + 2), first + 1, height))


class MouthWarp:
    """Warps one person's lower face to mouth shapes."""

    def __init__(self, head: Head) -> None:
        self.head = head
        self._anchors = _anchor_points(head)
        skin = np.concatenate([head.points[list(_SHARED)], self._anchors])
        self._skin = SkinMotion(skin[:, :2], head)

    def bounds(
        self, pose: Pose, size: tuple[int, ...], head_offset: HeadOffset | None = None
    ) -> Box:
        """Left, top, right, bottom of the warped part of a picture of (height, width), pixels."""
        margin = 0.0 if head_offset is None else TURN_MARGIN_MM
        x, up, down = (reach + margin for reach in (REACH_X, REACH_UP, REACH_DOWN))
        rim = np.array([(-x, -up), (-x, down), (x, -up), (x, down)])
        centre = pose.project(self.head.mouth_centre[None])[:, :2]
        if head_offset is not None:
            centre = centre - head_offset(centre)
        rim = rim @ pose.matrix[:2, :2].T + centre[0]
        low, high = np.floor(rim.min(0)), np.ceil(rim.max(0))
        left, top = max(int(low[0]), 0), max(int(low[1]), 0)
        right, bottom = min(int(high[0]), size[1]), min(int(high[1]), size[0])
        return left, top, max(right, left + 1), max(bottom, top + 1)

    def __call__(
        self,
        rgb: Picture,
        source: Array,
        pose: Pose,
        shape: MouthShape,
        head_offset: HeadOffset | None = None,
        creases: CreaseRemoval | None = None,
    ) -> "Layers":
        """Both layers of one frame.

        `source` (478, 3) are the landmarks in `rgb`, pixels. `head_offset` maps points
        (n, 2) to offsets (n, 2) from them to the same points of the head in the source, pixels;
        None if the head does not move.
        """
        target = pose.project(shaped_points(self.head, shape))
        source_points = _inset_open_lips(source[:, :2], pose)
        shared, anchors = self._skin_targets(source, pose, shape)
        target[list(_SHARED)] = shared
        to_mm = self.head.to_mouth_mm(pose)
        grid = Grid(self.bounds(pose, rgb.shape, head_offset), pose.scale)
        nodes = grid.nodes
        offset = np.zeros_like(nodes) if head_offset is None else head_offset(nodes)
        at = nodes + offset
        fade = _fade(at @ to_mm[:, :2].T + to_mm[:, 2])[:, None]
        opening = _opening(target, to_mm, pose.scale)
        first, last = opening.row_range(grid.box, float(np.abs(offset[:, 1]).max()))
        maps = []
        for index, rows in (
            (UPPER_LAYER, grid.node_rows(0, last)),
            (LOWER_LAYER, grid.node_rows(first, grid.height)),
        ):
            to = np.concatenate([target[index], anchors[0]])
            from_ = np.concatenate([source_points[index], anchors[1]])
            nodes_in_rows = grid.node_slice(rows)
            warped = np.flatnonzero(fade[nodes_in_rows])
            offsets = offset[nodes_in_rows].copy()
            offsets[warped] += (
                ThinPlateSpline(to, from_ - to)(at[nodes_in_rows][warped])
                * fade[nodes_in_rows][warped]
            )
            maps.append(grid.source_map(offsets, rows))
        rows = grid.node_rows(first, last)
        maps.append(grid.source_map(offset[grid.node_slice(rows)], rows))
        skipped = first % grid.cell
        upper, lower, head = maps[0][:last], maps[1][skipped:], maps[2][skipped:][: last - first]
        return Layers(rgb, grid.box, first, upper, lower, head, opening, target, creases)

    def _skin_targets(
        self, source: Array, pose: Pose, shape: MouthShape
    ) -> tuple[Array, tuple[Array, Array]]:
        """Targets of the shared skin, and targets and sources of the anchor points, pixels.

        Cheeks retain the expression of the source: they move by the difference between its mouth
        and the target mouth.
        """
        rest = self.head.points
        present = pose.unproject(source[[61, 291, CHIN]]) - rest[[61, 291, CHIN]]
        jaw = float(present[2, 1])
        shift = corner_shift(shape)

        motion = self._skin(shift - present[:2, :2], shape.jaw - jaw)
        from_ = np.concatenate([source[list(_SHARED), :2], pose.project(self._anchors)])
        to = from_ + motion @ pose.matrix[:2, :2].T
        count = len(_SHARED)
        return to[:count], (to[count:], from_[count:])


def _fade(mm: Array) -> Array:
    """1 over the lower face, falling to 0 at the extent of the warp."""
    y = np.where(mm[:, 1] < 0, mm[:, 1] / REACH_UP, mm[:, 1] / REACH_DOWN)
    distance = np.hypot(mm[:, 0] / REACH_X, y)
    return 1 - smoothstep((distance - 0.68) / 0.3)


def _opening(target: Array, to_mm: Array, scale: float) -> Opening:
    rings = target[[UPPER_INNER, LOWER_INNER]] @ to_mm[:, :2].T + to_mm[:, 2]
    # Strictly ascending, also where the lips of a face in profile fold back.
    across = np.maximum.accumulate(rings[..., 0], axis=1) + np.arange(11) * 1e-6
    x = np.linspace(across[0, 0], across[0, -1], 65)
    up, low = (_monotone_cubic(a, ring[:, 1], x) for a, ring in zip(across, rings, strict=True))
    middle = (up + low) / 2
    gap = np.maximum(low - up, 0)
    return Opening(to_mm, scale, x, middle - gap / 2, middle + gap / 2)


def _monotone_cubic(x: Array, y: Array, at: Array) -> Array:
    """Monotone cubic interpolation of points (n,) at `at` (Fritsch and Butland, 1984), constant
    beyond the ends. scipy's takes four times as long, for checks of its arguments."""
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


def _inset_open_lips(points: Array, pose: Pose) -> Array:
    """Source points (n, 2) with the inner lip edges moved into the lips where the mouth is open."""
    out = points.copy()
    down = pose.matrix[:2, 1]
    upper, lower = list(UPPER_INNER), list(LOWER_INNER)
    gap = ((points[lower] - points[upper]) @ down) / (down @ down)
    by = (LIP_INSET_MM * smoothstep((gap - 0.8) / 2.0))[:, None] * down
    out[upper] -= by
    out[lower] += by
    return out


@dataclass(frozen=True)
class Layers:
    """The two warped layers of a frame, ready for composition."""

    rgb: Picture
    box: Box
    """Left, top, right, bottom of the covered pixels."""
    first_row: int
    """First row of the box that can show the seam or the mouth's interior."""
    upper: Map
    """Source positions of the box's pixels, down to the last row that can show the seam."""
    lower: Map
    """Source positions from `first_row` on."""
    head: Map
    """Positions before the head's motion, for the rows that both layers cover."""
    opening: Opening
    target: Array
    """Target positions of the landmarks, (478, 2) pixels; those of the lower face are valid."""
    creases: CreaseRemoval | None = None

    def _resample_skin(self, at: Map, first: int) -> Pixels:
        """The source, creases removed, at a map whose first row is row `first` of the box."""
        out = resample(self.rgb, at)
        if self.creases is None or self.creases.amount < MIN_CREASE_REMOVAL:
            return out
        x, y = self.box[0], self.box[1] + first
        margin = int(CREASE_MARGIN_MM * self.opening.scale)
        for left, top, right, bottom in self.creases.boxes:
            rows = slice(max(top - margin - y, 0), max(bottom + margin - y, 0))
            part = rows, slice(max(left - margin - x, 0), max(right + margin - x, 0))
            if out[part].size:
                smooth = resample(self.creases.picture, np.ascontiguousarray(at[part]))
                amount = self.creases.amount
                out[part] = cv2.addWeighted(out[part], 1 - amount, smooth, amount, 0)
        return out

    def compose(self, paint: Paint, edge: float = 1.0) -> Pixels:
        """The box's pixels: upper layer, interior of the mouth, lower layer.

        `paint` maps x, y (mouth millimetres) of a patch of pixels to its colours. `edge` is the
        width of the lips' edges, pixels.
        """
        first, last = self.first_row, len(self.upper)
        upper, lower = self._resample_skin(self.upper, 0), self._resample_skin(self.lower, first)
        out = np.concatenate([upper[:first], lower])
        if last <= first:
            return out
        o = self.opening
        x, y = (np.asarray(c, np.float32) for c in cv2.split(cv2.transform(self.head, o.to_mm)))
        up, low = o.edges(x)
        # Closed lips meet sharply.
        sharp = o.scale / np.clip((low - up) * o.scale, 1.0, edge)
        above = np.clip((up - y) * sharp + 0.5, 0, 1)
        band = out[first:last]
        if float((o.lower - o.upper).max()) * o.scale > 0.2:
            # A closed mouth has no interior: the layers meet where the gap is under a pixel.
            closed = 1 - np.clip((low - up) * o.scale - 0.2, 0, 1)
            below = np.maximum(np.clip((y - low) * sharp + 0.5, 0, 1), closed)
            inside = (above < 1) & (below < 1)
            if inside.any():
                rows, columns = np.flatnonzero(inside.any(1)), np.flatnonzero(inside.any(0))
                part = np.s_[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
                b = below[part][..., None]
                painted = b * band[part] + (1 - b) * paint(x[part], y[part])
                band[part] = np.clip(painted + 0.5, 0, 255).astype(np.uint8)
        band[:] = cv2.blendLinear(upper[first:], band, above, 1 - above)
        return out
