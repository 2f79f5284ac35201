"""The list of models, as the API gives it at the moment. No identifier is written here."""

from collections.abc import Callable
from typing import Any

import gradio as gr

from kolbo_demo.client import KolboError
from kolbo_demo.contract import Model
from kolbo_demo.ui import texts, views
from kolbo_demo.ui.access import Access
from kolbo_demo.ui.inputs import UnusableError

_SMART_SELECT = ("Smart Select", "")
_QUIET: dict[str, Any] = {
    "api_visibility": "private",
    "show_progress": "hidden",
    "concurrency_limit": None,
}


class ModelPicker:
    """The drop-down, Smart Select first, and a line about what is chosen."""

    def __init__(self, access: Access) -> None:
        self._access = access
        self.choice = gr.Dropdown(
            [_SMART_SELECT],
            value="",
            label=texts.shown("options.model"),
            filterable=False,
            min_width=200,
            elem_id="model",
        )
        """Its value is an identifier, empty for Smart Select."""

    def lay_out_note(self) -> None:
        """The line, where the caller stands in the layout."""
        self._note = gr.HTML("", elem_id="model-note")
        self._summaries = gr.State({})

    def follow(self, asked: list[Any], *events: Callable[..., Any]) -> None:
        """Lists again at each of the events. `asked` are the components with side and key."""
        for event in events:
            event(
                self._list,
                [*asked, self.choice],
                [self.choice, self._note, self._summaries],
                **_QUIET,
            )
        self.choice.change(_about, [self.choice, self._summaries], self._note, **_QUIET)

    def _list(self, backend: str, key: str, chosen: str) -> tuple[Any, str, dict[str, str]]:
        nothing = gr.Dropdown([_SMART_SELECT], value="")
        if not self._access.ready(backend, key):
            return nothing, "", {}
        try:
            models = self._access.client(backend, key).models()
        except (KolboError, UnusableError) as error:
            sentence = texts.say("options.not_listed", reason=error)
            return nothing, views.note(sentence, bad=True), {}
        summaries = {model.identifier: model.summary or "" for model in models}
        chosen = chosen if chosen in summaries else ""
        choices = [_SMART_SELECT, *((label(model), model.identifier) for model in models)]
        return gr.Dropdown(choices, value=chosen), _about(chosen, summaries), summaries


def label(model: Model) -> str:
    """How a model is listed. Names are not unique, so what it takes and costs stands beside it."""
    kinds = {"lipsync-image": "options.pictures", "lipsync-video": "options.clips"}
    takes = [texts.say(kinds[kind]) for kind in model.types if kind in kinds]
    parts = [model.name or model.identifier, texts.enumeration(takes) if takes else ""]
    if model.credit:
        parts.append(texts.say("options.credits_a_second", credits=f"{model.credit:g}"))
    return " · ".join(part for part in parts if part)


def _about(chosen: str, summaries: dict[str, str]) -> str:
    if not chosen:
        return views.note(texts.say("options.recommended"))
    return views.note(summaries.get(chosen, ""))
