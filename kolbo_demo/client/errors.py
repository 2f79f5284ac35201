"""Errors of the client.

    KolboError
    |-- InputError                 unusable input, nothing was sent (also a ValueError)
    |-- ApiError                   the API refused: status, code, request_id
    |   |-- AuthError              no key, or a rejected one (401, 403)
    |   |-- NotFoundError          no such generation or URL (404)
    |   `-- RateLimitError         too many requests (429): retry_after, in seconds
    |-- UnreachableError           no response, and nothing was started
    |-- MaybeAcceptedError         sent whole, but no response: it may have been accepted
    |-- GenerationError            one generation: generation_id, status (the last one polled)
    |   |-- GenerationFailedError  failed, or completed without a video
    |   |-- GenerationCancelledError
    |   `-- StillRunningError      timeout; the generation may still be running
    `-- DownloadError              the video exists, but could not be fetched or saved

`str(error)` is for people: what is wrong and what to do. No error holds a key or a request.
"""

from kolbo_demo.contract import Status


class KolboError(Exception):
    """Base class."""


class InputError(KolboError, ValueError):
    """Unusable input. Nothing was sent."""


class ApiError(KolboError):
    """The API refused, or sent an unreadable response."""

    def __init__(
        self,
        message: str,
        *,
        status: int | None = None,
        code: str | None = None,
        request_id: str | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        """HTTP status; None if nothing was sent, such as without a key."""
        self.code = code
        """Kolbo's code, such as `MODEL_NOT_FOUND`."""
        self.request_id = request_id
        """For Kolbo's support."""


class AuthError(ApiError):
    """The API key is missing or rejected."""


class NotFoundError(ApiError):
    """No such generation or URL."""


class RateLimitError(ApiError):
    """Too many requests. Nothing was started."""

    retry_after: float | None = None
    """Seconds to wait; None if the server sends no `Retry-After`."""


class UnreachableError(KolboError):
    """No response, and the request cannot have been accepted."""


class MaybeAcceptedError(KolboError):
    """The request was sent whole, without a readable response. Sending it again may pay twice."""


class GenerationError(KolboError):
    """Base class of errors of one generation."""

    def __init__(self, message: str, generation_id: str, status: Status | None = None) -> None:
        super().__init__(message)
        self.generation_id = generation_id
        self.status = status


class GenerationFailedError(GenerationError):
    """The generation failed, or completed without a video."""


class GenerationCancelledError(GenerationError):
    """The generation was cancelled."""


class StillRunningError(GenerationError):
    """Not finished within the timeout. It may still be running; its id reopens it."""


class DownloadError(KolboError):
    """The result could not be fetched or saved. No partial file is left."""
