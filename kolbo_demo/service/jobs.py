"""Generations as durable workflows: accepted once, finished even over a `kill -9`.

dbos keeps each generation as a row in an SQLite file: its input before the caller hears an id,
its progress, its outcome. At the next start it runs what an earlier process left unfinished.
dbos exists once a process, and so does `Jobs` between `start` and `stop`.
"""

import contextlib
import os
import re
import secrets
import sqlite3
import threading
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dbos import DBOS, SetWorkflowID, WorkflowStatus
from sqlalchemy.exc import SQLAlchemyError

from kolbo_demo import logs
from kolbo_demo.contract import CANCELLED, COMPLETED, FAILED, FINAL_STATES, PROCESSING, Failure
from kolbo_demo.service import database, fetch, observe, process
from kolbo_demo.service.errors import JobError, ServiceError
from kolbo_demo.service.patience import PostponedError, patient
from kolbo_demo.service.storage import (
    INPUTS,
    Storage,
    input_name,
    thumbnail_name,
    video_name,
)

QUEUE = "lipsync"
LINKS = "links"
"""Queue of generations that have files to fetch: a link that drips keeps no render waiting."""
FETCHES = 16
"""Generations that fetch, or wait for their render after it, at a time."""
MAX_ATTEMPTS = 10
"""A generation that has taken the whole machine down so often is given up."""
SLOT_SECONDS = 0.5
"""How often a generation that waits for its render looks whether it is still wanted."""
MISSED_LOOKS = 3
DRAIN_SECONDS = 6.5
"""What runs when the process is told to stop may finish within so long."""
KILL_SECONDS = 1.0
"""For the rest to die."""
PROGRESS_SECONDS = 0.5
"""Progress is written at most so often."""
_ID = re.compile(r"lip_[0-9a-f]{20}")
_STATES = {"SUCCESS": COMPLETED, "CANCELLED": CANCELLED, "ERROR": FAILED}
_STATES["MAX_RECOVERY_ATTEMPTS_EXCEEDED"] = FAILED
_LOST = Failure(
    message="The service failed at this generation. Try it again.",
    category="engine",
    code="GENERATION_ERROR",
    retryable=True,
)


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


