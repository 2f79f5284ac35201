"""Components that several panels use."""

from abc import ABCMeta
from html import escape
from pathlib import Path
from typing import Any

import gradio as gr
from gradio.data_classes import FileData

from kolbo_demo.ui.events import QUIET
from kolbo_demo.ui.i18n.texts import say, shown

_IN_STEP = Path(__file__).with_name("in_step.js")


class _WithoutStub(type(gr.Video)):
    """Metaclass of components for which Gradio writes no stub file beside their module."""

    def __new__(cls, name: str, bases: tuple[type, ...], attributes: dict[str, Any]) -> Any:
        return ABCMeta.__new__(cls, name, bases, attributes)


class Player(gr.Video, metaclass=_WithoutStub):
    """A player of a file that is already served: it is neither copied nor converted."""

    def postprocess(self, value: str | Path | None) -> FileData | None:
        """The file as it is."""
        return FileData(path=str(value), orig_name=Path(value).name) if value else None

    def _format_subtitles(self, subtitle: str | Path | None) -> Any:
        """The file as it is; none for an empty path, since an update with None changes nothing.
        Gradio would fail in later updates once the file is deleted."""
        return FileData(path=str(subtitle)).model_dump() if subtitle else None

    def get_block_name(self) -> str:
        """Gradio's own name of the component in the browser."""
        return "video"


class Question:
    """Asks before a button does what cannot be undone."""

    def __init__(self, name: str, text: str, answer: str) -> None:
        """`text` and `answer` are keys of texts."""
        with gr.Column(visible=False, elem_id=f"ask-{name}", elem_classes="question") as self.box:
            gr.HTML(shown(lambda: f"<p>{escape(say(text))}</p>"))
            with gr.Row():
                self._no = gr.Button(shown("cards.no"), size="sm", min_width=80)
                self.yes = gr.Button(shown(answer), size="sm", min_width=80, variant="stop")

    def connect(self, button: gr.Button) -> None:
        """Opens at a click of the button, and closes at the answer."""
        button.click(lambda: gr.update(visible=True), None, self.box, **QUIET)
        gr.on(
            [self._no.click, self.yes.click],
            lambda: gr.update(visible=False),
            None,
            self.box,
            **QUIET,
        )


def in_step(name: str) -> gr.HTML:
    """An empty component for `views.panes`, whose one control plays videos together; `name` is its
    id in the page."""
    script = _IN_STEP.read_text("utf-8")
    return gr.HTML("", elem_id=name, js_on_load=script, apply_default_css=False)


def small_button(name: str, text: str, *, visible: bool = False) -> gr.Button:
    """A button in a row of actions; `name` is its id in the page, `text` a key of texts."""
    return gr.Button(shown(text), size="sm", min_width=80, scale=0, visible=visible, elem_id=name)


def download_button(name: str, text: str) -> gr.DownloadButton:
    """As `small_button`, for a file; hidden at first."""
    return gr.DownloadButton(
        str(shown(text)), size="sm", min_width=80, scale=0, visible=False, elem_id=name
    )
