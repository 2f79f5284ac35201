"""Report of a batch as CSV and JSON, and the ZIP of its videos."""

import json
import zipfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from kolbo_demo import subtitles
from kolbo_demo.batch.state import RowStatus, write_text
from kolbo_demo.csv_export import csv_text

COLUMNS = (
    "row", "name", "state", "video", "message", "generation_id", "credits", "seconds", "model",
)  # fmt: skip


def write(folder: Path, statuses: Iterable[RowStatus]) -> Path:
    """Write report.csv, report.json and batch.zip, which has both, the videos and their subtitles,
    into the batch's folder; the path of the ZIP. Raises OSError."""
    statuses = list(statuses)
    rows = [_cells(status) for status in statuses]
    table = csv_text(COLUMNS, [list(row.values()) for row in rows])
    write_text(folder / "report.csv", table)
    write_text(folder / "report.json", json.dumps(rows, indent=2, ensure_ascii=False))
    part = folder / "batch.zip.part"
    # Videos are compressed already.
    with zipfile.ZipFile(part, "w", zipfile.ZIP_STORED) as archive:
        for name in ("report.csv", "report.json"):
            archive.write(folder / name, name)
        for status in statuses:
            if status.state == "completed" and status.video:
                video = folder / status.video
                words = [path for path in subtitles.beside(video) if path.is_file()]
                for path in (video, *words):
                    archive.write(path, path.name)
    part.replace(folder / "batch.zip")
    return folder / "batch.zip"


def _cells(status: RowStatus) -> dict[str, Any]:
    cells = (status.row.number, status.row.name, status.state, status.video, status.message,
             status.generation_id, status.credits, status.seconds,
             status.row.options.model)  # fmt: skip
    return dict(zip(COLUMNS, cells, strict=True))
