"""Disk quota of visitors: of each, and of all together.

A unit is one folder directly below a watched one: an upload, a generation, a batch. Its owner is a
keyed digest of the visitor, in a file of its own, so that a restart knows whose it is and no
address is stored. What lies there is measured, not remembered: whatever writes into a unit counts.
Bytes that are being written count from before they are written.
"""

import contextlib
import hashlib
import secrets
import shutil
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from kolbo_demo.client import InputError
from kolbo_demo.service.gate import Caller
from kolbo_demo.ui.i18n.texts import say
from kolbo_demo.ui.storage.disk import Inode, Measure, Unit, entries, private, remove, sized

SPARE_BYTES = 100 * 1024 * 1024
"""Bytes of the disk that stay free, whatever the bounds allow."""
OLDEST_SECONDS = 10.0
"""A measure that is older is taken anew before anything is judged by it."""
REST = 20
"""After a measure that took a second, none is taken for so many seconds."""
_OWNER = ".owner"


class QuotaError(InputError):
    """The visitor, or the page, has no room for more."""

    def __init__(self, sentence: str, status: int) -> None:
        super().__init__(sentence)
        self.status = status
        """Of an answer in HTTP."""


@dataclass
class Writing:
    """Bytes on their way into one unit."""

    quota: "Quota"
    folder: Path
    owner: str
    size: int = 0

    def grow(self, size: int) -> None:
        """Count bytes that are about to be written. Raises `QuotaError`. Blocks."""
        with self.quota.lock:
            self.quota.make_room(self.owner, size)
            self.size += size


