"""Daily limit of seconds of sound that each visitor may use on the page owner's key."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from kolbo_demo.client import ApiError, InputError, UnreachableError
from kolbo_demo.media.sandbox import max_audio_duration
from kolbo_demo.ui.i18n.texts import say

DAY = 24 * 3600.0


@dataclass
class Allowance:
    """`limit` seconds of sound for each visitor within any 24 hours; in memory, thread-safe."""

    limit: float
    clock: Callable[[], float] = time.monotonic
    _spent: dict[str, list[tuple[float, float]]] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    @contextmanager
    def spend(self, visitor: str, voice: Path | str) -> Iterator[None]:
        """Count the voice of a generation that is started inside; what was surely not started does
        not count. Raises InputError over the limit and for a link, whose length nobody knows
        before it is paid for. Raises MediaError."""
        if isinstance(voice, str):
            raise InputError(say("shared.no_link"))
        entry = self._take(visitor, max_audio_duration(voice, self.limit))
        try:
            yield
        except (InputError, UnreachableError, ApiError):
            with self._lock:
                self._spent[visitor].remove(entry)
            raise

    def _take(self, visitor: str, seconds: float) -> tuple[float, float]:
        with self._lock:
            now = self.clock()
            for name, entries in list(self._spent.items()):
                entries[:] = [entry for entry in entries if entry[0] > now - DAY]
                if not entries:
                    del self._spent[name]
            left = self.limit - sum(spent for _, spent in self._spent.get(visitor, []))
            if seconds > left:
                raise InputError(
                    say(
                        "shared.used_up",
                        left=f"{max(0.0, left):.0f}",
                        limit=f"{self.limit:.0f}",
                        seconds=f"{seconds:.1f}",
                    )
                )
            self._spent.setdefault(visitor, []).append((now, seconds))
            return now, seconds
