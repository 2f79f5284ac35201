"""Gallery: finished results, each with a button that makes it anew from its own inputs."""

from collections.abc import Mapping
from html import escape
from pathlib import Path
from typing import Any

import gradio as gr

from kolbo_demo.gallery import ROUTE, GalleryItem, items
from kolbo_demo.ui.backend import LOCAL
from kolbo_demo.ui.events import QUIET
from kolbo_demo.ui.form import Form
from kolbo_demo.ui.i18n.texts import say, shown

INPUTS = tuple(path for item in items() for path in (item.source, item.voice))
"""Files that fill in the form."""

_ITEMS = {item.id: item for item in items()}
_SCRIPT = Path(__file__).with_suffix(".js")


class Gallery:
    """The posters, where the caller stands in the layout.

    Gradio's own galleries load each video at the start, and have no button for an item.
    """

    def __init__(self) -> None:
        self._posters = gr.HTML(
            shown(_html),
            js_on_load=_SCRIPT.read_text("utf-8"),
            apply_default_css=False,
            elem_id="gallery",
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


def _html() -> str:
    tiles = "".join(map(_tile, items()))
    return (
        f'<details class="card" open><summary><h2>{escape(say("gallery.title"))}</h2></summary>'
        f'<p class="note">{escape(say("gallery.hint"))}</p><ul>{tiles}</ul></details>'
    )


def _tile(item: GalleryItem) -> str:
    kind, language = say(f"gallery.{item.kind}"), say(f"gallery.{item.language}")
    name = escape(f"{kind}, {language}", quote=True)
    about = escape(f"{item.words} ({item.credit})", quote=True)
    return (
        f'<li><button type="button" class="play" data-video="{ROUTE}/{item.result.name}"'
        f' aria-label="{escape(say("gallery.play"))}: {name}" aria-pressed="false"'
        f' title="{about}"><img src="{ROUTE}/{item.poster.name}" alt="" width="384" height="480"'
        ' loading="lazy"></button>'
        f"<p><b>{escape(kind)}</b> {escape(language)}</p>"
        f'<button type="button" class="button" data-item="{item.id}"'
        f' aria-label="{escape(say("gallery.try"))}: {name}">{escape(say("gallery.try"))}</button>'
        "</li>"
    )
