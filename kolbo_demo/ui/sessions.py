"""How many sessions Gradio holds in memory."""

import gradio as gr

MOST = 500
"""Each costs 0.18 MB, and whoever sends a new session hash begins one. Gradio's own bound is 10000.
One that goes takes along what its page had chosen in `gr.State`; the one used longest ago goes
first."""


def bound(blocks: gr.Blocks) -> None:
    """Bound the sessions of a page. Before it is mounted: Gradio reads the number then."""
    blocks.state_session_capacity = MOST
