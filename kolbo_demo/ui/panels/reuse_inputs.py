"""Use inputs again: fill in the form as it was when a generation was started."""

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gradio as gr
from gradio.blocks import Block
from gradio.processing_utils import save_file_to_cache
from gradio.utils import get_upload_folder

from kolbo_demo.generation import SPEECH_FILE
from kolbo_demo.media.probe import kind_of
from kolbo_demo.service.gate import caller_of
from kolbo_demo.ui.events import INSPECTING, QUIET
from kolbo_demo.ui.panels.face_picker import Choice, FacePicker
from kolbo_demo.ui.panels.form import Form
from kolbo_demo.ui.panels.model_picker import Offers
from kolbo_demo.ui.panels.trim import as_chosen, trim_inputs
from kolbo_demo.ui.panels.voice import VoicePanel
from kolbo_demo.ui.storage.folders import linked
from kolbo_demo.ui.storage.generation_store import GenerationStore, Record, StoredInput
from kolbo_demo.ui.storage.quota import counted


@dataclass(frozen=True)
class ReuseInputs:
    """Fills in the form. Backend and key stay as the visitor has chosen them now."""

    store: GenerationStore
    form: Form
    picker: FacePicker
    voice_panel: VoicePanel
    source_tabs: gr.Tabs
    voice_tabs: gr.Tabs

    def follow(self, button: gr.Button, tab: gr.State, offers: gr.State) -> None:
        """Uses the inputs of the generation in the result panel. `offers` has the models that there
        are now."""
        outputs: list[Block] = [
            *(*self.form.components, *self.picker.shown, *self.voice_panel.given),
            *(self.source_tabs, self.voice_tabs),
        ]

        def reuse(request: gr.Request, values: dict[Any, Any]) -> Any:
            record = self.store.get(values[tab].front or "")
            if record is None or record.source is None:
                return gr.skip()
            visitor = counted(caller_of(request))
            return self._filled(record, record.source, values[offers], visitor)

        button.click(reuse, {tab, offers}, outputs, **QUIET | INSPECTING)

    def _filled(
        self, record: Record, given: StoredInput, offers: Offers, visitor: str
    ) -> dict[Block, Any]:
        form, options = self.form, record.options
        source = self._copy(record, given, visitor)
        kind = kind_of(source) if source else None
        voice = self._copy(record, record.voice, visitor)
        spoken = record.voice.link if record.voice else None
        choice = Choice(options.face, options.face_at) if options.face else None
        picker_values = self.picker.inspect(source, given.link or "", choice)
        recording = self.store.file(record.ticket, SPEECH_FILE) if record.words else voice
        voice_values = self.voice_panel.as_given(recording, record.words, options)
        trim = as_chosen(trim_inputs(picker_values[-1], voice_values[-1]), options.trim)
        return {
            form.image: str(source) if kind == "image" else None,
            form.video: str(source) if source and kind != "image" else None,
            form.source_url: given.link or "",
            form.audio: str(voice) if voice else None,
            form.audio_url: spoken or "",
            form.words: record.words or "",
            self.source_tabs: gr.Tabs(selected="link" if given.link else kind),
            self.voice_tabs: gr.Tabs(
                selected="words" if record.words else "link" if spoken else "audio"
            ),
            form.prompt: options.prompt or "",
            form.model: options.model if options.model and offers.candidates(options.model) else "",
            **dict(zip(self.picker.shown, picker_values, strict=True)),
            **dict(zip(self.voice_panel.given, voice_values, strict=True)),
            **dict(zip(form.trim_panel.values, trim, strict=True)),
            form.mark: options.mark,
            form.insist: options.insist,
        }

    def _copy(self, record: Record, given: StoredInput | None, visitor: str) -> Path | None:
        """Under its own name, as one of the visitor's uploads."""
        path = self.store.file(record.ticket, given.file) if given and given.file else None
        if path is None or given is None:
            return None
        with tempfile.TemporaryDirectory(prefix="kolbo-page-") as folder:
            named = Path(folder) / given.name
            linked(path, named)
            copy = Path(save_file_to_cache(named, get_upload_folder()))
        self.store.quota.own(copy.parent, visitor)
        return copy
