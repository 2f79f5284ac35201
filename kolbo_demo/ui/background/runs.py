"""The generations of all visitors, by ticket: those under way here, and those that are kept."""

import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass

from kolbo_demo.client import Generation, InputError, KolboClient, KolboError, NotFoundError
from kolbo_demo.contract import COMPLETED, Model
from kolbo_demo.credentials.signing import Signer
from kolbo_demo.generation import GenerationRequest
from kolbo_demo.preflight import Inspector
from kolbo_demo.service.gate import Caller
from kolbo_demo.ui.access.backend import CLOUD, LOCAL, Access
from kolbo_demo.ui.background.run import Run, Spending, Stage
from kolbo_demo.ui.background.sync_report import Report, Reports
from kolbo_demo.ui.i18n.texts import say
from kolbo_demo.ui.storage.generation_store import RESULT, GenerationStore, Record
from kolbo_demo.ui.storage.quota import QuotaError, counted

POLL_SECONDS = 0.1
MOST_RUNS = 20
"""Of one visitor under way: each polls in a thread of its own."""


@dataclass(frozen=True)
class Snapshot:
    """Everything that is known of a generation at one moment."""

    record: Record
    run: Run | None = None
    """While the generation is under way in this process."""
    has_result: bool = False
    report: Report | None = None
    """Of the result, once it is measured."""

    @property
    def running(self) -> bool:
        return self.record.end is None and self.run is not None

    @property
    def measuring(self) -> bool:
        """Whether the report of the result is being made."""
        return self.has_result and self.report is None

    @property
    def settled(self) -> bool:
        """Whether nothing changes any more, unless the visitor does something."""
        return not self.running and not self.measuring


