"""State that the workflows of a process share: storage, render slots, and the process's shutdown.

dbos finds workflows by name, so they are functions; they reach the one context by `current`.
"""

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from contextvars import Context

from dbos import DBOS, WorkflowStatus
from sqlalchemy.exc import SQLAlchemyError

from kolbo_demo.credentials.signing import Signer
from kolbo_demo.service import fetch, render_pool
from kolbo_demo.service.cluster.heartbeat import TAKEOVERS
from kolbo_demo.service.errors import JobError, JobFailure
from kolbo_demo.service.jobs import Job
from kolbo_demo.service.storage.files import INPUTS, PARTS, Storage, thumbnail_name, video_name
from kolbo_demo.service.workflows.render_slots import RenderSlots

GENERATIONS = "lipsync"
"""Name of the workflow of a generation, and of its queue."""
MAX_ATTEMPTS = 10
"""A workflow that has crashed its process so often fails."""
GENERATION_FAILED = JobFailure(
    message="The service failed at this generation. Try it again.",
    category="engine",
    code="GENERATION_ERROR",
    retryable=True,
)

SLOT_POLL_SECONDS = 0.5
"""Polling interval of `should_continue` while a generation waits for a render slot."""


class ShutdownError(BaseException):
    """The process stops: the workflow stays unfinished, for another process.

    Not an Exception, which dbos would record as the workflow's outcome.
    """


class WorkflowContext:
    """State of the process that its workflows use."""

    def __init__(
        self,
        storage: Storage,
        policy: fetch.Policy,
        pool: render_pool.RenderPool,
        slots: RenderSlots,
        signer: Signer,
        *,
        cores: int,
        shared: bool,
    ) -> None:
        """`policy` limits the links that are followed, `cores` is the processes of one render,
        `shared`: other processes work on the same queue."""
        self.storage, self.policy, self.render_pool = storage, policy, pool
        self.signer = signer
        self.cores, self.shared = cores, shared
        self.workflow_ended = threading.Event()
        """Set when a workflow of this process ends."""
        self._slots = slots
        self._closing, self._stopping = threading.Event(), threading.Event()
        self._running: dict[str, threading.Event] = {}

    @property
    def running(self) -> frozenset[str]:
        """Workflows that run in this process."""
        return frozenset(self._running)

    @property
    def closing(self) -> bool:
        """Whether this process starts no more work."""
        return self._closing.is_set()

    @contextlib.contextmanager
    def track(self, workflow: str) -> Iterator[None]:
        """Have `drain` wait for the block. Raises ShutdownError if the process starts no more."""
        if self.closing:
            raise ShutdownError
        ended = threading.Event()
        self._running[workflow] = ended
        try:
            yield
        finally:
            self._running.pop(workflow, None)
            ended.set()
            self.workflow_ended.set()

    def render_slot(
        self, job: Job, should_continue: Callable[[], bool]
    ) -> contextlib.AbstractContextManager[None]:
        """Hold a render slot. Enters the block without one if the job is cancelled."""

        def should_wait() -> bool:
            if self.closing:
                raise ShutdownError
            return should_continue()

        return self._slots.slot(job.caller, job.turn, SLOT_POLL_SECONDS, should_wait)

    def check_shutdown(self) -> None:
        """Raises ShutdownError once running work has to end."""
        if self._stopping.is_set():
            raise ShutdownError

    def drain(self, finish_seconds: float, kill_seconds: float) -> None:
        """Start no more work, let running work finish for a while, then end it. Blocks."""
        self._closing.set()
        deadline = time.monotonic() + finish_seconds
        for ended in list(self._running.values()):
            ended.wait(timeout=max(0.0, deadline - time.monotonic()))
        self._stopping.set()
        for ended in list(self._running.values()):
            ended.wait(timeout=kill_seconds)

    def discard(self, generation: str, file_stem: str | None = None) -> None:
        """Delete a generation's inputs, and its results if `file_stem` names them."""
        self.storage.delete(f"{INPUTS}/{generation}")
        self.storage.delete(f"{PARTS}/{generation}")
        if file_stem:
            self.storage.delete(video_name(file_stem))
            self.storage.delete(thumbnail_name(file_stem))


_current: WorkflowContext | None = None


def set_current(context: WorkflowContext | None) -> None:
    """Set the context of this process's workflows; None when none run."""
    global _current  # noqa: PLW0603 - dbos runs functions, and exists once a process
    _current = context


def current() -> WorkflowContext:
    """The context of this process. Raises ShutdownError when no workflows run."""
    if _current is None:
        raise ShutdownError
    return _current


def is_cancelled(workflow: str) -> bool:
    """Whether a workflow is cancelled or deleted. Raises ShutdownError."""
    current().check_shutdown()
    # Not as a step of the workflow, which dbos refuses to one that is cancelled or taken over.
    status = Context().run(DBOS.get_workflow_status, workflow)
    return status is None or status.status == "CANCELLED"


def watch(workflow: str) -> Callable[[], bool]:
    """Returns `should_continue` for this execution of a workflow, which is False once the workflow
    is cancelled or taken over by another execution, and raises ShutdownError.

    Raises JobError if the workflow was taken over too often.
    """

    def own_status() -> WorkflowStatus | None:
        current().check_shutdown()
        status = DBOS.get_workflow_status(workflow)
        own = status and (status.status, status.executor_id) == ("PENDING", DBOS.executor_id)
        return status if own else None

    begun = own_status()
    if begun and (begun.attributes or {}).get(TAKEOVERS, 0) >= MAX_ATTEMPTS:
        raise JobError.from_failure(GENERATION_FAILED)

    def should_continue() -> bool:
        try:
            now = own_status()
        except SQLAlchemyError:  # nor can anybody have cancelled it
            return True
        return bool(begun and now and now.dequeued_at == begun.dequeued_at)

    return should_continue
