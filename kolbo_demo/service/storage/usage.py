"""Which files there are and what they weigh, known without asking for them each time.

A store of objects tells a thousand names a request, so it is asked seldom. In between, what this
process does to the files is counted along; what others do is known with the next listing.
"""

import threading
from collections.abc import Callable

from kolbo_demo.service.storage.backends import File


class Tally:
    """The files as last listed, and as changed here since."""

    def __init__(self) -> None:
        self.listed = False
        """Whether they ever were."""
        self.bytes = 0
        self._lock = threading.Lock()
        self._listing = threading.Lock()
        self._changes: list[tuple[str, File | None]] = []
        """Since the listing under way began: it may or may not show them."""
        self._groups: dict[str, dict[str, File]] = {}
        """Files by the first two parts of their names, which is what is removed at once."""

    def relist(self, listing: Callable[[], list[File]]) -> None:
        """Take what `listing` returns for what there is. Raises what it raises. Blocks."""
        with self._listing:
            with self._lock:
                self._changes = []
            files = listing()
            with self._lock:
                self._groups, self.bytes = {}, 0
                for file in files:
                    self._note(file.name, file)
                for name, changed in self._changes:
                    self._note(name, changed)
                self._changes, self.listed = [], True

    def add(self, file: File) -> None:
        """A file takes its name, or another's."""
        self._change(file.name, file)

    def drop(self, name: str) -> None:
        """A file, or everything whose name begins with `name/`, is gone."""
        self._change(name, None)

    def files(self, folder: str) -> list[File]:
        """Every file whose name begins with `folder/`."""
        with self._lock:
            groups = [g for name, g in self._groups.items() if name.startswith(f"{folder}/")]
            return [file for group in groups for file in group.values()]

    def _change(self, name: str, file: File | None) -> None:
        with self._lock:
            self._note(name, file)
            if self._listing.locked():
                self._changes.append((name, file))

    def _note(self, name: str, file: File | None) -> None:
        key = "/".join(name.split("/")[:2])
        group = self._groups.setdefault(key, {})
        for known in [one for one in group if one == name or one.startswith(f"{name}/")]:
            self.bytes -= group.pop(known).size
        if file:
            group[name] = file
            self.bytes += file.size
        if not group:
            del self._groups[key]
