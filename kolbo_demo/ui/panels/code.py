"""The panel that shows what is filled in as a program."""

from collections.abc import Iterator
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

import gradio as gr

from kolbo_demo.client import InputError
from kolbo_demo.client.snippets import LANGUAGES, Call
from kolbo_demo.contract import is_web_link
from kolbo_demo.generation import face_at_start
from kolbo_demo.media.probe import MediaError
from kolbo_demo.options import Options, Point
from kolbo_demo.preflight import Inspector
from kolbo_demo.ui.access.backend import CLOUD, Access
from kolbo_demo.ui.events import LATEST, changes
from kolbo_demo.ui.i18n.texts import say, shown
from kolbo_demo.ui.panels import views
from kolbo_demo.ui.panels.form import Fields, Form

FOLLOWED = 32
"""Faces whose way is remembered."""

_HIGHLIGHTING: dict[str, Literal["python", "javascript", "shell"]] = {
    "Python": "python",
    "JavaScript": "javascript",
    "curl": "shell",
}
_NOT_YET = ("portrait.jpg", "speech.wav")
"""Names that stand for a face and a voice that are not given yet."""


class CodePanel:
    """Folded until somebody wants it. It follows the fields and never holds a key."""

    def __init__(self, access: Access, inspector: Inspector) -> None:
        """`inspector` follows a face that was clicked in a later frame."""
        self._access = access
        # The same face, with each field that changes.
        self._followed = lru_cache(FOLLOWED)(inspector.track_face)
        with gr.Accordion(shown("code.title"), open=False, elem_id="code", elem_classes="card"):
            gr.HTML(shown(lambda: views.note(say("code.hint"))), apply_default_css=False)
            self._notes = gr.HTML(
                "",
                html_template='<div role="status">${value}</div>',
                apply_default_css=False,
                elem_id="code-notes",
            )
            with gr.Tabs(elem_id="code-tabs"):
                self._programs = [
                    _program(language, program)
                    for language, program in self._write(call_of(CLOUD, Fields())).items()
                ]

    def follow(self, backend: gr.Radio, form: Form) -> None:
        """Writes the programs again whenever the form or the backend changes."""

        def show(values: dict[Any, Any]) -> tuple[str, ...]:
            return self._show(values[backend], form.read(values))

        inputs = {backend, *form.components}
        gr.on(changes(inputs), show, inputs, [self._notes, *self._programs], **LATEST)

    def _write(self, call: Call) -> dict[str, str]:
        return {name: write(call, self._access.cloud_url) for name, write in LANGUAGES.items()}

    def _show(self, backend: str, fields: Fields) -> tuple[str, ...]:
        notes = []
        call = call_of(backend, fields)
        try:
            fields.request()
        except InputError as error:
            notes.append(str(error))
        try:
            call = replace(call, face=self._face(fields))
        except MediaError as error:
            notes.append(str(error))
        if fields.model and backend != CLOUD:
            notes.append(say("code.local_model"))
        return "".join(views.note(note) for note in notes), *self._write(call).values()

    def _face(self, fields: Fields) -> Point | None:
        """The face point as it would be sent. Raises MediaError."""
        choice, source = fields.choice, fields.source_facts.path or fields.source_facts.link
        if choice is None:
            return None
        return face_at_start(
            self._followed,
            source,
            Options(face=choice.clicked, face_at=choice.at, trim=fields.edit),
        )


def _program(language: str, program: str) -> gr.Code:
    """A tab with a program in it."""
    with gr.Tab(language):
        return gr.Code(
            program,
            language=_HIGHLIGHTING[language],
            interactive=False,
            label=language,
            show_label=False,
            wrap_lines=True,
            show_line_numbers=False,
            buttons=["copy"],
        )


def call_of(backend: str, fields: Fields) -> Call:
    """The API call for the fields, without the face: the first of several sources, and a
    placeholder file name for a missing one. The cloud gets no model of the local engine."""
    picture, voice = _NOT_YET
    link = _clean(fields.source_url)
    if fields.image or fields.video or not is_web_link(link):
        link = ""
    spoken = _clean(fields.audio_url)
    if fields.audio or not is_web_link(spoken):
        spoken = ""
    source = fields.source_facts.source  # either field takes both kinds
    still = source.kind == "image" if source else fields.image or not fields.video
    return Call(
        source=link or Path(fields.image or fields.video or picture).name,
        source_field="source_url" if link else "image" if still else "video",
        voice=spoken or Path(fields.audio or voice).name,
        voice_field="audio_url" if spoken else "audio",
        prompt=_clean(fields.prompt),
        model=_clean(fields.model) if backend == CLOUD else None,
        insist=fields.insist,
        before=tuple(_before(fields)),
        after=(say("code.mark"),) if fields.mark else (),
    )


def _before(fields: Fields) -> Iterator[str]:
    """Comments on the steps that the page itself does before the call."""
    edit = fields.edit
    if (fields.words or "").strip():
        yield say("code.words", file=_NOT_YET[1])
        if fields.voice_name:
            yield say("code.voice", name=fields.voice_name)
        if fields.speed != 1:
            yield say("code.speed", speed=f"{fields.speed:g}")
    for key, part in (("code.cut_clip", edit.clip), ("code.cut_voice", edit.voice)):
        if part:
            start, end = (f"{seconds:.2f}" for seconds in part)
            yield say(key, start=start, end=end)
    if edit.mode:
        yield say("code.lengths", mode=say(f"edit.{edit.mode}"))


def _clean(text: str | None) -> str:
    """Without what neither a shell nor UTF-8 can hold."""
    return (text or "").replace("\0", "").encode("utf-8", "ignore").decode().strip()
