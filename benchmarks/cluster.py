"""A cluster on loopback: PostgreSQL, and services and workers that share it. Also used by tests."""

import contextlib
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg

from benchmarks.process_stats import bound_to_caller

ROOT = Path(__file__).parents[1]
START_TIMEOUT_SECONDS = 60


class Postgres:
    """A PostgreSQL server of Debian's packages on a free loopback port, in a folder of its own.

    It runs as this user, or as `postgres` for root, which PostgreSQL refuses.
    """

    def __init__(self) -> None:
        installed = sorted(
            Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: path.parts[-2]
        )
        if not installed:
            raise RuntimeError("PostgreSQL is missing; bash script/test installs it.")
        self._bin = installed[-1]
        postgres: dict[str, Any] = {"user": "postgres", "group": "postgres", "extra_groups": []}
        self._process_user = {} if os.getuid() else postgres
        self._folder = Path(tempfile.mkdtemp(prefix="kolbo-postgres-"))
        self._password = secrets.token_hex(16)
        secret = self._folder / "password"
        secret.write_text(self._password)
        if self._process_user:
            for path in (self._folder, secret):
                shutil.chown(path, "postgres", "postgres")
        with socket.create_server(("127.0.0.1", 0)) as listener:
            self.port = listener.getsockname()[1]
        self._log = (self._folder / "log").open("wb")
        subprocess.run(
            [
                self._bin / "initdb",
                *("-D", self._folder / "data", "-U", "kolbo", "--pwfile", secret),
                *("--auth=scram-sha-256", "--no-sync", "--encoding=UTF8", "--no-locale"),
            ],
            check=True,
            stdout=self._log,
            stderr=self._log,
            cwd="/",
            **self._process_user,
        )
        self.start()

    def start(self) -> None:
        """Start and wait until it accepts connections."""
        options = {
            "listen_addresses": "127.0.0.1",
            "port": self.port,
            "unix_socket_directories": "",
            "fsync": "off",
            "shared_buffers": "16MB",
        }
        self._process = subprocess.Popen(
            bound_to_caller(
                *(self._bin / "postgres", "-D", self._folder / "data"),
                *(f"--{name}={value}" for name, value in options.items()),
            ),
            stdout=self._log,
            stderr=self._log,
            cwd="/",
            **self._process_user,
        )
        deadline = time.monotonic() + START_TIMEOUT_SECONDS
        while True:
            try:
                psycopg.connect(self.url("postgres")).close()
            except psycopg.OperationalError:
                if self._process.poll() is not None or time.monotonic() > deadline:
                    raise RuntimeError((self._folder / "log").read_text()) from None
                time.sleep(0.1)
            else:
                return

    def stop(self) -> None:
        """Close all connections and shut down."""
        self._process.send_signal(signal.SIGINT)
        self._process.wait(START_TIMEOUT_SECONDS)

    @contextlib.contextmanager
    def frozen(self) -> Iterator[None]:
        """Suspend all processes of the server during the block."""
        main = self._process.pid
        children = Path(f"/proc/{main}/task/{main}/children").read_text().split()
        pids = [main, *map(int, children)]
        for pid in pids:
            os.kill(pid, signal.SIGSTOP)
        try:
            yield
        finally:
            for pid in pids:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGCONT)

    def remove(self) -> None:
        self.stop()
        self._log.close()
        shutil.rmtree(self._folder)

    def url(self, database: str) -> str:
        """A value for KOLBO_DATABASE_URL."""
        return f"postgresql://kolbo:{self._password}@127.0.0.1:{self.port}/{database}"


