"""Names and sizes of stored files, without a listing for each query.

An object store lists a thousand names per request, so listings are rare. Between them the changes
of this process are tracked; those of other processes show in the next listing.
"""

import threading
from collections.abc import Callable

from kolbo_demo.service.storage.backends import StoredFile


class DiskUsage:
    """The files of the last listing, with the changes of this process since."""

    def __init__(self) -> None:
        self.is_listed = False
        """Whether there was a listing."""
        self.bytes = 0
        self._lock = threading.Lock()
        self._listing = threading.Lock()
        self._changes: list[tuple[str, StoredFile | None]] = []
        """Since the running listing began, which may or may not show them."""
        self._groups: dict[str, dict[str, StoredFile]] = {}
        """Files by the first two parts of their names: the unit of deletion."""

    def refresh(self, listing: Callable[[], list[StoredFile]]) -> None:
        """Replace all by the result of `listing`. Raises what it raises. Blocks."""
        with self._listing:
            with self._lock:
                self._changes = []
            files = listing()
            with self._lock:
                self._groups, self.bytes = {}, 0
                for file in files:
                    self._apply(file.name, file)
                for name, changed in self._changes:
                    self._apply(name, changed)
                self._changes, self.is_listed = [], True

    def add(self, file: StoredFile) -> None:
        """Record a new or replaced file."""
        self._change(file.name, file)

    def drop(self, name: str) -> None:
        """Record the deletion of a file, or of all below `name/`."""
        self._change(name, None)

    def list_files(self, folder: str) -> list[StoredFile]:
        """All files below `folder/`."""
        with self._lock:
            groups = [g for name, g in self._groups.items() if name.startswith(f"{folder}/")]
            return [file for group in groups for file in group.values()]

    def _change(self, name: str, file: StoredFile | None) -> None:
        with self._lock:
            self._apply(name, file)
            if self._listing.locked():
                self._changes.append((name, file))

    def _apply(self, name: str, file: StoredFile | None) -> None:
        key = "/".join(name.split("/")[:2])
        group = self._groups.setdefault(key, {})
        for known in [each for each in group if each == name or each.startswith(f"{name}/")]:
            self.bytes -= group.pop(known).size
        if file:
            group[name] = file
            self.bytes += file.size
        if not group:
            del self._groups[key]
