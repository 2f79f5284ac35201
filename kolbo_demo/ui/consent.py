"""Whose face and voice may be used: said above the button until this browser has generated."""

import gradio as gr

from kolbo_demo.ui import views
from kolbo_demo.ui.texts import say, shown

_SCRIPT = """
element.hidden = recalled('kolbo-consent') !== null;
document.addEventListener('click', (event) => {
  if (event.target.closest('#generate, #examples button')) remembered('kolbo-consent', 'given');
});
"""


def lay_out() -> None:
    """The line, where the caller stands in the layout."""
    gr.HTML(
        shown(lambda: views.note(say("consent.line"))),
        js_on_load=views.scripts("memory.js") + _SCRIPT,
        apply_default_css=False,
        elem_id="consent",
    )
