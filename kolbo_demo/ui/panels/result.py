"""Result panel: state, video, report and details of one generation."""

import time
from abc import ABCMeta
from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import Any

import gradio as gr
from gradio.blocks import Block
from gradio.data_classes import FileData

from kolbo_demo.ui import sync_report, views
from kolbo_demo.ui.backend import CLOUD
from kolbo_demo.ui.events import QUIET
from kolbo_demo.ui.generation_store import (
    REPORT,
    RESULT,
    SUBTITLES,
    GenerationStore,
    Record,
    as_document,
)
from kolbo_demo.ui.i18n.texts import say, shown
from kolbo_demo.ui.panels.in_step import in_step
from kolbo_demo.ui.run import Run
from kolbo_demo.ui.runs import fetchable
from kolbo_demo.ui.sync_report import Report

Updates = dict[Block, Any]
"""Values and properties of components, as an event handler returns them."""

_PLOT = Path(__file__).with_name("plot.js")
_COPY = """(_, id) => {
  const url = new URL(document.querySelector('link[rel=canonical]')?.href ?? location.href);
  url.search = new URLSearchParams({ generation: id });
  navigator.clipboard?.writeText(url.href).catch(() => {});
  return [url.href, id];
}"""


class _WithoutStub(type(gr.Video)):
    """Metaclass of components for which Gradio writes no stub file beside their module."""

    def __new__(cls, name: str, bases: tuple[type, ...], attributes: dict[str, Any]) -> Any:
        return ABCMeta.__new__(cls, name, bases, attributes)


class Player(gr.Video, metaclass=_WithoutStub):
    """A player of a file that is already served: it is neither copied nor converted."""

    def postprocess(self, value: str | Path | None) -> FileData | None:
        """The file as it is."""
        return FileData(path=str(value), orig_name=Path(value).name) if value else None

    def _format_subtitles(self, subtitle: str | Path | None) -> Any:
        """The file as it is; none for an empty path, since an update with None changes nothing.
        Gradio would fail in later updates once the file is deleted."""
        return FileData(path=str(subtitle)).model_dump() if subtitle else None

    def get_block_name(self) -> str:
        """Gradio's own name of the component in the browser."""
        return "video"


class Question:
    """Asks before a button does what cannot be undone."""

    def __init__(self, name: str, text: str, answer: str) -> None:
        """`text` and `answer` are keys of texts."""
        with gr.Column(visible=False, elem_id=f"ask-{name}", elem_classes="question") as self.box:
            gr.HTML(shown(lambda: f"<p>{escape(say(text))}</p>"))
            with gr.Row():
                self._no = gr.Button(shown("cards.no"), size="sm", min_width=80)
                self.yes = gr.Button(shown(answer), size="sm", min_width=80, variant="stop")

    def follow(self, button: gr.Button) -> None:
        """Opens at a click of the button, and closes at the answer."""
        button.click(lambda: gr.update(visible=True), None, self.box, **QUIET)
        self._no.click(lambda: gr.update(visible=False), None, self.box, **QUIET)


