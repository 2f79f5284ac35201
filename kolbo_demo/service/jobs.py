"""Generations as durable workflows: accepted once, finished even over a `kill -9`.

dbos keeps each generation as a row in a database: its input before the caller hears an id, its
progress, its outcome. What a process leaves unfinished is run by the next one on the same SQLite
file, or by another on the same PostgreSQL, where a long generation is shared as well (`split`).
dbos exists once a process, and so does `Jobs` between `start` and `stop`.
"""

import contextlib
import os
import re
import secrets
import shutil
import socket
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from dbos import DBOS, SetWorkflowID, WorkflowStatus
from sqlalchemy.exc import SQLAlchemyError

from kolbo_demo.contract import CANCELLED, COMPLETED, FAILED, FINAL_STATES, PROCESSING, Failure
from kolbo_demo.service import database, fetch, process, running, split
from kolbo_demo.service.errors import JobError, ServiceError
from kolbo_demo.service.fleet import TAKEOVERS, Fleet
from kolbo_demo.service.running import StoppedError
from kolbo_demo.service.split import LOST, MAX_ATTEMPTS
from kolbo_demo.service.storage import (
    INPUTS,
    PARTS,
    Storage,
    input_name,
    plan_name,
    thumbnail_name,
    video_name,
)
from kolbo_demo.settings import Settings

QUEUE = "lipsync"
PROGRESS_SECONDS = 0.5
"""Progress is written at most so often."""
_ID = re.compile(r"lip_[0-9a-f]{20}")
_STATES = {"SUCCESS": COMPLETED, "CANCELLED": CANCELLED, "ERROR": FAILED}
_STATES["MAX_RECOVERY_ATTEMPTS_EXCEEDED"] = FAILED
POLL_SECONDS = 0.2
"""How often a process looks for work."""
FLEET_POLL_SECONDS = 0.5
"""The same where many ask one server."""


@dataclass(frozen=True)
class Progress:
    """Where a generation stands. `made` is what the engine tells of a completed one."""

    id: str
    state: str
    percent: int
    created: float
    """Seconds since the epoch."""
    file: str | None = None
    """Stem of the result's names in storage."""
    made: dict[str, Any] | None = None
    failure: Failure | None = None


def new_id() -> str:
    """An id for a generation: `lip_` and 20 hex digits."""
    return "lip_" + secrets.token_hex(10)


