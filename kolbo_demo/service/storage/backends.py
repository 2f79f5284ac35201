"""Where files may lie: a folder, or anything else that fsspec reaches by a URL.

Both show a file under its name whole or not at all, also to other machines. Names come checked
from `storage`.
"""

import contextlib
import errno
import os
import secrets
import shutil
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Protocol

from kolbo_demo.service.errors import ServiceError

CACHE_BYTES = 2 * 1024**3
"""Copies of files that lie elsewhere take at most about so much of this machine's disk."""
BLOCK_BYTES = 8 * 1024**2
"""Held in memory of a file on its way."""
CACHE = "cache"
"""Folder of the copies, in that of the work."""
_INCOMING = "incoming"


@dataclass(frozen=True)
class File:
    """A file as a listing tells it."""

    name: str
    size: int
    """Bytes."""
    modified: float
    """Seconds since the epoch."""


class Place(Protocol):
    """What a place can do. `OSError` tells that it cannot now."""

    def prepare(self, folders: list[str]) -> None:
        """Make the folders, where a place has such."""

    def local(self, name: str) -> Path:
        """A file on this machine with the content of `name`."""
        ...

    def bring(self, name: str, folder: Path) -> Path:
        """The same, for as long as `folder` lasts."""
        ...

    def folder(self, name: str) -> Path | None:
        """The folder of this machine that holds what `bring` gives of names that begin with
        `name/`; None where that lies in the workspace."""
        ...

    def exists(self, name: str) -> bool:
        """Whether there is such a file."""
        ...

    def put(self, path: Path, name: str) -> None:
        """Move a file of this machine to `name`."""

    def delete(self, name: str) -> None:
        """Remove a file, or a folder and what it holds; nothing there is fine."""

    def under(self, folder: str) -> list[str]:
        """What a folder holds, sorted."""
        ...

    def files(self, folder: str) -> list[File]:
        """Every file in a folder and in those within it."""
        ...


def place(url: str, work: Path) -> Place:
    """The place that KOLBO_STORAGE_URL names, tried out. `work` is for copies of what is far away.

    Raises ServiceError, which does not show the URL: it may hold a password.
    """
    import fsspec  # here, not above: most keep their files in the data folder
    from fsspec.implementations.local import LocalFileSystem

    try:
        system, root = fsspec.url_to_fs(url)
        if isinstance(system, LocalFileSystem):
            return Folder(Path(root))
        found = Elsewhere(system, root.rstrip("/"), work / CACHE)
        found.try_out()
    except (ImportError, ValueError, OSError) as error:
        raise ServiceError(
            f"The files' place cannot be used ({error}); check KOLBO_STORAGE_URL."
        ) from error
    return found


