"""The jobs of this process while they run, for workflows: dbos finds those by name, so they are
functions and have no other way to reach them."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from kolbo_demo.service.jobs import Jobs

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
