"""Mouth shapes: where the landmarks of a head go for one frame of the mouth curves."""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from functools import lru_cache

import numpy as np

from kolbo_demo.engine.head_pose import (
    CHIN,
    LIPS,
    LOWER_OUTER,
    Array,
    Head,
    smoothstep,
)
from kolbo_demo.engine.mouth_curves import MouthCurves

SKIN_ABOVE = (164, 167, 393, 165, 391)
"""Landmarks between nose and upper lip."""
SKIN_BELOW = (
    18, 83, 313, 200, 201, 421, 199, 175, 152, 148, 377, 176, 400, 149, 378, 150, 379, 182, 406,
    204, 424, 194, 418,
)  # fmt: skip
"""Landmarks between lower lip and chin."""
_LAST_OCCURRENCE = [len(LIPS) - 1 - LIPS[::-1].index(i) for i in LIPS]
"""Mouth corners are in two rings; their position in the lower ring counts."""

UPPER_LIP_SHARE = 0.22
"""Share of the opening by which the upper lip rises; the lower lip drops by the rest."""
SMILE_WIDENING = 0.8
"""Millimetres outward for each millimetre that a smile pulls a corner up."""
CHEEK_SIGMA_MM = (18.0, 14.0)
"""Reach over which cheeks follow a mouth corner, sideways (including the nasolabial fold) and
vertically."""


@dataclass(frozen=True)
class MouthShape:
    """One frame of `MouthCurves`, in the same units."""

    jaw: float
    aperture: float
    width: float
    protrusion: float
    tongue: float
    teeth: float
    closure: float
    smile: float = 0.0

    @classmethod
    def at(cls, curves: MouthCurves, frame: int) -> "MouthShape":
        return cls(*(float(getattr(curves, field.name)[frame]) for field in fields(cls)))

    @property
    def upper_lift(self) -> float:
        """Rise of the middle of the upper lip's edge, mm."""
        return UPPER_LIP_SHARE * self.aperture + 1.5 * self.teeth * min(self.aperture / 2.0, 1.0)

    @property
    def lower_drop(self) -> float:
        """Drop of the middle of the lower lip's edge, mm."""
        return self.aperture - self.upper_lift


def shaped_points(head: Head, shape: MouthShape) -> Array:
    """The head's points (478, 3) mm, moved from rest to a mouth shape."""
    out = head.points.copy()
    out[:, :2] += _head_skin_motion(head)(corner_shift(shape), shape.jaw)
    out[list(SKIN_ABOVE), 1] -= 0.5 * (shape.upper_lift + shape.protrusion)
    out[LIPS, :2] = lip_points(head, [shape])[0]
    _move_chin_skin(out, head, shape.jaw)
    return out


def lip_points(head: Head, shapes: Sequence[MouthShape]) -> Array:
    """Positions of the points LIPS in each mouth shape, (shapes, 44, 2) mm."""
    rest, centre = head.points[LIPS, :2], head.mouth_centre
    corners = np.array([corner_shift(shape)[1] for shape in shapes])[..., None]
    lift, drop, pout, closure = np.array(
        [(shape.upper_lift, shape.lower_drop, shape.protrusion, shape.closure) for shape in shapes]
    ).T[..., None]
    t = np.clip((rest[:, 0] - centre[0]) / head.half_width, -1.2, 1.2)
    side = np.clip(np.abs(t), 0, 1)
    # Outer rings fall off more slowly; the inner rings of a rounded mouth must not be a wedge.
    upper, lower, upper_inner, lower_inner = np.split(1 - side**2, 4)
    sharp = 1.05 - 0.3 * pout
    moves = (
        upper * (-0.8 * lift + 0.6 * closure - 1.0 * pout),
        lower * (0.92 * drop - 0.6 * closure + 1.3 * pout),
        upper_inner**sharp * -lift,
        lower_inner**sharp * drop,
    )
    y = rest[:, 1] + corners[:, 1] * side**2 + np.concatenate(moves, 1)
    x = rest[:, 0] + corners[:, 0] * t
    return np.stack([x, y], -1)[:, _LAST_OCCURRENCE]


def _move_chin_skin(out: Array, head: Head, jaw: float) -> None:
    """Move the skin between lower lip and chin, in place, so that a lip that drops further than
    the jaw compresses it and never folds it."""
    ring, below = list(LOWER_OUTER), list(SKIN_BELOW)
    rest = head.points
    x, y = rest[below, 0], rest[below, 1]
    edge = np.interp(x, rest[ring, 0], rest[ring, 1])
    drop = np.interp(x, rest[ring, 0], out[ring, 1] - rest[ring, 1])
    part = np.clip((y - edge) / (rest[CHIN, 1] - edge), 0, 1)
    beside = smoothstep((np.abs(x - head.mouth_centre[0]) / head.half_width - 0.6) / 0.8)
    pushed = y + drop + (jaw - drop) * part
    out[below, 1] = pushed + beside * (out[below, 1] - pushed)


def corner_inset(head: Head, source: Array, shape: MouthShape) -> float:
    """How far each mouth corner moves inward from the `source`, (478, 3) mm, in mm."""
    half = [float(points[291, 0] - points[61, 0]) / 2 for points in (source, head.points)]
    return half[0] - half[1] - float(corner_shift(shape)[1, 0])


def corner_shift(shape: MouthShape) -> Array:
    """Offsets of the picture's left and right mouth corners from rest, (2, 2) mm."""
    smile = shape.smile * (1 - 0.5 * shape.protrusion)
    out = shape.width + SMILE_WIDENING * smile
    down = 0.2 * shape.lower_drop * (1 - 0.5 * shape.protrusion) - smile
    return np.array([[-out, down], [out, down]])


class SkinMotion:
    """Motion of skin points with the mouth corners and the jaw."""

    def __init__(self, points: Array, head: Head) -> None:
        """`points` are positions at rest, (n, 2) mm."""
        corners = head.points[[61, 291], :2]
        level = float(corners[:, 1].mean())
        down = smoothstep((points[:, 1] - level + 2) / (head.points[CHIN, 1] - level - 8))
        beside = 1 - smoothstep((np.abs(points[:, 0]) - 26) / 48)
        far = -0.5 * ((points[:, None] - corners) ** 2).sum(2)
        self._jaw = down * beside
        self._x = 0.85 * np.exp(far / CHEEK_SIGMA_MM[0] ** 2)
        self._y = 0.8 * np.exp(far / CHEEK_SIGMA_MM[1] ** 2) * (1 - down)[:, None]

    def __call__(self, shift: Array, jaw: float) -> Array:
        """Offsets (n, 2) mm for corner offsets `shift` (2, 2) mm and a jaw drop in mm."""
        return np.stack([self._x @ shift[:, 0], self._y @ shift[:, 1] + jaw * self._jaw], 1)


@lru_cache(8)
def _head_skin_motion(head: Head) -> SkinMotion:
    """The motion model of all points of a head; the same in every frame."""
    return SkinMotion(head.points[:, :2], head)
