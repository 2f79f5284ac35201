"""What a generation does when the disk or the database fails it: it waits, and is tried again.

A step that raised here is not recorded by dbos, so the generation stays as it was; `guard` has it
taken up again once files can be kept. One that meets the trouble every time fails in the end.
"""

import contextlib
import logging
from collections import Counter
from collections.abc import Iterator

from sqlalchemy.exc import SQLAlchemyError

from kolbo_demo import logs
from kolbo_demo.service.errors import STORAGE_FAILED, JobError

_log = logging.getLogger(__name__)

TRIES = 5
_met: Counter[str] = Counter()


class PostponedError(BaseException):
    """The generation stays as it is, to be taken up again. Not an Exception, see above."""


@contextlib.contextmanager
def patient(generation: str) -> Iterator[None]:
    """Errors of the disk or the database within postpone the generation, until it is too much.

    Raises PostponedError, or JobError after `TRIES`.
    """
    try:
        yield
    except (OSError, SQLAlchemyError, JobError) as error:
        if isinstance(error, FileNotFoundError):  # it does not come back by waiting
            raise
        failure = error if isinstance(error, JobError) else None
        if failure and failure.code != STORAGE_FAILED:
            raise
        _met[generation] += 1
        logs.event(_log, "postponed", logging.WARNING, error=type(error).__name__)
        if _met[generation] < TRIES:
            raise PostponedError from error
        del _met[generation]
        raise failure or JobError(
            "The service could not keep its files. Try again later.",
            category="engine",
            code=STORAGE_FAILED,
            retryable=True,
        ) from error
