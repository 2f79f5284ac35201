"""Segments of a long generation, each a workflow of its own that any process may run.

The generation's workflow plans and enqueues the segments, and joins their videos. Plan and videos
travel through the storage; which process renders a segment does not change the result.
"""

import contextlib
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from threading import Event
from typing import Any

from dbos import DBOS, SetEnqueueOptions, SetWorkflowID, WorkflowStatus
from sqlalchemy.exc import SQLAlchemyError

from kolbo_demo import logs
from kolbo_demo.engine.unsynced import UnsyncedSpan
from kolbo_demo.service import metrics, render_pool
from kolbo_demo.service.errors import JobError
from kolbo_demo.service.jobs import Outcome, PlanProperties, SegmentJob
from kolbo_demo.service.storage.files import input_name, plan_name, segment_name
from kolbo_demo.service.workflows import context
from kolbo_demo.service.workflows.postpone import postpone_on_storage_error
from kolbo_demo.service.workflows.steps import step

WORKFLOW = "segment"
QUEUE = "segments"
PROGRESS_INTERVAL_SECONDS = 2.0
"""Of a segment's progress, and of its generation's."""
SEGMENT_POLL_SECONDS = 0.25
_FRAMES = "frames"
"""Attribute of a segment's workflow: the number of its rendered frames."""

OnProgress = Callable[[int, int], None]
ShouldContinue = Callable[[], bool]


def enqueue(generation: str, count: int) -> None:
    """Enqueue the segments of a plan. To be called in the generation's workflow, which dbos makes
    their parent: they are cancelled with it."""
    for index in range(count):
        # In rotation with those of other generations.
        turn = SetEnqueueOptions(priority=index + 1)
        with SetWorkflowID(_segment_id(generation, index)), turn:
            DBOS.enqueue_workflow(QUEUE, _segment, SegmentJob(generation, index).to_json())


def join(
    generation: str,
    folder: Path,
    plan: PlanProperties,
    on_progress: OnProgress,
    should_continue: ShouldContinue,
) -> Outcome:
    """Wait for the segments and join them to `video.mp4` and `thumbnail.jpg` in `folder`.

    The outcome is the video, or empty if cancelled. Raises JobError.
    """
    ctx = context.current()
    storage = ctx.storage
    announcements = tuple(folder / f"{index}.json" for index in range(plan.segments))
    task = render_pool.JoinTask(
        plan=storage.checkout(plan_name(generation), folder),
        applied=plan,
        audio=storage.checkout(input_name(generation, "audio"), folder),
        segments=announcements,
        video=folder / "video.mp4",
        thumbnail=folder / "thumbnail.jpg",
    )
    aborted, complete = Event(), Event()

    def should_join() -> bool:
        return not aborted.is_set() and (not complete.is_set() or should_continue())

    with ThreadPoolExecutor(1, "join") as executor:
        # It starts at once: it encodes the voice, and takes each segment as it is announced.
        joining = executor.submit(
            ctx.render_pool.run,
            task,
            storage.allowed_files(generation),
            lambda *_: None,
            should_join,
        )
        try:
            if not _collect(
                generation, folder, announcements, plan, on_progress, should_continue, joining
            ):
                return Outcome()
            complete.set()
            with metrics.stage("join"):
                return joining.result()
        except JobError:
            _cancel_all(generation, plan.segments)
            raise
        finally:
            aborted.set()


def _collect(
    generation: str,
    folder: Path,
    announcements: Sequence[Path],
    plan: PlanProperties,
    on_progress: OnProgress,
    should_continue: ShouldContinue,
    joining: Future[Outcome],
) -> bool:
    """Announce each segment to the joining process once it is rendered. False if cancelled."""
    storage = context.current().storage
    missing = {_segment_id(generation, index): index for index in range(plan.segments)}
    frames: dict[str, int] = {}
    due = 0.0
    while should_continue():
        if joining.done():
            joining.result()  # ends early only with an error
        for status in DBOS.list_workflows(workflow_ids=list(missing), load_input=False):
            unsynced = _unsynced(status)
            if unsynced is not None:
                index = missing.pop(status.workflow_id)
                path = storage.checkout(segment_name(generation, index), folder)
                segment = render_pool.RenderedSegment(path, unsynced)
                render_pool.announce_segment(announcements[index], segment)
            frames[status.workflow_id] = (status.attributes or {}).get(_FRAMES, 0)
        if not missing:
            return True
        if time.monotonic() >= due:
            done = plan.inspected_frames + sum(frames.values())
            on_progress(done, plan.inspected_frames + plan.frames)
            due = time.monotonic() + PROGRESS_INTERVAL_SECONDS
        time.sleep(SEGMENT_POLL_SECONDS)
    return False


def _unsynced(status: WorkflowStatus) -> tuple[UnsyncedSpan, ...] | None:
    """Unsynced spans of a segment; None while it is queued or rendered. Raises JobError."""
    if status.status in ("ENQUEUED", "PENDING", "CANCELLED"):
        return None  # a segment is cancelled with its generation, which notices by itself
    outcome = Outcome.from_json((status.status == "SUCCESS" and status.output) or {})
    if outcome.unsynced is None:
        raise JobError.from_failure(outcome.failure or context.GENERATION_FAILED)
    return outcome.unsynced


def _cancel_all(generation: str, count: int) -> None:
    DBOS.cancel_workflows([_segment_id(generation, index) for index in range(count)])


def _segment_id(generation: str, index: int) -> str:
    return f"{generation}-{index}"


@DBOS.workflow(name=WORKFLOW, max_recovery_attempts=context.MAX_ATTEMPTS)
def _segment(document: dict[str, Any]) -> dict[str, Any]:
    """Run a `SegmentJob`. Returns an `Outcome`."""
    job, workflow = SegmentJob.from_json(document), str(DBOS.workflow_id)
    with (
        logs.generation_context(job.generation),
        context.current().track(workflow),
        postpone_on_storage_error(workflow),
    ):
        return _render(job).to_json()


@step("segment")
def _render(job: SegmentJob) -> Outcome:
    """Render one segment. The outcome is its unsynced spans, a failure, or empty if cancelled."""
    ctx, workflow = context.current(), str(DBOS.workflow_id)
    generation, index = job.generation, job.index
    storage, due = ctx.storage, 0.0

    def on_progress(done: int, total: int) -> None:
        nonlocal due
        if done == total or time.monotonic() >= due:
            with contextlib.suppress(SQLAlchemyError):  # no reason to end the render
                DBOS.update_workflow_attributes(workflow, {_FRAMES: done}, merge=True)
            due = time.monotonic() + PROGRESS_INTERVAL_SECONDS

    try:
        with (
            postpone_on_storage_error(workflow),
            storage.workspace(workflow, generation) as folder,
        ):
            should_continue = context.watch(workflow)
            task = render_pool.SegmentTask(
                plan=storage.checkout(plan_name(generation), folder),
                source=storage.checkout(input_name(generation, "source"), folder),
                index=index,
                video=folder / "segment.mp4",
            )
            with metrics.stage("segment"):
                outcome = ctx.render_pool.run(
                    task,
                    storage.allowed_files(generation),
                    on_progress,
                    should_continue,
                    generation=generation,
                )
            if outcome.empty or not should_continue():
                return Outcome()
            storage.publish(folder / "segment.mp4", segment_name(generation, index))
    except JobError as error:
        return Outcome(failure=error.failure)
    return outcome
