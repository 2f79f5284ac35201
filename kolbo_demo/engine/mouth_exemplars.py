"""Mouth exemplars: textures of a clip's own mouths, after "Video Rewrite" (Bregler, Covell and
Slaney, 1997).

Lips, teeth and tongue of a frame are taken from the exemplar whose shape, pose and light come
nearest (`exemplar_plan`), warped to the target shape and blended into the frame (`exemplar_blend`).
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property

import cv2
import numpy as np
from numpy.typing import NDArray

from kolbo_demo.engine.head_pose import (
    LOWER_INNER,
    LOWER_OUTER,
    RIGID_LANDMARKS,
    UPPER_INNER,
    UPPER_OUTER,
    Array,
    Head,
    Pose,
)
from kolbo_demo.engine.landmarks import FaceLandmarks
from kolbo_demo.engine.mouth_curves import OPENING_CALIBRATION
from kolbo_demo.engine.mouth_shape import LIPS
from kolbo_demo.engine.npz_codec import stored_as
from kolbo_demo.engine.thin_plate import Map, Pixels

MAX_EXEMPLARS, MAX_EXEMPLAR_BYTES = 48, 16_000_000
"""Exemplars of a clip, and bytes of their pixels."""
CROP_MARGIN_MM = (24.0, 20.0)
"""Skin in an exemplar's picture, beside the lips and above and below them."""
BLEND_MARGIN_MM = 4.0
"""Skin around the lips that is taken from the exemplar."""

SKIN_SITES = (
    164, 167, 393, 165, 391, 206, 426, 216, 436, 212, 432, 202, 422, 204, 424, 200, 201, 421, 194,
    418, 186, 410,
)  # fmt: skip
"""Landmarks around the mouth at which the light of two frames is compared."""
_SKIN_SITE_MM = 1.4
"""Radius around each of them."""
_LUMA = np.array([0.299, 0.587, 0.114], np.float32)


@dataclass(frozen=True)
class MouthExemplar:
    """One mouth of a clip."""

    rgb: Pixels
    """Crop of the frame."""
    points: Array
    """Landmarks (478, 3) in the crop, pixels, with corrected inner lip edges."""
    pose: Pose
    """Of the head, in pixels of the crop."""
    tone: Map
    """Colours at SKIN_SITES, (sites, 3)."""
    interior_share: float = field(metadata=stored_as("inside"))
    """Share of the opening's pixels that do not look like lip, 0-1."""
    brightness: float = field(metadata=stored_as("light"))
    """Mean brightness of the opening, 1-256."""
    darkest: float = field(metadata=stored_as("hollow"))
    """Position of the darkest part between upper and lower lip, 0-1: stretching shows least there.
    """

    @cached_property
    def lips(self) -> Array:
        """Positions of the points LIPS, (44, 2) head millimetres."""
        return self.pose.unproject(self.points[LIPS])[:, :2]

    @property
    def is_whole(self) -> bool:
        """Whether the crop contains the lips with the skin that is blended."""
        lips, rim = self.points[LIPS, :2], BLEND_MARGIN_MM * self.pose.scale
        size = np.array(self.rgb.shape[1::-1])
        return bool((lips.min(0) >= rim).all() and (lips.max(0) < size - rim).all())

    @classmethod
    def crop(cls, rgb: Pixels, points: Array, pose: Pose) -> "MouthExemplar":
        """The mouth of a frame; `points` (478, 3) are its landmarks in pixels."""
        points = _correct_lip_gap(points, pose)
        margin = np.array(CROP_MARGIN_MM) * pose.scale
        lips = points[LIPS, :2]
        left, top = np.maximum(lips.min(0) - margin, 0).astype(int)
        right, bottom = (lips.max(0) + margin).astype(int) + 1
        shift = np.array([left, top, 0])
        tone = skin_tones(rgb, points, pose.scale)
        pixels = rgb[top:bottom, left:right].copy()
        points, pose = points - shift, Pose(pose.matrix, pose.shift - shift)
        return cls(pixels, points, pose, tone, *_measure_interior(pixels, points, pose))


