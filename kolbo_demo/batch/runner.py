"""Makes the rows of a batch, several at once, within what the API allows."""

import queue
import tempfile
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from pathlib import Path

from kolbo_demo.batch.manifest import Row
from kolbo_demo.batch.state import Line, State, Store
from kolbo_demo.client import (
    Generation,
    GenerationCancelledError,
    GenerationFailedError,
    KolboClient,
    KolboError,
    MaybeAcceptedError,
    NotFoundError,
    RateLimitError,
)
from kolbo_demo.engine import EngineError
from kolbo_demo.generation import GenerationFlow, Request
from kolbo_demo.media.sniff import MediaError
from kolbo_demo.preflight import Analyst, StoppedError

STARTS_A_MINUTE = 10
"""Kolbo's limit on generations."""
MOST_REFUSALS = 30
"""How often a row is held back by 429 before it fails."""

Spending = Callable[[Path | str], AbstractContextManager[object]]


class _Pace:
    """When the next generation may start, for all rows together."""

    def __init__(self, stop: threading.Event, starts: int) -> None:
        self._stop = stop
        self._lock = threading.Lock()
        self._starts: deque[float] = deque(maxlen=starts)
        self._not_before = 0.0

    def wait(self) -> None:
        """Returns when a start is due. Raises StoppedError."""
        while True:
            with self._lock:
                now = time.monotonic()
                full = len(self._starts) == self._starts.maxlen
                due = max(self._not_before, self._starts[0] + 60 if full else 0.0)
                if due <= now:
                    self._starts.append(now)
                    return
            if self._stop.wait(due - now):
                raise StoppedError

    def hold(self, seconds: float) -> None:
        """Nobody starts for so long: the API said 429."""
        with self._lock:
            self._not_before = max(self._not_before, time.monotonic() + seconds)


