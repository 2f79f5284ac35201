"""Many at once on the page: what is uploaded, the dry run, the table of rows, the ZIP."""

import re
from collections.abc import Sequence
from functools import partial
from html import escape
from pathlib import Path
from typing import Annotated, Any
from uuid import uuid4

import gradio as gr
from fastapi import APIRouter, Depends, Request
from fastapi.responses import FileResponse, PlainTextResponse, Response
from gradio.data_classes import ListFiles
from pydantic import BaseModel, Field

from kolbo_demo.batch import RowStatus
from kolbo_demo.client import KolboError
from kolbo_demo.service.gate import caller_of
from kolbo_demo.ui import uploads, views
from kolbo_demo.ui.access import LOCAL, Access
from kolbo_demo.ui.batches import ARCHIVE, Batches, View
from kolbo_demo.ui.events import QUIET
from kolbo_demo.ui.inputs import UnusableError
from kolbo_demo.ui.quota import counted
from kolbo_demo.ui.share import ANSWERS, Share
from kolbo_demo.ui.texts import language_of, say, shown, speaking

_SERVED = {
    ARCHIVE: "application/zip",
    "report.csv": "text/csv",
    "report.json": "application/json",
}
_VIDEO = re.compile(r"\d{4}-[0-9A-Za-z_-]{1,60}\.mp4")
_QUESTIONS = ("ask_stop", "ask_delete", "stop", "delete", "add")
"""Texts that the script needs."""


Given = tuple[str, Path]
"""A file's name, as the visitor has it, and where it lies."""


Ticket = Annotated[str, Field(max_length=100)]


class Asked(BaseModel):
    """What the browser asks after."""

    tickets: Annotated[list[Ticket], Field(max_length=20)]


def router(batches: Batches) -> APIRouter:
    """The page's own routes. Who names a ticket may see, stop and delete what is under it."""
    answers = [Depends(Share(ANSWERS))]
    routes = APIRouter(prefix="/batches", include_in_schema=False, dependencies=answers)

    @routes.post("")
    def look(asked: Asked, request: Request) -> list[dict[str, Any]]:
        with speaking(language_of(request)):
            return [card(batches, ticket) for ticket in dict.fromkeys(asked.tickets)]

    @routes.post("/{ticket}/stop")
    def stop(ticket: str) -> None:
        batches.stop(ticket)

    @routes.post("/{ticket}/delete")
    def delete(ticket: str) -> None:
        batches.stop(ticket)
        batches.delete(ticket)

    @routes.get("/{ticket}/{name}")
    def file(ticket: str, name: str) -> Response:
        media_type = "video/mp4" if _VIDEO.fullmatch(name) else _SERVED.get(name)
        path = batches.file(ticket, name) if media_type else None
        if path is None:
            return PlainTextResponse("Not here any more.", status_code=404)
        private = {"Cache-Control": "private, no-cache"}
        return FileResponse(path, media_type=media_type, filename=name, headers=private)

    return routes


def card(batches: Batches, ticket: str) -> dict[str, Any]:
    """What the browser shows of a batch; `gone` where nothing of it is kept."""
    try:
        view = batches.view(ticket)
    except KolboError as error:
        broken = f"{views.note(str(error), bad=True)}{_button('delete', say('cards.delete'))}"
        return {"ticket": ticket, "running": False, "head": broken, "live": "", "rows": []}
    if view is None:
        return {"ticket": ticket, "gone": True}
    return {
        "ticket": ticket,
        "running": view.running,
        "head": _head(view, f"batches/{ticket}"),
        "live": _counted(view),
        "rows": [_row(view, line, f"batches/{ticket}") for line in view.lines],
    }


def _counted(view: View) -> str:
    """How far it is, in words."""
    wrong = sum(line.row.problem is not None for line in view.lines)
    count = {"rows": len(view.lines), "good": len(view.lines) - wrong, "wrong": wrong}
    if not view.started:
        return say("batch.checked" if wrong else "batch.all_good", **count)
    count["done"] = sum(line.state == "completed" for line in view.lines)
    count["failed"] = sum(line.state in ("failed", "unclear") for line in view.lines)
    if view.running:
        return say("batch.under_way", **count)
    left = any(not line.final for line in view.lines)
    return say("batch.stopped" if left else "batch.ended", **count)


def _head(view: View, base: str) -> str:
    good = sum(line.row.problem is None for line in view.lines)
    ended = sum(line.final for line in view.lines) / len(view.lines)
    buttons, bar = "", ""
    if view.started:
        bar = views.progress(100 * ended)
    if view.running:
        buttons = _button("stop", say("batch.stop"))
    else:
        if not view.started and good:
            buttons = _button("start", say("batch.make", count=good), "strong")
        elif view.started and any(not line.final for line in view.lines):
            buttons = _button("start", say("batch.go_on"), "strong")
        if view.archived:
            buttons += _link(f"{base}/{ARCHIVE}", say("batch.zip"))
            buttons += _link(f"{base}/report.csv", say("batch.report"))
        if any(line.state == "unclear" for line in view.lines):
            buttons += _button("again", say("batch.again"))
        buttons += _button("delete", say("cards.delete"))
    return f'<h3>{escape(_counted(view))}</h3>{bar}<p class="buttons">{buttons}</p>'


