"""Sound to phonemes in time, to loudness, and to what learned mouth curves make of it.

Phonemes come from hama's recogniser (English-minded, yet useful on any language: it says which
English sound is nearest). Its peaks trail the sound and its spans swallow silence, so both are put
right here by the sound's own energy. The same hearing feeds the learned curves.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from kolbo_demo.engine.motion_model import mean_spectrum, motion, spectrum
from kolbo_demo.engine.phoneme_model import RATE, STEP, recogniser
from kolbo_demo.process.free_memory import release_memory

HOP = 0.01
"""Seconds between two values of `loudness`."""

LAG = 0.06
"""Seconds by which the recogniser's spans trail the sound."""
LONGEST = 0.34
"""Seconds: a span longer than this holds silence or a neighbour."""
GAP = 0.06
"""Seconds: a shorter gap between spans belongs to the sound before it."""
QUIET = 38.0
"""Decibels under the loud parts (95th percentile) at which nobody is speaking."""

CHUNK, MARGIN = 1500, 60
"""Frames of 20 ms recognised at once, and heard on either side of it: memory stays constant."""

DIPHTHONGS = {
    "aɪ": ("a", "ɪ"), "aʊ": ("a", "ʊ"), "eɪ": ("e", "ɪ"), "oʊ": ("o", "ʊ"), "ɔɪ": ("ɔ", "ɪ"),
    "eə": ("e", "ə"), "ɪə": ("ɪ", "ə"), "ja": ("j", "a"), "je": ("j", "e"), "jo": ("j", "o"),
    "ju": ("j", "u"), "jʌ": ("j", "ʌ"), "wa": ("w", "a"), "we": ("w", "e"), "wi": ("w", "i"),
    "wʌ": ("w", "ʌ"), "ɯi": ("ɯ", "i"),
}  # fmt: skip
GLIDES = ("j", "w")
FIRST_PART = 0.6
"""How much of a diphthong its first vowel takes; a glide takes the rest of it."""


@dataclass(frozen=True)
class Phoneme:
    """One sound: an IPA symbol and when it is heard, in seconds."""

    symbol: str
    start: float
    end: float

    @property
    def centre(self) -> float:
        """Seconds."""
        return (self.start + self.end) / 2


def loudness(wave: NDArray[np.float32]) -> NDArray[np.float32]:
    """Root mean square in decibels (full scale = 0) of each 10 ms, at least one value."""
    hop = int(RATE * HOP)
    padded = np.pad(wave, (0, max(-len(wave) % hop, hop if len(wave) == 0 else 0)))
    power = np.mean(np.square(padded.reshape(-1, hop), dtype=np.float32), axis=1)
    return (10 * np.log10(power + 1e-10)).astype(np.float32)


def threshold(level: NDArray[np.float32]) -> float:
    """Decibels under which a loudness curve counts as silence."""
    return max(float(np.percentile(level, 95)) - QUIET, -65.0)


@dataclass(frozen=True)
class Heard:
    """What a voice gives the mouth."""

    sounds: list[Phoneme]
    """The sounds spoken, in order, silences left out."""
    level: NDArray[np.float32]
    """`loudness`."""
    curves: dict[str, NDArray[np.float32]]
    """Learned curves by name (see `motion.Motion`), a value each 20 ms from 0 on; empty where there
    is no sound at all."""


@dataclass(frozen=True)
class Features:
    """What is kept of a recording while it is listened to: a quarter of its samples' room."""

    duration: float
    """Seconds."""
    level: NDArray[np.float32]
    """`loudness`."""
    mels: NDArray[np.float16]
    """Log mel bands (n, 80) each 10 ms."""

    @classmethod
    def of(cls, pieces: Iterable[NDArray[np.float32]]) -> "Features":
        """From a 16 kHz mono waveform in pieces (`sound.read_voice`): whole hops but for the last,
        so that the samples of a long voice are never held together."""
        levels, samples = [], 0

        def passing() -> Iterator[NDArray[np.float32]]:
            nonlocal samples
            for piece in pieces:
                samples += len(piece)
                levels.append(loudness(piece))
                yield piece

        mels = recogniser().mels(passing())
        return cls(samples / RATE, np.concatenate(levels), mels)


def hear(voice: NDArray[np.float32] | Features, go_on: Callable[[], None] | None = None) -> Heard:
    """All that the mouth follows, out of a 16 kHz mono waveform, or of what is kept of it.

    `go_on` is called several times for each piece of CHUNK frames and may raise, to end it."""
    features = voice if isinstance(voice, Features) else Features.of([voice])
    level, mels = features.level, features.mels
    if float(level.max()) < -65.0:
        return Heard([], level, {})
    model, learned = recogniser(), motion()
    mean, count = mean_spectrum(mels), (len(mels) + 1) // 2
    emitted: list[tuple[int, str]] = []
    curves = []
    for start in range(0, count, CHUNK):
        if go_on is not None:
            go_on()
        if start:
            release_memory()
        first, last = max(start - MARGIN, 0), start + CHUNK + MARGIN
        piece = mels[2 * first : 2 * last]
        layers, odds = model.hear(piece)
        # Each moment belongs to one chunk: the one in which it is not margin.
        emitted += [
            (first + at, symbol)
            for at, symbol in model.emitted(odds)
            if start <= first + at < start + CHUNK
        ]
        made = learned(spectrum(piece, mean), layers, go_on)
        curves.append(made[:, start - first :][:, :CHUNK])
    spans = [part for span in _trimmed(_spans(emitted, count), level) for part in _parts(span)]
    return Heard(spans, level, dict(zip(learned.names, np.concatenate(curves, 1), strict=True)))


def _spans(emitted: list[tuple[int, str]], end: int) -> list[Phoneme]:
    """From each emission to the next, moved onto the sound; word ends left out."""
    edges = [at for at, _ in emitted] + [end]
    return [
        Phoneme(symbol, max(edges[i] * STEP - LAG, 0.0), max(edges[i + 1] * STEP - LAG, 0.0))
        for i, (_, symbol) in enumerate(emitted)
        if symbol != "<wb>"
    ]


def _trimmed(spans: list[Phoneme], level: NDArray[np.float32]) -> Iterator[Phoneme]:
    """Spans without the silence they swallowed, short gaps closed."""
    speaking = level > threshold(level)
    for index, span in enumerate(spans):
        following = spans[index + 1].start if index + 1 < len(spans) else np.inf
        end = following if 0 <= following - span.end < GAP else span.end
        start, end = span.start, min(end, following, span.start + LONGEST)
        first, last = int(start / HOP), max(int(np.ceil(end / HOP)), int(start / HOP) + 1)
        loud = np.flatnonzero(speaking[first:last])
        if len(loud) == 0:
            # A stop's hold is silent: keep it where sound follows at once.
            if speaking[last : last + 8].any():
                yield Phoneme(span.symbol, start, end)
            continue
        tail = (first + int(loud[-1]) + 1) * HOP
        if end - tail > 0.04:
            end = max(tail, start + 0.03)
        yield Phoneme(span.symbol, start, end)


def _parts(span: Phoneme) -> Iterator[Phoneme]:
    """A diphthong as its two vowels, anything else as it is."""
    if span.symbol not in DIPHTHONGS:
        yield span
        return
    one, two = DIPHTHONGS[span.symbol]
    share = 1 - FIRST_PART if one in GLIDES else FIRST_PART
    middle = span.start + share * (span.end - span.start)
    yield Phoneme(one, span.start, middle)
    yield Phoneme(two, middle, span.end)
