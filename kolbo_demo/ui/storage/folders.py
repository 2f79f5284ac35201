"""Folders of visitors, each under a random ticket.

The ticket is the only way in: the browser that it was made for keeps it, nobody else is told, and
nothing lists them. Folders go when their visitor deletes them, after a week, and earlier where room
runs out (`quota.py`).
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
from dataclasses import dataclass
from pathlib import Path

from kolbo_demo import clock, private_folder
from kolbo_demo.contract import MAX_FILE_BYTES
from kolbo_demo.safe_file import UnsafeFileError, link_or_copy
from kolbo_demo.ui.storage.disk import private, remove
from kolbo_demo.ui.storage.quota import Quota

KEEP_SECONDS = 7 * 86400.0
SWEEP_SECONDS = 600.0
TICKET = re.compile(r"[0-9A-Za-z_-]{22}")

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Served:
    """A file that is served to a browser."""

    path: Path
    media_type: str
    name: str
    """For downloads."""
    constant: bool
    """Whether a browser may cache it."""

    @property
    def is_shown(self) -> bool:
        """Whether a browser shows it; it saves others."""
        return self.media_type.startswith(("video/", "image/", "text/vtt"))


class Folders:
    """Makes, finds and sweeps them."""

    def __init__(self, root: Path, quota: Quota | None = None) -> None:
        """`root` is made; where it cannot be, a temporary folder serves until the process ends."""
        try:
            private_folder.create(root)
            if not os.access(root, os.W_OK):
                raise PermissionError(root)
        except OSError:
            _log.warning("%s cannot be written: results are kept until the page stops", root)
            root = Path(tempfile.mkdtemp(prefix="kolbo-page-"))
        self.root = root.resolve()
        """Parent of the folders."""
        self.quota = quota or Quota()
        self.quota.watch(self.root, self.busy)
        self._lock = threading.Lock()
        self._swept = -float("inf")

    def make(self, visitor: str = "") -> str:
        """A new folder's ticket. It counts as the visitor's; an empty one is nobody."""
        self._sweep()
        ticket = secrets.token_urlsafe(16)
        (self.root / ticket).mkdir(mode=0o700)
        self.quota.own(self.root / ticket, visitor)
        return ticket

    def busy(self, ticket: str) -> bool:
        """Whether something in it is still to come, so that it stays however little room there
        is."""
        raise NotImplementedError

    def folder(self, ticket: str) -> Path:
        """Where its files lie. Raises ValueError for what is no ticket."""
        if not TICKET.fullmatch(ticket):
            raise ValueError("not a ticket")
        return self.root / ticket

    def file(self, ticket: str, name: str) -> Path | None:
        """One of its files, where there is such a one."""
        if not TICKET.fullmatch(ticket):
            return None
        path = self.root / ticket / name
        return path if path.is_file() else None

    def write(self, ticket: str, name: str, content: bytes) -> None:
        """A file in it, whole or not at all; nothing where the folder is gone."""
        part = self.folder(ticket) / f".{uuid.uuid4().hex}.part"
        with contextlib.suppress(FileNotFoundError):
            with private(part) as file:
                file.write(content)
            part.replace(self.folder(ticket) / name)

    def delete(self, ticket: str) -> None:
        """The folder and all that is in it."""
        if TICKET.fullmatch(ticket):
            shutil.rmtree(self.root / ticket, ignore_errors=True)
            self.quota.removed(self.root / ticket)

    def tickets(self) -> list[str]:
        """Of all visitors, what changed last first."""
        folders = sorted(self.root.iterdir(), key=_changed, reverse=True)
        return [folder.name for folder in folders]

    def expired(self, ticket: str, seconds: float) -> bool:  # noqa: ARG002 - for subclasses
        """Whether a folder that has not changed for so long goes, busy or not."""
        return seconds > KEEP_SECONDS

    def _sweep(self) -> None:
        """Removes what is too old, or too much. Every ten minutes at most."""
        with self._lock:
            now = time.monotonic()
            if now - self._swept < SWEEP_SECONDS:
                return
            self._swept = now
        for folder in self.root.iterdir():
            if self.expired(folder.name, clock.now() - _changed(folder)):
                remove(folder)
        self.quota.changed()
        self.quota.fit()


def linked(given: Path, copy: Path) -> None:
    """Has a file in two places, without its bytes twice where the disk allows it. Nothing where
    it is gone, is no regular file or cannot be read: opening the copy says so."""
    with contextlib.suppress(OSError, UnsafeFileError):
        link_or_copy(given, copy, MAX_FILE_BYTES)


def _changed(folder: Path) -> float:
    """When a folder changed last; now where it is gone."""
    try:
        return folder.lstat().st_mtime
    except OSError:
        return time.time()
