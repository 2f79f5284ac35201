"""Use these inputs again: every field as it was when a generation was asked for."""

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import gradio as gr
from gradio.processing_utils import save_file_to_cache
from gradio.utils import get_upload_folder

from kolbo_demo.generation import SPEECH_FILE
from kolbo_demo.media.probe import kind_of
from kolbo_demo.service.gate import caller_of
from kolbo_demo.ui.events import LOOKING, QUIET
from kolbo_demo.ui.folders import linked
from kolbo_demo.ui.kept import Given, Kept, Record
from kolbo_demo.ui.panels.face_picker import Choice, FacePicker
from kolbo_demo.ui.panels.model_picker import Offers
from kolbo_demo.ui.panels.preflight import at_hand
from kolbo_demo.ui.panels.trim import Edits, as_chosen
from kolbo_demo.ui.panels.voice import Hearing
from kolbo_demo.ui.quota import counted
from kolbo_demo.ui.stage import Stage, sent_text


class Again:
    """What the buttons "Use again" do. Where the work is done stays the visitor's choice of now."""

    def __init__(self, kept: Kept, picker: FacePicker, hearing: Hearing, edits: Edits) -> None:
        self._kept = kept
        self._picker = picker
        self._hearing = hearing
        self._edits = edits

    def follow(self, stage: Stage, filled: Sequence[Any], offers: gr.State) -> None:
        """`filled` are the components with image, video, link; audio, link, words; the open tabs;
        prompt and model. `offers` tells which models there are now."""
        outputs = [
            *filled,
            *self._picker.shown,
            *self._hearing.given,
            *self._edits.values,
            self._edits.mark,
            self._picker.insist,
        ]

        def again(asked_by: gr.Request, offers: Offers, event: gr.EventData) -> tuple[Any, ...]:
            record = self._kept.get(sent_text(event, "ticket"))
            if record is None or record.source is None:
                return tuple(gr.skip() for _ in outputs)
            return self._filled(record, record.source, offers, counted(caller_of(asked_by)))

        stage.cards.again(again, offers, outputs, **QUIET | LOOKING)

    def _filled(
        self, record: Record, given: Given, offers: Offers, visitor: str
    ) -> tuple[Any, ...]:
        options = record.options
        source = self._copy(record, given, visitor)
        kind = kind_of(source) if source else None
        voice = self._copy(record, record.voice, visitor)
        spoken = record.voice.link if record.voice else None
        choice = Choice(options.face, options.face_at) if options.face else None
        looked = self._picker.look(source, given.link or "", choice)
        said = self._kept.file(record.ticket, SPEECH_FILE) if record.words else voice
        heard = self._hearing.as_given(said, record.words, options.speed)
        return (
            str(source) if kind == "image" else None,
            str(source) if source and kind != "image" else None,
            given.link or "",
            str(voice) if voice else None,
            spoken or "",
            record.words or "",
            gr.Tabs(selected="link" if given.link else kind),
            gr.Tabs(selected="words" if record.words else "link" if spoken else "audio"),
            options.prompt or "",
            options.model if options.model and offers.meant(options.model) else "",
            *looked,
            *heard,
            *as_chosen(at_hand(looked[-1], heard[-1]), options.trim),
            options.mark,
            options.insist,
        )

    def _copy(self, record: Record, given: Given | None, visitor: str) -> Path | None:
        """Under the visitor's own name for it, as one of his uploads: Gradio hands out files of its
        own cache only."""
        path = self._kept.file(record.ticket, given.file) if given and given.file else None
        if path is None or given is None:
            return None
        with tempfile.TemporaryDirectory(prefix="kolbo-page-") as folder:
            named = Path(folder) / given.name
            linked(path, named)
            copy = Path(save_file_to_cache(named, get_upload_folder()))
        self._kept.quota.own(copy.parent, visitor)
        return copy
