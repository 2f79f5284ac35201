"""The SQLite file that holds the generations: who may use it, and dbos on top of it."""

import contextlib
import logging
import sqlite3
from pathlib import Path

from dbos import DBOS, DBOSConfig, DBOSPortableJSONSerializer, error
from sqlalchemy import URL

from kolbo_demo import logs
from kolbo_demo.service.errors import ServiceError

# Jobs of an older release are taken up by a newer one: raise it only when they no longer fit.
APPLICATION_VERSION = "1"


def lock(folder: Path) -> sqlite3.Connection:
    """Hold a data folder for this process until the connection is closed or the process ends.

    The lock is SQLite's own: it works on every platform, and death frees it. Raises ServiceError
    where another process holds it; OSError or sqlite3.Error where the folder cannot be used.
    """
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
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


def launch(folder: Path) -> None:
    """Start dbos on the folder's database. Raises sqlite3.Error and SQLAlchemyError."""
    file = folder / "jobs.sqlite"
    with contextlib.closing(sqlite3.connect(file)) as database:
        # The file remembers: from now on readers and the writer do not wait for each other.
        database.execute("PRAGMA journal_mode=WAL")
    log = logging.getLogger("dbos")
    log.addFilter(_not_a_cancellation)
    if not log.handlers:  # where there is one, dbos adds none of its own
        log.propagate = bool(logging.getLogger().handlers)
        log.addHandler(logging.NullHandler() if log.propagate else logs.text_handler())
    config: DBOSConfig = {
        "name": "kolbo-lipsync",
        "system_database_url": URL.create("sqlite", database=str(file)).render_as_string(),
        "application_version": APPLICATION_VERSION,
        "executor_id": "local",
        "serializer": DBOSPortableJSONSerializer(),
        "log_level": "ERROR",
        # Else an error of the database quotes what a visitor sent.
        "db_engine_kwargs": {"hide_parameters": True},
        "enable_otlp": False,
        "notification_listener_polling_interval_sec": 0.2,
    }
    DBOS(config=config)
    DBOS.launch()


def _not_a_cancellation(record: logging.LogRecord) -> bool:
    """dbos reports the end of a cancelled generation as an error, which it is not."""
    cause = record.exc_info[1] if record.exc_info else None
    return not isinstance(cause, error.DBOSAwaitedWorkflowCancelledError)
