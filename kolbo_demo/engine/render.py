"""Renders a source and a voice to a lip-synced video."""

import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path

from kolbo_demo.engine.prepare import prepare
from kolbo_demo.engine.render_plan import OnProgress, ShouldStop, segment_count
from kolbo_demo.engine.segment import render_segment
from kolbo_demo.engine.segment_pool import SegmentPool
from kolbo_demo.engine.still_picture import MAX_STILL_PIXELS
from kolbo_demo.engine.unsynced import UnsyncedSpan, check_synced, merge_spans
from kolbo_demo.engine.video_writer import join_segments
from kolbo_demo.media.probe import MediaError, inspect_audio, inspect_source
from kolbo_demo.options import Options
from kolbo_demo.process.child import cpu_count
from kolbo_demo.process.free_memory import release_memory

MAX_PIXELS_IN_FLIGHT = 4096 * 2304
"""Pixels of the frames that all workers render at once: a 4K render takes more than a gigabyte."""


@dataclass(frozen=True)
class RenderResult:
    """A finished render: sizes in pixels, duration in seconds."""

    frames: int
    fps: float
    duration: float
    width: int
    height: int
    unsynced: tuple[UnsyncedSpan, ...]
    """Spans of unchanged frames."""
    notes: tuple[str, ...] = ()
    """Changes to the source's colours, and the track or channel used as the voice."""

    @property
    def skipped(self) -> int:
        """Number of unchanged frames."""
        return sum(span.end - span.first for span in self.unsynced)


def render(
    source: Path,
    audio: Path,
    output: Path,
    options: Options = Options(),
    *,
    on_progress: OnProgress | None = None,
    should_stop: ShouldStop | None = None,
    workers: int | None = None,
    preview: Path | None = None,
) -> RenderResult:
    """Make `source` (a picture or a clip) say `audio` and write it to `output` as MP4.

    Of the options, `prompt`, `face`, `mark` and `insist` apply. The face nearest to `face` speaks,
    by default the largest. `on_progress` gets frames done and the total. `should_stop` is called
    for every frame. `workers` is how many processes share a long render (default: one a core); the
    video is the same for any number. `preview` as in `render_segment`. The output is as long as
    the voice.
    Raises MediaError for unsuitable input, Cancelled, EngineError if this machine cannot render, or
    OSError; no file remains then.
    """
    output, max_workers = Path(output), workers or cpu_count()
    report, unsynced = on_progress or (lambda _done, _total: None), list[UnsyncedSpan]()
    with ExitStack() as stack:
        folder = Path(
            stack.enter_context(tempfile.TemporaryDirectory(prefix=".", dir=output.parent))
        )

        def start_pool(segments: int, pixels: int) -> SegmentPool:
            count = max(min(segments, max_workers, MAX_PIXELS_IN_FLIGHT // pixels), 1)
            return stack.enter_context(SegmentPool(count, threaded=count < max_workers))

        # Workers import their modules while the plan is made.
        expected, pixels = _estimate(source, audio)
        pool = start_pool(expected, pixels) if expected > 1 else None
        plan_path = folder / "plan.npz"
        plan = prepare(
            source, audio, plan_path, options, on_progress=report, should_stop=should_stop
        )
        if len(plan.segments) > 1:
            release_memory()

        def on_rendered(done: int, _total: int) -> None:
            report(plan.inspected_frames + done, plan.inspected_frames + plan.frames)

        def segments() -> Iterator[Path]:
            if len(plan.segments) == 1:
                segment = folder / "0.mp4"
                spans = render_segment(
                    plan, source, 0, segment, on_rendered, should_stop, preview=preview
                )
                unsynced.extend(spans)
                yield segment
            else:
                workers = pool or start_pool(len(plan.segments), plan.width * plan.height)
                rendered = workers.render(
                    plan_path, plan, source, on_rendered, should_stop, preview
                )
                for segment, spans in rendered:
                    unsynced.extend(spans)
                    yield segment
                    segment.unlink()
            check_synced(unsynced, plan.frames)

        join_segments(segments(), audio, output, plan.fps, plan.frames)
    return RenderResult(
        plan.frames, float(plan.fps), plan.duration, plan.width, plan.height,
        tuple(merge_spans(unsynced)), plan.notes,
    )  # fmt: skip


def _estimate(source: Path, audio: Path) -> tuple[int, int]:
    """Expected number of segments, and pixels of a frame."""
    with suppress(MediaError):
        info = inspect_source(source, decode=False)
        pixels = (info.width or 1) * (info.height or 1)
        if info.kind == "image":
            pixels = min(pixels, MAX_STILL_PIXELS)
        return segment_count(inspect_audio(audio).duration or 0.0), pixels
    return 1, 1  # errors of a file are raised where it is read
