"""What one generation does: fetch what links lead to, render, keep the result.

Each part is a step that dbos records, so that one which is done is not done again.
"""

import contextlib
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from dbos import DBOS
from sqlalchemy.exc import SQLAlchemyError

from kolbo_demo import logs
from kolbo_demo.contract import COMPLETED, FAILED
from kolbo_demo.service import fetch, metrics, render_pool
from kolbo_demo.service.errors import JobError
from kolbo_demo.service.storage.files import (
    Storage,
    input_name,
    plan_name,
    thumbnail_name,
    video_name,
)
from kolbo_demo.service.workflows import context, segments
from kolbo_demo.service.workflows.context import StoppedError
from kolbo_demo.service.workflows.postpone import PostponedError, patient

PROGRESS_SECONDS = 0.5
"""Progress is written at most so often."""


class _UnwantedError(Exception):
    """What was being made is not to be kept."""


@DBOS.workflow(name=context.GENERATIONS, max_recovery_attempts=context.MAX_ATTEMPTS)
def run(job: dict[str, Any]) -> dict[str, Any]:
    """Carry a generation out. Returns `made` or `failure`."""
    with logs.generation_context(str(DBOS.workflow_id)):
        metrics.begun(max(0.0, time.time() - job["created"]))
        return _carried_out(job)


@DBOS.workflow(name="listen")
def _listen(_generation: str) -> bool:
    """Does nothing: earlier releases may have left such workflows in the queue."""
    return False


def percent(generation: str) -> int:
    """How far a generation has come."""
    return int(DBOS.get_all_events(generation).get("progress", 0))


def _carried_out(job: dict[str, Any]) -> dict[str, Any]:
    here, generation = context.current(), str(DBOS.workflow_id)
    try:
        with here.at_work(generation), patient(generation):
            outcome = _fetch(job) or _render(job)
            if "parts" in outcome:
                segments.hand_out(generation, outcome["parts"])
                outcome = _join(job, outcome["parts"])
    except Exception:  # a bug: dbos records it as the outcome
        here.discard(generation, job["file"])
        metrics.ended(generation, FAILED, context.LOST.code)
        raise
    except PostponedError:
        raise
    except BaseException:  # cancelled or taken over, as dbos tells it, or the process goes down
        with contextlib.suppress(StoppedError):
            if context.cancelled(generation):
                here.discard(generation, job["file"])
        raise
    here.discard(generation, None if "made" in outcome else job["file"])
    if outcome:  # else it was cancelled, which is told where that was done
        metrics.ended(
            generation,
            COMPLETED if "made" in outcome else FAILED,
            outcome.get("failure", {}).get("code"),
        )
    return outcome


@DBOS.step(name="fetch")
def _fetch(job: dict[str, Any]) -> dict[str, Any]:
    """Bring linked files here. Returns a failure, or nothing."""
    generation = str(DBOS.workflow_id)
    for field in ("source", "audio"):
        if link := job.get(f"{field}_url"):
            try:
                with patient(generation), metrics.stage("fetch"):
                    _bring(link, field, generation)
            except JobError as error:
                return {"failure": error.failure}
            except _UnwantedError:
                break
    return {}


def _bring(link: str, field: fetch.Field, generation: str) -> None:
    here, wanted = context.current(), context.watch(generation)
    with here.storage.create(input_name(generation, field)) as file:
        fetch.fetch(link, field, file, here.policy, wanted)
        if not wanted():
            raise _UnwantedError
        metrics.moved("fetched", file.tell())


@DBOS.step(name="render")
def _render(job: dict[str, Any]) -> dict[str, Any]:
    """Make the video. Returns `made`, `failure`, `parts` where it only made the plan of a long one,
    or nothing when it is not wanted any more."""
    here, generation, file = context.current(), str(DBOS.workflow_id), job["file"]
    storage = here.storage
    try:
        wanted = context.watch(generation)
        with (
            here.slot(job, wanted),
            patient(generation),
            storage.workspace(generation) as folder,
        ):
            plan = folder / "plan.npz"
            task = render_pool.Task(
                source=str(storage.bring(input_name(generation, "source"), folder)),
                audio=str(storage.bring(input_name(generation, "audio"), folder)),
                video=str(folder / "video.mp4"),
                thumbnail=str(folder / "thumbnail.jpg"),
                options=job.get("options", job),  # an older release has them beside the rest
                workers=here.cores,
                plan=str(plan) if here.shared else None,
            )
            with metrics.stage("render"):
                files = storage.open_to(generation)
                made = render_pool.run(
                    task, files, _teller(generation), wanted, here.renderers, generation=generation
                )
            if made is None or not wanted():
                return {}
            if plan.exists():
                storage.publish(plan, plan_name(generation))
                return {"parts": made}
            _keep(storage, folder, file)
    except JobError as error:
        return {"failure": error.failure}
    return {"made": made}


@DBOS.step(name="join")
def _join(job: dict[str, Any], parts: dict[str, Any]) -> dict[str, Any]:
    """Make the video of segments. Returns `made`, `failure`, or nothing when it is not wanted."""
    generation = str(DBOS.workflow_id)
    storage = context.current().storage
    try:
        wanted = context.watch(generation)
        with patient(generation), storage.workspace(generation) as folder:
            made = segments.join(generation, folder, parts, _teller(generation), wanted)
            if made is None or not wanted():
                return {}
            _keep(storage, folder, job["file"])
    except JobError as error:
        return {"failure": error.failure}
    return {"made": made}


def _keep(storage: Storage, folder: Path, file: str) -> None:
    """Publish the video and the thumbnail that a workspace holds as the result `file`."""
    metrics.moved("made", (folder / "video.mp4").stat().st_size)
    with metrics.stage("store"):
        storage.publish(folder / "video.mp4", video_name(file))
        storage.publish(folder / "thumbnail.jpg", thumbnail_name(file))


def _teller(generation: str) -> Callable[[int, int], None]:
    """A function that records progress, given what is done and what there is in all."""
    told, due = percent(generation), 0.0

    def tell(done: int, total: int) -> None:
        nonlocal told, due
        now = min(99, 100 * done // max(1, total))
        # After a restart the work begins again: what was told stays until it is passed.
        if now > told and time.monotonic() >= due:
            with contextlib.suppress(SQLAlchemyError):  # the render goes on untold
                DBOS.set_event("progress", now)
            told, due = now, time.monotonic() + PROGRESS_SECONDS

    return tell
