"""Prepares a still for the warp: inpaints an open mouth and removes smile creases.

Landmarks miss the edges of open lips by a pixel or two, so teeth would move along with the lips and
show as a white line in a closed mouth. The opening is therefore inpainted from the lips before the
warp; the interior is painted afterwards. Of slightly parted lips the landmarker often sees no
opening: their teeth are found as a bright, less red band along the seam.
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
from kolbo_demo.engine.mouth_colours import LUMA
from kolbo_demo.engine.thin_plate import Box, Pixels

MIN_OPENING_MM = 0.8
"""Opening below which a mouth counts as closed."""
LIP_MARGIN_MM = 0.8
"""Margin of the inpainted area around the opening."""
SEAM_SHADE, SEAM_SHADE_MM = 0.35, 0.7
"""How much darker the lips are at the seam, and the width of the shade."""
SEARCH_MM, TEETH_OFFSET_MM, TEETH_REACH_MM = 5.5, 2.5, 3.0
"""Heights above and below the seam that are searched for teeth; the farthest middle of a row of
teeth, and its farthest edge from there."""
MIN_TEETH_CONTRAST, TEETH_REDNESS, MIN_REDNESS = 1.09, 0.85, 0.08
"""Teeth are so much brighter, and at most so red, as the lips' dark edges on both sides; a picture
with less red has none."""
CREASE_OFFSET_MM, CREASE_EXTENT_MM, CREASE_WIDTH_MM = (6.0, -5.0), (13.0, 19.0), 5.0
"""Smile creases: offset of their centre from a mouth corner (outward, down), their extent
(sideways, vertical), and the greatest width of a crease."""


def inpaint_opening(picture: Pixels, points: Array, pose: Pose) -> Pixels:
    """The picture with the mouth's opening inpainted from the lips (Telea, 2004).

    `points` (478, 2+) are landmarks in pixels.
    """
    upper, lower = _visible_opening(picture, points[:, :2], pose)
    down = pose.matrix[:2, 1]
    gap = float(((lower - upper) @ down).max() / (down @ down))
    if gap < MIN_OPENING_MM:
        return picture
    margin = int(6 * pose.scale) + 4
    ring = np.concatenate([upper, lower[::-1]])
    left, top = np.maximum(np.floor(ring.min(0)).astype(int) - margin, 0)
    right, bottom = np.ceil(ring.max(0)).astype(int) + margin
    part = picture[top : max(bottom, 0), left : max(right, 0)]
    if part.size == 0:  # the mouth is outside the picture
        return picture
    distance = _polygon_distance(ring - (left, top), part.shape[:2]) / pose.scale
    mask = (distance < max(LIP_MARGIN_MM, 1 / pose.scale)).astype(np.uint8)
    filled = cv2.inpaint(np.ascontiguousarray(part), mask, 3.0, cv2.INPAINT_TELEA)
    seam = np.concatenate([points[list(UPPER_INNER), :2], points[list(LOWER_INNER[::-1]), :2]])
    shaded = _polygon_distance(seam - (left, top), part.shape[:2]) / pose.scale
    shade = 1 - SEAM_SHADE * np.exp(-((shaded / SEAM_SHADE_MM) ** 2))
    out = picture.copy()
    out[top:bottom, left:right] = np.rint(filled * shade[..., None]).astype(np.uint8)
    return out


def _visible_opening(picture: Pixels, points: Array, pose: Pose) -> tuple[Array, Array]:
    """Upper and lower edge of the opening, (11, 2) pixels each: the landmarks', or farther apart
    where teeth are seen between dark edges."""
    upper, lower = (points[list(ring)] for ring in (UPPER_INNER, LOWER_INNER))
    down = pose.matrix[:2, 1]
    middle = (upper + lower) / 2
    height = np.arange(-SEARCH_MM, SEARCH_MM + 0.1, 0.25)
    x, y = np.moveaxis((middle[:, None] + height[:, None] * down).astype(np.float32), -1, 0)
    colours = cv2.remap(picture, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    colours = cv2.GaussianBlur(colours.astype(np.float32), (0, 0), sigmaX=1.5, sigmaY=0.7)
    light = np.maximum(colours @ LUMA, 4.0)
    redness = (colours[..., 0] - colours[..., 1:].mean(-1)) / light
    near = np.flatnonzero(np.abs(height) <= TEETH_OFFSET_MM)
    edges = np.zeros((len(middle), 2))
    reach = round(TEETH_REACH_MM / 0.25)
    for column in range(1, len(middle) - 1):
        level, red = light[column], redness[column]
        best = MIN_TEETH_CONTRAST
        for row in near:
            above = max(row - reach, 0) + int(np.argmin(level[max(row - reach, 0) : row + 1]))
            below = row + int(np.argmin(level[row : row + reach + 1]))
            contrast = level[row] / max(level[above], level[below])
            lips = min(red[above], red[below])
            if contrast > best and (lips < MIN_REDNESS or red[row] < TEETH_REDNESS * lips):
                best, edges[column] = contrast, (height[above], height[below])
    if (edges[3:8, 1] > 0).sum() < 3:  # teeth show in the middle
        return upper, lower
    seen = edges[:, 1] > edges[:, 0]
    half = ((lower - upper) @ down / (down @ down) / 2)[:, None]
    top = np.where(seen[:, None], np.minimum(edges[:, :1], -half), -half)
    bottom = np.where(seen[:, None], np.maximum(edges[:, 1:], half), half)
    return middle + top * down, middle + bottom * down


def _polygon_distance(ring: Array, size: tuple[int, ...]) -> Array:
    """Distance of each pixel of (height, width) to a polygon (n, 2), pixels; 0 inside."""
    oversampling = 4
    inside = np.ones((size[0] * oversampling, size[1] * oversampling), np.uint8)
    cv2.fillPoly(inside, [np.rint((ring + 0.5) * oversampling - 0.5).astype(np.int32)], 0)
    distance = cv2.distanceTransform(inside, cv2.DIST_L2, 5) / oversampling
    return np.asarray(cv2.resize(distance, size[::-1], interpolation=cv2.INTER_AREA), np.float32)


def remove_smile_creases(picture: Pixels, points: Array, pose: Pose) -> tuple[Pixels, list[Box]]:
    """The picture without the smile creases beside the mouth, and a box for each changed part.

    Dark lines are lifted to the level of the skin around them; grain is retained. `points`
    (478, 2+) are landmarks in pixels.
    """
    out, boxes = picture.copy(), list[Box]()
    mm = pose.scale
    lips = points[[*UPPER_OUTER, *LOWER_OUTER[::-1]], :2]
    for corner, side in ((61, -1.0), (291, 1.0)):
        middle = points[corner, :2] + pose.matrix[:2, :2] @ (
            side * CREASE_OFFSET_MM[0],
            CREASE_OFFSET_MM[1],
        )
        reach = max(CREASE_EXTENT_MM) * mm + 2
        left, top = np.maximum(np.floor(middle - reach).astype(int), 0)
        right, bottom = np.minimum(np.ceil(middle + reach).astype(int), picture.shape[1::-1])
        if right - left < 8 or bottom - top < 8:
            continue
        part = picture[top:bottom, left:right]
        x, y = np.meshgrid(np.arange(left, right), np.arange(top, bottom))
        offset = np.stack([x, y], -1) - middle
        across, along = np.moveaxis(offset @ np.linalg.inv(pose.matrix[:2, :2]).T, -1, 0)
        weight = 1 - smoothstep(
            (np.hypot(across / CREASE_EXTENT_MM[0], along / CREASE_EXTENT_MM[1]) - 0.5) / 0.5
        )
        weight *= smoothstep(_polygon_distance(lips - (left, top), part.shape[:2]) / mm / 2.0)
        side_px = max(round(CREASE_WIDTH_MM * mm) | 1, 3)
        kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (side_px, side_px))
        soft = cv2.GaussianBlur(part, (0, 0), 0.4 * mm)
        lifted = cv2.morphologyEx(soft, cv2.MORPH_CLOSE, kernel).astype(np.float32) - soft
        # Pixels much darker than the skin are hair.
        skin = max(float(np.median(soft)), 1.0)
        weight = weight * smoothstep((soft.mean(-1) / skin - 0.4) / 0.25)
        lifted = cv2.GaussianBlur(lifted * weight[..., None], (0, 0), 0.6 * mm)
        out[top:bottom, left:right] = np.clip(np.rint(part + lifted), 0, 255).astype(np.uint8)
        boxes.append((int(left), int(top), int(right), int(bottom)))
    return out, boxes
