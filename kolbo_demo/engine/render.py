"""The whole job: a source and a voice to a video whose lips say it."""

import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from kolbo_demo.engine.directions import AS_PEOPLE_DO, Directions
from kolbo_demo.engine.segments import (
    IsCancelled,
    OnProgress,
    Plan,
    Unsynced,
    join,
    merged,
    prepare,
    render_segment,
)
from kolbo_demo.engine.workers import Workers, cores


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
) -> Rendered:
    """Make `source` (a picture or a clip) say `audio` and write it to `output` as MP4.

    `face` is a point, x and y in 0-1 of the upright picture: the face nearest to it speaks, else
    the largest. `directions` tell how to play. `on_progress` gets frames done and frames in all.
    `cancelled` is asked at every frame. `workers` is how many processes share a long render
    (default: one a core); the video is the same for any number. The output is as long as the voice.
    Raises MediaError where the input cannot work, Cancelled, or EngineError where this machine
    cannot render; nothing is left behind then.
    """
    output = Path(output)
    tell, unsynced = on_progress or (lambda _done, _total: None), list[Unsynced]()
    with tempfile.TemporaryDirectory(prefix=".", dir=output.parent) as name:
        folder = Path(name)
        plan = folder / "plan.npz"
        made = prepare(source, audio, plan, face, directions, tell, cancelled)

        def shown(done: int, _total: int) -> None:
            tell(made.looks + done, made.looks + made.frames)

        def segments() -> Iterator[Path]:
            if len(made.segments) == 1:
                segment = folder / "0.mp4"
                unsynced.extend(render_segment(plan, source, 0, segment, shown, cancelled))
                yield segment
                return
            with Workers(min(workers or cores(), len(made.segments))) as pool:
                for segment, spans in pool.rendered(plan, made, source, shown, cancelled):
                    unsynced.extend(spans)
                    yield segment
                    segment.unlink()

        join(plan, segments(), audio, output)
    return _told(made, merged(unsynced))


def _told(made: Plan, unsynced: list[Unsynced]) -> Rendered:
    return Rendered(
        made.frames, float(made.fps), made.duration, made.width, made.height, tuple(unsynced)
    )