class Node:
    """A `kolbo_demo` command in a process of its own."""

    def __init__(
        self, arguments: tuple[str, ...], environment: dict[str, str], log: Path, core: int | None
    ) -> None:
        self._log = log
        self._out = log.open("wb")
        self.process = subprocess.Popen(
            bound_to_caller(
                *([] if core is None else ["taskset", "-c", str(core)]),
                *(sys.executable, "-m", "kolbo_demo", *arguments),
            ),
            stdout=self._out,
            stderr=subprocess.STDOUT,
            cwd=ROOT,
            env=os.environ | environment,
        )

    @property
    def pid(self) -> int:
        return self.process.pid

    def output(self) -> str:
        """Everything it has printed."""
        return self._log.read_text()

    def wait_for_output(self, ready: Callable[[str], bool]) -> str:
        """Poll the output until it satisfies a condition; returns it."""
        deadline = time.monotonic() + START_TIMEOUT_SECONDS
        while not ready(output := self.output()):
            assert self.process.poll() is None, output
            assert time.monotonic() < deadline, output
            time.sleep(0.05)
        return output

    def kill(self) -> None:
        """End it without notice, like a power failure."""
        self.process.kill()
        self.process.wait()

    def terminate(self) -> int:
        """Send SIGTERM; returns the exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(START_TIMEOUT_SECONDS)


class Cluster:
    """A database, a storage folder or URL, and nodes that share them."""

    def __init__(self, postgres: Postgres, storage: str, folder: Path) -> None:
        self._database = f"kolbo_{secrets.token_hex(4)}"
        self.url = postgres.url(self._database)
        with psycopg.connect(postgres.url("postgres"), autocommit=True) as server:
            server.execute(f"CREATE DATABASE {self._database}".encode())
        self.storage = storage
        self._folder = folder
        self.nodes: list[Node] = []

    def start(self, *arguments: str, **extra: str) -> Node:
        """Start a node with its own data folder."""
        return self._start_on_core(arguments, extra, None)

    def _start_on_core(
        self, arguments: tuple[str, ...], extra: dict[str, str], core: int | None
    ) -> Node:
        number = len(self.nodes)
        environment = {
            "KOLBO_DATABASE_URL": self.url,
            "KOLBO_STORAGE_URL": self.storage,
            "KOLBO_DATA_DIR": str(self._folder / f"machine-{number}"),
            "KOLBO_LOCAL_API_KEY": "test-key",
        }
        log = self._folder / f"machine-{number}.log"
        self.nodes.append(Node(arguments, environment | extra, log, core))
        return self.nodes[-1]

    def start_worker(self, processes: int) -> Node:
        """Start a worker with so many processes and wait until all poll for work."""
        node = self.start("worker", "--processes", str(processes))
        node.wait_for_output(lambda output: output.count("Working") == processes)
        return node

    def start_workers(self, count: int, *, pinned: bool = False, first: int = 0) -> list[Node]:
        """Start so many one-process workers and wait until they poll for work. `pinned` ones have a
        core each, from the `first` on."""
        cores = sorted(os.sched_getaffinity(0))[first:][:count] if pinned else [None] * count
        words = ("worker", "--processes", "1")
        nodes = [self._start_on_core(words, {}, core) for core in cores]
        for node in nodes:
            node.wait_for_output(lambda output: "Working" in output)
        return nodes

    def start_page(self, **more: str) -> tuple[Node, str]:
        """Start a node that accepts generations but renders none; returns it and its API base."""
        node = self.start("serve", "--port", "0", **{"KOLBO_RENDER": "0"} | more)
        output = node.wait_for_output(lambda output: "/api" in output)
        return node, next(word for word in output.split() if word.endswith("/api"))

    def query(self, statement: str) -> list[tuple[Any, ...]]:
        with psycopg.connect(self.url) as connection:
            return connection.execute(statement.encode()).fetchall()

    def close(self) -> None:
        for node in self.nodes:
            if node.process.poll() is None:
                node.process.send_signal(signal.SIGCONT)
                node.process.terminate()
        for node in self.nodes:
            with contextlib.suppress(subprocess.TimeoutExpired):
                node.process.wait(15)
            node.kill()
