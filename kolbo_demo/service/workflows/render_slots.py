"""Render slots of one process, given to callers in rotation."""

import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import count


@dataclass(frozen=True, order=True)
class _Ticket:
    """Position among the generations of this process that wait for a slot."""

    turn: int
    arrival: int
    caller: str = field(compare=False)


class RenderSlots:
    """Render slots of this process: `ordinary` ones, and `spare` ones reserved for callers with no
    running render. The caller with the fewest running renders goes first."""

    def __init__(self, ordinary: int, spare: int) -> None:
        self._ordinary, self._spare = ordinary, spare
        self._changed = threading.Condition()
        self._waiting: list[_Ticket] = []
        self._rendering: Counter[str] = Counter()
        self._arrivals = count()

    @contextmanager
    def slot(
        self, caller: str, turn: int, poll_seconds: float, should_continue: Callable[[], bool]
    ) -> Iterator[None]:
        """Hold a slot. Polls `should_continue` while waiting, and enters the block without a slot
        once it returns False."""
        acquired = self._acquire(caller, turn, poll_seconds, should_continue)
        try:
            yield
        finally:
            if acquired:
                with self._changed:
                    self._rendering -= Counter([caller])
                    self._changed.notify_all()

    def _acquire(
        self, caller: str, turn: int, poll_seconds: float, should_continue: Callable[[], bool]
    ) -> bool:
        with self._changed:
            ticket = _Ticket(turn, next(self._arrivals), caller)
            self._waiting.append(ticket)
        try:
            while True:
                with self._changed:
                    if self._changed.wait_for(lambda: self._is_next(ticket), poll_seconds):
                        self._rendering[caller] += 1
                        return True
                if not should_continue():
                    return False
        finally:
            with self._changed:
                self._waiting.remove(ticket)
                self._changed.notify_all()

    def _is_next(self, ticket: _Ticket) -> bool:
        first = min(self._waiting, key=lambda other: (self._rendering[other.caller], other))
        slots = self._ordinary + (0 if self._rendering[ticket.caller] else self._spare)
        return ticket is first and self._rendering.total() < slots
