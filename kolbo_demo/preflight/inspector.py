"""Inspects and edits files in child processes. A child opens one file and no other."""

import contextlib
import queue
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from kolbo_demo.fair_lock import FairSemaphore
from kolbo_demo.media.sniff import MediaError
from kolbo_demo.preflight.types import FacelessSpan, Preview, Source, Voice
from kolbo_demo.process.child import Message, MessageQueue
from kolbo_demo.process.confinement import MAX_OUTPUT_BYTES, MAX_STDERR_BYTES, AllowedFiles
from kolbo_demo.process.fork_server import ForkServer

MAX_CONCURRENT_INSPECTIONS = 2
INSPECT_TIMEOUT_SECONDS = 30.0
"""For one inspection, and for the wait before it."""
EDIT_TIMEOUT_SECONDS = 600.0
MEMORY_LIMIT_BYTES = 1536 * 1024**2
"""Limit on what a child allocates beyond its initial size."""
MAX_IDLE_CHILDREN = 2
"""Children that are retained because their file may be inspected again."""
CANCEL_POLL_SECONDS = 0.2

_FAILED = "Inspecting the file {reason}: save it again as MP4, WAV or JPEG and choose the new copy."
_BUSY = "Too many files are being inspected. You can use yours without its preview."
_UNAVAILABLE = "Files cannot be inspected now. You can use yours without its preview."


class CancelledError(Exception):
    """`should_continue` returned False."""


class _Worker:
    """A child and its messages."""

    def __init__(self, forks: ForkServer) -> None:
        self.messages: MessageQueue = queue.SimpleQueue()
        self.child = forks.fork(self.messages)
        self.path: str | None = None
        """The file that it has opened."""

    def request(
        self,
        files: AllowedFiles,
        seconds: float,
        should_continue: Callable[[], bool],
        **request: object,
    ) -> Message:
        """Send a request; the reply. Raises MediaError if there is none, and CancelledError."""
        most = MAX_OUTPUT_BYTES if files.write else MAX_STDERR_BYTES
        self.child.send(
            files, seconds=seconds, memory=MEMORY_LIMIT_BYTES, output_bytes=most, **request
        )
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            if not should_continue():
                raise CancelledError
            try:
                _, message = self.messages.get(timeout=CANCEL_POLL_SECONDS)
            except queue.Empty:
                continue
            if message is None:
                raise MediaError(_FAILED.format(reason=self.child.exit_error()))
            return message
        raise MediaError(_FAILED.format(reason=f"did not end within {seconds:.0f} s"))


class Inspector:
    """Inspects files without opening them in this process. Safe to share between threads."""

    def __init__(self) -> None:
        self._inspections = threading.Semaphore(MAX_CONCURRENT_INSPECTIONS)
        self._edits = FairSemaphore()
        self._lock = threading.Lock()
        self._idle: list[_Worker] = []
        # Otherwise glibc reserves 64 MB of address space per thread.
        self._forks = ForkServer("kolbo_demo.preflight.worker", {"MALLOC_ARENA_MAX": "2"})

    def preload(self) -> None:
        """Start a child for the next file."""
        with self._lock, contextlib.suppress(ChildProcessError):
            if all(worker.path for worker in self._idle):
                self._idle.append(_Worker(self._forks))

    def close(self) -> None:
        """End the idle children."""
        with self._lock:
            idle, self._idle = self._idle, []
        for worker in idle:
            worker.child.kill()
        self._forks.close()

    def inspect_source(self, path: Path) -> tuple[Source, Preview]:
        """Properties and first picture of a portrait or a clip. Raises MediaError."""
        reply = self._inspect("source", path)
        return Source(**reply["source"]), Preview.from_json(reply["preview"])

    def inspect_frame(self, path: Path, at: float) -> Preview:
        """The frame of a clip at `at` seconds. Raises MediaError."""
        return Preview.from_json(self._inspect("frame", path, at=at))

    def find_faceless_spans(self, path: Path) -> tuple[list[FacelessSpan], float]:
        """The parts of a clip without a usable face, and the second at which the search ended.
        Raises MediaError."""
        reply = self._inspect("faceless_spans", path)
        return [FacelessSpan(**span) for span in reply["spans"]], reply["until"]

    def inspect_voice(self, path: Path) -> Voice:
        """Properties of a recording, or of the sound of a clip. Raises MediaError."""
        return Voice(**self._inspect("voice", path))

    def track_face(
        self, path: Path, point: tuple[float, float], at: float, start: float
    ) -> tuple[float, float]:
        """The point (0-1) at second `start` of the face that is at `point` at second `at`.
        Raises MediaError."""
        x, y = self._inspect("track_face", path, point=point, at=at, start=start)["point"]
        return x, y

    def run_edit(
        self,
        operation: str,
        path: Path,
        output: Path,
        should_continue: Callable[[], bool],
        **arguments: object,
    ) -> None:
        """Write `output`, whole or not at all. One edit runs at a time.

        `operation` is `cut_source` or `cut_voice` of `trim.py`, or `watermark`. Raises MediaError
        and CancelledError.
        """
        with self._edits.acquire(should_continue) as acquired:
            if not acquired:
                raise CancelledError
            # The child can write to this folder only.
            with tempfile.TemporaryDirectory(prefix=".", dir=output.absolute().parent) as folder:
                part = Path(folder, "part")
                request = {"operation": operation, "output": str(part), **arguments}
                self._request(request, path, EDIT_TIMEOUT_SECONDS, should_continue, folder)
                part.replace(output)

    def _inspect(self, operation: str, path: Path, **arguments: object) -> dict[str, Any]:
        if not self._inspections.acquire(timeout=INSPECT_TIMEOUT_SECONDS):
            raise MediaError(_BUSY)
        try:
            request = {"operation": operation, **arguments}
            return self._request(request, path, INSPECT_TIMEOUT_SECONDS, lambda: True)
        finally:
            self._inspections.release()

    def _request(
        self,
        request: dict[str, object],
        path: Path,
        seconds: float,
        should_continue: Callable[[], bool],
        folder: str | None = None,
    ) -> dict[str, Any]:
        """A child's reply about a file. A child that may write to a folder is not reused."""
        name = str(path.absolute())
        worker = self._take(name, new=folder is not None)
        files, reusable = AllowedFiles(read=(name,), write=(folder,) if folder else ()), False
        try:
            message = worker.request(files, seconds, should_continue, path=name, **request)
            reusable = folder is None
        finally:
            if not reusable:
                worker.child.kill()
            self.preload()
        if reusable:
            self._return(worker)
        if "problem" in message:
            raise MediaError(message["problem"])
        return message["reply"]

    def _take(self, path: str, *, new: bool) -> _Worker:
        """The idle child that has opened the file, unless `new`, or one without a file."""
        with self._lock:
            for opened in (None,) if new else (path, None):
                for worker in self._idle:
                    if worker.path == opened:
                        self._idle.remove(worker)
                        worker.path = path
                        return worker
        try:
            worker = _Worker(self._forks)
        except ChildProcessError as error:
            raise MediaError(_UNAVAILABLE) from error
        worker.path = path
        return worker

    def _return(self, worker: _Worker) -> None:
        with self._lock:
            self._idle.append(worker)
            used = [worker for worker in self._idle if worker.path]
            surplus = used[:-MAX_IDLE_CHILDREN]
            self._idle = [worker for worker in self._idle if worker not in surplus]
        for worker in surplus:
            worker.child.kill()
