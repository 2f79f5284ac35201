"""A long voice, listened to by another process while the one that plans looks at the source.

It waits in the queue of generations: the process that plans has its turn there already, so only one
with nothing to do takes it. Where there is none, the one that plans listens itself.
"""

import contextlib
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextvars import Context
from pathlib import Path
from threading import Event

from dbos import DBOS, SetEnqueueOptions, SetWorkflowID
from sqlalchemy.exc import SQLAlchemyError

from kolbo_demo import logs
from kolbo_demo.service import metrics, render_pool
from kolbo_demo.service.errors import JobError
from kolbo_demo.service.fair_queue import LAST
from kolbo_demo.service.storage.files import heard_name, input_name
from kolbo_demo.service.workflows import context
from kolbo_demo.service.workflows.postpone import patient
from kolbo_demo.service.workflows.segments import LOOK_SECONDS

NAME = "listen"
TOLD = "voice.json"
"""In the workspace of the process that plans: what its child reads of the others."""


def of(generation: str) -> str:
    """The workflow in which another process listens to a generation's voice, where one does."""
    return f"{generation}-voice"


@contextlib.contextmanager
def others(generation: str, folder: Path) -> Iterator[Callable[[], None]]:
    """For as long as a generation is planned in the workspace `folder`: a function that has others
    listen to its voice, and returns at once."""
    over, asking = Event(), list[Future[None]]()
    with ThreadPoolExecutor(1, "listen") as pool:
        # Not as a step of the workflow, in which dbos queues nothing.
        ask = Context().run
        try:
            yield lambda: asking.append(pool.submit(ask, _asked, generation, folder, over))
        finally:
            over.set()
    for asked in asking:
        asked.result()


def _asked(generation: str, folder: Path, over: Event) -> None:
    """Have it done, and tell who plans: that it is being done, and where it is; or not any more."""
    workflow, told = of(generation), folder / TOLD
    with contextlib.suppress(SQLAlchemyError, OSError):
        with SetWorkflowID(workflow), SetEnqueueOptions(priority=LAST):
            DBOS.enqueue_workflow(context.GENERATIONS, _listen, generation)
        while not over.wait(LOOK_SECONDS):
            status = DBOS.get_workflow_status(workflow)
            state = status.status if status else None
            if state == "SUCCESS" and status and status.output:
                heard = context.jobs().storage.bring(heard_name(generation), folder)
                render_pool.handed(told, heard=str(heard))
                return
            if state == "PENDING":
                if not told.exists():
                    render_pool.handed(told, heard=None)
            elif state != "ENQUEUED" or told.exists():
                break  # it was not done, or is to be done anew: nobody waits for that
    told.unlink(missing_ok=True)
    with contextlib.suppress(SQLAlchemyError):
        DBOS.cancel_workflow(workflow)


@DBOS.workflow(name=NAME, max_recovery_attempts=context.MAX_ATTEMPTS)
def _listen(generation: str) -> bool:
    workflow = str(DBOS.workflow_id)
    with logs.generation_context(generation), context.jobs().at_work(workflow), patient(workflow):
        return _heard(generation)


@DBOS.step(name=NAME)
def _heard(generation: str) -> bool:
    """Whether what is heard in a generation's voice is in the storage now."""
    jobs, workflow = context.jobs(), str(DBOS.workflow_id)
    if not jobs.only(workflow):
        return False  # they would only take turns
    held, storage, name = context.watch(workflow), jobs.storage, heard_name(generation)

    def wanted() -> bool:
        return held() and not context.cancelled(generation)

    try:
        with patient(workflow), storage.workspace(workflow, generation) as folder:
            task = render_pool.Listen(
                audio=str(storage.bring(input_name(generation, "audio"), folder)),
                heard=str(folder / "heard.npz"),
            )
            with metrics.stage("listen"):
                files = storage.open_to(generation, parts=True)
                made = render_pool.run(
                    task, files, lambda *_: None, wanted, jobs.ready, generation=generation
                )
            if made is None:
                return False
            storage.publish(folder / "heard.npz", name)
            if not wanted():  # what there was of the generation may have been removed before
                storage.delete(name)
                return False
    except (JobError, FileNotFoundError):
        return False  # who plans meets it, too, and tells
    return True
