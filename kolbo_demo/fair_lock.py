"""A lock that callers hold in rotation, however many turns one of them waits for."""

import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

CURRENT_CALLER: ContextVar[str] = ContextVar("caller", default="")
"""For whom this thread works."""
POLL_SECONDS = 0.2
"""Between two looks at whether a turn is still wanted."""


class FairSemaphore:
    """As a semaphore with so many places, but each caller waits for one turn of every other at
    most. For any thread."""

    def __init__(self, permits: int = 1) -> None:
        self._free = permits
        self._changed = threading.Condition()
        self._waiting: dict[str, deque[object]] = {}
        """Tickets by caller, the caller whose turn is next first."""

    @contextmanager
    def acquire(self, should_continue: Callable[[], bool] = lambda: True) -> Iterator[bool]:
        """Wait for a turn of `CALLER` and hold it. Gives False, without one, once `wanted` does."""
        acquired = self._acquire(CURRENT_CALLER.get(), should_continue)
        try:
            yield acquired
        finally:
            if acquired:
                with self._changed:
                    self._free += 1
                    self._changed.notify_all()

    def _acquire(self, caller: str, should_continue: Callable[[], bool]) -> bool:
        ticket = object()
        with self._changed:
            self._waiting.setdefault(caller, deque()).append(ticket)
            try:
                while (
                    not (acquired := self._free > 0 and self._next_ticket() is ticket)
                    and should_continue()
                ):
                    self._changed.wait(POLL_SECONDS)
            finally:
                others = self._waiting.pop(caller)
                others.remove(ticket)
                if others:  # behind all other callers
                    self._waiting[caller] = others
                self._changed.notify_all()
            self._free -= acquired
            return acquired

    def _next_ticket(self) -> object:
        return next(iter(self._waiting.values()))[0]
