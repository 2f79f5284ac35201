"""What the page keeps of each generation: its inputs, its result, what is known of it.

Each has a folder under a random ticket. The ticket is the only way in: the browser that started a
generation keeps it, nobody else is told, and nothing lists them. No key is ever written. Folders
go when their visitor deletes them, after a week, and earlier where room runs out.
"""

import contextlib
import io
import logging
import os
import re
import secrets
import shutil
import tempfile
import threading
import time
import uuid
from pathlib import Path
from typing import Any, Literal

from PIL import ImageOps
from pydantic import BaseModel, Field, ValidationError

from kolbo_demo.contract import Status
from kolbo_demo.media import MediaError, kind_of
from kolbo_demo.sandbox import preview
from kolbo_demo.ui.inputs import Request

KEEP_SECONDS = 7 * 86400.0
KEEP_BYTES = 5 * 1024**3
"""Of all visitors together; what ended longest ago goes first."""
SWEEP_SECONDS = 3600.0
THUMBNAIL_PIXELS = 160

RESULT, THUMBNAIL, REPORT, SUBTITLES = "result.mp4", "thumbnail.jpg", "report.json", "words.vtt"
BEFORE = "before"
"""What a picture among the sources is shown and compared as: `before.jpg`, upright."""
BEFORE_PIXELS = 1280
_RECORD = "record.json"
_TICKET = re.compile(r"[0-9A-Za-z_-]{22}")

_log = logging.getLogger(__name__)

End = Literal["done", "failed", "cancelled"]


class Given(BaseModel):
    """A source or a voice, as the visitor gave it."""

    name: str
    """The file's name or the link, for people."""
    file: str | None = None
    """Its copy's name in the folder; None for a link or for words."""

    @property
    def link(self) -> str | None:
        """The link, where it is one."""
        return None if self.file else self.name


class Record(BaseModel):
    """One generation of one visitor."""

    ticket: str
    created: float = Field(default_factory=time.time)
    """Seconds since the epoch."""
    backend: str
    source: Given | None = None
    """None for a generation opened by its id alone: the id shares the result, not the inputs."""
    voice: Given | None = None
    """None where words are spoken, too."""
    words: str | None = None
    prompt: str | None = None
    model: str | None = None
    """The one asked for; None is Smart Select."""
    face: tuple[float, float] | None = None
    group: str | None = None
    """What generations have in common that were started to be compared."""
    generation_id: str | None = None
    poll_interval: float | None = None
    credits: float | None = None
    """Charged at the start."""
    end: End | None = None
    error: str | None = None
    status: Status | None = None
    """The last one seen, once it has ended."""
    seconds: float | None = None
    """From the click to the end."""


