"""The database that holds the generations, and dbos on top of it: an SQLite file that one process
uses, or PostgreSQL for many."""

import contextlib
import logging
import shutil
import sqlite3
import time
from collections.abc import Iterator
from pathlib import Path

import sqlalchemy as sa
from dbos import DBOS, DBOSClient, DBOSConfig, DBOSPortableJSONSerializer, error
from sqlalchemy import URL, event, make_url
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.exc import ArgumentError

from kolbo_demo import logs, private_folder
from kolbo_demo.service.errors import ServiceError

NAME = "kolbo-lipsync"
# Jobs of an older release are taken up by a newer one: raise it only when they no longer fit.
APPLICATION_VERSION = "1"
YOUNG_SECONDS = 60.0
CONNECTIONS = 8
"""Of a process to PostgreSQL, at most: many processes share its hundred."""
REACH = {"connect_timeout": 5, "tcp_user_timeout": 5000}
"""Of each such connection: so long (s, ms) without an answer, and it is lost. The system's own
patience is a quarter of an hour."""
IDLE_SECONDS = 4.0
"""A transaction in which nothing more is asked for so long is ended by the server: whoever was cut
off within it locks rows until then, which others need to take over."""


def lock(folder: Path) -> sqlite3.Connection:
    """Hold a data folder for this process until the connection is closed or the process ends.

    The lock is SQLite's own: it works on every platform, and death frees it. Raises ServiceError
    where another process holds it; OSError or sqlite3.Error where the folder cannot be used.
    """
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    private_folder.try_create(folder)
    held = sqlite3.connect(
        folder / "lock.sqlite", timeout=0, isolation_level=None, check_same_thread=False
    )
    try:
        held.execute("BEGIN EXCLUSIVE")
    except sqlite3.Error as problem:
        held.close()
        if problem.sqlite_errorcode == sqlite3.SQLITE_BUSY:
            raise ServiceError(
                f"Another Kolbo Lipsync uses the data folder {folder}; "
                "stop it, or set KOLBO_DATA_DIR to another folder."
            ) from problem
        raise
    return held


def clear(folder: Path) -> None:
    """Remove the folders in it whose processes are dead."""
    for child in folder.iterdir():
        with contextlib.suppress(ServiceError, OSError, sqlite3.Error):
            # A young one may belong to a process that is about to lock it.
            if time.time() - child.stat().st_mtime > YOUNG_SECONDS:
                lock(child).close()
                shutil.rmtree(child, ignore_errors=True)


def file(folder: Path) -> URL:
    """The database in a data folder. Raises sqlite3.Error where it cannot be used."""
    path = folder / "jobs.sqlite"
    with contextlib.closing(sqlite3.connect(path)) as database:
        # The file remembers: from now on readers and the writer do not wait for each other.
        database.execute("PRAGMA journal_mode=WAL")
    # As a URI with a mode, so that no later connection makes a new file in place of a deleted one.
    return URL.create("sqlite", database=path.as_uri(), query={"mode": "rw", "uri": "true"})


def server(text: str) -> URL:
    """The database that KOLBO_DATABASE_URL names. Raises ServiceError."""
    with contextlib.suppress(ArgumentError):
        url = make_url(text)
        if url.get_backend_name() in ("postgresql", "postgres") and url.database:
            return url.set(drivername="postgresql+psycopg")
    raise ServiceError(
        "KOLBO_DATABASE_URL is not an address of PostgreSQL; "
        "give one such as postgresql://user:password@host:5432/kolbo."
    )


@contextlib.contextmanager
def setup(url: URL) -> Iterator[DBOSClient]:
    """A client of an SQLite file that is made or migrated, for what is to be there before dbos
    starts. Raises SQLAlchemyError."""
    text = url.render_as_string(hide_password=False)
    DBOS.migrate(text)
    made = DBOSClient(system_database_url=text, application_name=NAME)
    try:
        yield made
    finally:
        made.destroy()


def client(engine: sa.Engine) -> DBOSClient:
    """A client that reads workflows by these connections, whether or not dbos runs."""
    return DBOSClient(
        system_database_engine=engine,
        serializer=DBOSPortableJSONSerializer(),
        application_name=NAME,
        lazy=True,
    )


def launch(url: URL, executor: str, *, listens: bool = True) -> None:
    """Start dbos as `executor` on a database. Takes work from no queue unless it `listens`.

    Raises sqlite3.Error and SQLAlchemyError.
    """
    log = logging.getLogger("dbos")
    log.addFilter(_not_a_cancellation)
    if not log.handlers:  # where there is one, dbos adds none of its own
        log.propagate = bool(logging.getLogger().handlers)
        log.addHandler(logging.NullHandler() if log.propagate else logs.text_handler())
    local = url.get_backend_name() == "sqlite"
    config: DBOSConfig = {
        "name": NAME,
        "system_database_url": url.render_as_string(hide_password=False),
        "application_version": APPLICATION_VERSION,
        "executor_id": executor,
        "serializer": DBOSPortableJSONSerializer(),
        "log_level": "ERROR",
        # Else an error of the database quotes what a visitor sent.
        "db_engine_kwargs": {"hide_parameters": True}
        | ({} if local else {"connect_args": dict(REACH)}),
        "enable_otlp": False,
        "notification_listener_polling_interval_sec": 0.05,
        # Nobody waits for events, so no connection a process is spent on them.
        "use_listen_notify": False,
        "sys_db_pool_size": None if local else CONNECTIONS,
        "sys_db_idle_transaction_timeout_sec": IDLE_SECONDS,
    }
    DBOS(config=config)
    if not listens:
        DBOS.listen_queues([])
    try:
        DBOS.launch()
    except BaseException:
        DBOS.destroy()
        raise


def connections(url: URL, count: int = 1) -> sa.Engine:
    """So many connections beside those of dbos, made when they are first used."""
    local = url.get_backend_name() == "sqlite"
    more = {} if local else {"connect_args": dict(REACH)}
    made = sa.create_engine(url, pool_size=count, pool_pre_ping=True, hide_parameters=True, **more)
    if not local:
        event.listen(made, "connect", _end_idle_transactions)
    return made


def _end_idle_transactions(connection: DBAPIConnection, _record: object) -> None:
    # Not as an option of the connection: poolers such as PgBouncer refuse those.
    with contextlib.closing(connection.cursor()) as cursor:
        cursor.execute(f"SET idle_in_transaction_session_timeout = {int(IDLE_SECONDS * 1000)}")
    connection.commit()


def under_way(engine: sa.Engine, name: str) -> tuple[int, int]:
    """How many workflows of a name wait, and how many run. Raises SQLAlchemyError.

    dbos itself only lists them, a row each; its table is a documented one.
    """
    schema = None if engine.dialect.name == "sqlite" else "dbos"
    status, named = sa.column("status"), sa.column("name")
    table = sa.table("workflow_status", status, named, schema=schema)
    count = (
        sa.select(status, sa.func.count())
        .select_from(table)
        .where(named == name, status.in_(["ENQUEUED", "PENDING"]))
        .group_by(status)
    )
    with engine.connect() as connection:
        found = {state: number for state, number in connection.execute(count)}  # noqa: C416
    return found.get("ENQUEUED", 0), found.get("PENDING", 0)


def _not_a_cancellation(record: logging.LogRecord) -> bool:
    """dbos reports the end of a cancelled generation as an error, which it is not."""
    cause = record.exc_info[1] if record.exc_info else None
    return not isinstance(cause, error.DBOSAwaitedWorkflowCancelledError)
