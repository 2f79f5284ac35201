"""Compare models: the choice of models for the same inputs, and the panel of their results."""

import json
import re
from collections.abc import Sequence
from html import escape
from typing import Any

import gradio as gr
from gradio.blocks import Block
from gradio.components import Component

from kolbo_demo.client import InputError
from kolbo_demo.contract import Model, is_web_link, url_kind
from kolbo_demo.csv_export import csv_text
from kolbo_demo.ui.background import sync_report
from kolbo_demo.ui.background.runs import Snapshot
from kolbo_demo.ui.events import LATEST, Updates, changes
from kolbo_demo.ui.i18n.texts import say, shown
from kolbo_demo.ui.panels import views
from kolbo_demo.ui.panels.model_picker import SMART_SELECT, Offers, label
from kolbo_demo.ui.panels.parts import download_button, in_step
from kolbo_demo.ui.storage.folders import TICKET
from kolbo_demo.ui.storage.generation_store import RESULT, TABLE, GenerationStore, Record

LEAST, MOST = 2, 6
"""Models at once: ten generations a minute are all that the API takes."""
_COLUMNS = ("model", "sync", "closures", "time", "credits")

_STATES = {
    "done": "batch.state_completed",
    "failed": "batch.state_failed",
    "cancelled": "status.cancelled",
}


class ModelComparison:
    """Folded away: the models that take this source, and a button that starts one of each."""

    def __init__(self) -> None:
        with gr.Accordion(shown("versus.title"), open=False, elem_id="versus"):
            self.choice = gr.CheckboxGroup(
                [SMART_SELECT], label=shown("versus.choose"), elem_id="versus-models"
            )
            """Its value holds identifiers, an empty one for Smart Select."""
            gr.HTML(shown(lambda: views.note(say("versus.hint", most=MOST))), elem_id="versus-note")
            self.button = gr.Button(shown("versus.generate"), elem_id="versus-generate")

    def follow(self, offers: gr.State, source: list[Component]) -> None:
        """Lists the offered models that take the source: image, video or link."""
        watched = [offers, *source]
        gr.on(changes(watched), _list, [*watched, self.choice], self.choice, **LATEST)


def _list(
    offers: Offers, image: str | None, video: str | None, link: str | None, chosen: list[str]
) -> gr.CheckboxGroup:
    kind = "image" if image else "video" if video else None
    if kind is None and is_web_link(link or ""):
        kind = url_kind(link or "")
    models = [model for model in offers.models if _takes(model, kind)]
    choices = [SMART_SELECT, *((label(model), model.identifier) for model in models)]
    there = {identifier for _, identifier in choices}
    update: dict[str, Any] = {"choices": choices}
    if not there.issuperset(chosen):
        update["value"] = [identifier for identifier in chosen if identifier in there]
    # Otherwise the value is left alone: the visitor may have ticked another one meanwhile.
    return gr.CheckboxGroup(**update)


def checked(chosen: Sequence[str]) -> list[str]:
    """The identifiers. Raises `InputError` for too few or too many."""
    if not LEAST <= len(chosen) <= MOST:
        raise InputError(say("versus.choose_some", least=LEAST, most=MOST))
    return list(chosen)


def _takes(model: Model, kind: str | None) -> bool:
    """Whether a model takes such a source. What it does not tell is for the API to say."""
    kinds = [name for name in model.types if name.startswith("lipsync-")]
    return kind is None or not kinds or f"lipsync-{kind}" in kinds


