"""The process in which one render happens: the child of `process`.

It waits with all that it needs loaded, reads a task from standard input, does it, tells the outcome
on standard output, and waits for the next.
"""

import contextlib
import ctypes
import gc
import json
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kolbo_demo import engine
from kolbo_demo.media import sandbox
from kolbo_demo.options import Options
from kolbo_demo.process import fork_server
from kolbo_demo.process.child import parent_connection
from kolbo_demo.process.confinement import MAX_OUTPUT_BYTES, limit_resources, lower_priority
from kolbo_demo.service import models
from kolbo_demo.service.errors import JobError, storage_failed
from kolbo_demo.service.models import MAX_SECONDS
from kolbo_demo.service.render_pool import PROBLEM, Join, Segment, Task, broken

if TYPE_CHECKING:
    from kolbo_demo.engine.render import RenderResult
    from kolbo_demo.engine.render_plan import RenderPlan, UnsyncedSpan

TELL_SECONDS = 0.1
"""Progress is told at most so often: who hears it takes its part of the same core."""
HANDED_SECONDS = 0.02
"""How often a child looks whether what others make for it is there."""
MEMORY_BYTES = 4 * 1024**3
"""Address space for a render, and for each of its workers. At 4096x2304 it takes half."""
CPU_SECONDS = 300.0
"""Processor time for looking at the files, and for what a render takes however short it is."""
CPU_SECONDS_A_SECOND = 200.0
"""Processor time for each second of the voice: twice what 120 frames of 4096x2304 take."""
_PR_SET_NAME = 15
LOADS, WAITS, RENDERS = "kolbo loads", "kolbo waits", "kolbo renders"
"""What is called who loads the engine and then forks, a child without a task, and one with a task;
15 letters at most."""

Tell = Callable[..., None]
"""Tells the parent `progress`: the frames that are done, and how many there are in all."""


def main() -> None:
    """Load the engine, then work or fork those that do, and those that look at files."""
    lower_priority()
    _be_called(LOADS)
    gc.disable()  # what is loaded stays
    _load()
    gc.enable()
    fork_server.serve(_work, **{sandbox.ENTRY_POINT: sandbox.main, PROBLEM: _tell_problem})


def _work() -> None:
    """Read tasks from standard input, do them, tell the outcomes on standard output."""
    longest = CPU_SECONDS + CPU_SECONDS_A_SECOND * MAX_SECONDS
    limit_resources(CPU_SECONDS, MEMORY_BYTES, MAX_OUTPUT_BYTES, longest)
    with parent_connection() as (requests, tell):
        _be_called(WAITS)
        for request in requests:
            _be_called(RENDERS)
            kind, do = _WORK[request.pop("do")]
            try:
                with _told():  # here, not above: the parent needs no decoder and no engine
                    result = do(kind(**request), tell)
            except JobError as error:
                tell(failure=error.failure)
            else:
                _be_called(WAITS)
                tell(result=result)


def _tell_problem() -> None:
    """Answer the one request with what is wrong with the engine, if anything is."""
    with parent_connection() as (requests, tell):
        next(requests)
        tell(problem=engine.unavailable_reason())


def _allow(seconds: float) -> None:
    """Processor time for so much voice."""
    allowed = CPU_SECONDS + CPU_SECONDS_A_SECOND * seconds
    limit_resources(allowed, max_cpu_seconds=CPU_SECONDS + CPU_SECONDS_A_SECOND * MAX_SECONDS)


def _be_called(name: str) -> None:
    """Set the process name that `ps` shows, on Linux."""
    if sys.platform == "linux":  # not by /proc, which is closed to it
        ctypes.CDLL(None).prctl(_PR_SET_NAME, name.encode(), 0, 0, 0)


def _load() -> None:
    """What every render needs. What is missing is told by the one that misses it."""
    with contextlib.suppress(Exception):
        engine.unavailable_reason()
        # What libraries would load at their first use, in each child.
        import numpy.fft
        import numpy.ma  # noqa: F401
        from PIL import Image

        Image.preinit()
        from kolbo_demo.engine.motion_model import load_motion_model
        from kolbo_demo.engine.phoneme_model import phoneme_recogniser
        from kolbo_demo.engine.render import render as _  # noqa: F401
        from kolbo_demo.media import probe  # noqa: F401

        phoneme_recogniser()
        load_motion_model()


