"""Starts the job queue and keeps it running through storage and database trouble.

A disk is full or read-only; a database is locked, deleted or replaced. Meanwhile requests are
refused with one sentence (`problem`); afterwards interrupted generations are resumed. A thread
checks every second, and no check waits for a database longer than its timeout.
"""

import asyncio
import contextlib
import logging
import sqlite3
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import ParamSpec, TypeVar

from sqlalchemy.exc import SQLAlchemyError

from kolbo_demo import logs
from kolbo_demo.service import thread_pool
from kolbo_demo.service.errors import ApiError, ServiceError
from kolbo_demo.service.job_queue import JobQueue

_log = logging.getLogger(__name__)
P = ParamSpec("P")
T = TypeVar("T")

CHECK_INTERVAL_SECONDS = 1.0
IDLE_TIMEOUT_SECONDS = 10.0
"""Time without a generation after which dbos is stopped,"""
IDLE_CHECK_INTERVAL_SECONDS = 3.0
"""and the interval of checks from then on."""
START_RETRY_SECONDS = 5.0
READ_TIMEOUT_SECONDS = 3.0
WRITE_TIMEOUT_SECONDS = 10.0
MISSING_TIMEOUT_SECONDS = 2.0
"""Time for a deleted database file to be put back, before an empty one replaces it."""
_RETRY = {"Retry-After": "5"}


