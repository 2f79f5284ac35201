"""The retry policy of everything that talks to the API or downloads a result."""

import random
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from email.utils import parsedate_to_datetime


@dataclass(frozen=True)
class Retry:
    """Limits for requests that are safe to repeat. Starting a generation is not one of them."""

    attempts: int = 5
    """Attempts in all. A request with a deadline, such as a poll, is limited by that alone."""
    first_pause: float = 0.5
    max_pause: float = 8.0
    """Seconds before the second attempt, and at most. Each pause is twice the one before."""
    max_retry_after: float = 60.0
    """A longer `Retry-After`, in seconds, is cut to this."""

    def pause(self, attempt: int, retry_after: float | None = None) -> float:
        """Seconds to wait after an attempt; the first is 0.

        `retry_after` is the server's own request in seconds. Without one the pause is shortened at
        random by up to a quarter, so that many clients do not return at once.
        """
        if retry_after is not None:
            return min(max(retry_after, self.first_pause), self.max_retry_after)
        doubled = min(self.max_pause, self.first_pause * 2 ** min(attempt, 8))
        return max(self.first_pause, doubled * random.uniform(0.75, 1))  # noqa: S311 - not a secret


class Backoff:
    """Counts the failed attempts at one operation and says how long to wait before the next."""

    def __init__(
        self, retry: Retry, deadline: float | None = None, *, limit_attempts: bool = True
    ) -> None:
        """`deadline` is a `time.monotonic()` time."""
        self._retry = retry
        self._deadline = deadline
        self._limit_attempts = limit_attempts
        self._failures = 0

    def next_pause(
        self, retry_after: float | None = None, *, progress: bool = False
    ) -> float | None:
        """Record a failed attempt; seconds to wait before the next one, None to give up.

        `progress`: the attempt brought something new, such as more bytes of a file, so that
        counting starts again. The last attempt before a deadline is made at the deadline.
        """
        self._failures = 0 if progress else self._failures + 1
        if self._limit_attempts and self._failures >= self._retry.attempts:
            return None
        pause = self._retry.pause(max(self._failures - 1, 0), retry_after)
        if self._deadline is None:
            return pause
        remaining = self._deadline - time.monotonic()
        return min(pause, remaining) if remaining > 0 else None


def parse_retry_after(headers: Mapping[str, str]) -> float | None:
    """A `Retry-After` header in seconds, given in seconds or as an HTTP date; None if absent or
    malformed.

    A date counts from the server's own `Date`, else from this machine's clock, which may be wrong.
    """
    text = headers.get("Retry-After", "").strip()
    try:
        seconds = float(text) if text[:1].isdigit() else _timestamp(text) - _server_time(headers)
    except (ValueError, TypeError, OverflowError):
        return None
    return min(max(seconds, 0.0), 86_400.0)


def _server_time(headers: Mapping[str, str]) -> float:
    with suppress(ValueError, TypeError, OverflowError):
        return _timestamp(headers.get("Date", ""))
    return time.time()


def _timestamp(date: str) -> float:
    return parsedate_to_datetime(date).timestamp()
