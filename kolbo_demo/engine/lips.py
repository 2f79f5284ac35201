"""Lips of an open mouth without what lies between them.

A still's lips are brought together from wherever its picture has them. Where the mouth stands open
the landmarks miss the lips' edges by a pixel or two, and teeth or dark would come along with the
lips, as a white line in a closed mouth. So what lies there is taken out before anything is warped:
the inside is painted anew anyhow.
"""

import cv2
import numpy as np

from kolbo_demo.engine.head import LOWER_INNER, UPPER_INNER, Array, Pose
from kolbo_demo.engine.warp import Pixels

OPEN = 0.8
"""Millimetres between the lips under which a mouth is closed and left as it is."""
BEYOND = 0.8
"""Millimetres round the opening that are taken to be no lip."""
SHADE, SHADE_REACH = 0.35, 0.7
"""How much darker lips are where they meet, and over how many millimetres."""


def lips_only(picture: Pixels, points: Array, pose: Pose) -> Pixels:
    """The picture with its mouth's inside filled from the lips around it (Telea, 2004).

    `points` (478, 2+) are the landmarks in pixels.
    """
    upper, lower = (points[list(ring), :2] for ring in (UPPER_INNER, LOWER_INNER))
    down = pose.matrix[:2, 1]
    gap = float(((lower - upper) @ down).max() / (down @ down))
    if gap < OPEN:
        return picture
    spare = int(6 * pose.scale) + 4
    ring = np.concatenate([upper, lower[::-1]])
    left, top = np.maximum(np.floor(ring.min(0)).astype(int) - spare, 0)
    right, bottom = np.ceil(ring.max(0)).astype(int) + spare
    part = picture[top:bottom, left:right]
    away = _distance(ring - (left, top), part.shape[:2]) / pose.scale
    taken = (away < max(BEYOND, 1 / pose.scale)).astype(np.uint8)
    filled = cv2.inpaint(np.ascontiguousarray(part), taken, 3.0, cv2.INPAINT_TELEA)
    shade = 1 - SHADE * np.exp(-((away / SHADE_REACH) ** 2))
    out = picture.copy()
    out[top:bottom, left:right] = np.rint(filled * shade[..., None]).astype(np.uint8)
    return out


def _distance(ring: Array, size: tuple[int, ...]) -> Array:
    """From each pixel of (height, width) to a polygon (n, 2), in parts of a pixel; 0 inside."""
    fine = 4
    inside = np.ones((size[0] * fine, size[1] * fine), np.uint8)
    cv2.fillPoly(inside, [np.rint((ring + 0.5) * fine - 0.5).astype(np.int32)], 0)
    away = cv2.distanceTransform(inside, cv2.DIST_L2, 5) / fine
    return cv2.resize(away, size[::-1], interpolation=cv2.INTER_AREA)
