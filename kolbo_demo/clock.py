"""Ages that survive jumps of the wall clock.

Files carry wall clock stamps. A retention period measured by that clock alone deletes everything
when the clock jumps ahead, and keeps files for too long when it jumps back.
"""

import threading
import time
from collections.abc import Collection

_STEADY = getattr(time, "CLOCK_BOOTTIME", None)


def steady() -> float:
    """Seconds of a clock that cannot be set. Counts suspended time where the system allows it; its
    zero is arbitrary."""
    return time.monotonic() if _STEADY is None else time.clock_gettime(_STEADY)


class Ages:
    """Ages of named, stamped items. Thread-safe.

    The age of an item at first sight is the smaller of two: by the wall clock, and by the wall
    clock without its jumps since this object was created. From then on it grows steadily.
    """

    def __init__(self) -> None:
        self._begun = time.time() - steady()
        self._lock = threading.Lock()
        self._born: dict[str, tuple[float, float]] = {}
        """Stamp, and birth on the steady clock."""

    def of(self, name: str, stamp: float) -> float:
        """Age in seconds of the item `name`, stamped by `time.time`. A new stamp restarts it."""
        now = steady()
        with self._lock:
            known, born = self._born.get(name, (None, 0.0))
            if known != stamp:
                wall, unset = time.time(), self._begun + now
                born = now - max(0.0, min(wall, unset) - stamp)
                self._born[name] = stamp, born
        return now - born

    def keep(self, names: Collection[str]) -> None:
        """Drop all other items."""
        with self._lock:
            self._born = {name: born for name, born in self._born.items() if name in names}
