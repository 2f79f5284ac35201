"""A service that nobody uses: its queue stops, and all that callers ask for works as before."""

import os
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from kolbo_demo.service import retention, supervisor
from kolbo_demo.service.app import serving
from kolbo_demo.settings import Settings
from tests.service.conftest import Caller

SECOND = 1 / 3600
"""In hours."""


@pytest.fixture
def resting(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Caller]:
    """A service that rests whenever there is no generation."""
    monkeypatch.setattr(supervisor, "REST_SECONDS", 0.0)
    monkeypatch.setattr(supervisor, "RESTING_LOOK_SECONDS", 0.2)
    monkeypatch.setattr(retention, "SWEEP_SECONDS", 0.2)
    with serving(Settings(data_dir=tmp_path, retention_hours=8 * SECOND)) as service:
        yield Caller(service.base_url, service.api_key.get_secret_value())


def polls() -> bool:
    """Whether dbos asks the database for work."""
    return any(thread.name.startswith("queue-worker-") for thread in threading.enumerate())


def wait(done: Callable[[], object], seconds: float = 60.0) -> None:
    deadline = time.monotonic() + seconds
    while not done():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_nothing_is_polled_until_a_generation_comes(resting, files, refused):
    first = resting.start(files=files())
    assert resting.finish(first)["state"] == "completed"
    wait(lambda: not polls())
    assert resting.status(first)["state"] == "completed"
    refused(resting.cancel(first), 409, "GENERATION_ENDED")
    refused(resting.cancel("lip_" + "0" * 20), 404, "GENERATION_NOT_FOUND")
    assert not polls()
    second = resting.start(files=files())
    wait(polls)
    assert resting.finish(second)["state"] == "completed"
    wait(lambda: not polls())
    assert resting.cancel(resting.start(files=files(30.0))).json()["state"] == "cancelled"


def test_old_generations_are_removed_at_rest(resting, files):
    generation = resting.start(files=files())
    assert resting.finish(generation)["state"] == "completed"
    wait(lambda: not polls())
    wait(lambda: resting.get(f"/v1/generate/{generation}/status").status_code == 404)


@pytest.mark.skipif(os.name != "posix", reason="open files cannot be deleted")
def test_a_database_deleted_at_rest_is_written_back(resting, files, tmp_path):
    known = resting.start(files=files())
    assert resting.finish(known)["state"] == "completed"
    wait(lambda: not polls())
    for file in tmp_path.glob("jobs.sqlite*"):
        file.unlink()
    # Starting dbos on a new, empty file would lose what the deleted one holds.
    assert resting.lipsync(files=files()).status_code == 503
    wait(lambda: resting.lipsync(files=files()).status_code == 200)
    assert resting.status(known)["state"] == "completed"
