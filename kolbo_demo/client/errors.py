"""Everything that can go wrong between here and a finished video, as types.

    KolboError
    |-- InputError                 cannot work, found before anything was sent (also a ValueError)
    |-- ApiError                   the API answered, and its answer is no: status, code, request_id
    |   |-- AuthError              no key, or one that is not accepted (401, 403)
    |   |-- NotFoundError          no such generation or address (404)
    |   `-- RateLimitError         too many requests (429): retry_after, in seconds
    |-- UnreachableError           no answer, and nothing was started
    |-- MaybeAcceptedError         sent whole, but no answer: it may have been accepted
    |-- GenerationError            about one generation: generation_id, status (the last one seen)
    |   |-- GenerationFailedError
    |   |-- GenerationCancelledError
    |   `-- StillRunningError      the deadline passed; the generation may still be running
    `-- DownloadError              the video is made, but could not be fetched or saved

`str(error)` is for people: what is wrong and what to do. No error holds a key, or a request that
holds one.
"""

from kolbo_demo.contract import Status


class KolboError(Exception):
    """Anything this client raises on purpose."""


class InputError(KolboError, ValueError):
    """The input cannot work. Nothing was sent."""


class ApiError(KolboError):
    """The API answered with a refusal, or with something unreadable."""

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
        """HTTP status; None where nothing was asked, such as for want of a key."""
        self.code = code
        """Kolbo's code, such as `MODEL_NOT_FOUND`."""
        self.request_id = request_id
        """What Kolbo's support may ask for."""


class AuthError(ApiError):
    """There is no key, or it is not accepted."""


class NotFoundError(ApiError):
    """No such generation, or no such address."""


class RateLimitError(ApiError):
    """Too many requests. Nothing was started."""

    retry_after: float | None = None
    """Seconds the server asks to wait."""


class UnreachableError(KolboError):
    """No answer came, and the request cannot have been accepted."""


class MaybeAcceptedError(KolboError):
    """The request was sent whole but no readable answer came. Sending again may pay twice."""


class GenerationError(KolboError):
    """About one generation."""

    def __init__(self, message: str, generation_id: str, status: Status | None = None) -> None:
        super().__init__(message)
        self.generation_id = generation_id
        self.status = status


class GenerationFailedError(GenerationError):
    """The generation failed, or finished without a video."""


class GenerationCancelledError(GenerationError):
    """The generation was cancelled."""


class StillRunningError(GenerationError):
    """Not finished in the time given. It may still be running; its id reopens it."""


class DownloadError(KolboError):
    """The result could not be fetched or saved. Nothing half-written is left."""
