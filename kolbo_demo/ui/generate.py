"""Generate: a generator that starts a generation and shows it until it has ended.

The generation itself runs in the background (`runs.py`) and depends on no browser. The generator is
a view of it: it looks at the state, yields what changed in the result panel, and ends with the
video. If the browser leaves, only the view ends. A page that is loaded, a link and a row of the
history take up a generation with the same generator.
"""

import asyncio
import math
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any
from uuid import uuid4

import gradio as gr
from gradio.blocks import Block

from kolbo_demo.client import InputError, KolboError
from kolbo_demo.preflight.trim import result_seconds
from kolbo_demo.service.gate import Caller, caller_of
from kolbo_demo.ui.access.backend import Access
from kolbo_demo.ui.background import eta
from kolbo_demo.ui.background.runs import Runs
from kolbo_demo.ui.events import EACH, QUIET, Updates, Values
from kolbo_demo.ui.i18n.texts import say
from kolbo_demo.ui.panels.comparison import (
    ComparisonPanel,
    ModelComparison,
    checked,
    selected_ticket,
)
from kolbo_demo.ui.panels.form import Form
from kolbo_demo.ui.panels.history import HistoryPanel
from kolbo_demo.ui.panels.result import ResultPanel
from kolbo_demo.ui.storage.generation_store import RESULT, Record, title
from kolbo_demo.ui.storage.quota import counted
from kolbo_demo.ui.tab import Entry, Tab

POLL_SECONDS = 0.5
LOST_SECONDS = 10.0
"""A view that has not looked for so long has lost its connection."""
_LOAD = """(...values) => {
  let old = [];
  try { old = JSON.parse(localStorage.getItem('kolbo-generations')) || []; } catch {}
  return [...values.slice(0, -1), { old, zone: new Date().getTimezoneOffset() }];
}"""
"""Hands over the list that an older release stored, and the time zone."""


@dataclass(frozen=True)
class _Related:
    """Other generations of the browser, as far as the view of one needs them."""

    results: Sequence[tuple[str, str]] = ()
    """Titles and tickets of those that have a result."""
    group: Sequence[str] = ()
    """Tickets of all that were started to be compared with it, itself included."""


