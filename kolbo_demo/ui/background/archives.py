"""Fill the folder of a batch with uploads: files as they are, archives unpacked."""

import zipfile
import zlib
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path, PurePosixPath
from typing import IO

from kolbo_demo.client import InputError
from kolbo_demo.ui.i18n.texts import say
from kolbo_demo.ui.storage.disk import private
from kolbo_demo.ui.storage.folders import linked
from kolbo_demo.ui.storage.quota import Writing

MOST_FILES = 2001
"""As many as the longest list can name, and the list."""
MOST_NAME = 240
"""Bytes of a file's name: most file systems take 255."""
MOST_RATIO, FREE_BYTES = 200, 10 * 1024**2
"""Largest compression ratio, beyond so many bytes."""
MOST_DIRECTORY = 4 * 1024**2
"""Bytes of the list of an archive's files: all of it is held in memory."""
_BROKEN = (
    zipfile.BadZipFile,
    zlib.error,
    NotImplementedError,
    RuntimeError,
    OSError,
    EOFError,
)
"""Errors of a damaged or encrypted archive, or one of an unknown kind."""
_METHODS = frozenset({zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED})
"""Of the others zipfile unpacks a piece whole: a megabyte of bzip2 may take 20 GB of memory."""
_DIRECTORY_BYTES = 5
"""Index of the directory's size in zipfile's end record."""


class Room:
    """Destination of the files of one batch, with bounds on their number and size."""

    def __init__(self, folder: Path, writing: Writing, most: int, most_each: int) -> None:
        """`most` bytes in all, `most_each` in a file."""
        self.most_each = most_each
        self._folder = folder
        self._writing = writing
        self._most = most
        self._files = 0
        self._bytes = 0

    def place(self, name: str) -> Path | None:
        """Path of a file, under the last part of its name; None for a hidden one."""
        plain = PurePosixPath(name.replace("\\", "/").replace("\0", "")).name
        plain = plain.encode("utf-8", "replace")[-MOST_NAME:].decode("utf-8", "ignore")
        if not plain or plain.startswith("."):
            return None
        self._files += 1
        target = self._folder / plain
        if self._files > MOST_FILES:
            raise InputError(say("batch.too_many_files", most=MOST_FILES))
        if target.exists():
            raise InputError(say("batch.twice", name=plain[:80]))
        return target

    def take(self, size: int) -> None:
        """Counts bytes before they are written. Raises `InputError` where there are too many, or
        no room for them."""
        self._bytes += size
        if self._bytes > self._most:
            raise InputError(say("batch.too_much", most=self._most >> 20))
        self._writing.grow(size)


def take(files: Sequence[tuple[str, Path]], room: Room) -> None:
    """Puts what was uploaded into the folder, archives unpacked."""
    for given, path in files:
        if path.suffix.lower() == ".zip":
            try:
                _unpack(path, given, room)
            except _BROKEN:
                raise InputError(say("batch.bad_zip", name=given[:80])) from None
        elif target := room.place(given):
            linked(path, target)
            with suppress(OSError):
                room.take(target.lstat().st_size)


def _unpack(path: Path, name: str, room: Room) -> None:
    """Puts the files of an archive into the folder, counted as they are read: an archive may say of
    itself what it likes."""
    with path.open("rb") as raw:
        end = zipfile._EndRecData(raw)  # pyright: ignore[reportAttributeAccessIssue]
        if end is not None and end[_DIRECTORY_BYTES] > MOST_DIRECTORY:
            raise InputError(say("batch.too_many_files", most=MOST_FILES))
        most = max(FREE_BYTES, MOST_RATIO * path.stat().st_size)
        with zipfile.ZipFile(raw) as archive:
            for entry in archive.infolist():
                hidden = entry.filename.startswith("__MACOSX/")
                if entry.is_dir() or hidden or not (target := room.place(entry.filename)):
                    continue
                if entry.compress_type not in _METHODS:
                    raise NotImplementedError
                with archive.open(entry) as packed, private(target) as file:
                    for piece in _pieces(packed, entry.filename, room.most_each):
                        most -= len(piece)
                        if most < 0:
                            raise InputError(say("batch.bomb", name=name[:80]))
                        room.take(len(piece))
                        file.write(piece)


def _pieces(packed: IO[bytes], name: str, most: int) -> Iterator[bytes]:
    size = 0
    while piece := packed.read(1 << 20):
        size += len(piece)
        if size > most:
            raise InputError(say("batch.too_large", name=name[-80:], most=most >> 20))
        yield piece
