"""Where generations are shown: their cards, and the history of this browser."""

from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import Any
from uuid import uuid4

import gradio as gr
from gradio.processing_utils import save_file_to_cache
from gradio.utils import get_upload_folder

from kolbo_demo.client import KolboError
from kolbo_demo.media import kind_of
from kolbo_demo.ui import cards, model_comparison, views
from kolbo_demo.ui.access import Access
from kolbo_demo.ui.events import QUIET
from kolbo_demo.ui.inputs import UnusableError
from kolbo_demo.ui.kept import Record
from kolbo_demo.ui.models import Offers
from kolbo_demo.ui.runs import Runs, open_by_id
from kolbo_demo.ui.texts import say, shown

_QUESTIONS = ("ask_cancel", "stop", "ask_delete", "delete", "open", "copied", "link_is")
"""Texts of the cards that the script needs."""


def _cards() -> str:
    """What stands there from the start. The texts lie in the page: it knows its language."""
    asked = "".join(
        f' data-{name.replace("_", "-")}="{escape(say(f"cards.{name}"))}"' for name in _QUESTIONS
    )
    return f"""
<div class="cards"{asked}>
<div class="problem" id="problem" role="alert"></div>
<p class="note bad offline" hidden>{escape(say("cards.offline"))}</p>
<div class="card idle-card">{views.idle()}</div>
<div class="groups"></div>
<div class="runs"></div>
<template><article class="card run">
  <p class="live sr-only" role="status" aria-live="polite"></p>
  <div data-part="status" data-id="status"></div>
  <div class="buttons" data-part="actions"></div>
  <div data-part="media"></div>
  <div data-part="compare"></div>
  <div data-part="report" data-id="report"></div>
  <div data-part="details" data-id="details"></div>
</article></template>
<template class="of-group"><article class="card compare group">
  <header><h2>{escape(say("versus.table"))}</h2><p class="note what"></p></header>
  <div class="wide" tabindex="0" role="group" aria-label="{escape(say("versus.table"))}">
  <table>{model_comparison.head()}<tbody></tbody></table></div>
  <div class="panes"></div>
  {cards.control(say("versus.play"))}
</article></template>
{views.question("ask")}</div>
"""


def _history() -> str:
    return f"""
<details class="card" id="history"><summary><h2>{escape(say("cards.history"))}</h2>
<span class="count"></span></summary>
<p class="note none">{escape(say("cards.history_none"))}</p>
<ul class="list"></ul></details>
"""


class Stage:
    """The cards, and what their buttons ask of Python."""

    def __init__(self, runs: Runs) -> None:
        self._runs = runs
        self.cards = gr.HTML(
            shown(_cards),
            js_on_load=views.scripts("asking.js", "cards.js", "compare.js"),
            apply_default_css=False,
            elem_id="stage",
            told=None,
        )

    def lay_out_history(self) -> None:
        """The list, where the caller stands in the layout."""
        gr.HTML(shown(_history), js_on_load=None, apply_default_css=False)

    def follow(
        self, access: Access, asked: list[Any], filled: Sequence[Any], offers: gr.State
    ) -> None:
        """`asked` are the components with side and key, `filled` those that inputs go into;
        `offers` tells which models there are now."""

        def take_up(_: str, key: str, event: gr.EventData) -> Any:
            try:
                if ticket := _text(event, "ticket"):
                    return self._take_up(ticket, key)
                return told([open_by_id(self._runs, access, _text(event, "id"), key)])
            except (KolboError, UnusableError) as error:
                return told(problem=str(error))

        self.cards.follow(take_up, asked, self.cards, **QUIET)
        self.cards.again(self._again, offers, list(filled), **QUIET)

    def _take_up(self, ticket: str, key: str) -> Any:
        record = self._runs.kept.get(ticket)
        if record is None:
            raise UnusableError(say("cards.gone"))
        if self._runs.follow(record, key) is None:
            raise UnusableError(say("cards.key_again"))
        return told([record])

    def _again(self, offers: Offers, event: gr.EventData) -> tuple[Any, ...]:
        """The fields as they were: image, video, link; audio, link, words; the open tabs; prompt
        and model, where there still is such a one."""
        record = self._runs.kept.get(_text(event, "ticket"))
        if record is None or record.source is None:
            return tuple(gr.skip() for _ in range(10))
        source = self._copy(record, record.source.file)
        kind = _kind(source)
        voice = self._copy(record, record.voice.file if record.voice else None)
        spoken = record.voice.link if record.voice else None
        tab = "link" if record.source.link else kind
        said = "words" if record.words else "link" if spoken else "audio"
        return (
            source if kind == "image" else None,
            source if kind == "video" else None,
            record.source.link or "",
            voice,
            spoken or "",
            record.words or "",
            gr.Tabs(selected=tab),
            gr.Tabs(selected=said),
            record.prompt or "",
            record.model if record.model and offers.meant(record.model) else "",
        )

    def _copy(self, record: Record, name: str | None) -> str | None:
        """Gradio hands out files of its own cache only."""
        path = self._runs.kept.file(record.ticket, name) if name else None
        return save_file_to_cache(path, get_upload_folder()) if path else None


def told(records: Sequence[Record] = (), problem: str = "") -> Any:
    """What the cards are told: generations to show, or why there is none."""
    return gr.HTML(
        told={
            "tickets": [record.ticket for record in records],
            "backend": records[0].backend if records else None,
            "problem": views.failed(problem) if problem else "",
            "at": uuid4().hex,
        }
    )


def _text(event: gr.EventData, name: str) -> str:
    """A text that the browser sent; empty where it sent none."""
    value = (event._data or {}).get(name)
    return value if isinstance(value, str) else ""


def _kind(path: str | None) -> str | None:
    return kind_of(Path(path)) if path else None
