"""Lip and head motion, face stability and mouth sharpness of a speaker in a video.

Distances are in units of the distance between the outer eye corners, which removes picture size and
head turn. Frames are streamed.
"""

from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from kolbo_demo.engine.landmarks import FaceLandmarker, FaceLandmarks, Pixels, track_face
from kolbo_demo.engine.sync_eval.head_motion import (
    EYE_POINTS,
    UPPER_FACE,
    HeadMotion,
    measure_head,
)
from kolbo_demo.engine.video_reader import Clip

Array = NDArray[np.float64]

EYE_CORNERS = (33, 263)
INNER_LIP_PAIRS = ((13, 14), (82, 87), (312, 317))
LIP_CORNERS, OUTER_LIP_EDGES = (61, 291), (0, 17)
LIP_OUTLINE = (61, 291, 0, 17, 40, 270, 91, 321)
SHARPNESS_INTERVAL_SECONDS, MAX_EYE_DISTANCE = 0.2, 160.0
"""Interval of sharpness samples, and the pixels between the eyes to which larger faces are reduced
for them: finer detail is grain."""
FINE_SIGMA, COARSE_SIGMA = 1.0, 4.0
"""In pixels: the blurs between which detail is measured."""
NOISE_POWER, CONTRAST_FLOOR = 0.15, 4.0
"""In squared grey levels: fine detail from rounding and encoding alone, and the contrast of flat
skin."""
MIN_EYE_DISTANCE = 36.0
"""Pixels between the eyes needed to measure sharpness."""


@dataclass(frozen=True)
class LipMotion:
    """A speaker in `count` frames: `lips` (count, 3) opening, width and height, NaN without a face;
    `sharpness` of the mouth relative to the rest of the face, None if unknown; `shake` jitter of
    the upper face's shape, `displacement` of it in thousandths of the eye distance; `head` None if
    it was not measured."""

    fps: float
    lips: Array
    sharpness: float | None
    shake: float | None
    displacement: float
    head: HeadMotion | None = None

    @property
    def times(self) -> Array:
        """(count,) seconds of the frames."""
        return np.arange(len(self.lips)) / self.fps

    @property
    def visible(self) -> NDArray[np.bool_]:
        """(count,): frames with a face."""
        return ~np.isnan(self.lips[:, 0])


def extract_lip_motion(video: Path, point: tuple[float, float] | None = None) -> LipMotion:
    """Lip motion of the face nearest to `point` (0-1), else of the largest.

    Raises MediaError for an unreadable picture.
    """
    lips, face_points = list[Array](), list[NDArray[np.float32]]()
    measured = [*UPPER_FACE, *EYE_POINTS]
    sharpness = list[float]()
    with Clip(video) as clip:
        fps = float(clip.fps)
        face_point = None if point is None else (point[0] * clip.width, point[1] * clip.height)
        interval = max(round(SHARPNESS_INTERVAL_SECONDS * fps), 1)
        for index, (rgb, face) in enumerate(
            track_face(clip.frames(), FaceLandmarker(), face_point)
        ):
            if face is None:
                lips.append(np.full(3, np.nan))
                face_points.append(np.full((len(measured), 3), np.nan, np.float32))
                continue
            lips.append(measure_lips(face.points))
            face_points.append(face.points[measured])
            if index % interval == 0 and (ratio := mouth_sharpness(rgb, face)) is not None:
                sharpness.append(ratio)
    points = np.array(face_points, np.float64).reshape(-1, len(measured), 3)
    upper, eyes = points[:, : len(UPPER_FACE)], points[:, len(UPPER_FACE) :]
    median = float(np.median(sharpness)) if sharpness else None
    return LipMotion(
        fps,
        np.array(lips).reshape(-1, 3),
        median,
        *_measure_shake(upper[..., :2]),
        measure_head(upper, eyes, fps),
    )


