"""The whole job: a source and a voice to a video whose lips say it."""

from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from itertools import islice
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from kolbo_demo.engine import Cancelled, EngineError, problem
from kolbo_demo.engine.deform import MouthWarp, Pixels, Shape, sampled
from kolbo_demo.engine.face import NO_FACE, Face, FaceFinder, find_speaker, track
from kolbo_demo.engine.head import LOWER_INNER, RIGID, UPPER_INNER, Array, Head, Pose
from kolbo_demo.engine.interior import Palette, Teeth, painter
from kolbo_demo.engine.life import Eyelids, Life, Sway
from kolbo_demo.engine.mouth import MouthCurves, mouth_curves
from kolbo_demo.engine.speech import RATE, loudness, phonemes
from kolbo_demo.engine.video import Clip, Writer, frames_for, load_voice
from kolbo_demo.media import MediaError, inspect_source, upright_image

STILL_FPS = 25
STILL_PIXELS = 1920 * 1088
"""A larger still is scaled down to about so many pixels."""
LEARN_FROM = 32
"""Frames of a clip from which the speaker's resting face and teeth are learnt."""
AHEAD = 3
"""Frames looked ahead in a clip, to smooth without delay and to fade round lost faces."""

OnProgress = Callable[[int, int], None]
IsCancelled = Callable[[], bool]


@dataclass(frozen=True)
class Rendered:
    """What came out: sizes in pixels, duration in seconds."""

    frames: int
    fps: float
    duration: float
    width: int
    height: int
    skipped: int
    """Frames without a usable face, passed through unchanged."""


def render(
    source: Path,
    audio: Path,
    output: Path,
    face: tuple[float, float] | None = None,
    on_progress: OnProgress | None = None,
    cancelled: IsCancelled | None = None,
) -> Rendered:
    """Make `source` (a picture or a clip) say `audio` and write it to `output` as MP4.

    `face` is a point, x and y in 0-1 of the upright picture: the face nearest to it speaks, else
    the largest. `on_progress` gets frames done and frames in all. `cancelled` is asked at every
    frame. The output is as long as the voice. Raises MediaError where the input cannot work,
    Cancelled, or EngineError where this machine cannot render; nothing is left behind then.
    """
    if (missing := problem()) is not None:
        raise EngineError(missing)
    cv2.setNumThreads(1)  # oversubscribed cores cost far more than threads gain
    job = _Job(on_progress or (lambda _done, _total: None), cancelled or (lambda: False))
    kind = inspect_source(source).kind
    job.check()
    wave = load_voice(audio, RATE)
    duration = len(wave) / RATE
    if duration < 0.04:
        raise MediaError("The audio is too short to show: use at least 0.04 seconds.")
    level = loudness(wave)
    sounds = phonemes(wave)
    job.check()
    if kind == "image":
        frames = frames_for(duration, Fraction(STILL_FPS))
        curves = mouth_curves(sounds, level, STILL_FPS, frames)
        picture = _fitted(upright_image(source))
        height, width = picture.shape[:2]
        pictures = _still(picture, face, curves, Life.of(level, STILL_FPS, frames))
        job.total, fps = frames, Fraction(STILL_FPS)
        return job.write(pictures, output, (width, height), fps, audio, duration)
    with Clip(source) as clip:
        frames = frames_for(duration, clip.fps)
        curves = mouth_curves(sounds, level, float(clip.fps), frames)
        job.total = frames + min(frames, clip.frame_count)
        pictures = _clip(clip, face, curves, job)
        return job.write(pictures, output, (clip.width, clip.height), clip.fps, audio, duration)


class _Job:
    """Progress, cancelling, and the frames that had no face."""

    def __init__(self, on_progress: OnProgress, cancelled: IsCancelled) -> None:
        self._on_progress, self._cancelled = on_progress, cancelled
        self.done = self.total = self.skipped = 0

    def check(self) -> None:
        if self._cancelled():
            raise Cancelled("The generation was cancelled.")

    def step(self) -> None:
        self.check()
        self.done += 1
        self._on_progress(self.done, self.total)

    def write(
        self,
        pictures: Iterator[Pixels],
        output: Path,
        size: tuple[int, int],
        fps: Fraction,
        audio: Path,
        duration: float,
    ) -> Rendered:
        count = 0
        with Writer(output, *size, fps, audio, duration) as writer:
            for picture in pictures:
                writer.write(picture)
                count += 1
                self.step()
        return Rendered(count, float(fps), duration, *size, self.skipped)


