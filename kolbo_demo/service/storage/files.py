"""The service's files, by name. Only this module and `backends` build paths.

A name has parts joined by `/`, as in `inputs/lip_0a1b/source` or `results/9f3c.mp4`. The files are
in a folder or at a URL of fsspec, such as `s3://bucket`.
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
from kolbo_demo.safe_file import UnsafeFileError, read_regular_file
from kolbo_demo.service.storage.backends import (
    CACHE,
    Backend,
    FolderBackend,
    StoredFile,
    open_backend,
)
from kolbo_demo.service.storage.usage import DiskUsage

INPUTS = "inputs"
PARTS = "parts"
RESULTS = "results"
_ALL = (INPUTS, PARTS, RESULTS)
_WORK = "work"
_MIN_FREE_BYTES = 4 * 1024**2
_MAX_PREVIEW_BYTES = 256 * 1024
_PART = re.compile(r"[0-9A-Za-z_-]+(\.[0-9A-Za-z]+)?")


class Storage:
    """AllowedFiles by name, and a local work folder for unfinished ones."""

    def __init__(self, folder: Path, url: str | None = None) -> None:
        """`folder` is local; it also holds the finished files, unless `url` says where they are.
        Nothing is written before `prepare`."""
        self._work = folder / _WORK
        self._url = url
        self._backend: Backend = FolderBackend(folder)
        self._usage = DiskUsage()
        self._lock = threading.Lock()
        self._publishing: set[Path] = set()
        """AllowedFiles of the work folder that `_usage` counts already."""
        self._workspace_counts: Counter[str] = Counter()

    def prepare(self) -> None:
        """Create the folders and delete unfinished files of an earlier run.

        Raises OSError, or ServiceError if the URL cannot be used.
        """
        shutil.rmtree(self._work, ignore_errors=True)
        # Visitors' faces and voices are private from other users of the machine.
        self._work.mkdir(mode=0o700, parents=True)
        if self._url:
            self._backend = open_backend(self._url, self._work)
        self._backend.prepare([INPUTS, RESULTS])
        self._usage = DiskUsage()

    @contextlib.contextmanager
    def create(self, name: str) -> Iterator[BinaryIO]:
        """A new file to write. It is published under its name, replacing another, if the block does
        not raise."""
        path = self._work / secrets.token_hex(16)
        try:
            with path.open("w+b") as file:
                yield file
            self.publish(path, name)
        finally:
            path.unlink(missing_ok=True)

    def local(self, name: str) -> Path:
        """A local, read-only file with the content of `name`. Raises OSError.

        It must be opened at once; `checkout` is for files that are read later.
        """
        return self._backend.local(_validated(name))

    def checkout(self, name: str, folder: Path) -> Path:
        """As `local`; the file exists as long as the workspace `folder`."""
        return self._backend.checkout(_validated(name), folder)

    def exists(self, name: str) -> bool:
        return self._backend.exists(_validated(name))

    def publish(self, path: Path, name: str) -> None:
        """Move a finished file from a workspace to `name`, atomically. Raises OSError."""
        file = StoredFile(_validated(name), path.stat().st_size, time.time())
        with self._lock:
            self._publishing.add(path)
            self._usage.add(file)
        try:
            self._backend.put(path, name)
        except BaseException:
            self._usage.drop(name)
            raise
        finally:
            with self._lock:
                self._publishing.discard(path)

    def delete(self, name: str) -> None:
        """Delete a file, or all below `name/`, if it exists."""
        with contextlib.suppress(OSError):
            self._backend.delete(_validated(name))
            self._usage.drop(name)

    def list_children(self, folder: str) -> list[str]:
        """The next part of every name below `folder/`."""
        return self._backend.list_children(_validated(folder))

    def check_writable(self) -> None:
        """Raises OSError if no file can be created on the local disk."""
        probe = self._work / secrets.token_hex(16)
        probe.touch()
        probe.unlink()
        if shutil.disk_usage(self._work).free < _MIN_FREE_BYTES:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    @property
    def is_listed(self) -> bool:
        """Whether `refresh` was called, so that `list_files` and `used_bytes` are complete."""
        return self._usage.is_listed

    def refresh(self) -> None:
        """List all files. Raises OSError. Blocks, for long with an object store."""
        self._usage.refresh(
            lambda: [file for folder in _ALL for file in self._backend.list_files(folder)]
        )

    def list_files(self, folder: str) -> list[StoredFile]:
        """All files below `folder/`, as of the last `refresh` and the changes of this process."""
        return self._usage.list_files(_validated(folder))

    def used_bytes(self) -> int:
        """Bytes of all files of `list_files`, and of unfinished ones of this process."""
        with self._lock:
            return self._usage.bytes + sum(self._workspace_sizes())

    def _workspace_sizes(self) -> Iterator[int]:
        for where, folders, names in os.walk(self._work):
            if CACHE in folders:
                folders.remove(CACHE)  # has a limit of its own
            for path in (Path(where, name) for name in names):
                with contextlib.suppress(FileNotFoundError):  # gone since
                    stat = path.stat()
                    # A file with a second link is checked out from the cache.
                    if stat.st_nlink == 1 and path not in self._publishing:
                        yield stat.st_size

    @contextlib.contextmanager
    def workspace(self, name: str, generation: str | None = None) -> Iterator[Path]:
        """An empty local folder, deleted after the block, in the folder of `generation`, which is
        `name` by default."""
        with self.generation_folder(generation or name) as parent:
            path = Path(tempfile.mkdtemp(prefix=f"{_validated(name)}.", dir=parent))
            try:
                yield path
            finally:
                shutil.rmtree(path, ignore_errors=True)

    @contextlib.contextmanager
    def generation_folder(self, generation: str) -> Iterator[Path]:
        """The folder of all workspaces of a generation, deleted after the last concurrent block."""
        path = self._work / _validated(generation)
        with self._lock:
            self._workspace_counts[generation] += 1
            path.mkdir(mode=0o700, exist_ok=True)
        try:
            yield path
        finally:
            with self._lock:
                self._workspace_counts[generation] -= 1
                if not self._workspace_counts[generation]:
                    del self._workspace_counts[generation]
                    shutil.rmtree(path, ignore_errors=True)

    def preview_file(self, generation: str) -> Path:
        """JPEG of the latest frame, in the folder of the generation's workspaces, which is deleted
        with them."""
        return self._work / _validated(generation) / "preview.jpg"

    def read_preview(self, generation: str) -> bytes | None:
        """Content of `preview_file`; None if this process does not render the generation. The child
        process that writes it is not trusted."""
        with contextlib.suppress(OSError, UnsafeFileError):
            return read_regular_file(self.preview_file(generation), _MAX_PREVIEW_BYTES)
        return None

    def allowed_files(self, generation: str, *, create_parts: bool = False) -> AllowedFiles:
        """The files that a child process for a generation may open. `create_parts` creates the
        folder of plan and segments, as a child can only be given folders that exist."""
        names = [f"{name}/{_validated(generation)}" for name in (INPUTS, PARTS)]
        inputs, parts = map(self._backend.local_folder, names)
        if create_parts and parts:
            parts.mkdir(mode=0o700, parents=True, exist_ok=True)
        read = tuple(str(folder.absolute()) for folder in (inputs, parts) if folder)
        return AllowedFiles(read, (str((self._work / generation).absolute()),))


def _validated(name: str) -> str:
    if not all(_PART.fullmatch(part) for part in name.split("/")):
        raise ValueError(f"not a storage name: {name!r}")
    return name


def video_name(file_stem: str) -> str:
    """Storage name of a result's video."""
    return f"{RESULTS}/{file_stem}.mp4"


def thumbnail_name(file_stem: str) -> str:
    """Storage name of a result's first frame."""
    return f"{RESULTS}/{file_stem}.jpg"


def input_name(generation: str, field: str) -> str:
    """Storage name of a generation's `source` or `audio`."""
    return f"{INPUTS}/{generation}/{field}"


def plan_name(generation: str) -> str:
    """Storage name of a long generation's plan."""
    return f"{PARTS}/{generation}/plan.npz"


def segment_name(generation: str, index: int) -> str:
    """Storage name of one segment of a long generation."""
    return f"{PARTS}/{generation}/{index}.mp4"
