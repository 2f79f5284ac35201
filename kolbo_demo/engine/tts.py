"""Text to speech: English, by hibari-tts."""

import wave
from functools import cache
from pathlib import Path
from typing import Any
from uuid import uuid4

import numpy as np

from kolbo_demo.engine import EngineError
from kolbo_demo.media.probe import MediaError

SAMPLE_RATE = 24_000
MAX_CHARACTERS = 4000
"""About four minutes of speech."""
MIN_SPEED, MAX_SPEED = 0.5, 2.0
"""Range in which the voice stays clear; 1 is its own speed."""


@cache
def _load_synthesiser() -> Any:
    try:
        from hibari import Hibari  # loads a model, so only on use

        return Hibari()
    except (ImportError, OSError) as error:
        raise EngineError(
            "Words cannot be spoken on this machine because a library is missing "
            f"({getattr(error, 'name', None) or error}); give a recording instead."
        ) from error


def check_speed(speed: float) -> None:
    """Raise MediaError for a speed out of range."""
    if not MIN_SPEED <= speed <= MAX_SPEED:
        raise MediaError(
            f"The speed of speech must be from {MIN_SPEED:g} to {MAX_SPEED:g}; 1 is normal."
        )


def speak(text: str, output: Path, speed: float = 1.0) -> None:
    """Write English `text` as speech to a mono 16-bit WAV. Deterministic and atomic.

    Raises MediaError for text that cannot be spoken or a speed out of range, EngineError if a
    library is missing.
    """
    check_speed(speed)
    words = " ".join(text.split())
    if not any(character.isalnum() for character in words):
        raise MediaError("There are no words to speak: type an English sentence.")
    if len(words) > MAX_CHARACTERS:
        raise MediaError(
            f"The text is too long ({len(words)} characters): at most {MAX_CHARACTERS} are spoken."
        )
    samples = np.asarray(_load_synthesiser()(words, speed=speed, seed=0), np.float32)
    if samples.size < SAMPLE_RATE // 25 or float(np.abs(samples).max()) < 1e-3:
        raise MediaError("These words cannot be spoken: use English words and numbers.")
    part = output.with_name(f".{uuid4().hex}.part")
    try:
        with wave.open(str(part), "wb") as file:
            file.setparams((1, 2, SAMPLE_RATE, 0, "NONE", ""))
            file.writeframes((np.clip(samples, -1, 1) * 32767).astype("<i2").tobytes())
        part.replace(output)
    finally:
        part.unlink(missing_ok=True)
