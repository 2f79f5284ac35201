"""A face that speaks, picture by picture: stills that live, and clips that say something else."""

from collections import deque
from collections.abc import Callable, Generator, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from typing import NamedTuple

import cv2
import numpy as np

from kolbo_demo.engine import motion_blur
from kolbo_demo.engine.face_reid import Person
from kolbo_demo.engine.head_pose import (
    LOWER_INNER,
    RIGID,
    UPPER_INNER,
    Array,
    Head,
    Pose,
    smoothstep,
)
from kolbo_demo.engine.idle_motion import Eyelids, Life, Sway
from kolbo_demo.engine.landmarks import Face, FaceFinder
from kolbo_demo.engine.lip_inpaint import eased, lips_only
from kolbo_demo.engine.mouth_curves import MouthCurves
from kolbo_demo.engine.mouth_exemplars import Cast, Casts, Mouths, blur_lips, covers, tones, unseen
from kolbo_demo.engine.mouth_interior import Palette, Teeth, painter
from kolbo_demo.engine.mouth_warp import Ease, MouthWarp, Moved, Shape, corners_in
from kolbo_demo.engine.prefetch import ahead, depth
from kolbo_demo.engine.speaker_tracking import COVERED, UNSEEN, Sighting, tracked
from kolbo_demo.engine.thin_plate import Box, Fine, Picture, Pixels, sampled
from kolbo_demo.engine.video_reader import Clip
from kolbo_demo.engine.yuv import Planes

LEARN_FROM = 64
"""Frames of a clip from which the speaker's resting face, teeth and mouths are learnt."""
SMILE_GONE = 7.0
"""Millimetres that the corners of the mouth come in until a smile has left no crease."""
SMOOTH, FADE, COVERED_REACH = 3, 3, 2
"""Frames on either side over which a clip's head pose is smoothed; over which lips that speak fade
into those that are left as they are; and that are left on either side of a covered mouth."""
STEADY = 3.0
"""Millimetres from a frame to another over which its pose is not smoothed any more."""
AHEAD = FADE + COVERED_REACH + 1
"""Frames looked ahead in a clip to do so without delay."""
WARM_UP = AHEAD + 4
"""Frames of a clip in which a face is followed before the first that is shown: enough for landmarks
to forget where following began. More of them bring nothing more."""


