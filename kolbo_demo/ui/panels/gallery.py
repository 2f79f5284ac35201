"""Gallery: finished results, each with a button that makes it anew from its own inputs."""

import json
from collections.abc import Mapping
from html import escape
from pathlib import Path
from typing import Any

import gradio as gr

from kolbo_demo.gallery import ROUTE, GalleryItem, items
from kolbo_demo.ui.access.backend import LOCAL
from kolbo_demo.ui.events import QUIET
from kolbo_demo.ui.i18n.texts import say, shown
from kolbo_demo.ui.panels.form import Form

INPUTS = tuple(path for item in items() for path in (item.source, item.voice))
"""Files that fill in the form."""

_ITEMS = {item.id: item for item in items()}
_KINDS = sorted({item.kind for item in items()})
_LANGUAGES = sorted({item.language for item in items()})
_SCRIPT = Path(__file__).with_suffix(".js")
_TEMPLATE = """${((text) => `
<details class="card" open><summary><h2>${text.title}</h2></summary>
<p class="note">${text.hint}</p><ul>${items.map((item) => {
  const name = `${text[item.kind]}, ${text[item.language]}`;
  return `<li><button type="button" class="play" data-video="${item.video}" aria-pressed="false"
  aria-label="${text.play}: ${name}" title="${item.about}"><img src="${item.poster}" alt=""
  width="384" height="480" loading="lazy" decoding="async" fetchpriority="low"></button>
  <p><b>${text[item.kind]}</b> ${text[item.language]}</p>
  <button type="button" class="button" data-item="${item.id}"
  aria-label="${text.try}: ${name}">${text.try}</button></li>`;
}).join('')}</ul></details>`)(JSON.parse(value))}"""


class Gallery:
    """The posters, where the caller stands in the layout.

    Gradio's own galleries load each video at the start, and have no button for an item.
    """

    def __init__(self) -> None:
        self._posters = gr.HTML(
            shown(_texts),
            html_template=_TEMPLATE,
            items=[_shown(item) for item in items()],
            js_on_load=_SCRIPT.read_text("utf-8"),
            apply_default_css=False,
            elem_id="examples",
        )

    def follow(
        self,
        form: Form,
        backend: gr.Radio,
        source_tabs: gr.Tabs,
        voice_tabs: gr.Tabs,
        generate: Mapping[str, Any],
    ) -> None:
        """Fills in the form and generates. Always on the local engine: examples cost nothing.
        `generate` has the arguments of Generate's event."""
        filled = [*form.source, form.audio, form.audio_url, form.words, form.prompt, form.model]

        def fill(event: gr.SelectData) -> tuple[Any, ...]:
            item = _ITEMS.get(str(event.value))
            if item is None:
                raise gr.Error(say("inputs.no_source"), print_exception=False)
            source, clip = str(item.source), item.kind == "clip"
            return (
                *((None, source) if clip else (source, None)),
                *("", str(item.voice), "", "", item.prompt, "", LOCAL),
                gr.Tabs(selected="video" if clip else "image"),
                gr.Tabs(selected="audio"),
            )

        outputs = [*filled, backend, source_tabs, voice_tabs]
        self._posters.select(fill, None, outputs, **QUIET).success(**generate)


def _texts() -> str:
    """The panel's texts in one language, as JSON."""
    keys = ("title", "hint", "play", "try", *_KINDS, *_LANGUAGES)
    return json.dumps({key: escape(say(f"gallery.{key}")) for key in keys}, ensure_ascii=False)


def _shown(item: GalleryItem) -> dict[str, str]:
    return {
        "id": item.id,
        "kind": item.kind,
        "language": item.language,
        "about": escape(f"{item.words} ({item.credit})"),
        "poster": f"{ROUTE}/{item.poster.name}",
        "video": f"{ROUTE}/{item.result.name}",
    }
