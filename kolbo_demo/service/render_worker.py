"""Child process of `render_pool`, with the engine loaded.

It reads a task from standard input, runs it, writes the outcome to standard output, and waits for
the next task.
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
from kolbo_demo.json_codec import decode
from kolbo_demo.media import sandbox
from kolbo_demo.process import fork_server
from kolbo_demo.process.child import parent_connection
from kolbo_demo.process.confinement import MAX_OUTPUT_BYTES, limit_resources, lower_priority
from kolbo_demo.service import models
from kolbo_demo.service.errors import JobError, storage_failed
from kolbo_demo.service.jobs import AppliedOptions, Outcome, PlanProperties, VideoProperties
from kolbo_demo.service.models import MAX_SECONDS
from kolbo_demo.service.render_pool import (
    ENGINE_PROBLEM,
    JoinTask,
    RenderedSegment,
    RenderTask,
    SegmentTask,
    engine_crashed,
)

if TYPE_CHECKING:
    from kolbo_demo.engine.render import RenderResult
    from kolbo_demo.engine.render_plan import RenderPlan
    from kolbo_demo.engine.unsynced import UnsyncedSpan

PROGRESS_INTERVAL_SECONDS = 0.1
"""The parent that reads progress shares the core."""
SEGMENT_POLL_SECONDS = 0.02
"""Polling interval of a join for announced segments."""
MEMORY_BYTES = 4 * 1024**3
"""Address space of a render, and of each of its workers. 4096x2304 takes half of it."""
CPU_SECONDS = 300.0
"""Processor time for inspecting the files, and for the fixed part of a render."""
CPU_SECONDS_A_SECOND = 200.0
"""Processor time per second of voice: twice that of 120 frames of 4096x2304."""
_PR_SET_NAME = 15
LOADING_NAME, IDLE_NAME, RENDERING_NAME = "kolbo loads", "kolbo waits", "kolbo renders"
"""Process names of the fork server, of a child without a task, and of one with a task; at most 15
characters."""

Send = Callable[..., None]
"""Sends a message to the parent."""


def main() -> None:
    """Load the engine, then fork children that render or inspect files."""
    lower_priority()
    _set_process_name(LOADING_NAME)
    gc.disable()  # what is loaded stays
    _load()
    gc.enable()
    fork_server.serve(
        _work, **{sandbox.ENTRY_POINT: sandbox.main, ENGINE_PROBLEM: _report_engine_problem}
    )


def _work() -> None:
    """Read tasks from standard input, run them, write the outcomes to standard output."""
    longest = CPU_SECONDS + CPU_SECONDS_A_SECOND * MAX_SECONDS
    limit_resources(CPU_SECONDS, MEMORY_BYTES, MAX_OUTPUT_BYTES, longest)
    with parent_connection() as (requests, send):
        _set_process_name(IDLE_NAME)
        for request in requests:
            _set_process_name(RENDERING_NAME)
            task_type, run = _TASKS[request["do"]]
            try:
                with _as_job_errors():
                    outcome = run(decode(task_type, request["task"]), send)
            except JobError as error:
                outcome = Outcome(failure=error.failure)
            else:
                _set_process_name(IDLE_NAME)
            send(outcome=outcome.to_json())


def _report_engine_problem() -> None:
    """Answer one request with `engine.unavailable_reason`."""
    with parent_connection() as (requests, send):
        next(requests)
        send(problem=engine.unavailable_reason())


def _limit_cpu(seconds: float) -> None:
    """Limit the processor time to that of a voice of so many seconds."""
    limit = CPU_SECONDS + CPU_SECONDS_A_SECOND * seconds
    limit_resources(limit, max_cpu_seconds=CPU_SECONDS + CPU_SECONDS_A_SECOND * MAX_SECONDS)


def _set_process_name(name: str) -> None:
    """Set the process name that `ps` shows, on Linux."""
    if sys.platform == "linux":  # not by /proc, which is closed to it
        ctypes.CDLL(None).prctl(_PR_SET_NAME, name.encode(), 0, 0, 0)


def _load() -> None:
    """Load what every render needs. A render reports what is missing."""
    with contextlib.suppress(Exception):
        engine.unavailable_reason()
        # Otherwise each child would load these at their first use.
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


def render(task: RenderTask, send: Send) -> Outcome:
    """Inspect the files, then render video and thumbnail, or plan a long video. Raises JobError."""
    from kolbo_demo.engine.prepare import prepare
    from kolbo_demo.engine.prompt import PromptStyle
    from kolbo_demo.engine.render import render as render_video
    from kolbo_demo.engine.render_plan import segment_count
    from kolbo_demo.media import probe

    source = probe.inspect_source(task.source)
    audio = probe.inspect_audio(task.audio)
    options = task.options
    model = models.find(options.model or "") or models.smart_select(source.kind)
    if model.kind != source.kind:
        raise JobError(
            f"The model {model.identifier} does not take a source that is "
            f"{'an image' if source.kind == 'image' else 'a video'}; leave the model out.",
            category="input",
            code="WRONG_MODEL_TYPE",
        )
    _check_duration("audio", audio.duration, model.min_audio_duration, model.max_audio_duration)
    _check_duration("video", source.duration, model.min_video_duration, model.max_video_duration)
    _limit_cpu(audio.duration or 0)
    applied = AppliedOptions(
        model=model.identifier,
        prompt_used=PromptStyle.parse(options.prompt, clip=source.kind == "video").summary,
        visible_mark=options.mark,
    )
    on_progress = _progress_sender(send)
    if task.plan and segment_count(audio.duration or 0.0) > 1:
        plan = prepare(task.source, task.audio, task.plan, options, on_progress=on_progress)
        return Outcome(
            plan=PlanProperties(
                **vars(applied),
                segments=len(plan.segments),
                frames=plan.frames,
                inspected_frames=plan.inspected_frames,
            )
        )
    video = render_video(
        task.source,
        task.audio,
        task.video,
        options,
        on_progress=on_progress,
        workers=task.workers,
        preview=task.preview,
    )
    _save_first_frame(task)
    return Outcome(video=_properties(applied, video, video.unsynced))


def _progress_sender(send: Send) -> Callable[[int, int], None]:
    due = 0.0

    def on_progress(done: int, total: int) -> None:
        nonlocal due
        if done == total or time.monotonic() >= due:
            send(progress=[done, total])
            due = time.monotonic() + PROGRESS_INTERVAL_SECONDS

    return on_progress


def _render_segment(task: SegmentTask, send: Send) -> Outcome:
    from kolbo_demo.engine.render_plan import SEGMENT_SECONDS, RenderPlan
    from kolbo_demo.engine.segment import render_segment

    _limit_cpu(2 * SEGMENT_SECONDS)
    unsynced = render_segment(
        RenderPlan.load(task.plan),
        task.source,
        task.index,
        task.video,
        _progress_sender(send),
        threaded=False,
    )
    return Outcome(unsynced=tuple(unsynced))


def _join(task: JoinTask, send: Send) -> Outcome:
    from kolbo_demo.engine.render_plan import RenderPlan
    from kolbo_demo.engine.unsynced import UnsyncedSpan, check_synced, merge_spans
    from kolbo_demo.engine.video_writer import join_segments

    spans, on_progress = list[UnsyncedSpan](), _progress_sender(send)

    def segments() -> Iterator[Path]:
        for index, announcement in enumerate(task.segments):
            while not announcement.exists():
                on_progress(index, len(task.segments))  # shows that this process is not stalled
                time.sleep(SEGMENT_POLL_SECONDS)
            segment = decode(RenderedSegment, json.loads(announcement.read_text()))
            spans.extend(segment.unsynced)
            yield segment.video

    plan = RenderPlan.load(task.plan)
    join_segments(segments(), task.audio, task.video, plan.fps, plan.frames)
    unsynced = merge_spans(spans)
    check_synced(unsynced, plan.frames)
    _save_first_frame(task)
    return Outcome(video=_properties(task.applied, plan, unsynced))


_TASKS: dict[str, tuple[type[Any], Callable[..., Outcome]]] = {
    "RenderTask": (RenderTask, render),
    "SegmentTask": (SegmentTask, _render_segment),
    "JoinTask": (JoinTask, _join),
}


def _save_first_frame(task: RenderTask | JoinTask) -> None:
    from kolbo_demo.media import probe

    probe.frame_at(task.video).save(task.thumbnail, "JPEG", quality=85)


def _properties(
    applied: AppliedOptions, video: "RenderResult | RenderPlan", unsynced: "Iterable[UnsyncedSpan]"
) -> VideoProperties:
    return VideoProperties(
        **vars(applied),
        duration=round(float(video.duration), 3),
        width=video.width,
        height=video.height,
        frames=video.frames,
        fps=round(float(video.fps), 3),
        unsynced=tuple(span.in_seconds(float(video.fps)) for span in unsynced),
        notes=tuple(video.notes),
    )


@contextlib.contextmanager
def _as_job_errors() -> Iterator[None]:
    """Raise errors of files and engine as JobError. Any other error is a bug and ends the child."""
    # Not imported at the top: the parent imports this module's constants without the engine.
    from kolbo_demo.engine import EngineCrashError, EngineError
    from kolbo_demo.media.probe import MediaError

    try:
        yield
    except MediaError as error:
        raise JobError(str(error), category="input", code="INVALID_MEDIA") from error
    except EngineCrashError as error:
        raise engine_crashed(error.cause) from error
    except EngineError as error:
        raise JobError(str(error), category="engine", code="ENGINE_ERROR") from error
    except MemoryError as error:
        raise engine_crashed("ran out of memory") from error
    except OSError as error:
        if failure := storage_failed(error):
            raise failure from error
        raise engine_crashed(f"could not read or write a file ({error.strerror})") from error


def _check_duration(
    what: str, seconds: float | None, low: float | None, high: float | None
) -> None:
    """Raises JobError unless low <= seconds <= high; None is no bound."""
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
