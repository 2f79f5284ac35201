"""Keys, rates and sizes: what a request may do before anything is done for it."""

import hmac
import math
import secrets
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from pydantic import SecretStr

from kolbo_demo.contract import MAX_FILE_BYTES
from kolbo_demo.service.errors import ApiError

MAX_JSON_BYTES = 1024 * 1024
MAX_TEXT_BYTES = 64 * 1024
"""One text field of a form."""
MAX_PROMPT_CHARACTERS = 2000
MAX_UPLOAD_BYTES = 2 * MAX_FILE_BYTES + MAX_JSON_BYTES
"""Two files and the text beside them."""
MAX_FORM_PARTS = 100
MINUTE = 60.0


@dataclass(frozen=True)
class Limits:
    """Requests a minute. Kolbo's own figures by default."""

    generations: int = 10
    """Started generations, per key."""
    polls: int = 300
    """Every other call that needs a key, per client address; also attempts to start."""


class TooManyError(ApiError):
    """429 with the body that Kolbo's docs print and `Retry-After` in whole seconds."""

    def __init__(self, seconds: float) -> None:
        super().__init__(
            429,
            "RATE_LIMITED",
            "Too many requests, please try again later",
            {"Retry-After": str(max(1, math.ceil(seconds)))},
        )


class Window:
    """At most `limit` events a name within any `seconds`; thread-safe, in memory."""

    def __init__(
        self, limit: int, seconds: float = MINUTE, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._limit = limit
        self._seconds = seconds
        self._clock = clock
        self._lock = threading.Lock()
        self._events: dict[str, deque[float]] = {}
        self._sweep_at = clock() + seconds

    def take(self, name: str) -> float:
        """Count one event; the stamp is for `give_back`. Raises TooManyError at the limit."""
        with self._lock:
            now = self._clock()
            self._sweep(now)
            events = self._events.setdefault(name, deque())
            while events and events[0] <= now - self._seconds:
                events.popleft()
            if len(events) >= self._limit:
                raise TooManyError(events[0] + self._seconds - now)
            events.append(now)
            return now

    def give_back(self, name: str, stamp: float) -> None:
        """Forget an event that came to nothing."""
        with self._lock:
            events = self._events.get(name)
            if events and stamp in events:
                events.remove(stamp)

    def _sweep(self, now: float) -> None:
        """Names that went quiet are dropped, so that strangers cannot fill the memory."""
        if now < self._sweep_at:
            return
        self._sweep_at = now + self._seconds
        for name in [n for n, e in self._events.items() if not e or e[-1] <= now - self._seconds]:
            del self._events[name]


def new_key() -> SecretStr:
    """A random key of the shape that Kolbo's have."""
    return SecretStr("kolbo_live_" + secrets.token_hex(20))


def split_keys(text: SecretStr) -> list[SecretStr]:
    """The keys in a comma separated list."""
    parts = (part.strip() for part in text.get_secret_value().split(","))
    return [SecretStr(part) for part in parts if part]


def check_key(given: str | None, expected: Sequence[SecretStr]) -> str:
    """A name for the key that was given, which is not the key. Raises ApiError 401 unless it is one
    of those expected; takes as long for any wrong one."""
    sent = (given or "").encode("utf-8", "replace")
    found = [hmac.compare_digest(sent, key.get_secret_value().encode()) for key in expected]
    if given is None or True not in found:
        raise ApiError(
            401,
            "INVALID_API_KEY",
            "The API key is missing or wrong: send this service's key in the X-API-Key header.",
        )
    return f"key {found.index(True)}"


def too_large(what: str, limit: int) -> ApiError:
    """413 for something of more than `limit` bytes."""
    return ApiError(
        413,
        "FILE_TOO_LARGE",
        f"The {what} is over {limit // (1024 * 1024)} MB; make it smaller.",
    )
