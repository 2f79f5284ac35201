"""Batches on the page: upload, dry run, the table of rows, downloads."""

from collections.abc import Sequence
from functools import partial
from html import escape
from pathlib import Path
from typing import Any

import gradio as gr
from gradio.blocks import Block
from gradio.data_classes import ListFiles

from kolbo_demo.batch import RowStatus
from kolbo_demo.client import KolboError
from kolbo_demo.service.gate import caller_of
from kolbo_demo.ui.access.backend import LOCAL, Access
from kolbo_demo.ui.background.batches import ARCHIVE, REPORT, Batches, View
from kolbo_demo.ui.events import EACH, QUIET, Updates, Values
from kolbo_demo.ui.i18n.texts import say, shown
from kolbo_demo.ui.panels import views
from kolbo_demo.ui.panels.parts import Player, Question, download_button, small_button
from kolbo_demo.ui.storage import uploads
from kolbo_demo.ui.storage.folders import TICKET
from kolbo_demo.ui.storage.quota import counted

POLL_SECONDS = 1.5
"""While a batch runs."""
MOST_TICKETS = 5
"""Batches that a browser remembers."""
_STORAGE_KEY, _OLD_STORAGE_KEY = "kolbo-batch-tickets", "kolbo-batches"
_TAKE_OVER = f"""(tickets, chosen) => {{
  let old = [];
  try {{
    old = JSON.parse(localStorage.getItem('{_OLD_STORAGE_KEY}')) || [];
    localStorage.removeItem('{_OLD_STORAGE_KEY}');
  }} catch {{ /* nothing is stored */ }}
  return [[...tickets || [], ...old], chosen];
}}"""
"""Adds the tickets that earlier versions stored."""
_NAME_BUTTONS = """
new MutationObserver(() => {
  for (const outer of document.querySelectorAll('#batch .icon-button:not([role]):has(button)')) {
    outer.setAttribute('role', 'group');
    outer.tabIndex = -1;
    outer.title = element.querySelector('[data-add]').dataset.add;
    outer.setAttribute('aria-label', outer.title);
  }
}).observe(document.querySelector('#batch'), { childList: true, subtree: true });
"""
"""Gradio puts a button into the one that adds files, and names the outer one by a text that it
lacks."""
UploadedFile = tuple[str, Path]
"""A file's name, as the visitor has it, and its path."""


