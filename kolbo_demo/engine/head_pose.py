"""Head pose, head coordinates in millimetres, and the face at rest.

Head coordinates: x along the eye line to the picture's right, y down the face, z away from the
camera, origin at the base of the nose. The engine moves lips, teeth and skin in these, and the pose
projects them to pixels.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from kolbo_demo.engine.landmarks import LEFT_EYE_CORNER, RIGHT_EYE_CORNER

Array = NDArray[np.floating]

EYE_CORNERS_MM = 92.0
"""Distance of the outer eye corners in the landmarker's face model of an average adult."""

# Lip contours from the picture's left corner to its right one.
UPPER_OUTER = (61, 185, 40, 39, 37, 0, 267, 269, 270, 409, 291)
LOWER_OUTER = (61, 146, 91, 181, 84, 17, 314, 405, 321, 375, 291)
UPPER_INNER = (78, 191, 80, 81, 82, 13, 312, 311, 310, 415, 308)
LOWER_INNER = (78, 95, 88, 178, 87, 14, 317, 402, 318, 324, 308)
LIPS = [*UPPER_OUTER, *LOWER_OUTER, *UPPER_INNER, *LOWER_INNER]

# Forehead, eye corners, nose: not moved by speech.
RIGID_LANDMARKS = (
    10, 151, 9, 8, 168, 6, 197, 195, 5, 4, 1, 2, 33, 133, 263, 362, 67, 297, 109, 338, 103, 332,
    54, 284, 21, 251, 127, 356, 162, 389,
)  # fmt: skip

NOSE_BASE, NOSE_BRIDGE, CHIN = 2, 9, 152

SMILE_WIDTH_MM = 53.0
"""Width of a mouth at rest from which it counts as smiling."""
SMILE_RELAXATION = 0.6
"""Share of a smile that is removed while speaking."""


@dataclass(frozen=True)
class Pose:
    """Head millimetres to picture pixels: pixels = matrix @ mm + shift, all (3,)."""

    matrix: Array
    shift: Array

    def project(self, mm: Array) -> Array:
        """(n, 3) millimetres to (n, 2) pixels."""
        return (mm @ self.matrix.T + self.shift)[:, :2]

    def unproject(self, pixels: Array) -> Array:
        """(n, 3) pixels to (n, 3) millimetres."""
        return np.linalg.solve(self.matrix, (pixels - self.shift).T).T

    @cached_property
    def scale(self) -> float:
        """Pixels per millimetre."""
        return float(np.cbrt(abs(np.linalg.det(self.matrix))))

    @classmethod
    def from_landmarks(cls, points: NDArray[np.float32]) -> "Pose":
        """Pose from eyes and nose alone; `points` (478, 3) pixels."""
        p = points.astype(np.float64)
        across = p[LEFT_EYE_CORNER] - p[RIGHT_EYE_CORNER]
        scale = np.linalg.norm(across) / EYE_CORNERS_MM
        x = across / np.linalg.norm(across)
        down = p[NOSE_BASE] - p[NOSE_BRIDGE]
        y = down - x * (down @ x)
        y /= np.linalg.norm(y)
        matrix = np.column_stack([x, y, np.cross(x, y)]) * scale
        return cls(matrix, p[NOSE_BASE])

    @classmethod
    def fit(cls, mm: Array, pixels: Array) -> "Pose":
        """Least-squares similarity from (n, 3) millimetres to (n, 3) pixels (Umeyama, 1991)."""
        from_mean, to_mean = mm.mean(0), pixels.mean(0)
        a, b = mm - from_mean, pixels - to_mean
        u, s, vt = np.linalg.svd(b.T @ a)
        flip = np.array([1, 1, np.sign(np.linalg.det(u @ vt))])
        matrix = (s * flip).sum() / (a * a).sum() * (u * flip) @ vt
        return cls(matrix, to_mean - matrix @ from_mean)


@dataclass(frozen=True, eq=False)
class Head:
    """One person's face at rest: `points` (478, 3) in head millimetres, lips closed."""

    points: Array

    @cached_property
    def mouth_centre(self) -> Array:
        """Middle of the lip seam, (3,) mm."""
        return self.points[[UPPER_INNER[5], LOWER_INNER[5]]].mean(0)

    @cached_property
    def half_width(self) -> float:
        """From the mouth's middle to an inner corner, mm."""
        return float(self.points[308, 0] - self.points[78, 0]) / 2

    def to_mouth_mm(self, pose: Pose) -> Array:
        """(2, 3) affine from a picture's pixels to millimetres around the middle of the mouth."""
        back = np.linalg.inv(pose.matrix[:2, :2])
        return np.column_stack([back, -back @ pose.project(self.mouth_centre[None])[0]])

    @classmethod
    def at_rest(cls, points: Array, relax: float | None = None) -> "Head":
        """The face at rest from any expression: lips closed, a smile relaxed.

        `points` (478, 3) head millimetres; `relax` 0-1 is the share of a smile to remove. The upper
        lip moves by 30 % of the gap, the lower by the rest; outer contours and chin follow partly.
        """
        rest = points.copy()
        upper, lower = list(UPPER_INNER), list(LOWER_INNER)
        gap = np.maximum(points[lower, 1] - points[upper, 1], 0.0)
        meet = points[upper, 1] + 0.3 * gap
        rest[upper, 1] = rest[lower, 1] = meet
        rest[upper, 0] = rest[lower, 0] = (points[upper, 0] + points[lower, 0]) / 2
        rest[list(UPPER_OUTER), 1] += 0.3 * 0.85 * gap
        rest[list(LOWER_OUTER), 1] -= 0.7 * 0.9 * gap
        chin_up = 0.35 * float(gap.max())
        fall = smoothstep((points[:, 1] - rest[lower[5], 1] - 8) / 20)
        below = fall > 0
        rest[below, 1] -= (chin_up * fall)[below]
        return cls(_relax_smile(rest, SMILE_RELAXATION if relax is None else relax))


def _relax_smile(points: Array, relax: float) -> Array:
    """Remove a share of a smile: corners move in and down, and the skin near them follows."""
    left, right = points[61].copy(), points[291].copy()
    excess = max(float(right[0] - left[0]) - SMILE_WIDTH_MM, 0.0) * relax / 2
    seam = points[UPPER_INNER[5], 1]
    lift = max(float(seam - (left[1] + right[1]) / 2), 0.0) * relax
    if excess == 0.0 and lift == 0.0:
        return points
    out = points.copy()
    half = (right[0] - left[0]) / 2
    middle = (left[0] + right[0]) / 2
    t = (points[:, 0] - middle) / half
    lips = sorted({*UPPER_OUTER, *LOWER_OUTER, *UPPER_INNER, *LOWER_INNER})
    out[lips, 0] -= excess * t[lips]
    out[lips, 1] += lift * np.minimum(t[lips] ** 2, 1.2)
    for corner, side in ((left, 1.0), (right, -1.0)):
        near = np.exp(-(((points[:, :2] - corner[:2]) ** 2).sum(1)) / (2 * 13.0**2))
        near[lips] = 0.0
        out[:, 0] += side * excess * 0.8 * near
        out[:, 1] += lift * 0.8 * near
    return out


def smoothstep(value: Array) -> Array:
    """0 below 0, 1 above 1, smooth between."""
    v = np.clip(value, 0.0, 1.0)
    return v * v * (3 - 2 * v)
