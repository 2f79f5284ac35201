"""Progress of generations, cached for concurrent polls."""

import asyncio
import threading

from kolbo_demo.contract import COMPLETED, PROCESSING
from kolbo_demo.options import Options
from kolbo_demo.service import status_cache
from kolbo_demo.service.jobs import Job
from kolbo_demo.service.progress import Progress

ID = "lip_" + "0" * 20


def _progress(state: str) -> Progress:
    return Progress(ID, state, 0, Job(Options()))


def _state(progress: Progress | None) -> str | None:
    return progress and progress.state


def test_a_quick_query_returns_the_new_state(monkeypatch):
    monkeypatch.setattr(status_cache, "FRESH_SECONDS", 0.0)
    monkeypatch.setattr(status_cache, "QUERY_TIMEOUT_SECONDS", 60.0)
    states = iter([PROCESSING, COMPLETED])

    async def states_returned() -> list[str | None]:
        cache = status_cache.StatusCache(
            lambda names: {name: _progress(next(states)) for name in names}
        )
        return [_state(await cache.get(ID)) for _ in range(2)]

    assert asyncio.run(states_returned()) == [PROCESSING, COMPLETED]


def test_during_a_query_the_cached_state_is_returned(monkeypatch):
    monkeypatch.setattr(status_cache, "FRESH_SECONDS", 0.0)
    monkeypatch.setattr(status_cache, "MAX_AGE_SECONDS", 60.0)
    monkeypatch.setattr(status_cache, "QUERY_TIMEOUT_SECONDS", 60.0)
    states, released = iter([PROCESSING, COMPLETED]), threading.Event()
    released.set()

    def find(names):
        assert released.wait(60)
        return {name: _progress(next(states)) for name in names}

    async def states_returned() -> list[str | None]:
        cache = status_cache.StatusCache(find)
        first = await cache.get(ID)
        released.clear()
        waiting = asyncio.ensure_future(cache.get(ID))
        await asyncio.sleep(0)
        during = await cache.get(ID)
        released.set()
        return [_state(each) for each in (first, during, await waiting)]

    assert asyncio.run(states_returned()) == [PROCESSING, PROCESSING, COMPLETED]
