"""What the workflows of this process share: files, render slots, and whether the process stops.

dbos finds workflows by name, so they are functions; they reach the one context by `current`.
"""

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from contextvars import Context
from typing import Any

from dbos import DBOS, WorkflowStatus
from sqlalchemy.exc import SQLAlchemyError

from kolbo_demo.contract import Failure
from kolbo_demo.service import fetch, render_pool
from kolbo_demo.service.cluster.heartbeat import TAKEOVERS
from kolbo_demo.service.errors import JobError
from kolbo_demo.service.storage.files import INPUTS, PARTS, Storage, thumbnail_name, video_name
from kolbo_demo.service.workflows.render_slots import RenderSlots

GENERATIONS = "lipsync"
"""The workflow that is a generation, and its queue."""
MAX_ATTEMPTS = 10
"""A workflow that has taken the whole machine down so often is given up."""
LOST = Failure(
    message="The service failed at this generation. Try it again.",
    category="engine",
    code="GENERATION_ERROR",
    retryable=True,
)

SLOT_POLL_SECONDS = 0.5
"""A generation that waits for a render slot checks so often whether it is still wanted."""


class StoppedError(BaseException):
    """The process is going down: the workflow stays as it is, for another to finish.

    Not an Exception, which dbos would record as the workflow's outcome.
    """


class WorkflowContext:
    """What workflows use of the process that runs them."""

    def __init__(
        self,
        storage: Storage,
        policy: fetch.Policy,
        renderers: render_pool.Ready,
        slots: RenderSlots,
        *,
        cores: int,
        shared: bool,
    ) -> None:
        """`policy` says which links are followed, `cores` is the processes of one render, `shared`
        whether other processes work on the same queue."""
        self.storage, self.policy, self.renderers = storage, policy, renderers
        self.cores, self.shared = cores, shared
        self.changed = threading.Event()
        """Set when a workflow ends here."""
        self._slots = slots
        self._closing, self._stopping = threading.Event(), threading.Event()
        self._running: dict[str, threading.Event] = {}

    @property
    def running(self) -> frozenset[str]:
        """Workflows that run in this process."""
        return frozenset(self._running)

    @property
    def closing(self) -> bool:
        """Whether this process begins no more work."""
        return self._closing.is_set()

    @contextlib.contextmanager
    def at_work(self, workflow: str) -> Iterator[None]:
        """Mark work that `drain` waits for. Raises StoppedError if the process begins no more."""
        if self.closing:
            raise StoppedError
        ended = threading.Event()
        self._running[workflow] = ended
        try:
            yield
        finally:
            self._running.pop(workflow, None)
            ended.set()
            self.changed.set()

    def slot(
        self, job: dict[str, Any], wanted: Callable[[], bool]
    ) -> contextlib.AbstractContextManager[None]:
        """Hold a render slot. Enters the block without one when the job is no longer wanted."""

        def waits() -> bool:
            if self.closing:
                raise StoppedError
            return wanted()

        # Jobs of an older release have neither.
        caller, turn = job.get("caller", ""), job.get("turn", 0)
        return self._slots.slot(caller, turn, SLOT_POLL_SECONDS, waits)

    def check_stopping(self) -> None:
        """Raises StoppedError when the process goes down."""
        if self._stopping.is_set():
            raise StoppedError

    def drain(self, finish_seconds: float, kill_seconds: float) -> None:
        """Begin nothing more, let running work finish for a while, then end it. Blocks."""
        self._closing.set()
        deadline = time.monotonic() + finish_seconds
        for ended in list(self._running.values()):
            ended.wait(timeout=max(0.0, deadline - time.monotonic()))
        self._stopping.set()
        for ended in list(self._running.values()):
            ended.wait(timeout=kill_seconds)

    def discard(self, generation: str, file: str | None = None) -> None:
        """Remove a generation's inputs, and its results if `file` names them."""
        self.storage.delete(f"{INPUTS}/{generation}")
        self.storage.delete(f"{PARTS}/{generation}")
        if file:
            self.storage.delete(video_name(file))
            self.storage.delete(thumbnail_name(file))


_current: WorkflowContext | None = None


def enter(context: WorkflowContext | None) -> None:
    """Set the context of this process's workflows; None where none run."""
    global _current  # noqa: PLW0603 - dbos runs functions, and exists once a process
    _current = context


def current() -> WorkflowContext:
    """The context of this process. Raises StoppedError where no workflows run."""
    if _current is None:
        raise StoppedError
    return _current


def cancelled(workflow: str) -> bool:
    """Whether nobody wants a workflow any more. Raises StoppedError when the process goes down."""
    current().check_stopping()
    # Not as a step of the workflow, which dbos refuses to one that is cancelled or taken over.
    status = Context().run(DBOS.get_workflow_status, workflow)
    return status is None or status.status == "CANCELLED"


def watch(workflow: str) -> Callable[[], bool]:
    """A function that tells whether this execution of a workflow is to go on: nobody has cancelled
    it, and no other execution has taken it over.

    The function raises StoppedError when the process goes down. Raises JobError where the workflow
    was taken over too often.
    """

    def held() -> WorkflowStatus | None:
        current().check_stopping()
        status = DBOS.get_workflow_status(workflow)
        mine = status and (status.status, status.executor_id) == ("PENDING", DBOS.executor_id)
        return status if mine else None

    begun = held()
    if begun and (begun.attributes or {}).get(TAKEOVERS, 0) >= MAX_ATTEMPTS:
        raise JobError.of(LOST)

    def wanted() -> bool:
        try:
            now = held()
        except SQLAlchemyError:  # nobody can have cancelled it then
            return True
        return bool(begun and now and now.dequeued_at == begun.dequeued_at)

    return wanted
