"""Sees to it that jobs run, and go on by themselves once what kept them from it is gone.

A full disk, a folder that became read-only, a database that is locked, lost or replaced: while it
lasts, callers hear one sentence (`problem`); once it is over, generations that were thrown off are
taken up again. A thread looks every second; nothing here waits for a database without end.
"""

import asyncio
import contextlib
import logging
import os
import sqlite3
import tempfile
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import TimeoutError as LateError
from pathlib import Path
from typing import ParamSpec, TypeVar

from sqlalchemy.exc import SQLAlchemyError

from kolbo_demo import logs
from kolbo_demo.service import thread_pool
from kolbo_demo.service.errors import ApiError, ServiceError
from kolbo_demo.service.job_queue import Jobs

_log = logging.getLogger(__name__)
P = ParamSpec("P")
T = TypeVar("T")

LOOK_SECONDS = 1.0
REST_SECONDS = 10.0
"""dbos rests after so long without a generation,"""
RESTING_LOOK_SECONDS = 3.0
"""and the guard looks less often."""
START_AGAIN_SECONDS = 5.0
ANSWER_SECONDS = 3.0
"""A database that takes longer for a look does not answer."""
WRITE_SECONDS = 10.0
"""A caller waits at most so long for his start or cancel to be written."""
LOST_SECONDS = 2.0
"""A database file that is gone for so long is not about to be put back."""
_AGAIN = {"Retry-After": "5"}


