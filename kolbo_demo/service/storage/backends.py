"""Storage backends: a folder, or any other file system of fsspec.

Both write files atomically, also for other machines. `Storage` validates the names.
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
"""Approximate limit of the local copies of remote files."""
BLOCK_BYTES = 8 * 1024**2
"""Of a transfer, held in memory."""
CACHE = "cache"
"""Folder of the local copies, in the work folder."""
_INCOMING = "incoming"


@dataclass(frozen=True)
class StoredFile:
    """A file in a listing."""

    name: str
    size: int
    """Bytes."""
    modified: float
    """Seconds since the epoch."""


class Backend(Protocol):
    """Where files are stored. All methods raise OSError."""

    def prepare(self, folders: list[str]) -> None:
        """Create the folders, if the backend has folders."""

    def local(self, name: str) -> Path:
        """A local file with the content of `name`."""
        ...

    def checkout(self, name: str, folder: Path) -> Path:
        """The same, which exists as long as the workspace `folder`."""
        ...

    def local_folder(self, name: str) -> Path | None:
        """The local folder of the files that `checkout` returns for names below `name/`; None if
        they are in the workspace."""
        ...

    def exists(self, name: str) -> bool:
        """Whether there is such a file."""
        ...

    def put(self, path: Path, name: str) -> None:
        """Move a local file to `name`."""

    def delete(self, name: str) -> None:
        """Delete a file, or a folder with its content, if it exists."""

    def list_children(self, folder: str) -> list[str]:
        """Names of files and folders in a folder, sorted."""
        ...

    def list_files(self, folder: str) -> list[StoredFile]:
        """All files below a folder."""
        ...


def open_backend(url: str, work: Path) -> Backend:
    """The backend of KOLBO_STORAGE_URL, checked. `work` is for copies of remote files.

    Raises ServiceError without the URL, which may hold a password.
    """
    import fsspec  # here, not above: most keep their files in the data folder
    from fsspec.implementations.local import LocalFileSystem

    try:
        system, root = fsspec.url_to_fs(url)
        if isinstance(system, LocalFileSystem):
            return FolderBackend(Path(root))
        found = FsspecBackend(system, root.rstrip("/"), work / CACHE)
        found.check_writable()
    except (ImportError, ValueError, OSError) as error:
        raise ServiceError(
            f"The file storage cannot be used ({error}); check KOLBO_STORAGE_URL."
        ) from error
    return found


class FolderBackend:
    """A local or mounted folder."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def prepare(self, folders: list[str]) -> None:
        for folder in folders:
            (self._root / folder).mkdir(mode=0o700, parents=True, exist_ok=True)

    def local(self, name: str) -> Path:
        return self._root / name

    def checkout(self, name: str, folder: Path) -> Path:  # noqa: ARG002 - the file is local
        return self._root / name

    def local_folder(self, name: str) -> Path | None:
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
            # From another disk: copied first, so that the name never has half a file.
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

    def list_children(self, folder: str) -> list[str]:
        path = self._root / folder
        return sorted(child.name for child in path.iterdir()) if path.is_dir() else []

    def list_files(self, folder: str) -> list[StoredFile]:
        found = []
        for where, _, names in os.walk(self._root / folder):
            for name in names:
                path = Path(where, name)
                with contextlib.suppress(FileNotFoundError):  # gone since
                    stat = path.stat()
                    relative = path.relative_to(self._root).as_posix()
                    found.append(StoredFile(relative, stat.st_size, stat.st_mtime))
        return found


