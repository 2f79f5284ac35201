"""Text to speech: output, and refused texts."""

import sys
import wave
from pathlib import Path

import numpy as np
import pytest

from kolbo_demo.engine import EngineError, tts
from kolbo_demo.engine.audio_io import load_voice
from kolbo_demo.media.probe import MediaError


def test_speech_is_deterministic(tmp_path: Path):
    one, two = tmp_path / "one.wav", tmp_path / "two.wav"
    tts.speak("Good  morning.\n", one)
    tts.speak("Good morning.", two)
    assert one.read_bytes() == two.read_bytes()
    with wave.open(str(one)) as file:
        assert (file.getnchannels(), file.getsampwidth(), file.getframerate()) == (1, 2, 24_000)
        assert 0.4 < file.getnframes() / 24_000 < 3
    assert np.abs(load_voice(one)).max() > 0.05


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "no words"),
        (" \n\t", "no words"),
        ("?! 😀", "no words"),
        ("你好", "cannot be spoken"),
        ("word " * 1000, "too long"),
    ],
)
def test_text_that_cannot_be_spoken_is_refused_and_leaves_no_file(tmp_path: Path, text, says):
    with pytest.raises(MediaError, match=says):
        tts.speak(text, tmp_path / "out.wav")
    assert list(tmp_path.iterdir()) == []


def test_a_missing_library_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    tts._load_synthesiser.cache_clear()
    monkeypatch.setitem(sys.modules, "hibari", None)
    with pytest.raises(EngineError, match=r"hibari.*give a recording"):
        tts.speak("Hello.", tmp_path / "out.wav")
    assert list(tmp_path.iterdir()) == []
