"""The client of Kolbo's lipsync API. Reference: `docs/client.md`.

>>> generation = KolboClient().lipsync("portrait.jpg", "speech.mp3")
>>> generation.wait()
>>> generation.download("result.mp4")
"""

from kolbo_demo.client.client import KolboClient
from kolbo_demo.client.errors import (
    ApiError,
    AuthError,
    DownloadError,
    GenerationCancelledError,
    GenerationError,
    GenerationFailedError,
    InputError,
    KolboError,
    MaybeAcceptedError,
    NotFoundError,
    RateLimitError,
    StillRunningError,
    UnreachableError,
)
from kolbo_demo.client.generation import Generation
from kolbo_demo.client.retry import Retry
from kolbo_demo.client.session import Timeouts
from kolbo_demo.options import Options

__all__ = [
    "ApiError",
    "AuthError",
    "DownloadError",
    "Generation",
    "GenerationCancelledError",
    "GenerationError",
    "GenerationFailedError",
    "InputError",
    "KolboClient",
    "KolboError",
    "MaybeAcceptedError",
    "NotFoundError",
    "Options",
    "RateLimitError",
    "Retry",
    "StillRunningError",
    "Timeouts",
    "UnreachableError",
]
