"""Folders of visitors, each under a random ticket.

The ticket is the only way in: the browser that it was made for keeps it, nobody else is told, and
nothing lists them. Folders go when their visitor deletes them, after a week, and earlier where room
runs out.
"""

import contextlib
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

KEEP_SECONDS = 7 * 86400.0
KEEP_BYTES = 5 * 1024**3
"""Of all visitors together; what changed longest ago goes first."""
SWEEP_SECONDS = 3600.0
_TICKET = re.compile(r"[0-9A-Za-z_-]{22}")

_log = logging.getLogger(__name__)


class Folders:
    """Makes, finds and sweeps them."""

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

    def make(self) -> str:
        """A new folder's ticket."""
        self._sweep()
        ticket = secrets.token_urlsafe(16)
        (self._root / ticket).mkdir(mode=0o700)
        return ticket

    def busy(self, ticket: str) -> bool:
        """Whether something in it is still to come, so that it stays however little room there
        is."""
        raise NotImplementedError

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

    def write(self, ticket: str, name: str, content: bytes) -> None:
        """A file in it, whole or not at all; nothing where the folder is gone."""
        part = self.folder(ticket) / f".{uuid.uuid4().hex}.part"
        with contextlib.suppress(FileNotFoundError):
            part.write_bytes(content)
            part.replace(self.folder(ticket) / name)

    def delete(self, ticket: str) -> None:
        """The folder and all that is in it."""
        if _TICKET.fullmatch(ticket):
            shutil.rmtree(self._root / ticket, ignore_errors=True)

    def tickets(self) -> list[str]:
        """Of all visitors, what changed last first."""
        folders = sorted(self._root.iterdir(), key=lambda folder: -_seen(folder)[1])
        return [folder.name for folder in folders]

    def _sweep(self) -> None:
        """Removes what is too old, or too much. Once an hour at most."""
        with self._lock:
            now = time.time()
            if now - self._swept < SWEEP_SECONDS:
                return
            self._swept = now
        left: list[tuple[float, int, str]] = []
        for folder in self._root.iterdir():
            size, changed = _seen(folder)
            if now - changed > KEEP_SECONDS:
                shutil.rmtree(folder, ignore_errors=True)
            else:
                left.append((changed, size, folder.name))
        room = KEEP_BYTES - sum(size for _, size, _ in left)
        for _, size, name in sorted(left):
            if room >= 0:
                return
            if not self.busy(name):
                self.delete(name)
                room += size


def linked(given: Path, copy: Path) -> None:
    """Has a file in two places, without its bytes twice where the disk allows it. Nothing where
    it is gone or cannot be read: whoever opens the copy will say so."""
    try:
        copy.hardlink_to(given)
    except OSError:  # another file system
        with contextlib.suppress(OSError):
            shutil.copyfile(given, copy)


def _seen(folder: Path) -> tuple[int, float]:
    """Bytes in a folder, and when it changed last."""
    size, changed = 0, 0.0
    with contextlib.suppress(OSError):
        changed = folder.stat().st_mtime
        size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    return size, changed
