"""Generations as durable workflows, which survive a crash of the process.

dbos stores each generation as a database row: its input before the caller gets an id, its progress
and its outcome. Unfinished generations are resumed by the next process on the same SQLite file, or
by another on the same PostgreSQL, which also shares the segments of long ones. dbos exists once per
process, hence one running `JobQueue` per process.
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
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path

from dbos import DBOS, SetEnqueueOptions, SetWorkflowID
from sqlalchemy import Engine
from sqlalchemy.exc import SQLAlchemyError

from kolbo_demo import engine, private_folder
from kolbo_demo.contract import CANCELLED, FINAL_STATES
from kolbo_demo.credentials import CredentialsError
from kolbo_demo.credentials.signing import Signer
from kolbo_demo.process.child import SINGLE_THREAD_ENV
from kolbo_demo.process.fork_server import ForkServer
from kolbo_demo.service import database, fair_queue, fetch, metrics, queues, render_pool
from kolbo_demo.service.cluster.heartbeat import Heartbeat
from kolbo_demo.service.errors import ServiceError
from kolbo_demo.service.jobs import Job
from kolbo_demo.service.progress import Progress, Workflows, is_id
from kolbo_demo.service.storage.files import INPUTS, Storage
from kolbo_demo.service.workflows import context, generation
from kolbo_demo.service.workflows.context import WorkflowContext
from kolbo_demo.service.workflows.render_slots import RenderSlots
from kolbo_demo.service.workflows.resume import Resumer
from kolbo_demo.settings import Settings

SPARE_SLOTS = 2
"""Render slots beyond `default_concurrency`, each for a caller with no running render."""
DRAIN_TIMEOUT_SECONDS = 6.5
"""For running workflows to finish when the process stops."""
KILL_TIMEOUT_SECONDS = 1.0
"""For the rest to be killed."""
_process_lock = threading.Lock()
"""Held by the running queue of this process."""


class JobQueue:
    """The queue of generations and the files they use."""

    def __init__(
        self, settings: Settings, *, renders: bool = True, server: ForkServer | None = None
    ) -> None:
        """`renders`: this process also renders what it accepts. `server` is a fork server of
        `render_pool` that may be loading already; it is closed with the queue."""
        self._folder = settings.data_dir.expanduser().absolute()
        self._url = settings.database_url
        self._renders = renders or not self._url
        self._process_folder = self._folder
        self._executor = "local"
        storage_url = settings.storage_url
        if self._url:
            # The host name is for people who read the database; the rest makes it unique.
            host = re.sub(r"[^0-9A-Za-z-]", "-", socket.gethostname())
            self._executor = f"{host}-{os.getpid()}-{secrets.token_hex(4)}"
            self._process_folder = self._folder / "processes" / self._executor
            storage_url = storage_url or str(self._folder)
        self.storage = Storage(self._process_folder, storage_url)
        self.policy = fetch.Policy(allow_hosts=settings.fetch_allow_hosts)
        # Each process of a cluster has one core, one generation and one spare slot.
        self.concurrency = 1 if self._url else queues.default_concurrency()
        self.spare_slots = 1 if self._url else SPARE_SLOTS
        self._loading = server
        server = server or render_pool.new_fork_server(SINGLE_THREAD_ENV if self._url else None)
        self._render_pool = render_pool.RenderPool(server, self.storage.generation_folder)
        try:
            self._signer = Signer(settings)
        except CredentialsError as error:
            raise ServiceError(str(error)) from error
        self._pausing = threading.Lock()
        self.paused = False
        """Whether dbos is stopped; see `pause`."""
        self.workflows: Workflows = DBOS
        """For reading workflows, even while dbos is stopped."""
        self._resumer = Resumer(self._executor)
        self._context = self._new_context()
        self._folder_lock: sqlite3.Connection | None = None
        self._heartbeat: Heartbeat | None = None
        self._database: Engine | None = None

    def _new_context(self) -> WorkflowContext:
        return WorkflowContext(
            self.storage,
            self.policy,
            self._render_pool,
            RenderSlots(self.concurrency, self.spare_slots),
            self._signer,
            cores=1 if self._url else max(1, (os.cpu_count() or 2) // self.concurrency),
            shared=self.shared,
        )

    @property
    def workflow_ended(self) -> threading.Event:
        """Set when a workflow of this process ends."""
        return self._context.workflow_ended

    @property
    def shared(self) -> bool:
        """Whether other processes work on the same queue."""
        return self._url is not None

    @property
    def database_file(self) -> Path | None:
        """The SQLite file; None with PostgreSQL."""
        return None if self._url else self._folder / "jobs.sqlite"

    def engine_problem(self) -> str | None:
        """Why this process cannot render what it accepts, if it has to."""
        if not self._renders:
            return None
        return (
            render_pool.engine_problem(self._loading)
            if self._loading
            else engine.unavailable_reason()
        )

    def workers(self) -> int:
        """Concurrent renders, of all processes. Raises SQLAlchemyError."""
        return self._heartbeat.workers() if self._heartbeat else self.concurrency

    def start(self) -> None:
        """Launch dbos and resume unfinished generations. Raises ServiceError. Blocks."""
        if not _process_lock.acquire(blocking=False):
            raise ServiceError("A local service runs in this process already; stop that one first.")
        try:
            self._context = self._new_context()
            private_folder.try_create(self._folder)
            self._folder_lock = database.lock_folder(self._process_folder)
            self.storage.prepare()
            context.set_current(self._context)
            self._launch()
            self._delete_unused_inputs()
        except SQLAlchemyError as error:
            self._release()
            if not self._url:
                raise self._folder_error(error) from error
            reason = str(getattr(error, "orig", None) or error).partition("\n")[0]
            raise ServiceError(
                f"The database cannot be used ({reason}); check KOLBO_DATABASE_URL."
            ) from error
        except (OSError, sqlite3.Error) as error:
            self._release()
            raise self._folder_error(error) from error
        except BaseException:
            self._release()
            raise

    def _folder_error(self, error: Exception) -> ServiceError:
        reason = getattr(error, "strerror", None) or getattr(error, "orig", None) or error
        return ServiceError(
            f"The data folder {self._folder} cannot be used ({reason}); "
            "set KOLBO_DATA_DIR to another folder."
        )

    def _launch(self) -> None:
        if self._url:
            url = database.postgres_url(self._url.get_secret_value())
            database.delete_dead_folders(self._process_folder.parent)
            database.launch_dbos(url, self._executor, polls=self._renders)
            self._heartbeat = Heartbeat(url, self._executor, self._renders)
            self._heartbeat.start()
            self._database = database.create_engine(url)
            queues.register(DBOS.register_queue, self.concurrency, self.spare_slots, shared=True)
            if self._renders:
                self._render_pool.refill()  # a worker needs its memory for nothing else
        else:
            url = database.sqlite_url(self._folder)
            self._database = database.create_engine(url)
            self.workflows = database.read_client(self._database)
            # Before the launch: dbos notices new queues only a second later.
            with database.setup_client(url) as client:
                queues.register(
                    client.register_queue, self.concurrency, self.spare_slots, shared=False
                )
            database.launch_dbos(url, self._executor)

    @contextlib.contextmanager
    def _running(self) -> Iterator[None]:
        """Keep dbos running in the block. Raises SQLAlchemyError."""
        with self._pausing:
            if self.paused:
                assert self._database
                database.launch_dbos(self._database.url, self._executor)
                self.paused = False
            yield

    def pause(self) -> None:
        """Stop dbos until the next write, if nothing is queued or running and no other process
        submits: its threads poll the database several times a second. Raises SQLAlchemyError."""
        with self._pausing:
            if not (self.shared or self.paused or self._context.running or any(self.load())):
                self.paused = True
                DBOS.destroy()

    def stop(self, *, at_once: bool = False) -> None:
        """Let running renders finish for a while, leave the rest to the next start, and close.

        Blocks for less than 10 s, after which process managers kill.
        """
        self._context.drain(0 if at_once else DRAIN_TIMEOUT_SECONDS, KILL_TIMEOUT_SECONDS)
        self._release()

    def _release(self) -> None:
        if self._heartbeat:
            self._heartbeat.stop()
        with self._pausing:
            self.paused = False
            DBOS.destroy()
        if self._database:
            self._database.dispose()
            self._database, self.workflows = None, DBOS
        self._render_pool.close()
        if self._heartbeat:
            self._heartbeat.leave()
            self._heartbeat = None
        context.set_current(None)
        if self._folder_lock:
            self._folder_lock.close()
            if self.shared:
                shutil.rmtree(self._process_folder, ignore_errors=True)
        _process_lock.release()

    def _delete_unused_inputs(self) -> None:
        """Delete inputs of generations that were never accepted or have ended."""
        for generation_id in self.storage.list_children(INPUTS):
            found = self.find(generation_id)
            # With other processes, one may be about to accept it.
            if found.state in FINAL_STATES if found else not self.shared:
                self.discard(generation_id)

    def submit(self, generation_id: str, job: Job, caller: str = "owner") -> None:
        """Accept a generation: it is durable once this returns. Callers are served in rotation.
        Raises SQLAlchemyError."""
        assert self._database
        queue = queues.FETCHES if job.source_url or job.audio_url else context.GENERATIONS
        accepted = {"file_stem": secrets.token_hex(16), "created": time.time(), "caller": caller}
        with self._running():  # one at a time, as no two generations of a caller share a turn
            turn = fair_queue.next_turn(self._database, caller)
            job = replace(job, **accepted, turn=turn)
            with (
                SetWorkflowID(generation_id),
                SetEnqueueOptions(priority=turn, queue_partition_key=caller),
            ):
                DBOS.enqueue_workflow(queue, generation.run, job.to_json())

    def unfinished(self, caller: str) -> int:
        """Number of a caller's queued and running generations. Raises SQLAlchemyError."""
        assert self._database
        return fair_queue.unfinished(self._database, caller)

    def find(self, generation_id: str) -> Progress | None:
        """Progress of a generation, or None for an unknown id. Raises SQLAlchemyError."""
        return self.find_all([generation_id]).get(generation_id)

    def find_all(self, generation_ids: Iterable[str]) -> dict[str, Progress]:
        """Progress by id, without unknown ids. Raises SQLAlchemyError."""
        ids = [generation_id for generation_id in generation_ids if is_id(generation_id)]
        found = self.workflows.list_workflows(workflow_ids=ids) if ids else []
        return {status.workflow_id: Progress.of(status, self.workflows) for status in found}

    def cancel(self, generation_id: str) -> Progress | None:
        """Cancel a generation unless it has ended, and return its progress; None for an unknown
        id."""
        if not self.find(generation_id):
            return None
        with self._running():
            DBOS.cancel_workflow(generation_id, cancel_children=self.shared)
        found = self.find(generation_id)
        if found and found.state == CANCELLED:
            # A running one notices within seconds, and deletes its files once more.
            self.discard(generation_id, found.job.file_stem)
            metrics.ended(generation_id, CANCELLED)
        return found

    def withdraw(self, generation_id: str) -> None:
        """Undo a start that is not reported to its caller, accepted or not."""
        with contextlib.suppress(SQLAlchemyError):
            self.cancel(generation_id)
        self.discard(generation_id)

    def delete(self, generation_id: str) -> None:
        """Delete the rows of an ended generation."""
        with self._running():
            DBOS.delete_workflows([generation_id], delete_children=True)

    def load(self) -> tuple[int, int]:
        """Number of queued and of running generations. Raises SQLAlchemyError."""
        assert self._database
        return database.count_unfinished(self._database, context.GENERATIONS)

    def fill_spare_slots(self) -> None:
        """Give free spare slots to callers with nothing running. To be called about once a second.
        Raises SQLAlchemyError."""
        assert self._database
        processes = self.workers() if self.shared else 1
        fair_queue.fill_spare_slots(
            self._database, self.concurrency * processes, self.spare_slots * processes
        )

    def resume_postponed(self) -> None:
        """Resume workflows that this process holds and does not run. To be called periodically."""
        if not self._context.closing:
            self._resumer.check(self._context.running)

    def discard(self, generation_id: str, file_stem: str | None = None) -> None:
        """Delete a generation's inputs, and its results if `file_stem` names them."""
        self._context.discard(generation_id, file_stem)
