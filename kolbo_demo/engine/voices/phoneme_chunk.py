"""Timed phonemes of spoken words inside their WAV file, as one more RIFF chunk.

Players and Kolbo's cloud skip the chunk; cutting or converting the file removes it. Anybody can
write one into a file, so the reader bounds and checks everything.
"""

import json
import math
import struct
from dataclasses import replace
from pathlib import Path

from kolbo_demo.engine.speech_features import Phoneme, split_diphthong
from kolbo_demo.engine.voices.pronounce import TOKENS, TimedPhoneme

CHUNK = b"kbph"
MAX_CHUNK_BYTES, MAX_CHUNKS = 1024**2, 16
RECOGNISER_LEAD_SECONDS = 0.04
"""The recogniser's phonemes, to whose times the mouth is fitted, are so much earlier."""

_IPA = {
    "A": "eɪ", "I": "aɪ", "O": "oʊ", "Q": "oʊ", "W": "aʊ", "Y": "ɔɪ", "T": "ɾ", "ʤ": "d͡ʒ",
    "ʧ": "t͡ʃ", "ʦ": "s", "ʣ": "z", "ʨ": "t͡ɕ", "ꭧ": "ʂ", "ʥ": "ʑ", "ᵻ": "ɪ", "ɡ": "ɡ",
}  # fmt: skip
_PAUSES = frozenset(' ;:,.!?—…"()“”')


def append_phonemes(path: Path, phonemes: list[TimedPhoneme]) -> None:
    """Add the chunk to a WAV file."""
    content = json.dumps(phonemes, separators=(",", ":")).encode()
    content += b" " * (len(content) % 2)
    if len(content) > MAX_CHUNK_BYTES:
        return
    with path.open("r+b") as file:
        size = file.seek(0, 2)
        file.write(CHUNK + struct.pack("<I", len(content)) + content)
        file.seek(4)
        file.write(struct.pack("<I", size + len(content)))


def read_phonemes(path: Path, duration: float) -> list[Phoneme] | None:
    """The phonemes of a file in the recogniser's symbols and times; None without a valid chunk.

    `duration` of the sound, in seconds."""
    try:
        content = _find_chunk(path)
        return None if content is None else _phonemes(json.loads(content), duration)
    except (OSError, ValueError, TypeError, RecursionError, struct.error):
        return None


def _find_chunk(path: Path) -> bytes | None:
    with path.open("rb") as file:
        head = file.read(12)
        if head[:4] != b"RIFF" or head[8:] != b"WAVE":
            return None
        for _ in range(MAX_CHUNKS):
            name, size = struct.unpack("<4sI", file.read(8))
            if name == CHUNK:
                return file.read(size) if size <= MAX_CHUNK_BYTES else None
            file.seek(size + size % 2, 1)
    return None


def _phonemes(timed: list[TimedPhoneme], duration: float) -> list[Phoneme]:
    phonemes: list[Phoneme] = []
    after, stress = 0.0, math.inf
    for symbol, first, last in timed:
        if symbol not in TOKENS or not math.isfinite(first + last):
            raise ValueError("unknown symbol or time")
        if not after - 0.01 <= first <= last <= duration + 0.1:
            raise ValueError("times out of order")
        after = last
        start, end = (max(time - RECOGNISER_LEAD_SECONDS, 0.0) for time in (first, last))
        if symbol in _PAUSES or end <= start:
            continue
        if symbol in "ˈˌ":  # the stress of the vowel that follows
            stress = start
        elif symbol.isalpha() and symbol not in "ʰʲː":
            phonemes.append(Phoneme(_IPA.get(symbol, symbol), min(start, stress), end))
            stress = math.inf
        elif phonemes:  # length, tone or nasality of the phoneme before it
            phonemes[-1] = replace(phonemes[-1], end=end)
    if not phonemes:
        raise ValueError("no phonemes")
    return [part for phoneme in phonemes for part in split_diphthong(phoneme)]