def render(task: Task, tell: Tell) -> dict[str, Any]:
    """Look at the files, render, make the thumbnail; or plan what is long. Raises JobError."""
    from kolbo_demo.engine.prepare import prepare
    from kolbo_demo.engine.prompt import PromptStyle
    from kolbo_demo.engine.render import render as render_video
    from kolbo_demo.engine.render_plan import segment_count
    from kolbo_demo.media import probe

    source = probe.inspect_source(Path(task.source))
    audio = probe.inspect_audio(Path(task.audio))
    options = Options.from_json(task.options)
    model = models.find(options.model or "") or models.smart_select(source.kind)
    if model.kind != source.kind:
        raise JobError(
            f"The model {model.identifier} does not take a source that is "
            f"{'an image' if source.kind == 'image' else 'a video'}; leave the model out.",
            category="input",
            code="WRONG_MODEL_TYPE",
        )
    _within("audio", audio.duration, model.min_audio_duration, model.max_audio_duration)
    _within("video", source.duration, model.min_video_duration, model.max_video_duration)
    _allow(audio.duration or 0)
    style = PromptStyle.parse(options.prompt, clip=source.kind == "video")
    about = {
        "model": model.identifier,
        "prompt_used": style.summary,
        "visible_mark": options.mark,
    }
    if task.plan and segment_count(audio.duration or 0.0) > 1:
        plan = prepare(
            Path(task.source),
            Path(task.audio),
            Path(task.plan),
            options.face,
            style,
            on_progress=_frames(tell),
            watermark=options.mark,
            insist=options.insist,
        )
        return about | {
            "segments": len(plan.segments),
            "frames": plan.frames,
            "looks": plan.inspected_frames,
        }
    made = render_video(
        Path(task.source),
        Path(task.audio),
        Path(task.video),
        face=options.face,
        style=style,
        on_progress=_frames(tell),
        workers=task.workers,
        watermark=options.mark,
        insist=options.insist,
    )
    _save_first_frame(task)
    return about | _measures(made, made.unsynced)


def _frames(tell: Tell) -> Callable[[int, int], None]:
    due = 0.0

    def told(done: int, total: int) -> None:
        nonlocal due
        if done == total or time.monotonic() >= due:
            tell(progress=[done, total])
            due = time.monotonic() + TELL_SECONDS

    return told


def _segment(task: Segment, tell: Tell) -> dict[str, Any]:
    from kolbo_demo.engine.render_plan import SEGMENT_SECONDS, RenderPlan
    from kolbo_demo.engine.segment import render_segment

    _allow(2 * SEGMENT_SECONDS)
    unsynced = render_segment(
        RenderPlan.load(Path(task.plan)),
        Path(task.source),
        task.index,
        Path(task.video),
        _frames(tell),
        threaded=False,
    )
    return {"unsynced": unsynced}


def _join(task: Join, tell: Tell) -> dict[str, Any]:
    from kolbo_demo.engine.render_plan import RenderPlan, UnsyncedSpan, check_synced, merge_spans
    from kolbo_demo.engine.video_writer import join_segments

    spans, waited = list[UnsyncedSpan](), _frames(tell)

    def segments() -> Iterator[Path]:
        for index, told in enumerate(map(Path, task.segments)):
            while not told.exists():
                waited(index, len(task.segments))  # others are slow, this process is not stuck
                time.sleep(HANDED_SECONDS)
            segment = json.loads(told.read_text())
            spans.extend(UnsyncedSpan(*span) for span in segment["unsynced"])
            yield Path(segment["video"])

    plan = RenderPlan.load(Path(task.plan))
    join_segments(segments(), Path(task.audio), Path(task.video), plan.fps, plan.frames)
    unsynced = merge_spans(spans)
    check_synced(unsynced, plan.frames)
    _save_first_frame(task)
    return _measures(plan, unsynced)


_WORK: dict[str, tuple[Callable[..., Any], Callable[..., dict[str, Any]]]] = {
    "Task": (Task, render),
    "Segment": (Segment, _segment),
    "Join": (Join, _join),
}


def _save_first_frame(task: Task | Join) -> None:
    from kolbo_demo.media import probe

    probe.frame_at(Path(task.video)).save(task.thumbnail, "JPEG", quality=85)


def _measures(
    made: "RenderResult | RenderPlan", unsynced: "Iterable[UnsyncedSpan]"
) -> dict[str, Any]:
    return {
        "duration": round(float(made.duration), 3),
        "width": made.width,
        "height": made.height,
        "frames": made.frames,
        "fps": round(float(made.fps), 3),
        "unsynced": [span.in_seconds(float(made.fps)) for span in unsynced],
        "notes": list(made.notes),
    }


@contextlib.contextmanager
def _told() -> Iterator[None]:
    """Turn what files and engine raise into JobError; the rest is a bug and ends the child."""
    from kolbo_demo.engine import EngineCrashError, EngineError
    from kolbo_demo.media.probe import MediaError

    try:
        yield
    except MediaError as error:
        raise JobError(str(error), category="input", code="INVALID_MEDIA") from error
    except EngineCrashError as error:
        raise broken(error.cause) from error
    except EngineError as error:
        raise JobError(str(error), category="engine", code="ENGINE_ERROR") from error
    except MemoryError as error:
        raise broken("ran out of memory") from error
    except OSError as error:
        if failure := storage_failed(error):
            raise failure from error
        raise broken(f"could not read or write a file ({error.strerror})") from error


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
