"""One render in a process of its own.

A decoder that crashes on a hostile file takes one generation down, not the service; a cancelled
render is killed at once; the page stays quick while pixels are made. The child tells progress, then
the outcome; the processes that it starts in turn are of its group and end with it.
"""

import contextlib
import json
import logging
import os
import queue
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kolbo_demo import logs
from kolbo_demo.child import ONE_THREAD, Child, Message, parent
from kolbo_demo.confine import confine
from kolbo_demo.service.catalogue import for_kind, kind_of_model
from kolbo_demo.service.errors import JobError, storage_failed

if TYPE_CHECKING:
    from kolbo_demo.engine.render import Rendered
    from kolbo_demo.engine.segments import Plan, Unsynced

_log = logging.getLogger(__name__)

CHECK_SECONDS = 0.2
"""How often a running render looks whether it is still wanted."""
HANDED_SECONDS = 0.2
"""How often a join looks whether the next segment is there."""
STALL_SECONDS = 900.0
"""A render that tells nothing for so long is given up: the longest audio takes less to read."""
MEMORY_BYTES = 4 * 1024**3
"""Address space for a render, and for each of its workers. At 4096x2304 it takes half."""
CPU_SECONDS = 300.0
"""Processor time for looking at the files, and for what a render takes however short it is."""
CPU_SECONDS_A_SECOND = 200.0
"""Processor time for each second of the voice: twice what 120 frames of 4096x2304 take."""
_NICENESS = 5
_CRASHED = "ENGINE_CRASHED"
WAITS = "kolbo waits"
"""What a child without a task is called; 15 letters at most."""


@dataclass(frozen=True)
class Task:
    """What to render: paths on this machine, all absolute."""

    source: str
    audio: str
    video: str
    """Where the MP4 goes."""
    thumbnail: str
    """Where its first frame goes, as JPEG."""
    face: tuple[float, float] | None
    model: str | None
    """The model asked for; None lets the source decide."""
    prompt: str | None = None
    mark: bool = False
    """Whether every frame says that it is AI-generated."""
    workers: int | None = None
    """Processes that may share the render; None: one a core."""
    plan: str | None = None
    """Where to write the plan of a long one, for others to make its segments; None: all is made
    here."""


@dataclass(frozen=True)
class Segment:
    """One segment of what a task has planned, to be made on one core."""

    plan: str
    source: str
    index: int
    video: str
    """Where it goes, without sound."""


@dataclass(frozen=True)
class Join:
    """All segments, to be made into what their task asked for. They may be still in the making:
    each is waited for until it is `handed` over."""

    plan: str
    audio: str
    segments: list[str]
    """Files to come, in order, one that tells of each."""
    video: str
    thumbnail: str


def handed(told: Path, video: Path, unsynced: list[list[Any]]) -> None:
    """Tell a `Join` that one of its segments is made, and the spans that it told."""
    made = told.with_suffix(".new")
    made.write_text(json.dumps({"video": str(video), "unsynced": unsynced}))
    made.replace(told)


Heard = queue.SimpleQueue[tuple[Child, Message | None]]


