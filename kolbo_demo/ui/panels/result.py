"""Result panel: state, video, report and details of one generation."""

import time
from collections.abc import Sequence
from html import escape
from pathlib import Path

import gradio as gr
from gradio.blocks import Block

from kolbo_demo.ui.access.backend import CLOUD
from kolbo_demo.ui.background import sync_report
from kolbo_demo.ui.background.run import Run
from kolbo_demo.ui.background.runs import Runs, Snapshot, fetchable
from kolbo_demo.ui.events import QUIET, Updates
from kolbo_demo.ui.i18n.texts import say, shown
from kolbo_demo.ui.panels import views
from kolbo_demo.ui.panels.parts import Player, Question, download_button, small_button
from kolbo_demo.ui.panels.side_by_side import SideBySide
from kolbo_demo.ui.storage.generation_store import (
    REPORT,
    RESULT,
    SRT,
    SUBTITLES,
    Record,
    as_document,
    title,
)

_PLOT = Path(__file__).with_name("plot.js")
_COPY = """(_, id) => {
  const url = new URL(document.querySelector('link[rel=canonical]')?.href ?? location.href);
  url.search = new URLSearchParams({ generation: id });
  navigator.clipboard?.writeText(url.href).catch(() => {});
  return [url.href, id];
}"""