class BatchPanel:
    """An accordion: files or a folder, the dry run, and the batches of this browser."""

    def __init__(self, access: Access, batches: Batches) -> None:
        self._access = access
        self._batches = batches
        self._tickets = gr.BrowserState([], storage_key=_STORAGE_KEY, secret=_STORAGE_KEY)
        self._drawn = gr.State(None)
        """Contents of the page, to send only what changed."""
        self._timer = gr.Timer(POLL_SECONDS, active=False)
        with gr.Accordion(
            shown("batch.title"), open=False, elem_id="batch", elem_classes="card"
        ) as self._panel:
            gr.HTML(shown(_hint), js_on_load=_NAME_BUTTONS, apply_default_css=False)
            with gr.Tabs():
                with gr.Tab(shown("batch.files"), id="files"):
                    self._files = _uploads("multiple", "batch-files")
                with gr.Tab(shown("batch.folder"), id="folder"):
                    self._folder = _uploads("directory", "batch-folder")
            self._check = gr.Button(shown("batch.check"), elem_id="batch-check")
            self._problem = gr.HTML(
                "",
                html_template='<div role="alert">${value}</div>',
                apply_default_css=False,
                elem_id="batch-problem",
            )
            self._lay_out_batch()

    def _lay_out_batch(self) -> None:
        self._chosen = gr.Dropdown(
            [], label=shown("batch.title"), filterable=False, visible=False, elem_id="batch-chosen"
        )
        # Gradio would refuse a ticket that is not among the choices any more.
        self._chosen.preprocess = _text  # pyright: ignore[reportAttributeAccessIssue]
        with gr.Column(visible=False, elem_id="batch-view") as self._view:
            self._summary = gr.HTML(
                "",
                html_template='<div role="status" aria-live="polite">${value}</div>',
                apply_default_css=False,
                elem_id="batch-summary",
            )
            with gr.Row(elem_classes="buttons"):
                self._start = gr.Button(variant="primary", size="sm", elem_id="batch-start")
                self._stop = small_button("batch-stop", "batch.stop")
                self._zip = download_button("batch-zip", "batch.zip")
                self._report = download_button("batch-report", "batch.report")
                self._again = small_button("batch-again", "batch.again")
                self._delete = small_button("batch-delete", "batch.delete")
            self._ask_stop = Question("batch-stop", "batch.ask_stop", "batch.stop")
            self._ask_delete = Question("batch-delete", "batch.ask_delete", "batch.delete")
            self._rows = gr.Dataframe(
                datatype=["str", "str", "html", "html"],
                column_count=4,
                interactive=False,
                wrap=True,
                max_height=420,
                column_widths=["72px", "23%", "26%", "27%"],
                buttons=[],
                label=shown("batch.rows"),
                show_label=False,
                elem_id="batch-rows",
            )
            self._video = Player(
                show_label=False,
                interactive=False,
                visible=False,
                buttons=["download"],
                elem_id="batch-video",
            )

    def follow(self, page: gr.Blocks, backend: gr.Radio, key: gr.Textbox) -> None:
        """Connects the events."""
        self._backend, self._key = backend, key
        outputs = [
            *(self._problem, self._drawn, self._tickets, self._chosen, self._view, self._summary),
            *(self._start, self._stop, self._zip, self._report, self._again, self._delete),
            *(self._rows, self._video, self._timer),
        ]
        now: set[Block] = {self._tickets, self._chosen}
        keyed: set[Block] = {*now, backend, key}

        def again(request: gr.Request, values: Values) -> Updates:
            return self._run(request, values, again=True)

        page.load(
            self._redraw,
            now,
            outputs,
            js=_TAKE_OVER,
            **QUIET,
        )
        self._timer.tick(self._update, {*now, self._drawn}, outputs, **QUIET)
        self._chosen.input(self._redraw, now, outputs, **QUIET)
        given = {*keyed, self._files, self._folder}
        self._check.click(self._check_files, given, outputs, **QUIET)
        self._start.click(self._run, keyed, outputs, **QUIET)
        self._again.click(again, keyed, outputs, **QUIET)
        self._rows.select(self._play, self._chosen, self._video, **EACH)
        self._ask_stop.connect(self._stop)
        self._ask_delete.connect(self._delete)
        self._ask_stop.yes.click(self._stop_batch, now, outputs, **QUIET)
        self._ask_delete.yes.click(self._delete_batch, now, outputs, **QUIET)

    def _check_files(self, request: gr.Request, values: Values) -> Updates:
        """The dry run."""
        given = [*(values[self._files] or []), *(values[self._folder] or [])]
        if not given:
            return self._redraw(values, say("batch.nothing"))
        backend, key = values[self._backend], values[self._key]
        try:
            caller = caller_of(request)
            ready = self._access.ready(backend, key, caller)
            client = self._access.client(backend, key, caller, patient=False) if ready else None
            ticket = self._batches.check(given, client, backend == LOCAL, counted(caller))
        except KolboError as error:
            return self._redraw(values, str(error))
        tickets = [ticket, *_valid(values[self._tickets])]
        return self._redraw({self._tickets: tickets, self._chosen: ticket})

    def _run(self, request: gr.Request, values: Values, *, again: bool = False) -> Updates:
        """Starts a batch or goes on with it; `again` as in `Batch`."""
        backend, key, ticket = (values[part] for part in (self._backend, self._key, self._chosen))
        try:
            caller = caller_of(request)
            client = self._access.client(backend, key, caller)
            allowance = self._access.allowance(backend, key, caller)
            spending = partial(allowance.spend, caller.payer) if allowance else None
            local = backend == LOCAL
            self._batches.start(str(ticket), client, caller.visitor, again, spending, local)
        except KolboError as error:
            return self._redraw(values, str(error))
        return self._redraw(values)

    def _stop_batch(self, values: Values) -> Updates:
        self._batches.stop(_ticket(values[self._chosen]))
        return self._update(values)

    def _delete_batch(self, values: Values) -> Updates:
        ticket = _ticket(values[self._chosen])
        self._batches.stop(ticket)
        self._batches.delete(ticket)
        return self._update(values)

    def _redraw(self, values: Values, problem: str = "") -> Updates:
        """Everything; `problem` is one sentence above it."""
        shown = self._update({**values, self._drawn: None})
        return {self._problem: views.failed(problem) if problem else "", **shown}

    def _update(self, values: Values) -> Updates:
        """Everything but the problem; nothing where the browser has it already."""
        found = ((ticket, self._see(ticket)) for ticket in _valid(values[self._tickets]))
        batches = {ticket: view for ticket, view in found if view}
        chosen = values[self._chosen]
        ticket = chosen if chosen in batches else next(iter(batches), None)
        now = repr((batches, ticket))
        drawn = values.get(self._drawn)
        if now == drawn:
            return {self._drawn: now}
        choices = [
            (f"{number}. {_summary(each)}", name)
            for number, (name, each) in enumerate(batches.items(), 1)
        ]
        running = any(isinstance(each, View) and each.running for each in batches.values())
        return {
            self._drawn: now,
            self._tickets: list(batches),
            self._chosen: gr.update(choices=choices, value=ticket, visible=len(choices) > 1),
            self._view: gr.update(visible=ticket is not None),
            **(self._of(ticket, batches[ticket]) if ticket else {}),
            **({} if drawn else {self._video: gr.update(value=None, visible=False)}),
            self._timer: gr.update(active=running),
        }

    def _play(self, chosen: str | None, event: gr.SelectData) -> Any:
        """Shows the video of the row that was selected."""
        view = self._see(chosen) if chosen in _valid([chosen]) else None
        lines = view.lines if isinstance(view, View) else ()
        number = next(iter(event.row_value or ()), None)
        line = next((each for each in lines if str(each.row.number) == str(number)), None)
        if line is None:
            return gr.skip()
        path = self._batches.file(chosen, line.video) if chosen and line.video else None
        return gr.update(value=path, visible=path is not None)

    def _see(self, ticket: str) -> View | str | None:
        """A batch, or why it cannot be read; None where nothing of it is kept."""
        try:
            return self._batches.view(ticket)
        except KolboError as error:
            return str(error)

    def _of(self, ticket: str, view: View | str) -> Updates:
        """One batch, or the sentence why it cannot be read."""
        actions = (self._start, self._stop, self._zip, self._report, self._again)
        if isinstance(view, str):
            return {
                self._summary: views.note(view, bad=True),
                **dict.fromkeys((*actions, self._rows), gr.update(visible=False)),
                self._delete: gr.update(visible=True),
            }
        lines, idle = view.lines, not view.running
        good = sum(line.row.problem is None for line in lines)
        ended = sum(line.final for line in lines) / len(lines)
        left = any(not line.final for line in lines)
        unclear = any(line.state == "unclear" for line in lines)
        bar = views.progress(100 * ended) if view.started else ""
        heads = [say(f"batch.{name}") for name in ("number", "name", "state", "result")]
        return {
            self._summary: f"<h3>{escape(summary(view))}</h3>{bar}",
            self._start: gr.update(
                value=say("batch.go_on") if view.started else say("batch.make", count=good),
                visible=idle and bool(left if view.started else good),
            ),
            self._stop: gr.update(visible=view.running),
            self._zip: self._file(ticket, view, ARCHIVE),
            self._report: self._file(ticket, view, REPORT),
            self._again: gr.update(visible=idle and unclear),
            self._delete: gr.update(visible=idle),
            self._rows: gr.update(value={"headers": heads, "data": table(view)}, visible=True),
        }

    def _file(self, ticket: str, view: View, name: str) -> Any:
        path = self._batches.file(ticket, name) if view.archived else None
        return gr.update(value=path, visible=path is not None)


