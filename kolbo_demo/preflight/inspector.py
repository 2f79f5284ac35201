"""Asks children about files. A child opens one visitor's file and no other; a new one is warm."""

import contextlib
import queue
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from kolbo_demo.fair_lock import Rotation
from kolbo_demo.media.sniff import MediaError
from kolbo_demo.preflight.types import Picture, Source, Stretch, Voice
from kolbo_demo.process.child import Heard, Message
from kolbo_demo.process.confinement import CHATTER_BYTES, OUTPUT_BYTES, Files
from kolbo_demo.process.fork_server import Forks

AT_ONCE = 2
"""Files that are looked at at the same time; further visitors wait."""
LOOK_SECONDS = 30.0
"""The longest that a look at a file may take."""
MAKE_SECONDS = 600.0
"""The longest that cutting or repeating a file may take."""
MEMORY = 1536 * 1024**2
"""Bytes that a child may take beyond what it starts with."""
KEPT = 2
"""Children that are kept because their file may be asked about again."""
CHECK_SECONDS = 0.2

_BROKEN = "Looking at the file {what}: save it again as MP4, WAV or JPEG and choose the new copy."
_BUSY = "Too many files are being looked at just now. Yours can be used all the same."
_CANNOT = "Files cannot be looked at just now. Yours can be used all the same."


class StoppedError(Exception):
    """It is not wanted any more."""


def _wanted() -> bool:
    return True


class _Worker:
    """A child and what it tells."""

    def __init__(self, forks: Forks) -> None:
        self.heard: Heard = queue.SimpleQueue()
        self.child = forks.child(self.heard)
        self.path: str | None = None
        """The file that it has opened."""

    def answer(
        self, files: Files, seconds: float, wanted: Callable[[], bool], **request: object
    ) -> Message:
        """Its answer. Raises MediaError where there is none, StoppedError once `wanted` says no."""
        most = OUTPUT_BYTES if files.make else CHATTER_BYTES
        self.child.ask(files, seconds=seconds, memory=MEMORY, output_bytes=most, **request)
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            if not wanted():
                raise StoppedError
            try:
                _, message = self.heard.get(timeout=CHECK_SECONDS)
            except queue.Empty:
                continue
            if message is None:
                raise MediaError(_BROKEN.format(what=self.child.last_words()))
            return message
        raise MediaError(_BROKEN.format(what=f"did not end within {seconds:.0f} s"))


class Analyst:
    """Looks at files without opening them in this process. For any thread."""

    def __init__(self) -> None:
        self._turns = threading.Semaphore(AT_ONCE)
        self._makes = Rotation()
        self._lock = threading.Lock()
        self._idle: list[_Worker] = []
        # glibc reserves 64 MB of address space a thread otherwise.
        self._forks = Forks("kolbo_demo.preflight.worker", {"MALLOC_ARENA_MAX": "2"})

    def warm(self) -> None:
        """Have a child ready before the next file comes."""
        with self._lock, contextlib.suppress(ChildProcessError):
            if all(worker.path for worker in self._idle):
                self._idle.append(_Worker(self._forks))

    def close(self) -> None:
        """End the children that wait."""
        with self._lock:
            idle, self._idle = self._idle, []
        for worker in idle:
            worker.child.kill()
        self._forks.close()

    def source(self, path: Path) -> tuple[Source, Picture]:
        """Measures and first picture of a still or a clip. Raises MediaError."""
        sent = self._look("source", path)
        return Source(**sent["source"]), Picture.of(sent["picture"])

    def picture(self, path: Path, at: float) -> Picture:
        """What a clip shows at `at` seconds. Raises MediaError."""
        return Picture.of(self._look("picture", path, at=at))

    def stretches(self, path: Path) -> tuple[list[Stretch], float]:
        """Where a clip shows no usable face, and the second up to which was looked. MediaError."""
        sent = self._look("stretches", path)
        return [Stretch(**stretch) for stretch in sent["stretches"]], sent["until"]

    def voice(self, path: Path) -> Voice:
        """What a recording, or the sound of a clip, is. Raises MediaError."""
        return Voice(**self._look("voice", path))

    def followed(
        self, path: Path, point: tuple[float, float], at: float, start: float
    ) -> tuple[float, float]:
        """Where the face at `point` (0-1) of second `at` is at second `start`. MediaError."""
        x, y = self._look("follow", path, point=point, at=at, start=start)["point"]
        return x, y

    def make(
        self, what: str, path: Path, output: Path, wanted: Callable[[], bool], **more: object
    ) -> None:
        """A new file of a file, one at a time: `cut_source` and `cut_voice` of `lengths`, or
        `mark`. Raises MediaError, and StoppedError once `wanted` says no; `output` is whole or not
        there."""
        with self._makes.turn(wanted) as held:
            if not held:
                raise StoppedError
            # A folder of its own is all that the child can write to.
            with tempfile.TemporaryDirectory(prefix=".", dir=output.absolute().parent) as folder:
                part = Path(folder, "part")
                request = {"what": what, "output": str(part), **more}
                self._ask(request, path, MAKE_SECONDS, wanted, folder)
                part.replace(output)

    def _look(self, what: str, path: Path, **more: object) -> dict[str, Any]:
        if not self._turns.acquire(timeout=LOOK_SECONDS):
            raise MediaError(_BUSY)
        try:
            return self._ask({"what": what, **more}, path, LOOK_SECONDS, _wanted)
        finally:
            self._turns.release()

    def _ask(
        self,
        request: dict[str, object],
        path: Path,
        seconds: float,
        wanted: Callable[[], bool],
        folder: str | None = None,
    ) -> dict[str, Any]:
        """A child's answer about a file. A child that writes to a folder is not kept."""
        known = str(path.absolute())
        worker = self._taken(known, new=folder is not None)
        files, keep = Files(read=(known,), make=(folder,) if folder else ()), False
        try:
            message = worker.answer(files, seconds, wanted, path=known, **request)
            keep = folder is None
        finally:
            if not keep:
                worker.child.kill()
            self.warm()
        if keep:
            self._rest(worker)
        if "problem" in message:
            raise MediaError(message["problem"])
        return message["answer"]

    def _taken(self, path: str, *, new: bool) -> _Worker:
        """The child that knows the file, unless a `new` one is wanted, or one that knows none."""
        with self._lock:
            for known in (None,) if new else (path, None):
                for worker in self._idle:
                    if worker.path == known:
                        self._idle.remove(worker)
                        worker.path = path
                        return worker
        try:
            worker = _Worker(self._forks)
        except ChildProcessError as error:
            raise MediaError(_CANNOT) from error
        worker.path = path
        return worker

    def _rest(self, worker: _Worker) -> None:
        with self._lock:
            self._idle.append(worker)
            used = [worker for worker in self._idle if worker.path]
            spare = used[:-KEPT]
            self._idle = [worker for worker in self._idle if worker not in spare]
        for worker in spare:
            worker.child.kill()