@dataclass(frozen=True)
class Speaker:
    """One person's face, mouth colours and teeth: all that is known before the first frame."""

    head: Head
    palette: Palette
    teeth: Teeth | None
    detail: Array
    """What the face shows when it does not move, see `blur.detail`."""
    mouths: Mouths | None = None
    """Those that a clip shows."""

    @classmethod
    def learnt(cls, seen: list[tuple[Pixels, Face]], relax: float | None = None) -> "Speaker":
        """From some pictures of the person: rest from those with the most closed lips, teeth from
        the one that shows most of them. `relax` as in `Head.at_rest`."""
        faces = [face.points.astype(np.float64) for _, face in seen]
        heads = [Pose.of(face.points).unproject(points) for (_, face), points in
                 zip(seen, faces, strict=True)]  # fmt: skip
        gaps = [_gap(head) for head in heads]
        closed = np.argsort(gaps)[: max(len(heads) // 5, 1)]
        head = Head.at_rest(np.median([heads[i] for i in closed], axis=0), relax)
        best = closed[0]
        palette = Palette.of(seen[best][0], faces[best])
        teeth = None
        for index in np.argsort(gaps)[::-1][:6]:
            pose = Pose.of(seen[index][1].points)
            teeth = Teeth.shown(seen[index][0], faces[index], head.to_mouth_mm(pose), pose.scale)
            if teeth is not None:
                break
        details = [motion_blur.detail(rgb, Pose.of(face.points)) for rgb, face in seen]
        return cls(head, palette, teeth, np.median(details, axis=0))


class _Mouth:
    """Draws a speaker's mouth."""

    def __init__(self, speaker: Speaker) -> None:
        self._warp, self._speaker = MouthWarp(speaker.head), speaker

    def reach(self, pose: Pose, size: tuple[int, ...]) -> Box:
        """See `MouthWarp.reach`."""
        return self._warp.reach(pose, size)

    def draw(
        self,
        onto: Pixels,
        rgb: Picture,
        source: Array,
        pose: Pose,
        shape: Shape,
        moved: Moved | None = None,
        strength: float = 1.0,
        cast: Cast | None = None,
        ease: Ease | None = None,
        way: Array | None = None,
    ) -> Box:
        """Lays the mouth over `onto`; `strength` below 1 lets what is there show through. Returns
        left, top, right, bottom of what it has covered.

        `cast` are the clip's own mouths to show instead of a painted one, `way` the pixels (2,) by
        which the face goes in a frame."""
        layers = self._warp(rgb, source, pose, shape, moved, ease)
        teeth = self._speaker.teeth
        paint = painter(self._speaker.palette, shape, layers.opening, teeth)
        drawn = layers.compose(unseen if cast and covers(cast) else paint)
        if cast and self._speaker.mouths is not None:
            assert not isinstance(rgb, Fine), "a still has no mouths of its own"
            self._speaker.mouths.lay(layers, drawn, cast, tones(rgb, source, pose.scale))
        if way is not None and not isinstance(rgb, Fine):
            by = motion_blur.seen(rgb, pose, way, self._speaker.detail)
            if np.abs(by).max() > 1:
                blur_lips(layers, drawn, by)
        left, top, right, bottom = layers.box
        there = onto[top:bottom, left:right]
        if strength < 1:
            drawn = cv2.addWeighted(drawn, strength, there, 1 - strength, 0)
        there[:] = drawn
        return layers.box


def _gap(head: Array) -> float:
    return float((head[list(LOWER_INNER), 1] - head[list(UPPER_INNER), 1]).mean())


def _shape(curves: MouthCurves, frame: int) -> Shape:
    c = curves
    return Shape(
        float(c.jaw[frame]), float(c.aperture[frame]), float(c.width[frame]),
        float(c.protrusion[frame]), float(c.tongue[frame]), float(c.teeth[frame]),
        float(c.closure[frame]), float(c.smile[frame]),
    )  # fmt: skip


def planned(speaker: Speaker, mouths: Mouths, curves: MouthCurves, numbers: list[int]) -> Casts:
    """Which of a clip's mouths to show in each frame; `numbers` are the clip's frames behind."""
    shapes = [_shape(curves, frame) for frame in range(len(curves))]
    return mouths.planned(speaker.head, shapes, np.array(numbers, np.float64))


def still(
    picture: Pixels,
    points: Array,
    speaker: Speaker,
    curves: MouthCurves,
    life: Life,
    shown: range,
) -> Generator[Pixels]:
    """A picture that speaks, the frames of a range: head, lids and mouth in one resampling.

    `points` (478, 3) are the landmarks in it, pixels.
    """
    pose = Pose.of(points.astype(np.float32))
    mouth, sway = _Mouth(speaker), Sway(pose, picture.shape[:2], points)
    bare = lips_only(picture, points, pose)
    fine = Fine(bare, sway.box)
    creaseless, boxes = eased(bare, points, pose)
    reach = mouth.reach(pose, picture.shape)
    skin = Fine(creaseless, reach)
    seen = pose.unproject(points)
    lids = Eyelids(fine, points, pose)
    left, top, right, bottom = sway.box
    strips = list(sway.strips(but=reach))
    for frame in shown:
        shift, roll = life.shift[frame], float(life.roll[frame])
        out = picture.copy()
        moved = out[top:bottom, left:right]
        at = sway.head_map(shift, roll, float(life.brows[frame]))
        for strip in strips:
            moved[strip] = sampled(fine, at[strip])
        shape = _shape(curves, frame)
        smiling = corners_in(speaker.head, seen, shape)
        mouth.draw(
            out, fine, points, pose, shape,
            moved=lambda grid, s=shift, r=roll: sway.offset(grid, s, r),
            ease=Ease(skin, boxes, float(smoothstep(np.array(smiling / SMILE_GONE)))),
        )  # fmt: skip
        # Last: of a tilted head the mouth's box reaches an eye.
        lids.draw(moved, at, float(life.lids[frame]))
        yield out


class Spoken(NamedTuple):
    """A clip's frame before and after, the planes that the file has of it (`planes.py`), and the
    boxes out of which nothing has changed."""

    before: Pixels
    after: Pixels
    planes: Planes | None
    boxes: list[Box]


def talking_clip(
    clip: Clip,
    person: Person,
    known: Mapping[int, Face],
    speaker: Speaker,
    curves: MouthCurves,
    casts: Casts,
    shown: range,
    passed: Callable[[int, str], None],
    threaded: bool = True,
) -> Generator[Spoken]:
    """A clip that says something else, the frames of a range: each keeps its own head and
    background.

    The person is followed from WARM_UP frames earlier on; `known` are faces by the clip's frame
    numbers, at least one. `passed` gets the number of each frame that is handed out unchanged, and
    why. `threaded` follows the person in a thread of its own.
    """
    mouth = _Mouth(speaker)
    rigid = speaker.head.points[list(RIGID)]
    start, stop = max(shown.start - WARM_UP, 0), min(shown.stop + AHEAD, len(curves))
    numbers = [clip.number_at(frame) for frame in range(start, stop)]
    before = known[min(known, key=lambda number: abs(number - numbers[0]))]
    planes = deque[Planes | None]()

    def frames() -> Iterator[tuple[int, Pixels]]:
        played = clip.frames_and_planes(stop - start, start)
        for number, (rgb, own) in zip(numbers, played, strict=True):
            planes.append(own)
            yield number, rgb

    sightings = tracked(frames(), FaceFinder(), person, before, known)
    if threaded:
        sightings = ahead(sightings, depth(3 * clip.width * clip.height))
    for index, (rgb, window, middle) in enumerate(_windows(sightings, rigid), start):
        own = planes.popleft()
        if index < shown.start:
            continue
        if index == shown.stop:
            return
        found, strength, reason = window[middle], *_left(window, middle)
        if reason is not None or found.face is None:
            passed(index, reason or UNSEEN)
            yield Spoken(rgb, rgb, own, [])
            continue
        out = rgb.copy()
        points = found.face.points.astype(np.float64)
        box = mouth.draw(
            out, rgb, points, _steady_pose(window, middle), _shape(curves, index),
            strength=strength, cast=casts[index], way=_way(window, middle),
        )  # fmt: skip
        yield Spoken(rgb, out, own, [box])


class _Seen(NamedTuple):
    """A sighting without its picture, and the head's pose in it."""

    face: Face | None
    pose: Pose | None
    reason: str | None
    cut: bool


def _windows(
    sightings: Iterator[Sighting], rigid: Array
) -> Iterator[tuple[Pixels, list[_Seen], int]]:
    """Each picture with what was seen from up to AHEAD before it to as many after it, and the
    place of its own among them."""
    pictures: deque[Pixels] = deque()
    seen: deque[_Seen] = deque()

    def take(count: int) -> None:
        for rgb, face, reason, cut in islice(sightings, count):
            pose = face and Pose.aligning(rigid, face.points[list(RIGID)].astype(np.float64))
            pictures.append(rgb)
            seen.append(_Seen(face, pose, reason, cut))

    take(AHEAD + 1)
    middle = 0
    while pictures:
        yield pictures.popleft(), list(seen), middle
        take(1)
        if middle < AHEAD:
            middle += 1
        else:
            seen.popleft()


def _left(window: list[_Seen], middle: int) -> tuple[float, str | None]:
    """How strongly the middle frame's mouth is shown, 0-1, and at 0 why it is left as it is."""
    first, end = _shot(window, middle)
    reasons = [one.reason for one in window[first:end]]
    covered = [reason == COVERED for reason in reasons]
    here = middle - first
    # One frame alone that looks covered is chance; what comes and goes hides more than it seems.
    sure = [
        one and any(covered[max(i - 1, 0) : i] + covered[i + 1 : i + 2])
        for i, one in enumerate(covered)
    ]
    wide = [any(sure[max(i - COVERED_REACH, 0) : i + COVERED_REACH + 1]) for i in range(len(sure))]
    left = [
        COVERED if hidden else None if reason == COVERED else reason
        for hidden, reason in zip(wide, reasons, strict=True)
    ]
    away = min((abs(i - here) for i, reason in enumerate(left) if reason), default=FADE + 1)
    return min(away, FADE + 1) / (FADE + 1), left[here]


def _shot(window: list[_Seen], middle: int) -> tuple[int, int]:
    """The first of the middle frame's shot in a window, and the end of it."""
    first = max((i for i in range(middle + 1) if window[i].cut), default=0)
    end = min((i for i in range(middle + 1, len(window)) if window[i].cut), default=len(window))
    return first, end


def _way(window: list[_Seen], middle: int) -> Array:
    """How far the middle face goes in a frame, (2,) pixels."""
    first, end = _shot(window, middle)
    near = range(max(middle - 1, first), min(middle + 2, end))
    at = [pose.shift[:2] for i in near if (pose := window[i].pose) is not None]
    return (at[-1] - at[0]) / max(len(at) - 1, 1)


def _steady_pose(window: list[_Seen], middle: int) -> Pose:
    """The middle face's pose, smoothed by its neighbours, as many before it as after, less where
    it moves: there jitter is not seen, but a delay would be."""
    first, end = _shot(window, middle)
    poses = [one.pose for one in window]
    here = poses[middle]
    assert here is not None
    reach = 0
    while (
        reach < SMOOTH
        and first <= middle - reach - 1
        and middle + reach + 1 < end
        and poses[middle - reach - 1] is not None
        and poses[middle + reach + 1] is not None
    ):
        reach += 1
    near = [pose for pose in poses[middle - reach : middle + reach + 1] if pose is not None]
    off = np.array([np.linalg.norm((pose.shift - here.shift)[:2]) for pose in near]) / here.scale
    off = np.maximum(off, off[::-1])
    weights = np.exp(-0.5 * (np.arange(-reach, reach + 1) / 1.2) ** 2 - (off / STEADY) ** 2)
    return Pose(
        np.average([pose.matrix for pose in near], axis=0, weights=weights),
        np.average([pose.shift for pose in near], axis=0, weights=weights),
    )
