"""Storage of each generation of the page: its inputs, its result and its record.

Each has a folder of its own (`folders.py`). No key is ever written.
"""

import contextlib
import io
import re
import time
from pathlib import Path
from typing import Any, Literal

from PIL import ImageOps
from pydantic import BaseModel, Field, ValidationError, model_validator

from kolbo_demo import clock
from kolbo_demo.contract import Status
from kolbo_demo.fair_lock import CURRENT_CALLER
from kolbo_demo.generation import GenerationRequest
from kolbo_demo.media.probe import MediaError, kind_of
from kolbo_demo.media.sandbox import preview
from kolbo_demo.options import Options
from kolbo_demo.ui.i18n.texts import say
from kolbo_demo.ui.storage.folders import TICKET, Folders, Served, linked

THUMBNAIL_PIXELS = 160

BUSY_SECONDS = 24 * 3600.0
"""No generation is followed longer: one without an end that is older was left by a page that
stopped."""

RESULT, THUMBNAIL, REPORT = "result.mp4", "thumbnail.jpg", "report.json"
SUBTITLES, SRT = "words.vtt", "words.srt"
BEFORE, AFTER = "before", "after.jpg"
"""Source as a browser can show it, under a suffix of its own, and a frame of the result: the two
have the same size where the source is a picture."""
SIDE_BY_SIDE, TABLE = "beside.mp4", "models"
COMPARED_PIXELS = 1280
_RECORD = "record.json"
_CLIPS = {".mp4": "video/mp4", ".webm": "video/webm", ".mov": "video/quicktime"}
_SERVED = {
    RESULT: "video/mp4",
    THUMBNAIL: "image/jpeg",
    SUBTITLES: "text/vtt",
    SRT: "application/x-subrip",
    REPORT: "application/json",
    AFTER: "image/jpeg",
    f"{BEFORE}.jpg": "image/jpeg",
    **{f"{BEFORE}{suffix}": kind for suffix, kind in _CLIPS.items()},
    SIDE_BY_SIDE: "video/mp4",
    f"{TABLE}.csv": "text/csv",
    f"{TABLE}.json": "application/json",
}
"""Files of a folder that are served, and their types: none that a browser would run."""
_CHANGING = {SIDE_BY_SIDE, f"{TABLE}.csv", f"{TABLE}.json"}

End = Literal["done", "failed", "cancelled"]


class StoredInput(BaseModel):
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
    source: StoredInput | None = None
    """None for a generation opened by its id alone: the id shares the result, not the inputs."""
    voice: StoredInput | None = None
    """None where words are spoken, too."""
    words: str | None = None
    options: Options = Options()
    names: dict[str, str] = {}
    """Names of the candidate models, by identifier."""
    group: str | None = None
    """Shared by generations that were started together to be compared."""
    generation_id: str | None = None
    poll_interval: float | None = None
    credits: float | None = None
    """Charged at the start."""
    end: End | None = None
    error: str | None = None
    status: Status | None = None
    """The last one seen, once it has ended."""
    expected: float | None = None
    """Seconds from the click to the end, as foreseen at the click."""
    seconds: float | None = None
    """From the click to the end."""

    @model_validator(mode="before")
    @classmethod
    def _gather_options(cls, value: object) -> object:
        """Options of a record that an older release wrote, beside the rest."""
        if isinstance(value, dict) and "options" not in value:
            trim = value.get("edit", {})
            return {**value, "options": {**value, "trim": trim}}
        return value


