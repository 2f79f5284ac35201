"""One long generation in segments, each a workflow of its own that any process may take.

The generation's workflow makes the plan, hands the segments out, and joins what comes back. Plan
and segments travel through the storage; who makes which changes nothing in the video.
"""

import contextlib
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from dbos import DBOS, SetWorkflowID, WorkflowStatus
from sqlalchemy.exc import SQLAlchemyError

from kolbo_demo import logs
from kolbo_demo.contract import Failure
from kolbo_demo.service import observe, process, running
from kolbo_demo.service.errors import JobError
from kolbo_demo.service.patience import patient
from kolbo_demo.service.storage import input_name, plan_name, segment_name

NAME = "segment"
QUEUE = "segments"
TELL_SECONDS = 2.0
"""A segment tells its frames, and its generation asks for them, about so often."""
LOOK_SECONDS = 0.5
_FRAMES = "frames"
_PLANNED = ("model", "prompt_used", "visible_mark")
"""What a plan tells of the result. One made by an older version knows less."""

OnProgress = Callable[[int, int], None]
Wanted = Callable[[], bool]


def hand_out(generation: str, parts: dict[str, Any]) -> None:
    """Queue the segments of a plan. Called by the generation's workflow, which dbos makes their
    parent: they are cancelled with it."""
    for index in range(parts["segments"]):
        with SetWorkflowID(_segment_id(generation, index)):
            DBOS.enqueue_workflow(QUEUE, _segment, {"generation": generation, "index": index})


def join(
    generation: str, folder: Path, parts: dict[str, Any], on_progress: OnProgress, wanted: Wanted
) -> dict[str, Any] | None:
    """Wait for the segments and make them `video.mp4` and `thumbnail.jpg` in the workspace.

    Returns what the engine tells of it, or None when it is not wanted any more. Raises JobError.
    """
    storage = running.jobs().storage
    try:
        made = _collected(generation, folder, parts, on_progress, wanted)
    except JobError:
        _cancel_all(generation, parts["segments"])
        raise
    if made is None:
        return None
    segments, unsynced = made
    task = process.Join(
        plan=str(storage.bring(plan_name(generation), folder)),
        audio=str(storage.bring(input_name(generation, "audio"), folder)),
        segments=[str(segment) for segment in segments],
        unsynced=unsynced,
        video=str(folder / "video.mp4"),
        thumbnail=str(folder / "thumbnail.jpg"),
    )
    with observe.stage("join"):
        measures = process.run(task, lambda *_: None, wanted)
    if measures is None:
        return None
    return {name: parts[name] for name in _PLANNED if name in parts} | measures


def _collected(
    generation: str,
    folder: Path,
    parts: dict[str, Any],
    on_progress: OnProgress,
    wanted: Wanted,
) -> tuple[list[Path], list[list[Any]]] | None:
    """The segments, in order, each brought as soon as it is there, and their unsynced spans."""
    storage = running.jobs().storage
    ids = [_segment_id(generation, index) for index in range(parts["segments"])]
    brought: dict[str, Path] = {}
    done: dict[str, int] = {}
    unsynced: list[list[Any]] = []
    ask = 0.0
    while wanted():
        missing = [name for name in ids if name not in brought]
        if not missing:
            return [brought[name] for name in ids], unsynced
        for status in DBOS.list_workflows(workflow_ids=missing, load_input=False):
            outcome = _outcome(status)
            if outcome is not None:
                index = ids.index(status.workflow_id)
                path = storage.bring(segment_name(generation, index), folder)
                brought[status.workflow_id] = path
                unsynced += outcome["unsynced"]
            done[status.workflow_id] = (status.attributes or {}).get(_FRAMES, 0)
        if time.monotonic() >= ask:
            on_progress(parts["looks"] + sum(done.values()), parts["looks"] + parts["frames"])
            ask = time.monotonic() + TELL_SECONDS
        time.sleep(LOOK_SECONDS)
    return None


def _outcome(status: WorkflowStatus) -> dict[str, Any] | None:
    """What a segment has come to; None while it is in the making. Raises JobError."""
    if status.status in ("ENQUEUED", "PENDING", "CANCELLED"):
        return None  # one is cancelled with its generation, which learns that by itself
    outcome = status.output if status.status == "SUCCESS" else None
    if not outcome or "unsynced" not in outcome:
        failure = Failure.model_validate((outcome or {}).get("failure") or running.LOST)
        raise JobError.of(failure)
    return outcome


def _cancel_all(generation: str, count: int) -> None:
    DBOS.cancel_workflows([_segment_id(generation, index) for index in range(count)])


def _segment_id(generation: str, index: int) -> str:
    return f"{generation}-{index}"


@DBOS.workflow(name=NAME, max_recovery_attempts=running.MAX_ATTEMPTS)
def _segment(part: dict[str, Any]) -> dict[str, Any]:
    workflow = str(DBOS.workflow_id)
    with logs.about(part["generation"]), running.jobs().at_work(workflow), patient(workflow):
        return _rendered(part)


@DBOS.step(name="segment")
def _rendered(part: dict[str, Any]) -> dict[str, Any]:
    """Make one segment. Returns its `unsynced` spans, `failure`, or nothing when not wanted."""
    jobs, workflow = running.jobs(), str(DBOS.workflow_id)
    generation, index = part["generation"], part["index"]
    storage, due = jobs.storage, 0.0

    def on_progress(done: int, total: int) -> None:
        nonlocal due
        if done == total or time.monotonic() >= due:
            with contextlib.suppress(SQLAlchemyError):  # the render goes on untold
                DBOS.update_workflow_attributes(workflow, {_FRAMES: done}, merge=True)
            due = time.monotonic() + TELL_SECONDS

    try:
        with patient(workflow), storage.workspace(workflow) as folder:
            wanted = running.watch(workflow)
            task = process.Segment(
                plan=str(storage.bring(plan_name(generation), folder)),
                source=str(storage.bring(input_name(generation, "source"), folder)),
                index=index,
                video=str(folder / "segment.mp4"),
            )
            with observe.stage("segment"):
                made = process.run(task, on_progress, wanted)
            if made is None or not wanted():
                return {}
            storage.publish(folder / "segment.mp4", segment_name(generation, index))
    except JobError as error:
        return {"failure": error.failure.model_dump()}
    return made
