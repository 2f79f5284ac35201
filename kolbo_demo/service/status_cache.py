"""How generations stand, looked up once for the many who ask at the same time.

A look takes a thread, and some milliseconds of the interpreter that a busy event loop grants it in
slices: a hundred who wait for each look wait long. Progress is written twice a second at most, so
what was seen a moment ago is as good as new. After that a look begins, and its result is returned
if it comes at once; callers during a look get the last state, and the next look is for all of them.
"""

import asyncio
import time
from collections.abc import Callable, Collection

from kolbo_demo.service import thread_pool
from kolbo_demo.service.job_queue import Progress

FRESH_SECONDS = 0.19
"""Less than the shortest pause between two polls of one client."""
GOOD_SECONDS = 0.75
"""What is older is not told any more."""
PATIENCE_SECONDS = 0.02
"""For a look that begins at once, before what is known is told: mostly it takes milliseconds."""
_MOST = 10_000
"""Generations that are remembered."""
_AT_ONCE = 100
"""Generations in one look."""

Found = dict[str, Progress]


class Seen:
    """Looks generations up by `find`, which blocks and leaves out what it does not know. For one
    event loop."""

    def __init__(self, find: Callable[[Collection[str]], Found]) -> None:
        self._find = find
        self._kept: dict[str, tuple[float, Progress | None]] = {}
        self._wanted: dict[str, asyncio.Future[Progress | None]] = {}
        self._asked: set[str] = set()
        """What is being looked up, and has not changed since the look began."""
        self._looking: asyncio.Task[None] | None = None

    async def get(self, generation: str) -> Progress | None:
        """How it stands, or stood a moment ago; None where there is none of that id."""
        at, progress = self._kept.get(generation, (float("-inf"), None))
        age = time.monotonic() - at
        if age < FRESH_SECONDS:
            return progress
        coming = self._wanted.get(generation)
        if coming is None:
            coming = self._wanted[generation] = asyncio.get_running_loop().create_future()
            coming.add_done_callback(asyncio.Future.exception)  # it may be that nobody waits
        begins = self._looking is None
        if self._looking is None:
            self._looking = asyncio.ensure_future(self._look())
        if age < GOOD_SECONDS:
            if begins:
                await asyncio.wait({coming}, timeout=PATIENCE_SECONDS)
            if not coming.done():
                return progress
        return await asyncio.shield(coming)  # one who hangs up does not end it for the others

    def forget(self, generation: str) -> None:
        """It has changed: what was seen, and what is being looked up, is old."""
        self._kept.pop(generation, None)
        self._asked.discard(generation)

    async def _look(self) -> None:
        """Look until nothing is wanted any more."""
        try:
            while names := list(self._wanted)[:_AT_ONCE]:
                begun = time.monotonic()
                futures = {name: self._wanted.pop(name) for name in names}
                self._asked = set(names)
                try:
                    found = await thread_pool.run(thread_pool.DATABASE, self._find, names)
                except Exception as error:  # noqa: BLE001 - it is theirs who asked
                    for future in futures.values():
                        future.set_exception(error)
                    continue
                if len(self._kept) > _MOST:
                    self._kept.clear()
                self._kept.update((name, (begun, found.get(name))) for name in self._asked)
                for name, future in futures.items():
                    future.set_result(found.get(name))
        finally:
            self._looking = None