class Kept:
    """The folders."""

    def __init__(self, root: Path) -> None:
        """`root` is made; where it cannot be, a temporary folder serves until the process ends."""
        try:
            root.mkdir(mode=0o700, parents=True, exist_ok=True)
            if not os.access(root, os.W_OK):
                raise PermissionError(root)
        except OSError:
            _log.warning("%s cannot be written: results are kept until the page stops", root)
            root = Path(tempfile.mkdtemp(prefix="kolbo-page-"))
        self._root = root
        self._lock = threading.Lock()
        self._swept = 0.0

    def new(self, request: Request, backend: str, group: str | None = None) -> Record:
        """Copies the inputs, so that they outlive the upload."""
        self._sweep()
        ticket = secrets.token_urlsafe(16)
        folder = self._root / ticket
        folder.mkdir(mode=0o700)
        record = Record(
            ticket=ticket,
            backend=backend,
            source=_taken(request.source, folder, "source"),
            voice=None if request.voice is None else _taken(request.voice, folder, "voice"),
            words=request.words,
            prompt=request.prompt,
            model=request.model,
            face=request.face,
            group=group,
        )
        if record.source and record.source.file:
            _thumbnail(folder / record.source.file, folder / THUMBNAIL)
        self.save(record)
        return record

    def opened(self, generation_id: str, backend: str) -> Record:
        """A record of a generation known by its id alone."""
        ticket = secrets.token_urlsafe(16)
        (self._root / ticket).mkdir(mode=0o700)
        record = Record(ticket=ticket, backend=backend, generation_id=generation_id)
        self.save(record)
        return record

    def get(self, ticket: str) -> Record | None:
        """The record, or None where there is none, or none any more."""
        path = self.file(ticket, _RECORD)
        if path is None:
            return None
        try:
            return Record.model_validate_json(path.read_bytes())
        except (OSError, ValidationError):
            return None

    def latest(self, count: int = 40) -> list[Record]:
        """Of all visitors' records those that changed last, for what is counted over all."""
        folders = sorted(self._root.iterdir(), key=lambda folder: -_sizes(folder)[1])
        return [record for folder in folders[:count] if (record := self.get(folder.name))]

    def save(self, record: Record) -> None:
        """Writes it, whole or not at all. One that was deleted meanwhile stays deleted."""
        self.write(record.ticket, _RECORD, record.model_dump_json().encode())

    def write(self, ticket: str, name: str, content: bytes) -> None:
        """A file beside the record, whole or not at all."""
        part = self.folder(ticket) / f".{uuid.uuid4().hex}.part"
        with contextlib.suppress(FileNotFoundError):
            part.write_bytes(content)
            part.replace(self.folder(ticket) / name)

    def folder(self, ticket: str) -> Path:
        """Where its files lie. Raises ValueError for what is no ticket."""
        if not _TICKET.fullmatch(ticket):
            raise ValueError("not a ticket")
        return self._root / ticket

    def file(self, ticket: str, name: str) -> Path | None:
        """One of its files, where there is such a one."""
        if not _TICKET.fullmatch(ticket):
            return None
        path = self._root / ticket / name
        return path if path.is_file() else None

    def before(self, record: Record) -> Path | None:
        """The source as a browser can show it; None for a link, or where it cannot be read."""
        path = self.file(record.ticket, record.source.file or "") if record.source else None
        if path is None or kind_of(path) == "video":
            return path
        shown = self.folder(record.ticket) / f"{BEFORE}.jpg"
        if not shown.exists():
            try:
                picture = preview(path, BEFORE_PIXELS)
            except MediaError:
                return None
            data = io.BytesIO()
            picture.convert("RGB").save(data, "JPEG", quality=90)
            self.write(record.ticket, shown.name, data.getvalue())
        return shown

    def delete(self, ticket: str) -> None:
        """Inputs, result and record."""
        if _TICKET.fullmatch(ticket):
            shutil.rmtree(self._root / ticket, ignore_errors=True)

    def _sweep(self) -> None:
        """Removes what is too old, or too much. Once an hour at most."""
        with self._lock:
            now = time.time()
            if now - self._swept < SWEEP_SECONDS:
                return
            self._swept = now
        ended: list[tuple[float, int, str]] = []
        for folder in self._root.iterdir():
            sizes, times = _sizes(folder)
            if now - times > KEEP_SECONDS:
                shutil.rmtree(folder, ignore_errors=True)
            else:
                ended.append((times, sizes, folder.name))
        room = KEEP_BYTES - sum(size for _, size, _ in ended)
        for _, size, name in sorted(ended):
            if room >= 0:
                return
            record = self.get(name)
            if record is None or record.end:
                self.delete(name)
                room += size


def _taken(given: Path | str, folder: Path, name: str) -> Given:
    if isinstance(given, str):
        return Given(name=given)
    copy = folder / f"{name}{_suffix(given)}"
    try:
        copy.hardlink_to(given)
    except OSError:  # another file system
        with contextlib.suppress(OSError):  # gone or unreadable: the client will say so
            shutil.copyfile(given, copy)
    return Given(name=given.name, file=copy.name)


def _suffix(path: Path) -> str:
    suffix = path.suffix.lower()
    return suffix if re.fullmatch(r"\.[a-z0-9]{1,5}", suffix) else ""


def _thumbnail(source: Path, target: Path) -> None:
    with contextlib.suppress(MediaError, OSError):
        picture = ImageOps.fit(
            preview(source, 4 * THUMBNAIL_PIXELS),
            (THUMBNAIL_PIXELS, THUMBNAIL_PIXELS),
            centering=(0.5, 0.3),
        )
        picture.save(target, "JPEG", quality=82)


def _sizes(folder: Path) -> tuple[int, float]:
    """Bytes in a folder, and when it changed last."""
    sizes, last = 0, 0.0
    with contextlib.suppress(OSError):
        last = folder.stat().st_mtime
        sizes = sum(path.stat().st_size for path in folder.iterdir())
    return sizes, last


def as_document(status: Status) -> dict[str, Any]:
    """A status as it came."""
    return status.model_dump(mode="json", exclude_none=True)