class ResultPanel:
    """The components, where the caller stands in the layout."""

    def __init__(self, runs: Runs) -> None:
        self._store = runs.store
        self.problem = gr.HTML("", elem_id="problem", js_on_load=_role("alert"))
        self._live = gr.HTML("", elem_id="live", elem_classes="sr-only", js_on_load=_role("status"))
        with gr.Column(elem_id="stage", elem_classes="card run"):
            self._status = gr.HTML(shown(views.idle), elem_id="status", apply_default_css=False)
            with gr.Row(elem_classes="buttons"):
                self.cancel = small_button("cancel", "options.cancel")
                self.follow = small_button("follow", "cards.follow")
            self.stop = Question("stop", "cards.ask_cancel", "cards.stop")
            self._preview = gr.HTML("", visible=False, elem_id="preview")
            self._video = Player(
                label=shown("face.video"),
                show_label=False,
                interactive=False,
                buttons=[],
                visible=False,
                elem_id="result",
            )
            with gr.Row(elem_classes="buttons"):
                self._download = download_button("download", "result.download")
                self.reuse = small_button("reuse", "cards.again")
                self._link = small_button("link", "cards.link")
                self.delete = small_button("delete", "cards.delete")
            self.drop = Question("delete", "cards.ask_delete", "cards.delete")
            self._address = gr.Textbox(
                label=shown("cards.link_is"), visible=False, elem_id="address", buttons=["copy"]
            )
            self._id = gr.Textbox(visible="hidden", show_label=False)
            self._report = gr.HTML(
                "", elem_id="report", js_on_load=_PLOT.read_text("utf-8"), apply_default_css=False
            )
            self.beside = SideBySide(runs)
            with gr.Accordion(
                shown("result.details"), open=False, visible=False, elem_id="details"
            ) as self._details:
                self._table = gr.HTML("", apply_default_css=False)
                with gr.Row(elem_classes="buttons"):
                    self._report_file = download_button("report-file", "sync.json")
                    self._subtitles = {
                        SRT: download_button("srt", "result.srt"),
                        SUBTITLES: download_button("vtt", "result.vtt"),
                    }
                self._document = gr.JSON(
                    label=shown("result.as_json"), buttons=["copy"], elem_id="document"
                )
        self.outputs: list[Block] = [
            *(self.problem, self._live, self._status, self.cancel, self.follow, self.stop.box),
            *(self._preview, self._video, self._download, self.reuse, self._link, self.delete),
            *(self.drop.box, self._address, self._id, *self.beside.outputs),
            *(self._report, self._report_file, *self._subtitles.values()),
            *(self._details, self._table, self._document),
        ]

    def connect(self) -> None:
        """Events that need nothing but the panel."""
        self.stop.connect(self.cancel)
        self.drop.connect(self.delete)
        self._link.click(
            lambda url, _: gr.update(value=url, visible=True),
            [self._address, self._id],
            self._address,
            js=_COPY,
            **QUIET,
        )

    def idle(self, problem: str = "") -> Updates:
        """While there is nothing to show. `problem` is a sentence."""
        hidden = gr.update(visible=False)
        return {
            **self.refused(problem),
            self._live: "",
            self._status: views.idle(),
            **dict.fromkeys(self._parts(), hidden),
            self._video: gr.update(value=None, visible=False),
            self._report: "",
        }

    def refused(self, problem: str) -> Updates:
        """One sentence above a result that stays; an empty one removes it."""
        return {self.problem: views.failed(problem) if problem else ""}

    def updates(
        self, snapshot: Snapshot, others: Sequence[tuple[str, str]] = (), chosen: str | None = None
    ) -> Updates:
        """The panel for a generation. `others` are the results that it can be compared with, as
        titles and tickets; `chosen` is the ticket of the one that it is compared with."""
        record, run, report = snapshot.record, snapshot.run, snapshot.report
        path = self._store.file(record.ticket, RESULT) if snapshot.has_result else None
        words = self._store.file(record.ticket, SUBTITLES) if path else None
        follow = record.end is None and run is None
        label = say("cards.follow" if follow else "cards.fetch")
        measured = report is not None and "error" not in report
        ended = record.status
        preview = run.preview() if snapshot.running and run else None
        return {
            **self.refused(""),
            self._live: escape(_announced(record, run)),
            self._status: status(record, run),
            self.cancel: gr.update(
                visible=snapshot.running, interactive=not (run and run.cancelling)
            ),
            self.follow: gr.update(visible=follow or fetchable(record), value=label),
            self.stop.box: gr.skip() if snapshot.running else gr.update(visible=False),
            self._preview: gr.update(
                value=views.preview(preview) if preview else "", visible=preview is not None
            ),
            self._video: gr.update(
                value=path,
                subtitles=str(words or ""),
                visible=path is not None,
                label=title(record),
            ),
            self._download: gr.update(value=path, visible=path is not None),
            self.reuse: gr.update(visible=record.source is not None),
            self._link: gr.update(visible=path is not None and bool(record.generation_id)),
            self.delete: gr.update(visible=record.end is not None),
            self.drop.box: gr.update(visible=False),
            self._address: gr.update(visible=False),
            self._id: record.generation_id or "",
            **(
                self.beside.updates(record, others, chosen)
                if path
                else {self.beside.fold: gr.update(visible=False)}
            ),
            self._report: sync_report.view(report) if path else "",
            self._report_file: gr.update(
                value=self._store.file(record.ticket, REPORT) if measured else None,
                visible=measured and path is not None,
            ),
            **{
                button: gr.update(value=file, visible=file is not None)
                for name, button in self._subtitles.items()
                for file in [self._store.file(record.ticket, name) if path else None]
            },
            self._details: gr.update(visible=ended is not None),
            self._table: views.details(
                ended, record.backend == CLOUD, sync_report.facts(report) if report else ()
            )
            if ended
            else "",
            self._document: as_document(ended) if ended else None,
        }

    def _parts(self) -> list[Block]:
        """All that is hidden while there is nothing to show."""
        return [
            *(self.cancel, self.follow, self.stop.box, self._download, self.reuse, self._link),
            *(self.delete, self.drop.box, self._address, self.beside.fold, self._report_file),
            *(*self._subtitles.values(), self._details, self._preview),
        ]


def _role(role: str) -> str:
    """Script that makes a component a live region, which has to be there before its text is."""
    return f"element.setAttribute('role', '{role}')"


def status(record: Record, run: Run | None) -> str:
    """State of a generation as HTML."""
    known = record.generation_id
    if record.end == "done":
        result = record.status.result if record.status else None
        unsynced, notes = (result.unsynced, result.notes) if result else ((), ())
        elapsed = record.seconds if record.source else None  # opened by its id it took no time
        return views.done(elapsed, known, unsynced, notes)
    if record.end == "failed":
        return views.failed(record.error or "", known)
    if record.end == "cancelled":
        return views.cancelled(known)
    if run is None:
        return views.stranded(known)
    elapsed = max(0.0, time.time() - record.created)
    return views.running(run.stage, elapsed, run.fault, record.expected)


def _announced(record: Record, run: Run | None) -> str:
    """Text for screen readers: every change of state, and no progress in between."""
    if record.end == "done":
        return say("status.ready")
    if record.end == "failed":
        return f"{say('status.failed')}. {record.error or ''}"
    if record.end == "cancelled":
        return say("status.cancelled")
    if run is None:
        return say("status.stranded")
    return run.stage.spoken or run.stage.headline
