"""Limits on the rate and the number of concurrent requests of a caller, in memory."""

import math
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass

from kolbo_demo.service.errors import ApiError

WINDOW_SECONDS = 60.0
UPLOAD_RETRY_SECONDS = 5
UNFINISHED_RETRY_SECONDS = 30


@dataclass(frozen=True)
class Limits:
    """Limits of the API. The rates are Kolbo's own."""

    generations: int = 10
    """Started generations a minute, per key."""
    polls: int = 300
    """Every other authenticated request a minute, per client address, or per visitor for requests
    of the page; also attempts to start a generation."""
    unfinished: int = 20
    """Queued and running generations, per key or visitor."""
    uploads: int = 8
    """Concurrent start requests, per key or visitor."""


class TooManyRequestsError(ApiError):
    """429 with the body that Kolbo's docs print and `Retry-After` in whole seconds."""

    def __init__(
        self, seconds: float, message: str = "Too many requests, please try again later"
    ) -> None:
        super().__init__(
            429,
            "RATE_LIMITED",
            message,
            {"Retry-After": str(max(1, math.ceil(seconds)))},
        )


class SlidingWindow:
    """At most `limit` requests per name within any `seconds`. Thread-safe."""

    def __init__(
        self,
        limit: int,
        seconds: float = WINDOW_SECONDS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._limit = limit
        self._seconds = seconds
        self._clock = clock
        self._lock = threading.Lock()
        self._requests: dict[str, deque[float]] = {}
        self._evict_at = clock() + seconds

    def acquire(self, name: str) -> float:
        """Count a request and return its stamp. Raises TooManyRequestsError at the limit."""
        with self._lock:
            now = self._clock()
            self._evict(now)
            requests = self._requests.setdefault(name, deque())
            while requests and requests[0] <= now - self._seconds:
                requests.popleft()
            if len(requests) >= self._limit:
                raise TooManyRequestsError(requests[0] + self._seconds - now)
            requests.append(now)
            return now

    def release(self, name: str, stamp: float) -> None:
        """Uncount a request."""
        with self._lock:
            requests = self._requests.get(name)
            if requests and stamp in requests:
                requests.remove(stamp)

    def _evict(self, now: float) -> None:
        """Drop idle names, so that unauthenticated callers cannot exhaust the memory."""
        if now < self._evict_at:
            return
        self._evict_at = now + self._seconds
        expired = now - self._seconds
        for name in [n for n, r in self._requests.items() if not r or r[-1] <= expired]:
            del self._requests[name]


class ConcurrencyLimit:
    """At most `limit` concurrent requests per name. For one event loop."""

    def __init__(
        self, limit: int, message: str, retry_seconds: float = UPLOAD_RETRY_SECONDS
    ) -> None:
        """`message` and `retry_seconds` are those of the refusal."""
        self._limit, self._message, self._retry_seconds = limit, message, retry_seconds
        self._count: Counter[str] = Counter()

    def acquire(self, name: str) -> AbstractContextManager[int]:
        """Count a request at once, until the end of the block that must follow. The block gets the
        number of concurrent requests. Raises TooManyRequestsError."""
        if self._count[name] >= self._limit:
            raise TooManyRequestsError(self._retry_seconds, self._message)
        self._count[name] += 1
        return self._released_after(name)

    @contextmanager
    def _released_after(self, name: str) -> Iterator[int]:
        try:
            yield self._count[name]
        finally:
            self._count[name] -= 1
            if not self._count[name]:
                del self._count[name]
