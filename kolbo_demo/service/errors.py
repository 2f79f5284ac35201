"""Errors of the service. Every message is one sentence for people.

ServiceError                            the service cannot run: data folder in use, port taken...
ApiError                                a request is refused: HTTP status, code, message
  rate_limit.TooManyRequestsError       429
JobError                                a generation fails: message, category, code
"""

import errno
from collections.abc import Mapping
from dataclasses import dataclass

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


@dataclass(frozen=True)
class JobFailure:
    """Why a generation failed: the fields of a `contract.Failure`."""

    message: str
    category: str
    """One of input, link, engine."""
    code: str
    retryable: bool = False


class JobError(Exception):
    """A generation fails."""

    def __init__(self, message: str, *, category: str, code: str, retryable: bool = False) -> None:
        super().__init__(message)
        self.failure = JobFailure(message, category, code, retryable)

    @property
    def code(self) -> str:
        return self.failure.code

    @classmethod
    def from_failure(cls, failure: JobFailure) -> "JobError":
        """The error of a recorded failure."""
        return cls(
            failure.message,
            category=failure.category,
            code=failure.code,
            retryable=failure.retryable,
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
