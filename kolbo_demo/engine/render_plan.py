"""One render in parts that know of each other only what a small file tells: any process, on any
machine, in any order.

`prepare` looks at the source and listens to the voice, once; `render_segment` makes some seconds of
the picture; `join` puts these one after another, without encoding them again, and the voice beside
them. Who makes which segment changes nothing: lengths are fixed, and all that a segment needs of
those before it (where the face was) is in the plan.
"""

from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, closing
from dataclasses import dataclass, replace
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from threading import Event
from typing import Any, Literal, NamedTuple

import cv2
import numpy as np
from av.video.reformatter import Colorspace
from PIL import Image

from kolbo_demo.engine import Cancelled, EngineError, npz_codec, problem, video_writer
from kolbo_demo.engine.audio_io import read_voice
from kolbo_demo.engine.compositor import LEARN_FROM, WARM_UP, Speaker, planned, still, talking_clip
from kolbo_demo.engine.face_reid import Person
from kolbo_demo.engine.head_pose import Array
from kolbo_demo.engine.idle_motion import Life
from kolbo_demo.engine.landmarks import Face, FaceFinder, find_speaker
from kolbo_demo.engine.mouth_curves import MouthCurves, mouth_curves
from kolbo_demo.engine.mouth_exemplars import Casts, Mouths
from kolbo_demo.engine.occlusion import NOT_VISIBLE, mouth_visible
from kolbo_demo.engine.phoneme_model import RATE
from kolbo_demo.engine.prefetch import ahead, depth
from kolbo_demo.engine.prompt import AS_PEOPLE_DO, Directions
from kolbo_demo.engine.speaker_tracking import Point, look
from kolbo_demo.engine.speech_features import Features, Heard, hear
from kolbo_demo.engine.thin_plate import Pixels
from kolbo_demo.engine.video_reader import Clip
from kolbo_demo.engine.video_writer import PieceWriter, frames_for
from kolbo_demo.engine.watermark import Mark
from kolbo_demo.engine.yuv import Planes, patched
from kolbo_demo.media.audio_track import soundtrack
from kolbo_demo.media.demux import THREADS
from kolbo_demo.media.probe import MediaError, inspect_source, upright_picture

SEGMENT_SECONDS = 10
STILL_FPS = 25
STILL_PIXELS = 1920 * 1088
"""A larger still is scaled down to about so many pixels."""
STILL_SIDE = 3840
"""The longer side of a still: players refuse what is much longer."""
SCALED = "the picture was scaled down to {}x{}"
"""A note."""
LOOPED = 600
"""Frames of a clip that plays back and forth up to which every one is looked at beforehand."""
SHORTEST_VOICE = 0.04
"""Seconds."""
CANCELLED = "The generation was cancelled."

OnProgress = Callable[[int, int], None]
IsCancelled = Callable[[], bool]


class Unsynced(NamedTuple):
    """Frames `first` to `end` - 1 of the result that were left as they are, and why."""

    first: int
    end: int
    reason: str

    def told(self, fps: float) -> dict[str, Any]:
        """In seconds of the result: `start`, `end` and `reason`."""
        start, end = (round(frame / fps, 3) for frame in (self.first, self.end))
        return {"start": start, "end": end, "reason": self.reason}


@dataclass(frozen=True)
class Plan:
    """All that a segment needs to know beside the source: what `prepare` found out."""

    kind: Literal["image", "video"]
    width: int
    height: int
    """Pixels of the result."""
    fps: Fraction
    frames: int
    """Of the result."""
    duration: float
    """Seconds of the voice."""
    looks: int
    """Frames that were looked at to learn the speaker."""
    speaker: Speaker
    curves: MouthCurves
    life: Life | None
    """Of a still."""
    edges: list[int]
    """The first frame of each segment, and at last the number of frames."""
    casts: Casts | None
    """Of a clip: the mouths shown in each frame."""
    faces: Array
    """Landmarks (n, 478, 3), pixels: a still's own, or those of the frames of a clip that were
    looked at and show the speaker,"""
    places: list[int]
    """and the numbers of these in the clip."""
    person: Person | None
    """Of a clip: whom to follow."""
    matrix: int = int(Colorspace.ITU709)
    """How luma and colours are mixed in the result."""
    notes: tuple[str, ...] = ()
    """Changes to the source's colours, and the track or channel used as the voice."""
    mark: bool = False
    """Whether every frame says that it is AI-generated."""

    @property
    def segments(self) -> list[range]:
        """Frames of each segment."""
        return [range(first, end) for first, end in pairwise(self.edges)]


