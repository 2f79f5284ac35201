"""Bound on the sessions that Gradio holds in memory, fair between visitors."""

from collections import Counter

import gradio as gr

MOST = 500
"""Each costs 0.18 MB, and whoever sends a new session hash begins one. Gradio's own bound is 10000.
One that goes takes along what its page had chosen in `gr.State`."""


def bound(blocks: gr.Blocks) -> None:
    """Bound the sessions of a page. Before it is mounted: Gradio reads the number then."""
    blocks.state_session_capacity = MOST


class Sessions:
    """Makes room before Gradio would drop the session that was used longest ago, whose-ever it is:
    the visitor who has most loses that one of his own."""

    def __init__(self, blocks: gr.Blocks) -> None:
        self._blocks = blocks
        self._visitors: dict[str, str] = {}

    def note(self, session: str, visitor: str) -> None:
        """A session, empty for one that Gradio names, is about to be used by a visitor."""
        holder = self._blocks.state_holder
        with holder.lock:
            held = holder.session_data
            self._visitors = {name: who for name, who in self._visitors.items() if name in held}
            if len(held) >= holder.capacity and session not in held:
                # Those of calls by name have no visitor here, and are used once.
                whose = [self._visitors.get(name, "") for name in held]
                most = "" if "" in whose else Counter(whose).most_common(1)[0][0]
                oldest = next(name for name, who in zip(held, whose, strict=True) if who == most)
                held.pop(oldest)
                holder.time_last_used.pop(oldest, None)
            if session:
                self._visitors[session] = visitor
