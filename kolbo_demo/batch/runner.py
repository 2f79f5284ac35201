"""Runs the rows of a batch concurrently, within the API's rate limit."""

import queue
import tempfile
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from pathlib import Path

from kolbo_demo.batch import report
from kolbo_demo.batch.manifest import Row
from kolbo_demo.batch.state import BatchStore, RowState, RowStatus
from kolbo_demo.client import (
    Generation,
    GenerationCancelledError,
    GenerationFailedError,
    KolboClient,
    KolboError,
    MaybeAcceptedError,
    NotFoundError,
    RateLimitError,
    Retry,
)
from kolbo_demo.client.retry import Backoff
from kolbo_demo.credentials.signing import Signer
from kolbo_demo.engine import EngineError
from kolbo_demo.generation import GenerationFlow, GenerationRequest
from kolbo_demo.media.sniff import MediaError
from kolbo_demo.preflight import CancelledError, Inspector

STARTS_PER_MINUTE = 10
"""Kolbo's limit on generations."""
START_RETRY = Retry(attempts=30, first_pause=1.0, max_retry_after=120.0)
"""For starts that are refused with HTTP 429. More patient than one request, because all rows of a
batch share the limit."""

StartGuard = Callable[[Path | str], AbstractContextManager[object]]
"""Entered around each start with the row's voice. May raise a `KolboError` to refuse it."""


class _StartLimiter:
    """Delays starts for all rows together."""

    def __init__(self, stop: threading.Event, starts_per_minute: int) -> None:
        self._stop = stop
        self._lock = threading.Lock()
        self._starts: deque[float] = deque(maxlen=starts_per_minute)
        self._not_before = 0.0

    def wait(self) -> None:
        """Block until a start is allowed. Raises CancelledError."""
        while True:
            with self._lock:
                now = time.monotonic()
                full = len(self._starts) == self._starts.maxlen
                due = max(self._not_before, self._starts[0] + 60 if full else 0.0)
                if due <= now:
                    self._starts.append(now)
                    return
            if self._stop.wait(due - now):
                raise CancelledError

    def hold(self, seconds: float) -> None:
        """Allow no start for a while."""
        with self._lock:
            self._not_before = max(self._not_before, time.monotonic() + seconds)


