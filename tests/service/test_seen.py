"""States of generations, looked up once for many callers."""

import asyncio
import threading

from kolbo_demo.contract import COMPLETED, PROCESSING
from kolbo_demo.service import status_cache
from kolbo_demo.service.job_queue import Progress

ID = "lip_" + "0" * 20


def _progress(state: str) -> Progress:
    return Progress(ID, state, 0, 0.0)


def _state(progress: Progress | None) -> str | None:
    return progress and progress.state


def test_the_end_is_told_to_the_first_who_asks_after_it(monkeypatch):
    monkeypatch.setattr(status_cache, "FRESH_SECONDS", 0.0)
    monkeypatch.setattr(status_cache, "PATIENCE_SECONDS", 60.0)
    states = iter([PROCESSING, COMPLETED])

    async def told() -> list[str | None]:
        looked = status_cache.Seen(lambda names: {name: _progress(next(states)) for name in names})
        return [_state(await looked.get(ID)) for _ in range(2)]

    assert asyncio.run(told()) == [PROCESSING, COMPLETED]


def test_during_a_look_the_last_state_is_told(monkeypatch):
    monkeypatch.setattr(status_cache, "FRESH_SECONDS", 0.0)
    monkeypatch.setattr(status_cache, "GOOD_SECONDS", 60.0)
    monkeypatch.setattr(status_cache, "PATIENCE_SECONDS", 60.0)
    states, go_on = iter([PROCESSING, COMPLETED]), threading.Event()
    go_on.set()

    def find(names):
        assert go_on.wait(60)
        return {name: _progress(next(states)) for name in names}

    async def told() -> list[str | None]:
        looked = status_cache.Seen(find)
        first = await looked.get(ID)
        go_on.clear()
        patient = asyncio.ensure_future(looked.get(ID))
        await asyncio.sleep(0)
        during = await looked.get(ID)
        go_on.set()
        return [_state(each) for each in (first, during, await patient)]

    assert asyncio.run(told()) == [PROCESSING, PROCESSING, COMPLETED]