class Guard:
    """Starts and stops jobs, and looks after them in between."""

    def __init__(self, jobs: Jobs) -> None:
        self._jobs = jobs
        self.problem: str | None = None
        """Why nothing can be started now: one sentence, None when all is well."""
        self.blind: str | None = None
        """Why no generation can be looked at now."""
        self.load = (0, 0)
        """Generations that wait and that run, as of the last look."""
        self.workers = 0
        """Renders side by side that there is room for, as of the last look."""
        self.engine: str | None = None
        """Why this process could not render what it accepts."""
        self._started = False
        self._busy = 0.0
        """When there last was a generation, by `time.monotonic`."""
        self._file: _File | None = None
        self._looks = ThreadPoolExecutor(max_workers=1, thread_name_prefix="look")
        self._look: Future[None] | None = None
        self._ended = threading.Event()
        self._thread: threading.Thread | None = None
        self._left: set[asyncio.Task[None]] = set()

    def start(self) -> None:
        """Start the jobs, and from now on look after them. Blocks."""
        self._ended.clear()
        self._try_start()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Stop looking, and the jobs. Blocks."""
        self._ended.set()
        if self._thread:
            self._thread.join(ANSWER_SECONDS)
        if self._started:
            self._started = False
            self._jobs.stop()
            if self._file:
                self._file.close()

    async def write(
        self, undo: Callable[[], object], work: Callable[P, T], *args: P.args, **named: P.kwargs
    ) -> T:
        """Have something written to the database. Raises ApiError where that takes too long; it is
        then undone when it comes about after all."""
        task = asyncio.ensure_future(thread_pool.run(thread_pool.DATABASE, work, *args, **named))
        if (await asyncio.wait({task}, timeout=WRITE_SECONDS))[0]:
            return task.result()

        async def later() -> None:
            with contextlib.suppress(Exception):  # it may have been written all the same
                await task
            await thread_pool.run(thread_pool.DATABASE, undo)

        left = asyncio.ensure_future(later())
        self._left.add(left)
        left.add_done_callback(self._left.discard)
        raise unavailable("does not answer")

    def _try_start(self) -> None:
        try:
            self._jobs.start()
        except ServiceError as error:
            self.problem = self.blind = str(error)
            return
        self._started = True
        self._busy = time.monotonic()
        self._file = _File(self._jobs.database_file) if self._jobs.database_file else None
        self.workers = self._jobs.concurrency if self._file else 0
        self.problem = self.blind = None

    def _run(self) -> None:
        pause = LOOK_SECONDS
        while not self._ended.wait(pause):
            pause = RESTING_LOOK_SECONDS if self._jobs.resting else LOOK_SECONDS
            before = self.problem
            try:
                self.engine = self._jobs.problem()
                if not self._started:
                    self._try_start()
                    pause = LOOK_SECONDS if self._started else START_AGAIN_SECONDS
                elif self._file and self._file.replaced():
                    self._restart()
                else:
                    self._check()
            except Exception as error:  # noqa: BLE001 - whatever it is, the next look comes
                logs.event(_log, "look failed", logging.WARNING, error=type(error).__name__)
            if self.problem != before:
                logs.event(_log, self.problem or "all is well again", logging.WARNING)

    def _check(self) -> None:
        """Look once, and take up again what was thrown off."""
        if self._look is None:
            self._look = self._looks.submit(self._see)
        try:
            self._look.result(timeout=ANSWER_SECONDS)
        except LateError:
            self.problem = self.blind = "The database does not answer; try again later."
            return  # the same look is waited for next time
        except SQLAlchemyError:
            self.problem = self.blind = "The database cannot be read; try again later."
        self._look = None
        if self.problem is None:
            if not self._jobs.resting:
                self._jobs.resume_postponed()
            if self.load[0]:
                self._jobs.bring_forward()
            if any(self.load):
                self._busy = time.monotonic()
            elif time.monotonic() - self._busy > REST_SECONDS:
                self._jobs.rest()

    def _see(self) -> None:
        self.load = self._jobs.load()
        self.workers = self._jobs.workers()
        self.blind = None
        self.problem = self._unwritable()

    def _unwritable(self) -> str | None:
        """Why nothing can be written, if so."""
        try:
            self._jobs.storage.try_out()
        except OSError as error:
            return f"The service cannot keep files ({error.strerror}); try again later."
        try:
            if self._file:
                self._file.try_out()
        except sqlite3.Error as error:
            locked = error.sqlite_errorcode == sqlite3.SQLITE_BUSY
            how = "is locked by another program" if locked else "cannot be written"
            return f"The database {how}; try again later."
        return None

    def _restart(self) -> None:
        """The database is another file now, or none: go on with what is there, or save what was."""
        assert self._file
        self.problem = self.blind = "The database was moved away; the service goes on shortly."
        path = self._file.path
        lost = not _held(path)
        if lost and not (path.parent.is_dir() and self._file.gone_for(LOST_SECONDS)):
            return
        self._started = False
        self._jobs.stop(at_once=True)
        if lost:
            self._file.save()
        self._file.close()
        self._try_start()


class _File:
    """The SQLite file that the jobs have open, by a connection of its own."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._connection = sqlite3.connect(
            path, timeout=0.5, isolation_level=None, check_same_thread=False
        )
        # Read once: from then on it has the log beside the file open, too.
        self._connection.execute("SELECT count(*) FROM sqlite_master").fetchall()
        self._identity = _identity(path)
        self._gone: float | None = None

    def replaced(self) -> bool:
        """Whether another file, or none, goes by the name."""
        if _identity(self.path) == self._identity:
            self._gone = None
            return False
        return True

    def gone_for(self, seconds: float) -> bool:
        """Whether it has been away for so long."""
        self._gone = self._gone or time.monotonic()
        return time.monotonic() - self._gone >= seconds

    def try_out(self) -> None:
        """Raises sqlite3.Error where nothing can be written."""
        self._connection.execute("BEGIN IMMEDIATE")
        self._connection.execute("ROLLBACK")

    def save(self) -> None:
        """Write what the deleted file holds, for as long as it is open, to its place again."""
        handle, name = tempfile.mkstemp(dir=self.path.parent)
        os.close(handle)
        try:
            with contextlib.closing(sqlite3.connect(name)) as copy:
                self._connection.backup(copy)
            for ending in ("-wal", "-shm"):
                Path(f"{self.path}{ending}").unlink(missing_ok=True)
            Path(name).replace(self.path)
        finally:
            Path(name).unlink(missing_ok=True)
        logs.event(_log, "the database was deleted, and is saved", logging.WARNING)

    def close(self) -> None:
        with contextlib.suppress(sqlite3.Error):
            self._connection.close()


def _identity(path: Path) -> tuple[int, int] | None:
    try:
        stat = path.stat()
    except OSError:
        return None
    return stat.st_dev, stat.st_ino


def _held(path: Path) -> bool:
    """Whether a file with something in it is there. Whoever connects to SQLite anew after the file
    was deleted leaves an empty one in its place."""
    try:
        return path.stat().st_size > 0
    except OSError:
        return False


def unavailable(how: str) -> ApiError:
    """503: the database is the reason."""
    return ApiError(
        503, "DATABASE_UNAVAILABLE", f"The service's database {how}; try again later.", _AGAIN
    )