class Ready:
    """One child that waits for the next task with all that it needs loaded: a generation does not
    wait for it to start."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._waiting: tuple[Child, Heard] | None = None

    def take(self) -> tuple[Child, Heard]:
        """The one that waits, or a new one; to be killed by who took it."""
        with self._lock:
            taken, self._waiting = self._waiting, None
        if taken and not taken[0].alive:
            taken[0].kill()
            taken = None
        return taken or _started()

    def refill(self) -> None:
        """Start one, if none waits."""
        with self._lock:
            self._waiting = self._waiting or _started()

    def close(self) -> None:
        """End the one that waits."""
        with self._lock:
            waiting, self._waiting = self._waiting, None
        if waiting:
            waiting[0].kill()


def _started(environment: dict[str, str] | None = None) -> tuple[Child, Heard]:
    heard: Heard = queue.SimpleQueue()
    return Child(__name__, heard, environment, leader=True), heard


def run(
    task: Task | Segment | Join,
    on_progress: Callable[[int, int], None],
    wanted: Callable[[], bool],
    ready: Ready | None = None,
) -> dict[str, Any] | None:
    """Render in a child and return its result.

    Of a `Task` and a `Join` that is duration (s), width, height (px)...; of a task that only made
    a plan `segments`, `frames` to be shown and `looks` taken; of a `Segment` its `unsynced` spans.
    `on_progress` gets frames done and frames in all. None means that `wanted` said no and the
    child is dead. Raises JobError. Whatever is raised here, the child does not outlive it; `ready`
    then has another one.
    """
    if ready:
        child, heard = ready.take()
    else:
        child, heard = _started(ONE_THREAD if isinstance(task, Segment) else None)
    crashed = False
    try:
        child.ask(do=type(task).__name__, **asdict(task))
        return _follow(child, heard, on_progress, wanted)
    except JobError as error:
        crashed = error.failure.code == _CRASHED
        raise
    finally:
        said = child.kill()
        if crashed:
            logs.event(_log, "render crashed", logging.WARNING, where=logs.places(said))
        if ready:
            ready.refill()


def _follow(
    child: Child,
    heard: Heard,
    on_progress: Callable[[int, int], None],
    wanted: Callable[[], bool],
) -> dict[str, Any] | None:
    told, look = time.monotonic(), 0.0
    while True:
        if time.monotonic() >= look:
            if not wanted():
                return None
            look = time.monotonic() + CHECK_SECONDS
        try:
            _, message = heard.get(timeout=CHECK_SECONDS)
        except queue.Empty:
            if time.monotonic() - told > STALL_SECONDS:
                raise _broken("made no progress for a quarter of an hour") from None
            continue
        told = time.monotonic()
        if message is None:
            raise _broken(child.last_words())
        if "progress" in message:
            on_progress(*message["progress"])
        elif "failure" in message:
            failure = message["failure"]
            raise JobError(failure.pop("message"), **failure)
        else:
            return message["result"]


def _broken(what: str) -> JobError:
    return JobError(
        f"The engine {what}. Try again; if it happens again, convert the files and use those.",
        category="engine",
        code=_CRASHED,
        retryable=True,
    )


# From here on: the child.


def main() -> None:
    """Read one task from standard input, do it, tell the outcome on standard output."""
    if hasattr(os, "nice"):
        os.nice(_NICENESS)
    confine(CPU_SECONDS, MEMORY_BYTES)
    with parent() as (requests, tell):
        _be_called(WAITS)
        _load()
        request = next(requests)
        _be_called("kolbo renders")
        kind, do = _WORK[request.pop("do")]
        try:
            with _told():  # here, not above: the parent needs no decoder and no engine
                result = do(kind(**request), lambda done, total: tell(progress=[done, total]))
        except JobError as error:
            tell(failure=error.failure.model_dump())
        else:
            tell(result=result)


def _be_called(name: str) -> None:
    """What lists of processes call this one, where the system lets it choose."""
    with contextlib.suppress(OSError):
        Path("/proc/self/comm").write_text(name)


def _load() -> None:
    """What every render needs. What is missing is told by the one that misses it."""
    with contextlib.suppress(Exception):
        from kolbo_demo import media  # noqa: F401
        from kolbo_demo.engine.motion import motion
        from kolbo_demo.engine.recogniser import recogniser
        from kolbo_demo.engine.render import render as _  # noqa: F401

        recogniser()
        motion()


def render(task: Task, on_progress: Callable[[int, int], None]) -> dict[str, Any]:
    """Look at the files, render, make the thumbnail; or plan what is long. Raises JobError."""
    from kolbo_demo import media
    from kolbo_demo.engine.directions import Directions
    from kolbo_demo.engine.render import render as render_video
    from kolbo_demo.engine.segments import prepare, segments_in

    source = media.inspect_source(Path(task.source))
    audio = media.inspect_audio(Path(task.audio))
    model = for_kind(source.kind)
    if task.model and kind_of_model(task.model) != source.kind:
        raise JobError(
            f"The model {task.model} does not take a source that is "
            f"{'an image' if source.kind == 'image' else 'a video'}; leave the model out.",
            category="input",
            code="WRONG_MODEL_TYPE",
        )
    _within("audio", audio.duration, model.min_audio_duration, model.max_audio_duration)
    _within("video", source.duration, model.min_video_duration, model.max_video_duration)
    confine(CPU_SECONDS + CPU_SECONDS_A_SECOND * (audio.duration or 0))
    directions = Directions.of(task.prompt, clip=source.kind == "video")
    face = (task.face[0], task.face[1]) if task.face else None
    about = {
        "model": model.identifier,
        "prompt_used": directions.told,
        "visible_mark": task.mark,
    }
    if task.plan and segments_in(audio.duration or 0.0) > 1:
        plan = prepare(
            Path(task.source),
            Path(task.audio),
            Path(task.plan),
            face,
            directions,
            on_progress,
            mark=task.mark,
        )
        return about | {
            "segments": len(plan.segments),
            "frames": plan.frames,
            "looks": plan.looks,
        }
    made = render_video(
        Path(task.source),
        Path(task.audio),
        Path(task.video),
        face=face,
        directions=directions,
        on_progress=on_progress,
        workers=task.workers,
        mark=task.mark,
    )
    _save_first_frame(task)
    return about | _measures(made, made.unsynced)


def _segment(task: Segment, on_progress: Callable[[int, int], None]) -> dict[str, Any]:
    from kolbo_demo.engine.segments import SEGMENT_SECONDS, render_segment

    confine(CPU_SECONDS + CPU_SECONDS_A_SECOND * 2 * SEGMENT_SECONDS)
    unsynced = render_segment(
        Path(task.plan),
        Path(task.source),
        task.index,
        Path(task.video),
        on_progress,
        threaded=False,
    )
    return {"unsynced": unsynced}


def _join(task: Join, on_progress: Callable[[int, int], None]) -> dict[str, Any]:
    from kolbo_demo.engine.segments import Unsynced, check_synced, join, merged

    spans: list[Unsynced] = []

    def segments() -> Iterator[Path]:
        for index, told in enumerate(map(Path, task.segments)):
            while not told.exists():
                on_progress(index, len(task.segments))  # others are slow, this process is not stuck
                time.sleep(HANDED_SECONDS)
            segment = json.loads(told.read_text())
            spans.extend(Unsynced(*span) for span in segment["unsynced"])
            yield Path(segment["video"])

    plan = join(Path(task.plan), segments(), Path(task.audio), Path(task.video))
    unsynced = merged(spans)
    check_synced(unsynced, plan.frames)
    _save_first_frame(task)
    return _measures(plan, unsynced)


_WORK: dict[str, tuple[Callable[..., Any], Callable[..., dict[str, Any]]]] = {
    "Task": (Task, render),
    "Segment": (Segment, _segment),
    "Join": (Join, _join),
}


def _save_first_frame(task: Task | Join) -> None:
    from kolbo_demo import media

    media.first_frame(Path(task.video)).save(task.thumbnail, "JPEG", quality=85)


def _measures(made: "Rendered | Plan", unsynced: "Iterable[Unsynced]") -> dict[str, Any]:
    return {
        "duration": round(float(made.duration), 3),
        "width": made.width,
        "height": made.height,
        "frames": made.frames,
        "fps": round(float(made.fps), 3),
        "unsynced": [span.told(float(made.fps)) for span in unsynced],
    }


@contextlib.contextmanager
def _told() -> Iterator[None]:
    """Turn what files and engine raise into JobError; the rest is a bug and ends the child."""
    from kolbo_demo.engine import EngineCrashError, EngineError
    from kolbo_demo.media import MediaError

    try:
        yield
    except MediaError as error:
        raise JobError(str(error), category="input", code="INVALID_MEDIA") from error
    except EngineCrashError as error:
        raise _broken(error.how) from error
    except EngineError as error:
        raise JobError(str(error), category="engine", code="ENGINE_ERROR") from error
    except MemoryError as error:
        raise _broken("ran out of memory") from error
    except OSError as error:
        if failure := storage_failed(error):
            raise failure from error
        raise _broken(f"could not read or write a file ({error.strerror})") from error


def _within(what: str, seconds: float | None, low: float | None, high: float | None) -> None:
    if seconds is None:
        return
    if low is not None and seconds < low:
        problem = f"The {what} is {seconds:.2f} s long; give at least {low:g} s."
    elif high is not None and seconds > high + 0.5:  # encoders round up to whole packets
        problem = f"The {what} is {seconds:.0f} s long; cut it to at most {high:g} s."
    else:
        return
    raise JobError(problem, category="input", code=f"INVALID_{what.upper()}_DURATION")


if __name__ == "__main__":
    main()
