"""How the page's own events are asked of Gradio."""

from collections.abc import Callable, Iterable
from typing import Any

import gradio as gr
from gradio.blocks import Block

Values = dict[Any, Any]
"""Values of components by component, as an event handler gets them."""
Updates = dict[Block, Any]
"""Values and properties of components, as an event handler returns them."""

QUIET: dict[str, Any] = {
    "api_visibility": "private",
    "show_progress": "hidden",
    "concurrency_limit": None,
}
"""Unknown outside of the page (some carry the key), unseen on it, and never in each other's way."""
LATEST: dict[str, Any] = QUIET | {"trigger_mode": "always_last"}
"""The same for what changes often: what stands there last counts. Not for what takes an event's
data: what Gradio put off it tells anew with the data of the first."""
EACH: dict[str, Any] = QUIET | {"trigger_mode": "multiple"}
"""The same for what is told with an event's data: each of them counts."""

INSPECTING: dict[str, Any] = {"concurrency_id": "looking", "concurrency_limit": 4}
"""For events that have a file looked at. Of a group with such a limit, which waits in Gradio's
queue and not in threads, each visitor has a bounded part (`gradio_gate.py`)."""


def changes(parts: Iterable[Any]) -> list[Callable[..., Any]]:
    """Events of which one at least comes whenever any of these components changes, for `gr.on`.

    What listens beside others to the same component has to listen by these. Gradio puts off what
    comes while a listener is busy, and then tells all listeners of that event anew: two that were
    busy keep each other going for ever. So a component tells one listener itself, and each of
    these by a hidden text of its own, in the browser. States tell each listener by itself.
    """
    parts = list(parts)
    components = [part for part in parts if not isinstance(part, gr.State)]
    relay = gr.Textbox("", visible="hidden", show_label=False)
    gr.on(
        [part.change for part in components],
        None,
        None,
        relay,
        js="() => String(Math.random())",
        api_visibility="private",
    )
    return [relay.change, *(part.change for part in parts if isinstance(part, gr.State))]