def _row(view: View, line: RowStatus, base: str) -> str:
    state = line.state
    if not view.started:
        state = "ready" if line.row.problem is None else "problem"
    told = say(f"batch.state_{state}")
    if state == "running" and line.percent is not None:
        told = f"{told}, {line.percent:.0f} %"
    sentence = line.row.problem or line.message or ""
    if state == "ready" and line.row.linked and not view.local:
        sentence = say("batch.link_unchecked")
    more = f"<bdi>{escape(sentence)}</bdi>"
    if line.state == "completed" and line.video:
        more = _link(f"{base}/{line.video}", line.video, "link")
        facts = [
            views.clock(line.seconds) if line.seconds is not None else "",
            say("cards.credits", credits=f"{line.credits:g}") if line.credits else "",
        ]
        more += "".join(f"<small>{escape(fact)}</small>" for fact in facts if fact)
    return (
        f'<th scope="row">{line.row.number}</th><td><bdi>{escape(line.row.name)}</bdi></td>'
        f'<td class="is-{state}">{escape(told)}</td><td>{more}</td>'
    )


def _button(action: str, text: str, kind: str = "") -> str:
    return f'<button type="button" class="button {kind}" data-do="{action}">{escape(text)}</button>'


def _link(where: str, text: str, kind: str = "button") -> str:
    return f'<a class="{kind}" href="{escape(where)}" download><bdi>{escape(text)}</bdi></a>'


def _table() -> str:
    """What stands there from the start; the script fills it."""
    asked = "".join(
        f' data-{name.replace("_", "-")}="{escape(say(f"batch.{name}"))}"' for name in _QUESTIONS
    )
    names = ("number", "name", "state", "result")
    heads = "".join(f'<th scope="col">{escape(say(f"batch.{name}"))}</th>' for name in names)
    label = escape(say("batch.rows"))
    return f"""
<div class="batches"{asked}>
<div class="problem" role="alert"></div>
<p class="note bad offline" hidden>{escape(say("cards.offline"))}</p>
<div class="list"></div>
<template><section class="batch"><p class="live sr-only" role="status" aria-live="polite"></p>
  <div class="head"></div>
  <div class="wide" tabindex="0" role="group" aria-label="{label}">
  <table><thead><tr>{heads}</tr></thead><tbody></tbody></table></div>
</section></template>
{views.question("ask-batch")}</div>
"""


class BatchPanel:
    """Folded away: files or a folder, a button for the dry run, and the batches of this browser."""

    def __init__(self, access: Access, batches: Batches) -> None:
        self._access = access
        self._batches = batches
        with gr.Accordion(shown("batch.title"), open=False, elem_id="batch", elem_classes="card"):
            gr.HTML(shown(lambda: views.note(say("batch.hint"))))
            with gr.Tabs():
                with gr.Tab(shown("batch.files"), id="files"):
                    self._files = _uploads("multiple", "batch-files")
                with gr.Tab(shown("batch.folder"), id="folder"):
                    self._folder = _uploads("directory", "batch-folder")
            self._check = gr.Button(shown("batch.check"), elem_id="batch-check")
            self._table = gr.HTML(
                shown(_table),
                js_on_load=views.scripts("asking.js", "batch.js"),
                apply_default_css=False,
                elem_id="batches",
                told=None,
            )

    def follow(self, asked: list[Any]) -> None:
        """`asked` are the components with side and key."""
        self._check.click(self._looked, [*asked, self._files, self._folder], self._table, **QUIET)
        self._table.start(self._started, asked, self._table, **QUIET)

    def _looked(
        self,
        asked_by: gr.Request,
        backend: str,
        key: str,
        files: list[Given] | None,
        folder: list[Given] | None,
    ) -> Any:
        """The dry run."""
        given = [*(files or []), *(folder or [])]
        try:
            if not given:
                return _told(problem=say("batch.nothing"))
            caller = caller_of(asked_by)
            ready = self._access.ready(backend, key, caller)
            client = self._access.client(backend, key, caller, patient=False) if ready else None
            local = backend == LOCAL
            return _told(self._batches.check(given, client, local, counted(caller)))
        except (UnusableError, KolboError) as error:
            return _told(problem=str(error))

    def _started(self, backend: str, key: str, event: gr.EventData, asked_by: gr.Request) -> Any:
        asked = event._data or {}
        ticket = str(asked.get("ticket"))
        try:
            caller = caller_of(asked_by)
            client = self._access.client(backend, key, caller)
            allowance = self._access.allowance(backend, key, caller)
            spending = partial(allowance.spend, caller.visitor) if allowance else None
            again = asked.get("again") is True
            local = backend == LOCAL
            self._batches.start(ticket, client, caller.visitor, again, spending, local)
        except (UnusableError, KolboError) as error:
            return _told(problem=str(error))
        return _told(ticket)


def _uploads(count: Any, elem_id: str) -> gr.File:
    files = gr.File(
        file_count=count, show_label=False, height=150, elem_id=elem_id, buttons=[],
        label=shown("batch.title"),
    )  # fmt: skip
    # Gradio would give its own copies' names, from which some letters are missing.
    files.preprocess = _named  # pyright: ignore[reportAttributeAccessIssue]
    return files


def _named(payload: ListFiles | None) -> list[Given] | None:
    files: Sequence[Any] = payload.root if payload else []
    return [
        (file.orig_name or Path(file.path).name, uploads.uploaded(file.path)) for file in files
    ] or None


def _told(ticket: str = "", problem: str = "") -> Any:
    """What the script is told: a batch to show, or why there is none."""
    return gr.HTML(
        told={
            "ticket": ticket,
            "problem": views.failed(problem) if problem else "",
            "at": uuid4().hex,
        }
    )