class Runs:
    """Starts, follows, cancels and forgets. A record that has no end and no run here was left by a
    page that stopped: it is taken up again as soon as there is a key for it."""

    def __init__(
        self,
        access: Access,
        store: GenerationStore,
        inspector: Inspector | None = None,
        signer: Signer | None = None,
    ) -> None:
        """`inspector` trims files, `signer` signs what is marked here."""
        self._access = access
        self.store = store
        self.revision = object()
        """Another one whenever a generation has ended or is deleted."""
        self._reports = Reports(store, signer)
        self._inspector = inspector or Inspector()
        self.signer = signer
        self._lock = threading.Lock()
        self._running: dict[str, Run] = {}

    def start(
        self,
        client: KolboClient,
        request: GenerationRequest,
        backend: str,
        group: str | None = None,
        spending: Spending | None = None,
        expected: float | None = None,
        candidates: Sequence[Model] = (),
        visitor: str = "",
    ) -> Record:
        """Begins a generation and returns its record at once. `candidates` are the models that may
        do it; its files count as the `visitor`'s. Raises `QuotaError`, and `InputError` where
        too many are under way."""
        self._check_share(visitor)
        record = self.store.new(request, backend, group, visitor)
        record.expected = expected
        record.names = {model.identifier: model.name for model in candidates if model.name}
        self._run(client, request, record, spending, visitor)
        picture = threading.Thread(target=self.store.picture, args=(record, visitor), daemon=True)
        picture.start()
        return record

    def open(
        self, generation_id: str, typed_key: str | None, caller: Caller | None = None
    ) -> Record:
        """A record for a generation that is known by its id: the local engine's where it knows it,
        else the cloud's. Raises `KolboError` with a sentence for the visitor."""
        if self._access.local.problem() is None:
            try:
                return self._open(generation_id, LOCAL, None, caller)
            except NotFoundError:
                pass
        if not self._access.is_owner(caller) and not (typed_key or "").strip():
            # An owner who shares a key shares what it can make, not all that was made with it.
            raise InputError(say("cards.unknown"))
        try:
            return self._open(generation_id, CLOUD, typed_key, caller)
        except QuotaError:
            raise
        except InputError:
            raise InputError(say("cards.unknown")) from None

    def _open(
        self, generation_id: str, backend: str, typed_key: str | None, caller: Caller | None
    ) -> Record:
        visitor = counted(caller)
        self._check_share(visitor)
        asking = self._access.client(backend, typed_key, caller, patient=False)
        asking.generation(generation_id).status()
        record = self.store.opened(generation_id, backend, visitor)
        client = self._access.client(backend, typed_key, caller)
        self._run(client, client.generation(generation_id), record, None, visitor)
        return record

    def find(self, ticket: str, caller: Caller | None = None) -> tuple[Record, Run | None] | None:
        """The record, and its run where one is under way."""
        run = self._running.get(ticket)  # first: what it comes to is kept before it goes from here
        record = self.store.get(ticket)
        if record is None:
            return None
        if run is None and record.end is None:
            run = self.follow(record, caller=caller)
            record = self.store.get(ticket) or record
        return record, run

    def snapshot(self, ticket: str, caller: Caller | None = None) -> Snapshot | None:
        """State of a generation; None where nothing of it is left. Blocks for its files. A result
        that has no report yet gets one made."""
        found = self.find(ticket, caller)
        if found is None:
            return None
        record, run = found
        if record.end != "done" or self.store.file(ticket, RESULT) is None:
            return Snapshot(record, run)
        return Snapshot(record, run, True, self._reports.of(record))

    def follow(
        self, record: Record, typed_key: str | None = None, caller: Caller | None = None
    ) -> Run | None:
        """Takes up a generation again that nobody follows; None where there is no key for it."""
        if record.generation_id is None:
            if record.end is None:
                record.end = "failed"
                record.error = say("cards.never_accepted")
                self.store.save(record)
            return None
        try:
            client = self._access.client(record.backend, typed_key, caller)
        except KolboError:
            return None
        record.end = record.error = None
        generation = client.generation(record.generation_id, record.poll_interval)
        return self._run(client, generation, record)

    def accepted(self, ticket: str) -> Record | None:
        """The record once its generation has an id, None while files go up. Raises
        `InputError` where it came to nothing."""
        record = self.store.get(ticket)
        if record is None or record.error is not None or record.end == "cancelled":
            error = record.error if record else None
            raise InputError(error or say("cards.gone"))
        return record if record.generation_id is not None else None

    def cancel(self, ticket: str, caller: Caller | None = None) -> None:
        """Stops the work itself. Blocks for one request at most."""
        if found := self.find(ticket, caller):
            _, run = found
            if run is not None:
                run.cancel()

    def delete(self, ticket: str) -> None:
        """Forgets one that has ended."""
        with self._lock:
            if ticket in self._running:
                return
            self.store.delete(ticket)
        self.revision = object()

    def _check_share(self, visitor: str) -> None:
        with self._lock:
            mine = sum(run.visitor == visitor for run in self._running.values())
        if visitor and mine >= MOST_RUNS:
            raise InputError(say("cards.too_many", most=MOST_RUNS))

    def _run(
        self,
        client: KolboClient,
        work: GenerationRequest | Generation,
        record: Record,
        spending: Spending | None = None,
        visitor: str = "",
    ) -> Run:
        def changed(stage: Stage) -> None:
            self._note(record, run, stage)

        run = Run(
            client,
            work,
            self.store.folder(record.ticket),
            changed,
            spending,
            self._inspector,
            record.options.mark,
            visitor=visitor,
            local=record.backend == LOCAL,
            signer=self.signer,
        )
        with self._lock:
            if other := self._running.get(record.ticket):
                return other
            self._running[record.ticket] = run
        self.store.save(record)
        run.start()
        return run

    def _note(self, record: Record, run: Run, stage: Stage) -> None:
        """Writes down what must not be lost."""
        generation = run.generation
        if record.generation_id is None and generation is not None:
            record.generation_id = generation.id
            record.poll_interval = generation.poll_interval
            record.credits = generation.started.credits_charged if generation.started else None
            self.store.save(record)
        if not stage.final:
            return
        with self._lock:  # whoever sees its end may delete it
            record.status = stage.status
            if stage.status and stage.status.credits_used is not None:
                record.credits = stage.status.credits_used
            record.seconds = time.time() - record.created
            record.error = stage.error
            record.end = "cancelled" if stage.cancelled else "failed" if stage.error else "done"
            self.store.save(record)
            self._running.pop(record.ticket, None)
        self.revision = object()
        self.store.quota.fit()
        if record.end == "done":
            self._reports.ask(record)


def fetchable(record: Record) -> bool:
    """Whether a generation that counts as failed here has a video all the same."""
    return record.end == "failed" and record.status is not None and record.status.state == COMPLETED
