"""The appearance of one speaker, learned from a still or from reference frames of a clip."""

from dataclasses import dataclass, field

import numpy as np

from kolbo_demo.engine import motion_blur
from kolbo_demo.engine.head_pose import LOWER_INNER, UPPER_INNER, Array, Head, Pose
from kolbo_demo.engine.landmarks import FaceLandmarks
from kolbo_demo.engine.mouth_colours import Palette
from kolbo_demo.engine.mouth_exemplars import ExemplarSet
from kolbo_demo.engine.own_teeth import Teeth
from kolbo_demo.engine.thin_plate import Pixels
from kolbo_demo.json_codec import stored_as


@dataclass(frozen=True)
class Speaker:
    """One person's head at rest, mouth colours and teeth."""

    head: Head
    palette: Palette
    teeth: Teeth | None
    structure_tensor: Array = field(metadata=stored_as("detail"))
    """Of the upper face without motion, see `motion_blur`."""
    exemplars: ExemplarSet | None = field(default=None, metadata=stored_as("mouths"))
    """Of a clip."""

    @classmethod
    def from_pictures(
        cls, pictures: list[tuple[Pixels, FaceLandmarks]], relax: float | None = None
    ) -> "Speaker":
        """Learn rest from the fifth of the pictures with the most closed lips, teeth from one of
        the six with the most open ones. `relax` as in `Head.at_rest`."""
        faces = [face.points.astype(np.float64) for _, face in pictures]
        poses = [Pose.from_landmarks(face.points) for _, face in pictures]
        heads = [pose.unproject(points) for pose, points in zip(poses, faces, strict=True)]
        by_gap = np.argsort([_lip_gap(head) for head in heads])
        closed = by_gap[: max(len(heads) // 5, 1)]
        head = Head.at_rest(np.median([heads[i] for i in closed], axis=0), relax)
        palette = Palette.from_picture(pictures[closed[0]][0], faces[closed[0]])
        teeth = None
        for i in by_gap[::-1][:6]:
            to_mm = head.to_mouth_mm(poses[i])
            teeth = Teeth.detect(pictures[i][0], faces[i], to_mm, poses[i].scale)
            if teeth is not None:
                break
        tensors = [
            motion_blur.structure_tensor(rgb, pose)
            for (rgb, _), pose in zip(pictures, poses, strict=True)
        ]
        return cls(head, palette, teeth, np.median(tensors, axis=0))


def _lip_gap(head: Array) -> float:
    return float((head[list(LOWER_INNER), 1] - head[list(UPPER_INNER), 1]).mean())
