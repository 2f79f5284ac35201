"""The form: components with which a visitor describes a generation, and their values by name."""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import gradio as gr
from gradio.blocks import Block
from gradio.components import Component

from kolbo_demo.generation import GenerationRequest
from kolbo_demo.options import Trim
from kolbo_demo.ui.inputs import request_of
from kolbo_demo.ui.panels.face_picker import Choice, Seen
from kolbo_demo.ui.panels.preflight import at_hand
from kolbo_demo.ui.panels.trim import Edits, checked, edit_of
from kolbo_demo.ui.panels.voice import Heard, as_said


@dataclass(frozen=True)
class Fields:
    """Values of the form."""

    image: str | None = None
    video: str | None = None
    source_url: str | None = None
    audio: str | None = None
    audio_url: str | None = None
    words: str | None = None
    prompt: str | None = None
    model: str | None = None
    """Identifier; empty for Smart Select."""
    choice: Choice | None = None
    seen: Seen = field(default_factory=Seen)
    speed: float = 1.0
    heard: Heard = field(default_factory=Heard)
    mark: bool = False
    insist: bool = False
    edit: Trim = field(default_factory=Trim)

    def request(self) -> GenerationRequest:
        """The request that they describe. Raises `UnusableError`."""
        request = request_of(
            self.image,
            self.video,
            self.source_url,
            self.audio,
            self.audio_url,
            self.words,
            self.prompt,
            self.model,
            self.choice.clicked if self.choice else None,
        )
        return replace(
            request,
            options=request.options.replace(
                face_at=self.choice.at if self.choice else 0.0,
                speed=self.speed,
                trim=checked(self.edit),
                mark=self.mark,
                insist=self.insist,
            ),
        )


@dataclass(frozen=True)
class Form:
    """Components of the form, each under the name of its value in `Fields`."""

    image: gr.Image
    video: gr.Video
    source_url: gr.Textbox
    audio: gr.Audio
    audio_url: gr.Textbox
    words: gr.Textbox
    prompt: gr.Textbox
    model: gr.Dropdown
    choice: gr.State
    seen: gr.State
    speed: gr.Slider
    heard: gr.State
    mark: gr.Checkbox
    insist: gr.Checkbox
    edits: Edits

    @property
    def source(self) -> list[Component]:
        """Components for the source, one of which is filled in."""
        return [self.image, self.video, self.source_url]

    @property
    def components(self) -> set[Block]:
        """All of them, as the inputs of an event."""
        return {*self._named().values(), *self.edits.values}

    def read(self, values: Mapping[Any, Any]) -> Fields:
        """Values out of those of an event by component.

        An event may come before a new source or voice has been inspected: the inspection of the
        previous one is left out then.
        """
        fields = Fields(**{name: values[part] for name, part in self._named().items()})
        given = fields.image or fields.video
        path = Path(given) if given else None
        link = "" if path else (fields.source_url or "").strip()
        if (fields.seen.path, fields.seen.link) != (path, link):
            fields = replace(fields, seen=Seen(), choice=None)
        heard, recording = fields.heard, Path(fields.audio) if fields.audio else None
        if heard.path != recording or heard.said not in {None, as_said(fields.words, fields.speed)}:
            fields = replace(fields, heard=Heard())
        cuts = tuple(values[part] for part in self.edits.values)
        return replace(fields, edit=edit_of(at_hand(fields.seen, fields.heard), cuts))

    def _named(self) -> dict[str, Component]:
        parts = {each.name: getattr(self, each.name) for each in dataclasses.fields(self)}
        del parts["edits"]
        return parts
