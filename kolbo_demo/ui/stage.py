"""Where generations are shown: their cards, and the history of this browser."""

from collections.abc import Sequence
from html import escape
from typing import Any
from uuid import uuid4

import gradio as gr

from kolbo_demo.client import KolboError
from kolbo_demo.service.gate import Caller, caller_of
from kolbo_demo.ui import cards, model_comparison, views
from kolbo_demo.ui.backend import Access
from kolbo_demo.ui.events import EACH
from kolbo_demo.ui.i18n.texts import say, shown
from kolbo_demo.ui.inputs import UnusableError
from kolbo_demo.ui.kept import Record
from kolbo_demo.ui.runs import Runs, open_by_id

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
  <p class="buttons">{model_comparison.downloads()}</p>
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

    def follow(self, access: Access, asked: list[Any]) -> None:
        """`asked` are the components with side and key."""

        def take_up(asked_by: gr.Request, _: str, key: str, event: gr.EventData) -> Any:
            caller = caller_of(asked_by)
            try:
                if ticket := sent_text(event, "ticket"):
                    return self._take_up(ticket, key, caller)
                found = open_by_id(self._runs, access, sent_text(event, "id"), key, caller)
                return told([found])
            except (KolboError, UnusableError) as error:
                return told(problem=str(error))

        self.cards.follow(take_up, asked, self.cards, **EACH)

    def _take_up(self, ticket: str, key: str, caller: Caller) -> Any:
        record = self._runs.kept.get(ticket)
        if record is None:
            raise UnusableError(say("cards.gone"))
        if self._runs.follow(record, key, caller) is None:
            raise UnusableError(say("cards.key_again"))
        return told([record])


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


def sent_text(event: gr.EventData, name: str) -> str:
    """A text that the browser sent; empty where it sent none."""
    value = (event._data or {}).get(name)
    return value if isinstance(value, str) else ""
