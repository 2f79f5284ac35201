"""The service's files, by name. Outside this module and `places` nobody builds a path.

A name is made of parts joined by `/`, as in `inputs/lip_0a1b/source` or `results/9f3c.mp4`.
The files lie in a folder, or wherever a URL that fsspec knows leads to, such as `s3://bucket`.
"""

import contextlib
import errno
import os
import re
import secrets
import shutil
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from kolbo_demo.process.confinement import AllowedFiles
from kolbo_demo.service.storage.backends import CACHE, File, Folder, Place, place
from kolbo_demo.service.storage.usage import Tally

INPUTS = "inputs"
PARTS = "parts"
RESULTS = "results"
_ALL = (INPUTS, PARTS, RESULTS)
_WORK = "work"
_LEAST_BYTES = 4 * 1024**2
_PART = re.compile(r"[0-9A-Za-z_-]+(\.[0-9A-Za-z]+)?")


class Storage:
    """Files by name, and a folder on this machine's disk for those that are in the making."""

    def __init__(self, folder: Path, url: str | None = None) -> None:
        """`folder` is this machine's own; what is done lies there too unless `url` says where.
        Nothing is touched before `prepare`."""
        self._work = folder / _WORK
        self._url = url
        self._place: Place = Folder(folder)
        self._tally = Tally()
        self._lock = threading.Lock()
        self._leaving: set[Path] = set()
        """Files on their way out of the work folder, which the tally has already."""
        self._rooms: Counter[str] = Counter()

    def prepare(self) -> None:
        """Make the folders and clear what an earlier run left half-made.

        Raises OSError, or ServiceError where the URL cannot be used.
        """
        shutil.rmtree(self._work, ignore_errors=True)
        # Other people's faces and voices: nobody else on this machine has to see them.
        self._work.mkdir(mode=0o700, parents=True)
        if self._url:
            self._place = place(self._url, self._work)
        self._place.prepare([INPUTS, RESULTS])
        self._tally = Tally()

    @contextlib.contextmanager
    def create(self, name: str) -> Iterator[BinaryIO]:
        """A new file to be written. It takes its name, or another's, when the block ends well."""
        made = self._work / secrets.token_hex(16)
        try:
            with made.open("w+b") as file:
                yield file
            self.publish(made, name)
        finally:
            made.unlink(missing_ok=True)

    def local(self, name: str) -> Path:
        """A file on this machine with the content of `name`, to be read only. Raises OSError.

        Opened at once it stays readable; one that is read later should be linked with `bring`.
        """
        return self._place.local(_checked(name))

    def bring(self, name: str, folder: Path) -> Path:
        """As `local`, for as long as the workspace `folder` lasts."""
        return self._place.bring(_checked(name), folder)

    def exists(self, name: str) -> bool:
        """Whether there is such a file."""
        return self._place.exists(_checked(name))

    def publish(self, path: Path, name: str) -> None:
        """Move a finished file from a workspace to `name`, whole or not at all. Raises OSError."""
        file = File(_checked(name), path.stat().st_size, time.time())
        with self._lock:
            self._leaving.add(path)
            self._tally.add(file)
        try:
            self._place.put(path, name)
        except BaseException:
            self._tally.drop(name)
            raise
        finally:
            with self._lock:
                self._leaving.discard(path)

    def delete(self, name: str) -> None:
        """Remove a file, or everything whose name begins with `name/`; nothing there is fine."""
        with contextlib.suppress(OSError):
            self._place.delete(_checked(name))
            self._tally.drop(name)

    def under(self, folder: str) -> list[str]:
        """The next part of every name that begins with `folder/`."""
        return self._place.under(_checked(folder))

    def try_out(self) -> None:
        """Raises OSError where nothing can be made on this machine's disk now."""
        probe = self._work / secrets.token_hex(16)
        probe.touch()
        probe.unlink()
        if shutil.disk_usage(self._work).free < _LEAST_BYTES:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    @property
    def listed(self) -> bool:
        """Whether `files` and `used` know what is there."""
        return self._tally.listed

    def relist(self) -> None:
        """Look at all that is there. Raises OSError. Blocks, with a store of objects for long."""
        self._tally.relist(lambda: [file for folder in _ALL for file in self._place.files(folder)])

    def files(self, folder: str) -> list[File]:
        """Every file whose name begins with `folder/`, as last listed and as changed here since."""
        return self._tally.files(_checked(folder))

    def used(self) -> int:
        """Bytes of all files, as `files` knows them, and of those in the making here."""
        with self._lock:
            return self._tally.bytes + sum(self._in_the_making())

    def _in_the_making(self) -> Iterator[int]:
        for where, folders, names in os.walk(self._work):
            if CACHE in folders:
                folders.remove(CACHE)  # copies have a bound of their own
            for path in (Path(where, name) for name in names):
                with contextlib.suppress(FileNotFoundError):  # gone since
                    stat = path.stat()
                    # One with a second name is such a copy, in use.
                    if stat.st_nlink == 1 and path not in self._leaving:
                        yield stat.st_size

    @contextlib.contextmanager
    def workspace(self, name: str, generation: str | None = None) -> Iterator[Path]:
        """An empty folder on this machine's disk, gone afterwards with all that is in it. It lies
        in the room of `generation`, which is that of the same name unless told."""
        with self.room(generation or name) as room:
            path = Path(tempfile.mkdtemp(prefix=f"{_checked(name)}.", dir=room))
            try:
                yield path
            finally:
                shutil.rmtree(path, ignore_errors=True)

    @contextlib.contextmanager
    def room(self, generation: str) -> Iterator[Path]:
        """The folder of all workspaces of a generation; it stays while somebody holds it."""
        path = self._work / _checked(generation)
        with self._lock:
            self._rooms[generation] += 1
            path.mkdir(mode=0o700, exist_ok=True)
        try:
            yield path
        finally:
            with self._lock:
                self._rooms[generation] -= 1
                if not self._rooms[generation]:
                    del self._rooms[generation]
                    shutil.rmtree(path, ignore_errors=True)

    def open_to(self, generation: str) -> AllowedFiles:
        """AllowedFiles of a process that works for a generation."""
        folders = [self._place.folder(f"{name}/{_checked(generation)}") for name in (INPUTS, PARTS)]
        read = tuple(str(folder.absolute()) for folder in folders if folder)
        return AllowedFiles(read, (str((self._work / generation).absolute()),))


def _checked(name: str) -> str:
    if not all(_PART.fullmatch(part) for part in name.split("/")):
        raise ValueError(f"not a storage name: {name!r}")
    return name


def video_name(file: str) -> str:
    """Storage name of a result's video."""
    return f"{RESULTS}/{file}.mp4"


def thumbnail_name(file: str) -> str:
    """Storage name of a result's first frame."""
    return f"{RESULTS}/{file}.jpg"


def input_name(generation: str, field: str) -> str:
    """Storage name of a generation's `source` or `audio`."""
    return f"{INPUTS}/{generation}/{field}"


def plan_name(generation: str) -> str:
    """Storage name of a long generation's plan."""
    return f"{PARTS}/{generation}/plan.npz"


def segment_name(generation: str, index: int) -> str:
    """Storage name of one of its segments."""
    return f"{PARTS}/{generation}/{index}.mp4"
