"""A long voice, listened to by a worker with nothing to do while another looks at the source."""

import os
import signal
from functools import partial
from pathlib import Path

import pytest

from benchmarks.site import Machine, Site
from tests.machines import files_of, pid_of, postgres, segments, site, wait
from tests.service.conftest import Caller, alive

__all__ = ["postgres", "site"]

LONG = 128.0
"""Seconds of speech: it is listened to for some seconds, longer than another needs to take that."""


@pytest.fixture
def workers(site: Site) -> dict[int, Machine]:
    return {worker.pid: worker for worker in site.workers(2)}


@pytest.fixture
def api(site: Site) -> Caller:
    return Caller(site.page()[1], "test-key")


def of(site: Site, name: str) -> tuple[str, int]:
    """State of a workflow, and the process that has it; neither, where there is no such one."""
    rows = site.ask(
        f"SELECT status, executor_id FROM dbos.workflow_status WHERE workflow_uuid = '{name}'"
    )
    [(state, executor)] = rows or [("", "-0-")]
    return state, pid_of(executor)


def listener_to(site: Site, generation: str) -> int:
    """The process that listens to its voice, once one does."""
    wait(lambda: of(site, f"{generation}-voice")[0] == "PENDING")
    return of(site, f"{generation}-voice")[1]


def test_another_worker_listens(site: Site, workers, api: Caller, files, renders):
    generation = api.start(files=files(LONG))
    wait(lambda: segments(site, generation))
    (state, listener), (_, planner) = of(site, f"{generation}-voice"), of(site, generation)
    assert state == "SUCCESS"
    assert {listener, planner} == set(workers)
    api.cancel(generation)
    # It is cancelled with its generation.
    generation = api.start(files=files(LONG))
    listener_to(site, generation)
    at_work = [child for worker in workers for child in wait(partial(renders, worker))]
    assert api.cancel(generation).json()["state"] == "cancelled"
    wait(lambda: not any(map(alive, at_work)), 1.5)
    wait(lambda: files_of(Path(site.storage)) == [], 5)
    site.page(KOLBO_RETENTION_HOURS="0.0001")
    wait(lambda: site.ask("SELECT workflow_uuid FROM dbos.workflow_status") == [])


def test_a_listener_that_dies_is_not_waited_for(site: Site, workers, api: Caller, files, renders):
    generation = api.start(files=files(LONG))
    [child] = wait(partial(renders, listener_to(site, generation)))
    os.kill(child, signal.SIGSEGV)
    wait(lambda: segments(site, generation))
    api.cancel(generation)
    generation = api.start(files=files(LONG))
    workers[listener_to(site, generation)].kill()
    wait(lambda: segments(site, generation))
    assert of(site, f"{generation}-voice")[0] == "CANCELLED"
    assert api.status(generation)["state"] == "processing"
