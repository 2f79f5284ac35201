"""Worker processes, which render what pages and services accept: `python -m kolbo_demo worker`.

Each renders one generation or segment at a time, on one core.
"""

import contextlib
import logging
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
from multiprocessing.connection import wait
from multiprocessing.process import BaseProcess

from sqlalchemy.exc import SQLAlchemyError

from kolbo_demo import logs
from kolbo_demo.process.confinement import disable_dumping
from kolbo_demo.process.exit_deadline import exit_within
from kolbo_demo.service.errors import ServiceError
from kolbo_demo.service.job_queue import JobQueue
from kolbo_demo.settings import Settings

RESUME_INTERVAL_SECONDS = 1.0
"""Between two checks for postponed workflows."""
RESTART_DELAY_SECONDS = 1.0
"""Before a dead process is replaced."""
STOP_TIMEOUT_SECONDS = 8.0
"""For a process to stop: a little more than `JobQueue.stop` takes normally."""
KILL_TIMEOUT_SECONDS = 8.5
"""From a stop to the kill of the processes that are left."""
PARENT_STOP_TIMEOUT_SECONDS = 9.5
"""For the parent of several processes to stop."""
_START_FAILED = 2
"""Exit code."""
_PRINT_ENGINE_PROBLEM = (
    "from kolbo_demo.engine import unavailable_reason; print(unavailable_reason() or '')"
)

_log = logging.getLogger(__name__)


def run_workers(settings: Settings, processes: int) -> None:
    """Run workers until KeyboardInterrupt. Raises ServiceError. Blocks.

    A single worker runs in this process; several run in child processes, which are replaced when
    they die and exit with this one.
    """
    if settings.database_url is None:
        raise ServiceError(
            "A worker takes its work from PostgreSQL: set KOLBO_DATABASE_URL to the one that the "
            "page uses, and KOLBO_STORAGE_URL to where its files lie."
        )
    logs.configure(settings.log)
    disable_dumping()
    exit_within(STOP_TIMEOUT_SECONDS if processes == 1 else PARENT_STOP_TIMEOUT_SECONDS)
    if problem := _engine_problem():
        raise ServiceError(problem)
    if processes == 1:
        _run_worker(settings)
    else:
        _WorkerPool(settings, processes).run()


def _engine_problem() -> str:
    """`engine.unavailable_reason` of another process: loading the engine here would keep its
    memory."""
    check = subprocess.run(  # noqa: S603 - our own interpreter
        [sys.executable, "-c", _PRINT_ENGINE_PROBLEM], capture_output=True, text=True, check=False
    )
    if check.returncode:
        return "The local engine does not start on this machine; install requirements.txt anew."
    return check.stdout.strip()


def _run_worker(settings: Settings) -> None:
    logs.configure(settings.log)
    jobs = JobQueue(settings)
    jobs.start()
    try:
        logs.announce(f"Working as process {os.getpid()}.", sys.stderr)
        while True:
            threading.Event().wait(RESUME_INTERVAL_SECONDS)
            with contextlib.suppress(OSError, SQLAlchemyError):
                jobs.fill_spare_slots()
                jobs.storage.check_writable()
                jobs.resume_postponed()
    finally:
        jobs.stop()


class _WorkerPool:
    """Child processes with a worker each."""

    def __init__(self, settings: Settings, count: int) -> None:
        self._settings = settings
        self._count = count
        self._context = multiprocessing.get_context("spawn")
        self._processes: list[BaseProcess] = []

    def run(self) -> None:
        try:
            while True:
                while len(self._processes) < self._count:
                    self._processes.append(self._start())
                wait([process.sentinel for process in self._processes])
                self._reap()
                threading.Event().wait(RESTART_DELAY_SECONDS)
        finally:
            self._stop()

    def _start(self) -> BaseProcess:
        process = self._context.Process(target=_main, args=(self._settings,))
        process.start()
        return process

    def _reap(self) -> None:
        for process in [process for process in self._processes if not process.is_alive()]:
            self._processes.remove(process)
            if process.exitcode == _START_FAILED:
                raise ServiceError("The workers did not start; their messages are above.")
            logs.event(_log, "worker died", logging.ERROR, exit_code=process.exitcode)

    def _stop(self) -> None:
        for process in self._processes:
            process.terminate()
        deadline = time.monotonic() + KILL_TIMEOUT_SECONDS
        for process in self._processes:
            process.join(max(0.0, deadline - time.monotonic()))
            if process.is_alive():
                process.kill()
                process.join()


def _main(settings: Settings) -> None:
    for interruption in (signal.SIGINT, signal.SIGTERM):
        signal.signal(interruption, signal.default_int_handler)
    exit_within(STOP_TIMEOUT_SECONDS)
    threading.Thread(target=_exit_with_parent, daemon=True).start()
    try:
        _run_worker(settings)
    except ServiceError as error:
        print(error, file=sys.stderr, flush=True)
        sys.exit(_START_FAILED)
    except KeyboardInterrupt:
        sys.exit(0)


def _exit_with_parent() -> None:
    """Exit, which ends the renders as well, when the parent process is gone."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    wait([parent.sentinel])
    os._exit(1)
