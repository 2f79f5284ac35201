"""Retention of results, and the disk limit of all files.

A result, its generation's database row (which has the prompt) and inputs of refused uploads expire
after the configured hours. Above the configured disk limit the oldest results are deleted early,
except those younger than `FETCH_GRACE_SECONDS`: then new uploads are refused. A result is not
deleted while it is sent, nor shortly after.
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
from kolbo_demo.service.job_queue import JobQueue
from kolbo_demo.service.progress import job_of
from kolbo_demo.service.storage.backends import StoredFile
from kolbo_demo.service.storage.files import INPUTS, PARTS, RESULTS
from kolbo_demo.service.workflows import context
from kolbo_demo.settings import Settings

_log = logging.getLogger(__name__)

SWEEP_INTERVAL_SECONDS = 60.0
"""Interval of sweeps, and of listings of all files,"""
MAX_LISTING_SHARE = 0.1
"""unless listings take more than this share of the time."""
FETCH_GRACE_SECONDS = 600.0
"""Minimum time that a result is kept after its render, and after it was last sent."""
ABANDONED_SECONDS = 3600.0
"""No upload takes so long: older inputs without a generation are deleted."""
MIN_RESERVE_BYTES = 1024**2
"""Reserved at a time for an upload; more as it grows:"""
MAX_RESERVE_BYTES = 16 * MIN_RESERVE_BYTES
"""as much as has arrived, up to this. A check of the disk takes as long as receiving 1 MB."""
FREE_DISK_BYTES = 64 * 1024**2
"""Left free for the database and other programs."""
_ENDED = ["SUCCESS", "ERROR", "CANCELLED", "MAX_RECOVERY_ATTEMPTS_EXCEEDED"]
_RETRY_SECONDS = 60


class Retention:
    """Deletes expired and excess files, in a thread of its own between `start` and `stop`."""

    def __init__(self, jobs: JobQueue, settings: Settings) -> None:
        self._jobs = jobs
        self.hours = settings.retention_hours
        self._seconds = settings.retention_hours * 3600
        self._limit = int(settings.max_disk_gb * 1e9)
        self._folder = settings.data_dir.expanduser().absolute()
        self._lock = threading.Lock()
        self._freeing_space = threading.Lock()
        """Held while results are deleted, so that no two threads free the same space."""
        self._reserved = 0
        """Bytes that running uploads will write."""
        self._sending: Counter[str] = Counter()
        self._sent: dict[str, float] = {}
        """Time when each result was last sent, by `monotonic`."""
        self._ages = AgeTracker()
        self._listing = threading.Lock()
        self._next_listing = 0.0
        """By `time.monotonic`."""
        self._stopped = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        self._stopped.clear()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Stop the thread. Blocks for up to a second."""
        self._stopped.set()
        self._jobs.workflow_ended.set()
        if self._thread:
            self._thread.join(1)

    @contextlib.contextmanager
    def upload(self, length: int) -> Iterator["UploadReservation"]:
        """Reserve disk space in the block for an upload of at most `length` bytes."""
        reservation = UploadReservation(self, length)
        try:
            yield reservation
        finally:
            reservation.written(reservation.unwritten)

    def reserve(self, size: int) -> None:
        """Reserve so many bytes, to be released, and delete results for them. Raises ApiError, with
        the bytes reserved, if there is no space. Blocks."""
        with self._lock:
            self._reserved += size
        if self._free_bytes() < 0:
            self._free_space()
            if self._free_bytes() < 0:
                raise ApiError(
                    503,
                    "STORAGE_FULL",
                    "The service has no room for more files now; try again later.",
                    {"Retry-After": str(_RETRY_SECONDS)},
                )

    def release(self, size: int) -> None:
        """Release so many reserved bytes, which were written or will not be."""
        with self._lock:
            self._reserved -= size

    @contextlib.contextmanager
    def sending(self, file_stem: str) -> Iterator[None]:
        """Do not delete a result, named by its stem, in the block."""
        with self._lock:
            self._sending[file_stem] += 1
        try:
            yield
        finally:
            with self._lock:
                self._sending[file_stem] -= 1
                self._sending += Counter()  # drops zero counts
                self._sent[file_stem] = monotonic()

    def sweep(self) -> None:
        """Delete expired and excess files once."""
        rows = self._delete_expired_rows()
        self._list_if_due()
        for file in self._jobs.storage.list_files(RESULTS):
            if self._age(file) > self._seconds and not self._in_use(_stem(file)):
                self._jobs.storage.delete(file.name)
        self._delete_abandoned()
        self._free_space()
        folders = (INPUTS, PARTS, RESULTS)
        files = {file.name for folder in folders for file in self._jobs.storage.list_files(folder)}
        self._ages.retain(rows | files)
        now = monotonic()
        with self._lock:
            self._sent = {f: t for f, t in self._sent.items() if t > now - FETCH_GRACE_SECONDS}

    def _run(self) -> None:
        while not self._stopped.is_set():
            try:
                self.sweep()
            except Exception as error:  # noqa: BLE001 - the next sweep follows in any case
                logs.event(_log, "sweep failed", logging.INFO, error=type(error).__name__)
            self._jobs.workflow_ended.wait(SWEEP_INTERVAL_SECONDS)
            self._jobs.workflow_ended.clear()

    def _list_if_due(self) -> None:
        with self._listing:
            begun = time.monotonic()
            if self._jobs.storage.is_listed and begun < self._next_listing:
                return
            self._jobs.storage.refresh()
            ended = time.monotonic()
            self._next_listing = ended + max(
                SWEEP_INTERVAL_SECONDS, (ended - begun) / MAX_LISTING_SHARE
            )

    def _delete_expired_rows(self) -> set[str]:
        """Delete rows of expired generations with their files. Returns the candidates: rows
        that are old by the wall clock, and rows from the future, left when it was set back."""
        now = time.time()
        ended = partial(
            self._jobs.workflows.list_workflows,
            name=context.GENERATIONS,
            status=_ENDED,
            load_input=False,
            load_output=False,
        )
        candidates = {
            row.workflow_id: (row.completed_at or 0) / 1000
            for row in ended(completed_before=_iso(now - self._seconds))
            + ended(completed_after=_iso(now + SWEEP_INTERVAL_SECONDS))
        }
        old = [name for name, at in candidates.items() if self._ages.age(name, at) > self._seconds]
        list_workflows = self._jobs.workflows.list_workflows
        for row in list_workflows(workflow_ids=old, load_output=False) if old else []:
            stem = job_of(row).file_stem
            if not self._in_use(stem):
                self._jobs.discard(row.workflow_id, stem or None)
                self._jobs.delete(row.workflow_id)
        return set(candidates)

    def _delete_abandoned(self) -> None:
        """Delete inputs and parts without an unfinished generation."""
        ages: dict[str, float] = {}
        storage = self._jobs.storage
        for file in storage.list_files(INPUTS) + storage.list_files(PARTS):
            generation = file.name.split("/")[1]
            ages[generation] = min(ages.get(generation, inf), self._age(file))
        for generation, age in ages.items():
            if age > ABANDONED_SECONDS:
                found = self._jobs.find(generation)
                if found is None or found.state in FINAL_STATES:
                    self._jobs.discard(generation)

    def _free_space(self) -> None:
        """Delete the oldest results until the rest fits the limits, if allowed."""
        with self._freeing_space:
            free = self._free_bytes()
            if free >= 0:
                return
            for file in sorted(self._jobs.storage.list_files(RESULTS), key=self._age, reverse=True):
                if free >= 0:
                    return
                if self._age(file) > FETCH_GRACE_SECONDS and not self._in_use(_stem(file)):
                    self._jobs.storage.delete(file.name)
                    free += file.size
                    logs.event(_log, "result removed for want of room", bytes=file.size)

    def _in_use(self, stem: str) -> bool:
        with self._lock:
            return bool(self._sending[stem]) or self._sent.get(stem, -inf) > (
                monotonic() - FETCH_GRACE_SECONDS
            )

    def _age(self, file: StoredFile) -> float:
        return self._ages.age(file.name, file.modified)

    def _free_bytes(self) -> int:
        """Bytes left by both limits, negative above one; reserved bytes count as used."""
        if not self._jobs.storage.is_listed:
            self._list_if_due()
        used = self._jobs.storage.used_bytes()
        metrics.set_gauge("disk_bytes", used)
        with self._lock:
            reserved = self._reserved
        disk_free = shutil.disk_usage(self._folder).free - FREE_DISK_BYTES
        return min(self._limit - used, disk_free) - reserved


class UploadReservation:
    """Disk space of one upload, reserved in steps as bytes arrive, so that an announced length
    alone reserves nothing."""

    def __init__(self, retention: Retention, length: int) -> None:
        self._retention = retention
        self._length = length
        self.unwritten = 0
        """Bytes reserved and not yet written."""
        self._written = 0

    def reserve(self, size: int) -> None:
        """Reserve at least `size` more bytes. Raises ApiError if there is no space. Blocks."""
        step = max(MIN_RESERVE_BYTES, min(self._written, MAX_RESERVE_BYTES))
        more = max(size, min(step, self._length - self._written - self.unwritten))
        self.unwritten += more
        self._retention.reserve(more)

    def written(self, size: int) -> None:
        """Release so many bytes that are on the disk now."""
        self.unwritten -= size
        self._written += size
        self._retention.release(size)


def _iso(seconds: float) -> str:
    """A `time.time` in the format of dbos."""
    return datetime.fromtimestamp(seconds, UTC).isoformat()


def _stem(file: StoredFile) -> str:
    return file.name.rpartition("/")[2].partition(".")[0]
