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
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dbos import DBOS, DBOSClient, Queue, SetEnqueueOptions, SetWorkflowID, WorkflowStatus
from sqlalchemy import Engine
from sqlalchemy.exc import SQLAlchemyError

from kolbo_demo import engine, private_folder
from kolbo_demo.contract import CANCELLED, COMPLETED, FAILED, FINAL_STATES, PROCESSING, Failure
from kolbo_demo.process.child import SINGLE_THREAD_ENV
from kolbo_demo.process.fork_server import ForkServer
from kolbo_demo.service import database, fair_queue, fetch, metrics, render_pool
from kolbo_demo.service.cluster.heartbeat import Fleet
from kolbo_demo.service.errors import ServiceError
from kolbo_demo.service.storage.files import INPUTS, Storage
from kolbo_demo.service.workflows import context, segments
from kolbo_demo.service.workflows import generation as making
from kolbo_demo.service.workflows.context import WorkflowContext
from kolbo_demo.service.workflows.render_slots import RenderSlots
from kolbo_demo.settings import Settings

FETCHES = "fetches"
"""Queue of generations with links to fetch, partitioned by caller: a slow link delays no render."""
LINKS = "links"
"""Its unpartitioned predecessor, drained after an upgrade."""
MAX_FETCHES = 16
"""Generations that fetch, or wait for their render after it, at a time,"""
FETCHES_OF_ONE = 4
"""and those of one caller among them."""
SPARE = 2
"""Render slots beyond `default_concurrency`, each for a caller with no running render."""
MISSED_LOOKS = 3
DRAIN_SECONDS = 6.5
"""What runs when the process is told to stop may finish within so long."""
KILL_SECONDS = 1.0
"""For the rest to die."""
POLL_SECONDS = 0.25
"""How often a process looks for uploads to render. Each look takes some 4 ms of a processor."""
OLD_POLL_SECONDS = 5.0
"""Polling interval of `LINKS`."""
RARE_POLL_SECONDS = 0.5
"""How often for links to fetch, which takes longer anyway; and for anything where many processes
ask one server."""
_ID = re.compile(r"lip_[0-9a-f]{20}")
_STATES = {"SUCCESS": COMPLETED, "CANCELLED": CANCELLED, "ERROR": FAILED}
_STATES["MAX_RECOVERY_ATTEMPTS_EXCEEDED"] = FAILED


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

    def __init__(
        self, settings: Settings, *, renders: bool = True, server: ForkServer | None = None
    ) -> None:
        """`renders` says whether this process also does the work, or only takes it. `server` is one
        of `process.renderers` that may be loading already; it ends with the jobs."""
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
        # Of many processes each has one core.
        self._loading = server
        server = server or render_pool.renderers(SINGLE_THREAD_ENV if self._url else None)
        self.ready = render_pool.Ready(server, self.storage.room)
        # With many processes, one spare place in each is enough.
        self.spare = 1 if self._url else SPARE
        self._waking = threading.Lock()
        self.resting = False
        """Whether dbos does not run; see `rest`."""
        self.rows: type[DBOS] | DBOSClient = DBOS
        """For reading workflows, even while dbos rests."""
        self._missed: Counter[str] = Counter()
        self._context = self._new_context()
        self._lock: sqlite3.Connection | None = None
        self._fleet: Fleet | None = None
        self._reader: Engine | None = None

    def _new_context(self) -> WorkflowContext:
        return WorkflowContext(
            self.storage,
            self.policy,
            self.ready,
            RenderSlots(self.concurrency, self.spare),
            cores=self.cores,
            shared=self.shared,
        )

    @property
    def changed(self) -> threading.Event:
        """Set when a workflow ends here."""
        return self._context.changed

    def problem(self) -> str | None:
        """Why this process could not render what it accepts; None where it can, or need not."""
        if not self._renders:
            return None
        return render_pool.problem(self._loading) if self._loading else engine.unavailable_reason()

    def workers(self) -> int:
        """Renders side by side that there is room for. Raises SQLAlchemyError."""
        return self._fleet.workers() if self._fleet else self.concurrency

    @property
    def shared(self) -> bool:
        """Whether other processes work on the same queue."""
        return self._url is not None

    @property
    def database_file(self) -> Path | None:
        """The SQLite file, where there is one."""
        return None if self._url else self._folder / "jobs.sqlite"

    def start(self) -> None:
        """Launch dbos and take up unfinished generations. Raises ServiceError. Blocks."""
        if not _one_a_process.acquire(blocking=False):
            raise ServiceError("A local service runs in this process already; stop that one first.")
        try:
            self._context = self._new_context()
            private_folder.try_create(self._folder)
            self._lock = database.lock(self._own)
            self.storage.prepare()
            context.enter(self._context)
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
            self._reader = database.connections(url)
            database.launch(url, self._executor, listens=self._renders)
            self._fleet = Fleet(url, self._executor, self._renders)
            self._fleet.start()
            self._register_queues(DBOS.register_queue)
            if self._renders:
                self.ready.refill()  # a worker has nothing else to keep memory for
        else:
            url = database.file(self._folder)
            self._reader = database.connections(url)
            self.rows = database.client(self._reader)
            # Before dbos starts, which would notice new queues only a second later.
            with database.setup(url) as setup:
                self._register_queues(setup.register_queue)
            database.launch(url, self._executor)

    @contextlib.contextmanager
    def awake(self) -> Iterator[None]:
        """Keep dbos running within the block, and start it if it rests. Raises SQLAlchemyError."""
        with self._waking:
            if self.resting:
                assert self._reader
                database.launch(self._reader.url, self._executor)
                self.resting = False
            yield

    def rest(self) -> None:
        """Stop dbos until the next `awake`, if nothing waits or runs and no other process submits:
        its threads ask the database several times a second. Raises SQLAlchemyError."""
        with self._waking:
            if not (self.shared or self.resting or self._context.running or any(self.load())):
                self.resting = True
                DBOS.destroy()

    def _register_queues(self, register: Callable[..., Queue]) -> None:
        def queue(name: str, most: int, seconds: float, of_one: int | None = None) -> None:
            register(
                name,
                worker_concurrency=most,
                partition_worker_concurrency=of_one,
                polling_interval_sec=seconds,
            )

        often = RARE_POLL_SECONDS if self.shared else POLL_SECONDS
        # Other processes cannot use files that this one has fetched, so it fetches few ahead.
        fetches = self.concurrency + 1 if self.shared else MAX_FETCHES
        queue(context.GENERATIONS, self.concurrency, often)
        queue(fair_queue.NEXT, self.spare, RARE_POLL_SECONDS)
        queue(FETCHES, fetches, RARE_POLL_SECONDS, 1 if self.shared else FETCHES_OF_ONE)
        queue(LINKS, 1, OLD_POLL_SECONDS)
        if self.shared:
            queue(segments.QUEUE, self.concurrency, often)

    def stop(self, *, at_once: bool = False) -> None:
        """Let running renders finish for a while, keep the rest for the next start, and close.

        Blocks, for under 10 s: that is what process managers grant before they kill.
        """
        self._context.drain(0 if at_once else DRAIN_SECONDS, KILL_SECONDS)
        self._release()

    def _release(self) -> None:
        if self._fleet:
            self._fleet.stop()
        with self._waking:
            self.resting = False
            DBOS.destroy()
        if self._reader:
            self._reader.dispose()
            self._reader, self.rows = None, DBOS
        self.ready.close()
        if self._fleet:
            self._fleet.leave()
            self._fleet = None
        context.enter(None)
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

    def submit(self, generation: str, job: dict[str, Any], caller: str = "owner") -> None:
        """Accept a generation; once this returns it will be worked on. `job` is plain JSON;
        `caller` takes turns with other callers."""
        assert self._reader
        queue = FETCHES if job.get("source_url") or job.get("audio_url") else context.GENERATIONS
        own = {"file": secrets.token_hex(16), "created": time.time(), "caller": caller}
        with self.awake():  # in which no two generations of a caller share a turn
            turn = fair_queue.standing(self._reader, caller).turn
            with (
                SetWorkflowID(generation),
                SetEnqueueOptions(priority=turn, queue_partition_key=caller),
            ):
                DBOS.enqueue_workflow(queue, making.run, job | own | {"turn": turn})

    def unfinished(self, caller: str) -> int:
        """Number of a caller's generations that wait or run. Raises SQLAlchemyError."""
        assert self._reader
        return fair_queue.standing(self._reader, caller).unfinished

    def find(self, generation: str) -> Progress | None:
        """Where a generation stands, or None where there is none of that id."""
        return self.find_all([generation]).get(generation)

    def find_all(self, generations: Iterable[str]) -> dict[str, Progress]:
        """Where generations stand, by their ids; what there is not is left out."""
        ids = [generation for generation in generations if _ID.fullmatch(generation)]
        found = self.rows.list_workflows(workflow_ids=ids) if ids else []
        return {status.workflow_id: _progress(status) for status in found}

    def cancel(self, generation: str) -> Progress | None:
        """Cancel what has not ended, and tell how it stands now; None for an unknown id."""
        if not self.find(generation):
            return None
        with self.awake():
            DBOS.cancel_workflow(generation, cancel_children=self.shared)
        found = self.find(generation)
        if found and found.state == CANCELLED:
            # One that runs notices by itself and cleans up after itself again.
            self.discard(generation, found.file)
            metrics.ended(generation, CANCELLED)
        return found

    def forget(self, generation: str) -> None:
        """Remove the rows of a generation that has ended."""
        with self.awake():
            DBOS.delete_workflows([generation], delete_children=True)

    def withdraw(self, generation: str) -> None:
        """Undo a start whose caller will not hear of it, accepted or not."""
        with contextlib.suppress(SQLAlchemyError):
            self.cancel(generation)
        self.discard(generation)

    def load(self) -> tuple[int, int]:
        """How many generations wait, and how many run. Raises SQLAlchemyError."""
        assert self._reader
        return database.under_way(self._reader, context.GENERATIONS)

    def bring_forward(self) -> None:
        """Give free spare places to callers with nothing under way. To be called every second or
        so. Raises SQLAlchemyError."""
        assert self._reader
        processes = self.workers() if self.shared else 1
        fair_queue.bring_forward(self._reader, self.concurrency * processes, self.spare * processes)

    def resume_postponed(self) -> None:
        """Take up again what should run here and does not. To be called now and then."""
        pending = DBOS.list_workflows(
            name=[context.GENERATIONS, segments.NAME],
            status="PENDING",
            executor_id=self._executor,
            load_input=False,
            load_output=False,
        )
        missed = [
            row.workflow_id for row in pending if row.workflow_id not in self._context.running
        ]
        # One that is just beginning, or whose end is just being written, is missed for a moment.
        self._missed = Counter({name: self._missed[name] + 1 for name in missed})
        for row in pending:
            if self._missed[row.workflow_id] >= MISSED_LOOKS and not self._context.closing:
                DBOS.resume_workflow(
                    row.workflow_id, queue_name=row.queue_name or context.GENERATIONS
                )

    def discard(self, generation: str, file: str | None = None) -> None:
        """Remove a generation's inputs, and its results if `file` names them."""
        self._context.discard(generation, file)


_one_a_process = threading.Lock()


def _progress(status: WorkflowStatus) -> Progress:
    job = status.input["args"][0] if status.input else {}
    outcome = status.output if status.status == "SUCCESS" and status.output else {}
    state, failure = _STATES.get(status.status, PROCESSING), None
    if state == FAILED or (state == COMPLETED and "made" not in outcome):
        state, failure = FAILED, Failure.model_validate(outcome.get("failure") or context.LOST)
    return Progress(
        id=status.workflow_id,
        state=state,
        percent=100 if state == COMPLETED else making.percent(status.workflow_id),
        created=job.get("created", 0.0),
        file=job.get("file"),
        made=outcome.get("made"),
        failure=failure,
    )