class Batch:
    """One run over the rows of a batch. What an earlier run in the same folder completed is not
    made again, what it left running is watched on."""

    def __init__(
        self,
        client: KolboClient,
        rows: list[Row],
        folder: Path,
        at_once: int = 4,
        again: bool = False,
        spending: Spending | None = None,
        starts: int = STARTS_A_MINUTE,
        analyst: Analyst | None = None,
        local: bool = False,
    ) -> None:
        """`at_once` rows are in flight, and `starts` begin in a minute at most. `again` sends rows
        again of which nobody knows whether they were accepted. `spending` goes around each start,
        with the voice: it may refuse it by a `KolboError`. `local` tells that the API is this
        project's own, which marks pictures itself; others' results `analyst` marks. Raises
        `InputError` where the folder cannot be used."""
        self.store = Store(folder)
        self._client = client
        self._at_once = at_once
        self._spending: Spending = spending or nullcontext
        self._analyst = analyst or Analyst()
        self.local = local
        self._stop = threading.Event()
        self._pace = _Pace(self._stop, starts)
        self._news: queue.Queue[Line | None] = queue.Queue()
        self.lines = [self._left(row, again) for row in rows]
        """Where each row stands, in order."""

    def run(self) -> Iterator[Line]:
        """Every change of every row, until all are final or `stop` was called; then the reports
        and the ZIP are written. A row that fails stops no other. Raises OSError where the disk
        refuses."""
        yield from self.lines
        waiting = queue.SimpleQueue[int]()
        for at, line in enumerate(self.lines):
            if not line.final:
                waiting.put(at)
        threads = [
            threading.Thread(target=self._work, args=[waiting], name="kolbo-batch", daemon=True)
            for _ in range(min(self._at_once, waiting.qsize()))
        ]
        for thread in threads:
            thread.start()
        try:
            left = len(threads)
            while left and not self._stop.is_set():
                line = self._news.get()
                if line is None:
                    left -= 1
                    continue
                yield line
        finally:
            self._stop.set()
            for thread in threads:
                thread.join(timeout=1)
            self.store.report(self.lines)

    def stop(self) -> None:
        """Starts no more rows. What runs goes on at the API; the next run watches it on."""
        self._stop.set()
        self._news.put(None)

    def _left(self, row: Row, again: bool) -> Line:
        if row.problem:
            return Line(row, "failed", message=row.problem)
        line = self.store.line(row)
        here = line.where == self._client.base_url
        if line.state == "completed" or (line.state == "running" and here):
            return line
        if line.state in ("sending", "unclear") and here and not again:
            return replace(
                line,
                state="unclear",
                message="An earlier run sent this row and never heard whether it was accepted. "
                "Check your history before you have unclear rows sent again.",
            )
        return Line(row)

    def _work(self, waiting: "queue.SimpleQueue[int]") -> None:
        while not self._stop.is_set():
            try:
                at = waiting.get_nowait()
            except queue.Empty:
                break
            try:
                self._make(at)
            except StoppedError:
                break
            except (KolboError, MediaError, EngineError) as error:
                self._show(
                    at, replace(self.lines[at], state=self._after(at, error), message=str(error))
                )
            except OSError as error:
                message = f"The folder of the batch refuses: {error.strerror or error}."
                self._tell(at, replace(self.lines[at], state="failed", message=message))
            except Exception as error:  # noqa: BLE001 - one row must not stop the rest
                message = f"This row met what nobody expected ({type(error).__name__})."
                self._tell(at, replace(self.lines[at], state="failed", message=message))
        self._news.put(None)

    def _after(self, at: int, error: Exception) -> State:
        """Where an error leaves a row."""
        if isinstance(error, MaybeAcceptedError):
            return "unclear"
        ended = isinstance(error, GenerationFailedError | GenerationCancelledError | NotFoundError)
        # What was started and only lost sight of is not paid for twice: the next run goes on.
        return "running" if self.lines[at].state == "running" and not ended else "failed"

    def _make(self, at: int) -> None:
        began = time.monotonic()
        line = self.lines[at]
        generation = self._resumed(line)
        if generation is None:
            generation = self._started(at)
        status = None
        for status in generation.events():
            self._tell(at, replace(self.lines[at], percent=status.progress, message=None))
            if self._stop.is_set() and not status.final:
                return
        assert status is not None, "events() yields at least once"
        video = self.store.video_name(line.row)
        target = self.store.folder / video
        self._flow(self.store.folder).save(generation, status, target, mark=line.row.options.mark)
        line = replace(self.lines[at], state="completed", percent=100.0, video=video)
        if line.seconds is None:
            line = replace(line, seconds=round(time.monotonic() - began, 1))
        self._show(at, line)

    def _resumed(self, line: Line) -> Generation | None:
        """What an earlier run started; None where the API no longer knows it."""
        if line.state != "running" or not line.generation_id:
            return None
        generation = self._client.generation(line.generation_id)
        try:
            generation.status()
        except NotFoundError:
            return None
        return generation

    def _started(self, at: int) -> Generation:
        row = self.lines[at].row
        with tempfile.TemporaryDirectory(prefix="kolbo-batch-") as folder:
            flow = self._flow(Path(folder))
            asked = Request(row.source, row.audio, row.words, row.options)
            generation = self._sent(at, flow, flow.prepare(asked))
        started = generation.started
        line = replace(self.lines[at], state="running", percent=0.0, generation_id=generation.id)
        self._show(at, replace(line, credits=started.credits_charged if started else None))
        return generation

    def _flow(self, folder: Path) -> GenerationFlow:
        return GenerationFlow(
            self._client,
            self._analyst,
            folder,
            local=self.local,
            should_continue=lambda: not self._stop.is_set(),
        )

    def _sent(self, at: int, flow: GenerationFlow, prepared: Request) -> Generation:
        assert prepared.voice is not None, "prepare() gives every request a voice"
        row, refusals = self.lines[at].row, 0
        while True:
            self._pace.wait()
            # Written before it is sent: whoever finds it so knows that it may be accepted.
            self._show(at, Line(row, "sending", where=self._client.base_url))
            try:
                with self._spending(prepared.voice):
                    return flow.submit(prepared)
            except RateLimitError as error:
                refusals += 1
                if refusals == MOST_REFUSALS:
                    raise
                self._show(at, Line(row))
                self._pace.hold(min(error.retry_after or 6.0, 120.0))
            except StoppedError:
                self._show(at, Line(row))
                raise

    def _show(self, at: int, line: Line) -> None:
        """Tells it and writes it down."""
        self.store.keep(line)
        self._tell(at, line)

    def _tell(self, at: int, line: Line) -> None:
        self.lines[at] = line
        self._news.put(line)
