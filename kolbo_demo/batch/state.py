"""The folder of a batch: its videos, what became of each row, and the ZIP of all of it."""

import json
import os
import threading
import zipfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from kolbo_demo.batch.manifest import Row
from kolbo_demo.client import InputError
from kolbo_demo.csv_export import csv_text

State = Literal["waiting", "sending", "running", "completed", "failed", "unclear"]
"""`unclear`: sent whole, and nobody knows whether it was accepted; never sent again unasked."""

REPORT_COLUMNS = (
    "row", "name", "state", "video", "message", "generation_id", "credits", "seconds", "model",
)  # fmt: skip


@dataclass(frozen=True)
class Line:
    """Where one row stands."""

    row: Row
    state: State = "waiting"
    percent: float | None = None
    """0-100 while it runs."""
    message: str | None = None
    """One sentence where it failed."""
    generation_id: str | None = None
    credits: float | None = None
    seconds: float | None = None
    """From its start to the file on disk."""
    video: str | None = None
    """File name in the batch's folder."""
    where: str | None = None
    """The API that has the generation."""

    @property
    def final(self) -> bool:
        """Whether nothing more happens to it in this run."""
        return self.state in ("completed", "failed", "unclear")


class Store:
    """What is known of a batch, on disk at once: a run that is killed loses nothing."""

    def __init__(self, folder: Path) -> None:
        """Raises `InputError` where the folder cannot be used."""
        self.folder = folder
        self._lock = threading.Lock()
        self._known: dict[str, dict[str, Any]] = {}
        try:
            folder.mkdir(parents=True, exist_ok=True)
            state = folder / "batch.json"
            if state.exists():
                self._known = dict(json.loads(state.read_text("utf-8")))
        except OSError as error:
            raise InputError(
                f"The folder “{folder}” cannot be used ({error.strerror}). Give another."
            ) from None
        except ValueError:
            raise InputError(
                f"“{folder / 'batch.json'}” is damaged. Move it away to begin anew."
            ) from None

    def line(self, row: Row) -> Line:
        """What an earlier run left of this very row."""
        known = self._known.get(self._key(row), {})
        line = Line(row, **known) if known else Line(row)
        if line.state == "completed" and not (line.video and (self.folder / line.video).is_file()):
            return Line(row)
        return line

    def keep(self, line: Line) -> None:
        """Writes it down. Raises OSError."""
        names = ("state", "message", "generation_id", "credits", "seconds", "video", "where")
        with self._lock:
            self._known[self._key(line.row)] = {name: getattr(line, name) for name in names}
            _write(self.folder / "batch.json", json.dumps(self._known, indent=1))

    def video_name(self, row: Row) -> str:
        """A name of its own, without anything that a file name could do harm with."""
        stem = Path(row.name).stem[:60]
        plain = "".join(c if c.isascii() and (c.isalnum() or c in "-_") else "-" for c in stem)
        return f"{row.number:04d}-{plain or 'video'}.mp4"

    def report(self, lines: Iterable[Line]) -> Path:
        """Writes report.csv, report.json and batch.zip with both and the videos; gives the ZIP.
        Raises OSError."""
        lines = list(lines)
        rows = [self._report_row(line) for line in lines]
        sheet = csv_text(REPORT_COLUMNS, [list(row.values()) for row in rows])
        _write(self.folder / "report.csv", sheet)
        _write(self.folder / "report.json", json.dumps(rows, indent=2, ensure_ascii=False))
        part = self.folder / "batch.zip.part"
        # Videos do not get smaller by deflating.
        with zipfile.ZipFile(part, "w", zipfile.ZIP_STORED) as archive:
            for name in ("report.csv", "report.json"):
                archive.write(self.folder / name, name)
            for line in lines:
                if line.state == "completed" and line.video:
                    archive.write(self.folder / line.video, line.video)
        part.replace(self.folder / "batch.zip")
        return self.folder / "batch.zip"

    @staticmethod
    def _key(row: Row) -> str:
        return f"{row.number}-{row.fingerprint}"

    @staticmethod
    def _report_row(line: Line) -> dict[str, Any]:
        cells = (line.row.number, line.row.name, line.state, line.video, line.message,
                 line.generation_id, line.credits, line.seconds,
                 line.row.options.model)  # fmt: skip
        return dict(zip(REPORT_COLUMNS, cells, strict=True))


def _write(path: Path, text: str) -> None:
    part = path.with_name(f"{path.name}.part")
    with part.open("w", encoding="utf-8", errors="replace", newline="") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    part.replace(path)
