"""Processes that share one PostgreSQL: who is alive, and taking over from who is not.

Each process tells the database every BEAT_SECONDS that it lives. Who has not told for LOST_SECONDS
is taken for dead, and whoever notices first puts its workflows back into their queues. One that was
only cut off loses nothing but its work: dbos records no step and no outcome of a process that no
longer holds the workflow, and `running.watch` ends its renders.
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

BEAT_SECONDS = 2.0
LOST_SECONDS = 8.0
FORGET_SECONDS = 600.0
"""So long a dead process is looked at again: its last act may have been to begin something."""
TAKEOVERS = "takeovers"
"""Attribute of a workflow: how often it was taken over."""
_LOCK = 0x6B6F6C62
"""Number of the advisory lock under which the table is made."""

_log = logging.getLogger(__name__)

_processes = sa.Table(
    "kolbo_processes",
    sa.MetaData(),
    sa.Column("executor", sa.Text, primary_key=True),
    sa.Column("renders", sa.Boolean, nullable=False),
    sa.Column("seen", sa.DateTime(timezone=True), nullable=False),
    sa.Column("looked", sa.DateTime(timezone=True), nullable=False),
)
"""`seen` is when a process told last that it lives, `looked` when another last looked for work that
it has left, both by the database's clock."""


class Fleet:
    """This process among those of one database."""

    def __init__(self, url: sa.URL, executor: str, renders: bool) -> None:
        self._executor, self._renders = executor, renders
        self._engine = database.connections(url, 2)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="fleet", daemon=True)

    def start(self) -> None:
        """Join. Raises SQLAlchemyError."""
        with self._engine.begin() as connection:
            connection.execute(sa.select(sa.func.pg_advisory_xact_lock(_LOCK)))
            _processes.metadata.create_all(connection)
        self._beat()
        self._thread.start()

    def stop(self) -> None:
        """Tell no more, and take nothing over. Blocks."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join()

    def leave(self) -> None:
        """Let others take over at once what this process has begun. Blocks."""
        try:
            with self._engine.begin() as connection:
                gone = sa.func.now() - timedelta(seconds=LOST_SECONDS)
                mine = _processes.c.executor == self._executor
                connection.execute(sa.update(_processes).where(mine).values(seen=gone))
        except SQLAlchemyError as error:
            logs.event(_log, "left without a word", logging.WARNING, error=type(error).__name__)
        self._engine.dispose()

    def workers(self) -> int:
        """Living processes that render. Raises SQLAlchemyError."""
        with self._engine.connect() as connection:
            living = _processes.c.seen > sa.func.now() - timedelta(seconds=LOST_SECONDS)
            count = sa.select(sa.func.count()).where(living, _processes.c.renders)
            return connection.execute(count).scalar_one()

    def _run(self) -> None:
        while not self._stop.wait(BEAT_SECONDS):
            try:
                self._beat()
                self._take_over()
            except Exception as error:  # noqa: BLE001 - whatever it is, the next beat tries again
                logs.event(_log, "beat failed", logging.WARNING, error=type(error).__name__)

    def _beat(self) -> None:
        now = sa.func.now()
        mine = {"executor": self._executor, "renders": self._renders}
        alive = insert(_processes).values(**mine, seen=now, looked=now)
        with self._engine.begin() as connection:
            connection.execute(
                alive.on_conflict_do_update(index_elements=["executor"], set_={"seen": now})
            )

    def _take_over(self) -> None:
        now, seen, looked = sa.func.now(), _processes.c.seen, _processes.c.looked
        dead = (
            sa.select(_processes.c.executor)
            .where(seen <= now - timedelta(seconds=LOST_SECONDS))
            .where((looked <= seen) | (looked <= now - timedelta(seconds=BEAT_SECONDS)))
            .with_for_update(skip_locked=True)  # one process at a time looks after a dead one
        )
        with self._engine.begin() as connection:
            for executor in connection.execute(dead).scalars().all():
                resume_all(executor)
                row = _processes.c.executor == executor
                connection.execute(sa.update(_processes).where(row).values(looked=now))
            forgotten = seen < now - timedelta(seconds=FORGET_SECONDS)
            connection.execute(sa.delete(_processes).where(forgotten))


def resume_all(executor: str) -> None:
    """Put what a dead process has begun back into the queues that it came from."""
    left = DBOS.list_workflows(
        executor_id=executor, status="PENDING", load_input=False, load_output=False
    )
    for workflow in left:
        # dbos counts its attempts anew when it resumes, so they are counted here.
        times = (workflow.attributes or {}).get(TAKEOVERS, 0) + 1
        DBOS.update_workflow_attributes(workflow.workflow_id, {TAKEOVERS: times}, merge=True)
        DBOS.resume_workflow(workflow.workflow_id, queue_name=workflow.queue_name)
        logs.event(
            _log, "taken over", logging.WARNING, workflow=workflow.workflow_id, executor=executor
        )