class GenerationStore(Folders):
    """The folders."""

    def new(
        self, request: GenerationRequest, backend: str, group: str | None = None, visitor: str = ""
    ) -> Record:
        """Copies the inputs, so that they outlive the upload. Raises `QuotaError` where the visitor
        has no room for more."""
        self.quota.check(visitor)
        ticket = self.make(visitor)
        folder = self.folder(ticket)
        record = Record(
            ticket=ticket,
            backend=backend,
            source=_taken(request.source, folder, "source"),
            voice=None if request.voice is None else _taken(request.voice, folder, "voice"),
            words=request.words,
            options=request.options,
            group=group,
        )
        self.save(record)
        return record

    def picture(self, record: Record, visitor: str = "") -> None:
        """Makes the thumbnail of a source. Blocks for a turn of the visitor's."""
        CURRENT_CALLER.set(visitor)
        folder = self.folder(record.ticket)
        if record.source and record.source.file:
            _thumbnail(folder / record.source.file, folder / THUMBNAIL)

    def opened(self, generation_id: str, backend: str, visitor: str = "") -> Record:
        """A record of a generation known by its id alone. Raises as `new`."""
        self.quota.check(visitor)
        ticket = self.make(visitor)
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

    def has(self, ticket: str) -> bool:
        """Whether there is a record."""
        return self.file(ticket, _RECORD) is not None

    def latest(self, count: int = 40) -> list[Record]:
        """Of all visitors' records those that changed last, for what is counted over all."""
        return [record for ticket in self.tickets()[:count] if (record := self.get(ticket))]

    def save(self, record: Record) -> None:
        """Writes it, whole or not at all. One that was deleted meanwhile stays deleted."""
        self.write(record.ticket, _RECORD, record.model_dump_json().encode())

    def busy(self, ticket: str) -> bool:
        """Whether its generation has not ended."""
        record = self.get(ticket)
        if record is None or record.end is not None:
            return False
        return clock.now() - record.created < BUSY_SECONDS

    def served(self, name: str) -> Served | None:
        """The file of this path, if its folder's ticket gives access to it."""
        path = Path(name)
        kind = _SERVED.get(path.name)
        if kind is None or path.parent.parent != self.root:
            return None
        ticket = path.parent.name
        record = self.get(ticket) if TICKET.fullmatch(ticket) else None
        if record is None or path.is_symlink() or not path.is_file():
            return None
        download = path.name
        if path.name in {RESULT, REPORT, SIDE_BY_SIDE, SUBTITLES, SRT} and record.generation_id:
            download = f"{record.generation_id}{path.suffix}"
        return Served(path, kind, download, path.name not in _CHANGING)

    def before(self, record: Record) -> Path | None:
        """The source as a browser can show it; None for a link, or where it cannot be read."""
        path = self.file(record.ticket, record.source.file or "") if record.source else None
        if path is None:
            return None
        if kind_of(path) == "image":
            return self._compared(path, self.folder(record.ticket) / f"{BEFORE}.jpg")
        suffix = path.suffix if path.suffix in _CLIPS else ".mp4"
        clip = self.folder(record.ticket) / f"{BEFORE}{suffix}"
        if not clip.exists():
            linked(path, clip)
        return clip if clip.exists() else None

    def after(self, record: Record, at: float) -> Path | None:
        """The frame of the result at some second; None where it cannot be read."""
        path = self.file(record.ticket, RESULT)
        return self._compared(path, self.folder(record.ticket) / AFTER, at) if path else None

    def _compared(self, path: Path, target: Path, at: float = 0.0) -> Path | None:
        failed = target.with_suffix(".failed")
        if failed.exists():
            return None
        if not target.exists():
            try:
                picture = preview(path, COMPARED_PIXELS, at)
            except MediaError:
                self.write(target.parent.name, failed.name, b"")
                return None
            data = io.BytesIO()
            picture.convert("RGB").save(data, "JPEG", quality=90)
            self.write(target.parent.name, target.name, data.getvalue())
        return target if target.exists() else None


def _taken(given: Path | str, folder: Path, name: str) -> StoredInput:
    if isinstance(given, str):
        return StoredInput(name=given)
    copy = folder / f"{name}{_suffix(given)}"
    linked(given, copy)
    return StoredInput(name=given.name, file=copy.name)


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


def as_document(status: Status) -> dict[str, Any]:
    """A status as it came."""
    return status.model_dump(mode="json", exclude_none=True)


def title(record: Record) -> str:
    """Source and voice of a generation in words."""
    if record.source is None:
        return record.generation_id or say("result.generation_id")
    voice = record.voice.name if record.voice else f"“{(record.words or '')[:60]}”"
    return f"{record.source.name} · {voice}"
