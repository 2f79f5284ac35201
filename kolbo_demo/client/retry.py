"""The one retry policy: what is worth asking again, how soon, how often."""

import random
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from email.utils import parsedate_to_datetime


@dataclass(frozen=True)
class Retry:
    """For requests that are safe to repeat. Starting a generation is not."""

    attempts: int = 5
    """Tries in all where no deadline rules."""
    first: float = 0.5
    longest: float = 8.0
    """Seconds of the first and of the longest pause; each doubles the one before."""
    longest_asked: float = 60.0
    """Seconds a server's `Retry-After` is followed at most."""

    @staticmethod
    def worth(status: int) -> bool:
        """Whether this HTTP status may pass by itself."""
        return status in {408, 425, 429} or status >= 500

    def pause(self, attempt: int, asked: float | None = None) -> float:
        """Seconds to wait after the given attempt (0 is the first).

        `asked` is the server's `Retry-After` in seconds; without one the pauses double, each
        shortened at random by up to a quarter so that many clients do not come back as one.
        """
        if asked is not None:
            return min(max(asked, self.first), self.longest_asked)
        doubled = min(self.longest, self.first * 2 ** min(attempt, 8))
        return max(self.first, doubled * random.uniform(0.75, 1))  # noqa: S311 - not a secret


def retry_after(headers: Mapping[str, str]) -> float | None:
    """What a `Retry-After` header asks for in seconds, whether it says seconds or an HTTP date;
    None where it says nothing.

    A date counts from the server's own `Date`, else from this machine's clock, which may be wrong.
    """
    text = headers.get("Retry-After", "").strip()
    try:
        seconds = float(text) if text[:1].isdigit() else _moment(text) - _now(headers)
    except (ValueError, TypeError, OverflowError):
        return None
    return min(max(seconds, 0.0), 86_400.0)


def _now(headers: Mapping[str, str]) -> float:
    with suppress(ValueError, TypeError, OverflowError):
        return _moment(headers.get("Date", ""))
    return time.time()


def _moment(date: str) -> float:
    return parsedate_to_datetime(date).timestamp()
