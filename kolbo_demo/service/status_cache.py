"""Cache of generations' progress, which answers concurrent polls with few queries.

A query takes a thread and some milliseconds of the interpreter lock, so a hundred concurrent
queries would each take long. Progress is written at most twice a second: a cached one is served
while it is fresh. Then a query begins, whose result is returned if it is quick; calls during a
query get the cached state, and the next query is for all of them.
"""

import asyncio
import time
from collections.abc import Callable, Collection

from kolbo_demo.service import thread_pool
from kolbo_demo.service.progress import Progress

FRESH_SECONDS = 0.19
"""Age up to which an entry is served without a query: less than the shortest polling interval."""
MAX_AGE_SECONDS = 0.75
"""Age up to which it is served while a query runs."""
QUERY_TIMEOUT_SECONDS = 0.02
"""For a query that begins, before the cached state is returned. Most take milliseconds."""
_MAX_ENTRIES = 10_000
_MAX_BATCH = 100
"""Generations in one query."""

ProgressById = dict[str, Progress]


class StatusCache:
    """Caches `find`, which blocks and leaves out unknown ids. For one event loop."""

    def __init__(self, find: Callable[[Collection[str]], ProgressById]) -> None:
        self._find = find
        self._entries: dict[str, tuple[float, Progress | None]] = {}
        """Time and result of the last query."""
        self._requested: dict[str, asyncio.Future[Progress | None]] = {}
        self._cacheable: set[str] = set()
        """Ids in the running query that were not invalidated since it began."""
        self._queries: asyncio.Task[None] | None = None

    async def get(self, generation: str) -> Progress | None:
        """Progress of a generation, at most `MAX_AGE_SECONDS` old; None for an unknown id.

        Raises what `find` raises.
        """
        at, progress = self._entries.get(generation, (float("-inf"), None))
        age = time.monotonic() - at
        if age < FRESH_SECONDS:
            return progress
        future = self._requested.get(generation)
        if future is None:
            future = self._requested[generation] = asyncio.get_running_loop().create_future()
            future.add_done_callback(asyncio.Future.exception)  # perhaps never awaited
        begins = self._queries is None
        if self._queries is None:
            self._queries = asyncio.ensure_future(self._run_queries())
        if age < MAX_AGE_SECONDS:
            if begins:
                await asyncio.wait({future}, timeout=QUERY_TIMEOUT_SECONDS)
            if not future.done():
                return progress
        return await asyncio.shield(future)  # others wait for it, too

    def invalidate(self, generation: str) -> None:
        """Drop an entry that has changed, and ignore the result of a running query for it."""
        self._entries.pop(generation, None)
        self._cacheable.discard(generation)

    async def _run_queries(self) -> None:
        """Query until nothing is requested any more."""
        try:
            while ids := list(self._requested)[:_MAX_BATCH]:
                begun = time.monotonic()
                futures = {id_: self._requested.pop(id_) for id_ in ids}
                self._cacheable = set(ids)
                try:
                    found = await thread_pool.run(thread_pool.DATABASE, self._find, ids)
                except Exception as error:  # noqa: BLE001 - raised where it is awaited
                    for future in futures.values():
                        future.set_exception(error)
                    continue
                if len(self._entries) > _MAX_ENTRIES:
                    self._entries.clear()
                self._entries.update((id_, (begun, found.get(id_))) for id_ in self._cacheable)
                for id_, future in futures.items():
                    future.set_result(found.get(id_))
        finally:
            self._queries = None
