"""The time by which files grow old."""

import time

_WALL, _RUNNING = time.time(), time.monotonic()


def now() -> float:
    """Seconds since the epoch, never further ahead than this process has run since it began.

    A clock that is set ahead makes no file old, and one that is set back keeps files longer.
    """
    return min(time.time(), _WALL + time.monotonic() - _RUNNING)
