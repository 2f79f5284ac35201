"""What can go wrong in the service, as types. Every message is one sentence for people.

ServiceError          the service cannot run here: data folder in use, port taken...
ApiError              one request is refused: HTTP status, code, sentence
  limits.TooManyError      ... for now: try again later
JobError              one generation fails: sentence, category, code
"""

import errno
from collections.abc import Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from kolbo_demo.contract import Failure

STORAGE_FAILED = "STORAGE_FAILED"
_OF_THE_DISK = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO, errno.EFBIG}


class ServiceError(Exception):
    """The service cannot run here."""


class ApiError(Exception):
    """A request is refused with HTTP `status` and an `ErrorReply` of `code` and `message`."""

    def __init__(
        self, status: int, code: str, message: str, headers: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.message = message
        self.headers = dict(headers or {})


class JobError(Exception):
    """A generation fails. `category` is one of input, link, engine."""

    def __init__(self, message: str, *, category: str, code: str, retryable: bool = False) -> None:
        super().__init__(message)
        self.code = code
        self.failure = {
            "message": message,
            "category": category,
            "code": code,
            "retryable": retryable,
        }
        """The fields of a `contract.Failure`, without the pydantic that a render does not load."""

    @classmethod
    def of(cls, failure: "Failure") -> "JobError":
        """The error that a recorded failure came from."""
        return cls(
            failure.message or "",
            category=failure.category or "",
            code=failure.code or "",
            retryable=bool(failure.retryable),
        )


def storage_failed(error: OSError) -> JobError | None:
    """The failure that says so, where an error is one of the disk and not of the file at hand."""
    if error.errno not in _OF_THE_DISK:
        return None
    return JobError(
        f"The service could not keep its files ({error.strerror}). Try again later.",
        category="engine",
        code=STORAGE_FAILED,
        retryable=True,
    )


def bad_request(code: str, message: str) -> ApiError:
    """A request that cannot work."""
    return ApiError(400, code, message)
