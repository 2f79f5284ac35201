"""Ages that are robust against jumps of the wall clock.

Files have wall clock time stamps. A retention period measured by that clock deletes everything when
the clock jumps ahead, and retains files too long when it jumps back.
"""

import threading
import time
from collections.abc import Collection

_BOOTTIME = getattr(time, "CLOCK_BOOTTIME", None)


def monotonic() -> float:
    """Seconds of a clock that cannot be set, with an arbitrary zero. Includes time in suspend if
    the system has such a clock."""
    return time.monotonic() if _BOOTTIME is None else time.clock_gettime(_BOOTTIME)


_EPOCH = time.time() - monotonic()


def now() -> float:
    """Seconds since the epoch, ahead of the process's start by at most its running time.

    Setting the clock ahead ages no file; setting it back retains files longer.
    """
    return min(time.time(), _EPOCH + monotonic())


class AgeTracker:
    """Ages of named items with time stamps. Thread-safe.

    The first age of an item is relative to `now`. From then on it grows by the monotonic clock.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._births: dict[str, tuple[float, float]] = {}
        """Time stamp, and time of birth on the monotonic clock."""

    def age(self, name: str, stamp: float) -> float:
        """Age in seconds of an item with a `time.time` stamp. A new stamp restarts it."""
        with self._lock:
            previous, born = self._births.get(name, (None, 0.0))
            if previous != stamp:
                born = monotonic() - max(0.0, now() - stamp)
                self._births[name] = stamp, born
        return monotonic() - born

    def retain(self, names: Collection[str]) -> None:
        """Drop all other items."""
        with self._lock:
            self._births = {name: born for name, born in self._births.items() if name in names}