class Supervisor:
    """Starts, checks and stops a job queue."""

    def __init__(self, jobs: JobQueue) -> None:
        self._jobs = jobs
        self.problem: str | None = None
        """Why no generation can be started: one sentence, or None."""
        self.read_problem: str | None = None
        """Why no generation can be looked up."""
        self.load = (0, 0)
        """Queued and running generations at the last check."""
        self.workers = 0
        """Concurrent renders of all processes at the last check."""
        self.engine_problem: str | None = None
        """Why this process cannot render what it accepts."""
        self._started = False
        self._last_busy = 0.0
        """Last time with an unfinished generation, by `time.monotonic`."""
        self._file: _DatabaseFile | None = None
        self._reads = ThreadPoolExecutor(max_workers=1, thread_name_prefix="supervisor-read")
        self._read: Future[None] | None = None
        self._stopped = threading.Event()
        self._thread: threading.Thread | None = None
        self._undoing: set[asyncio.Task[None]] = set()

    def start(self) -> None:
        """Start the job queue and the checks. Blocks."""
        self._stopped.clear()
        self._try_start()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Stop the checks and the job queue. Blocks."""
        self._stopped.set()
        if self._thread:
            self._thread.join(READ_TIMEOUT_SECONDS)
        if self._started:
            self._stop_jobs()

    async def write(
        self, undo: Callable[[], object], work: Callable[P, T], *args: P.args, **named: P.kwargs
    ) -> T:
        """Run `work`, which writes to the database. Raises ApiError after a timeout; then `undo`
        runs once `work` has ended after all."""
        task = asyncio.ensure_future(thread_pool.run(thread_pool.DATABASE, work, *args, **named))
        if (await asyncio.wait({task}, timeout=WRITE_TIMEOUT_SECONDS))[0]:
            return task.result()

        async def undo_late_write() -> None:
            with contextlib.suppress(Exception):  # a failed write may have taken effect
                await task
            await thread_pool.run(thread_pool.DATABASE, undo)

        undoing = asyncio.ensure_future(undo_late_write())
        self._undoing.add(undoing)
        undoing.add_done_callback(self._undoing.discard)
        raise database_unavailable("does not answer")

    def _try_start(self) -> None:
        try:
            self._jobs.start()
        except ServiceError as error:
            self.problem = self.read_problem = str(error)
            return
        self._started = True
        self._last_busy = time.monotonic()
        path = self._jobs.database_file
        self._file = _DatabaseFile(path) if path else None
        self.workers = 0 if self._jobs.shared else self._jobs.concurrency
        self.problem = self.read_problem = None

    def _stop_jobs(self, *, at_once: bool = False) -> None:
        self._started = False
        self._jobs.stop(at_once=at_once)
        if self._file:
            self._file.close()

    def _run(self) -> None:
        interval = CHECK_INTERVAL_SECONDS
        while not self._stopped.wait(interval):
            idle = self._jobs.paused
            interval = IDLE_CHECK_INTERVAL_SECONDS if idle else CHECK_INTERVAL_SECONDS
            before = self.problem
            try:
                self.engine_problem = self._jobs.engine_problem()
                if not self._started:
                    self._try_start()
                    interval = CHECK_INTERVAL_SECONDS if self._started else START_RETRY_SECONDS
                elif self._file and self._file.replaced():
                    self._reopen_database()
                else:
                    self._check()
            except Exception as error:  # noqa: BLE001 - the next check follows in any case
                logs.event(_log, "check failed", logging.WARNING, error=type(error).__name__)
            if self.problem != before:
                logs.event(_log, self.problem or "recovered", logging.WARNING)

    def _check(self) -> None:
        """Update the state, and resume what was interrupted."""
        if self._read is None:
            self._read = self._reads.submit(self._read_state)
        try:
            self._read.result(timeout=READ_TIMEOUT_SECONDS)
        except TimeoutError:
            self.problem = self.read_problem = "The database does not answer; try again later."
            return  # the next check waits for the same read
        except SQLAlchemyError:
            self.problem = self.read_problem = "The database cannot be read; try again later."
        self._read = None
        if self.problem is None:
            if not self._jobs.paused:
                self._jobs.resume_postponed()
            if self.load[0]:
                self._jobs.fill_spare_slots()
            if any(self.load):
                self._last_busy = time.monotonic()
            elif time.monotonic() - self._last_busy > IDLE_TIMEOUT_SECONDS:
                self._jobs.pause()

    def _read_state(self) -> None:
        self.load = self._jobs.load()
        self.workers = self._jobs.workers()
        self.read_problem = None
        self.problem = self._write_problem()

    def _write_problem(self) -> str | None:
        """Why the disk or the database cannot be written, if so."""
        try:
            self._jobs.storage.check_writable()
        except OSError as error:
            return f"The service cannot keep files ({error.strerror}); try again later."
        try:
            if self._file:
                self._file.check_writable()
        except sqlite3.Error as error:
            locked = error.sqlite_errorcode == sqlite3.SQLITE_BUSY
            state = "is locked by another program" if locked else "cannot be written"
            return f"The database {state}; try again later."
        return None

    def _reopen_database(self) -> None:
        """Restart on the file that replaced the database, or on an empty one if it stays away."""
        assert self._file
        path, missing = self._file.path, not _has_content(self._file.path)
        if not missing:
            self.problem = "The database was replaced; the service restarts."
        else:
            self.problem = f"The database {path} was deleted; put it back within seconds."
        self.read_problem = self.problem
        if missing and not (
            path.parent.is_dir() and self._file.missing_for(MISSING_TIMEOUT_SECONDS)
        ):
            return
        self._stop_jobs(at_once=True)
        if missing:
            for suffix in ("", "-wal", "-shm"):
                Path(f"{path}{suffix}").unlink(missing_ok=True)
            logs.event(_log, "the database was deleted; starting with an empty one", logging.ERROR)
        self._try_start()


class _DatabaseFile:
    """The SQLite file of the job queue, through a connection of its own."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._connection = sqlite3.connect(
            path, timeout=0.5, isolation_level=None, check_same_thread=False
        )
        self._identity = _identity(path)
        self._missing_since: float | None = None

    def replaced(self) -> bool:
        """Whether the path names another file, or none."""
        if _identity(self.path) == self._identity:
            self._missing_since = None
            return False
        return True

    def missing_for(self, seconds: float) -> bool:
        """Whether so much time has passed since the first call after the file was replaced."""
        self._missing_since = self._missing_since or time.monotonic()
        return time.monotonic() - self._missing_since >= seconds

    def check_writable(self) -> None:
        """Raises sqlite3.Error where nothing can be written."""
        self._connection.execute("BEGIN IMMEDIATE")
        self._connection.execute("ROLLBACK")

    def close(self) -> None:
        with contextlib.suppress(sqlite3.Error):
            self._connection.close()


def _identity(path: Path) -> tuple[int, int] | None:
    try:
        stat = path.stat()
    except OSError:
        return None
    return stat.st_dev, stat.st_ino


def _has_content(path: Path) -> bool:
    """Whether a file is there and not empty. A new SQLite connection after the deletion leaves an
    empty one."""
    try:
        return path.stat().st_size > 0
    except OSError:
        return False


def database_unavailable(state: str) -> ApiError:
    """503 because of the database."""
    return ApiError(
        503, "DATABASE_UNAVAILABLE", f"The service's database {state}; try again later.", _RETRY
    )
