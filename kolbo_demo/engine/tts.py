"""Words to a voice: English text spoken by hibari-tts."""

import wave
from functools import cache
from pathlib import Path
from typing import Any
from uuid import uuid4

import numpy as np

from kolbo_demo.engine import EngineError
from kolbo_demo.media.probe import MediaError

RATE = 24_000
"""Hz of the spoken audio."""
LONGEST = 4000
"""Characters that are spoken at once: about four minutes."""
SLOWEST, FASTEST = 0.5, 2.0
"""Speeds between which the voice stays clear; 1 is its own."""


@cache
def _voice() -> Any:
    try:
        from hibari import Hibari  # loads a model: only when words are spoken

        return Hibari()
    except (ImportError, OSError) as error:
        raise EngineError(
            "Words cannot be spoken on this machine because a library is missing "
            f"({getattr(error, 'name', None) or error}); give a recording instead."
        ) from error


def check_speed(speed: float) -> None:
    """Raises MediaError for a speed at which words are not spoken."""
    if not SLOWEST <= speed <= FASTEST:
        raise MediaError(
            f"Words are spoken at a speed from {SLOWEST:g} to {FASTEST:g}; 1 is the voice's own."
        )


def speak(text: str, output: Path, speed: float = 1.0) -> None:
    """Speak English `text` into a mono 16-bit WAV of RATE. The same text gives the same audio.

    `speed` is SLOWEST to FASTEST. Raises MediaError where the text cannot be spoken, or not so
    fast, EngineError where this machine cannot speak. The file appears when it is whole.
    """
    check_speed(speed)
    words = " ".join(text.split())
    if not any(character.isalnum() for character in words):
        raise MediaError("There are no words to speak: type an English sentence.")
    if len(words) > LONGEST:
        raise MediaError(
            f"The text is too long ({len(words)} characters): speak at most {LONGEST} at once."
        )
    samples = np.asarray(_voice()(words, speed=speed, seed=0), np.float32)
    if samples.size < RATE // 25 or float(np.abs(samples).max()) < 1e-3:
        raise MediaError("These words cannot be spoken: use English words and numbers.")
    part = output.with_name(f".{uuid4().hex}.part")
    try:
        with wave.open(str(part), "wb") as file:
            file.setnchannels(1)
            file.setsampwidth(2)
            file.setframerate(RATE)
            file.writeframes((np.clip(samples, -1, 1) * 32767).astype("<i2").tobytes())
        part.replace(output)
    finally:
        part.unlink(missing_ok=True)
