"""Workers and services that are told to stop end in time, whatever they wait for, and leave no
process behind."""

import contextlib
import os
import signal
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from benchmarks.cluster import Cluster, Node, Postgres
from benchmarks.process_stats import process_tree
from tests.machines import Cable, postgres, s3_endpoint, site
from tests.service.conftest import Caller, alive
from tests.waiting import wait

__all__ = ["postgres", "s3_endpoint", "site"]

END_SECONDS = 10.0
LONG = 64.0
"""Seconds of speech: the workers are at it when they are told to stop."""


@pytest.fixture
def cable(postgres: Postgres) -> Iterator[Cable]:
    made = Cable(postgres.port)
    yield made
    made.close()


@pytest.fixture
def mute() -> Iterator[int]:
    """A port that takes connections and never says anything."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield listener.getsockname()[1]


def behind(site: Cluster, postgres: Postgres, port: int) -> dict[str, str]:
    """The environment of a machine that reaches the database through another port."""
    return {"KOLBO_DATABASE_URL": site.url.replace(f":{postgres.port}/", f":{port}/")}


def ends(machine: Node) -> None:
    """Told to stop, it does within END_SECONDS, as if nothing was wrong, with all that it began."""
    started = process_tree(machine.pid)
    machine.process.send_signal(signal.SIGTERM)
    assert machine.process.wait(END_SECONDS) == 0
    assert "Traceback" not in machine.output()
    wait(lambda: not any(map(alive, started)), 2)


def rendering(
    site: Cluster, files: Callable[..., dict[str, tuple[str, bytes]]], count: int
) -> None:
    """So many workers are at a generation."""
    _, base = site.start_page()
    Caller(base, "test-key").start(files=files(LONG))

    def executors() -> bool:
        rows = site.query(
            "SELECT DISTINCT executor_id FROM dbos.workflow_status WHERE status = 'PENDING'"
        )
        return len(rows) == count

    wait(executors)


@pytest.mark.parametrize(
    ("blow", "busy", "processes"),
    [
        ("cut off", False, 2),
        ("frozen", True, 2),
        ("killed", True, 2),
        ("frozen", False, 1),
        ("cut off", True, 1),
    ],
)
def test_when_the_database_is_gone(
    site: Cluster, postgres: Postgres, cable: Cable, files, blow: str, busy: bool, processes: int
):
    worker = site.start(
        "worker", "--processes", str(processes), **behind(site, postgres, cable.port)
    )
    worker.wait_for_output(lambda output: output.count("Working") == processes)
    if busy:
        rendering(site, files, processes)
    with contextlib.ExitStack() as stack:
        if blow == "cut off":
            cable.cut()
        elif blow == "frozen":
            stack.enter_context(postgres.frozen())
        else:
            postgres.stop()
            stack.callback(postgres.start)
        ends(worker)


def test_when_the_database_never_answers(site: Cluster, postgres: Postgres, mute: int):
    worker = site.start("worker", "--processes", "2", **behind(site, postgres, mute))

    def waits() -> bool:
        """It has connected."""
        tcp = Path("/proc/net/tcp").read_text()
        return f"0100007F:{mute:04X} 0100007F" in tcp

    wait(waits)
    ends(worker)


def test_when_the_database_of_a_service_is_frozen(site: Cluster, postgres: Postgres, files):
    page, base = site.start_page(KOLBO_RENDER="1")
    Caller(base, "test-key").start(files=files(LONG))
    with postgres.frozen():
        ends(page)


def test_when_a_member_is_frozen(site: Cluster):
    worker = site.start_worker(2)
    members = [int(word.rstrip(".")) for word in worker.output().split() if word[0].isdigit()]
    os.kill(members[0], signal.SIGSTOP)
    ends(worker)


def test_when_the_store_never_answers(
    site: Cluster, s3_endpoint: str, files, monkeypatch: pytest.MonkeyPatch
):
    import fsspec

    fsspec.filesystem("s3", endpoint_url=s3_endpoint).mkdir("kolbo-mute")
    site.storage = "s3://kolbo-mute/lipsync"
    store = Cable(int(s3_endpoint.rpartition(":")[2]))
    worker = site.start(
        "worker", "--processes", "2", AWS_ENDPOINT_URL=f"http://127.0.0.1:{store.port}"
    )
    worker.wait_for_output(lambda output: output.count("Working") == 2)
    store.cut()
    rendering(site, files, 1)  # the one that fetches the files
    ends(worker)
    store.close()