class Folder:
    """A folder of this machine, or one that several machines mount."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def prepare(self, folders: list[str]) -> None:
        for folder in folders:
            (self._root / folder).mkdir(mode=0o700, parents=True, exist_ok=True)

    def local(self, name: str) -> Path:
        return self._root / name

    def bring(self, name: str, folder: Path) -> Path:  # noqa: ARG002 - nothing has to be brought
        return self._root / name

    def folder(self, name: str) -> Path | None:
        return self._root / name

    def exists(self, name: str) -> bool:
        return (self._root / name).is_file()

    def put(self, path: Path, name: str) -> None:
        target = self._root / name
        target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        try:
            path.replace(target)
        except OSError as error:
            if error.errno != errno.EXDEV:
                raise
            # From another disk: copied beside it first, so that nobody sees half a file.
            incoming = self._root / _INCOMING / secrets.token_hex(16)
            incoming.parent.mkdir(mode=0o700, exist_ok=True)
            try:
                shutil.copyfile(path, incoming)
                incoming.replace(target)
            finally:
                incoming.unlink(missing_ok=True)
            path.unlink()

    def delete(self, name: str) -> None:
        path = self._root / name
        shutil.rmtree(path, ignore_errors=True)
        path.unlink(missing_ok=True)

    def under(self, folder: str) -> list[str]:
        path = self._root / folder
        return sorted(child.name for child in path.iterdir()) if path.is_dir() else []

    def files(self, folder: str) -> list[File]:
        found = []
        for where, _, names in os.walk(self._root / folder):
            for name in names:
                path = Path(where, name)
                with contextlib.suppress(FileNotFoundError):  # gone since
                    stat = path.stat()
                    told = path.relative_to(self._root).as_posix()
                    found.append(File(told, stat.st_size, stat.st_mtime))
        return found


class Elsewhere:
    """A file system of fsspec's, with copies on this machine of what was used last."""

    def __init__(self, system: Any, root: str, cache: Path) -> None:
        self._system, self._root, self._cache = system, root, cache
        self._fetching = [threading.Lock() for _ in range(16)]

    def try_out(self) -> None:
        """Raises OSError where nothing can be written."""
        self._cache.mkdir(mode=0o700, parents=True)
        probe = self._cache / secrets.token_hex(16)
        probe.touch()
        self.put(probe, probe.name)
        self.delete(probe.name)

    def prepare(self, folders: list[str]) -> None:
        pass  # names need no folders

    def local(self, name: str) -> Path:
        copy = self._cache / name.replace("/", "+")
        with self._fetching[hash(name) % len(self._fetching)]:  # once, for all who want it
            if not copy.exists():
                self._fetch(name, copy)
            os.utime(copy)
        return copy

    def bring(self, name: str, folder: Path) -> Path:
        copy = self.local(name)
        link = folder / secrets.token_hex(8)
        os.link(copy, link)  # what is dropped from the cache stays here
        return link

    def folder(self, name: str) -> Path | None:  # noqa: ARG002 - each file is linked
        return None

    def exists(self, name: str) -> bool:
        with _told():
            self._system.invalidate_cache()  # others write as well
            return self._system.isfile(self._path(name))

    def put(self, path: Path, name: str) -> None:
        with _told(), path.open("rb") as file:
            out = self._opened(self._path(name))
            try:
                shutil.copyfileobj(file, out, BLOCK_BYTES)
                out.close()
                out.commit()
            except BaseException:
                with contextlib.suppress(Exception):
                    out.discard()
                raise
        self._keep(path, name)

    def delete(self, name: str) -> None:
        for copy in self._cache.glob(f"{name.replace('/', '+')}*"):
            copy.unlink(missing_ok=True)
        with _told(), contextlib.suppress(FileNotFoundError):
            self._system.invalidate_cache()
            self._system.rm(self._path(name), recursive=True)

    def under(self, folder: str) -> list[str]:
        with _told():
            self._system.invalidate_cache()
            try:
                found = self._system.ls(self._path(folder), detail=False)
            except FileNotFoundError:
                return []
        return sorted(name.rstrip("/").rpartition("/")[2] for name in found)

    def files(self, folder: str) -> list[File]:
        with _told():
            self._system.invalidate_cache()
            found = self._system.find(self._path(folder), detail=True)
        root = len(self._path("")) + 1
        return [
            File(path[root:], int(told.get("size") or 0), _modified(told))
            for path, told in found.items()
        ]

    def _path(self, name: str) -> str:
        return f"{self._root}/{name}".rstrip("/")

    def _opened(self, path: str) -> Any:
        """A file that is seen once it is committed."""
        how = {"mode": "wb", "block_size": BLOCK_BYTES, "autocommit": False}
        try:
            return self._system.open(path, **how)
        except FileNotFoundError:  # where there are folders, they come first
            self._system.makedirs(path.rpartition("/")[0], exist_ok=True)
            return self._system.open(path, **how)

    def _fetch(self, name: str, copy: Path) -> None:
        incoming = copy.with_name(f".{secrets.token_hex(16)}")
        try:
            path = self._path(name)
            with (
                _told(),
                self._system.open(path, "rb", block_size=BLOCK_BYTES) as file,
                incoming.open("wb") as out,
            ):
                shutil.copyfileobj(file, out, BLOCK_BYTES)
            self._keep(incoming, name)
        finally:
            incoming.unlink(missing_ok=True)

    def _keep(self, path: Path, name: str) -> None:
        """Move a file to the cache, and drop from it what was not used for longest."""
        copy = self._cache / name.replace("/", "+")
        path.replace(copy)
        copies = []
        for file in self._cache.iterdir():
            with contextlib.suppress(OSError):  # dropped by another thread
                copies.append((file.stat().st_mtime, file.stat().st_size, file))
        left = CACHE_BYTES
        for _, size, file in sorted(copies, reverse=True):
            left -= size
            if left < 0 and file != copy:
                file.unlink(missing_ok=True)


def _modified(told: dict[str, Any]) -> float:
    """When a file was written. Each library has its own word for it; now, where one has none."""
    for word in ("mtime", "LastModified", "last_modified", "updated", "modified", "created"):
        when = told.get(word)
        if isinstance(when, str):
            when = datetime.fromisoformat(when)
        if isinstance(when, datetime):
            return when.timestamp()
        if isinstance(when, int | float):
            return float(when)
    return time.time()


@contextlib.contextmanager
def _told() -> Iterator[None]:
    """Turn what the many libraries under fsspec raise into OSError."""
    try:
        yield
    except OSError:
        raise
    except Exception as error:
        raise OSError(errno.EIO, f"the file store failed: {error}") from error
