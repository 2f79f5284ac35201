"""What several machines share, on loopback: PostgreSQL and a store of objects that speaks S3; and
those machines, as processes."""

import contextlib
import os
import select
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from unittest import mock

import pytest
from moto.server import ThreadedMotoServer

from benchmarks.cluster import Cluster, Postgres
from tests.waiting import wait

CUT_SECONDS = 20.0


@pytest.fixture(scope="session")
def s3_endpoint() -> Iterator[str]:
    """The address of an S3 service; this process and those that it starts find and may use it."""
    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    endpoint = f"http://{host}:{port}"
    account = {
        "AWS_ENDPOINT_URL": endpoint,
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_DEFAULT_REGION": "us-east-1",
    }
    with mock.patch.dict(os.environ, account):
        yield endpoint
    server.stop()


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    """A server that all tests of this process share."""
    server = Postgres()
    yield server
    server.remove()


@pytest.fixture
def site(postgres: Postgres, tmp_path: Path) -> Iterator[Cluster]:
    """Machines that share a folder."""
    made = Cluster(postgres, str(tmp_path / "shared"), tmp_path)
    yield made
    made.close()


class Cable:
    """A way to a port of loopback that can be cut: then bytes are lost and nobody is told."""

    def __init__(self, port: int) -> None:
        self._to = port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self._whole = threading.Event()
        self._whole.set()
        self._ended = threading.Event()
        self._fatal: bytes | None = None
        self._ends: list[socket.socket] = []
        threading.Thread(target=self._accept, daemon=True).start()

    def cut(self) -> None:
        """Bring nothing over any more."""
        self._fatal = None
        self._whole.clear()

    def cut_within(self, statement: bytes) -> None:
        """Cut off the next transaction with such a statement in it, just before it is committed:
        the server has it still open. Returns when that is done."""
        self._fatal = statement
        wait(lambda: not self._whole.is_set(), CUT_SECONDS)

    def mend(self) -> None:
        """Bring over again what comes from now on. What was open is lost."""
        for end in self._ends:
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
        self._whole.set()

    def close(self) -> None:
        self._ended.set()
        self._listener.close()
        self.mend()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                near, _ = self._listener.accept()
                self._ends.append(near)
                threading.Thread(target=self._relay, args=(near,), daemon=True).start()

    def _relay(self, near: socket.socket) -> None:
        self._whole.wait()
        with (
            contextlib.suppress(OSError),
            near,
            socket.create_connection(("127.0.0.1", self._to)) as far,
        ):
            self._ends.append(far)
            doomed = False
            while not self._ended.is_set():
                for end in select.select([near, far], [], [], 0.2)[0]:
                    said = end.recv(65536)
                    if not said:
                        return
                    if end is near and self._fatal:
                        doomed = doomed or self._fatal in said
                        if doomed and b"COMMIT" in said:
                            self.cut()
                    if self._whole.is_set():
                        (far if end is near else near).sendall(said)


def segments(site: Cluster, generation: str) -> dict[str, tuple[str, str]]:
    """State and executor of each segment."""
    rows = site.query(
        "SELECT workflow_uuid, status, executor_id FROM dbos.workflow_status "
        f"WHERE workflow_uuid LIKE '{generation}-%' AND name = 'segment'"
    )
    return {name: (status, executor) for name, status, executor in rows}


def pid_of(executor: str) -> int:
    """The process that goes by this name in the database."""
    return int(executor.split("-")[-2])


def files_of(folder: Path) -> list[Path]:
    """Every file in it, however deep."""
    return sorted(path for path in folder.rglob("*") if path.is_file())
