"""The form: components with which a visitor describes a generation, and their values by name."""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import gradio as gr
from gradio.blocks import Block
from gradio.components import Component

from kolbo_demo.client import InputError
from kolbo_demo.generation import GenerationRequest
from kolbo_demo.media.sniff import MediaError
from kolbo_demo.options import Trim
from kolbo_demo.ui.i18n.errors import describe
from kolbo_demo.ui.inputs import request_of
from kolbo_demo.ui.panels.face_picker import Choice, SourceFacts
from kolbo_demo.ui.panels.trim import TrimPanel, checked, edit_of, trim_inputs
from kolbo_demo.ui.panels.voice import VoiceFacts, normalized_words, voice_for


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
    source_facts: SourceFacts = field(default_factory=SourceFacts)
    speed: float = 1.0
    voice_name: str | None = None
    """Of a voice that speaks the words; empty for one of their language."""
    voice_facts: VoiceFacts = field(default_factory=VoiceFacts)
    mark: bool = False
    insist: bool = False
    edit: Trim = field(default_factory=Trim)

    def request(self) -> GenerationRequest:
        """The request that they describe. Raises `InputError`."""
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
        try:
            name = voice_for(request.words, self.voice_name).name if request.words else None
        except MediaError as error:
            raise InputError(describe(error)) from None
        return replace(
            request,
            options=request.options.replace(
                face_at=self.choice.at if self.choice else 0.0,
                speed=self.speed,
                voice=name,
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
    source_facts: gr.State
    speed: gr.Slider
    voice_name: gr.Dropdown
    voice_facts: gr.State
    mark: gr.Checkbox
    insist: gr.Checkbox
    trim_panel: TrimPanel

    @property
    def source(self) -> list[Component]:
        """Components for the source, one of which is filled in."""
        return [self.image, self.video, self.source_url]

    @property
    def components(self) -> set[Block]:
        """All of them, as the inputs of an event."""
        return {*self._named().values(), *self.trim_panel.values}

    def read(self, values: Mapping[Any, Any]) -> Fields:
        """Values out of those of an event by component.

        An event may come before a new source or voice has been inspected: the inspection of the
        previous one is left out then.
        """
        fields = Fields(**{name: values[part] for name, part in self._named().items()})
        given = fields.image or fields.video
        path = Path(given) if given else None
        link = "" if path else (fields.source_url or "").strip()
        if (fields.source_facts.path, fields.source_facts.link) != (path, link):
            fields = replace(fields, source_facts=SourceFacts(), choice=None)
        voice_facts, recording = fields.voice_facts, Path(fields.audio) if fields.audio else None
        if voice_facts.path != recording or voice_facts.spoken_words not in {
            None,
            normalized_words(fields.words, fields.speed, fields.voice_name),
        }:
            fields = replace(fields, voice_facts=VoiceFacts())
        cuts = tuple(values[part] for part in self.trim_panel.values)
        return replace(
            fields, edit=edit_of(trim_inputs(fields.source_facts, fields.voice_facts), cuts)
        )

    def _named(self) -> dict[str, Component]:
        parts = {each.name: getattr(self, each.name) for each in dataclasses.fields(self)}
        del parts["trim_panel"]
        return parts