class Batch:
    """One run over the rows of a batch. It skips rows that an earlier run in the same folder
    completed, and resumes generations that are still running."""

    def __init__(
        self,
        client: KolboClient,
        rows: list[Row],
        folder: Path,
        concurrency: int = 4,
        resend_unclear: bool = False,
        start_guard: StartGuard | None = None,
        starts_per_minute: int = STARTS_PER_MINUTE,
        inspector: Inspector | None = None,
        local: bool = False,
        signer: Signer | None = None,
    ) -> None:
        """`resend_unclear` starts rows again that an earlier run may have started. `local` and
        `signer` as in `GenerationFlow`. Raises `InputError` if the folder is unusable."""
        self.store = BatchStore(folder)
        self._client = client
        self._concurrency = concurrency
        self._start_guard: StartGuard = start_guard or nullcontext
        self._inspector = inspector or Inspector()
        self.local = local
        self._signer = signer
        self._stop = threading.Event()
        self._start_limiter = _StartLimiter(self._stop, starts_per_minute)
        self._updates: queue.Queue[RowStatus | None] = queue.Queue()
        self.statuses = [self._initial_status(row, resend_unclear) for row in rows]
        """One for each row, in order."""

    def run(self) -> Iterator[RowStatus]:
        """Every change of every row, until all are final or `stop` is called; then the reports and
        the ZIP are written. Rows fail independently. Raises OSError if the folder cannot be
        written."""
        yield from self.statuses
        pending = queue.SimpleQueue[int]()
        for index, row_status in enumerate(self.statuses):
            if not row_status.final:
                pending.put(index)
        threads = [
            threading.Thread(target=self._work, args=[pending], name="kolbo-batch", daemon=True)
            for _ in range(min(self._concurrency, pending.qsize()))
        ]
        for thread in threads:
            thread.start()
        try:
            running = len(threads)
            while running and not self._stop.is_set():
                row_status = self._updates.get()
                if row_status is None:
                    running -= 1
                    continue
                yield row_status
        finally:
            self._stop.set()
            for thread in threads:
                thread.join(timeout=1)
            report.write(self.store.folder, self.statuses)

    def stop(self) -> None:
        """Start no more rows. Running generations go on at the API; the next run resumes them."""
        self._stop.set()
        self._updates.put(None)

    def _initial_status(self, row: Row, resend_unclear: bool) -> RowStatus:
        if row.problem:
            return RowStatus(row, "failed", message=row.problem)
        saved = self.store.load(row)
        same_api = saved.where == self._client.base_url
        if saved.state == "completed" or (saved.state == "running" and same_api):
            return saved
        if saved.state in ("sending", "unclear") and same_api and not resend_unclear:
            return replace(
                saved,
                state="unclear",
                message="An earlier run sent this row without an answer, so it may have been "
                "accepted. Check your history before you have unclear rows sent again.",
            )
        return RowStatus(row)

    def _work(self, pending: "queue.SimpleQueue[int]") -> None:
        while not self._stop.is_set():
            try:
                index = pending.get_nowait()
            except queue.Empty:
                break
            try:
                self._generate(index)
            except CancelledError:
                break
            except (KolboError, MediaError, EngineError) as error:
                state = self._state_after(index, error)
                self._save(index, replace(self.statuses[index], state=state, message=str(error)))
            except OSError as error:
                message = f"Cannot write to the folder of the batch: {error.strerror or error}."
                self._report(index, replace(self.statuses[index], state="failed", message=message))
            except Exception as error:  # noqa: BLE001 - one row must not stop the rest
                message = f"Unexpected error ({type(error).__name__}). Please report it."
                self._report(index, replace(self.statuses[index], state="failed", message=message))
        self._updates.put(None)

    def _state_after(self, index: int, error: Exception) -> RowState:
        if isinstance(error, MaybeAcceptedError):
            return "unclear"
        ended = isinstance(error, GenerationFailedError | GenerationCancelledError | NotFoundError)
        # A generation that may still be running is not started and paid for again.
        return "running" if self.statuses[index].state == "running" and not ended else "failed"

    def _generate(self, index: int) -> None:
        start = time.monotonic()
        row = self.statuses[index].row
        generation = self._resume(self.statuses[index]) or self._start(index)
        status = None
        for status in generation.events():
            self._report(
                index, replace(self.statuses[index], percent=status.progress, message=None)
            )
            if self._stop.is_set() and not status.final:
                return
        assert status is not None, "events() yields at least once"
        video = self.store.video_name(row)
        output = self.store.folder / video
        self._flow(self.store.folder).save(generation, status, output, mark=row.options.mark)
        completed = replace(self.statuses[index], state="completed", percent=100.0, video=video)
        if completed.seconds is None:
            completed = replace(completed, seconds=round(time.monotonic() - start, 1))
        self._save(index, completed)

    def _resume(self, row_status: RowStatus) -> Generation | None:
        """The generation of an earlier run; None if there is none or the API does not know it."""
        if row_status.state != "running" or not row_status.generation_id:
            return None
        generation = self._client.generation(row_status.generation_id)
        try:
            generation.status()
        except NotFoundError:
            return None
        return generation

    def _start(self, index: int) -> Generation:
        row = self.statuses[index].row
        with tempfile.TemporaryDirectory(prefix="kolbo-batch-") as folder:
            flow = self._flow(Path(folder))
            request = GenerationRequest(row.source, row.audio, row.words, row.options)
            prepared = flow.prepare(request, self.store.subtitle_files(row))
            generation = self._submit(index, flow, prepared)
        running = replace(
            self.statuses[index],
            state="running",
            percent=0.0,
            generation_id=generation.id,
            credits=generation.started.credits_charged if generation.started else None,
        )
        self._save(index, running)
        return generation

    def _flow(self, folder: Path) -> GenerationFlow:
        return GenerationFlow(
            self._client,
            self._inspector,
            folder,
            local=self.local,
            signer=self._signer,
            should_continue=lambda: not self._stop.is_set(),
        )

    def _submit(self, index: int, flow: GenerationFlow, prepared: GenerationRequest) -> Generation:
        assert prepared.voice is not None, "prepare() gives every request a voice"
        row, backoff = self.statuses[index].row, Backoff(START_RETRY)
        while True:
            self._start_limiter.wait()
            # Saved before it is sent, so that a killed run leaves a row that may be accepted.
            self._save(index, RowStatus(row, "sending", where=self._client.base_url))
            try:
                with self._start_guard(prepared.voice):
                    return flow.submit(prepared)
            except RateLimitError as error:
                pause = backoff.next_pause(error.retry_after)
                if pause is None:
                    raise
                self._save(index, RowStatus(row))
                self._start_limiter.hold(pause)
            except CancelledError:
                self._save(index, RowStatus(row))
                raise

    def _save(self, index: int, row_status: RowStatus) -> None:
        """Save and report a change. Raises OSError."""
        self.store.save(row_status)
        self._report(index, row_status)

    def _report(self, index: int, row_status: RowStatus) -> None:
        self.statuses[index] = row_status
        self._updates.put(row_status)
