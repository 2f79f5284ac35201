"""What a video shows of a speaker: lips, the rest of the face, how sharp the mouth is.

Distances are parts of the distance between the outer eye corners, so that neither the size of the
picture nor a turned head counts. Frames stream: a few numbers of each are kept.
"""

from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from kolbo_demo.engine.landmarks import Face, FaceFinder, Pixels, track
from kolbo_demo.engine.video_reader import Clip

Array = NDArray[np.float64]

EYES = (33, 263)
APART = ((13, 14), (82, 87), (312, 317))
CORNERS, EDGES = (61, 291), (0, 17)
BOUNDS = (61, 291, 0, 17, 40, 270, 91, 321)
"""Points around the lips."""
UPPER_FACE = (10, 151, 9, 168, 6, 197, 195, 4, 33, 133, 263, 362, 67, 297, 103, 332, 54, 284)
"""Forehead, eye corners, nose: what speech does not move."""
EVERY, AT_MOST = 0.2, 160.0
"""Seconds between two looks at sharpness; pixels between the eyes to which large faces are
reduced for it, where what is finer is grain."""
FINE, COARSE = 1.0, 4.0
"""Sigmas in pixels of the blurs between which detail is measured."""
ROUNDING, FLAT = 0.15, 4.0
"""Squares of grey levels: what rounding and encoding leave of fine detail where there is none, and
a contrast that flat skin has without any."""
LEAST = 36.0
"""Pixels between the eyes of a face whose sharpness can be told."""


@dataclass(frozen=True)
class Seen:
    """A speaker in `count` frames: `lips` (count, 3) opening, width and height, NaN where no face
    is seen; `sharpness` the mouth's over the rest of the face's, None where it cannot be told;
    `shake` how much the upper face trembles in itself, `motion` how far it moves at all."""

    fps: float
    lips: Array
    sharpness: float | None
    shake: float | None
    motion: float

    @property
    def times(self) -> Array:
        """Seconds at which the frames are shown, (count,)."""
        return np.arange(len(self.lips)) / self.fps

    @property
    def found(self) -> NDArray[np.bool_]:
        """(count,): where the face is seen."""
        return ~np.isnan(self.lips[:, 0])


@dataclass
class _Notes:
    """What is kept of the frames."""

    lips: list[Array] = field(default_factory=list)
    upper: list[NDArray[np.float32]] = field(default_factory=list)
    sharp: list[float] = field(default_factory=list)


def watch(video: Path, point: tuple[float, float] | None = None) -> Seen:
    """The face nearest to `point` (0-1 of the picture), else the largest, through a video.

    Raises MediaError if the file shows nothing.
    """
    notes = _Notes()
    with Clip(video) as clip:
        fps = float(clip.fps)
        at = None if point is None else (point[0] * clip.width, point[1] * clip.height)
        look = max(round(EVERY * fps), 1)
        for index, (rgb, face) in enumerate(track(clip.frames(), FaceFinder(), at)):
            if face is None:
                notes.lips.append(np.full(3, np.nan))
                notes.upper.append(np.full((len(UPPER_FACE), 2), np.nan, np.float32))
                continue
            notes.lips.append(lips_of(face.points))
            notes.upper.append(face.points[list(UPPER_FACE), :2])
            if index % look == 0 and (ratio := mouth_sharpness(rgb, face)) is not None:
                notes.sharp.append(ratio)
    upper = np.array(notes.upper, np.float64).reshape(-1, len(UPPER_FACE), 2)
    shake, motion = _shake(upper)
    sharpness = float(np.median(notes.sharp)) if notes.sharp else None
    return Seen(fps, np.array(notes.lips).reshape(-1, 3), sharpness, shake, motion)


def lips_of(points: NDArray[np.floating]) -> Array:
    """Opening, width and height of the lips: (..., 478, 3) pixels to (..., 3)."""

    def between(pair: tuple[int, int]) -> Array:
        return np.linalg.norm(points[..., pair[0], :] - points[..., pair[1], :], axis=-1)

    opening = np.mean([between(pair) for pair in APART], axis=0)
    return np.stack([opening, between(CORNERS), between(EDGES)], -1) / between(EYES)[..., None]


def _shake(upper: Array) -> tuple[float | None, float]:
    """Trembling of a face's own shape from frame to frame, in thousandths of the eye distance;
    and how far the whole face moves about, in the same unit. `upper` (frames, points, 2) pixels."""
    upper = upper[~np.isnan(upper[:, 0, 0])]
    if len(upper) < 3:
        return None, 0.0
    left, right = (UPPER_FACE.index(corner) for corner in EYES)
    unit = 1e-3 * float(np.median(np.linalg.norm(upper[:, right] - upper[:, left], axis=1)))
    centred = upper - upper.mean(1, keepdims=True)
    shapes = centred[..., 0] + 1j * centred[..., 1]
    model = shapes[len(shapes) // 2]
    # A complex factor is a turn and a scale: what it leaves is no motion of the head.
    factor = (shapes * model.conj()).sum(1) / (np.abs(model) ** 2).sum()
    own = shapes / factor[:, None]
    jerk = own[2:] - 2 * own[1:-1] + own[:-2]
    moved = np.linalg.norm(upper - np.median(upper, axis=0), axis=2)
    return float(np.sqrt(np.mean(np.abs(jerk) ** 2))) / unit, float(np.median(moved)) / unit


def mouth_sharpness(rgb: Pixels, face: Face) -> float | None:
    """Sharpness of the mouth over that of eyes and nose; None where a face is too small or cut."""
    xy = face.points[:, :2]
    eyes = float(np.linalg.norm(xy[EYES[0]] - xy[EYES[1]]))
    if eyes < LEAST:
        return None
    lips = xy[list(BOUNDS)]
    reach = 0.08 * eyes
    mouth = (*(lips.min(0) - reach), *(lips.max(0) + reach))
    brow, nose = xy[[105, 334]].min(0)[1], xy[2][1]
    rest = (xy[EYES[0]][0], brow, xy[EYES[1]][0], nose)
    values = [_fineness(rgb, box, min(1.0, AT_MOST / eyes)) for box in (mouth, rest)]
    if values[0] is None or not values[1]:
        return None
    return values[0] / values[1]


def _fineness(rgb: Pixels, box: tuple[float, ...], scale: float) -> float | None:
    """How much of a region's detail is fine: details finer than `FINE` over those up to `COARSE`,
    so that its contrast cancels out."""
    height, width = rgb.shape[:2]
    left, top, right, bottom = (round(float(edge)) for edge in box)
    if left < 0 or top < 0 or right > width or bottom > height or right - left < 12:
        return None
    if bottom - top < 8:
        return None
    grey = cv2.cvtColor(rgb[top:bottom, left:right], cv2.COLOR_RGB2GRAY).astype(np.float32)
    if scale < 1:
        grey = cv2.resize(grey, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    near, far = (cv2.GaussianBlur(grey, (0, 0), sigma) for sigma in (FINE, COARSE))
    fine = max(float(np.mean((grey - near) ** 2)) - ROUNDING, 0.0)
    return float(np.sqrt(fine / (float(np.mean((near - far) ** 2)) + FLAT)))
