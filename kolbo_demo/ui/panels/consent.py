"""Whose face and voice may be used: said above the button until this browser has generated."""

import gradio as gr

from kolbo_demo.ui.i18n.texts import say, shown
from kolbo_demo.ui.panels import views

_SCRIPT = """
try { element.hidden = Boolean(localStorage.getItem('kolbo-consent')); } catch { /* shown, then */ }
document.addEventListener('click', (event) => {
  if (!event.target.closest('#generate, #examples [data-item]')) return;
  try { localStorage.setItem('kolbo-consent', 'given'); } catch { /* it is shown again, then */ }
});
"""


def lay_out() -> None:
    """The line, where the caller stands in the layout."""
    gr.HTML(
        shown(lambda: views.note(say("consent.line"))),
        js_on_load=_SCRIPT,
        apply_default_css=False,
        elem_id="consent",
    )
