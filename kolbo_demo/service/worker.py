"""Processes that serve nobody and render what others have accepted: `python -m kolbo_demo worker`.

Each takes one generation and one segment at a time, on a core of its own.
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
from kolbo_demo.service.job_queue import Jobs
from kolbo_demo.settings import Settings

LOOK_SECONDS = 1.0
"""How often a process takes up again what the disk or the database had it put off."""
AGAIN_SECONDS = 1.0
"""Before a process that has died is replaced."""
END_SECONDS = 8.0
"""For a process that is told to stop: a little more than `Jobs.stop` takes where everything
answers."""
KILL_SECONDS = 8.5
"""The members of a crew are killed so long after that,"""
CREW_SECONDS = 9.5
"""and the crew has ended."""
_REFUSED = 2
_ENGINE = "from kolbo_demo.engine import unavailable_reason; print(unavailable_reason() or '')"

_log = logging.getLogger(__name__)


def work(settings: Settings, processes: int) -> None:
    """Work in so many processes until KeyboardInterrupt. Raises ServiceError. Blocks.

    One works in this very process; several in others, which are replaced when they die and end
    with this one.
    """
    if settings.database_url is None:
        raise ServiceError(
            "A worker takes its work from PostgreSQL: set KOLBO_DATABASE_URL to the one that the "
            "page uses, and KOLBO_STORAGE_URL to where its files lie."
        )
    logs.configure(settings.log)
    disable_dumping()
    exit_within(END_SECONDS if processes == 1 else CREW_SECONDS)
    if problem := _engine_problem():
        raise ServiceError(problem)
    if processes == 1:
        _work_alone(settings)
    else:
        _Crew(settings, processes).work()


def _engine_problem() -> str:
    """The result of `engine.unavailable_reason`, without loading the engine into this process."""
    asked = subprocess.run(  # noqa: S603 - our own interpreter
        [sys.executable, "-c", _ENGINE], capture_output=True, text=True, check=False
    )
    if asked.returncode:
        return "The local engine does not start on this machine; install requirements.txt anew."
    return asked.stdout.strip()


def _work_alone(settings: Settings) -> None:
    logs.configure(settings.log)
    jobs = Jobs(settings)
    jobs.start()
    try:
        logs.announce(f"Working as process {os.getpid()}.", sys.stderr)
        while True:
            threading.Event().wait(LOOK_SECONDS)
            with contextlib.suppress(OSError, SQLAlchemyError):
                jobs.bring_forward()
                jobs.storage.try_out()
                jobs.resume_postponed()
    finally:
        jobs.stop()


class _Crew:
    """Several processes that work."""

    def __init__(self, settings: Settings, count: int) -> None:
        self._settings = settings
        self._count = count
        self._context = multiprocessing.get_context("spawn")
        self._working: list[BaseProcess] = []

    def work(self) -> None:
        try:
            while True:
                while len(self._working) < self._count:
                    self._working.append(self._started())
                wait([process.sentinel for process in self._working])
                self._count_the_dead()
                threading.Event().wait(AGAIN_SECONDS)
        finally:
            self._end()

    def _started(self) -> BaseProcess:
        process = self._context.Process(target=_member, args=(self._settings,))
        process.start()
        return process

    def _count_the_dead(self) -> None:
        for process in [process for process in self._working if not process.is_alive()]:
            self._working.remove(process)
            if process.exitcode == _REFUSED:
                raise ServiceError("The workers could not begin; what they said is above.")
            logs.event(_log, "worker died", logging.ERROR, exit_code=process.exitcode)

    def _end(self) -> None:
        for process in self._working:
            process.terminate()
        deadline = time.monotonic() + KILL_SECONDS
        for process in self._working:
            process.join(max(0.0, deadline - time.monotonic()))
            if process.is_alive():
                process.kill()
                process.join()


def _member(settings: Settings) -> None:
    for interruption in (signal.SIGINT, signal.SIGTERM):
        signal.signal(interruption, signal.default_int_handler)
    exit_within(END_SECONDS)
    threading.Thread(target=_outlive_nobody, daemon=True).start()
    try:
        _work_alone(settings)
    except ServiceError as error:
        print(error, file=sys.stderr, flush=True)
        sys.exit(_REFUSED)
    except KeyboardInterrupt:
        sys.exit(0)


def _outlive_nobody() -> None:
    """End this process, and with it its renders, when the one that started it is gone."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    wait([parent.sentinel])
    os._exit(1)