def _fitted(image: Image.Image) -> Pixels:
    """RGB pixels with even sides, at most STILL_PIXELS of them."""
    width, height = image.size
    shrink = min((STILL_PIXELS / (width * height)) ** 0.5, 1.0)
    size = max(round(width * shrink / 2) * 2, 2), max(round(height * shrink / 2) * 2, 2)
    if shrink < 1:
        image = image.resize(size, Image.Resampling.LANCZOS)
    elif size != image.size:
        image = image.crop((0, 0, width // 2 * 2, height // 2 * 2))
    return np.asarray(image)


class _Speaker:
    """One person's face, mouth colours and teeth: all that is known before the first frame."""

    def __init__(self, head: Head, palette: Palette, teeth: Teeth | None) -> None:
        self._warp, self._palette, self._teeth = MouthWarp(head), palette, teeth

    @classmethod
    def learnt(cls, seen: list[tuple[Pixels, Face]]) -> "_Speaker":
        """From some pictures of the person: rest from those with the most closed lips, teeth from
        the one that shows most of them."""
        faces = [face.points.astype(np.float64) for _, face in seen]
        heads = [Pose.of(face.points).unproject(points) for (_, face), points in
                 zip(seen, faces, strict=True)]  # fmt: skip
        gaps = [_gap(head) for head in heads]
        closed = np.argsort(gaps)[: max(len(heads) // 5, 1)]
        head = Head.at_rest(np.median([heads[i] for i in closed], axis=0))
        best = closed[0]
        palette = Palette.of(seen[best][0], faces[best])
        teeth = None
        for index in np.argsort(gaps)[::-1][:6]:
            pose = Pose.of(seen[index][1].points)
            teeth = Teeth.shown(seen[index][0], faces[index], _to_mm(head, pose), pose.scale)
            if teeth is not None:
                break
        return cls(head, palette, teeth)

    @property
    def head(self) -> Head:
        return self._warp.head

    def draw(
        self,
        onto: Pixels,
        rgb: Pixels,
        source: Array,
        pose: Pose,
        shape: Shape,
        moved: Callable[[Array], Array] | None = None,
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


def _to_mm(head: Head, pose: Pose) -> Array:
    origin = pose.project(head.mouth_centre[None])[0]
    back = np.linalg.inv(pose.matrix[:2, :2])
    return np.column_stack([back, -back @ origin])


def _gap(head: Array) -> float:
    return float((head[list(LOWER_INNER), 1] - head[list(UPPER_INNER), 1]).mean())


def _shape(curves: MouthCurves, frame: int) -> Shape:
    c = curves
    return Shape(
        float(c.jaw[frame]), float(c.aperture[frame]), float(c.width[frame]),
        float(c.protrusion[frame]), float(c.tongue[frame]), float(c.teeth[frame]),
        float(c.closure[frame]),
    )  # fmt: skip


def _still(
    picture: Pixels, point: tuple[float, float] | None, curves: MouthCurves, life: Life
) -> Iterator[Pixels]:
    """A picture that speaks: head, lids and mouth in one resampling."""
    face = find_speaker(picture, FaceFinder(), point)
    points, pose = face.points.astype(np.float64), Pose.of(face.points)
    speaker = _Speaker.learnt([(picture, face)])
    sway, lids = Sway(pose, picture.shape[:2]), Eyelids(points, pose)
    left, top, right, bottom = sway.box
    for frame in range(len(curves)):
        shift, roll = life.shift[frame], float(life.roll[frame])
        out = picture.copy()
        at = sway.head_map(shift, roll)
        lids.close(at, float(life.lids[frame]))
        out[top:bottom, left:right] = sampled(picture, at)
        speaker.draw(
            out, picture, points, pose, _shape(curves, frame),
            moved=lambda pixels, s=shift, r=roll: sway.offset(pixels, s, r),
        )  # fmt: skip
        yield out


def _clip(
    clip: Clip, face: tuple[float, float] | None, curves: MouthCurves, job: _Job
) -> Iterator[Pixels]:
    """A clip that says something else: each frame keeps its own head and background."""
    finder = FaceFinder()
    point = None if face is None else (face[0] * clip.width, face[1] * clip.height)
    used = min(len(curves), clip.frame_count)
    looked = track(_watched(clip.frames(used), max(used // LEARN_FROM, 1), job), finder, point)
    seen = [_cropped(rgb, found) for rgb, found in looked if found is not None]
    if not seen:
        raise MediaError(NO_FACE.format(what="clip"))
    speaker = _Speaker.learnt(seen)
    rigid = speaker.head.points[list(RIGID)]
    frames = track(clip.frames(len(curves)), finder, point)
    for index, (window, middle) in enumerate(_windows(frames, AHEAD)):
        rgb, found = window[middle]
        if found is None:
            job.skipped += 1
            yield rgb
            continue
        lost = [abs(i - middle) for i, (_, other) in enumerate(window) if other is None]
        strength = min(lost, default=AHEAD + 1) / (AHEAD + 1)
        pose = _steady_pose([other for _, other in window], middle, rigid)
        out = rgb.copy()
        points = found.points.astype(np.float64)
        speaker.draw(out, rgb, points, pose, _shape(curves, index), strength=strength)
        yield out


def _watched(frames: Iterator[Pixels], every: int, job: _Job) -> Iterator[Pixels]:
    """Every so many frames, each one counted."""
    for index, rgb in enumerate(frames):
        job.step()
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
