"""The child process that speaks: visitors' words reach speech engines here only."""

import traceback
import wave
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from kolbo_demo.engine.voices.catalog import Voice, find_voice
from kolbo_demo.engine.voices.loudness import normalise
from kolbo_demo.engine.voices.phoneme_chunk import append_phonemes
from kolbo_demo.engine.voices.pronounce import TimedPhoneme
from kolbo_demo.engine.voices.synthesis import CLAUSE_PAUSE, load_engine
from kolbo_demo.engine.voices.written import spoken_sentences
from kolbo_demo.process import fork_server
from kolbo_demo.process.child import cpu_count, parent_connection
from kolbo_demo.process.confinement import exit_after, limit_resources, lower_priority

START_SECONDS = 20.0
"""Of processor time to load an engine, which takes 2 at most."""
SPEECH_SECONDS_PER_CHARACTER = {"zh": 0.25}
"""At speed 1, as measured; 0.09 for other languages."""
LETTERS_PER_DIGIT = 8
"""A number of one digit has so many letters as words, one of more digits a little more."""
CPU_SECONDS_PER_SPEECH_SECOND = {"kokoro": 1.0, "hibari": 0.05, "pico": 0.03}
"""As measured (docs/figures.md)."""
MARGIN = 4.0
"""For slower and busy processors."""
MEMORY_BYTES = 3 * 1024**3
MAX_FILE_BYTES = 64 * 1024**2
"""Half an hour of speech."""
MAX_THREADS = 4
MAX_SECONDS_PER_CHARACTER = 0.4
"""Speech that takes longer is an engine's fault."""
LEAD_SECONDS = 0.15
"""Silence before the words, in which the lips get ready for the first of them."""
SOUND = "speech.wav"


def time_limit(text: str, voice: Voice, speed: float) -> float:
    """Processor seconds for all of a text: several times what the voice needs."""
    letters = len(text) + LETTERS_PER_DIGIT * sum(map(str.isdigit, text))
    speech = letters * SPEECH_SECONDS_PER_CHARACTER.get(voice.language, 0.09) / speed
    return START_SECONDS + MARGIN * speech * CPU_SECONDS_PER_SPEECH_SECOND[voice.engine]


def main() -> None:
    """Speak one text into a file of the folder that the request names."""
    lower_priority()
    with parent_connection() as (requests, send):
        request = next(requests)
        voice = find_voice(request["voice"], None)
        seconds = time_limit(request["text"], voice, request["speed"])
        exit_after(2 * seconds)
        limit_resources(seconds, MEMORY_BYTES, MAX_FILE_BYTES)
        try:
            send(result=_speak(send, **request))
        except (ImportError, OSError) as error:
            send(missing=str(getattr(error, "name", None) or error))
        except Exception:  # noqa: BLE001 - logged by the parent
            send(fault=traceback.format_exc())


def _speak(
    send: Callable[..., None], text: str, voice: str, speed: float, folder: str
) -> dict[str, Any]:
    chosen = find_voice(voice, None)
    rate, sentences = chosen.sample_rate, spoken_sentences(text, chosen.language)
    speak = load_engine(chosen, min(cpu_count(), MAX_THREADS))
    most = int(rate * MAX_SECONDS_PER_CHARACTER / speed * (len(text) + 100))
    length = int(LEAD_SECONDS * rate)
    parts = [np.zeros(length, np.float32)]
    phonemes: list[TimedPhoneme] = []
    for number, sentence in enumerate(sentences):
        for piece in speak(sentence.text, speed):
            offset = length / rate
            phonemes += [(s, offset + start, offset + end) for s, start, end in piece.phonemes]
            parts += [piece.samples, np.zeros(int(CLAUSE_PAUSE / speed * rate), np.float32)]
            length += len(parts[-1]) + len(parts[-2])
            if length > most:
                return {"problem": "too long"}
        parts.append(np.zeros(int((sentence.pause - CLAUSE_PAUSE) / speed * rate), np.float32))
        length += len(parts[-1])
        send(done=number + 1, of=len(sentences))
    samples = np.concatenate(parts[:-2]) if parts[:-2] else np.zeros(0, np.float32)
    if len(samples) < rate // 25 or float(np.abs(samples).max()) < 1e-3:
        return {"problem": "silent"}
    samples = normalise(samples, rate)
    with wave.open(str(Path(folder, SOUND)), "wb") as file:
        file.setparams((1, 2, rate, 0, "NONE", ""))
        file.writeframes((samples * 32767).astype("<i2").tobytes())
    rounded = [(symbol, round(start, 3), round(end, 3)) for symbol, start, end in phonemes]
    if rounded:
        append_phonemes(Path(folder, SOUND), rounded)
    return {"phonemes": rounded, "seconds": len(samples) / rate}


if __name__ == "__main__":
    import onnxruntime  # noqa: F401 - once for all children

    fork_server.serve(main)
