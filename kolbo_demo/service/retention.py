"""How long results stay, and how much room all files may take.

A result, its generation's row in the database with the prompt in it, and what a refused upload
left, go after the hours that the owner set. Where the files take more room than he set, the oldest
results go before their time, but none that its caller may not have fetched yet: then new work is
refused until there is room. Nothing goes while it is being sent, or was a moment ago.
"""

import contextlib
import logging
import shutil
import threading
import time
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime
from functools import partial
from math import inf

from kolbo_demo import logs
from kolbo_demo.clock import AgeTracker, monotonic
from kolbo_demo.contract import FINAL_STATES
from kolbo_demo.service import metrics
from kolbo_demo.service.errors import ApiError
from kolbo_demo.service.job_queue import Jobs
from kolbo_demo.service.storage.backends import File
from kolbo_demo.service.storage.files import INPUTS, PARTS, RESULTS
from kolbo_demo.service.workflows import context
from kolbo_demo.settings import Settings

_log = logging.getLogger(__name__)

SWEEP_SECONDS = 60.0
"""What others did to the files is looked at about so often,"""
LISTING_SHARE = 0.1
"""and less often where looking takes long: at most this part of the time."""
FETCH_SECONDS = 600.0
"""A result stays at least so long after it was made, and after it was last sent."""
ABANDONED_SECONDS = 3600.0
"""No upload takes so long: inputs of no generation that are as old are left-overs."""
STEP_BYTES = 1024**2
"""Reserved at a time for an upload, and more as it grows:"""
MAX_STEP_BYTES = 16 * STEP_BYTES
"""as much as has arrived, up to so many bytes. Each look at the disk takes as long as 1 MB does."""
SPARE_BYTES = 64 * 1024**2
"""Of the disk, left to the database and to others."""
_ENDED = ["SUCCESS", "ERROR", "CANCELLED", "MAX_RECOVERY_ATTEMPTS_EXCEEDED"]
_AGAIN_SECONDS = 60


