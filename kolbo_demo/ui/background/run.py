"""One generation, from what was filled in to the finished video."""

import contextvars
import logging
import threading
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path

from kolbo_demo.client import (
    Generation,
    GenerationCancelledError,
    KolboClient,
    KolboError,
)
from kolbo_demo.contract import CANCELLED, PENDING, PROCESSING, Status
from kolbo_demo.credentials.signing import Signer
from kolbo_demo.engine import EngineError
from kolbo_demo.fair_lock import CURRENT_CALLER
from kolbo_demo.generation import GenerationFlow, GenerationRequest, Step
from kolbo_demo.media.probe import MediaError
from kolbo_demo.preflight import CancelledError, Inspector
from kolbo_demo.ui.i18n.errors import describe
from kolbo_demo.ui.i18n.texts import say
from kolbo_demo.ui.storage.generation_store import RESULT, SRT, SUBTITLES

Spending = Callable[[Path | str], AbstractContextManager[object]]

FOLLOW_SECONDS = 24 * 3600.0
"""How long a generation is followed: no wait here ends one that is healthy."""
PREVIEW_SECONDS = 0.9
"""Age up to which a preview is shown again: new ones come once a second."""
LEAST_MOVED = 3.0
"""Percent that tell the pace."""

_log = logging.getLogger(__name__)


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
    first: tuple[float, float] | None = None
    """`time.monotonic()` and percent when progress was first told."""
    spoken: str | None = None
    """Announcement for screen readers, where the headline changes too often to be read out."""

    @property
    def final(self) -> bool:
        """Whether nothing more will change."""
        return self.cancelled or self.error is not None or self.video is not None

    @property
    def seconds_left(self) -> float | None:
        """At the pace so far; None before there is one."""
        if self.first is None or self.percent is None:
            return None
        since, percent = self.first
        moved = self.percent - percent
        if moved < LEAST_MOVED:
            return None
        return (100 - self.percent) * (time.monotonic() - since) / moved


