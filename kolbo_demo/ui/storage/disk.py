"""Disk usage below the folders of the page, by unit and by owner."""

import contextlib
import os
import shutil
import stat
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

LEAST_BYTES = 64 * 1024
"""A file counts as at least so much, so that many small ones meet the bound too."""

Inode = tuple[int, int]
"""Device and number: a file with several names is one."""


@dataclass(eq=False)
class Unit:
    """A folder directly below a watched one, and the files in it."""

    path: Path
    owner: str
    changed: float
    files: dict[Inode, int]
    busy: Callable[[str], bool]


@dataclass
class Measure:
    """All units at one moment, each file counted once."""

    units: dict[Path, Unit] = field(default_factory=dict)
    total: int = 0
    used: Counter[str] = field(default_factory=Counter)
    names: Counter[Inode] = field(default_factory=Counter)
    owned: Counter[tuple[str, Inode]] = field(default_factory=Counter)

    def add(self, unit: Unit) -> None:
        """Count a unit."""
        self.units[unit.path] = unit
        for inode, size in unit.files.items():
            self.total += size * (not self.names[inode])
            self.used[unit.owner] += size * (not self.owned[unit.owner, inode])
            self.names[inode] += 1
            self.owned[unit.owner, inode] += 1

    def remove(self, unit: Unit) -> None:
        """Count it no more."""
        del self.units[unit.path]
        for inode, size in unit.files.items():
            self.names[inode] -= 1
            self.owned[unit.owner, inode] -= 1
            self.total -= size * (not self.names[inode])
            self.used[unit.owner] -= size * (not self.owned[unit.owner, inode])


def private(path: Path) -> IO[bytes]:
    """A new file that only this user reads, to be written. Raises FileExistsError."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0)
    return os.fdopen(os.open(path, flags, 0o600), "wb")


def remove(path: Path) -> None:
    """A unit with all that is in it."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        with contextlib.suppress(OSError):
            path.unlink()


def entries(folder: str | Path) -> list["os.DirEntry[str]"]:
    """Entries of a folder; none where it is gone."""
    try:
        with os.scandir(folder) as found:
            return list(found)
    except OSError:
        return []


def sized(path: str | Path, files: dict[Inode, int]) -> float:
    """Puts the files of a unit and their sizes into `files`; gives when it changed last."""
    found = os.lstat(path)
    if stat.S_ISDIR(found.st_mode):
        for entry in entries(path):
            with contextlib.suppress(OSError):
                sized(entry.path, files)
    else:
        size = found.st_size if stat.S_ISREG(found.st_mode) else 0
        files[found.st_dev, found.st_ino] = max(size, LEAST_BYTES)
    return found.st_mtime
