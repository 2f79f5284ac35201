"""A face that speaks, picture by picture: stills that live, and clips that say something else."""

from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import NamedTuple

import cv2
import numpy as np

from kolbo_demo.engine.deform import Ease, MouthWarp, Moved, Shape, corners_in
from kolbo_demo.engine.face import NO_FACE, Face, FaceFinder, track
from kolbo_demo.engine.head import (
    LOWER_INNER,
    RIGID,
    UPPER_INNER,
    Array,
    Head,
    Pose,
    smoothstep,
)
from kolbo_demo.engine.interior import Palette, Teeth, painter
from kolbo_demo.engine.life import Eyelids, Life, Sway
from kolbo_demo.engine.lips import eased, lips_only
from kolbo_demo.engine.mouth import MouthCurves
from kolbo_demo.engine.mouths import Cast, Mouths, covers, tones, unseen
from kolbo_demo.engine.pipeline import ahead, depth
from kolbo_demo.engine.video import Clip
from kolbo_demo.engine.warp import Box, Fine, Picture, Pixels, sampled
from kolbo_demo.media import MediaError

LEARN_FROM = 64
"""Frames of a clip from which the speaker's resting face, teeth and mouths are learnt."""
AHEAD = 3
"""Frames looked ahead in a clip, to smooth without delay and to fade round lost faces."""
WARM_UP = 8
"""Frames of a clip in which a face is followed before the first that is shown: AHEAD, and enough
for landmarks to forget where following began. More of them bring nothing more."""
SMILE_GONE = 7.0
"""Millimetres that the corners of the mouth come in until a smile has left no crease."""
UNSEEN = "face not seen"
"""Why a frame has the lips it had."""

Point = tuple[float, float]


@dataclass(frozen=True)
class Speaker:
    """One person's face, mouth colours and teeth: all that is known before the first frame."""

    head: Head
    palette: Palette
    teeth: Teeth | None
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
        return cls(head, palette, teeth)


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
    ) -> None:
        """Lays the mouth over `onto`; `strength` below 1 lets what is there show through.

        `cast` are the clip's own mouths to show instead of a painted one."""
        layers = self._warp(rgb, source, pose, shape, moved, ease)
        teeth = self._speaker.teeth
        paint = painter(self._speaker.palette, shape, layers.opening, teeth)
        drawn = layers.compose(unseen if cast and covers(cast) else paint)
        if cast and self._speaker.mouths is not None:
            assert not isinstance(rgb, Fine), "a still has no mouths of its own"
            self._speaker.mouths.lay(layers, drawn, cast, tones(rgb, source, pose.scale))
        left, top, right, bottom = layers.box
        there = onto[top:bottom, left:right]
        if strength < 1:
            drawn = cv2.addWeighted(drawn, strength, there, 1 - strength, 0)
        there[:] = drawn


def _gap(head: Array) -> float:
    return float((head[list(LOWER_INNER), 1] - head[list(UPPER_INNER), 1]).mean())


def _shape(curves: MouthCurves, frame: int) -> Shape:
    c = curves
    return Shape(
        float(c.jaw[frame]), float(c.aperture[frame]), float(c.width[frame]),
        float(c.protrusion[frame]), float(c.tongue[frame]), float(c.teeth[frame]),
        float(c.closure[frame]), float(c.smile[frame]),
    )  # fmt: skip


def planned(
    speaker: Speaker, mouths: Mouths, curves: MouthCurves, numbers: list[int]
) -> list[Cast]:
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
) -> Iterator[Pixels]:
    """A picture that speaks, the frames of a range: head, lids and mouth in one resampling.

    `points` (478, 3) are the landmarks in it, pixels.
    """
    pose = Pose.of(points.astype(np.float32))
    mouth, sway = _Mouth(speaker), Sway(pose, picture.shape[:2], points)
    bare = lips_only(picture, points, pose)
    fine = Fine(bare, sway.box)
    creaseless, boxes = eased(bare, points, pose)
    skin = Fine(creaseless, mouth.reach(pose, picture.shape))
    seen = pose.unproject(points)
    lids = Eyelids(fine, points, pose)
    left, top, right, bottom = sway.box
    strips = list(sway.strips(but=mouth.reach(pose, picture.shape)))
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


class View(NamedTuple):
    """What was seen of the speaker in one frame: the face's part of the picture, the landmarks in
    it, and those in the whole picture."""

    rgb: Pixels
    face: Face
    whole: Face


