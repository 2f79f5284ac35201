"""The panel that shows what is filled in as a program."""

from collections.abc import Iterator
from dataclasses import replace
from functools import lru_cache
from html import escape
from pathlib import Path
from typing import Any

import gradio as gr

from kolbo_demo.contract import is_web_link
from kolbo_demo.generation import face_at_start
from kolbo_demo.media.probe import MediaError
from kolbo_demo.options import Options, Point
from kolbo_demo.preflight import Inspector
from kolbo_demo.ui import views
from kolbo_demo.ui.access import CLOUD, Access
from kolbo_demo.ui.events import LATEST, changes
from kolbo_demo.ui.form import Fields, Form
from kolbo_demo.ui.inputs import UnusableError
from kolbo_demo.ui.snippets import LANGUAGES, Call
from kolbo_demo.ui.texts import say, shown

FOLLOWED = 32
"""Faces whose way is remembered."""

_SCRIPT = Path(__file__).with_suffix(".js")
_NOT_YET = ("portrait.jpg", "speech.wav")
"""Names that stand for a face and a voice that are not given yet."""


class CodePanel:
    """Folded until somebody wants it. It follows the fields and never holds a key."""

    def __init__(self, access: Access, inspector: Inspector) -> None:
        """`inspector` follows a face that was clicked in a later frame."""
        self._access = access
        # The same face, with each field that changes.
        self._followed = lru_cache(FOLLOWED)(inspector.track_face)
        self._panel = gr.HTML(
            shown(self._html),
            js_on_load=_SCRIPT.read_text(encoding="utf-8"),
            apply_default_css=False,
            written=None,
        )

    def follow(self, backend: gr.Radio, form: Form) -> None:
        """Writes the programs again whenever the form or the backend changes."""

        def write(values: dict[Any, Any]) -> Any:
            return self._write(values[backend], form.read(values))

        inputs = {backend, *form.components}
        gr.on(changes(inputs), write, inputs, self._panel, **LATEST)

    def _html(self) -> str:
        tabs = "".join(
            f'<label><input type="radio" name="code" value="{name}"{" checked" * (not at)}>'
            f"{name}</label>"
            for at, name in enumerate(LANGUAGES)
        )
        texts = "".join(
            f'<pre tabindex="0" role="region" aria-label="{name}" data-code="{name}" dir="ltr">'
            f"{escape(text)}</pre>"
            for name, text in self._programs(call_of(CLOUD, Fields())).items()
        )
        return (
            f'<details class="card" id="code"><summary><h2>{escape(say("code.title"))}</h2>'
            f'</summary><p class="note">{escape(say("code.hint"))}</p>'
            f'<div class="notes" role="status"></div>'
            f'<div class="buttons"><fieldset><legend class="sr-only">'
            f"{escape(say('code.language'))}</legend>{tabs}</fieldset>"
            f'<button type="button" class="button" data-copied="{escape(say("cards.copied"))}">'
            f"{escape(say('code.copy'))}</button></div>{texts}</details>"
        )

    def _programs(self, call: Call) -> dict[str, str]:
        return {name: write(call, self._access.cloud_url) for name, write in LANGUAGES.items()}

    def _write(self, backend: str, fields: Fields) -> Any:
        notes = []
        call = call_of(backend, fields)
        try:
            fields.request()
        except UnusableError as error:
            notes.append(str(error))
        try:
            call = replace(call, face=self._face(fields))
        except MediaError as error:
            notes.append(str(error))
        if fields.model and backend != CLOUD:
            notes.append(say("code.local_model"))
        return gr.HTML(
            written={
                "programs": self._programs(call),
                "notes": "".join(views.note(note) for note in notes),
            }
        )

    def _face(self, fields: Fields) -> Point | None:
        """The face point as it would be sent. Raises MediaError."""
        choice, source = fields.choice, fields.seen.path or fields.seen.link
        if choice is None:
            return None
        return face_at_start(
            self._followed,
            source,
            Options(face=choice.clicked, face_at=choice.at, trim=fields.edit),
        )


def call_of(backend: str, fields: Fields) -> Call:
    """What is filled in, as the API takes it, but for the face: the first of several sources, a
    made-up file name where nothing is given yet. A local engine's model means nothing to Kolbo's
    cloud."""
    picture, voice = _NOT_YET
    link = _clean(fields.source_url)
    if fields.image or fields.video or not is_web_link(link):
        link = ""
    spoken = _clean(fields.audio_url)
    if fields.audio or not is_web_link(spoken):
        spoken = ""
    source = fields.seen.source  # either field takes both kinds
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
    """What this page does itself before it calls the API."""
    edit = fields.edit
    if (fields.words or "").strip():
        yield say("code.words", file=_NOT_YET[1])
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