def summary(view: View) -> str:
    """How far a batch is, in words."""
    lines = view.lines
    wrong = sum(line.row.problem is not None for line in lines)
    count = {"rows": len(lines), "good": len(lines) - wrong, "wrong": wrong}
    if not view.started:
        return say("batch.checked" if wrong else "batch.all_good", **count)
    count["done"] = sum(line.state == "completed" for line in lines)
    count["failed"] = sum(line.state in ("failed", "unclear") for line in lines)
    if view.running:
        return say("batch.under_way", **count)
    left = any(not line.final for line in lines)
    return say("batch.stopped" if left else "batch.ended", **count)


def table(view: View) -> list[list[str]]:
    """Number, name, and as HTML state and result of each row."""
    return [[str(line.row.number), line.row.name, *_state(view, line)] for line in view.lines]


def _state(view: View, line: RowStatus) -> tuple[str, str]:
    state = line.state
    if not view.started:
        state = "ready" if line.row.problem is None else "problem"
    words = say(f"batch.state_{state}")
    if state == "running" and line.percent is not None:
        words = f"{words}, {line.percent:.0f} %"
    sentence = line.row.problem or line.message or ""
    if state == "ready" and line.row.linked and not view.local:
        sentence = say("batch.link_unchecked")
    result = f"<bdi>{escape(sentence)}</bdi>"
    if line.state == "completed" and line.video:
        facts = [
            views.clock(line.seconds) if line.seconds is not None else "",
            say("cards.credits", credits=f"{line.credits:g}") if line.credits else "",
        ]
        result = f"<bdi>{escape(line.video)}</bdi>"
        result += "".join(f" <small>{escape(fact)}</small>" for fact in facts if fact)
    return f'<span class="is-{state}">{escape(words)}</span>', result


def _summary(view: View | str) -> str:
    return view if isinstance(view, str) else summary(view)


def _valid(tickets: Any) -> list[str]:
    """The tickets among what a browser sent, each once."""
    found = tickets if isinstance(tickets, list) else []
    good = [each for each in found if isinstance(each, str) and TICKET.fullmatch(each)]
    return list(dict.fromkeys(good))[:MOST_TICKETS]


def _ticket(value: Any) -> str:
    """A ticket that a browser sent, empty where it is none."""
    return next(iter(_valid([value])), "")


def _hint() -> str:
    add = escape(say("batch.add"), quote=True)
    return f'<div data-add="{add}">{views.note(say("batch.hint"))}</div>'


def _uploads(count: Any, elem_id: str) -> gr.File:
    files = gr.File(
        file_count=count, show_label=False, height=150, elem_id=elem_id, buttons=[],
        label=shown("batch.title"),
    )  # fmt: skip
    # Gradio would give its own copies' names, from which some letters are missing.
    files.preprocess = _named  # pyright: ignore[reportAttributeAccessIssue]
    return files


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) else None


def _named(payload: ListFiles | None) -> list[UploadedFile] | None:
    files: Sequence[Any] = payload.root if payload else []
    return [
        (file.orig_name or Path(file.path).name, uploads.uploaded(file.path)) for file in files
    ] or None
