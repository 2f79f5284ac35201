"""The panel that shows what is filled in as a program."""

from html import escape
from pathlib import Path
from typing import Any

import gradio as gr

from kolbo_demo.contract import is_web_link
from kolbo_demo.ui import views
from kolbo_demo.ui.access import CLOUD, Access
from kolbo_demo.ui.events import LATEST
from kolbo_demo.ui.inputs import UnusableError, request_of
from kolbo_demo.ui.snippets import LANGUAGES, Call
from kolbo_demo.ui.texts import say, shown

_SCRIPT = Path(__file__).with_suffix(".js")
_NOT_YET = ("portrait.jpg", "speech.wav")
"""Names that stand for a face and a voice that are not given yet."""


class CodePanel:
    """Folded until somebody wants it. It follows the fields and never holds a key."""

    def __init__(self, access: Access) -> None:
        self._access = access
        self._panel = gr.HTML(
            shown(self._html),
            js_on_load=_SCRIPT.read_text(encoding="utf-8"),
            apply_default_css=False,
            written=None,
        )

    def follow(self, backend: gr.Radio, fields: list[Any]) -> None:
        """`fields` are those that `write` takes, in its order."""
        gr.on(
            [field.change for field in (backend, *fields)],
            self._write,
            [backend, *fields],
            self._panel,
            **LATEST,
        )

    def _html(self) -> str:
        nothing = (None,) * 9
        tabs = "".join(
            f'<label><input type="radio" name="code" value="{name}"{" checked" * (not at)}>'
            f"{name}</label>"
            for at, name in enumerate(LANGUAGES)
        )
        texts = "".join(
            f'<pre tabindex="0" role="region" aria-label="{name}" data-code="{name}" dir="ltr">'
            f"{escape(text)}</pre>"
            for name, text in self._programs(CLOUD, *nothing).items()
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

    def _programs(self, backend: str, *fields: Any) -> dict[str, str]:
        call = call_of(backend, *fields)
        return {name: write(call, self._access.cloud_url) for name, write in LANGUAGES.items()}

    def _write(self, backend: str, *filled: Any) -> Any:
        *others, choice = filled
        fields: tuple[Any, ...] = (*others, choice.clicked if choice else None)
        notes = []
        words, model = fields[5], fields[7]
        try:
            request_of(*fields)
        except UnusableError as error:
            notes.append(str(error))
        if (words or "").strip():
            notes.append(say("code.words", file=_NOT_YET[1]))
        if model and backend != CLOUD:
            notes.append(say("code.local_model"))
        return gr.HTML(
            written={
                "programs": self._programs(backend, *fields),
                "notes": "".join(views.note(note) for note in notes),
            }
        )


def call_of(
    backend: str,
    image: str | None,
    video: str | None,
    source_url: str | None,
    audio: str | None,
    audio_url: str | None,
    words: str | None,  # noqa: ARG001 - the API takes a recording
    prompt: str | None,
    model: str | None,
    face: tuple[float, float] | None,
) -> Call:
    """What is filled in, as the API takes it: the first of several sources, a made-up file name
    where nothing is given yet. A local engine's model means nothing to Kolbo's cloud."""
    picture, voice = _NOT_YET
    link = _clean(source_url)
    if image or video or not is_web_link(link):
        link = ""
    spoken = _clean(audio_url)
    if audio or not is_web_link(spoken):
        spoken = ""
    return Call(
        source=link or Path(image or video or picture).name,
        source_field="source_url" if link else "image" if image or not video else "video",
        voice=spoken or Path(audio or voice).name,
        voice_field="audio_url" if spoken else "audio",
        prompt=_clean(prompt),
        model=_clean(model) if backend == CLOUD else None,
        face=face,
    )


def _clean(text: str | None) -> str:
    """Without what neither a shell nor UTF-8 can hold."""
    return (text or "").replace("\0", "").encode("utf-8", "ignore").decode().strip()