def default_concurrency() -> int:
    """Renders side by side: one for every two cores."""
    return max(1, (os.cpu_count() or 2) // 2)


def _share(concurrency: int) -> int:
    """Processes for one of so many renders: together as many as there are cores."""
    return max(1, (os.cpu_count() or 2) // concurrency)


class Jobs:
    """The queue of generations and the files they use."""

    def __init__(self, settings: Settings, *, renders: bool = True) -> None:
        """`renders` says whether this process also does the work, or only takes it."""
        self._folder = settings.data_dir.expanduser().absolute()
        self._url = settings.database_url
        self._renders = renders or not self._url
        self._own = self._folder
        """Of this process alone."""
        self._executor = "local"
        files = settings.storage_url
        if self._url:
            # The host, for people who look at the database; the rest makes it the only one.
            host = re.sub(r"[^0-9A-Za-z-]", "-", socket.gethostname())
            self._executor = f"{host}-{os.getpid()}-{secrets.token_hex(4)}"
            self._own = self._folder / "processes" / self._executor
            files = files or str(self._folder)
        self.storage = Storage(self._own, files)
        self.policy = fetch.Policy(allow_hosts=settings.fetch_allow_hosts)
        # Of many processes each has one core and one generation.
        self.concurrency = 1 if self._url else default_concurrency()
        self.cores = 1 if self._url else _share(self.concurrency)
        """For one render."""
        self._stopping = threading.Event()
        self._running: set[threading.Event] = set()
        self._lock: sqlite3.Connection | None = None
        self._fleet: Fleet | None = None

    @property
    def shared(self) -> bool:
        """Whether other processes work on the same queue."""
        return self._url is not None

    def start(self) -> None:
        """Launch dbos and take up unfinished generations. Raises ServiceError. Blocks."""
        if not _one_a_process.acquire(blocking=False):
            raise ServiceError("A local service runs in this process already; stop that one first.")
        try:
            self._stopping.clear()
            self._lock = database.lock(self._own)
            self.storage.prepare()
            running.current.append(self)
            self._launch()
            self._sweep()
        except SQLAlchemyError as error:
            self._release()
            if not self._url:
                raise self._unusable(error) from error
            reason = str(getattr(error, "orig", None) or error).partition("\n")[0]
            raise ServiceError(
                f"The database cannot be used ({reason}); check KOLBO_DATABASE_URL."
            ) from error
        except (OSError, sqlite3.Error) as error:
            self._release()
            raise self._unusable(error) from error
        except BaseException:
            self._release()
            raise

    def _unusable(self, error: Exception) -> ServiceError:
        reason = getattr(error, "strerror", None) or getattr(error, "orig", None) or error
        return ServiceError(
            f"The data folder {self._folder} cannot be used ({reason}); "
            "set KOLBO_DATA_DIR to another folder."
        )

    def _launch(self) -> None:
        if self._url:
            url = database.server(self._url.get_secret_value())
            database.clear(self._own.parent)
            database.launch(url, self._executor, listens=self._renders)
            self._fleet = Fleet(url, self._executor, self._renders)
            self._fleet.start()
        else:
            database.launch(database.file(self._folder), self._executor)
        often = FLEET_POLL_SECONDS if self.shared else POLL_SECONDS
        for queue in (QUEUE, split.QUEUE) if self.shared else (QUEUE,):
            DBOS.register_queue(
                queue, worker_concurrency=self.concurrency, polling_interval_sec=often
            )

    def stop(self) -> None:
        """Kill running renders, keep their generations for the next start, and close. Blocks."""
        self._stopping.set()
        for ended in list(self._running):
            ended.wait(timeout=10)
        self._release()

    def _release(self) -> None:
        if self._fleet:
            self._fleet.stop()
        DBOS.destroy()
        if self._fleet:
            self._fleet.leave()
            self._fleet = None
        running.current.clear()
        if self._lock:
            self._lock.close()
            if self.shared:
                shutil.rmtree(self._own, ignore_errors=True)
        _one_a_process.release()

    def _sweep(self) -> None:
        """Remove inputs of generations that were never accepted or have ended."""
        for generation in self.storage.under(INPUTS):
            found = self.find(generation)
            # Where others accept generations too, one may be on its way just now.
            if found.state in FINAL_STATES if found else not self.shared:
                self.discard(generation)

    def submit(self, generation: str, job: dict[str, Any]) -> None:
        """Accept a generation; once this returns it will be worked on. `job` is plain JSON."""
        with SetWorkflowID(generation):
            own = {"file": secrets.token_hex(16), "created": time.time()}
            DBOS.enqueue_workflow(QUEUE, _generation, job | own)

    def find(self, generation: str) -> Progress | None:
        """Where a generation stands, or None where there is none of that id."""
        status = DBOS.get_workflow_status(generation) if _ID.fullmatch(generation) else None
        return _progress(status) if status else None

    def cancel(self, generation: str) -> Progress | None:
        """Cancel what has not ended, and tell how it stands now; None for an unknown id."""
        if not _ID.fullmatch(generation) or not DBOS.get_workflow_status(generation):
            return None
        DBOS.cancel_workflow(generation, cancel_children=self.shared)
        found = self.find(generation)
        if found and found.state == CANCELLED:
            # One that runs notices by itself and cleans up after itself again.
            self.discard(generation, found.file)
        return found

    def withdraw(self, generation: str) -> None:
        """Undo a start whose caller will not hear of it, accepted or not."""
        self.cancel(generation)
        self.discard(generation)

    def waiting(self) -> int:
        """Generations accepted and not ended."""
        return len(
            DBOS.list_workflows(
                name=QUEUE, status=["ENQUEUED", "PENDING"], load_input=False, load_output=False
            )
        )

    def discard(self, generation: str, file: str | None = None) -> None:
        """Remove a generation's inputs, and its results where `file` names them."""
        self.storage.delete(f"{INPUTS}/{generation}")
        self.storage.delete(f"{PARTS}/{generation}")
        if file:
            self.storage.delete(video_name(file))
            self.storage.delete(thumbnail_name(file))

    @contextlib.contextmanager
    def at_work(self) -> Iterator[None]:
        """Mark work that `stop` waits for."""
        ended = threading.Event()
        self._running.add(ended)
        try:
            yield
        finally:
            self._running.discard(ended)
            ended.set()

    def cancelled(self, generation: str) -> bool:
        """Whether a generation is not wanted any more by anybody. Raises StoppedError when the
        process goes down."""
        if self._stopping.is_set():
            raise StoppedError
        status = DBOS.get_workflow_status(generation)
        return status is None or status.status == "CANCELLED"

    def watch(self, workflow: str) -> Callable[[], bool]:
        """A function that tells whether this execution of a workflow is to go on: nobody has
        cancelled it, and no other process has taken it over.

        The function raises StoppedError when the process goes down. Raises JobError where the
        workflow was taken over too often.
        """

        def held() -> WorkflowStatus | None:
            if self._stopping.is_set():
                raise StoppedError
            status = DBOS.get_workflow_status(workflow)
            mine = status and (status.status, status.executor_id) == ("PENDING", self._executor)
            return status if mine else None

        begun = held()
        if begun and (begun.attributes or {}).get(TAKEOVERS, 0) >= MAX_ATTEMPTS:
            raise JobError.of(LOST)

        def wanted() -> bool:
            now = held()
            return bool(begun and now and now.dequeued_at == begun.dequeued_at)

        return wanted


_one_a_process = threading.Lock()


# dbos finds workflows by name in a registry of the process, hence functions, not methods.


@DBOS.workflow(name="lipsync", max_recovery_attempts=MAX_ATTEMPTS)
def _generation(job: dict[str, Any]) -> dict[str, Any]:
    jobs, generation = running.jobs(), str(DBOS.workflow_id)
    try:
        with jobs.at_work():
            outcome = _fetch(job) or _render(job)
            if "parts" in outcome:
                split.hand_out(generation, outcome["parts"])
                outcome = _join(job, outcome["parts"])
    except Exception:  # a bug: dbos records it as the outcome
        jobs.discard(generation, job["file"])
        raise
    except BaseException:  # cancelled, as dbos tells it, or the process goes down
        with contextlib.suppress(StoppedError):
            if jobs.cancelled(generation):
                jobs.discard(generation, job["file"])
        raise
    jobs.discard(generation, None if "made" in outcome else job["file"])
    return outcome


@DBOS.step(name="fetch")
def _fetch(job: dict[str, Any]) -> dict[str, Any]:
    """Bring linked files here. Returns a failure, or nothing."""
    jobs, generation = running.jobs(), str(DBOS.workflow_id)
    for field in ("source", "audio"):
        if link := job.get(f"{field}_url"):
            try:
                _bring(link, field, generation, jobs)
            except JobError as error:
                return {"failure": error.failure.model_dump()}
            except _UnwantedError:
                break
    return {}


class _UnwantedError(Exception):
    """What was being made is not to be kept."""


def _bring(link: str, field: fetch.Field, generation: str, jobs: Jobs) -> None:
    wanted = jobs.watch(generation)
    with jobs.storage.create(input_name(generation, field)) as file:
        fetch.fetch(link, field, file, jobs.policy, wanted)
        if not wanted():
            raise _UnwantedError


@DBOS.step(name="render")
def _render(job: dict[str, Any]) -> dict[str, Any]:
    """Make the video. Returns `made`, `failure`, `parts` where it only made the plan of a long one,
    or nothing when it is not wanted any more."""
    jobs, generation, file = running.jobs(), str(DBOS.workflow_id), job["file"]
    storage = jobs.storage
    with storage.workspace(generation) as folder:
        plan = folder / "plan.npz"
        task = process.Task(
            source=str(storage.bring(input_name(generation, "source"), folder)),
            audio=str(storage.bring(input_name(generation, "audio"), folder)),
            video=str(folder / "video.mp4"),
            thumbnail=str(folder / "thumbnail.jpg"),
            face=job["face"],
            model=job["model"],
            prompt=job.get("prompt"),
            workers=jobs.cores,
            plan=str(plan) if jobs.shared else None,
        )
        try:
            wanted = jobs.watch(generation)
            made = process.run(task, _teller(generation), wanted)
        except JobError as error:
            return {"failure": error.failure.model_dump()}
        if made is None or not wanted():
            return {}
        if plan.exists():
            storage.publish(plan, plan_name(generation))
            return {"parts": made}
        storage.publish(folder / "video.mp4", video_name(file))
        storage.publish(folder / "thumbnail.jpg", thumbnail_name(file))
    return {"made": made}


@DBOS.step(name="join")
def _join(job: dict[str, Any], parts: dict[str, Any]) -> dict[str, Any]:
    """Make the video of segments. Returns `made`, `failure`, or nothing when it is not wanted."""
    jobs, generation = running.jobs(), str(DBOS.workflow_id)
    try:
        wanted = jobs.watch(generation)
        made = split.join(generation, job["file"], parts, _teller(generation), wanted)
    except JobError as error:
        return {"failure": error.failure.model_dump()}
    return {"made": made} if made else {}


def _teller(generation: str) -> Callable[[int, int], None]:
    """A function that records progress, given what is done and what there is in all."""
    told, due = _percent(generation), 0.0

    def tell(done: int, total: int) -> None:
        nonlocal told, due
        percent = min(99, 100 * done // max(1, total))
        # After a restart the work begins again: what was told stays until it is passed.
        if percent > told and time.monotonic() >= due:
            DBOS.set_event("progress", percent)
            told, due = percent, time.monotonic() + PROGRESS_SECONDS

    return tell


def _percent(generation: str) -> int:
    return int(DBOS.get_all_events(generation).get("progress", 0))


def _progress(status: WorkflowStatus) -> Progress:
    job = status.input["args"][0] if status.input else {}
    outcome = status.output if status.status == "SUCCESS" and status.output else {}
    state, failure = _STATES.get(status.status, PROCESSING), None
    if state == FAILED or (state == COMPLETED and "made" not in outcome):
        state, failure = FAILED, Failure.model_validate(outcome.get("failure") or LOST)
    return Progress(
        id=status.workflow_id,
        state=state,
        percent=100 if state == COMPLETED else _percent(status.workflow_id),
        created=job.get("created", 0.0),
        file=job.get("file"),
        made=outcome.get("made"),
        failure=failure,
    )