class Quota:
    """Bounds what is below the watched folders. Thread-safe."""

    def __init__(
        self, total: float = 10e9, visitor: float | None = None, salt: bytes | None = None
    ) -> None:
        """`total` and `visitor` are bytes; without the second each may take all. `salt` keys the
        digests; without it they are of this process alone."""
        self.total = int(total)
        self.visitor = int(total if visitor is None else min(visitor, total))
        self._salt = salt or secrets.token_bytes(32)
        self._watched: list[tuple[Path, Callable[[str], bool]]] = []
        self._owners: dict[Path, str] = {}
        self._writing: list[Writing] = []
        self._written: dict[Path, Writing] = {}
        """Since the last measure, by folder."""
        self._measure = Measure()
        self._measured, self._took = -float("inf"), 0.0
        self.lock = threading.RLock()

    def watch(self, root: Path, busy: Callable[[str], bool]) -> None:
        """Count what is below a folder. A unit of a name that is `busy` stays however little room
        there is."""
        self._watched.append((root, busy))

    def own(self, folder: Path, visitor: str) -> None:
        """Note whose a unit is; one that is somebody's stays his."""
        owner = self._digest(visitor)
        if owner:
            with contextlib.suppress(FileExistsError), private(folder / _OWNER) as file:
                file.write(owner.encode())
        with self.lock:
            self._owners.pop(folder, None)
            self._owner(folder)

    def owns(self, folder: Path, visitor: str) -> bool:
        """Whether a unit is a visitor's."""
        return bool(visitor) and self._owner(folder) == self._digest(visitor)

    def check(self, visitor: str) -> None:
        """Raises `QuotaError` where a visitor, or the page, has no room to start anything."""
        self.make_room(self._digest(visitor), 1)

    @contextlib.contextmanager
    def writing(self, folder: Path, visitor: str) -> Iterator[Writing]:
        """While a new unit is filled. The caller removes it where that fails."""
        writing = Writing(self, folder, self._digest(visitor))
        with self.lock:
            self._writing.append(writing)
        try:
            yield writing
        finally:
            with self.lock:
                self._writing.remove(writing)
                files: dict[Inode, int] = {}
                with contextlib.suppress(OSError):  # it was removed
                    sized(folder, files)
                writing.size = sum(files.values())
                self._written[folder] = writing

    def removed(self, folder: Path) -> None:
        """A unit is gone."""
        with self.lock:
            self._written.pop(folder, None)
            if unit := self._measure.units.get(folder):
                self._measure.remove(unit)

    def changed(self) -> None:
        """Have the next judgement measure anew."""
        with self.lock:
            self._measured = -float("inf")

    def fit(self) -> None:
        """Remove what is too much in all."""
        with self.lock:
            self._scan(0.0)
            self._evict(self.total - self._underway())

    def make_room(self, owner: str, size: int) -> None:
        """Raises `QuotaError` where there is none for `size` bytes of an owner, a digest."""
        with self.lock:
            self._scan(OLDEST_SECONDS)
            if owner and self._has(owner) + size > self.visitor:
                self._scan(0.0)
                if self._has(owner) + size > self.visitor:
                    raise QuotaError(say("room.visitor", most=f"{self.visitor / 1e9:g}"), 413)
            if self._short(size) > 0:
                self._scan(0.0)
                most = self._measure.total - self._short(size)
                self._evict(most, owner, self._has(owner) + size)
                if self._short(size) > 0:
                    raise QuotaError(say("room.page"), 507)

    def _short(self, size: int) -> int:
        """Bytes that must go before there is room in all for `size` more; negative where there is
        room left."""
        short = self._measure.total + self._underway() + size - self.total
        for root, _ in self._watched:
            with contextlib.suppress(OSError):
                short = max(short, size + SPARE_BYTES - shutil.disk_usage(root).free)
        return short

    def _underway(self) -> int:
        """Bytes that the last measure does not know."""
        return sum(writing.size for writing in (*self._writing, *self._written.values()))

    def _has(self, owner: str) -> int:
        writings = (*self._writing, *self._written.values())
        underway = sum(writing.size for writing in writings if writing.owner == owner)
        return self._measure.used[owner] + underway

    def _evict(self, most: int, writer: str = "", least: int = 0) -> None:
        """Remove the oldest of the visitor who has most, again and again, until no more than `most`
        bytes are left. A visitor with less than `least` loses nothing to another."""
        measure = self._measure
        left: dict[str, list[Unit]] = defaultdict(list)
        for unit in measure.units.values() if measure.total > most else ():
            left[unit.owner].append(unit)
        for units in left.values():
            units.sort(key=lambda unit: -unit.changed)
        while measure.total > most and left:
            owner = max(left, key=lambda owner: measure.used[owner])
            if not left[owner] or (owner != writer and measure.used[owner] < least):
                del left[owner]
                continue
            unit = left[owner].pop()
            if not unit.busy(unit.path.name):
                remove(unit.path)
                measure.remove(unit)

    def _scan(self, oldest: float) -> None:
        """Measure anew where the last measure is older than so many seconds."""
        began = time.monotonic()
        if began - self._measured < max(oldest, self._took * REST):
            return
        measure, busy = Measure(), {writing.folder for writing in self._writing}
        for root, is_busy in self._watched:
            for entry in entries(root):
                path = Path(entry.path)
                if path in busy:
                    continue
                files: dict[Inode, int] = {}
                with contextlib.suppress(OSError):
                    changed = sized(path, files)
                    measure.add(Unit(path, self._owner(path), changed, files, is_busy))
        known = measure.units.keys() | busy
        self._owners = {path: owner for path, owner in self._owners.items() if path in known}
        self._measure = measure
        self._written.clear()
        self._measured = time.monotonic()
        self._took = self._measured - began

    def _owner(self, folder: Path) -> str:
        """The digest of a unit's owner; empty for a unit of nobody."""
        with self.lock:
            if folder not in self._owners:
                owner = ""
                with contextlib.suppress(OSError, UnicodeError):
                    owner = (folder / _OWNER).read_text("ascii")[:64]
                self._owners[folder] = owner
            return self._owners[folder]

    def _digest(self, visitor: str) -> str:
        if not visitor:
            return ""
        return hashlib.blake2b(visitor.encode(), key=self._salt, digest_size=16).hexdigest()


def counted(caller: Caller | None) -> str:
    """The visitor as whose a caller's files count; nobody's are the owner's, bound in all only."""
    return "" if caller is None or caller.owner else caller.visitor


def salt_in(folder: Path) -> bytes:
    """The key of the digests, kept in a file; a random one where it cannot be."""
    path = folder / ".visitors"
    with contextlib.suppress(OSError):
        folder.mkdir(parents=True, exist_ok=True)
        with contextlib.suppress(FileExistsError), private(path) as file:
            file.write(secrets.token_bytes(32))
        if len(salt := path.read_bytes()) == 32:
            return salt
    return secrets.token_bytes(32)