def look(
    clip: Clip, numbers: list[int], point: Point | None, looked_at: Callable[[], None]
) -> dict[int, View]:
    """The speaker in some of a clip's frames: those of `numbers` (ascending) that show the face.

    `point` is 0-1. `looked_at` is called for each frame. MediaError where none has a face.
    """
    at = None if point is None else (point[0] * clip.width, point[1] * clip.height)
    tracked = track(_watched(clip.frames_at(numbers), looked_at), FaceFinder(), at)
    seen = {
        number: View(*_cropped(rgb, found), found)
        for number, (rgb, found) in zip(numbers, tracked, strict=False)
        if found is not None
    }
    if not seen:
        raise MediaError(NO_FACE.format(what="clip"))
    return seen


def _watched(frames: Iterator[Pixels], looked_at: Callable[[], None]) -> Iterator[Pixels]:
    for rgb in frames:
        looked_at()
        yield rgb


def talking_clip(
    clip: Clip,
    anchor: Face,
    speaker: Speaker,
    curves: MouthCurves,
    casts: list[Cast],
    shown: range,
    passed: Callable[[int, str], None],
    threaded: bool = True,
) -> Iterator[Pixels]:
    """A clip that says something else, the frames of a range: each keeps its own head and
    background.

    The face is followed from WARM_UP frames earlier on, from `anchor`: where it was or will be.
    `passed` gets the number of each frame that had no usable face and is handed out unchanged, and
    why. `threaded` follows the face in a thread of its own.
    """
    mouth = _Mouth(speaker)
    rigid = speaker.head.points[list(RIGID)]
    start, stop = max(shown.start - WARM_UP, 0), min(shown.stop + AHEAD, len(curves))
    frames = track(clip.frames(stop - start, start), FaceFinder(), None, anchor)
    if threaded:
        frames = ahead(frames, depth(3 * clip.width * clip.height))
    windows = _windows(frames, AHEAD)
    for index, (rgb, faces, middle) in enumerate(windows, start):
        if index < shown.start:
            continue
        if index == shown.stop:
            return
        found = faces[middle]
        if found is None:
            passed(index, UNSEEN)
            yield rgb
            continue
        lost = [abs(i - middle) for i, other in enumerate(faces) if other is None]
        strength = min(lost, default=AHEAD + 1) / (AHEAD + 1)
        pose = _steady_pose(faces, middle, rigid)
        out = rgb.copy()
        points = found.points.astype(np.float64)
        mouth.draw(
            out, rgb, points, pose, _shape(curves, index), strength=strength, cast=casts[index]
        )
        yield out


def _cropped(rgb: Pixels, face: Face) -> tuple[Pixels, Face]:
    """Only the face's part of a picture: what is kept of a clip must stay small."""
    left, top, right, bottom = face.box
    spare = 0.1 * face.size
    x, y = max(int(left - spare), 0), max(int(top - spare), 0)
    part = rgb[y : int(bottom + spare) + 1, x : int(right + spare) + 1].copy()
    return part, Face(face.points - np.array([x, y, 0], np.float32), face.presence)


def _windows(
    items: Iterator[tuple[Pixels, Face | None]], reach: int
) -> Iterator[tuple[Pixels, list[Face | None], int]]:
    """Each picture with the faces from up to `reach` before it to as many after it, and the place
    of its own among them."""
    pictures: deque[Pixels] = deque()
    faces: deque[Face | None] = deque()

    def take(count: int) -> None:
        for rgb, face in islice(items, count):
            pictures.append(rgb)
            faces.append(face)

    take(reach + 1)
    middle = 0
    while pictures:
        yield pictures.popleft(), list(faces), middle
        take(1)
        if middle < reach:
            middle += 1
        else:
            faces.popleft()


def _steady_pose(faces: list[Face | None], middle: int, rigid: Array) -> Pose:
    """The middle face's pose, smoothed by its neighbours, as many before it as after."""
    reach = 0
    while (
        middle - reach > 0
        and middle + reach + 1 < len(faces)
        and faces[middle - reach - 1] is not None
        and faces[middle + reach + 1] is not None
    ):
        reach += 1
    near = [face for face in faces[middle - reach : middle + reach + 1] if face is not None]
    poses = [Pose.aligning(rigid, face.points[list(RIGID)].astype(np.float64)) for face in near]
    weights = np.exp(-0.5 * (np.arange(-reach, reach + 1) / 1.2) ** 2)
    return Pose(
        np.average([pose.matrix for pose in poses], axis=0, weights=weights),
        np.average([pose.shift for pose in poses], axis=0, weights=weights),
    )
