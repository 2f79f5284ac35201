"""Renders one segment of a plan."""

from collections.abc import Callable, Generator
from contextlib import ExitStack, closing
from pathlib import Path
from typing import TypeVar

import numpy as np
from av.video.reformatter import Colorspace

from kolbo_demo.engine.compositor import animate_clip, animate_still
from kolbo_demo.engine.landmarks import FaceLandmarks
from kolbo_demo.engine.prefetch import prefetch, prefetch_depth
from kolbo_demo.engine.preview import PreviewWriter
from kolbo_demo.engine.render_plan import (
    OnProgress,
    RenderPlan,
    ShouldStop,
    check_engine,
    check_not_stopped,
)
from kolbo_demo.engine.still_picture import load_still
from kolbo_demo.engine.thin_plate import Pixels
from kolbo_demo.engine.unsynced import UnsyncedSpan, merge_spans
from kolbo_demo.engine.video_reader import Clip
from kolbo_demo.engine.video_writer import SegmentWriter
from kolbo_demo.engine.watermark import Watermark
from kolbo_demo.engine.yuv import Planes, StillPlanes, patch_planes
from kolbo_demo.media.demux import CODEC_THREADS

Frame = TypeVar("Frame")


def render_segment(
    plan: RenderPlan,
    source: Path,
    index: int,
    output: Path,
    on_progress: OnProgress | None = None,
    should_stop: ShouldStop | None = None,
    threaded: bool = True,
    preview: Path | None = None,
) -> list[UnsyncedSpan]:
    """Render one segment to `output`, a video without sound; returns its unsynced spans.

    `on_progress` counts the segment's frames. `threaded` overlaps the stages, for a machine with a
    spare core; the video is the same. `preview` is a JPEG to replace every second by the latest
    frame. Raises MediaError, Cancelled, EngineError or OSError; no file
    remains then.
    """
    check_engine()
    frames, unsynced = plan.segments[index], list[UnsyncedSpan]()

    def on_skipped(frame: int, reason: str) -> None:
        unsynced.append(UnsyncedSpan(frame, frame + 1, reason))

    watermark = Watermark(plan.width, plan.height) if plan.watermark else None
    with ExitStack() as stack:
        matrix = Colorspace(plan.matrix)
        if plan.kind == "image":
            composited = _still_frames(plan, source, frames, threaded, watermark, matrix)
        else:
            clip = stack.enter_context(Clip(source, CODEC_THREADS if threaded else 1))
            composited = _overlapped(
                plan, _clip_frames(plan, clip, frames, on_skipped, threaded, watermark), threaded
            )
        stack.enter_context(closing(composited))  # before the clip, which its threads read
        # Depends on the plan only, so that all segments are encoded alike.
        threads = CODEC_THREADS if len(plan.segments) == 1 else 1
        previews = PreviewWriter(preview, matrix) if preview else None
        with SegmentWriter(output, plan.width, plan.height, plan.fps, threads, matrix) as writer:
            for frame in composited:
                check_not_stopped(should_stop)
                writer.write(frame)
                if previews and writer.last_frame:
                    previews.update(writer.last_frame)
                if on_progress is not None:
                    on_progress(writer.frames_written, len(frames))
    return merge_spans(unsynced)


def _still_frames(
    plan: RenderPlan,
    source: Path,
    frames: range,
    threaded: bool,
    watermark: Watermark | None,
    matrix: Colorspace,
) -> Generator[Planes]:
    assert plan.idle_motion is not None
    picture, points = load_still(source)[0], plan.faces[0].astype(np.float64)
    mark = watermark or (lambda pixels: pixels)
    to_planes = StillPlanes(mark(picture), matrix)
    animated = animate_still(picture, points, plan.speaker, plan.curves, plan.idle_motion, frames)
    # Planes are converted in the encoder's thread, which has less to do than the one that draws.
    with closing(_overlapped(plan, animated, threaded)) as drawn:
        for frame in drawn:
            yield to_planes(mark(frame.pixels), frame.changed)


def _overlapped(plan: RenderPlan, frames: Generator[Frame], threaded: bool) -> Generator[Frame]:
    """The frames, drawn ahead in a thread of their own if `threaded`."""
    return prefetch(frames, prefetch_depth(3 * plan.width * plan.height)) if threaded else frames


def _clip_frames(
    plan: RenderPlan,
    clip: Clip,
    frames: range,
    on_skipped: Callable[[int, str], None],
    threaded: bool,
    watermark: Watermark | None,
) -> Generator[Pixels | Planes]:
    """Frames in YUV planes where the clip's planes can be copied, in RGB elsewhere."""
    assert plan.person is not None
    assert plan.mixes is not None
    faces = zip(plan.face_frames, plan.faces, strict=True)
    known_faces = {number: FaceLandmarks(points, 1.0) for number, points in faces}
    animated = animate_clip(
        clip, plan.person, known_faces, plan.speaker, plan.curves, plan.mixes, frames, on_skipped,
        threaded,
    )  # fmt: skip
    with closing(animated):
        for frame in animated:
            after = watermark(frame.after) if watermark else frame.after
            if frame.planes is None:
                yield after
                continue
            changed = [*frame.changed, watermark.box] if watermark else frame.changed
            yield patch_planes(frame.planes, frame.before, after, changed, clip.matrix)
