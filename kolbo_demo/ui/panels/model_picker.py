"""The list of models, as the API gives it at the moment. No identifier is written here."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from html import escape
from typing import Any

import gradio as gr

from kolbo_demo.client import KolboClient, KolboError
from kolbo_demo.contract import Model
from kolbo_demo.service.gate import caller_of
from kolbo_demo.ui.access.backend import Access
from kolbo_demo.ui.events import QUIET
from kolbo_demo.ui.i18n import texts
from kolbo_demo.ui.panels import views

SMART_SELECT = ("Smart Select", "")


@dataclass(frozen=True, eq=False)  # Gradio hashes a state to see that it changed
class Offers:
    """Models and balance, as the API last gave them."""

    models: list[Model] = field(default_factory=list)
    balance: float | None = None
    """Credits that the key has left; None where nobody pays, or nobody knows."""

    def candidates(self, chosen: str, kind: str | None = None) -> list[Model]:
        """The chosen model alone. Under Smart Select all that take a source of this kind (`image`
        or `video`; None: any)."""
        if chosen:
            return [model for model in self.models if model.identifier == chosen]
        if kind is None:
            return self.models
        return [model for model in self.models if f"lipsync-{kind}" in model.types]


class ModelPicker:
    """The drop-down, Smart Select first, and a line about what is chosen."""

    def __init__(self, access: Access) -> None:
        self._access = access
        self.choice = gr.Dropdown(
            [SMART_SELECT],
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
        self.offers = gr.State(Offers())

    def follow(self, api_choice: list[Any], *events: Callable[..., Any]) -> None:
        """Lists again at each of the events. `api_choice` are the components with side and key."""
        for event in events:
            event(
                self._list,
                [*api_choice, self.choice],
                [self.choice, self._note, self.offers],
                **QUIET,
            )
        self.choice.change(_about, [self.choice, self.offers], self._note, **QUIET)

    def _list(
        self, request: gr.Request, backend: str, key: str, chosen: str
    ) -> tuple[Any, str, Offers]:
        nothing = gr.Dropdown([SMART_SELECT], value="")
        caller = caller_of(request)
        if not self._access.ready(backend, key, caller):
            return nothing, "", Offers()
        try:
            client = self._access.client(backend, key, caller, patient=False)
            models = client.models()
        except KolboError as error:
            sentence = texts.say("options.not_listed", reason=error)
            return nothing, views.note(sentence, bad=True), Offers()
        offers = Offers(models, _balance(client) if any(m.credit for m in models) else None)
        choices = [SMART_SELECT, *((label(model), model.identifier) for model in models)]
        if chosen in {identifier for _, identifier in choices}:
            # No value is told: the visitor may have chosen another one meanwhile.
            return gr.Dropdown(choices), _about(chosen, offers), offers
        return gr.Dropdown(choices, value=""), _about("", offers), offers


def _balance(client: KolboClient) -> float | None:
    try:
        return client.credits().total
    except KolboError:  # a detail: the models are there
        return None


def label(model: Model) -> str:
    """How a model is listed. Names are not unique, so what it takes and costs stands beside it."""
    kinds = {"lipsync-image": "options.pictures", "lipsync-video": "options.clips"}
    takes = [texts.say(kinds[kind]) for kind in model.types if kind in kinds]
    parts = [model.name or model.identifier, texts.enumeration(takes) if takes else ""]
    if model.credit:
        parts.append(texts.say("options.credits_a_second", credits=f"{model.credit:g}"))
    return " · ".join(part for part in parts if part)


def _about(chosen: str, offers: Offers) -> str:
    models = offers.candidates(chosen)
    if not chosen:
        about = texts.say("options.recommended")
    else:
        about = next((model.summary or "" for model in models), "")
    limits = views.note(limits_in_words(models))
    if limits:
        limits = (
            f"<details><summary>{escape(texts.say('limits.title'))}</summary>{limits}</details>"
        )
    return views.note(about) + limits


def limits_in_words(models: Sequence[Model]) -> str:
    """The limits that all of these models share; empty if they share none."""
    parts: list[str] = []
    for what in ("audio", "video"):
        least, most = (shared(models, f"{end}_{what}_duration") for end in ("min", "max"))
        seconds = {"least": f"{least or 0:g}", "most": f"{most or 0:g}"}
        if least and most:
            parts.append(texts.say(f"limits.{what}_between", **seconds))
        elif most:
            parts.append(texts.say(f"limits.{what}_most", **seconds))
        elif least:
            parts.append(texts.say(f"limits.{what}_least", **seconds))
    if size := shared(models, "max_file_size"):
        parts.append(texts.say("limits.size", size=f"{size / 2**20:.0f}"))
    if formats := shared(models, "supported_audio_formats"):
        parts.append(texts.say("limits.formats", formats=", ".join(formats).upper()))
    if shared(models, "requires_prompt"):
        parts.append(texts.say("limits.prompt"))
    return texts.say("limits.takes", limits="; ".join(parts)) if parts else ""


def shared(models: Sequence[Model], name: str) -> Any:
    """A field that all the models have in common; None where they differ or do not tell."""
    values = [getattr(model, name) for model in models]
    return values[0] if values and all(value == values[0] for value in values) else None
