"""The whole job: a source and a voice to a video whose lips say it."""

import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path

from kolbo_demo.engine.prompt import AS_PEOPLE_DO, Directions
from kolbo_demo.engine.render_plan import (
    STILL_PIXELS,
    IsCancelled,
    OnProgress,
    Unsynced,
    check_synced,
    join,
    merged,
    prepare,
    render_segment,
    segments_in,
)
from kolbo_demo.engine.segment_pool import Workers
from kolbo_demo.media.probe import MediaError, inspect_audio, inspect_source
from kolbo_demo.process.child import cpu_count
from kolbo_demo.process.free_memory import release_memory

PIXELS_AT_ONCE = 4096 * 2304
"""Of the frames that all workers have in hand: a 4K render takes more than a gigabyte."""


@dataclass(frozen=True)
class Rendered:
    """What came out: sizes in pixels, duration in seconds."""

    frames: int
    fps: float
    duration: float
    width: int
    height: int
    unsynced: tuple[Unsynced, ...]
    """Frames passed through unchanged, and why."""
    notes: tuple[str, ...] = ()
    """Changes to the source's colours, and the track or channel used as the voice."""

    @property
    def skipped(self) -> int:
        """How many frames were passed through unchanged."""
        return sum(span.end - span.first for span in self.unsynced)


def render(
    source: Path,
    audio: Path,
    output: Path,
    face: tuple[float, float] | None = None,
    directions: Directions = AS_PEOPLE_DO,
    on_progress: OnProgress | None = None,
    cancelled: IsCancelled | None = None,
    workers: int | None = None,
    mark: bool = False,
    insist: bool = False,
) -> Rendered:
    """Make `source` (a picture or a clip) say `audio` and write it to `output` as MP4.

    `face` is a point, x and y in 0-1 of the upright picture: the face nearest to it speaks, else
    the largest. `directions` tell how to play. `on_progress` gets frames done and frames in all.
    `cancelled` is asked at every frame. `workers` is how many processes share a long render
    (default: one a core); the video is the same for any number. `mark` has every frame say that it
    is AI-generated. `insist` renders a source whose mouth is not visible, too. The output is as
    long as the voice.
    Raises MediaError where the input cannot work, Cancelled, or EngineError where this machine
    cannot render; nothing is left behind then.
    """
    output, share = Path(output), workers or cpu_count()
    tell, unsynced = on_progress or (lambda _done, _total: None), list[Unsynced]()
    with ExitStack() as stack:
        folder = Path(
            stack.enter_context(tempfile.TemporaryDirectory(prefix=".", dir=output.parent))
        )

        def start(segments: int, pixels: int) -> Workers:
            count = max(min(segments, share, PIXELS_AT_ONCE // pixels), 1)
            return stack.enter_context(Workers(count, threaded=count < share))

        # Workers load what they need while the plan is made.
        expected, pixels = _expected(source, audio)
        pool = start(expected, pixels) if expected > 1 else None
        plan = folder / "plan.npz"
        made = prepare(source, audio, plan, face, directions, tell, cancelled, mark, insist=insist)
        if len(made.segments) > 1:
            release_memory()

        def shown(done: int, _total: int) -> None:
            tell(made.looks + done, made.looks + made.frames)

        def segments() -> Iterator[Path]:
            if len(made.segments) == 1:
                segment = folder / "0.mp4"
                unsynced.extend(render_segment(made, source, 0, segment, shown, cancelled))
                yield segment
            else:
                working = pool or start(len(made.segments), made.width * made.height)
                for segment, spans in working.rendered(plan, made, source, shown, cancelled):
                    unsynced.extend(spans)
                    yield segment
                    segment.unlink()
            check_synced(unsynced, made.frames)

        join(made, segments(), audio, output)
    return Rendered(
        made.frames, float(made.fps), made.duration, made.width, made.height,
        tuple(merged(unsynced)), made.notes,
    )  # fmt: skip


def _expected(source: Path, audio: Path) -> tuple[int, int]:
    """How many segments there will be, and the pixels of a frame."""
    with suppress(MediaError):
        seen = inspect_source(source, decode=False)
        pixels = (seen.width or 1) * (seen.height or 1)
        if seen.kind == "image":
            pixels = min(pixels, STILL_PIXELS)
        return segments_in(inspect_audio(audio).duration or 0.0), pixels
    return 1, 1  # what is wrong with a file is told where it is read
