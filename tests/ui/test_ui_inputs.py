"""From the fields of the page to one request."""

from pathlib import Path
from typing import Any

import pytest

from kolbo_demo.client import InputError
from kolbo_demo.generation import GenerationRequest
from kolbo_demo.options import Options
from kolbo_demo.ui.inputs import request_of

NOTHING: dict[str, Any] = dict.fromkeys(
    ("image", "video", "source_url", "audio", "audio_url", "words", "prompt", "model", "face")
)


def ask(**given: Any) -> GenerationRequest:
    return request_of(**(NOTHING | given))


def test_files() -> None:
    request = ask(image="/up/a.png", audio="/up/b.wav", prompt="  ", model="", face=(0.1, 0.2))
    assert request == GenerationRequest(
        source=Path("/up/a.png"),
        voice=Path("/up/b.wav"),
        options=Options(face=(0.1, 0.2)),
    )


def test_links_and_words() -> None:
    request = ask(source_url=" https://a.b/c.mp4?x=1 ", words=" Hello. ", prompt=" calm ")
    assert request.source == "https://a.b/c.mp4?x=1"
    assert (request.voice, request.words, request.options.prompt) == (None, "Hello.", "calm")
    assert ask(video="/up/v.mp4", audio_url="HTTP://a.b/c.mp3").voice == "HTTP://a.b/c.mp3"


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ({}, "No face yet"),
        ({"image": "a.png"}, "No voice yet"),
        ({"image": "a.png", "words": " \n"}, "No voice yet"),
        ({"image": "a.png", "source_url": "https://a.b", "words": "x"}, "An image and a link are"),
        (
            {"image": "a.png", "video": "b.mp4", "source_url": "https://a.b", "words": "x"},
            "An image, a video and a link are given for the face: keep one",
        ),
        ({"image": "a.png", "audio": "b.wav", "words": "x"}, "A recording and words are given"),
        ({"source_url": "/etc/passwd", "words": "x"}, "starts with http"),
        ({"source_url": "file:///etc/passwd", "words": "x"}, "starts with http"),
        ({"image": "a.png", "audio_url": "speech.wav"}, "starts with http"),
        ({"image": "a.png", "audio_url": "http://["}, "starts with http"),
    ],
)
def test_what_cannot_work_is_said(given: dict[str, Any], sentence: str) -> None:
    with pytest.raises(InputError, match=sentence):
        ask(**given)
