"""How the page's own events are asked of Gradio."""

from typing import Any

QUIET: dict[str, Any] = {
    "api_visibility": "private",
    "show_progress": "hidden",
    "concurrency_limit": None,
}
"""Unknown outside of the page (some carry the key), unseen on it, and never in each other's way."""
LATEST: dict[str, Any] = QUIET | {"trigger_mode": "always_last"}
"""The same for what changes often: what stands there last counts."""
