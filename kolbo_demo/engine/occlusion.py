"""Whether a face's mouth can be seen, told from a single picture.

Landmarks of a covered mouth are a guess. They move when the crop that they are found in is moved,
while those of eyes and nose hold, and those of a mouth that is seen hold as well as these.
"""

import numpy as np

from kolbo_demo.engine.head_pose import (
    LOWER_INNER,
    LOWER_OUTER,
    RIGID,
    UPPER_INNER,
    UPPER_OUTER,
    Array,
    Pose,
)
from kolbo_demo.engine.landmarks import Face, FaceFinder, Pixels

NOT_VISIBLE = (
    "The mouth is not visible in the {what}. Use one that shows the lips with nothing before them, "
    "or insist: --insist, or “Render it anyway” on the page."
)
FURTHEST = 40.0
"""Degrees of a turned head beyond which its mouth is taken to be seen: landmarks of the far side
are guesses, too."""
RATIO, LEAST = 1.9, 1.2
"""How much more the lips' landmarks move than those of eyes and nose, and hundredths of the eye
distance that they move, from which the mouth is hidden. Mouths that are seen have a ratio of 1.0 in
the median and at most 1.83 (beards drawn over them), hidden ones 2.4 in the median."""
DOUBTFUL = 1.3
"""Ratio under which a few crops are enough."""
_CROPS = (
    (0.05, 0.0, 1.0, 0.0), (0.0, -0.05, 1.0, 0.0), (0.0, 0.0, 1.15, 0.0), (0.0, 0.0, 1.0, 0.15),
    (0.0, 0.0, 1.3, 0.07), (-0.05, 0.0, 1.0, 0.0), (0.0, 0.05, 1.0, 0.0), (0.0, 0.0, 0.88, 0.0),
    (0.0, 0.0, 1.0, -0.15), (0.04, 0.04, 1.1, -0.07), (-0.04, 0.04, 1.08, 0.1),
    (0.03, -0.04, 0.95, -0.1),
)  # fmt: skip
"""Right and down in sides of the face's crop, times its size, and radians."""
_FEW = 5
_LIPS = [*UPPER_OUTER, *LOWER_OUTER, *UPPER_INNER, *LOWER_INNER]
_HELD = [33, 133, 362, 263, 168, 6, 1, 4, 159, 386, 70, 300]
"""Eyes, nose and brows."""


def mouth_visible(finder: FaceFinder, rgb: Pixels, face: Face) -> bool:
    """Whether the lips are inside the picture and nothing is before them."""
    lips = face.points[_LIPS, :2]
    if lips.min() < 0 or (lips >= rgb.shape[1::-1]).any():
        return False
    forward = Pose.of(face.points).matrix[:, 2]
    if forward[2] < np.cos(np.radians(FURTHEST)) * np.linalg.norm(forward):
        return True
    found: list[Array] = []
    for crops in (_CROPS[:_FEW], _CROPS[_FEW:]):
        for crop in crops:
            again = finder.refitted(rgb, face, *crop)
            if again is not None:
                found.append(_laid_on(face, again))
        if len(found) < 3:
            return False
        moves = np.hypot(*np.std(found, axis=0).T)
        lips_move, rest_moves = moves[_LIPS].mean(), moves[_HELD].mean()
        if lips_move < DOUBTFUL * rest_moves:
            return True
    apart = np.linalg.norm(face.points[33] - face.points[263])
    return bool(lips_move < RATIO * rest_moves or 100 * lips_move < LEAST * apart)


def _laid_on(face: Face, other: Face) -> Array:
    """Another fit of a face with its head's pose taken out, (478, 2) pixels."""
    own, points = (one.points.astype(np.float64) for one in (face, other))
    return Pose.aligning(own[list(RIGID)], points[list(RIGID)]).unproject(points)[:, :2]
