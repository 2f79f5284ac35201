"""dbos and its database: an SQLite file for one process, or PostgreSQL for many."""

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

# A newer release resumes the jobs of an older one: raise this only if they are incompatible.
APPLICATION_VERSION = "1"
APPLICATION_NAME = "kolbo-lipsync"
NEW_FOLDER_SECONDS = 60.0
"""A younger folder may belong to a process that has not locked it yet."""
MAX_CONNECTIONS = 8
"""Of a process to PostgreSQL, whose hundred are shared by many processes."""
CONNECTION_TIMEOUTS = {"connect_timeout": 5, "tcp_user_timeout": 5000}
"""Seconds and milliseconds; the system's own timeout is a quarter of an hour."""
IDLE_TRANSACTION_SECONDS = 4.0
"""The server ends an idle transaction after this time: one of a process that was cut off locks rows
that a takeover needs."""


def lock_folder(folder: Path) -> sqlite3.Connection:
    """Lock a data folder until the connection is closed or the process ends.

    The lock is SQLite's: it works on every platform and is released when the process dies. Raises
    ServiceError if another process holds it; OSError or sqlite3.Error if the folder is unusable.
    """
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    private_folder.try_create(folder)
    connection = sqlite3.connect(
        folder / "lock.sqlite", timeout=0, isolation_level=None, check_same_thread=False
    )
    try:
        connection.execute("BEGIN EXCLUSIVE")
    except sqlite3.Error as failure:
        connection.close()
        if failure.sqlite_errorcode == sqlite3.SQLITE_BUSY:
            raise ServiceError(
                f"Another Kolbo Lipsync uses the data folder {folder}; "
                "stop it, or set KOLBO_DATA_DIR to another folder."
            ) from failure
        raise
    return connection


def delete_dead_folders(folder: Path) -> None:
    """Delete the subfolders of dead processes."""
    for child in folder.iterdir():
        with contextlib.suppress(ServiceError, OSError, sqlite3.Error):
            if time.time() - child.stat().st_mtime > NEW_FOLDER_SECONDS:
                lock_folder(child).close()
                shutil.rmtree(child, ignore_errors=True)


def sqlite_url(folder: Path) -> URL:
    """The database in a data folder, created if missing. Raises sqlite3.Error."""
    path = folder / "jobs.sqlite"
    with contextlib.closing(sqlite3.connect(path)) as database:
        # Persistent: readers and the writer do not block each other.
        database.execute("PRAGMA journal_mode=WAL")
    # A URI with a mode, so that no later connection creates a file in place of a deleted one.
    return URL.create("sqlite", database=path.as_uri(), query={"mode": "rw", "uri": "true"})


def postgres_url(text: str) -> URL:
    """The database of KOLBO_DATABASE_URL. Raises ServiceError."""
    with contextlib.suppress(ArgumentError):
        url = make_url(text)
        if url.get_backend_name() in ("postgresql", "postgres") and url.database:
            return url.set(drivername="postgresql+psycopg")
    raise ServiceError(
        "KOLBO_DATABASE_URL is not an address of PostgreSQL; "
        "give one such as postgresql://user:password@host:5432/kolbo."
    )


@contextlib.contextmanager
def setup_client(url: URL) -> Iterator[DBOSClient]:
    """A client of an SQLite file, which is created or migrated, before dbos is launched. Raises
    SQLAlchemyError."""
    text = url.render_as_string(hide_password=False)
    DBOS.migrate(text)
    client = DBOSClient(system_database_url=text, application_name=APPLICATION_NAME)
    try:
        yield client
    finally:
        client.destroy()


def read_client(engine: sa.Engine) -> DBOSClient:
    """A client that reads workflows through `engine`, whether or not dbos runs."""
    return DBOSClient(
        system_database_engine=engine,
        serializer=DBOSPortableJSONSerializer(),
        application_name=APPLICATION_NAME,
        lazy=True,
    )


def launch_dbos(url: URL, executor: str, *, polls: bool = True) -> None:
    """Start dbos as `executor` on a database. It polls no queue unless `polls`.

    Raises sqlite3.Error and SQLAlchemyError.
    """
    log = logging.getLogger("dbos")
    log.addFilter(_is_no_cancellation)
    if not log.handlers:  # otherwise dbos adds one of its own
        log.propagate = bool(logging.getLogger().handlers)
        log.addHandler(logging.NullHandler() if log.propagate else logs.text_handler())
    local = url.get_backend_name() == "sqlite"
    config: DBOSConfig = {
        "name": APPLICATION_NAME,
        "system_database_url": url.render_as_string(hide_password=False),
        "application_version": APPLICATION_VERSION,
        "executor_id": executor,
        "serializer": DBOSPortableJSONSerializer(),
        "log_level": "ERROR",
        # Otherwise database errors quote visitors' data.
        "db_engine_kwargs": {"hide_parameters": True}
        | ({} if local else {"connect_args": dict(CONNECTION_TIMEOUTS)}),
        "enable_otlp": False,
        "notification_listener_polling_interval_sec": 0.05,
        # Nothing waits for events, and listening takes a connection.
        "use_listen_notify": False,
        "sys_db_pool_size": None if local else MAX_CONNECTIONS,
        "sys_db_idle_transaction_timeout_sec": IDLE_TRANSACTION_SECONDS,
    }
    DBOS(config=config)
    if not polls:
        DBOS.listen_queues([])
    try:
        DBOS.launch()
    except BaseException:
        DBOS.destroy()
        raise


def create_engine(url: URL, pool_size: int = 1) -> sa.Engine:
    """Connections beside those of dbos, opened on first use."""
    local = url.get_backend_name() == "sqlite"
    options = {} if local else {"connect_args": dict(CONNECTION_TIMEOUTS)}
    engine = sa.create_engine(
        url, pool_size=pool_size, pool_pre_ping=True, hide_parameters=True, **options
    )
    if not local:
        event.listen(engine, "connect", _end_idle_transactions)
    return engine


def _end_idle_transactions(connection: DBAPIConnection, _record: object) -> None:
    # Not as a connection option, which poolers such as PgBouncer refuse.
    with contextlib.closing(connection.cursor()) as cursor:
        cursor.execute(
            f"SET idle_in_transaction_session_timeout = {int(IDLE_TRANSACTION_SECONDS * 1000)}"
        )
    connection.commit()


def count_unfinished(engine: sa.Engine, workflow: str) -> tuple[int, int]:
    """Number of queued and of running workflows of a name. Raises SQLAlchemyError.

    dbos itself only lists them, a row each; its table is documented.
    """
    schema = None if engine.dialect.name == "sqlite" else "dbos"
    status, name = sa.column("status"), sa.column("name")
    table = sa.table("workflow_status", status, name, schema=schema)
    count = (
        sa.select(status, sa.func.count())
        .select_from(table)
        .where(name == workflow, status.in_(["ENQUEUED", "PENDING"]))
        .group_by(status)
    )
    with engine.connect() as connection:
        found = {state: number for state, number in connection.execute(count)}  # noqa: C416
    return found.get("ENQUEUED", 0), found.get("PENDING", 0)


def _is_no_cancellation(record: logging.LogRecord) -> bool:
    """Filter of records: dbos logs the end of a cancelled workflow as an error."""
    cause = record.exc_info[1] if record.exc_info else None
    return not isinstance(cause, error.DBOSAwaitedWorkflowCancelledError)
