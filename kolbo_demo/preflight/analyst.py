"""Asks children about files, and keeps one of them warm."""

import queue
import threading
from pathlib import Path
from typing import Any

from kolbo_demo.child import Child, Message
from kolbo_demo.container import MediaError
from kolbo_demo.preflight.reports import Picture, Source, Stretch, Voice

AT_ONCE = 2
"""Files that are looked at at the same time; further visitors wait."""
LOOK_SECONDS = 30.0
"""The longest that a look at a file may take."""
USES = 100
"""Files that one child opens before it is replaced."""

_BROKEN = "Looking at the file {what}: save it again as MP4, WAV or JPEG and choose the new copy."
_BUSY = "Too many files are being looked at just now. Yours can be used all the same."

_Heard = queue.SimpleQueue[tuple[Child, Message | None]]


class _Worker:
    """A child and what it tells."""

    def __init__(self) -> None:
        self.heard: _Heard = queue.SimpleQueue()
        self.child = Child("kolbo_demo.preflight.worker", self.heard, leader=True)
        self.uses = 0

    def answer(self, **request: object) -> Message:
        """Its answer. Raises MediaError where there is none."""
        self.uses += 1
        self.child.ask(**request)
        try:
            _, message = self.heard.get(timeout=LOOK_SECONDS)
        except queue.Empty:
            message = None
            how = f"did not end within {LOOK_SECONDS:.0f} s"
        else:
            how = self.child.last_words() if message is None else ""
        if message is None:
            raise MediaError(_BROKEN.format(what=how))
        return message


class Analyst:
    """Looks at files without opening them in this process. For any thread."""

    def __init__(self) -> None:
        self._turns = threading.Semaphore(AT_ONCE)
        self._lock = threading.Lock()
        self._idle: _Worker | None = None

    def warm(self) -> None:
        """Have a child ready before the first file comes."""
        with self._lock:
            if self._idle is None:
                self._idle = _Worker()

    def source(self, path: Path) -> tuple[Source, Picture]:
        """Measures and first picture of a still or a clip. Raises MediaError."""
        sent = self._ask("source", path=str(path))
        return Source(**sent["source"]), Picture.of(sent["picture"])

    def picture(self, path: Path, at: float) -> Picture:
        """What a clip shows at `at` seconds. Raises MediaError."""
        return Picture.of(self._ask("picture", path=str(path), at=at))

    def stretches(self, path: Path) -> tuple[list[Stretch], float]:
        """Where a clip shows no usable face, and the second up to which was looked. MediaError."""
        sent = self._ask("stretches", path=str(path))
        return [Stretch(**stretch) for stretch in sent["stretches"]], sent["until"]

    def voice(self, path: Path) -> Voice:
        """What a recording, or the sound of a clip, is. Raises MediaError."""
        return Voice(**self._ask("voice", path=str(path)))

    def followed(self, path: Path, point: tuple[float, float], at: float) -> tuple[float, float]:
        """Where the face at `point` (0-1) of second `at` is when the clip begins. MediaError."""
        x, y = self._ask("follow", path=str(path), point=point, at=at)["point"]
        return x, y

    def _ask(self, what: str, **request: object) -> dict[str, Any]:
        if not self._turns.acquire(timeout=LOOK_SECONDS):
            raise MediaError(_BUSY)
        try:
            with self._lock:
                worker, self._idle = self._idle, None
            worker = worker or _Worker()
            try:
                message = worker.answer(what=what, **request)
            except BaseException:
                worker.child.kill()
                raise
            self._rest(worker)
        finally:
            self._turns.release()
        if "problem" in message:
            raise MediaError(message["problem"])
        return message["answer"]

    def _rest(self, worker: _Worker) -> None:
        with self._lock:
            if self._idle is None and worker.uses < USES:
                self._idle = worker
                return
        worker.child.kill()