class _StoppedError(BaseException):
    """The process is going down: the generation stays as it is, for the next start to finish.

    Not an Exception, which dbos would record as the generation's outcome.
    """


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

    def __init__(
        self, folder: Path, storage: Storage, policy: fetch.Policy, concurrency: int | None = None
    ) -> None:
        self._folder = folder
        self.storage = storage
        self.policy = policy
        self.concurrency = concurrency or default_concurrency()
        self._closing = threading.Event()
        self._stopping = threading.Event()
        self._executor = "local"
        self._running: dict[str, threading.Event] = {}
        self._slots = threading.Semaphore(self.concurrency)
        self._missed: Counter[str] = Counter()
        self.changed = threading.Event()
        """Set whenever work here comes to an end."""
        self._lock: sqlite3.Connection | None = None

    @property
    def database_file(self) -> Path | None:
        """The SQLite file, where there is one."""
        return self._folder / "jobs.sqlite"

    def start(self) -> None:
        """Launch dbos and take up unfinished generations. Raises ServiceError. Blocks."""
        if not _one_a_process.acquire(blocking=False):
            raise ServiceError("A local service runs in this process already; stop that one first.")
        try:
            self._closing.clear()
            self._stopping.clear()
            self._lock = database.lock(self._folder)
            self.storage.prepare()
            _current.append(self)
            database.launch(self._folder)
            self._sweep()
            for queue, most in ((QUEUE, self.concurrency), (LINKS, FETCHES)):
                DBOS.register_queue(queue, worker_concurrency=most, polling_interval_sec=0.2)
        except (OSError, sqlite3.Error, SQLAlchemyError) as error:
            self._release()
            reason = getattr(error, "strerror", None) or getattr(error, "orig", None) or error
            raise ServiceError(
                f"The data folder {self._folder} cannot be used ({reason}); "
                "set KOLBO_DATA_DIR to another folder."
            ) from error
        except BaseException:
            self._release()
            raise

    def stop(self, *, at_once: bool = False) -> None:
        """Let running renders finish for a while, keep the rest for the next start, and close.

        Blocks, for under 10 s: that is what process managers grant before they kill.
        """
        self._closing.set()  # nothing is begun any more
        deadline = time.monotonic() + (0 if at_once else DRAIN_SECONDS)
        for ended in list(self._running.values()):
            ended.wait(timeout=max(0.0, deadline - time.monotonic()))
        self._stopping.set()
        for ended in list(self._running.values()):
            ended.wait(timeout=KILL_SECONDS)
        self._release()

    def _release(self) -> None:
        DBOS.destroy()
        _current.clear()
        if self._lock:
            self._lock.close()
        _one_a_process.release()

    def _sweep(self) -> None:
        """Remove inputs of generations that were never accepted or have ended."""
        for generation in self.storage.under(INPUTS):
            found = self.find(generation)
            if found is None or found.state in FINAL_STATES:
                self.storage.delete(f"{INPUTS}/{generation}")

    def submit(self, generation: str, job: dict[str, Any]) -> None:
        """Accept a generation; once this returns it will be worked on. `job` is plain JSON."""
        with SetWorkflowID(generation):
            own = {"file": secrets.token_hex(16), "created": time.time()}
            linked = job.get("source_url") or job.get("audio_url")
            DBOS.enqueue_workflow(LINKS if linked else QUEUE, _generation, job | own)

    def find(self, generation: str) -> Progress | None:
        """Where a generation stands, or None where there is none of that id."""
        status = DBOS.get_workflow_status(generation) if _ID.fullmatch(generation) else None
        return _progress(status) if status else None

    def cancel(self, generation: str) -> Progress | None:
        """Cancel what has not ended, and tell how it stands now; None for an unknown id."""
        if not _ID.fullmatch(generation) or not DBOS.get_workflow_status(generation):
            return None
        DBOS.cancel_workflow(generation)
        found = self.find(generation)
        if found and found.state == CANCELLED:
            # One that runs notices by itself and cleans up after itself again.
            self.discard(generation, found.file)
            observe.ended(generation, CANCELLED)
        return found

    def withdraw(self, generation: str) -> None:
        """Undo a start whose caller will not hear of it, accepted or not."""
        with contextlib.suppress(SQLAlchemyError):
            self.cancel(generation)
        self.discard(generation)

    def load(self) -> tuple[int, int]:
        """How many generations wait, and how many run."""
        found = DBOS.list_workflows(
            name="lipsync", status=["ENQUEUED", "PENDING"], load_input=False, load_output=False
        )
        waiting = sum(status.status == "ENQUEUED" for status in found)
        return waiting, len(found) - waiting

    def resume_postponed(self) -> None:
        """Take up again what should run here and does not. To be called now and then."""
        pending = DBOS.list_workflows(
            name="lipsync",
            status="PENDING",
            executor_id=self._executor,
            load_input=False,
            load_output=False,
        )
        missed = [row.workflow_id for row in pending if row.workflow_id not in self._running]
        # One that is just beginning, or whose end is just being written, is missed for a moment.
        self._missed = Counter({name: self._missed[name] + 1 for name in missed})
        for generation in missed:
            if self._missed[generation] >= MISSED_LOOKS and not self._closing.is_set():
                DBOS.resume_workflow(generation, queue_name=QUEUE)

    def discard(self, generation: str, file: str | None = None) -> None:
        """Remove a generation's inputs, and its results where `file` names them."""
        self.storage.delete(f"{INPUTS}/{generation}")
        if file:
            self.storage.delete(video_name(file))
            self.storage.delete(thumbnail_name(file))

    @contextlib.contextmanager
    def at_work(self, generation: str) -> Iterator[None]:
        """Mark work that `stop` waits for. Raises _StoppedError where none is begun any more."""
        if self._closing.is_set():
            raise _StoppedError
        ended = threading.Event()
        self._running[generation] = ended
        try:
            yield
        finally:
            self._running.pop(generation, None)
            ended.set()
            self.changed.set()

    @contextlib.contextmanager
    def slot(self, generation: str) -> Iterator[None]:
        """Wait for a turn to render, and have it. Also returns when it is not wanted any more."""
        while not self._slots.acquire(timeout=SLOT_SECONDS):
            if self._closing.is_set():
                raise _StoppedError
            if not self.wanted(generation):
                yield
                return
        try:
            yield
        finally:
            self._slots.release()

    def wanted(self, generation: str) -> bool:
        """Whether to go on with a generation. Raises _StoppedError when the process goes down."""
        if self._stopping.is_set():
            raise _StoppedError
        try:
            status = DBOS.get_workflow_status(generation)
        except SQLAlchemyError:  # nobody can have cancelled it then
            return True
        return status is not None and status.status != "CANCELLED"


# dbos finds workflows by name in a registry of the process, hence functions, not methods.

_one_a_process = threading.Lock()
_current: list[Jobs] = []  # one while it runs


def _jobs() -> Jobs:
    if not _current:
        raise _StoppedError
    return _current[0]


