"""Mouth occlusion in a single picture, by the stability of landmarks.

Landmarks of a covered mouth are a guess: they move when the landmarker's crop is moved, while those
of eyes, nose and visible mouths stay in place.
"""

import numpy as np

from kolbo_demo.engine.head_pose import LIPS, RIGID_LANDMARKS, Array, Pose
from kolbo_demo.engine.landmarks import FaceLandmarker, FaceLandmarks, Pixels

NOT_VISIBLE = (
    "The mouth is not visible in the {what}. Use one that shows the lips with nothing before them, "
    "or insist: --insist, or “Render it anyway” on the page."
)
MAX_CHECKED_TURN_DEGREES = 40.0
"""Beyond this turn of the head the mouth counts as visible: landmarks of the far side are guesses
too."""
OCCLUDED_MOTION_RATIO, OCCLUDED_MOTION_PERCENT = 1.9, 1.2
"""A mouth is hidden if its landmarks move by this ratio to those of eyes and nose, and by so many
hundredths of the eye distance. Visible mouths: ratio 1.0 in the median, at most 1.83 (beards drawn
over them); hidden ones: 2.4 in the median."""
CLEAR_MOTION_RATIOS = ((5, 1.3), (8, 1.35), (10, 1.55))
"""Numbers of crops that suffice, and the ratios below which they do. On 46 visible and 135 covered
mouths the later two never change the answer: hidden ones have at least 1.39 after 8 crops, 1.65
after 10."""
_CROPS = (
    (0.05, 0.0, 1.0, 0.0), (0.0, -0.05, 1.0, 0.0), (0.0, 0.0, 1.15, 0.0), (0.0, 0.0, 1.0, 0.15),
    (0.0, 0.0, 1.3, 0.07), (-0.05, 0.0, 1.0, 0.0), (0.0, 0.05, 1.0, 0.0), (0.0, 0.0, 0.88, 0.0),
    (0.0, 0.0, 1.0, -0.15), (0.04, 0.04, 1.1, -0.07), (-0.04, 0.04, 1.08, 0.1),
    (0.03, -0.04, 0.95, -0.1),
)  # fmt: skip
"""Arguments of `FaceLandmarker.refit`: right, down, scale, turn."""
_REFERENCE = [33, 133, 362, 263, 168, 6, 1, 4, 159, 386, 70, 300]
"""Eyes, nose and brows."""


def is_mouth_visible(landmarker: FaceLandmarker, rgb: Pixels, face: FaceLandmarks) -> bool:
    """Whether the lips are inside the picture and not covered."""
    lips = face.points[LIPS, :2]
    if lips.min() < 0 or (lips >= rgb.shape[1::-1]).any():
        return False
    forward = Pose.from_landmarks(face.points).matrix[:, 2]
    if forward[2] < np.cos(np.radians(MAX_CHECKED_TURN_DEGREES)) * np.linalg.norm(forward):
        return True
    fits: list[Array] = []
    lip_motion, first = np.inf, 0
    for last, clear_ratio in (*CLEAR_MOTION_RATIOS, (len(_CROPS), OCCLUDED_MOTION_RATIO)):
        for crop in _CROPS[first:last]:
            refit = landmarker.refit(rgb, face, *crop)
            if refit is not None:
                fits.append(_pose_normalised(face, refit))
        first = last
        if len(fits) < 3:
            return False
        motion = np.hypot(*np.std(fits, axis=0).T)
        lip_motion, reference_motion = motion[LIPS].mean(), motion[_REFERENCE].mean()
        if lip_motion < clear_ratio * reference_motion:
            return True
    eye_distance = np.linalg.norm(face.points[33] - face.points[263])
    return bool(100 * lip_motion < OCCLUDED_MOTION_PERCENT * eye_distance)


def _pose_normalised(face: FaceLandmarks, other: FaceLandmarks) -> Array:
    """Landmarks of another fit, (478, 2) pixels, with the change of head pose removed."""
    own, points = face.points.astype(np.float64), other.points.astype(np.float64)
    rigid = list(RIGID_LANDMARKS)
    return Pose.fit(own[rigid], points[rigid]).unproject(points)[:, :2]
