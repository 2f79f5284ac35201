"""Id, state and progress of a generation, as its dbos workflow records them."""

import re
import secrets
from dataclasses import dataclass

from dbos import DBOS, DBOSClient, WorkflowStatus

from kolbo_demo.contract import CANCELLED, COMPLETED, FAILED, PROCESSING
from kolbo_demo.service.errors import JobFailure
from kolbo_demo.service.jobs import Job, Outcome, VideoProperties
from kolbo_demo.service.workflows.context import GENERATION_FAILED

_STATES = {
    "SUCCESS": COMPLETED,
    "CANCELLED": CANCELLED,
    "ERROR": FAILED,
    "MAX_RECOVERY_ATTEMPTS_EXCEEDED": FAILED,
}
_EVENT = "progress"
Workflows = type[DBOS] | DBOSClient
"""Reads workflows: dbos, or a client of its database while dbos is stopped."""
_ID = re.compile(r"lip_[0-9a-f]{20}")


def new_id() -> str:
    """An id for a generation: `lip_` and 20 hex digits."""
    return "lip_" + secrets.token_hex(10)


def is_id(text: str) -> bool:
    """Whether a text is such an id."""
    return bool(_ID.fullmatch(text))


@dataclass(frozen=True)
class Progress:
    """State of a generation."""

    id: str
    state: str
    percent: int
    job: Job
    video: VideoProperties | None = None
    failure: JobFailure | None = None

    @classmethod
    def of(cls, status: WorkflowStatus, workflows: "Workflows") -> "Progress":
        """Progress of a workflow. Raises SQLAlchemyError."""
        outcome = Outcome.from_json((status.status == "SUCCESS" and status.output) or {})
        state, failure = _STATES.get(status.status, PROCESSING), None
        if state == FAILED or (state == COMPLETED and not outcome.video):
            state, failure = FAILED, outcome.failure or GENERATION_FAILED
        return cls(
            id=status.workflow_id,
            state=state,
            percent=_percent(status, state, workflows),
            job=job_of(status),
            video=outcome.video,
            failure=failure,
        )


def job_of(status: WorkflowStatus) -> Job:
    """The job of a generation's workflow."""
    return Job.from_json(status.input["args"][0] if status.input else {})


def _percent(status: WorkflowStatus, state: str, workflows: Workflows) -> int:
    if state == COMPLETED:
        return 100
    # A query for each of a hundred that wait would take most of the interpreter's time. One that
    # was resumed waits too, and its row has been updated.
    if status.status == "ENQUEUED" and status.updated_at == status.created_at:
        return 0
    return percent(status.workflow_id, workflows)


def percent(generation: str, workflows: Workflows = DBOS) -> int:
    """Recorded progress, 0 to 99. Raises SQLAlchemyError."""
    if isinstance(workflows, DBOSClient):  # which cannot list events
        return int(workflows.get_event(generation, _EVENT, timeout_seconds=0) or 0)
    return int(workflows.get_all_events(generation).get(_EVENT, 0))


def record_percent(value: int) -> None:
    """Record the progress of the workflow that this thread runs. Raises SQLAlchemyError."""
    DBOS.set_event(_EVENT, value)
