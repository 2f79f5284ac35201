"""Two examples, each filled in and made with one click."""

from pathlib import Path
from typing import Any

import gradio as gr

from kolbo_demo.gallery import items

_ITEMS = {item.id: item for item in items()}
PORTRAIT, CLIP = _ITEMS["hopper"], _ITEMS["man"]
FILES: tuple[Path, ...] = tuple(path for item in items() for path in item.files)
WORDS = "Good morning! This mouth moves to words that nobody here ever said."


def portrait() -> tuple[Any, ...]:
    """Values of the fields: image, video, link; audio, link, words; and the open tabs."""
    tabs = gr.Tabs(selected="image"), gr.Tabs(selected="audio")
    return str(PORTRAIT.source), None, "", str(PORTRAIT.voice), "", "", *tabs


def clip() -> tuple[Any, ...]:
    """The same, for a clip and words."""
    tabs = gr.Tabs(selected="video"), gr.Tabs(selected="words")
    return None, str(CLIP.source), "", None, "", WORDS, *tabs