class ResultPanel:
    """The components, where the caller stands in the layout."""

    def __init__(self, kept: GenerationStore) -> None:
        self._kept = kept
        self.problem = gr.HTML("", elem_id="problem", js_on_load=_role("alert"))
        self._live = gr.HTML("", elem_id="live", elem_classes="sr-only", js_on_load=_role("status"))
        with gr.Column(elem_id="stage", elem_classes="card run"):
            self._status = gr.HTML(shown(views.idle), elem_id="status", apply_default_css=False)
            with gr.Row(elem_classes="buttons"):
                self.cancel = _button("cancel", "options.cancel")
                self.follow = _button("follow", "cards.follow")
            self.stop = Question("stop", "cards.ask_cancel", "cards.stop")
            self._video = Player(
                label=shown("face.video"),
                show_label=False,
                interactive=False,
                buttons=[],
                visible=False,
                elem_id="result",
            )
            with gr.Row(elem_classes="buttons"):
                self._download = _download("download", "result.download")
                self.reuse = _button("reuse", "cards.again")
                self._link = _button("link", "cards.link")
                self.delete = _button("delete", "cards.delete")
            self.drop = Question("delete", "cards.ask_delete", "cards.delete")
            self._address = gr.Textbox(
                label=shown("cards.link_is"), visible=False, elem_id="address", buttons=["copy"]
            )
            self._id = gr.Textbox(visible="hidden", show_label=False)
            self._lay_out_compare()
            self._report = gr.HTML(
                "", elem_id="report", js_on_load=_PLOT.read_text("utf-8"), apply_default_css=False
            )
            with gr.Row(elem_classes="buttons"):
                self._report_file = _download("report-file", "sync.json")
            with gr.Accordion(
                shown("result.details"), open=False, visible=False, elem_id="details"
            ) as self._details:
                self._table = gr.HTML("", apply_default_css=False)
                self._document = gr.JSON(
                    label=shown("result.as_json"), buttons=["copy"], elem_id="document"
                )
        self.outputs: list[Block] = [
            *(self.problem, self._live, self._status, self.cancel, self.follow, self.stop.box),
            *(self._video, self._download, self.reuse, self._link, self.delete, self.drop.box),
            *(self._address, self._id, self.compare, self.beside, self.slider, self.panes),
            *(self.save_file, self._report, self._report_file, self._details, self._table),
            self._document,
        ]

    def _lay_out_compare(self) -> None:
        with gr.Accordion(
            shown("compare.title"), open=False, visible=False, elem_id="compare"
        ) as self.compare:
            self.beside = gr.Dropdown(
                [], label=shown("compare.beside"), filterable=False, elem_id="beside"
            )
            """Its value is the ticket of another result, empty for the source."""
            self.slider = gr.ImageSlider(
                show_label=False,
                interactive=False,
                buttons=[],
                visible=False,
                elem_id="before-after",
            )
            self.panes = in_step("in-step")
            with gr.Row(elem_classes="buttons"):
                self.save = gr.Button(
                    shown("compare.save"), size="sm", min_width=80, scale=0, elem_id="save-beside"
                )
                self.save_file = _download("beside-file", "compare.save")

    def connect(self) -> None:
        """Events that need nothing but the panel."""
        self.stop.follow(self.cancel)
        self.drop.follow(self.delete)
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
        self,
        record: Record,
        run: Run | None,
        report: Report | None,
        others: Sequence[tuple[str, str]] = (),
    ) -> Updates:
        """The panel for a generation, and its run while it is under way in this process. `others`
        are the results that it can be compared with, as titles and tickets."""
        running = record.end is None and run is not None
        path = self._kept.file(record.ticket, RESULT) if record.end == "done" else None
        words = self._kept.file(record.ticket, SUBTITLES) if path else None
        follow = record.end is None and run is None
        label = say("cards.follow" if follow else "cards.fetch")
        measured = report is not None and "error" not in report
        own = [(say("compare.source"), "")] if record.source and record.source.file else []
        beside = [*own, *others]
        ended = record.status
        return {
            **self.refused(""),
            self._live: escape(_announced(record, run)),
            self._status: status(record, run),
            self.cancel: gr.update(visible=running, interactive=not (run and run.cancelling)),
            self.follow: gr.update(visible=follow or fetchable(record), value=label),
            self.stop.box: gr.update(visible=False) if not running else gr.skip(),
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
            self.compare: gr.update(visible=path is not None and bool(beside), open=False),
            self.beside: gr.update(choices=beside, value=beside[0][1] if beside else None),
            self.save_file: gr.update(visible=False),
            self._report: sync_report.view(report) if path else "",
            self._report_file: gr.update(
                value=self._kept.file(record.ticket, REPORT) if measured else None,
                visible=measured and path is not None,
            ),
            self._details: gr.update(visible=ended is not None),
            self._table: views.details(ended, link=record.backend == CLOUD) if ended else "",
            self._document: as_document(ended) if ended else None,
        }

    def _parts(self) -> list[Block]:
        """All that is hidden while there is nothing to show."""
        return [
            *(self.cancel, self.follow, self.stop.box, self._download, self.reuse, self._link),
            *(self.delete, self.drop.box, self._address, self.compare, self._report_file),
            self._details,
        ]


def _role(role: str) -> str:
    """Script that makes a component a live region, which has to be there before its text is."""
    return f"element.setAttribute('role', '{role}')"


def _button(name: str, text: str) -> gr.Button:
    return gr.Button(shown(text), size="sm", min_width=80, scale=0, visible=False, elem_id=name)


def _download(name: str, text: str) -> gr.DownloadButton:
    return gr.DownloadButton(
        str(shown(text)), size="sm", min_width=80, scale=0, visible=False, elem_id=name
    )


def status(record: Record, run: Run | None) -> str:
    """State of a generation as HTML."""
    known = record.generation_id
    if record.end == "done":
        result = record.status.result if record.status else None
        unsynced, notes = (result.unsynced, result.notes) if result else ((), ())
        return views.done(record.seconds, known, unsynced, notes)
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


def title(record: Record) -> str:
    """Source and voice of a generation in words."""
    if record.source is None:
        return record.generation_id or say("result.generation_id")
    said = record.voice.name if record.voice else f"“{(record.words or '')[:60]}”"
    return f"{record.source.name} · {said}"
