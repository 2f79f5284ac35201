"""Tracks the speaker through a clip by identity, not by position.

A tracked face must match the person's descriptors; otherwise all faces of the frame are searched:
after cuts, crossings and absences.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np

from kolbo_demo.engine.face_detector import QUARTER_TURNS
from kolbo_demo.engine.face_reid import (
    MIN_SIMILARITY,
    MIN_TRACKED_SIMILARITY,
    FaceDescriptor,
    Person,
)
from kolbo_demo.engine.head_pose import LOWER_OUTER, UPPER_OUTER, Pose
from kolbo_demo.engine.landmarks import NO_FACE, FaceLandmarker, FaceLandmarks, Pixels, choose_face
from kolbo_demo.engine.prefetch import prefetch, prefetch_depth
from kolbo_demo.engine.video_reader import Clip
from kolbo_demo.media.demux import CODEC_THREADS
from kolbo_demo.media.probe import MediaError
from kolbo_demo.options import Point
from kolbo_demo.process.child import cpu_count

FACE_NOT_VISIBLE = "the face is not seen"
OTHER_PERSON = "somebody else is seen"
FACE_TOO_SMALL = "the face is too small"
HEAD_TURNED = "the head is turned away"
MOUTH_OUT_OF_FRAME = "the mouth is outside the picture"
MOUTH_HIDDEN = "the mouth is hidden"
"""Reasons for unsynced lips, as the end of a sentence."""

MIN_FACE_PIXELS = 30.0
"""Longer side of the smallest face whose lips visibly move."""
MAX_TURN_DEGREES = 52.0
SHOT_CHANGE_LEVELS = 32.0
"""Mean difference of thumbnails (0-255) at a cut."""
FULL_SEARCH_INTERVAL = 8
"""Frames between searches for small or turned faces while none is found."""
OTHERS_INTERVAL = 8
"""Frames between descriptions of the other faces."""
REDUNDANT_SIMILARITY = 0.95
"""A face of this similarity adds nothing to the person's descriptors."""
LEARNING_BYTES = 100_000_000
"""Bound on the face crops in memory."""


class SpeakerFrame(NamedTuple):
    """A frame, the person's face in it, why its lips cannot be synced (None: they can), and whether
    a new shot begins."""

    rgb: Pixels
    face: FaceLandmarks | None
    reason: str | None
    cut: bool


@dataclass(frozen=True)
class SpeakerObservation:
    """The speaker in one analysed frame."""

    face: FaceLandmarks
    """Landmarks in the whole frame."""
    descriptor: FaceDescriptor
    crop: tuple[Pixels, FaceLandmarks] | None
    """The face's pixels and the landmarks in them, of frames to learn from."""
    reason: str | None
    """Why its lips cannot be synced."""

    @classmethod
    def from_frame(
        cls, rgb: Pixels, face: FaceLandmarks, descriptor: FaceDescriptor, with_crop: bool
    ) -> "SpeakerObservation":
        crop = _face_crop(rgb, face) if with_crop else None
        return cls(face, descriptor, crop, _unsynced_reason(rgb, face))

    def with_occlusion(self, person: Person) -> "SpeakerObservation":
        """Marked as hidden if its mouth is unlike the person's in the whole clip."""
        if self.reason is None and person.is_mouth_hidden(self.descriptor):
            return replace(self, reason=MOUTH_HIDDEN)
        return self


def track_person(
    frames: Iterable[tuple[int, Pixels]],
    landmarker: FaceLandmarker,
    person: Person,
    nearby: FaceLandmarks,
    known: Mapping[int, FaceLandmarks],
) -> Iterator[SpeakerFrame]:
    """The person in each of a clip's frames, which come with their numbers in the clip.

    `nearby` is the face in a frame close to the first, `known` the face in frames analysed before.
    """
    last: FaceLandmarks | None = nearby
    last_visible = nearby
    before: Pixels | None = None
    for number, rgb in frames:
        thumbnail = _thumbnail(rgb)
        cut = before is not None and _mean_difference(thumbnail, before) > SHOT_CHANGE_LEVELS
        before = thumbnail
        face, descriptor, missing = known.get(number), None, FACE_NOT_VISIBLE
        if face is None and last is not None:
            face = landmarker.follow(rgb, last)
            descriptor = None if face is None else person.describe(rgb, face)
            least = MIN_SIMILARITY if cut else MIN_TRACKED_SIMILARITY
            if descriptor is not None and person.similarity(descriptor) < least:
                face, missing = None, OTHER_PERSON
        if face is None:
            tiled = cut or number % FULL_SEARCH_INTERVAL == 0
            face, descriptor, others = _identify(rgb, landmarker, person, last_visible, tiled)
            missing = OTHER_PERSON if others else FACE_NOT_VISIBLE
        last, last_visible = face, face or last_visible
        if face is None:
            yield SpeakerFrame(rgb, None, missing, cut)
        else:
            reason = _unsynced_reason(rgb, face)
            if reason is None and person.is_mouth_hidden(descriptor or person.describe(rgb, face)):
                reason = MOUTH_HIDDEN
            yield SpeakerFrame(rgb, face, reason, cut)


def _identify(
    rgb: Pixels,
    landmarker: FaceLandmarker,
    person: Person,
    last_visible: FaceLandmarks,
    tiled: bool,
) -> tuple[FaceLandmarks | None, FaceDescriptor | None, list[tuple[FaceLandmarks, FaceDescriptor]]]:
    """The person's face among all in a frame, and the others."""
    near = (float(last_visible.centre[0]), float(last_visible.centre[1]))
    candidates = [
        (face, person.describe(rgb, face))
        for face in landmarker.detect(rgb, near, tiled, (last_visible.quarter_turns,))
    ]
    candidates.sort(key=lambda candidate: -person.similarity(candidate[1]))
    if candidates and person.similarity(candidates[0][1]) >= MIN_SIMILARITY:
        return *candidates[0], candidates[1:]
    return None, None, candidates


