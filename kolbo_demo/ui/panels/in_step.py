"""Videos in step: a component for `views.panes`, whose one control plays them together."""

from pathlib import Path

import gradio as gr

_SCRIPT = Path(__file__).with_suffix(".js")


def in_step(name: str) -> gr.HTML:
    """The empty component; `name` is its id in the page."""
    script = _SCRIPT.read_text("utf-8")
    return gr.HTML("", elem_id=name, js_on_load=script, apply_default_css=False)
