"""Several machines on loopback: PostgreSQL, and our commands as processes that share it. Tests use
it too."""

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

ROOT = Path(__file__).parents[1]
START_SECONDS = 60


class Postgres:
    """A PostgreSQL server of Debian's packages on a free port of loopback, in a folder of its own.

    It runs as this user, or as `postgres` where this one is root, which it refuses.
    """

    def __init__(self) -> None:
        found = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: path.parts[-2])
        if not found:
            raise RuntimeError("PostgreSQL is missing; bash script/test installs it.")
        self._bin = found[-1]
        self._as: dict[str, Any] = {"user": "postgres", "group": "postgres", "extra_groups": []}
        if os.getuid() != 0:
            self._as = {}
        self._folder = Path(tempfile.mkdtemp(prefix="kolbo-postgres-"))
        self._password = secrets.token_hex(16)
        secret = self._folder / "password"
        secret.write_text(self._password)
        if self._as:
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
            **self._as,
        )
        self.start()

    def start(self) -> None:
        """Serve. Blocks until it answers."""
        options = {
            "listen_addresses": "127.0.0.1",
            "port": self.port,
            "unix_socket_directories": "",
            "fsync": "off",
            "shared_buffers": "16MB",
        }
        self._process = subprocess.Popen(
            [
                *(self._bin / "postgres", "-D", self._folder / "data"),
                *(f"--{name}={value}" for name, value in options.items()),
            ],
            stdout=self._log,
            stderr=self._log,
            cwd="/",
            **self._as,
        )
        deadline = time.monotonic() + START_SECONDS
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
        """Break every connection off, and serve no more."""
        self._process.send_signal(signal.SIGINT)
        self._process.wait(START_SECONDS)

    @contextlib.contextmanager
    def frozen(self) -> Iterator[None]:
        """Until the block ends no process of the server does anything."""
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
        """What KOLBO_DATABASE_URL may be."""
        return f"postgresql://kolbo:{self._password}@127.0.0.1:{self.port}/{database}"


class Machine:
    """A command of ours in a process of its own, as on a machine of its own."""

    def __init__(
        self, words: tuple[str, ...], environment: dict[str, str], log: Path, core: int | None
    ) -> None:
        self._log = log
        self._out = log.open("wb")
        self.process = subprocess.Popen(
            [
                *([] if core is None else ["taskset", "-c", str(core)]),
                *(sys.executable, "-m", "kolbo_demo", *words),
            ],
            stdout=self._out,
            stderr=subprocess.STDOUT,
            cwd=ROOT,
            env=os.environ | environment,
        )

    @property
    def pid(self) -> int:
        return self.process.pid

    def said(self) -> str:
        """All that it has printed."""
        return self._log.read_text()

    def until(self, done: Callable[[str], bool]) -> str:
        """Wait until what it has printed is as wished."""
        deadline = time.monotonic() + START_SECONDS
        while not done(said := self.said()):
            assert self.process.poll() is None, said
            assert time.monotonic() < deadline, said
            time.sleep(0.05)
        return said

    def kill(self) -> None:
        """As a machine that loses its power."""
        self.process.kill()
        self.process.wait()

    def end(self) -> int:
        """Ask it to end; its exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(START_SECONDS)


class Site:
    """A database, a store, and machines that share them."""

    def __init__(self, postgres: Postgres, storage: str, folder: Path) -> None:
        self._database = f"kolbo_{secrets.token_hex(4)}"
        self.url = postgres.url(self._database)
        with psycopg.connect(postgres.url("postgres"), autocommit=True) as server:
            server.execute(f"CREATE DATABASE {self._database}".encode())
        self.storage = storage
        self._folder = folder
        self.machines: list[Machine] = []

    def start(self, *words: str, **more: str) -> Machine:
        """A machine with a disk of its own."""
        return self._started(words, more, None)

    def _started(self, words: tuple[str, ...], more: dict[str, str], core: int | None) -> Machine:
        number = len(self.machines)
        environment = {
            "KOLBO_DATABASE_URL": self.url,
            "KOLBO_STORAGE_URL": self.storage,
            "KOLBO_DATA_DIR": str(self._folder / f"machine-{number}"),
            "KOLBO_LOCAL_API_KEY": "test-key",
        }
        log = self._folder / f"machine-{number}.log"
        self.machines.append(Machine(words, environment | more, log, core))
        return self.machines[-1]

    def crew(self, processes: int) -> Machine:
        """A machine that renders in so many processes, and takes work already."""
        machine = self.start("worker", "--processes", str(processes))
        machine.until(lambda said: said.count("Working") == processes)
        return machine

    def workers(self, count: int, *, pinned: bool = False, first: int = 0) -> list[Machine]:
        """So many machines that render in one process each, and take work already; each on a core
        of its own, from the `first` on, where they are `pinned`."""
        cores = sorted(os.sched_getaffinity(0))[first:][:count] if pinned else [None] * count
        words = ("worker", "--processes", "1")
        machines = [self._started(words, {}, core) for core in cores]
        for machine in machines:
            machine.until(lambda said: "Working" in said)
        return machines

    def page(self, **more: str) -> tuple[Machine, str]:
        """A machine that accepts generations and renders none, and the base of its API."""
        machine = self.start("serve", "--port", "0", **{"KOLBO_RENDER": "0"} | more)
        said = machine.until(lambda said: "/api" in said)
        return machine, next(word for word in said.split() if word.endswith("/api"))

    def ask(self, statement: str) -> list[tuple[Any, ...]]:
        """What the database answers."""
        with psycopg.connect(self.url) as connection:
            return connection.execute(statement.encode()).fetchall()

    def close(self) -> None:
        """End all machines."""
        for machine in self.machines:
            if machine.process.poll() is None:
                machine.process.send_signal(signal.SIGCONT)
                machine.process.terminate()
        for machine in self.machines:
            with contextlib.suppress(subprocess.TimeoutExpired):
                machine.process.wait(15)
            machine.kill()