@dataclass(frozen=True)
class Generate:
    """Handlers of the events around the result panel."""

    access: Access
    runs: Runs
    form: Form
    backend: gr.Radio
    key: gr.Textbox
    offers: gr.State
    model_comparison: ModelComparison
    result: ResultPanel
    history: HistoryPanel
    comparison: ComparisonPanel
    preflight: gr.Accordion
    """Folded away once a generation is shown."""

    def connect(self, page: gr.Blocks, button: gr.Button) -> dict[str, Any]:
        """Wires the events. Returns the one of Generate, for other buttons that do the same."""
        base = self.history.inputs
        started: set[Block] = {*self.form.components, self.backend, self.key, self.offers, *base}
        outputs: list[Block] = [
            *self.result.outputs,
            *self.history.outputs,
            *self.comparison.outputs,
            self.preflight,
        ]
        run: dict[str, Any] = {"inputs": started, "outputs": outputs, **EACH}
        button.click(self.generate, **run)
        several: set[Block] = {*started, self.model_comparison.choice}
        self.model_comparison.button.click(self.generate, several, outputs, **EACH)
        keyed: set[Block] = {self.key, *base}
        page.load(self.resume, {*keyed, self.history.loaded}, outputs, js=_LOAD, **EACH)
        self.history.table.select(self.open_row, keyed, outputs, **EACH)
        self.comparison.table.select(self.open_row, keyed, outputs, **EACH)
        self.result.follow.click(self.follow, keyed, outputs, **EACH)
        gr.on(
            [button.click, self.model_comparison.button.click, self.history.table.select],
            None,
            None,
            None,
            js="kolboShowResult",
            api_visibility="private",
        )
        self.history.timer.tick(self.tick, base, outputs, **QUIET)
        self.history.received.click(
            self.tick, base, outputs, js="() => [kolboList.received(), null]", **QUIET
        )
        self.history.connect()
        self.result.connect()
        self.result.stop.yes.click(self.cancel, base, None, **QUIET)
        self.result.drop.yes.click(self.delete, base, outputs, **QUIET)
        self.result.beside.connect(self.history.tab, self.result.problem)
        return {"fn": self.generate, **run}

    async def generate(self, request: gr.Request, values: Values) -> AsyncIterator[Updates]:
        """Starts the generation that the form describes, or one with each of the models that are
        chosen to be compared, and shows the first."""
        tab, caller = self._tab(values), caller_of(request)
        try:
            records = await asyncio.to_thread(
                self._start, values, caller, values.get(self.model_comparison.choice)
            )
        except KolboError as error:
            yield self.result.refused(str(error))
            return
        tab.add(_entry(record) for record in records)
        async for updates in self._watch(tab, records[0].ticket, caller):
            yield updates

    async def resume(self, request: gr.Request, values: Values) -> AsyncIterator[Updates]:
        """At the load of the page: the generation of its link, else the last one of the browser."""
        tab, caller = self._tab(values), caller_of(request)
        loaded = values[self.history.loaded]
        if isinstance(loaded, dict):
            tab.merge(loaded.get("old"))
            tab.set_zone(loaded.get("zone"))
        linked = request.query_params.get("generation")
        there = (ticket for ticket in tab.entries if self.runs.store.has(ticket))
        ticket = tab.find(linked) if linked else next(there, None)
        if linked and ticket is None:
            async for updates in self._opened(tab, linked, values[self.key], caller):
                yield updates
            return
        yield await asyncio.to_thread(self.history.updates, tab, caller)
        if ticket:
            async for updates in self._watch(tab, ticket, caller):
                yield updates

    async def open_row(
        self, request: gr.Request, values: Values, event: gr.SelectData
    ) -> AsyncIterator[Updates]:
        """Brings a generation of a table to the front."""
        tab = self._tab(values)
        entry = tab.entries.get(selected_ticket(event) or "")
        if entry is None:
            yield {self.result.problem: ""}
            return
        caller = caller_of(request)
        if entry.id and self.runs.store.get(entry.ticket) is None:
            ways = self._opened(tab, entry.id, values[self.key], caller, entry.ticket)
        else:
            ways = self._watch(tab, entry.ticket, caller)
        async for updates in ways:
            yield updates

    async def follow(self, request: gr.Request, values: Values) -> AsyncIterator[Updates]:
        """Takes up a generation that nobody polls any more, with the key that is given now."""
        tab, caller = self._tab(values), caller_of(request)
        record = self.runs.store.get(tab.front or "")
        if record is None:
            yield self.result.refused(say("cards.gone"))
            return
        run = await asyncio.to_thread(self.runs.follow, record, values[self.key], caller)
        if run is None:
            yield self.result.refused(say("cards.key_again"))
            return
        async for updates in self._watch(tab, record.ticket, caller):
            yield updates

    def tick(self, request: gr.Request, values: Values) -> Updates:
        """The history again; the result panel if its view has lost its connection, and the results
        to compare with if others have ended since."""
        tab, caller = self._tab(values), caller_of(request)
        if tab.view is None and not tab.watched:  # the page is older than this process
            tab.front = next(iter(tab.entries), None)
        updates = self.history.updates(tab, caller)
        if tab.front and time.monotonic() - tab.watched > LOST_SECONDS:
            related = self._related(tab, tab.front)
            updates |= self._panel_updates(tab, tab.front, caller, related)[0]
        elif tab.front and tab.watched == math.inf and tab.listed is not self.runs.revision:
            tab.listed = self.runs.revision
            record = self.runs.store.get(tab.front)
            if record and self.runs.store.file(tab.front, RESULT):
                others = self._related(tab, tab.front).results
                updates |= self.result.beside.choices(record, others, tab.beside)
        return updates

    def cancel(self, request: gr.Request, values: Values) -> None:
        """Stops the work itself. Blocks for one request at most."""
        tab = self._tab(values)
        if tab.front:
            self.runs.cancel(tab.front, caller_of(request))

    def delete(self, request: gr.Request, values: Values) -> Updates:
        """Deletes the generation in the result panel with its files."""
        tab = self._tab(values)
        if tab.front:
            self.runs.delete(tab.front)
            tab.remove(tab.front)
        shown = {**self.result.idle(), **self.comparison.hidden()}
        return shown | self.history.updates(tab, caller_of(request))

    def _start(self, values: Values, caller: Caller, chosen: Sequence[str] | None) -> list[Record]:
        """Starts one generation, or one with each of the chosen models. Raises `InputError` and
        `KolboError` if not one could be started."""
        backend, key, offers = (values[part] for part in (self.backend, self.key, self.offers))
        fields = self.form.read(values)
        rivals = [fields.model or ""] if chosen is None else checked(chosen)
        request = fields.request()
        client = self.access.client(backend, key, caller)
        allowance = self.access.allowance(backend, key, caller)
        spending = partial(allowance.spend, caller.payer) if allowance else None
        kind = fields.source_facts.source.kind if fields.source_facts.source else None
        group = None if chosen is None else uuid4().hex
        records = list[Record]()
        for model in rivals:
            offered = offers.candidates(model, kind)
            seconds = result_seconds(request.options.trim)
            expected = eta.estimate(self.runs.store, backend, offered, seconds)
            wanted = replace(request, options=request.options.replace(model=model or None))
            try:
                record = self.runs.start(
                    client, wanted, backend, group, spending, expected, offered, counted(caller)
                )
            except InputError:
                if not records:
                    raise
                break
            records.append(record)
        return records

    async def _opened(
        self, tab: Tab, generation_id: str, key: str, caller: Caller, ticket: str = ""
    ) -> AsyncIterator[Updates]:
        """Opens a generation by its id, and shows it. `ticket` is that of its former record."""
        try:
            record = await asyncio.to_thread(self.runs.open, generation_id, key, caller)
        except KolboError as error:
            known = await asyncio.to_thread(self.history.updates, tab, caller)
            yield {**self.result.refused(str(error)), **known}
            return
        tab.remove(ticket)
        tab.add([_entry(record)])
        async for updates in self._watch(tab, record.ticket, caller):
            yield updates

    async def _watch(self, tab: Tab, ticket: str, caller: Caller) -> AsyncIterator[Updates]:
        """Yields what changes in the panels until the generation has ended and is measured, or
        another view begins. Holds no thread while it waits."""
        view = tab.bring_to_front(ticket)
        shown: Updates = {}
        listed, related = None, _Related()
        while tab.view is view:
            updates: Updates = {self.preflight: gr.update(open=False)}
            entry = tab.entries.get(ticket)
            now = tuple(tab.entries), self.runs.revision, entry and entry.id
            if now != listed:  # the timer keeps the rest of the history current
                listed = now
                related = await asyncio.to_thread(self._related, tab, ticket)
                updates |= await asyncio.to_thread(self.history.updates, tab, caller)
            panels, settled = await asyncio.to_thread(
                self._panel_updates, tab, ticket, caller, related
            )
            tab.watched = time.monotonic()
            changed = {
                part: value
                for part, value in (updates | panels).items()
                if part not in shown or shown[part] != value
            }
            shown |= changed
            if changed and tab.view is view:
                yield changed
            if settled and self.runs.revision is now[1]:
                tab.watched, tab.listed = math.inf, now[1]
                return
            await asyncio.sleep(POLL_SECONDS)

    def _panel_updates(
        self, tab: Tab, ticket: str, caller: Caller, related: _Related
    ) -> tuple[Updates, bool]:
        """The panels for a generation, and whether nothing of it will change any more. Blocks for
        its files."""
        snapshot = self.runs.snapshot(ticket, caller)
        if snapshot is None:
            tab.remove(ticket)
            return {**self.result.idle(say("cards.gone")), **self.comparison.hidden()}, True
        if entry := tab.entries.get(ticket):
            entry.id = snapshot.record.generation_id or entry.id
        group = [each for member in related.group if (each := self.runs.snapshot(member, caller))]
        updates = self.result.updates(snapshot, related.results, tab.beside)
        updates |= self.comparison.updates(group) if group else self.comparison.hidden()
        return updates, snapshot.settled and all(each.settled for each in group)

    def _related(self, tab: Tab, ticket: str) -> _Related:
        """Reads all records of this browser."""
        store = self.runs.store
        records = [record for each in list(tab.entries) if (record := store.get(each))]
        group = next((each.group for each in records if each.ticket == ticket), None)
        return _Related(
            [
                (f"{title(each)} ({each.generation_id})", each.ticket)
                for each in records
                if each.ticket != ticket and each.end == "done" and store.file(each.ticket, RESULT)
            ],
            [each.ticket for each in records if group and each.group == group],
        )

    def _tab(self, values: Values) -> Tab:
        tab: Tab = values[self.history.tab]
        tab.merge(values.get(self.history.stored))
        return tab


def _entry(record: Record) -> Entry:
    return Entry(ticket=record.ticket, id=record.generation_id, backend=record.backend)
