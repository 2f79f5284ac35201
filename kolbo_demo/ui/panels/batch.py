"""Batches on the page: upload, dry run, the table of rows, downloads."""

from collections.abc import Iterator, Sequence
from functools import partial
from html import escape
from pathlib import Path
from typing import Any

import gradio as gr
from gradio.data_classes import FileData, ListFiles

from kolbo_demo.batch import RowStatus
from kolbo_demo.client import KolboError
from kolbo_demo.service.gate import caller_of
from kolbo_demo.ui import uploads, views
from kolbo_demo.ui.backend import LOCAL, Access
from kolbo_demo.ui.batches import ARCHIVE, REPORT, Batches, View
from kolbo_demo.ui.events import EACH, QUIET
from kolbo_demo.ui.folders import TICKET
from kolbo_demo.ui.i18n.texts import say, shown
from kolbo_demo.ui.inputs import UnusableError
from kolbo_demo.ui.quota import counted

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
_QUESTIONS = {
    "stop": ("batch.ask_stop", "batch.stop"),
    "delete": ("batch.ask_delete", "batch.delete"),
}

Given = tuple[str, Path]
"""A file's name, as the visitor has it, and its path."""


class BatchPanel:
    """An accordion: files or a folder, the dry run, and the batches of this browser."""

    def __init__(self, access: Access, batches: Batches) -> None:
        self._access = access
        self._batches = batches
        self._tickets = gr.BrowserState([], storage_key=_STORAGE_KEY, secret=_STORAGE_KEY)
        self._drawn = gr.State(None)
        """Contents of the page, to send only what changed."""
        self._question = gr.State("")
        """The action that waits for an answer: `stop` or `delete`."""
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
                self._stop = gr.Button(shown("batch.stop"), size="sm", elem_id="batch-stop")
                self._zip = gr.DownloadButton(
                    str(shown("batch.zip")), size="sm", elem_id="batch-zip"
                )
                self._report = gr.DownloadButton(
                    str(shown("batch.report")), size="sm", elem_id="batch-report"
                )
                self._again = gr.Button(shown("batch.again"), size="sm", elem_id="batch-again")
                self._delete = gr.Button(shown("batch.delete"), size="sm", elem_id="batch-delete")
            self._lay_out_question()
            self._rows = gr.Dataframe(
                datatype=["str", "str", "html", "html"],
                column_count=4,
                interactive=False,
                wrap=True,
                max_height=420,
                column_widths=["64px", "27%", "19%", "49%"],
                buttons=[],
                label=shown("batch.rows"),
                show_label=False,
                elem_id="batch-rows",
            )
            self._video = gr.Video(
                show_label=False,
                interactive=False,
                visible=False,
                buttons=["download"],
                elem_id="batch-video",
            )
            # The file itself: Gradio would have another program look at it first.
            self._video.postprocess = _as_it_is  # pyright: ignore[reportAttributeAccessIssue]
        self._shown = [
            self._drawn,
            self._tickets,
            self._chosen,
            self._view,
            self._summary,
            self._start,
            self._stop,
            self._zip,
            self._report,
            self._again,
            self._delete,
            self._rows,
            self._video,
            self._timer,
        ]

    def _lay_out_question(self) -> None:
        with gr.Column(visible=False, elem_id="batch-question") as self._ask:
            self._sentence = gr.HTML("", elem_id="batch-sentence")
            with gr.Row(elem_classes="buttons"):
                self._no = gr.Button(shown("cards.no"), size="sm", elem_id="batch-no")
                self._yes = gr.Button(size="sm", variant="primary", elem_id="batch-yes")

    def follow(self, page: gr.Blocks, asked: list[Any]) -> None:
        """Connects the events. `asked` are the components with backend and key."""
        now = [self._tickets, self._chosen]
        drawn = [self._drawn, *now]
        page.load(self._redraw, now, self._shown, js=_TAKE_OVER, **QUIET)
        self._timer.tick(self._update, drawn, self._shown, **QUIET)
        self._chosen.input(self._redraw, now, self._shown, **QUIET)
        self._check.click(
            self._check_files,
            [*asked, *now, self._files, self._folder],
            [self._problem, *self._shown],
            **QUIET,
        )
        begin: dict[str, Any] = {
            "inputs": [*asked, *now],
            "outputs": [self._problem, *self._shown],
            **QUIET,
        }
        self._start.click(self._begin, **begin)
        self._again.click(self._send_again, **begin)
        self._rows.select(self._play, self._chosen, self._video, **EACH)
        question = [self._question, self._ask, self._sentence, self._yes]
        self._stop.click(lambda: _question("stop"), None, question, **QUIET)
        self._delete.click(lambda: _question("delete"), None, question, **QUIET)
        self._no.click(lambda: _question(""), None, question, **QUIET)
        self._yes.click(self._act, [self._question, *now], [*question, *self._shown], **QUIET)

    def _check_files(
        self,
        asked_by: gr.Request,
        backend: str,
        key: str,
        tickets: Any,
        chosen: str | None,
        files: list[Given] | None,
        folder: list[Given] | None,
    ) -> tuple[Any, ...]:
        """The dry run."""
        given = [*(files or []), *(folder or [])]
        if not given:
            return _problem(say("batch.nothing")), *self._redraw(tickets, chosen)
        try:
            caller = caller_of(asked_by)
            ready = self._access.ready(backend, key, caller)
            client = self._access.client(backend, key, caller, patient=False) if ready else None
            chosen = self._batches.check(given, client, backend == LOCAL, counted(caller))
        except (UnusableError, KolboError) as error:
            return _problem(str(error)), *self._redraw(tickets, chosen)
        return "", *self._redraw([chosen, *_valid(tickets)], chosen)

    def _begin(
        self, asked_by: gr.Request, backend: str, key: str, tickets: Any, chosen: str | None
    ) -> tuple[Any, ...]:
        return self._run(asked_by, backend, key, tickets, chosen)

    def _send_again(
        self, asked_by: gr.Request, backend: str, key: str, tickets: Any, chosen: str | None
    ) -> tuple[Any, ...]:
        return self._run(asked_by, backend, key, tickets, chosen, again=True)

    def _run(
        self,
        asked_by: gr.Request,
        backend: str,
        key: str,
        tickets: Any,
        chosen: str | None,
        *,
        again: bool = False,
    ) -> tuple[Any, ...]:
        """Starts a batch or goes on with it; `again` as in `Batch`."""
        problem = ""
        try:
            caller = caller_of(asked_by)
            client = self._access.client(backend, key, caller)
            allowance = self._access.allowance(backend, key, caller)
            spending = partial(allowance.spend, caller.payer) if allowance else None
            local = backend == LOCAL
            self._batches.start(str(chosen), client, caller.visitor, again, spending, local)
        except (UnusableError, KolboError) as error:
            problem = _problem(str(error))
        return problem, *self._redraw(tickets, chosen)

    def _act(self, action: str, tickets: Any, chosen: str | None) -> tuple[Any, ...]:
        """Stops or deletes a batch, once the visitor has confirmed it."""
        if action and chosen in _valid(tickets):
            self._batches.stop(chosen)
            if action == "delete":
                self._batches.delete(chosen)
        return *_question(""), *self._redraw(tickets, chosen)

    def _redraw(self, tickets: Any, chosen: str | None) -> tuple[Any, ...]:
        return self._update(None, tickets, chosen)

    def _update(self, drawn: Any, tickets: Any, chosen: str | None) -> tuple[Any, ...]:
        """Values of `_shown`; nothing where the browser has them already."""
        batches = {ticket: view for ticket in _valid(tickets) if (view := self._see(ticket))}
        ticket = chosen if chosen in batches else next(iter(batches), None)
        view = batches[ticket] if ticket else None
        now = repr((batches, ticket))
        if now == drawn:
            return tuple(gr.skip() for _ in self._shown)
        choices = [
            (f"{number}. {_summary(each)}", name)
            for number, (name, each) in enumerate(batches.items(), 1)
        ]
        running = any(isinstance(each, View) and each.running for each in batches.values())
        return (
            now,
            list(batches),
            gr.Dropdown(choices, value=ticket, visible=len(choices) > 1),
            gr.Column(visible=view is not None),
            *(self._fill(ticket, view) if ticket and view else [gr.skip()] * 8),
            gr.skip() if drawn else gr.Video(None, visible=False),
            gr.Timer(active=running),
        )

    def _play(self, chosen: str | None, event: gr.SelectData) -> Any:
        """Shows the video of the row that was selected."""
        view = self._see(chosen) if chosen in _valid([chosen]) else None
        row = event.index[0] if isinstance(event.index, list) else None
        if (
            not isinstance(view, View)
            or not isinstance(row, int)
            or row not in range(len(view.lines))
        ):
            return gr.skip()
        line = view.lines[row]
        path = self._batches.file(chosen, line.video) if chosen and line.video else None
        return gr.Video(path, visible=path is not None)

    def _see(self, ticket: str) -> View | str | None:
        """A batch, or why it cannot be read; None where nothing of it is kept."""
        try:
            return self._batches.view(ticket)
        except KolboError as error:
            return str(error)

    def _fill(self, ticket: str, view: View | str) -> Iterator[Any]:
        """Values from `_summary` to `_rows`."""
        if isinstance(view, str):
            yield views.note(view, bad=True)
            yield from (gr.Button(visible=False) for _ in range(5))
            yield gr.Button(visible=True)
            yield gr.Dataframe(visible=False)
            return
        lines, idle = view.lines, not view.running
        good = sum(line.row.problem is None for line in lines)
        ended = sum(line.final for line in lines) / len(lines)
        left = any(not line.final for line in lines)
        yield f"<h3>{escape(summary(view))}</h3>" + (
            views.progress(100 * ended) if view.started else ""
        )
        yield gr.Button(
            say("batch.go_on") if view.started else say("batch.make", count=good),
            visible=idle and bool(left if view.started else good),
        )
        yield gr.Button(visible=view.running)
        for name in (ARCHIVE, REPORT):
            path = self._batches.file(ticket, name) if view.archived else None
            yield gr.DownloadButton(value=path, visible=path is not None)
        unclear = any(line.state == "unclear" for line in lines)
        yield gr.Button(visible=idle and unclear)
        yield gr.Button(visible=idle)
        heads = [say(f"batch.{name}") for name in ("number", "name", "state", "result")]
        yield gr.Dataframe({"headers": heads, "data": table(view)}, visible=True)


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


def _problem(sentence: str) -> str:
    return views.failed(sentence)


def _question(action: str) -> tuple[Any, ...]:
    """Asks whether to stop or to delete; an empty action takes the question away."""
    if not action:
        return "", gr.Column(visible=False), gr.skip(), gr.skip()
    sentence, yes = (say(key) for key in _QUESTIONS[action])
    return action, gr.Column(visible=True), views.note(sentence), gr.Button(yes)


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


def _as_it_is(path: Path | None) -> FileData | None:
    return FileData(path=str(path), orig_name=path.name) if path else None


def _named(payload: ListFiles | None) -> list[Given] | None:
    files: Sequence[Any] = payload.root if payload else []
    return [
        (file.orig_name or Path(file.path).name, uploads.uploaded(file.path)) for file in files
    ] or None
