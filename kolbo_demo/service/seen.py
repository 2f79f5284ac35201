"""How generations stand, looked up once for the many who ask at the same time.

Progress is written twice a second at most, so what was seen a quarter of a second ago is as good as
new; and of those who ask meanwhile one looks for all.
"""

import asyncio
import time
from collections.abc import Callable

from starlette.concurrency import run_in_threadpool

from kolbo_demo.service.jobs import Progress

FRESH_SECONDS = 0.25
_MOST = 10_000
"""Generations that are remembered."""


class Seen:
    """Looks generations up by `find`, which blocks. For one event loop."""

    def __init__(self, find: Callable[[str], Progress | None]) -> None:
        self._find = find
        self._kept: dict[str, tuple[float, Progress | None]] = {}
        self._looking: dict[str, asyncio.Task[Progress | None]] = {}

    async def get(self, generation: str) -> Progress | None:
        """How it stands, or stood a moment ago; None where there is none of that id."""
        until, progress = self._kept.get(generation, (0.0, None))
        if until > time.monotonic():
            return progress
        task = self._looking.get(generation)
        if task is None:
            task = asyncio.ensure_future(self._look(generation))
            self._looking[generation] = task
        return await asyncio.shield(task)  # one who hangs up does not end it for the others

    def forget(self, generation: str) -> None:
        """It has changed: what was seen, and what is being looked up, is old."""
        self._kept.pop(generation, None)
        self._looking.pop(generation, None)

    async def _look(self, generation: str) -> Progress | None:
        task = asyncio.current_task()
        try:
            progress = await run_in_threadpool(self._find, generation)
            if self._looking.get(generation) is task:
                if len(self._kept) >= _MOST:
                    self._kept.clear()
                self._kept[generation] = time.monotonic() + FRESH_SECONDS, progress
            return progress
        finally:
            if self._looking.get(generation) is task:
                del self._looking[generation]