class FsspecBackend:
    """A file system of fsspec, with local copies of the files used last."""

    def __init__(self, system: Any, root: str, cache: Path) -> None:
        self._system, self._root, self._cache = system, root, cache
        self._fetching = [threading.Lock() for _ in range(16)]

    def check_writable(self) -> None:
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
        with self._fetching[hash(name) % len(self._fetching)]:  # one fetch for concurrent calls
            if not copy.exists():
                self._fetch(name, copy)
            os.utime(copy)
        return copy

    def checkout(self, name: str, folder: Path) -> Path:
        copy = self.local(name)
        link = folder / secrets.token_hex(8)
        os.link(copy, link)  # survives an eviction from the cache
        return link

    def local_folder(self, name: str) -> Path | None:  # noqa: ARG002 - each file is linked
        return None

    def exists(self, name: str) -> bool:
        with _as_os_errors():
            self._system.invalidate_cache()  # other processes write as well
            return self._system.isfile(self._path(name))

    def put(self, path: Path, name: str) -> None:
        with _as_os_errors(), path.open("rb") as file:
            out = self._create(self._path(name))
            try:
                shutil.copyfileobj(file, out, BLOCK_BYTES)
                out.close()
                out.commit()
            except BaseException:
                with contextlib.suppress(Exception):
                    out.discard()
                raise
        self._add_to_cache(path, name)

    def delete(self, name: str) -> None:
        for copy in self._cache.glob(f"{name.replace('/', '+')}*"):
            copy.unlink(missing_ok=True)
        with _as_os_errors(), contextlib.suppress(FileNotFoundError):
            self._system.invalidate_cache()
            self._system.rm(self._path(name), recursive=True)

    def list_children(self, folder: str) -> list[str]:
        with _as_os_errors():
            self._system.invalidate_cache()
            try:
                found = self._system.ls(self._path(folder), detail=False)
            except FileNotFoundError:
                return []
        return sorted(name.rstrip("/").rpartition("/")[2] for name in found)

    def list_files(self, folder: str) -> list[StoredFile]:
        with _as_os_errors():
            self._system.invalidate_cache()
            found = self._system.find(self._path(folder), detail=True)
        root = len(self._path("")) + 1
        return [
            StoredFile(path[root:], int(info.get("size") or 0), _modified(info))
            for path, info in found.items()
        ]

    def _path(self, name: str) -> str:
        return f"{self._root}/{name}".rstrip("/")

    def _create(self, path: str) -> Any:
        """A new file, visible once it is committed."""
        options = {"mode": "wb", "block_size": BLOCK_BYTES, "autocommit": False}
        try:
            return self._system.open(path, **options)
        except FileNotFoundError:  # the file system has folders
            self._system.makedirs(path.rpartition("/")[0], exist_ok=True)
            return self._system.open(path, **options)

    def _fetch(self, name: str, copy: Path) -> None:
        incoming = copy.with_name(f".{secrets.token_hex(16)}")
        try:
            path = self._path(name)
            with (
                _as_os_errors(),
                self._system.open(path, "rb", block_size=BLOCK_BYTES) as file,
                incoming.open("wb") as out,
            ):
                shutil.copyfileobj(file, out, BLOCK_BYTES)
            self._add_to_cache(incoming, name)
        finally:
            incoming.unlink(missing_ok=True)

    def _add_to_cache(self, path: Path, name: str) -> None:
        """Move a file to the cache, and evict the files used least recently."""
        copy = self._cache / name.replace("/", "+")
        path.replace(copy)
        copies = []
        for file in self._cache.iterdir():
            with contextlib.suppress(OSError):  # evicted by another thread
                copies.append((file.stat().st_mtime, file.stat().st_size, file))
        free = CACHE_BYTES
        for _, size, file in sorted(copies, reverse=True):
            free -= size
            if free < 0 and file != copy:
                file.unlink(missing_ok=True)


def _modified(info: dict[str, Any]) -> float:
    """Modification time, under the key of each library; now if there is none."""
    for key in ("mtime", "LastModified", "last_modified", "updated", "modified", "created"):
        when = info.get(key)
        if isinstance(when, str):
            when = datetime.fromisoformat(when)
        if isinstance(when, datetime):
            return when.timestamp()
        if isinstance(when, int | float):
            return float(when)
    return time.time()


@contextlib.contextmanager
def _as_os_errors() -> Iterator[None]:
    """Raise the errors of fsspec's libraries as OSError."""
    try:
        yield
    except OSError:
        raise
    except Exception as error:
        raise OSError(errno.EIO, f"the file store failed: {error}") from error
