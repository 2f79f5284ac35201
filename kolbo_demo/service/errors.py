"""Errors of the service. Every message is one sentence for people.

ServiceError                            the service cannot run: data folder in use, port taken...
ApiError                                a request is refused: HTTP status, code, message
  rate_limit.TooManyRequestsError       429
JobError                                a generation fails: message, category, code
"""

import errno
from collections.abc import Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from kolbo_demo.contract import Failure

STORAGE_FAILED = "STORAGE_FAILED"
_DISK_ERRNOS = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO, errno.EFBIG}


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
        """Fields of a `contract.Failure`, as a render does not load pydantic."""

    @classmethod
    def from_failure(cls, failure: "Failure") -> "JobError":
        """The error of a recorded failure."""
        return cls(
            failure.message or "",
            category=failure.category or "",
            code=failure.code or "",
            retryable=bool(failure.retryable),
        )


def storage_failed(error: OSError) -> JobError | None:
    """The failure for an error of the disk; None for an error of a single file."""
    if error.errno not in _DISK_ERRNOS:
        return None
    return JobError(
        f"The service could not keep its files ({error.strerror}). Try again later.",
        category="engine",
        code=STORAGE_FAILED,
        retryable=True,
    )


def bad_request(code: str, message: str) -> ApiError:
    """400."""
    return ApiError(400, code, message)


def too_large(what: str, limit: int) -> ApiError:
    """413 for something of more than `limit` bytes."""
    return ApiError(
        413,
        "FILE_TOO_LARGE",
        f"The {what} is over {limit // (1024 * 1024)} MB; make it smaller.",
    )