class ComparisonPanel:
    """Results of several models for the same inputs, where the caller stands in the layout."""

    def __init__(self, store: GenerationStore) -> None:
        self._store = store
        with gr.Column(visible=False, elem_id="models", elem_classes="card") as self._box:
            gr.HTML(shown(lambda: f"<h2>{escape(say('versus.table'))}</h2>"))
            self.table = gr.Dataframe(
                headers=[""] * len(_COLUMNS),
                datatype=["html", "str", "str", "str", "str"],
                column_count=len(_COLUMNS),
                column_widths=["25%", "24%", "21%", "13%", "17%"],
                show_label=False,
                interactive=False,
                wrap=True,
                buttons=[],
                elem_id="models-table",
            )
            self._panes = in_step("models-panes")
            with gr.Row(elem_classes="buttons"):
                self._files = {
                    form: download_button(f"models-{form}", f"versus.{form}")
                    for form in ("csv", "json")
                }
        self.outputs: list[Block] = [self._box, self.table, self._panes, *self._files.values()]

    def hidden(self) -> Updates:
        """While the generation in the result panel is not one of several."""
        return {self._box: gr.update(visible=False), self._panes: ""}

    def updates(self, compared: Sequence[Snapshot]) -> Updates:
        """The table of these generations, the first one first, and the videos that are there."""
        videos = [
            (path, name(each.record))
            for each in compared
            if each.has_result and (path := self._store.file(each.record.ticket, RESULT))
        ]
        table = {
            "headers": [say(f"versus.{column}") for column in _COLUMNS],
            "data": list(map(cells, compared)),
        }
        first = compared[0].record
        self._write(list(map(figures, compared)), first)
        folder = self._store.folder(first.ticket)
        return {
            self._box: gr.update(visible=True),
            self.table: gr.update(value=table),
            self._panes: views.panes(videos, say("versus.play")) if videos else "",
            **{
                button: gr.update(value=folder / f"{TABLE}.{form}", visible=True)
                for form, button in self._files.items()
            },
        }

    def _write(self, rows: list[dict[str, Any]], first: Record) -> None:
        """The table for other programs, in the folder of the first generation."""
        text = json.dumps(rows, indent=2, ensure_ascii=False).encode()
        before = self._store.file(first.ticket, f"{TABLE}.json")
        if before and before.read_bytes() == text:
            return
        sheet = csv_text(list(rows[0]), [list(row.values()) for row in rows])
        self._store.write(first.ticket, f"{TABLE}.csv", sheet.encode())
        self._store.write(first.ticket, f"{TABLE}.json", text)


def cells(snapshot: Snapshot) -> list[str]:
    """One model's row."""
    record, report = snapshot.record, snapshot.report
    sync = sync_report.verdict(report) if report else state(snapshot)
    known = figures(snapshot)
    spoken, hit, offset = known["closures"], known["closures_hit"], known["offset_ms"]
    if known["verdict"] == "in step":
        sync += f" ({offset:+d} ms)"
    return [
        with_ticket(record.ticket, escape(name(record))),
        sync,
        f"{hit} / {spoken}" if spoken else "",
        views.clock(record.seconds) if record.seconds is not None else "",
        f"{record.credits:g}" if record.credits is not None else "",
    ]


def state(snapshot: Snapshot) -> str:
    """State of a generation in few words, with its time and price once it has ended."""
    record, run = snapshot.record, snapshot.run
    if snapshot.measuring:
        return say("sync.measuring")
    if record.end is None:
        words = say("cards.under_way")
        if run is not None and run.stage.percent is not None:
            words += f", {run.stage.percent:.0f} %"
        return words
    facts: Sequence[str] = (
        say(_STATES[record.end]),
        views.clock(record.seconds) if record.seconds is not None else "",
        say("cards.credits", credits=f"{record.credits:g}") if record.credits else "",
    )
    return " · ".join(fact for fact in facts if fact)


def with_ticket(ticket: str, html: str) -> str:
    """A cell of a table of generations, by which `selected_ticket` finds its row."""
    return f'<span data-ticket="{escape(ticket)}">{html}</span>'


def selected_ticket(event: gr.SelectData) -> str | None:
    """Ticket of the row that was selected. Not by the row's number: the list may have changed, and
    the visitor may have sorted it."""
    match = re.search(f'data-ticket="({TICKET.pattern})"', str(event.row_value))
    return match[1] if match else None


def name(record: Record) -> str:
    """Name of the model; under Smart Select also of the one that the API selected, if known."""
    which = _identifier(record)
    called = record.names.get(which, which)
    if record.options.model:
        return called
    return f"{SMART_SELECT[0]} ({called})" if called else SMART_SELECT[0]


def _identifier(record: Record) -> str:
    """Of the model asked for or, under Smart Select, taken; empty where nobody tells."""
    if record.options.model:
        return record.options.model
    result = record.status.result if record.status else None
    taken = (result.model if result else None) or ""
    return "" if taken == "auto" else taken


def figures(snapshot: Snapshot) -> dict[str, Any]:
    """One model's row for other programs: words of the API and the judge, None where unknown."""
    record, report = snapshot.record, snapshot.report
    known = report if report and "error" not in report else {}
    spoken = known.get("closures")
    return {
        "model": _identifier(record),
        "name": name(record),
        "state": record.status.state if record.status else record.end,
        "verdict": known.get("verdict"),
        "offset_ms": known.get("offset_ms"),
        "confidence": known.get("confidence"),
        "closures": spoken,
        "closures_hit": round(spoken * known["closures_hit"]) if spoken else None,
        "seconds": record.seconds,
        "credits": record.credits,
        "generation_id": record.generation_id,
        "error": record.error,
    }
