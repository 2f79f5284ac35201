"""One long generation in segments, each a workflow of its own that any process may take.

The generation's workflow makes the plan, hands the segments out, and joins what comes back. Plan
and segments travel through the storage; who makes which changes nothing in the video.
"""

import contextlib
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from threading import Event
from typing import Any

from dbos import DBOS, SetEnqueueOptions, SetWorkflowID, WorkflowStatus
from sqlalchemy.exc import SQLAlchemyError

from kolbo_demo import logs
from kolbo_demo.contract import Failure
from kolbo_demo.service import metrics, render_pool
from kolbo_demo.service.errors import JobError
from kolbo_demo.service.storage.files import input_name, plan_name, segment_name
from kolbo_demo.service.workflows import context
from kolbo_demo.service.workflows.postpone import patient

NAME = "segment"
QUEUE = "segments"
TELL_SECONDS = 2.0
"""A segment tells its frames, and its generation asks for them, about so often."""
LOOK_SECONDS = 0.25
"""Who waits for work of others looks so often whether it is done."""
_FRAMES = "frames"
_PLANNED = ("model", "prompt_used", "visible_mark")
"""What a plan tells of the result. One made by an older version knows less."""

OnProgress = Callable[[int, int], None]
Wanted = Callable[[], bool]


def hand_out(generation: str, parts: dict[str, Any]) -> None:
    """Queue the segments of a plan. Called by the generation's workflow, which dbos makes their
    parent: they are cancelled with it."""
    for index in range(parts["segments"]):
        # In turn with those of other generations.
        turn = SetEnqueueOptions(priority=index + 1)
        with SetWorkflowID(_segment_id(generation, index)), turn:
            DBOS.enqueue_workflow(QUEUE, _segment, {"generation": generation, "index": index})


def join(
    generation: str, folder: Path, parts: dict[str, Any], on_progress: OnProgress, wanted: Wanted
) -> dict[str, Any] | None:
    """Have the segments, each as it comes, made `video.mp4` and `thumbnail.jpg` in the workspace.

    Returns what the engine tells of it, or None when it is not wanted any more. Raises JobError.
    """
    here = context.current()
    storage = here.storage
    told = [folder / f"{index}.json" for index in range(parts["segments"])]
    task = render_pool.Join(
        plan=str(storage.bring(plan_name(generation), folder)),
        audio=str(storage.bring(input_name(generation, "audio"), folder)),
        segments=[str(path) for path in told],
        video=str(folder / "video.mp4"),
        thumbnail=str(folder / "thumbnail.jpg"),
    )
    files, left, all_there = storage.open_to(generation), Event(), Event()

    def joined() -> bool:
        return not left.is_set() and (not all_there.is_set() or wanted())

    with ThreadPoolExecutor(1, "join") as pool:
        # From now on: it encodes the voice, and takes each segment as it comes.
        joining = pool.submit(render_pool.run, task, files, lambda *_: None, joined, here.renderers)
        try:
            if not _collected(generation, folder, told, parts, on_progress, wanted, joining):
                return None
            all_there.set()
            with metrics.stage("join"):
                measures = joining.result()
        except JobError:
            _cancel_all(generation, parts["segments"])
            raise
        finally:
            left.set()
    if measures is None:
        return None
    return {name: parts[name] for name in _PLANNED if name in parts} | measures


def _collected(
    generation: str,
    folder: Path,
    told: list[Path],
    parts: dict[str, Any],
    on_progress: OnProgress,
    wanted: Wanted,
    joining: Future[dict[str, Any] | None],
) -> bool:
    """Hand each segment over as soon as it is there. False when they are not wanted any more."""
    storage = context.current().storage
    missing = {_segment_id(generation, index): index for index in range(parts["segments"])}
    done: dict[str, int] = {}
    ask = 0.0
    while wanted():
        if joining.done():
            joining.result()  # it ends before its time with an error only
        for status in DBOS.list_workflows(workflow_ids=list(missing), load_input=False):
            outcome = _outcome(status)
            if outcome is not None:
                index = missing.pop(status.workflow_id)
                path = storage.bring(segment_name(generation, index), folder)
                render_pool.handed(told[index], video=str(path), unsynced=outcome["unsynced"])
            done[status.workflow_id] = (status.attributes or {}).get(_FRAMES, 0)
        if not missing:
            return True
        if time.monotonic() >= ask:
            on_progress(parts["looks"] + sum(done.values()), parts["looks"] + parts["frames"])
            ask = time.monotonic() + TELL_SECONDS
        time.sleep(LOOK_SECONDS)
    return False


def _outcome(status: WorkflowStatus) -> dict[str, Any] | None:
    """What a segment has come to; None while it is in the making. Raises JobError."""
    if status.status in ("ENQUEUED", "PENDING", "CANCELLED"):
        return None  # one is cancelled with its generation, which learns that by itself
    outcome = status.output if status.status == "SUCCESS" else None
    if not outcome or "unsynced" not in outcome:
        failure = Failure.model_validate((outcome or {}).get("failure") or context.LOST)
        raise JobError.of(failure)
    return outcome


def _cancel_all(generation: str, count: int) -> None:
    DBOS.cancel_workflows([_segment_id(generation, index) for index in range(count)])


def _segment_id(generation: str, index: int) -> str:
    return f"{generation}-{index}"


@DBOS.workflow(name=NAME, max_recovery_attempts=context.MAX_ATTEMPTS)
def _segment(part: dict[str, Any]) -> dict[str, Any]:
    workflow = str(DBOS.workflow_id)
    with (
        logs.generation_context(part["generation"]),
        context.current().at_work(workflow),
        patient(workflow),
    ):
        return _rendered(part)


@DBOS.step(name="segment")
def _rendered(part: dict[str, Any]) -> dict[str, Any]:
    """Make one segment. Returns its `unsynced` spans, `failure`, or nothing when not wanted."""
    here, workflow = context.current(), str(DBOS.workflow_id)
    generation, index = part["generation"], part["index"]
    storage, due = here.storage, 0.0

    def on_progress(done: int, total: int) -> None:
        nonlocal due
        if done == total or time.monotonic() >= due:
            with contextlib.suppress(SQLAlchemyError):  # the render goes on untold
                DBOS.update_workflow_attributes(workflow, {_FRAMES: done}, merge=True)
            due = time.monotonic() + TELL_SECONDS

    try:
        with patient(workflow), storage.workspace(workflow, generation) as folder:
            wanted = context.watch(workflow)
            task = render_pool.Segment(
                plan=str(storage.bring(plan_name(generation), folder)),
                source=str(storage.bring(input_name(generation, "source"), folder)),
                index=index,
                video=str(folder / "segment.mp4"),
            )
            with metrics.stage("segment"):
                files = storage.open_to(generation)
                made = render_pool.run(
                    task, files, on_progress, wanted, here.renderers, generation=generation
                )
            if made is None or not wanted():
                return {}
            storage.publish(folder / "segment.mp4", segment_name(generation, index))
    except JobError as error:
        return {"failure": error.failure}
    return made