@DBOS.workflow(name="lipsync", max_recovery_attempts=MAX_ATTEMPTS)
def _generation(job: dict[str, Any]) -> dict[str, Any]:
    with logs.about(str(DBOS.workflow_id)):
        observe.begun(time.time() - job["created"])
        return _carried_out(job)


def _carried_out(job: dict[str, Any]) -> dict[str, Any]:
    jobs, generation = _jobs(), str(DBOS.workflow_id)
    try:
        with jobs.at_work(generation), patient(generation):
            outcome = _fetch(job) or _render(job)
    except Exception:  # a bug: dbos records it as the outcome
        jobs.discard(generation, job["file"])
        observe.ended(generation, FAILED, _LOST.code)
        raise
    except PostponedError:
        raise
    except BaseException:  # cancelled, as dbos tells it, or the process goes down
        with contextlib.suppress(_StoppedError):
            if not jobs.wanted(generation):
                jobs.discard(generation, job["file"])
        raise
    jobs.discard(generation, None if "made" in outcome else job["file"])
    if outcome:  # else it was cancelled, which is told where that was done
        observe.ended(
            generation,
            COMPLETED if "made" in outcome else FAILED,
            outcome.get("failure", {}).get("code"),
        )
    return outcome


@DBOS.step(name="fetch")
def _fetch(job: dict[str, Any]) -> dict[str, Any]:
    """Bring linked files here. Returns a failure, or nothing."""
    jobs, generation = _jobs(), str(DBOS.workflow_id)
    for field in ("source", "audio"):
        if link := job.get(f"{field}_url"):
            try:
                with (
                    patient(generation),
                    observe.stage("fetch"),
                    jobs.storage.create(input_name(generation, field)) as file,
                ):
                    fetch.fetch(link, field, file, jobs.policy, lambda: jobs.wanted(generation))
                    observe.moved("fetched", file.tell())
            except JobError as error:
                return {"failure": error.failure.model_dump()}
    return {}


@DBOS.step(name="render")
def _render(job: dict[str, Any]) -> dict[str, Any]:
    """Make the video. Returns `made`, `failure`, or nothing when it was cancelled."""
    jobs, generation, file = _jobs(), str(DBOS.workflow_id), job["file"]
    storage = jobs.storage
    told = _percent(generation)
    due = 0.0

    def on_progress(done: int, total: int) -> None:
        nonlocal told, due
        percent = min(99, 100 * done // max(1, total))
        # After a restart the work begins again: what was told stays until it is passed.
        if percent > told and time.monotonic() >= due:
            with contextlib.suppress(SQLAlchemyError):  # the render goes on untold
                DBOS.set_event("progress", percent)
            told, due = percent, time.monotonic() + PROGRESS_SECONDS

    try:
        with (
            jobs.slot(generation),
            patient(generation),
            storage.workspace(generation) as folder,
        ):
            task = process.Task(
                source=str(storage.bring(input_name(generation, "source"), folder)),
                audio=str(storage.bring(input_name(generation, "audio"), folder)),
                video=str(folder / "video.mp4"),
                thumbnail=str(folder / "thumbnail.jpg"),
                face=job["face"],
                model=job["model"],
                prompt=job.get("prompt"),
                mark=job.get("mark", False),
                workers=_share(jobs.concurrency),
            )
            with observe.stage("render"):
                made = process.run(task, on_progress, lambda: jobs.wanted(generation))
            if made is None:
                return {}
            observe.moved("made", Path(task.video).stat().st_size)
            with observe.stage("store"):
                storage.publish(folder / "video.mp4", video_name(file))
                storage.publish(folder / "thumbnail.jpg", thumbnail_name(file))
    except JobError as error:
        return {"failure": error.failure.model_dump()}
    return {"made": made}


def _percent(generation: str) -> int:
    return int(DBOS.get_all_events(generation).get("progress", 0))


def _progress(status: WorkflowStatus) -> Progress:
    job = status.input["args"][0] if status.input else {}
    outcome = status.output if status.status == "SUCCESS" and status.output else {}
    state, failure = _STATES.get(status.status, PROCESSING), None
    if state == FAILED or (state == COMPLETED and "made" not in outcome):
        state, failure = FAILED, Failure.model_validate(outcome.get("failure") or _LOST)
    return Progress(
        id=status.workflow_id,
        state=state,
        percent=100 if state == COMPLETED else _percent(status.workflow_id),
        created=job.get("created", 0.0),
        file=job.get("file"),
        made=outcome.get("made"),
        failure=failure,
    )
