"""The folder of a batch: its videos, and the state of each row in batch.json."""

import json
import os
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from kolbo_demo import subtitles
from kolbo_demo.batch.manifest import Row
from kolbo_demo.client import InputError

RowState = Literal["waiting", "sending", "running", "completed", "failed", "unclear"]
"""`unclear`: sent whole, perhaps accepted; sent again only on request."""


@dataclass(frozen=True)
class RowStatus:
    """State and result of one row. Field names are keys of `batch.json`."""

    row: Row
    state: RowState = "waiting"
    percent: float | None = None
    """Progress, 0-100."""
    message: str | None = None
    """One sentence about a failure."""
    generation_id: str | None = None
    credits: float | None = None
    seconds: float | None = None
    """From the start to the saved file."""
    video: str | None = None
    """File name in the batch's folder."""
    where: str | None = None
    """Base URL of the API that has the generation."""

    @property
    def final(self) -> bool:
        """Whether this run is done with the row."""
        return self.state in ("completed", "failed", "unclear")


class BatchStore:
    """The saved statuses of a batch. Each change is on disk at once, so a killed run loses none."""

    def __init__(self, folder: Path) -> None:
        """Raises `InputError` if the folder or its `batch.json` is unusable."""
        self.folder = folder
        self._lock = threading.Lock()
        self._saved: dict[str, dict[str, Any]] = {}
        try:
            folder.mkdir(parents=True, exist_ok=True)
            state = folder / "batch.json"
            if state.exists():
                self._saved = dict(json.loads(state.read_text("utf-8")))
        except OSError as error:
            raise InputError(
                f"The folder “{folder}” cannot be used ({error.strerror}). Give another."
            ) from None
        except ValueError:
            raise InputError(
                f"“{folder / 'batch.json'}” is damaged. Move it away to begin anew."
            ) from None

    def load(self, row: Row) -> RowStatus:
        """The status of an unchanged row after an earlier run, else a new one."""
        saved = self._saved.get(self._row_key(row), {})
        status = RowStatus(row, **saved) if saved else RowStatus(row)
        if status.state == "completed" and not (
            status.video and (self.folder / status.video).is_file()
        ):
            return RowStatus(row)
        return status

    def save(self, status: RowStatus) -> None:
        """Save one status. Raises OSError."""
        names = ("state", "message", "generation_id", "credits", "seconds", "video", "where")
        with self._lock:
            self._saved[self._row_key(status.row)] = {name: getattr(status, name) for name in names}
            write_text(self.folder / "batch.json", json.dumps(self._saved, indent=1))

    def video_name(self, row: Row) -> str:
        """A unique and safe file name."""
        stem = Path(row.name).stem[:60]
        plain = "".join(c if c.isascii() and (c.isalnum() or c in "-_") else "-" for c in stem)
        return f"{row.number:04d}-{plain or 'video'}.mp4"

    def subtitle_files(self, row: Row) -> list[Path]:
        """Paths of the subtitles of a row with words, beside its video."""
        return subtitles.beside(self.folder / self.video_name(row)) if row.words else []

    @staticmethod
    def _row_key(row: Row) -> str:
        return f"{row.number}-{row.fingerprint}"


def write_text(path: Path, text: str) -> None:
    """Write a file, whole or not at all. Raises OSError."""
    part = path.with_name(f"{path.name}.part")
    with part.open("w", encoding="utf-8", errors="replace", newline="") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    part.replace(path)
