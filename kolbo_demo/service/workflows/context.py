"""The jobs of this process while they run, and what the workflows on them share.

dbos finds workflows by name, so they are functions and have no other way to reach the jobs.
"""

from collections.abc import Callable
from contextvars import Context
from typing import TYPE_CHECKING

from dbos import DBOS, WorkflowStatus
from sqlalchemy.exc import SQLAlchemyError

from kolbo_demo.contract import Failure
from kolbo_demo.service.cluster.heartbeat import TAKEOVERS
from kolbo_demo.service.errors import JobError

if TYPE_CHECKING:
    from kolbo_demo.service.job_queue import Jobs

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

current: "list[Jobs]" = []
"""One while it runs."""


class StoppedError(BaseException):
    """The process is going down: the workflow stays as it is, for another to finish.

    Not an Exception, which dbos would record as the workflow's outcome.
    """


def jobs() -> "Jobs":
    """Those that run. Raises StoppedError where none do."""
    if not current:
        raise StoppedError
    return current[0]


def cancelled(workflow: str) -> bool:
    """Whether nobody wants a workflow any more. Raises StoppedError when the process goes down."""
    jobs().check_stopping()
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
        jobs().check_stopping()
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
