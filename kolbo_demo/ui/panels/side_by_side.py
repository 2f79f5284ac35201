"""The source or another result beside a result: stills in a slider, clips in step."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import gradio as gr
from gradio.blocks import Block

from kolbo_demo.credentials.manifest import combined
from kolbo_demo.fair_lock import CURRENT_CALLER, FairSemaphore
from kolbo_demo.media.probe import MediaError
from kolbo_demo.media.side_by_side import write_side_by_side
from kolbo_demo.service.gate import caller_of
from kolbo_demo.ui.background import sync_report
from kolbo_demo.ui.background.runs import Runs
from kolbo_demo.ui.events import QUIET, Updates, Values
from kolbo_demo.ui.i18n.texts import say, shown
from kolbo_demo.ui.panels import views
from kolbo_demo.ui.panels.parts import download_button, in_step, small_button
from kolbo_demo.ui.storage.generation_store import RESULT, SIDE_BY_SIDE, Record, title
from kolbo_demo.ui.tab import Tab

_WORK: dict[str, Any] = QUIET | {"concurrency_id": "side-by-side", "concurrency_limit": 2}
_WRITING = FairSemaphore()
"""Putting videos together occupies a core: one at a time."""
_SAVE = "() => setTimeout(() => document.querySelector('#beside-file')?.click(), 300)"


class SideBySide:
    """A fold in the result panel, where the caller stands in the layout."""

    def __init__(self, runs: Runs) -> None:
        self._runs = runs
        with gr.Accordion(
            shown("compare.title"), open=False, visible=False, elem_id="compare"
        ) as self.fold:
            self._choice = gr.Dropdown(
                [], label=shown("compare.beside"), filterable=False, elem_id="beside"
            )
            """Its value is the ticket of another result, empty for the source."""
            self._slider = gr.ImageSlider(
                show_label=False,
                interactive=False,
                buttons=[],
                visible=False,
                elem_id="before-after",
            )
            self._panes = in_step("in-step")
            with gr.Row(elem_classes="buttons"):
                self._save = small_button("save-beside", "compare.save", visible=True)
                self._file = download_button("beside-file", "compare.save")
        self.outputs: list[Block] = [
            *(self.fold, self._choice, self._slider, self._panes, self._file),
        ]

    def connect(self, tab: gr.State, problem: gr.HTML) -> None:
        """`problem` shows a sentence where no video can be made."""
        self._tab, self._problem = tab, problem
        inputs: set[Block] = {tab, self._choice}
        for event in (self.fold.expand, self._choice.input):
            event(self._show, inputs, [self._slider, self._panes, self._file], **_WORK)
        self._save.click(self._write, inputs, [self._file, problem], **_WORK).then(
            None, None, None, js=_SAVE, api_visibility="private"
        )

    def updates(
        self, record: Record, others: Sequence[tuple[str, str]], chosen: str | None
    ) -> Updates:
        """The closed fold for a result; arguments as in `choices`."""
        offered = self.choices(record, others, chosen)
        closed = {**offered[self.fold], "open": False}
        return offered | {self.fold: closed, self._file: gr.update(visible=False)}

    def choices(
        self, record: Record, others: Sequence[tuple[str, str]], chosen: str | None
    ) -> Updates:
        """The results that one can be compared with. `others` are titles and tickets of other
        results, `chosen` is the ticket of the one that is shown."""
        own = [(say("compare.source"), "")] if record.source and record.source.file else []
        choices = [*own, *others]
        if choices and chosen not in {ticket for _, ticket in choices}:
            chosen = choices[0][1]
        return {
            self.fold: gr.update(visible=bool(choices)),
            self._choice: gr.update(choices=choices, value=chosen),
        }

    def _show(self, request: gr.Request, values: Values) -> Any:
        CURRENT_CALLER.set(caller_of(request).visitor)
        tab: Tab = values[self._tab]
        chosen = tab.beside = values[self._choice]
        record, left, right = self._pair(tab, chosen)
        slider, panes = gr.update(visible=False), ""
        if record and left and right:
            if left.suffix == ".jpg":
                snapshot = self._runs.snapshot(record.ticket)
                report = snapshot.report if snapshot else None
                at = sync_report.widest_opening(report) if report else 0.0
                after = self._runs.store.after(record, at)
                slider = gr.update(value=(str(left), str(after)), visible=after is not None)
            else:
                names = (say("compare.source"), title(record))
                panes = views.panes(
                    list(zip((left, right), names, strict=True)), say("compare.play")
                )
        if tab.beside != chosen:
            return gr.skip()
        return {self._slider: slider, self._panes: panes, self._file: gr.update(visible=False)}

    def _write(self, request: gr.Request, values: Values) -> Updates:
        """Makes one video of the two."""
        CURRENT_CALLER.set(caller_of(request).visitor)
        record, left, right = self._pair(values[self._tab], values[self._choice])
        problem = say("compare.none")
        if record and left and right:
            target = self._runs.store.folder(record.ticket) / SIDE_BY_SIDE
            mark = record.options.mark

            def sign(video: Path) -> None:
                if self._runs.signer:
                    self._runs.signer.sign(video, combined(left, right, visible_mark=mark))

            try:
                with _WRITING.acquire():
                    write_side_by_side(left, right, target, sign)
            except MediaError as error:
                problem = str(error)
            else:
                return {self._file: gr.update(value=target, visible=True), self._problem: ""}
        return {self._file: gr.update(visible=False), self._problem: views.failed(problem)}

    def _pair(self, tab: Tab, other: str | None) -> tuple[Record | None, Path | None, Path | None]:
        """The generation in the result panel, what is beside it, and its result."""
        store = self._runs.store
        record = store.get(tab.front or "")
        if record is None:
            return None, None, None
        left = store.file(other, RESULT) if other else store.before(record)
        return record, left, store.file(record.ticket, RESULT)