def _unsynced_reason(rgb: Pixels, face: FaceLandmarks) -> str | None:
    """Why a face's lips cannot be synced, by its size, turn and position."""
    if face.size < MIN_FACE_PIXELS:
        return FACE_TOO_SMALL
    forward = Pose.from_landmarks(face.points).matrix[:, 2]
    if forward[2] < np.cos(np.radians(MAX_TURN_DEGREES)) * np.linalg.norm(forward):
        return HEAD_TURNED
    lips = face.points[[*UPPER_OUTER, *LOWER_OUTER], :2]
    if lips.min() < 0 or (lips >= rgb.shape[1::-1]).any():
        return MOUTH_OUT_OF_FRAME
    return None


def _thumbnail(rgb: Pixels) -> Pixels:
    height, width = rgb.shape[:2]
    return rgb[height // 24 :: max(height // 12, 1), width // 24 :: max(width // 12, 1)].copy()


def _mean_difference(one: Pixels, other: Pixels) -> float:
    return float(np.abs(one.astype(np.int16) - other).mean())


def learn_speaker(
    clip: Clip,
    numbers: list[int],
    learning_frames: Iterable[int],
    point: Point | None,
    on_frame: Callable[[], None],
) -> tuple[Person, dict[int, SpeakerObservation]]:
    """The speaker of a clip, and observations by frame number in those of `numbers` (ascending)
    that show them. Frames in `learning_frames` retain a crop.

    `point` (0-1) chooses among the faces of the first frame that has any, else the largest is
    chosen. `on_frame` is called for each frame and may raise. Raises MediaError without a face.
    """
    at = None if point is None else (point[0] * clip.width, point[1] * clip.height)
    landmarker, crop_frames = FaceLandmarker(min(cpu_count(), CODEC_THREADS)), set(learning_frames)
    person: Person | None = None
    last: FaceLandmarks | None = None
    observations, uncertain = dict[int, SpeakerObservation](), dict[int, SpeakerObservation]()
    others, observe = list[FaceDescriptor](), SpeakerObservation.from_frame
    pictures = prefetch(clip.frames_at(numbers), prefetch_depth(3 * clip.width * clip.height))
    with closing(pictures):
        for count, (number, rgb) in enumerate(zip(numbers, pictures, strict=False)):
            on_frame()
            visible_others = list[FaceDescriptor]()
            if person is None or last is None:
                faces = landmarker.detect(rgb, near=at, turns=search_turns(count))
                face = choose_face(faces, at)
                if face is None:
                    continue
                person = Person.from_frame(rgb, face, [f for f in faces if f is not face])
                crop_frames = set(sorted(crop_frames)[:: _crop_stride(face, len(crop_frames))])
                descriptor = person.describe(rgb, face)
            else:
                face = landmarker.follow(rgb, last)
                descriptor = face and person.describe(rgb, face)
                if (
                    face is None
                    or descriptor is None
                    or person.similarity(descriptor) < MIN_SIMILARITY
                ):
                    tiled = count % FULL_SEARCH_INTERVAL == 0
                    face, descriptor, rest = _identify(rgb, landmarker, person, last, tiled)
                    if face is None or descriptor is None:
                        if rest:  # may match once more descriptors of the person are known
                            uncertain[number] = observe(rgb, *rest[0], number in crop_frames)
                        continue
                    visible_others = [other for _, other in rest]
                elif count % OTHERS_INTERVAL == 0:
                    faces = landmarker.detect_others(rgb, face)
                    visible_others = [person.describe(rgb, other) for other in faces]
            observations[number] = observe(rgb, face, descriptor, number in crop_frames)
            last = face
            others += visible_others
            if visible_others or person.similarity(descriptor) < REDUNDANT_SIMILARITY:
                person = person.updated([each.descriptor for each in observations.values()], others)
                others.clear()
    if person is None:
        raise MediaError(NO_FACE.format(what="clip"))
    for number, each in uncertain.items():
        if person.similarity(each.descriptor) >= MIN_SIMILARITY:
            observations[number] = each
    person = person.updated([each.descriptor for each in observations.values()])
    return person, {n: observations[n].with_occlusion(person) for n in sorted(observations)}


def search_turns(count: int) -> tuple[int, ...]:
    """Quarter turns to search after `count` frames without a face."""
    return QUARTER_TURNS if count % FULL_SEARCH_INTERVAL == 0 else QUARTER_TURNS[:1]


def _crop_stride(face: FaceLandmarks, count: int) -> int:
    """Sampling stride: retain every n-th of `count` crops of a face."""
    return -(-count * 5 * round(face.size) ** 2 // LEARNING_BYTES)


def _face_crop(rgb: Pixels, face: FaceLandmarks) -> tuple[Pixels, FaceLandmarks]:
    """The face's part of a frame, and the landmarks in it."""
    left, top, right, bottom = face.box
    margin = 0.1 * face.size
    x, y = max(int(left - margin), 0), max(int(top - margin), 0)
    crop = rgb[y : int(bottom + margin) + 1, x : int(right + margin) + 1].copy()
    return crop, FaceLandmarks(face.points - np.array([x, y, 0], np.float32), face.presence)
