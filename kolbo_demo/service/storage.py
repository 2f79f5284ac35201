"""The service's files, by name. Outside this module nobody builds a path.

A name is made of parts joined by `/`, as in `inputs/lip_0a1b/source` or `results/9f3c.mp4`.
Today the files lie in a folder; the names are fit for an object store as they are.
"""

import contextlib
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

INPUTS = "inputs"
RESULTS = "results"
_WORK = "work"
_PART = re.compile(r"[0-9A-Za-z_-]+(\.[0-9A-Za-z]+)?")


class Storage:
    """Files under one folder, which is made when needed."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def prepare(self) -> None:
        """Make the folders and clear what an earlier run left half-made. Raises OSError."""
        shutil.rmtree(self._root / _WORK, ignore_errors=True)
        for folder in (INPUTS, RESULTS, _WORK):
            # Other people's faces and voices: nobody else on this machine has to see them.
            (self._root / folder).mkdir(mode=0o700, parents=True, exist_ok=True)

    def create(self, name: str) -> BinaryIO:
        """Open a new file for writing, or an old one emptied."""
        path = self._path(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        return path.open("wb")

    def local(self, name: str) -> Path:
        """A file on this machine with the content of `name`, to be read only."""
        return self._path(name)

    def exists(self, name: str) -> bool:
        """Whether there is such a file."""
        return self._path(name).is_file()

    def publish(self, path: Path, name: str) -> None:
        """Move a finished file from a workspace to `name`, whole or not at all."""
        target = self._path(name)
        target.parent.mkdir(parents=True, exist_ok=True)
        path.replace(target)

    def delete(self, name: str) -> None:
        """Remove a file, or everything whose name begins with `name/`; nothing there is fine."""
        path = self._path(name)
        shutil.rmtree(path, ignore_errors=True)
        with contextlib.suppress(OSError):
            path.unlink(missing_ok=True)

    def under(self, folder: str) -> list[str]:
        """The next part of every name that begins with `folder/`."""
        path = self._path(folder)
        return sorted(child.name for child in path.iterdir()) if path.is_dir() else []

    @contextlib.contextmanager
    def workspace(self, name: str) -> Iterator[Path]:
        """An empty folder on this machine's disk, gone afterwards with all that is in it."""
        path = self._path(f"{_WORK}/{name}")
        shutil.rmtree(path, ignore_errors=True)
        path.mkdir(parents=True)
        try:
            yield path
        finally:
            shutil.rmtree(path, ignore_errors=True)

    def _path(self, name: str) -> Path:
        parts = name.split("/")
        if not all(_PART.fullmatch(part) for part in parts):
            raise ValueError(f"not a storage name: {name!r}")
        return self._root.joinpath(*parts)


def video_name(file: str) -> str:
    """Storage name of a result's video."""
    return f"{RESULTS}/{file}.mp4"


def thumbnail_name(file: str) -> str:
    """Storage name of a result's first frame."""
    return f"{RESULTS}/{file}.jpg"


def input_name(generation: str, field: str) -> str:
    """Storage name of a generation's `source` or `audio`."""
    return f"{INPUTS}/{generation}/{field}"
