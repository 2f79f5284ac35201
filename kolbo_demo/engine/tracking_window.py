"""A tracked face with its neighbouring frames: smoothed pose, motion, and whether its lips can be
replaced. Frames are read ahead, so that none of these lags behind."""

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from typing import NamedTuple

import numpy as np

from kolbo_demo.engine.head_pose import RIGID_LANDMARKS, Array, Pose
from kolbo_demo.engine.landmarks import FaceLandmarks
from kolbo_demo.engine.speaker_tracking import MOUTH_HIDDEN, SpeakerFrame
from kolbo_demo.engine.thin_plate import Pixels

POSE_SMOOTHING_FRAMES = 3
"""Frames on either side over which the head's pose is smoothed."""
POSE_MOTION_MM = 3.0
"""Distance between two frames' poses that reduces their mutual smoothing by a factor of e."""
FADE_FRAMES = 3
"""Frames over which replaced lips fade into unchanged ones."""
OCCLUSION_MARGIN_FRAMES = 2
"""Frames on either side of a covered mouth that are left unchanged."""
LOOKAHEAD_FRAMES = FADE_FRAMES + OCCLUSION_MARGIN_FRAMES + 1
"""Frames that are read ahead."""


class TrackedFrame(NamedTuple):
    """A frame without its picture, with the head's pose."""

    face: FaceLandmarks | None
    pose: Pose | None
    reason: str | None
    cut: bool


@dataclass(frozen=True)
class TrackingWindow:
    """A frame and its neighbours of the same shot, up to LOOKAHEAD_FRAMES on either side."""

    frames: list[TrackedFrame]
    middle: int
    """Index of the frame itself."""

    @classmethod
    def within_shot(cls, frames: list[TrackedFrame], middle: int) -> "TrackingWindow":
        """Drop the frames of other shots."""
        after = range(middle + 1, len(frames))
        first = max((i for i in range(middle + 1) if frames[i].cut), default=0)
        end = min((i for i in after if frames[i].cut), default=len(frames))
        return cls(frames[first:end], middle - first)

    @property
    def face(self) -> FaceLandmarks | None:
        return self.frames[self.middle].face

    def mouth_strength(self) -> tuple[float, str | None]:
        """Opacity of the replaced mouth, 0-1, and at 0 the reason for leaving it unchanged."""
        reasons = [frame.reason for frame in self.frames]
        covered = [reason == MOUTH_HIDDEN for reason in reasons]
        # A single covered frame is noise; around others the mouth is partly covered.
        confirmed = [
            one and any(covered[max(i - 1, 0) : i] + covered[i + 1 : i + 2])
            for i, one in enumerate(covered)
        ]
        margin = OCCLUSION_MARGIN_FRAMES
        widened = [
            any(confirmed[max(i - margin, 0) : i + margin + 1]) for i in range(len(confirmed))
        ]
        reasons = [
            MOUTH_HIDDEN if hidden else None if reason == MOUTH_HIDDEN else reason
            for hidden, reason in zip(widened, reasons, strict=True)
        ]
        distances = (abs(i - self.middle) for i, reason in enumerate(reasons) if reason)
        distance = min(distances, default=FADE_FRAMES + 1)
        return min(distance, FADE_FRAMES + 1) / (FADE_FRAMES + 1), reasons[self.middle]

    def motion(self) -> Array:
        """Motion of the face a frame, (2,) pixels."""
        near = self.frames[max(self.middle - 1, 0) : self.middle + 2]
        at = [frame.pose.shift[:2] for frame in near if frame.pose is not None]
        return (at[-1] - at[0]) / max(len(at) - 1, 1)

    def smoothed_pose(self) -> Pose:
        """The pose, averaged with as many neighbours before as after, less where it moves: motion
        hides jitter, but not lag."""
        middle = self.middle
        poses = [frame.pose for frame in self.frames]
        own = poses[middle]
        assert own is not None
        reach = 0
        while (
            reach < POSE_SMOOTHING_FRAMES
            and middle - reach - 1 >= 0
            and middle + reach + 1 < len(poses)
            and poses[middle - reach - 1] is not None
            and poses[middle + reach + 1] is not None
        ):
            reach += 1
        near = [pose for pose in poses[middle - reach : middle + reach + 1] if pose is not None]
        off = np.array([np.linalg.norm((pose.shift - own.shift)[:2]) for pose in near]) / own.scale
        off = np.maximum(off, off[::-1]) / POSE_MOTION_MM
        weights = np.exp(-0.5 * (np.arange(-reach, reach + 1) / 1.2) ** 2 - off**2)
        return Pose(
            np.average([pose.matrix for pose in near], axis=0, weights=weights),
            np.average([pose.shift for pose in near], axis=0, weights=weights),
        )


def tracking_windows(
    sightings: Iterator[SpeakerFrame], rigid: Array
) -> Iterator[tuple[Pixels, TrackingWindow]]:
    """Each picture with its window; `rigid` are its RIGID_LANDMARKS, (n, 3) millimetres."""
    pictures: deque[Pixels] = deque()
    frames: deque[TrackedFrame] = deque()

    def take(count: int) -> None:
        for rgb, face, reason, cut in islice(sightings, count):
            pose = face and Pose.fit(rigid, face.points[list(RIGID_LANDMARKS)].astype(np.float64))
            pictures.append(rgb)
            frames.append(TrackedFrame(face, pose, reason, cut))

    take(LOOKAHEAD_FRAMES + 1)
    middle = 0
    while pictures:
        yield pictures.popleft(), TrackingWindow.within_shot(list(frames), middle)
        take(1)
        if middle < LOOKAHEAD_FRAMES:
            middle += 1
        else:
            frames.popleft()
