"""Lips of an open mouth without what lies between them.

A still's lips are brought together from wherever its picture has them. Where the mouth stands open
the landmarks miss the lips' edges by a pixel or two, and teeth or dark would come along with the
lips, as a white line in a closed mouth. So what lies there is taken out before anything is warped:
the inside is painted anew anyhow.
"""

import cv2
import numpy as np

from kolbo_demo.engine.head_pose import (
    LOWER_INNER,
    LOWER_OUTER,
    UPPER_INNER,
    UPPER_OUTER,
    Array,
    Pose,
    smoothstep,
)
from kolbo_demo.engine.thin_plate import Box, Pixels

OPEN = 0.8
"""Millimetres between the lips under which a mouth is closed and left as it is."""
BEYOND = 0.8
"""Millimetres round the opening that are taken to be no lip."""
SHADE, SHADE_REACH = 0.35, 0.7
"""How much darker lips are where they meet, and over how many millimetres."""
CREASE_AT, CREASE, CREASE_WIDTH = (6.0, -5.0), (13.0, 19.0), 5.0
"""Millimetres: outward and down from a mouth corner to the middle of a smile's creases, how far
they reach sideways and up, and how wide a dark line is that is still a crease."""


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
    part = picture[top : max(bottom, 0), left : max(right, 0)]
    if part.size == 0:  # the mouth is outside the picture
        return picture
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
    return np.asarray(cv2.resize(away, size[::-1], interpolation=cv2.INTER_AREA), np.float32)


def eased(picture: Pixels, points: Array, pose: Pose) -> tuple[Pixels, list[Box]]:
    """The picture without the creases that a smile leaves beside the mouth, and where they were: a
    box for each corner. Dark lines are lifted to the skin on either side of them, grain is kept.

    `points` (478, 2+) are the landmarks in pixels.
    """
    out, boxes = picture.copy(), list[Box]()
    mm = pose.scale
    lips = points[[*UPPER_OUTER, *LOWER_OUTER[::-1]], :2]
    for corner, side in ((61, -1.0), (291, 1.0)):
        middle = points[corner, :2] + pose.matrix[:2, :2] @ (side * CREASE_AT[0], CREASE_AT[1])
        reach = max(CREASE) * mm + 2
        left, top = np.maximum(np.floor(middle - reach).astype(int), 0)
        right, bottom = np.minimum(np.ceil(middle + reach).astype(int), picture.shape[1::-1])
        if right - left < 8 or bottom - top < 8:
            continue
        part = picture[top:bottom, left:right]
        x, y = np.meshgrid(np.arange(left, right), np.arange(top, bottom))
        away = np.stack([x, y], -1) - middle
        across, along = np.moveaxis(away @ np.linalg.inv(pose.matrix[:2, :2]).T, -1, 0)
        near = 1 - smoothstep((np.hypot(across / CREASE[0], along / CREASE[1]) - 0.5) / 0.5)
        near *= smoothstep(_distance(lips - (left, top), part.shape[:2]) / mm / 2.0)
        side_px = max(round(CREASE_WIDTH * mm) | 1, 3)
        kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (side_px, side_px))
        soft = cv2.GaussianBlur(part, (0, 0), 0.4 * mm)
        lifted = cv2.morphologyEx(soft, cv2.MORPH_CLOSE, kernel).astype(np.float32) - soft
        # What is much darker than the skin around it is hair.
        skin = max(float(np.median(soft)), 1.0)
        near = near * smoothstep((soft.mean(-1) / skin - 0.4) / 0.25)
        lifted = cv2.GaussianBlur(lifted * near[..., None], (0, 0), 0.6 * mm)
        out[top:bottom, left:right] = np.clip(np.rint(part + lifted), 0, 255).astype(np.uint8)
        boxes.append((int(left), int(top), int(right), int(bottom)))
    return out, boxes
