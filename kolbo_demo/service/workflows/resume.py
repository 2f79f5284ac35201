"""Resumes the workflows that `postpone` left unfinished in this process."""

from collections import Counter
from collections.abc import Set

from dbos import DBOS

from kolbo_demo.service.workflows import context, segments

MISSED_CHECKS = 3
"""A workflow that starts, or whose outcome is being written, is missed by one check."""


class Resumer:
    """Counts the checks in which a workflow of this process was not running."""

    def __init__(self, executor: str) -> None:
        self._executor = executor
        self._missed: Counter[str] = Counter()

    def check(self, running: Set[str]) -> None:
        """Resume what `MISSED_CHECKS` calls in a row did not find among the `running`. Raises
        SQLAlchemyError."""
        pending = DBOS.list_workflows(
            name=[context.GENERATIONS, segments.WORKFLOW],
            status="PENDING",
            executor_id=self._executor,
            load_input=False,
            load_output=False,
        )
        missed = [row.workflow_id for row in pending if row.workflow_id not in running]
        self._missed = Counter({name: self._missed[name] + 1 for name in missed})
        for row in pending:
            if self._missed[row.workflow_id] >= MISSED_CHECKS:
                DBOS.resume_workflow(
                    row.workflow_id, queue_name=row.queue_name or context.GENERATIONS
                )
