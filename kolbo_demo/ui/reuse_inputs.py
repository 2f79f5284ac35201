"""Use inputs again: fill in the form as it was when a generation was started."""

import tempfile
from pathlib import Path
from typing import Any

import gradio as gr
from gradio.blocks import Block
from gradio.processing_utils import save_file_to_cache
from gradio.utils import get_upload_folder

from kolbo_demo.generation import SPEECH_FILE
from kolbo_demo.media.probe import kind_of
from kolbo_demo.service.gate import caller_of
from kolbo_demo.ui.events import LOOKING, QUIET
from kolbo_demo.ui.folders import linked
from kolbo_demo.ui.form import Form
from kolbo_demo.ui.generation_store import GenerationStore, Given, Record
from kolbo_demo.ui.panels.face_picker import Choice, FacePicker
from kolbo_demo.ui.panels.model_picker import Offers
from kolbo_demo.ui.panels.preflight import at_hand
from kolbo_demo.ui.panels.trim import as_chosen
from kolbo_demo.ui.panels.voice import Hearing
from kolbo_demo.ui.quota import counted


class ReuseInputs:
    """Fills in the form. Backend and key stay as the visitor has chosen them now."""

    def __init__(
        self,
        kept: GenerationStore,
        form: Form,
        picker: FacePicker,
        hearing: Hearing,
        source_tabs: gr.Tabs,
        voice_tabs: gr.Tabs,
    ) -> None:
        self._kept = kept
        self._form = form
        self._picker = picker
        self._hearing = hearing
        self._source_tabs = source_tabs
        self._voice_tabs = voice_tabs

    def follow(self, button: gr.Button, tab: gr.State, offers: gr.State) -> None:
        """Uses the inputs of the generation in the result panel. `offers` has the models that there
        are now."""
        outputs: list[Block] = [
            *(*self._form.components, *self._picker.shown, *self._hearing.given),
            *(self._source_tabs, self._voice_tabs),
        ]

        def reuse(asked_by: gr.Request, values: dict[Any, Any]) -> Any:
            record = self._kept.get(values[tab].front or "")
            if record is None or record.source is None:
                return gr.skip()
            visitor = counted(caller_of(asked_by))
            return self._filled(record, record.source, values[offers], visitor)

        button.click(reuse, {tab, offers}, outputs, **QUIET | LOOKING)

    def _filled(
        self, record: Record, given: Given, offers: Offers, visitor: str
    ) -> dict[Block, Any]:
        form, options = self._form, record.options
        source = self._copy(record, given, visitor)
        kind = kind_of(source) if source else None
        voice = self._copy(record, record.voice, visitor)
        spoken = record.voice.link if record.voice else None
        choice = Choice(options.face, options.face_at) if options.face else None
        looked = self._picker.look(source, given.link or "", choice)
        said = self._kept.file(record.ticket, SPEECH_FILE) if record.words else voice
        heard = self._hearing.as_given(said, record.words, options.speed)
        trim = as_chosen(at_hand(looked[-1], heard[-1]), options.trim)
        return {
            form.image: str(source) if kind == "image" else None,
            form.video: str(source) if source and kind != "image" else None,
            form.source_url: given.link or "",
            form.audio: str(voice) if voice else None,
            form.audio_url: spoken or "",
            form.words: record.words or "",
            self._source_tabs: gr.Tabs(selected="link" if given.link else kind),
            self._voice_tabs: gr.Tabs(
                selected="words" if record.words else "link" if spoken else "audio"
            ),
            form.prompt: options.prompt or "",
            form.model: options.model if options.model and offers.meant(options.model) else "",
            **dict(zip(self._picker.shown, looked, strict=True)),
            **dict(zip(self._hearing.given, heard, strict=True)),
            **dict(zip(form.edits.values, trim, strict=True)),
            form.mark: options.mark,
            form.insist: options.insist,
        }

    def _copy(self, record: Record, given: Given | None, visitor: str) -> Path | None:
        """Under its own name, as one of the visitor's uploads."""
        path = self._kept.file(record.ticket, given.file) if given and given.file else None
        if path is None or given is None:
            return None
        with tempfile.TemporaryDirectory(prefix="kolbo-page-") as folder:
            named = Path(folder) / given.name
            linked(path, named)
            copy = Path(save_file_to_cache(named, get_upload_folder()))
        self._kept.quota.own(copy.parent, visitor)
        return copy
