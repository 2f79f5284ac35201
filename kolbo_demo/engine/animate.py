"""A face that speaks, picture by picture: stills that live, and clips that say something else."""

from collections import deque
from collections.abc import Callable, Iterator
from itertools import islice

import cv2
import numpy as np

from kolbo_demo.engine.deform import MouthWarp, Moved, Shape
from kolbo_demo.engine.face import NO_FACE, Face, FaceFinder, find_speaker, track
from kolbo_demo.engine.head import LOWER_INNER, RIGID, UPPER_INNER, Array, Head, Pose
from kolbo_demo.engine.interior import Palette, Teeth, painter
from kolbo_demo.engine.life import Eyelids, Life, Sway
from kolbo_demo.engine.mouth import MouthCurves
from kolbo_demo.engine.pipeline import ahead
from kolbo_demo.engine.video import Clip
from kolbo_demo.engine.warp import Box, Fine, Picture, Pixels, sampled
from kolbo_demo.media import MediaError

LEARN_FROM = 32
"""Frames of a clip from which the speaker's resting face and teeth are learnt."""
AHEAD = 3
"""Frames looked ahead in a clip, to smooth without delay and to fade round lost faces."""

Point = tuple[float, float]


class _Speaker:
    """One person's face, mouth colours and teeth: all that is known before the first frame."""

    def __init__(self, head: Head, palette: Palette, teeth: Teeth | None) -> None:
        self._warp, self._palette, self._teeth = MouthWarp(head), palette, teeth

    @classmethod
    def learnt(cls, seen: list[tuple[Pixels, Face]], relax: float | None = None) -> "_Speaker":
        """From some pictures of the person: rest from those with the most closed lips, teeth from
        the one that shows most of them."""
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

    @property
    def head(self) -> Head:
        return self._warp.head

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
    ) -> None:
        """Lays the mouth over `onto`; `strength` below 1 lets what is there show through."""
        layers = self._warp(rgb, source, pose, shape, moved)
        drawn = layers.compose(painter(self._palette, shape, layers.opening, self._teeth))
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


def still(
    picture: Pixels,
    point: Point | None,
    curves: MouthCurves,
    life: Life,
    relax: float | None = None,
) -> Iterator[Pixels]:
    """A picture that speaks, a frame for each of the curves': head, lids and mouth in one
    resampling.

    `point` is 0-1, `relax` as in `Head.at_rest`. MediaError where the picture has no face.
    """
    face = find_speaker(picture, FaceFinder(), point)
    points, pose = face.points.astype(np.float64), Pose.of(face.points)
    speaker = _Speaker.learnt([(picture, face)], relax)
    sway = Sway(pose, picture.shape[:2])
    fine = Fine(picture, sway.box)
    lids = Eyelids(fine, points, pose)
    left, top, right, bottom = sway.box
    strips = list(sway.strips(but=speaker.reach(pose, picture.shape)))
    for frame in range(len(curves)):
        shift, roll = life.shift[frame], float(life.roll[frame])
        out = picture.copy()
        moved, at = out[top:bottom, left:right], sway.head_map(shift, roll)
        for strip in strips:
            moved[strip] = sampled(fine, at[strip])
        lids.draw(moved, at, float(life.lids[frame]))
        speaker.draw(
            out, fine, points, pose, _shape(curves, frame),
            moved=lambda grid, s=shift, r=roll: sway.offset(grid, s, r),
        )  # fmt: skip
        yield out


def talking_clip(
    clip: Clip,
    face: Point | None,
    curves: MouthCurves,
    looked_at: Callable[[], None],
    passed: Callable[[], None],
    relax: float | None = None,
) -> Iterator[Pixels]:
    """A clip that says something else: each frame keeps its own head and background.

    `face` is 0-1, `relax` as in `Head.at_rest`. `looked_at` is called for each frame seen while
    learning the speaker's face, `passed` for each that had no usable face and is handed out
    unchanged. MediaError where no frame has a face.
    """
    finder = FaceFinder()
    point = None if face is None else (face[0] * clip.width, face[1] * clip.height)
    used = min(len(curves), clip.frame_count)
    looked = track(
        _watched(clip.frames(used), max(used // LEARN_FROM, 1), looked_at), finder, point
    )
    seen = [_cropped(rgb, found) for rgb, found in looked if found is not None]
    if not seen:
        raise MediaError(NO_FACE.format(what="clip"))
    speaker = _Speaker.learnt(seen, relax)
    rigid = speaker.head.points[list(RIGID)]
    frames = ahead(track(clip.frames(len(curves)), finder, point))
    for index, (window, middle) in enumerate(_windows(frames, AHEAD)):
        rgb, found = window[middle]
        if found is None:
            passed()
            yield rgb
            continue
        lost = [abs(i - middle) for i, (_, other) in enumerate(window) if other is None]
        strength = min(lost, default=AHEAD + 1) / (AHEAD + 1)
        pose = _steady_pose([other for _, other in window], middle, rigid)
        out = rgb.copy()
        points = found.points.astype(np.float64)
        speaker.draw(out, rgb, points, pose, _shape(curves, index), strength=strength)
        yield out


def _watched(
    frames: Iterator[Pixels], every: int, looked_at: Callable[[], None]
) -> Iterator[Pixels]:
    """Every so many frames, each one counted."""
    for index, rgb in enumerate(frames):
        looked_at()
        if index % every == 0:
            yield rgb


def _cropped(rgb: Pixels, face: Face) -> tuple[Pixels, Face]:
    """Only the face's part of a picture: what is kept of a clip must stay small."""
    left, top, right, bottom = face.box
    spare = 0.1 * face.size
    x, y = max(int(left - spare), 0), max(int(top - spare), 0)
    part = rgb[y : int(bottom + spare) + 1, x : int(right + spare) + 1].copy()
    return part, Face(face.points - np.array([x, y, 0], np.float32), face.presence)


_Seen = tuple[Pixels, Face | None]


def _windows(items: Iterator[_Seen], reach: int) -> Iterator[tuple[deque[_Seen], int]]:
    """Each item with up to `reach` before and after it, and its place among them."""
    held = deque(islice(items, reach + 1))
    middle = 0
    while middle < len(held):
        yield held, middle
        held.extend(islice(items, 1))
        if middle < reach:
            middle += 1
        else:
            held.popleft()


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
