"""Two examples, each filled in and made with one click."""

import tempfile
from pathlib import Path
from typing import Any

import gradio as gr
from PIL import ImageOps

from kolbo_demo.sandbox import preview

_ASSETS = Path(__file__).parents[2] / "assets"
PORTRAIT = _ASSETS / "portrait.jpg"
SPEECH = _ASSETS / "speech.wav"
CLIP = _ASSETS / "clip.mp4"
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


def thumbnail(sample: Path) -> str:
    """The path of a small square picture of a sample, for its button."""
    picture = ImageOps.fit(preview(sample, 512), (112, 112), centering=(0.5, 0.2))
    path = Path(tempfile.mkdtemp(prefix="kolbo-page-")) / f"{sample.stem}.jpg"
    picture.save(path, quality=88)
    return str(path)