@dataclass(frozen=True)
class ExemplarSet:
    """A clip's exemplars, and what its reference frames show, as arrays over these frames."""

    exemplars: tuple[MouthExemplar, ...] = field(metadata=stored_as("kept"))
    frames: Array = field(metadata=stored_as("places"))
    """Frame numbers in the clip, (n,)."""
    forward: Array = field(metadata=stored_as("turns"))
    """Forward directions of the head, (n, 3)."""
    log_brightness: Array = field(metadata=stored_as("lights"))
    """Logarithms of the skin's brightness, (n,)."""
    lips: Array
    """Positions of the points LIPS, (n, 44, 2) head millimetres."""

    @classmethod
    def from_pictures(
        cls, head: Head, pictures: Sequence[tuple[Pixels, FaceLandmarks]], frames: Sequence[int]
    ) -> "ExemplarSet":
        """Learn from pictures of one person at `frames` of the clip. Blurred, cropped and hidden
        mouths are left out."""
        rigid = head.points[list(RIGID_LANDMARKS)]
        mouths, errors, sharpness = list[MouthExemplar](), [], []
        for rgb, face in pictures:
            points = face.points.astype(np.float64)
            pose = Pose.fit(rigid, points[list(RIGID_LANDMARKS)])
            off = pose.project(rigid) - points[list(RIGID_LANDMARKS), :2]
            errors.append(float(np.sqrt((off**2).sum(1).mean())) / pose.scale)
            mouths.append(MouthExemplar.crop(rgb, points, pose))
            sharpness.append(_sharpness(mouths[-1].rgb))
        usable = np.array(errors) < 2.0 * np.median(errors) + 0.5
        usable &= np.array(sharpness) > 0.6 * np.median(sharpness)
        usable &= np.array([mouth.is_whole for mouth in mouths])
        usable &= _has_typical_skin(np.array([mouth.tone for mouth in mouths]))
        return cls(
            tuple(_most_diverse([m for m, good in zip(mouths, usable, strict=True) if good])),
            np.array(frames, np.float64),
            forward_directions(mouths),
            skin_brightness(mouths),
            np.array([mouth.lips for mouth in mouths]),
        )


def forward_directions(mouths: Sequence[MouthExemplar]) -> Array:
    """Unit vectors (n, 3) of the heads' forward directions."""
    return np.array([mouth.pose.matrix[:, 2] / mouth.pose.scale for mouth in mouths])


def skin_brightness(mouths: Sequence[MouthExemplar]) -> Array:
    """Logarithms (n,) of the skin's brightness."""
    return np.array([np.log(mouth.tone.mean()) for mouth in mouths])


def skin_tones(rgb: Pixels, points: Array, scale: float) -> Map:
    """Colours at SKIN_SITES plus 1, (sites, 3) float32; `points` (478, 2+) are in pixels."""
    reach = max(_SKIN_SITE_MM * scale, 1.0)
    ring = np.linspace(-reach, reach, 5)
    at = points[list(SKIN_SITES), None, None, :2] + np.stack(np.meshgrid(ring, ring), -1)
    height, width = rgb.shape[:2]
    x = np.clip(np.rint(at[..., 0]).astype(int), 0, width - 1)
    y = np.clip(np.rint(at[..., 1]).astype(int), 0, height - 1)
    return rgb[y, x].reshape(len(SKIN_SITES), -1, 3).mean(1, dtype=np.float32) + 1.0


def _correct_lip_gap(points: Array, pose: Pose) -> Array:
    """Landmarks with corrected inner lip edges: the landmarker takes slightly open lips for closed
    ones (see `mouth_curves.SHOWN`)."""
    down = pose.matrix[:2, 1]
    unit = float(down @ down)
    upper, lower = list(UPPER_INNER), list(LOWER_INNER)
    gaps = ((points[lower, :2] - points[upper, :2]) @ down) / unit
    measured = float(gaps[3:8].mean())
    correction = max(float(np.interp(measured, *OPENING_CALIBRATION)) - measured, 0.0)
    t = np.linspace(-1, 1, len(upper))
    by = (0.5 * correction * (1 - t**2))[:, None] * down
    out = points.copy()
    out[upper, :2] -= by
    out[lower, :2] += by
    return out


