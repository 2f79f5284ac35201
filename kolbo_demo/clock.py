"""How old things are, by clocks of which one may jump.

Files are stamped by the wall clock, and somebody sets that: a machine that starts with a wrong date
and then hears the right one would otherwise delete a day's work at once, or keep it for years.
"""

import threading
import time
from collections.abc import Collection

_STEADY = getattr(time, "CLOCK_BOOTTIME", None)


def steady() -> float:
    """Seconds by a clock that nobody can set. It goes on while the machine sleeps where the system
    has such a clock, and means nothing to another process."""
    return time.monotonic() if _STEADY is None else time.clock_gettime(_STEADY)


class Ages:
    """Ages of things that have a name and a stamp. Thread-safe.

    A thing is as old as the younger of two clocks says when it is first seen: the wall clock, and
    that as it would be without the jumps since this object was made. From then on it ages steadily.
    """

    def __init__(self) -> None:
        self._begun = time.time() - steady()
        self._lock = threading.Lock()
        self._born: dict[str, tuple[float, float]] = {}
        """Stamp, and birth by the steady clock."""

    def of(self, name: str, stamp: float) -> float:
        """Seconds since a thing was stamped, by `time.time`; a later stamp makes it young again."""
        now = steady()
        with self._lock:
            known, born = self._born.get(name, (None, 0.0))
            if known != stamp:
                wall, unset = time.time(), self._begun + now
                born = now - max(0.0, min(wall, unset) - stamp)
                self._born[name] = stamp, born
        return now - born

    def keep(self, names: Collection[str]) -> None:
        """Forget all others."""
        with self._lock:
            self._born = {name: born for name, born in self._born.items() if name in names}
