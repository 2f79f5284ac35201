"""CSV files that are safe to open in spreadsheets."""

import csv
import io
from collections.abc import Iterable, Sequence
from typing import Any


def csv_text(columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """A table as CSV, with the byte order mark that Excel needs to detect UTF-8."""
    buffer = io.StringIO(newline="")
    writer = csv.writer(buffer)
    writer.writerow(columns)
    writer.writerows([_escape_formula(cell) for cell in row] for row in rows)
    return "\ufeff" + buffer.getvalue()


def _escape_formula(cell: object) -> object:
    """Prefix text that a spreadsheet would evaluate (CWE-1236)."""
    risky = isinstance(cell, str) and cell.lstrip()[:1] in ("=", "+", "-", "@", "|", "%")
    risky = risky or (isinstance(cell, str) and cell[:1] in ("\t", "\r", "\n"))
    return f"'{cell}" if risky else cell