def _measure_interior(rgb: Pixels, points: Array, pose: Pose) -> tuple[float, float, float]:
    """`interior_share`, `brightness` and `darkest` of an exemplar.

    The interior is darker, lighter or less red than both lips. The landmarker sometimes takes the
    shade between closed lips for an opening.
    """
    opening = np.zeros(rgb.shape[:2], np.uint8)
    ring = points[[*UPPER_INNER, *LOWER_INNER[::-1]], :2]
    cv2.fillPoly(opening, [np.rint(ring * 16).astype(np.int32)], 1, cv2.LINE_8, 4)
    shape = np.array(rgb.shape[1::-1]) - 1
    lips = []
    for inner, outer in ((UPPER_INNER, UPPER_OUTER), (LOWER_INNER, LOWER_OUTER)):
        ends = points[list(inner[2:9]), :2], points[list(outer[2:9]), :2]
        middle = np.concatenate([w * ends[0] + (1 - w) * ends[1] for w in (0.3, 0.5, 0.7)])
        x, y = np.clip(np.rint(middle).astype(int), 0, shape).T
        lips.append(_tint(rgb[y, x]))
    dark = min(float(np.percentile(light, 20)) for light, _ in lips)
    bright = max(float(np.percentile(light, 80)) for light, _ in lips)
    red = min(float(np.percentile(redness, 20)) for _, redness in lips)
    if not opening.any():  # the picture ends above the mouth
        return 0.0, 1.0, 0.5
    y, x = np.nonzero(opening)
    light, redness = _tint(rgb[y, x])
    interior = (light < 0.8 * dark) | (light > bright + 12) | (redness < red - 7)
    back = np.linalg.inv(pose.matrix[:2, :2]).T
    mm = np.column_stack([x, y]) @ back
    up, low = (
        np.interp(mm[:, 0], ring[:, 0], ring[:, 1])
        for ring in (points[list(edge), :2] @ back for edge in (UPPER_INNER, LOWER_INNER))
    )
    position = np.clip((mm[:, 1] - up) / np.maximum(low - up, 0.1), 0, 1)
    darkness = np.maximum(np.percentile(light, 75) - light, 0.01)
    darkest = float((position * darkness).sum() / darkness.sum())
    return float(interior.mean()), float(light.mean()) + 1, darkest


def _tint(rgb: Pixels) -> tuple[Map, Map]:
    """Brightness and redness of colours (n, 3)."""
    colours = rgb.astype(np.float32)
    return colours @ _LUMA, colours[:, 0] - colours[:, 1:].mean(1)


def lip_gap(lips: Array) -> NDArray[np.floating]:
    """Height (...) of the middle of the opening, mm, for points LIPS (..., 44, 2)."""
    n = len(UPPER_INNER)
    upper, lower = lips[..., -2 * n : -n, 1], lips[..., -n:, 1]
    return np.maximum((lower - upper)[..., 3:8].mean(-1), 0)


def _sharpness(rgb: Pixels) -> float:
    """Mean absolute Laplacian."""
    grey = cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY).astype(np.float32)
    return float(np.abs(cv2.Laplacian(grey, cv2.CV_32F)).mean())


def _has_typical_skin(tone: Array) -> NDArray[np.bool_]:
    """Whether the skin around each mouth resembles that of most pictures, whatever the light. A
    hand or a microphone does not. `tone` is (n, sites, 3)."""
    values = np.log(tone)
    values = values - np.median(values, axis=1, keepdims=True)
    off = np.abs(values - np.median(values, axis=0)).mean((1, 2))
    return off < 2.5 * np.median(off) + 0.05


def _most_diverse(mouths: list[MouthExemplar]) -> list[MouthExemplar]:
    """The most different mouths, by farthest point sampling: at most MAX_EXEMPLARS and
    MAX_EXEMPLAR_BYTES."""
    if not mouths:
        return []
    fitting = int(MAX_EXEMPLAR_BYTES / max(mouth.rgb.nbytes for mouth in mouths))
    count = min(MAX_EXEMPLARS, max(fitting, 1))
    if len(mouths) <= count:
        return mouths
    lips = np.array([mouth.lips for mouth in mouths])
    chosen = [int(np.argmin(lip_gap(lips)))]
    distance = np.full(len(mouths), np.inf)
    while len(chosen) < count:
        distance = np.minimum(distance, ((lips - lips[chosen[-1]]) ** 2).sum((1, 2)))
        chosen.append(int(distance.argmax()))
    return [mouths[i] for i in sorted(chosen)]
