"""Logging: text for people, or a JSON object a line for machines.

No record contains a key, a prompt, a file name or a visitor's address. Our own name events and
generations only. Of an exception, the type and the traceback's locations are logged, not the
message, which may quote a visitor's input.
"""

import contextlib
import json
import logging
import re
import threading
import time
import traceback
from collections.abc import Iterator
from contextvars import ContextVar
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal, TextIO

LogFormat = Literal["text", "json"]

_generation_id: ContextVar[str | None] = ContextVar("generation", default=None)
_ID = re.compile(r"lip_[0-9a-f]{20}")
_MAX_FRAMES = 6
_THROTTLE_SECONDS = 1.0
"""Between two warnings of one kind."""


@contextlib.contextmanager
def generation_context(generation: str) -> Iterator[None]:
    """Attribute this thread's log records to a generation until the block ends."""
    token = _generation_id.set(generation)
    try:
        yield
    finally:
        _generation_id.reset(token)


def event(logger: logging.Logger, name: str, level: int = logging.INFO, **fields: object) -> None:
    """Log an event. `fields` are numbers, states and codes, never a visitor's data."""
    logger.log(level, name, extra={"fields": fields}, stacklevel=2)


def configure(format: LogFormat) -> None:  # noqa: A002 - what it is
    """Send this process's log to standard error: warnings as text, or everything as JSON.

    For programs; a library leaves logging to its caller.
    """
    handler = _handler(_JsonFormatter() if format == "json" else _TextFormatter())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.WARNING)
    logging.getLogger("kolbo_demo").setLevel(logging.INFO if format == "json" else logging.WARNING)
    # Remove libraries' own handlers, which have another format.
    for name in ("dbos", "uvicorn", "uvicorn.error", "uvicorn.access"):
        logger = logging.getLogger(name)
        logger.handlers[:] = []
        logger.propagate = True


def announce(sentence: str, file: TextIO) -> None:
    """Print a startup message to `file`, or log it if the log is JSON."""
    handlers = logging.getLogger().handlers
    if any(isinstance(handler.formatter, _JsonFormatter) for handler in handlers):
        event(logging.getLogger(__package__), sentence)
    else:
        print(sentence, file=file, flush=True)


def text_handler() -> logging.Handler:
    """A handler for a library's logger if `configure` was not called."""
    return _handler(_TextFormatter())


def _handler(formatter: logging.Formatter) -> logging.Handler:
    handler = logging.StreamHandler()
    handler.setFormatter(formatter)
    handler.addFilter(_Throttle())
    return handler


def traceback_locations(stderr: str) -> list[str]:
    """Locations in a traceback that a process wrote to its standard error."""
    found = re.findall(r'File ".*?([^"/\\]+)", line (\d+),? in (\w+)', stderr)
    return [f"{file}:{line} {name}" for file, line, name in found[-_MAX_FRAMES:]]


class _Throttle(logging.Filter):
    """Passes one warning or error of a kind a second, so that a flood of requests can't fill the
    disk.

    The kind is the location of the logging call and, for an exception, its type and location.
    Messages are ignored: parts of requests in them vary without bound.
    """

    def __init__(self) -> None:
        super().__init__()
        self._lock = threading.Lock()
        self._last_passed: dict[tuple[object, ...], tuple[float, int]] = {}
        """Time of the last record that passed, and number suppressed since, by kind."""

    def filter(self, record: logging.LogRecord) -> bool:
        if record.levelno < logging.WARNING:
            return True
        kind = (record.name, record.pathname, record.lineno, *_error_kind(record))
        now = time.monotonic()
        with self._lock:
            passed, suppressed = self._last_passed.get(kind, (-_THROTTLE_SECONDS, 0))
            if now - passed < _THROTTLE_SECONDS:
                self._last_passed[kind] = passed, suppressed + 1
                return False
            self._last_passed[kind] = now, 0
        if suppressed:
            record.fields = getattr(record, "fields", {}) | {"suppressed": suppressed}
        return True


def _error_kind(record: logging.LogRecord) -> tuple[object, ...]:
    error = record.exc_info[1] if record.exc_info else None
    if error is None:
        return ()
    trace = error.__traceback__
    while trace and trace.tb_next:
        trace = trace.tb_next
    place = (trace.tb_frame.f_code.co_filename, trace.tb_lineno) if trace else ()
    return type(error), *place


class _TextFormatter(logging.Formatter):
    """One line a record, without traceback."""

    def format(self, record: logging.LogRecord) -> str:
        words = [f"{record.levelname} {record.name.partition('.')[0]}: {record.getMessage()}"]
        words += [f"{name}={value}" for name, value in _fields(record).items()]
        generation = _generation(record)
        if generation and generation not in words[0]:
            words.insert(1, generation)
        return " ".join(words)


class _JsonFormatter(logging.Formatter):
    """One object a line. `generation` is null if there is none."""

    def format(self, record: logging.LogRecord) -> str:
        line = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "generation": _generation(record),
            "event": record.getMessage(),
        }
        return json.dumps(line | _fields(record), default=str)


def _generation(record: logging.LogRecord) -> str | None:
    # dbos has the workflow id in an attribute or in the message.
    text = _generation_id.get() or getattr(record, "operationUUID", None) or record.getMessage()
    found = _ID.search(str(text))
    return found[0] if found else None


def _fields(record: logging.LogRecord) -> dict[str, object]:
    fields = dict(getattr(record, "fields", {}))
    error = record.exc_info[1] if record.exc_info else None
    if error:
        fields["error"] = type(error).__name__
        fields["where"] = [
            f"{Path(frame.filename).name}:{frame.lineno} {frame.name}"
            for frame in traceback.extract_tb(error.__traceback__)[-_MAX_FRAMES:]
        ]
    return fields
