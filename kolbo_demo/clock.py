"""Ages that survive jumps of the wall clock.

Files carry wall clock stamps. A retention period measured by that clock alone deletes everything
when the clock jumps ahead, and keeps files for too long when it jumps back.
"""

import threading
import time
from collections.abc import Collection

_BOOTTIME = getattr(time, "CLOCK_BOOTTIME", None)


def monotonic() -> float:
    """Seconds of a clock that cannot be set. Counts suspended time where the system allows it; its
    zero is arbitrary."""
    return time.monotonic() if _BOOTTIME is None else time.clock_gettime(_BOOTTIME)


_EPOCH = time.time() - monotonic()


def now() -> float:
    """Seconds since the epoch, never further ahead than this process has run since it began.

    A clock that is set ahead makes no file old, and one that is set back keeps files longer.
    """
    return min(time.time(), _EPOCH + monotonic())


class AgeTracker:
    """Ages of named, stamped items. Thread-safe.

    The age of an item at first sight is the one by `now`. From then on it grows steadily.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._births: dict[str, tuple[float, float]] = {}
        """Stamp, and birth on the steady clock."""

    def age(self, name: str, stamp: float) -> float:
        """Age in seconds of the item `name`, stamped by `time.time`. A new stamp restarts it."""
        with self._lock:
            known, born = self._births.get(name, (None, 0.0))
            if known != stamp:
                born = monotonic() - max(0.0, now() - stamp)
                self._births[name] = stamp, born
        return monotonic() - born

    def retain(self, names: Collection[str]) -> None:
        """Drop all other items."""
        with self._lock:
            self._births = {name: born for name, born in self._births.items() if name in names}
