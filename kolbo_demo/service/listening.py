"""The voice of a long generation, listened to by one process while another looks at the source.

Whoever is free takes it, as a workflow of its own. Where nobody does, or it goes wrong, the process
that makes the plan listens itself: what is heard is the same.
"""

import contextlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Event
from time import monotonic
from typing import Any

from dbos import DBOS, SetWorkflowID
from sqlalchemy.exc import SQLAlchemyError

from kolbo_demo import logs
from kolbo_demo.service import observe, process, running, split
from kolbo_demo.service.errors import JobError
from kolbo_demo.service.patience import patient
from kolbo_demo.service.storage import heard_name, input_name

NAME = "listen"
TAKEN_SECONDS = 1.2
"""Within so long one that is free has taken it: two looks at the queue."""
LOOK_SECONDS = 0.2


def workflow_of(generation: str) -> str:
    """Id of the workflow that listens to a generation's voice."""
    return f"{generation}-voice"


@contextlib.contextmanager
def shared(generation: str, folder: Path, told: Path) -> Iterator[Callable[[], None]]:
    """A function that asks others to listen. What they hear lies in the workspace `folder` then,
    and `told` tells of it. Whatever is not heard when the block ends is not wanted any more."""
    left = Event()

    def ask() -> None:
        pool.submit(_handed, generation, folder, told, left)

    with ThreadPoolExecutor(1, "listening") as pool:
        try:
            yield ask
        finally:
            left.set()


def _handed(generation: str, folder: Path, told: Path, left: Event) -> None:
    heard = None
    try:
        # In a thread of its own: dbos lets no step of a workflow begin another one.
        if running.jobs().workers() > 1:
            heard = _elsewhere(generation, folder, left)
    finally:
        with contextlib.suppress(OSError):  # the workspace is gone, and so is who asked
            process.handed_voice(told, heard)


def _elsewhere(generation: str, folder: Path, left: Event) -> Path | None:
    workflow = workflow_of(generation)
    with SetWorkflowID(workflow):
        DBOS.enqueue_workflow(split.QUEUE, _listen, {"generation": generation})
    begun = monotonic()
    try:
        while not left.wait(LOOK_SECONDS):
            status = DBOS.get_workflow_status(workflow)
            if status and status.status == "SUCCESS" and status.output:
                return running.jobs().storage.bring(heard_name(generation), folder)
            taken = status and status.status == "PENDING"
            waiting = status and status.status == "ENQUEUED"
            if not taken and not (waiting and monotonic() < begun + TAKEN_SECONDS):
                return None
        return None
    finally:
        with contextlib.suppress(SQLAlchemyError):
            DBOS.cancel_workflow(workflow)  # does nothing to one that has ended


@DBOS.workflow(name=NAME, max_recovery_attempts=running.MAX_ATTEMPTS)
def _listen(part: dict[str, Any]) -> bool:
    workflow = str(DBOS.workflow_id)
    with logs.about(part["generation"]), running.jobs().at_work(workflow), patient(workflow):
        return _heard(part)


@DBOS.step(name="listen")
def _heard(part: dict[str, Any]) -> bool:
    """Whether all was heard that there is: else who asked listens, and meets what went wrong."""
    jobs, workflow, generation = running.jobs(), str(DBOS.workflow_id), part["generation"]
    try:
        with patient(workflow), jobs.storage.workspace(workflow) as folder:
            wanted = running.watch(workflow)
            task = process.Listen(
                audio=str(jobs.storage.bring(input_name(generation, "audio"), folder)),
                heard=str(folder / "heard.npz"),
            )
            with observe.stage("listen"):
                made = process.run(task, lambda *_: None, wanted)
            if made is None or not wanted():
                return False
            jobs.storage.publish(folder / "heard.npz", heard_name(generation))
    except JobError:
        return False
    return True
