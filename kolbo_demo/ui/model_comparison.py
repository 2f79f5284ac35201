"""The same inputs through several models: which ones, and how each of them did."""

from collections.abc import Callable, Sequence
from html import escape
from typing import Any

import gradio as gr

from kolbo_demo.client import KolboError
from kolbo_demo.contract import Model, is_web_link, url_kind
from kolbo_demo.service.gate import caller_of
from kolbo_demo.ui import sync_report, views
from kolbo_demo.ui.backend import Access
from kolbo_demo.ui.events import LATEST, QUIET, changes
from kolbo_demo.ui.i18n.texts import say, shown
from kolbo_demo.ui.inputs import UnusableError
from kolbo_demo.ui.kept import Record
from kolbo_demo.ui.panels.model_picker import SMART_SELECT, label
from kolbo_demo.ui.sync_report import Report

LEAST, MOST = 2, 6
"""Models at once: ten generations a minute are all that the API takes."""


class ModelComparison:
    """Folded away: the models that take this source, and a button that starts one of each."""

    def __init__(self, access: Access) -> None:
        self._access = access
        with gr.Accordion(shown("versus.title"), open=False, elem_id="versus") as self._fold:
            self.choice = gr.CheckboxGroup(
                [], label=shown("versus.choose"), elem_id="versus-models"
            )
            """Its value holds identifiers, an empty one for Smart Select."""
            self._note = gr.HTML("", elem_id="versus-note")
            self.button = gr.Button(shown("versus.generate"), elem_id="versus-generate")
        self._open = gr.State(False)

    def follow(self, asked: list[Any], source: list[Any], *events: Callable[..., Any]) -> None:
        """Lists what the API has when it is unfolded, when the side or the source changes, and at
        `events`.

        `asked` are the components with side and key, `source` those with image, video and link.
        """
        side, _ = asked
        inputs = [self._open, *asked, *source, self.choice]
        outputs = [self.choice, self._note]
        self._fold.expand(lambda: True, None, self._open, **QUIET).then(
            self._list, inputs, outputs, **QUIET
        )
        self._fold.collapse(lambda: False, None, self._open, **QUIET)
        gr.on([*events, *changes([side, *source])], self._list, inputs, outputs, **LATEST)

    def _list(
        self,
        asked_by: gr.Request,
        is_open: bool,
        backend: str,
        key: str,
        image: str | None,
        video: str | None,
        link: str | None,
        chosen: list[str],
    ) -> tuple[Any, Any]:
        if not is_open:
            return gr.skip(), gr.skip()
        try:
            client = self._access.client(backend, key, caller_of(asked_by), patient=False)
            models = client.models()
        except (KolboError, UnusableError) as error:
            sentence = say("options.not_listed", reason=error)
            return gr.CheckboxGroup([], value=[]), views.note(sentence, bad=True)
        kind = "image" if image else "video" if video else None
        if kind is None and is_web_link(link or ""):
            kind = url_kind(link or "")
        choices = [SMART_SELECT, *((label(m), m.identifier) for m in models if _takes(m, kind))]
        there = {identifier for _, identifier in choices}
        update: dict[str, Any] = {"choices": choices}
        if not there.issuperset(chosen):
            update["value"] = [identifier for identifier in chosen if identifier in there]
        # Otherwise the value is left alone: the visitor may have ticked another one meanwhile.
        return gr.CheckboxGroup(**update), views.note(say("versus.hint", most=MOST))


def checked(chosen: Sequence[str]) -> list[str]:
    """The identifiers. Raises `UnusableError` for too few or too many."""
    if not LEAST <= len(chosen) <= MOST:
        raise UnusableError(say("versus.choose_some", least=LEAST, most=MOST))
    return list(chosen)


def _takes(model: Model, kind: str | None) -> bool:
    """Whether a model takes such a source. What it does not tell is for the API to say."""
    kinds = [name for name in model.types if name.startswith("lipsync-")]
    return kind is None or not kinds or f"lipsync-{kind}" in kinds


def head() -> str:
    """The table's heading."""
    names = ("model", "sync", "closures", "time", "credits")
    cells = "".join(f'<th scope="col">{escape(say(f"versus.{name}"))}</th>' for name in names)
    return f"<thead><tr>{cells}</tr></thead>"


def downloads() -> str:
    """The table as files; the script says of which generations."""
    return "".join(
        f'<a class="button" data-table="{form}" download>{escape(say(f"versus.{form}"))}</a>'
        for form in ("csv", "json")
    )


def cells(record: Record, state: str, report: Report | None) -> str:
    """One model's row. `state` is told while there is no report."""
    measured = report is not None and "error" not in report
    sync = sync_report.verdict(report) if report else state
    facts = dict(sync_report.facts(report)) if report and measured else {}
    offset = facts.get(say("sync.offset"), "")
    charged = f"{record.credits:g}" if record.credits is not None else ""
    time = views.clock(record.seconds) if record.seconds is not None else ""
    which = _identifier(record) or SMART_SELECT[0]
    good = " good" if report and report.get("verdict") == "in step" else ""
    below = f"<small><bdi>{escape(offset)}</bdi></small>" if offset else ""
    return (
        f'<th scope="row"><button type="button" class="link" data-do="open" '
        f'title="{escape(which)}">{escape(name(record))}</button></th>'
        f'<td><span class="{"verdict" + good if measured else ""}">{escape(sync)}</span>{below}'
        f"</td><td>{escape(facts.get(say('sync.closures'), ''))}</td>"
        f"<td>{escape(time)}</td><td>{escape(charged)}</td>"
    )


def name(record: Record) -> str:
    """What the model is called; under Smart Select the one that was taken, where it is told."""
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


def figures(record: Record, report: Report | None) -> dict[str, Any]:
    """One model's row for other programs: words of the API and the judge, None where unknown."""
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
