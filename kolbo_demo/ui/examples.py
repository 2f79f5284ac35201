"""Two examples, each filled in and made with one click."""

from pathlib import Path
from typing import Any

import gradio as gr

from kolbo_demo.data_files import ASSETS

PORTRAIT = ASSETS / "portrait.jpg"
SPEECH = ASSETS / "speech.wav"
CLIP = ASSETS / "clip.mp4"
FILES = (PORTRAIT, SPEECH, CLIP)
WORDS = "Good morning! This mouth moves to words that nobody here ever said."


def portrait() -> tuple[Any, ...]:
    """What the fields hold then: image, video, link; audio, link, words; and the open tabs."""
    tabs = gr.Tabs(selected="image"), gr.Tabs(selected="audio")
    return str(PORTRAIT), None, "", str(SPEECH), "", "", *tabs


def clip() -> tuple[Any, ...]:
    """The same, for a clip and words."""
    tabs = gr.Tabs(selected="video"), gr.Tabs(selected="words")
    return None, str(CLIP), "", None, "", WORDS, *tabs


def thumbnail(sample: Path) -> Path:
    """A small square picture of a sample, for its button."""
    return sample.with_name(f"{sample.stem}-thumbnail.jpg")