def measure_lips(points: NDArray[np.floating]) -> Array:
    """Opening, width and height of the lips: (..., 478, 3) pixels to (..., 3)."""

    def distance(pair: tuple[int, int]) -> Array:
        return np.linalg.norm(points[..., pair[0], :] - points[..., pair[1], :], axis=-1)

    opening = np.mean([distance(pair) for pair in INNER_LIP_PAIRS], axis=0)
    return (
        np.stack([opening, distance(LIP_CORNERS), distance(OUTER_LIP_EDGES)], -1)
        / distance(EYE_CORNERS)[..., None]
    )


def _measure_shake(upper: Array) -> tuple[float | None, float]:
    """Jitter of a face's shape from frame to frame, and displacement of the whole face, in
    thousandths of the eye distance. `upper` (frames, points, 2) pixels."""
    upper = upper[~np.isnan(upper[:, 0, 0])]
    if len(upper) < 3:
        return None, 0.0
    left, right = (UPPER_FACE.index(corner) for corner in EYE_CORNERS)
    unit = 1e-3 * float(np.median(np.linalg.norm(upper[:, right] - upper[:, left], axis=1)))
    centred = upper - upper.mean(1, keepdims=True)
    shapes = centred[..., 0] + 1j * centred[..., 1]
    reference = shapes[len(shapes) // 2]
    # A complex factor is a rotation and a scale: dividing by it removes head motion.
    rotation_scale = (shapes * reference.conj()).sum(1) / (np.abs(reference) ** 2).sum()
    stabilised = shapes / rotation_scale[:, None]
    jerk = stabilised[2:] - 2 * stabilised[1:-1] + stabilised[:-2]
    displacement = np.linalg.norm(upper - np.median(upper, axis=0), axis=2)
    return float(np.sqrt(np.mean(np.abs(jerk) ** 2))) / unit, float(np.median(displacement)) / unit


def mouth_sharpness(rgb: Pixels, face: FaceLandmarks) -> float | None:
    """Sharpness of the mouth relative to eyes and nose; None for a small or cropped face."""
    xy = face.points[:, :2]
    eyes = float(np.linalg.norm(xy[EYE_CORNERS[0]] - xy[EYE_CORNERS[1]]))
    if eyes < MIN_EYE_DISTANCE:
        return None
    lips = xy[list(LIP_OUTLINE)]
    margin = 0.08 * eyes
    mouth = (*(lips.min(0) - margin), *(lips.max(0) + margin))
    brow, nose = xy[[105, 334]].min(0)[1], xy[2][1]
    eyes_and_nose = (xy[EYE_CORNERS[0]][0], brow, xy[EYE_CORNERS[1]][0], nose)
    values = [
        _detail_ratio(rgb, box, min(1.0, MAX_EYE_DISTANCE / eyes)) for box in (mouth, eyes_and_nose)
    ]
    if values[0] is None or not values[1]:
        return None
    return values[0] / values[1]


def _detail_ratio(rgb: Pixels, box: tuple[float, ...], scale: float) -> float | None:
    """Detail finer than FINE_SIGMA over detail up to COARSE_SIGMA, so that contrast cancels out."""
    height, width = rgb.shape[:2]
    left, top, right, bottom = (round(float(edge)) for edge in box)
    if left < 0 or top < 0 or right > width or bottom > height or right - left < 12:
        return None
    if bottom - top < 8:
        return None
    grey = cv2.cvtColor(rgb[top:bottom, left:right], cv2.COLOR_RGB2GRAY).astype(np.float32)
    if scale < 1:
        grey = cv2.resize(grey, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    fine_blur, coarse_blur = (
        cv2.GaussianBlur(grey, (0, 0), sigma) for sigma in (FINE_SIGMA, COARSE_SIGMA)
    )
    fine = max(float(np.mean((grey - fine_blur) ** 2)) - NOISE_POWER, 0.0)
    return float(np.sqrt(fine / (float(np.mean((fine_blur - coarse_blur) ** 2)) + CONTRAST_FLOOR)))
