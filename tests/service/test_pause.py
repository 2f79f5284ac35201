"""An idle service stops dbos, and all requests work as before."""

import os
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from kolbo_demo.service import retention, supervisor
from kolbo_demo.service.app import serving
from kolbo_demo.settings import Settings
from tests.service.conftest import Caller
from tests.waiting import wait

SECOND = 1 / 3600
"""In hours."""


@pytest.fixture
def paused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Caller]:
    """A service that stops dbos whenever there is no generation."""
    monkeypatch.setattr(supervisor, "IDLE_TIMEOUT_SECONDS", 0.0)
    monkeypatch.setattr(supervisor, "IDLE_CHECK_INTERVAL_SECONDS", 0.2)
    monkeypatch.setattr(retention, "SWEEP_INTERVAL_SECONDS", 0.2)
    with serving(Settings(data_dir=tmp_path, retention_hours=8 * SECOND)) as service:
        yield Caller(service.base_url, service.api_key.get_secret_value())


def polls() -> bool:
    """Whether dbos polls the database."""
    return any(thread.name.startswith("queue-worker-") for thread in threading.enumerate())


def test_nothing_is_polled_until_a_generation_comes(paused, files, refused):
    first = paused.start(files=files())
    assert paused.finish(first)["state"] == "completed"
    wait(lambda: not polls())
    assert paused.status(first)["state"] == "completed"
    refused(paused.cancel(first), 409, "GENERATION_ENDED")
    refused(paused.cancel("lip_" + "0" * 20), 404, "GENERATION_NOT_FOUND")
    assert not polls()
    second = paused.start(files=files())
    wait(polls)
    assert paused.finish(second)["state"] == "completed"
    wait(lambda: not polls())
    third = paused.start(files=files(30.0))
    assert paused.cancel(third).json()["state"] == "cancelled"
    wait(lambda: not polls())
    assert paused.status(third)["state"] == "cancelled"


def test_old_generations_are_removed_while_paused(paused, files):
    generation = paused.start(files=files())
    assert paused.finish(generation)["state"] == "completed"
    wait(lambda: not polls())
    wait(lambda: paused.get(f"/v1/generate/{generation}/status").status_code == 404)


@pytest.mark.skipif(os.name != "posix", reason="open files cannot be deleted")
def test_a_database_deleted_while_paused_is_replaced_by_an_empty_one(
    paused, files, tmp_path, refused
):
    known = paused.start(files=files())
    assert paused.finish(known)["state"] == "completed"
    wait(lambda: not polls())
    for file in tmp_path.glob("jobs.sqlite*"):
        file.unlink()
    assert paused.lipsync(files=files()).status_code == 503
    wait(lambda: paused.lipsync(files=files()).status_code == 200)
    refused(paused.get(f"/v1/generate/{known}/status"), 404, "GENERATION_NOT_FOUND")
