"""A semaphore that alternates between callers, however many requests one of them queues."""

import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

CURRENT_CALLER: ContextVar[str] = ContextVar("caller", default="")
"""Caller that the current thread works for."""
POLL_SECONDS = 0.2
"""How often a waiting thread calls `should_continue`."""


class FairSemaphore:
    """A semaphore of `permits` whose callers are served round-robin. Thread-safe."""

    def __init__(self, permits: int = 1) -> None:
        self._free = permits
        self._changed = threading.Condition()
        self._waiting: dict[str, deque[object]] = {}
        """Tickets by caller, in round-robin order."""

    @contextmanager
    def acquire(self, should_continue: Callable[[], bool] = lambda: True) -> Iterator[bool]:
        """Acquire a permit for `CURRENT_CALLER` and release it after the block. Yields False,
        without a permit, once `should_continue` returns False."""
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
                while True:
                    acquired = self._free > 0 and self._next_ticket() is ticket
                    if acquired or not should_continue():
                        break
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