class Run:
    """One generation, worked on in a thread of its own.

    A visitor who leaves does not stop it: only `cancel` does.
    """

    def __init__(
        self,
        client: KolboClient,
        work: GenerationRequest | Generation,
        folder: Path,
        on_change: Callable[[Stage], None] = lambda _: None,
        spending: Spending | None = None,
        inspector: Inspector | None = None,
        mark: bool = False,
        visitor: str = "",
        local: bool = True,
        signer: Signer | None = None,
    ) -> None:
        """`work` is what to ask for, or a generation to take up again. The video is put into
        `folder`. `on_change` hears of every new stage, on whichever thread it comes about.
        `spending` goes around the start: it may refuse it, and counts what was started. `inspector`
        cuts files. `mark` has the picture say that it is AI-generated: where the API does not see
        to it, the result is marked here. Where work waits for turns, it waits for those of
        `visitor`, empty for the owner at a private page. `local` and `signer` are those of
        `GenerationFlow`."""
        self._client = client
        self._work = work
        self._folder = folder
        self._on_change = on_change
        self._spending: Spending = spending or nullcontext
        self._flow = GenerationFlow(
            client,
            inspector or Inspector(),
            folder,
            local=local,
            signer=signer,
            should_continue=self._wanted,
            on_step=self._on_step,
        )
        self._mark, self._local = mark, local
        self._preview: bytes | None = None
        self._previewed = 0.0
        self._preview_lock = threading.Lock()
        self.visitor = visitor
        self._cancel = threading.Event()
        self._lock = threading.RLock()
        self.generation = work if isinstance(work, Generation) else None
        """Its handle, once it has been accepted."""
        self._may_be_accepted = False
        self.stage = Stage(say("status.preparing"), generation_id=getattr(work, "id", None))
        self.fault: str | None = None
        """One sentence where it could not be cancelled and goes on."""

    @property
    def cancelling(self) -> bool:
        """Whether a cancellation is under way that has not failed."""
        return self._cancel.is_set() and self.fault is None

    def preview(self) -> bytes | None:
        """The latest frame as a small JPEG, which only the local service has. Blocks for a request
        once a second."""
        generation, status = self.generation, self.stage.status
        rendering = self._local and status is not None and status.state == PROCESSING
        if generation is None or not rendering or not self._preview_lock.acquire(blocking=False):
            return self._preview
        try:
            if time.monotonic() - self._previewed > PREVIEW_SECONDS:
                self._previewed = time.monotonic()
                self._preview = generation.preview() or self._preview
        except KolboError:
            pass
        finally:
            self._preview_lock.release()
        return self._preview

    def start(self) -> None:
        """Begins."""
        visitor = contextvars.copy_context()  # whose language is spoken
        threading.Thread(
            target=visitor.run, args=(self._run,), name="kolbo-page-run", daemon=True
        ).start()

    def cancel(self) -> None:
        """Stops the work itself, not only the watching. Blocks for one request at most. `fault`
        tells where it did not succeed."""
        self._cancel.set()
        if self.generation is not None:
            self._cancel_generation(self.generation)
            return
        # Half sent is not accepted. Otherwise the thread cancels it as soon as it knows the id.
        waiting = replace(self.stage, headline=say("status.cancelling"), percent=None)
        self._show(waiting if self._may_be_accepted else replace(waiting, cancelled=True))

    def _cancel_generation(self, generation: Generation) -> None:
        self.fault = None
        self._show(replace(self.stage, headline=say("status.cancelling")))
        try:
            status = generation.cancel()
        except KolboError as error:
            self.fault = say("status.not_cancelled", reason=error)
            return
        if status.state == CANCELLED:  # it may have been finished a moment before
            self._show(replace(self.stage, cancelled=True))

    def _show(self, stage: Stage) -> None:
        with self._lock:  # the first end counts: a late poll does not undo a cancel
            if self.stage.final:
                return
            if stage.percent and stage.first is None:
                first = self.stage.first or (time.monotonic(), stage.percent)
                stage = replace(stage, first=first)
            self.stage = stage
            self._on_change(stage)

    def _run(self) -> None:
        CURRENT_CALLER.set(self.visitor)
        try:
            self._follow(self.generation or self._accepted())
        except (CancelledError, GenerationCancelledError):
            self._show(replace(self.stage, cancelled=True))
        except (KolboError, MediaError, EngineError) as error:
            self._show(replace(self.stage, error=describe(error)))
        except Exception:  # noqa: BLE001 - a thread that dies in silence leaves its page waiting
            _log.exception("A run of the page failed")
            self._show(replace(self.stage, error=say("status.page_failed")))

    def _accepted(self) -> Generation:
        request = self._work
        assert isinstance(request, GenerationRequest)
        prepared = self._flow.prepare(request, [self._folder / n for n in (SUBTITLES, SRT)])
        assert prepared.voice is not None, "prepare() gives every request a voice"
        self._may_be_accepted = not any(
            isinstance(given, Path) for given in (prepared.source, prepared.voice)
        )
        with self._spending(prepared.voice):
            generation = self._flow.submit(prepared)
        self.generation = generation
        self._show(Stage(say("status.accepted"), generation_id=generation.id))
        return generation

    def _follow(self, generation: Generation) -> None:
        if self._cancel.is_set():
            self._cancel_generation(generation)
        for status in generation.events(FOLLOW_SECONDS):
            self._show(
                Stage(
                    say("status.waiting") if status.state == PENDING else say("status.making"),
                    percent=status.progress,
                    generation_id=generation.id,
                    status=status,
                )
            )
            if self.stage.final:
                break
        self._finish(generation)

    def _finish(self, generation: Generation) -> None:
        stage = self.stage
        if stage.final or stage.status is None:
            return
        video = self._flow.save(
            generation,
            stage.status,
            self._folder / RESULT,
            mark=self._mark,
            stamp=not self._local,  # the local service's results say it already
        )
        self._show(replace(stage, video=video))

    def _on_step(self, step: Step, done: float, total: float | None) -> None:
        match step:
            case Step.SPEAKING:
                self._show(Stage(say("status.speaking")))
            case Step.TRIMMING:
                self._show(Stage(say("status.cutting")))
            case Step.UPLOADING:
                self._may_be_accepted = self._may_be_accepted or done == total
                sent, whole = f"{done / 1e6:.1f}", f"{(total or 0) / 1e6:.1f}"
                headline = say("status.sending", sent=sent, total=whole)
                self._show(Stage(headline, spoken=say("status.sending_files")))
            case Step.DOWNLOADING:
                self._show(replace(self.stage, headline=say("status.fetching"), percent=100))
            case Step.MARKING:
                self._show(replace(self.stage, headline=say("status.marking"), percent=100))

    def _wanted(self) -> bool:
        return not self._cancel.is_set()
