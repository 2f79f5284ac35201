"""Retry of generations after errors of the disk or the database.

dbos does not record a step that raises Postponed, so the generation stays unfinished until the
supervisor resumes it. After `MAX_TRIES` such errors it fails.
"""

import contextlib
import logging
from collections import Counter
from collections.abc import Iterator

from sqlalchemy.exc import SQLAlchemyError

from kolbo_demo import logs
from kolbo_demo.service.errors import STORAGE_FAILED, JobError

_log = logging.getLogger(__name__)

MAX_TRIES = 5
_errors: Counter[str] = Counter()
"""By workflow."""


class Postponed(BaseException):
    """The workflow stays unfinished, to be resumed. Not an Exception, which dbos would record."""


@contextlib.contextmanager
def postpone_on_storage_error(workflow: str) -> Iterator[None]:
    """Postpone the workflow on errors of the disk or the database within the block.

    Raises Postponed, or JobError after `MAX_TRIES`.
    """
    try:
        yield
    except (OSError, SQLAlchemyError, JobError) as error:
        if isinstance(error, FileNotFoundError):  # a retry does not find it either
            raise
        failure = error if isinstance(error, JobError) else None
        if failure and failure.code != STORAGE_FAILED:
            raise
        _errors[workflow] += 1
        logs.event(_log, "postponed", logging.WARNING, error=type(error).__name__)
        if _errors[workflow] < MAX_TRIES:
            raise Postponed from error
        del _errors[workflow]
        raise failure or JobError(
            "The service could not keep its files. Try again later.",
            category="engine",
            code=STORAGE_FAILED,
            retryable=True,
        ) from error
