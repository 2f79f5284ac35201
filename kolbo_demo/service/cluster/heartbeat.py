"""Heartbeats of the processes that share one PostgreSQL, and takeover from dead ones.

A process is presumed dead after HEARTBEAT_TIMEOUT_SECONDS without a heartbeat. The first process
that notices returns its workflows to their queues. A process that was only cut off loses nothing
but its work: dbos records no step and no outcome of a process that no longer holds the workflow,
and `workflows.context.watch` ends its renders.
"""

import logging
import threading
from datetime import timedelta

import sqlalchemy as sa
from dbos import DBOS
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.exc import SQLAlchemyError

from kolbo_demo import logs
from kolbo_demo.service import database

HEARTBEAT_INTERVAL_SECONDS = 2.0
HEARTBEAT_TIMEOUT_SECONDS = 8.0
FORGET_TIMEOUT_SECONDS = 600.0
"""For so long a dead process is checked again: its last act may have been to begin a workflow."""
TAKEOVERS = "takeovers"
"""Attribute of a workflow: the number of its takeovers."""
_CREATE_TABLE_LOCK = 0x6B6F6C62
"""Number of the advisory lock under which the table is created."""

_log = logging.getLogger(__name__)

_processes = sa.Table(
    "kolbo_processes",
    sa.MetaData(),
    sa.Column("executor", sa.Text, primary_key=True),
    sa.Column("renders", sa.Boolean, nullable=False),
    sa.Column("seen", sa.DateTime(timezone=True), nullable=False),
    sa.Column("looked", sa.DateTime(timezone=True), nullable=False),
)
"""`seen` is the last heartbeat, `looked` the last takeover of the process's work, both by the
database's clock."""


class Heartbeat:
    """Sends this process's heartbeats and takes over the work of dead processes."""

    def __init__(self, url: sa.URL, executor: str, renders: bool) -> None:
        self._executor, self._renders = executor, renders
        self._engine = database.create_engine(url, pool_size=2)
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="heartbeat", daemon=True)

    def start(self) -> None:
        """Send the first heartbeat and start the thread. Raises SQLAlchemyError."""
        with self._engine.begin() as connection:
            connection.execute(sa.select(sa.func.pg_advisory_xact_lock(_CREATE_TABLE_LOCK)))
            _processes.metadata.create_all(connection)
        self._send()
        self._thread.start()

    def stop(self) -> None:
        """Stop heartbeats and takeovers. Blocks."""
        self._stopped.set()
        if self._thread.is_alive():
            self._thread.join()

    def leave(self) -> None:
        """Let other processes take over at once what this one has begun. Blocks."""
        try:
            with self._engine.begin() as connection:
                expired = sa.func.now() - timedelta(seconds=HEARTBEAT_TIMEOUT_SECONDS)
                own = _processes.c.executor == self._executor
                connection.execute(sa.update(_processes).where(own).values(seen=expired))
        except SQLAlchemyError as error:
            logs.event(_log, "sign-off failed", logging.WARNING, error=type(error).__name__)
        self._engine.dispose()

    def workers(self) -> int:
        """Number of live processes that render. Raises SQLAlchemyError."""
        with self._engine.connect() as connection:
            live = _processes.c.seen > sa.func.now() - timedelta(seconds=HEARTBEAT_TIMEOUT_SECONDS)
            count = sa.select(sa.func.count()).where(live, _processes.c.renders)
            return connection.execute(count).scalar_one()

    def _run(self) -> None:
        while not self._stopped.wait(HEARTBEAT_INTERVAL_SECONDS):
            try:
                self._send()
                self._take_over()
            except Exception as error:  # noqa: BLE001 - the next heartbeat follows in any case
                logs.event(_log, "heartbeat failed", logging.WARNING, error=type(error).__name__)

    def _send(self) -> None:
        now = sa.func.now()
        own = {"executor": self._executor, "renders": self._renders}
        upsert = insert(_processes).values(**own, seen=now, looked=now)
        with self._engine.begin() as connection:
            connection.execute(
                upsert.on_conflict_do_update(index_elements=["executor"], set_={"seen": now})
            )

    def _take_over(self) -> None:
        now, seen, looked = sa.func.now(), _processes.c.seen, _processes.c.looked
        dead = (
            sa.select(_processes.c.executor)
            .where(seen <= now - timedelta(seconds=HEARTBEAT_TIMEOUT_SECONDS))
            .where(
                (looked <= seen) | (looked <= now - timedelta(seconds=HEARTBEAT_INTERVAL_SECONDS))
            )
            .with_for_update(skip_locked=True)  # one process at a time takes over from a dead one
        )
        with self._engine.begin() as connection:
            for executor in connection.execute(dead).scalars().all():
                resume_all(executor)
                row = _processes.c.executor == executor
                connection.execute(sa.update(_processes).where(row).values(looked=now))
            forgotten = seen < now - timedelta(seconds=FORGET_TIMEOUT_SECONDS)
            connection.execute(sa.delete(_processes).where(forgotten))


def resume_all(executor: str) -> None:
    """Return the workflows of a dead process to their queues."""
    pending = DBOS.list_workflows(
        executor_id=executor, status="PENDING", load_input=False, load_output=False
    )
    for workflow in pending:
        # dbos counts attempts anew after a resume, so takeovers are counted here.
        takeovers = (workflow.attributes or {}).get(TAKEOVERS, 0) + 1
        DBOS.update_workflow_attributes(workflow.workflow_id, {TAKEOVERS: takeovers}, merge=True)
        DBOS.resume_workflow(workflow.workflow_id, queue_name=workflow.queue_name)
        logs.event(
            _log, "taken over", logging.WARNING, workflow=workflow.workflow_id, executor=executor
        )
