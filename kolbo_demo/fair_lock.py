"""A lock that callers hold in rotation, however many turns one of them waits for."""

import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

CALLER: ContextVar[str] = ContextVar("caller", default="")
"""For whom this thread works."""
WAIT_SECONDS = 0.2
"""Between two looks at whether a turn is still wanted."""


class Rotation:
    """As a semaphore with so many places, but each caller waits for one turn of every other at
    most. For any thread."""

    def __init__(self, places: int = 1) -> None:
        self._free = places
        self._changed = threading.Condition()
        self._waiting: dict[str, deque[object]] = {}
        """Tickets by caller, the caller whose turn is next first."""

    @contextmanager
    def turn(self, wanted: Callable[[], bool] = lambda: True) -> Iterator[bool]:
        """Wait for a turn of `CALLER` and hold it. Gives False, without one, once `wanted` does."""
        held = self._taken(CALLER.get(), wanted)
        try:
            yield held
        finally:
            if held:
                with self._changed:
                    self._free += 1
                    self._changed.notify_all()

    def _taken(self, caller: str, wanted: Callable[[], bool]) -> bool:
        ticket = object()
        with self._changed:
            self._waiting.setdefault(caller, deque()).append(ticket)
            try:
                while not (held := self._free > 0 and self._next() is ticket) and wanted():
                    self._changed.wait(WAIT_SECONDS)
            finally:
                others = self._waiting.pop(caller)
                others.remove(ticket)
                if others:  # behind all other callers
                    self._waiting[caller] = others
                self._changed.notify_all()
            self._free -= held
            return held

    def _next(self) -> object:
        return next(iter(self._waiting.values()))[0]
