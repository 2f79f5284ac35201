"""One click on Generate, from the fields to the finished video."""

import asyncio
import contextvars
import logging
import shutil
import tempfile
import threading
import time
import weakref
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path

from kolbo_demo.client import Generation, GenerationCancelledError, KolboClient, KolboError
from kolbo_demo.contract import CANCELLED, PENDING, Status
from kolbo_demo.engine import EngineError
from kolbo_demo.engine.voice import speak
from kolbo_demo.media import MediaError
from kolbo_demo.ui import views
from kolbo_demo.ui.inputs import Request, UnusableError
from kolbo_demo.ui.texts import say

LOOK_SECONDS = 0.2
"""How often a run is looked at. What it shows changes with every poll of the API."""

Spending = Callable[[Path | str], AbstractContextManager[object]]

_SPEAKING = threading.Lock()
"""Speaking words keeps a core busy: one visitor's at a time."""

_log = logging.getLogger(__name__)


class _StoppedError(Exception):
    """The visitor cancelled before there was a generation to cancel."""


@dataclass(frozen=True)
class Stage:
    """Where a run stands."""

    headline: str
    percent: float | None = None
    """0-100 of the generation, never of anything else; None where it is not known."""
    generation_id: str | None = None
    status: Status | None = None
    """The last one seen."""
    video: Path | None = None
    error: str | None = None
    cancelled: bool = False

    @property
    def final(self) -> bool:
        """Whether nothing more will change."""
        return self.cancelled or self.error is not None or self.video is not None


class Run:
    """One generation that one visitor waits for, worked on in a thread of its own.

    Its files lie in a directory that no other run knows, gone as soon as nobody holds the run. A
    visitor who leaves does not stop it: only `cancel` does.
    """

    def __init__(
        self, client: KolboClient, request: Request, spending: Spending | None = None
    ) -> None:
        """`spending` goes around the start: it may refuse it, and counts what was started."""
        self._client = client
        self._request = request
        self._spending: Spending = spending or nullcontext
        self._started = time.monotonic()
        self._cancel = threading.Event()
        self._lock = threading.Lock()
        self._generation: Generation | None = None
        self._may_be_accepted = False
        self._stage = Stage(say("status.preparing"))
        self._fault: str | None = None
        self._folder = Path(tempfile.mkdtemp(prefix="kolbo-page-"))
        weakref.finalize(self, shutil.rmtree, self._folder, ignore_errors=True)

    @property
    def stage(self) -> Stage:
        """Where it stands now."""
        return self._stage

    @property
    def fault(self) -> str | None:
        """One sentence where it could not be cancelled and goes on."""
        return self._fault

    @property
    def elapsed(self) -> float:
        """Seconds since the click."""
        return time.monotonic() - self._started

    def start(self) -> None:
        """Begins."""
        visitor = contextvars.copy_context()  # whose language is spoken
        threading.Thread(
            target=visitor.run, args=(self._work,), name="kolbo-page-run", daemon=True
        ).start()

    async def stages(self) -> AsyncIterator[Stage]:
        """Every change, and every second at least, until the end."""
        seen: tuple[Stage, str | None, int] | None = None
        while True:
            now = (self._stage, self._fault, int(self.elapsed))
            if now != seen:
                seen = now
                yield now[0]
            if now[0].final:
                return
            await asyncio.sleep(LOOK_SECONDS)

    def cancel(self) -> None:
        """Stops the work itself, not only the watching. Blocks for one request at most. `fault`
        tells where it did not succeed."""
        self._cancel.set()
        if self._generation is not None:
            self._cancel_generation(self._generation)
            return
        # Half sent is not accepted. Otherwise the thread cancels it as soon as it knows the id.
        waiting = replace(self._stage, headline=say("status.cancelling"), percent=None)
        self._show(waiting if self._may_be_accepted else replace(waiting, cancelled=True))

    def _cancel_generation(self, generation: Generation) -> None:
        self._fault = None
        self._show(replace(self._stage, headline=say("status.cancelling")))
        try:
            status = generation.cancel()
        except KolboError as error:
            self._fault = say("status.not_cancelled", reason=error)
            return
        if status.state == CANCELLED:  # it may have been finished a moment before
            self._show(replace(self._stage, cancelled=True))

    def _show(self, stage: Stage) -> None:
        with self._lock:  # the first end counts: a late poll does not undo a cancel
            if not self._stage.final:
                self._stage = stage

    def _work(self) -> None:
        try:
            self._generate()
        except (_StoppedError, GenerationCancelledError):
            self._show(replace(self._stage, cancelled=True))
        except (KolboError, MediaError, EngineError, UnusableError) as error:
            self._show(replace(self._stage, error=str(error)))
        except Exception:  # noqa: BLE001 - a thread that dies in silence leaves its page waiting
            _log.exception("A run of the page failed")
            self._show(replace(self._stage, error=say("status.page_failed")))

    def _generate(self) -> None:
        request = self._request
        voice = self._voice()
        self._may_be_accepted = not any(isinstance(x, Path) for x in (request.source, voice))
        self._stop_here()
        with self._spending(voice):
            generation = self._client.lipsync(
                request.source,
                voice,
                prompt=request.prompt,
                model=request.model,
                face=request.face,
                on_upload=self._sent,
            )
        self._generation = generation
        self._show(Stage(say("status.accepted"), generation_id=generation.id))
        if self._cancel.is_set():
            self._cancel_generation(generation)
        for status in generation.events():
            self._show(
                Stage(
                    say("status.waiting") if status.state == PENDING else say("status.making"),
                    status.progress,
                    generation.id,
                    status,
                )
            )
            if self._stage.final:
                break
        self._finish(generation)

    def _finish(self, generation: Generation) -> None:
        stage = self._stage
        if stage.final or stage.status is None:
            return
        generation.check(stage.status)
        self._show(replace(stage, headline=say("status.fetching"), percent=100))
        video = self._folder / f"{_plain(generation.id)}.mp4"
        generation.download(video)
        self._show(replace(stage, video=video))

    def _voice(self) -> Path | str:
        if self._request.words is None:
            assert self._request.voice is not None
            return self._request.voice
        self._show(Stage(say("status.speaking")))
        path = self._folder / "words.wav"
        with _SPEAKING:
            self._stop_here()
            speak(self._request.words, path)
        return path

    def _sent(self, sent: int, total: int) -> None:
        if sent >= total:
            self._may_be_accepted = True
        if not self._may_be_accepted:
            self._stop_here()
        done, whole = f"{sent / 1e6:.1f}", f"{total / 1e6:.1f}"
        self._show(Stage(say("status.sending", sent=done, total=whole)))

    def _stop_here(self) -> None:
        if self._cancel.is_set():
            raise _StoppedError


def page_of(run: Run, stage: Stage) -> str:
    """The status area for a stage."""
    if stage.error is not None:
        return views.failed(stage.error, stage.generation_id)
    if stage.cancelled:
        return views.cancelled(stage.generation_id)
    if stage.video is not None:
        return views.done(run.elapsed, stage.generation_id)
    state = stage.status.state if stage.status else None
    return views.running(
        stage.headline, stage.percent, run.elapsed, stage.generation_id, state, run.fault
    )


def _plain(name: str) -> str:
    """A file name of what came from outside."""
    return "".join(c for c in name if c.isascii() and (c.isalnum() or c in "-_"))[:80] or "video"