def segments_in(duration: float | Fraction) -> int:
    """How many equally long segments of about SEGMENT_SECONDS so many seconds make."""
    return max(round(duration / SEGMENT_SECONDS), 1)


def _edges(frames: int, fps: Fraction) -> list[int]:
    count = segments_in(frames / fps)
    return [frames * i // count for i in range(count + 1)]


def prepare(
    source: Path,
    audio: Path,
    plan: Path,
    face: Point | None = None,
    directions: Directions = AS_PEOPLE_DO,
    on_progress: OnProgress | None = None,
    cancelled: IsCancelled | None = None,
    mark: bool = False,
    insist: bool = False,
) -> Plan:
    """Look at `source`, listen to `audio`, and write what segments need to the file `plan`.

    Arguments and errors are those of `render.render`. `on_progress` gets the frames looked at, and
    how many there are in the whole job: those, and all that will be shown.
    """
    _check_engine()
    tell, stop = on_progress or _untold, cancelled or _unstopped
    kind = inspect_source(source).kind
    _check(stop)
    voice = features(audio)
    duration = voice.duration
    if duration < SHORTEST_VOICE:
        raise MediaError(
            f"The audio is too short to show: use at least {SHORTEST_VOICE:g} seconds."
        )
    left = Event()
    with ThreadPoolExecutor(1, "hearing") as pool:
        # While the source is looked at, and no longer than that is worth while.
        hearing = pool.submit(hear, voice, lambda: _check(lambda: left.is_set() or stop()))
        try:
            if kind == "image":
                made = _of_still(source, duration, face, hearing, directions, insist)
            else:
                made = _of_clip(source, duration, face, hearing, directions, tell, stop, insist)
        finally:
            left.set()
    _check(stop)
    made = replace(made, mark=mark, notes=(*made.notes, *soundtrack(audio).notes))
    npz_codec.save(plan, made)
    return made


def features(audio: Path) -> Features:
    """What a file's voice is heard by. Raises MediaError."""
    return Features.of(read_voice(audio, RATE))


def _of_still(
    source: Path,
    duration: float,
    face: Point | None,
    hearing: Future[Heard],
    directions: Directions,
    insist: bool,
) -> Plan:
    fps = Fraction(STILL_FPS)
    frames = frames_for(duration, fps)
    picture, notes = read_still(source)
    finder = FaceFinder()
    found = find_speaker(picture, finder, face)
    if not insist and not mouth_visible(finder, picture, found):
        raise MediaError(NOT_VISIBLE.format(what="picture"))
    height, width = picture.shape[:2]
    speaker = Speaker.learnt([(picture, found)], directions.relax)
    heard = hearing.result()
    return Plan(
        kind="image",
        width=width,
        height=height,
        fps=fps,
        frames=frames,
        duration=duration,
        looks=0,
        speaker=speaker,
        curves=mouth_curves(heard, STILL_FPS, frames).directed(directions),
        life=Life.of(heard.level, STILL_FPS, frames).directed(directions),
        edges=_edges(frames, fps),
        casts=None,
        faces=found.points[None],
        places=[0],
        person=None,
        notes=notes,
    )


def _of_clip(
    source: Path,
    duration: float,
    face: Point | None,
    hearing: Future[Heard],
    directions: Directions,
    tell: OnProgress,
    stop: IsCancelled,
    insist: bool,
) -> Plan:
    with Clip(source) as clip:
        frames = frames_for(duration, clip.fps)
        used = min(frames, clip.frame_count)
        learnt_from = range(0, used, max(used // LEARN_FROM, 1))
        edges = _edges(frames, clip.fps)
        if frames > used and used <= LOOPED:
            numbers = list(range(used))  # each is shown several times, and looked for once
        else:
            starts = [clip.number_at(max(edge - WARM_UP, 0)) for edge in edges[:-1]]
            numbers = sorted({*learnt_from, *starts})
        done = 0

        def looked_at() -> None:
            nonlocal done
            _check(stop)
            done += 1
            tell(done, len(numbers) + frames)

        person, views = look(clip, numbers, learnt_from, face, looked_at)
        parts = {number: view for number, view in views.items() if view.part}
        usable = {number: view for number, view in parts.items() if not view.reason} or parts
        pictures = [view.part for view in usable.values() if view.part]
        _check(stop)
        if not insist and not _mouth_seen(pictures):
            raise MediaError(NOT_VISIBLE.format(what="clip"))
        speaker = Speaker.learnt(pictures, directions.relax)
        mouths = Mouths.learnt(speaker.head, pictures, list(usable))
        curves = mouth_curves(hearing.result(), float(clip.fps), frames).directed(directions)
        shown = [clip.number_at(frame) for frame in range(frames)]
        return Plan(
            kind="video",
            width=clip.width,
            height=clip.height,
            fps=clip.fps,
            frames=frames,
            duration=duration,
            looks=len(numbers),
            speaker=replace(speaker, mouths=mouths),
            curves=curves,
            life=None,
            edges=edges,
            casts=planned(speaker, mouths, curves, shown),
            faces=np.array([view.whole.points for view in views.values()]),
            places=list(views),
            person=person,
            matrix=int(clip.matrix),
            notes=clip.notes,
        )


def _mouth_seen(pictures: list[tuple[Pixels, Face]]) -> bool:
    """Whether any of a few of a clip's pictures shows the speaker's mouth."""
    finder, few = FaceFinder(), pictures[:: max(len(pictures) // 3, 1)]
    return any(mouth_visible(finder, rgb, face) for rgb, face in few)


def render_segment(
    plan: Path | Plan,
    source: Path,
    index: int,
    output: Path,
    on_progress: OnProgress | None = None,
    cancelled: IsCancelled | None = None,
    threaded: bool = True,
) -> list[Unsynced]:
    """Make one segment of what `prepare` planned (or of its file): a video without sound at
    `output`.

    `on_progress` gets the segment's frames done, and how many it has. `threaded` overlaps its
    stages, for a machine with a core to spare; the video is the same. Returns what could not be
    synced. Raises MediaError, Cancelled, EngineError or OSError; nothing is left behind then.
    """
    _check_engine()
    tell, stop = on_progress or _untold, cancelled or _unstopped
    given = _read(plan)
    shown, unseen = given.segments[index], list[Unsynced]()

    def passed(frame: int, reason: str) -> None:
        unseen.append(Unsynced(frame, frame + 1, reason))

    mark = Mark(given.width, given.height) if given.mark else None
    with ExitStack() as stack:
        if given.kind == "image":
            pictures = _still_segment(given, source, shown, mark)
        else:
            clip = stack.enter_context(Clip(source, THREADS if threaded else 1))
            pictures = _clip_segment(given, clip, index, passed, threaded, mark)
        if threaded:
            pictures = ahead(pictures, depth(3 * given.width * given.height))
        stack.enter_context(closing(pictures))  # before the clip, which its threads read
        # By the plan, not by who makes it, so that all pieces are encoded alike.
        threads = THREADS if len(given.segments) == 1 else 1
        with PieceWriter(
            output, given.width, given.height, given.fps, threads, Colorspace(given.matrix)
        ) as writer:
            for picture in pictures:
                _check(stop)
                writer.write(picture)
                tell(writer.written, len(shown))
    return merged(unseen)


def _still_segment(plan: Plan, source: Path, shown: range, mark: Mark | None) -> Generator[Pixels]:
    points, life = plan.faces[0], plan.life
    assert life is not None
    picture, _ = read_still(source)
    face = points.astype(np.float64)
    pictures = still(picture, face, plan.speaker, plan.curves, life, shown)
    yield from map(mark, pictures) if mark else pictures


def _clip_segment(
    plan: Plan,
    clip: Clip,
    index: int,
    passed: Callable[[int, str], None],
    threaded: bool,
    mark: Mark | None,
) -> Generator[Pixels | Planes]:
    """Frames, and of those of which the file has planes that can be kept only these."""
    assert plan.person is not None
    assert plan.casts is not None
    known = {n: Face(points, 1.0) for n, points in zip(plan.places, plan.faces, strict=True)}
    frames = talking_clip(
        clip, plan.person, known, plan.speaker, plan.curves, plan.casts, plan.segments[index],
        passed, threaded,
    )  # fmt: skip
    with closing(frames):
        for frame in frames:
            after = mark(frame.after) if mark else frame.after
            if frame.planes is None:
                yield after
                continue
            boxes = [*frame.boxes, mark.box] if mark else frame.boxes
            yield patched(frame.planes, frame.before, after, boxes, clip.matrix)


def join(plan: Path | Plan, segments: Iterable[Path], audio: Path, output: Path) -> Plan:
    """Put the segments that `render_segment` made, in order, into one MP4 with the voice.

    `segments` may be still in the making: each is opened when its turn comes. Returns the plan.
    Raises MediaError, EngineError or OSError; nothing is left behind then.
    """
    given = _read(plan)
    video_writer.join(segments, audio, output, given.fps, given.frames)
    return given


def _read(plan: Path | Plan) -> Plan:
    return plan if isinstance(plan, Plan) else npz_codec.load(plan, Plan)


def merged(spans: Iterable[Unsynced]) -> list[Unsynced]:
    """Spans in order, with neighbours of one reason made one."""
    out: list[Unsynced] = []
    for span in sorted(spans):
        if out and out[-1].end == span.first and out[-1].reason == span.reason:
            out[-1] = out[-1]._replace(end=span.end)
        else:
            out.append(span)
    return out


def check_synced(unsynced: list[Unsynced], frames: int) -> None:
    """Raises MediaError where no frame of a result could be synced."""
    if sum(span.end - span.first for span in unsynced) == frames:
        longest = max(unsynced, key=lambda span: span.end - span.first)
        raise MediaError(
            f"No part of the clip could be synced: {longest.reason}. Use a clip in which the "
            "speaker's mouth can be seen, or point at another face."
        )


def _check_engine() -> None:
    if (missing := problem()) is not None:
        raise EngineError(missing)
    cv2.setNumThreads(1)  # oversubscribed cores cost far more than threads gain


def _check(cancelled: IsCancelled) -> None:
    if cancelled():
        raise Cancelled(CANCELLED)


def _untold(_done: int, _total: int) -> None:
    pass


def _unstopped() -> bool:
    return False


def read_still(source: Path) -> tuple[Pixels, tuple[str, ...]]:
    """RGB pixels with even sides of at most STILL_SIDE, at most STILL_PIXELS of them, and notes on
    what was changed. Raises MediaError."""
    image, notes = upright_picture(source, enough=STILL_PIXELS)
    width, height = image.size
    shrink = min((STILL_PIXELS / (width * height)) ** 0.5, STILL_SIDE / max(width, height), 1.0)
    size = max(round(width * shrink / 2) * 2, 2), max(round(height * shrink / 2) * 2, 2)
    if shrink < 1:
        image = image.resize(size, Image.Resampling.LANCZOS)
        notes = (*notes, SCALED.format(*size))
    elif size != image.size:
        image = image.crop((0, 0, width // 2 * 2, height // 2 * 2))
    return np.asarray(image), notes