class Retention:
    """Removes what is old or too much, in a thread of its own between `start` and `stop`."""

    def __init__(self, jobs: Jobs, settings: Settings) -> None:
        self._jobs = jobs
        self.hours = settings.retention_hours
        self._seconds = settings.retention_hours * 3600
        self._limit = int(settings.max_disk_gb * 1e9)
        self._folder = settings.data_dir.expanduser().absolute()
        self._lock = threading.Lock()
        self._making_room = threading.Lock()
        """Held while results are removed, so that no two threads make the same room twice."""
        self._coming = 0
        """Bytes of uploads under way."""
        self._sending: Counter[str] = Counter()
        self._sent: dict[str, float] = {}
        """When each result was last sent, by `steady`."""
        self._ages = AgeTracker()
        self._listing = threading.Lock()
        self._list_again = 0.0
        """When to look at the files again, by `time.monotonic`."""
        self._ended = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Sweep from now on."""
        self._ended.clear()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Sweep no more. Blocks shortly."""
        self._ended.set()
        self._jobs.changed.set()
        if self._thread:
            self._thread.join(1)

    @contextlib.contextmanager
    def upload(self, length: int) -> Iterator["Room"]:
        """Room for an upload of at most so many bytes, for as long as it lasts."""
        room = Room(self, length)
        try:
            yield room
        finally:
            room.written(room.ahead)

    def expect(self, size: int) -> None:
        """So many bytes are coming; `release` all of them in the end."""
        with self._lock:
            self._coming += size

    def check_room(self) -> None:
        """Make room for what is coming. Raises ApiError where there is none. Blocks."""
        if self._free() < 0:
            self._make_room()
            if self._free() < 0:
                raise ApiError(
                    503,
                    "STORAGE_FULL",
                    "The service has no room for more files now; try again later.",
                    {"Retry-After": str(_AGAIN_SECONDS)},
                )

    def release(self, size: int) -> None:
        """So many bytes are coming no more: they came, or will not."""
        with self._lock:
            self._coming -= size

    @contextlib.contextmanager
    def sending(self, file: str) -> Iterator[None]:
        """Keep a result, named by its stem, while it is sent."""
        with self._lock:
            self._sending[file] += 1
        try:
            yield
        finally:
            with self._lock:
                self._sending[file] -= 1
                self._sending += Counter()  # drops what is at 0
                self._sent[file] = monotonic()

    def sweep(self) -> None:
        """Remove what is too old or too much, once."""
        rows = self._forget()
        self._list_if_due()
        for file in self._jobs.storage.files(RESULTS):
            if self._age(file) > self._seconds and not self._in_use(_stem(file)):
                self._jobs.storage.delete(file.name)
        self._abandoned()
        self._make_room()
        folders = (INPUTS, PARTS, RESULTS)
        files = {file.name for folder in folders for file in self._jobs.storage.files(folder)}
        self._ages.retain(rows | files)
        now = monotonic()
        with self._lock:
            self._sent = {f: t for f, t in self._sent.items() if t > now - FETCH_SECONDS}

    def _run(self) -> None:
        while not self._ended.is_set():
            try:
                self.sweep()
            except Exception as error:  # noqa: BLE001 - whatever it is, the next sweep comes
                logs.event(_log, "sweep failed", logging.INFO, error=type(error).__name__)
            self._jobs.changed.wait(SWEEP_SECONDS)
            self._jobs.changed.clear()

    def _list_if_due(self) -> None:
        with self._listing:
            begun = time.monotonic()
            if self._jobs.storage.listed and begun < self._list_again:
                return
            self._jobs.storage.relist()
            ended = time.monotonic()
            self._list_again = ended + max(SWEEP_SECONDS, (ended - begun) / LISTING_SHARE)

    def _forget(self) -> set[str]:
        """Remove rows of generations past retention, with their files. Returns the candidates: rows
        that are old by the wall clock, and rows of the future, left when it was set back."""
        now = time.time()
        ended = partial(
            self._jobs.rows.list_workflows,
            name=context.GENERATIONS,
            status=_ENDED,
            load_input=False,
            load_output=False,
        )
        suspects = {
            row.workflow_id: (row.completed_at or 0) / 1000
            for row in ended(completed_before=_iso(now - self._seconds))
            + ended(completed_after=_iso(now + SWEEP_SECONDS))
        }
        old = [name for name, at in suspects.items() if self._ages.age(name, at) > self._seconds]
        rows = self._jobs.rows.list_workflows(workflow_ids=old, load_output=False) if old else []
        for row in rows:
            job = row.input["args"][0] if row.input else {}
            stem = job.get("file", "")
            if not self._in_use(stem):
                self._jobs.discard(row.workflow_id, stem or None)
                self._jobs.forget(row.workflow_id)
        return set(suspects)

    def _abandoned(self) -> None:
        """Remove inputs and parts that belong to no generation under way."""
        youngest: dict[str, float] = {}
        storage = self._jobs.storage
        for file in storage.files(INPUTS) + storage.files(PARTS):
            generation = file.name.split("/")[1]
            youngest[generation] = min(youngest.get(generation, inf), self._age(file))
        for generation, age in youngest.items():
            if age > ABANDONED_SECONDS:
                found = self._jobs.find(generation)
                if found is None or found.state in FINAL_STATES:
                    self._jobs.discard(generation)

    def _make_room(self) -> None:
        """Remove the oldest results until all fits, as far as they may go."""
        with self._making_room:
            free = self._free()
            if free >= 0:
                return
            for file in sorted(self._jobs.storage.files(RESULTS), key=self._age, reverse=True):
                if free >= 0:
                    return
                if self._age(file) > FETCH_SECONDS and not self._in_use(_stem(file)):
                    self._jobs.storage.delete(file.name)
                    free += file.size
                    logs.event(_log, "result removed for want of room", bytes=file.size)

    def _in_use(self, stem: str) -> bool:
        with self._lock:
            return bool(self._sending[stem]) or self._sent.get(stem, -inf) > (
                monotonic() - FETCH_SECONDS
            )

    def _age(self, file: File) -> float:
        return self._ages.age(file.name, file.modified)

    def _free(self) -> int:
        """Bytes left for more, below zero where there are too many; uploads under way count."""
        if not self._jobs.storage.listed:
            self._list_if_due()
        used = self._jobs.storage.used()
        metrics.now("disk_bytes", used)
        with self._lock:
            coming = self._coming
        left = self._limit - used - coming
        return min(left, shutil.disk_usage(self._folder).free - SPARE_BYTES - coming)


class Room:
    """Disk space of one upload, reserved in steps as bytes arrive: an announced length alone
    reserves nothing."""

    def __init__(self, retention: Retention, length: int) -> None:
        self._retention = retention
        self._length = length
        self.ahead = 0
        """Bytes reserved and not written yet."""
        self._received = 0

    def reserve(self, size: int) -> None:
        """Have room for `size` bytes more. Raises ApiError where there is none. Blocks."""
        step = max(STEP_BYTES, min(self._received, MAX_STEP_BYTES))
        more = max(size, min(step, self._length - self._received - self.ahead))
        self._retention.expect(more)
        self.ahead += more
        self._retention.check_room()

    def written(self, size: int) -> None:
        """So many bytes are on the disk now, and count there."""
        self.ahead -= size
        self._received += size
        self._retention.release(size)


def _iso(seconds: float) -> str:
    """A time by `time.time` as dbos reads it."""
    return datetime.fromtimestamp(seconds, UTC).isoformat()


def _stem(file: File) -> str:
    return file.name.rpartition("/")[2].partition(".")[0]
