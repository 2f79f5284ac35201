"""Features of a voice: timed phonemes, level, and learned mouth curves.

Phonemes come from hama's recogniser (trained on English; in other languages it reports the nearest
English phoneme). Its peaks lag the sound and its spans include silence; both are corrected by the
signal's level. The recogniser's layers also feed the learned curves.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from kolbo_demo.engine.motion_model import load_motion_model, mean_spectrum, spectral_inputs
from kolbo_demo.engine.phoneme_model import FRAME_SECONDS, SAMPLE_RATE, phoneme_recogniser
from kolbo_demo.process.free_memory import release_memory

HOP_SECONDS = 0.01
"""Interval of `loudness`."""

RECOGNISER_LAG_SECONDS = 0.06
MAX_PHONEME_SECONDS = 0.34
"""A longer span includes silence or a neighbour."""
MAX_GAP_SECONDS = 0.06
"""A shorter gap between spans belongs to the phoneme before it."""
SPEECH_RANGE_DB = 38.0
"""Speech is at most this far below the loud parts (95th percentile)."""

CHUNK_FRAMES, MARGIN_FRAMES = 1500, 60
"""Frames of 20 ms processed at once, and context on either side: memory stays constant."""

DIPHTHONGS = {
    "aɪ": ("a", "ɪ"), "aʊ": ("a", "ʊ"), "eɪ": ("e", "ɪ"), "oʊ": ("o", "ʊ"), "ɔɪ": ("ɔ", "ɪ"),
    "eə": ("e", "ə"), "ɪə": ("ɪ", "ə"), "ja": ("j", "a"), "je": ("j", "e"), "jo": ("j", "o"),
    "ju": ("j", "u"), "jʌ": ("j", "ʌ"), "wa": ("w", "a"), "we": ("w", "e"), "wi": ("w", "i"),
    "wʌ": ("w", "ʌ"), "ɯi": ("ɯ", "i"),
}  # fmt: skip
GLIDES = ("j", "w")
FIRST_VOWEL_SHARE = 0.6
"""Share of a diphthong's duration; a glide before a vowel takes the complement."""


@dataclass(frozen=True)
class Phoneme:
    """An IPA symbol and its span in seconds."""

    symbol: str
    start: float
    end: float

    @property
    def centre(self) -> float:
        """Seconds."""
        return (self.start + self.end) / 2


def loudness(wave: NDArray[np.float32]) -> NDArray[np.float32]:
    """RMS level in dBFS of each 10 ms of a 16 kHz waveform, at least one value."""
    hop = int(SAMPLE_RATE * HOP_SECONDS)
    padded = np.pad(wave, (0, max(-len(wave) % hop, hop if len(wave) == 0 else 0)))
    power = np.mean(np.square(padded.reshape(-1, hop), dtype=np.float32), axis=1)
    return (10 * np.log10(power + 1e-10)).astype(np.float32)


def silence_threshold(level: NDArray[np.float32]) -> float:
    """Level in dBFS below which a loudness curve counts as silence."""
    return max(float(np.percentile(level, 95)) - SPEECH_RANGE_DB, -65.0)


@dataclass(frozen=True)
class VoiceFeatures:
    """Features of a voice that drive the mouth."""

    phonemes: list[Phoneme]
    """In order, without silences."""
    level: NDArray[np.float32]
    """`loudness`."""
    curves: dict[str, NDArray[np.float32]]
    """Learned curves by name (`MotionModel.curve_names`), every 20 ms from 0 on; empty for a silent
    recording."""


@dataclass(frozen=True)
class AcousticFeatures:
    """Level and spectrum of a recording, in a quarter of the memory of its samples."""

    duration: float
    """Seconds."""
    level: NDArray[np.float32]
    """`loudness`."""
    log_mels: NDArray[np.float16]
    """(n, 80) every 10 ms."""

    @classmethod
    def from_blocks(cls, blocks: Iterable[NDArray[np.float32]]) -> "AcousticFeatures":
        """From a 16 kHz mono waveform in blocks of whole hops (`audio_io.stream_voice`), so that a
        long voice is never in memory as a whole."""
        levels, samples = [], 0

        def measured() -> Iterator[NDArray[np.float32]]:
            nonlocal samples
            for block in blocks:
                samples += len(block)
                levels.append(loudness(block))
                yield block

        mels = phoneme_recogniser().log_mels(measured())
        return cls(samples / SAMPLE_RATE, np.concatenate(levels), mels)


def extract_voice_features(
    voice: NDArray[np.float32] | AcousticFeatures, check_cancelled: Callable[[], None] | None = None
) -> VoiceFeatures:
    """Phonemes, level and learned curves of a 16 kHz mono waveform or of its acoustic features.

    `check_cancelled` is called several times per chunk and may raise."""
    if not isinstance(voice, AcousticFeatures):
        voice = AcousticFeatures.from_blocks([voice])
    level, log_mels = voice.level, voice.log_mels
    if float(level.max()) < -65.0:
        return VoiceFeatures([], level, {})
    model, motion_model = phoneme_recogniser(), load_motion_model()
    mean, count = mean_spectrum(log_mels), (len(log_mels) + 1) // 2
    emitted: list[tuple[int, str]] = []
    curves = []
    for start in range(0, count, CHUNK_FRAMES):
        if check_cancelled is not None:
            check_cancelled()
        if start:
            release_memory()
        first, last = max(start - MARGIN_FRAMES, 0), start + CHUNK_FRAMES + MARGIN_FRAMES
        chunk = log_mels[2 * first : 2 * last]
        layers, log_probs = model.infer(chunk)
        # Each frame belongs to the chunk in which it is not margin.
        emitted += [
            (first + at, symbol)
            for at, symbol in model.decode(log_probs)
            if start <= first + at < start + CHUNK_FRAMES
        ]
        chunk_curves = motion_model(spectral_inputs(chunk, mean), layers, check_cancelled)
        curves.append(chunk_curves[:, start - first :][:, :CHUNK_FRAMES])
    spans = _trim_silence(_emission_spans(emitted, count), level)
    phonemes = [part for span in spans for part in split_diphthong(span)]
    by_name = zip(motion_model.curve_names, np.concatenate(curves, 1), strict=True)
    return VoiceFeatures(phonemes, level, dict(by_name))


def _emission_spans(emitted: list[tuple[int, str]], end: int) -> list[Phoneme]:
    """Spans from each emission to the next, corrected for the lag, without word ends."""
    frames = [at for at, _ in emitted] + [end]
    edges = [max(frame * FRAME_SECONDS - RECOGNISER_LAG_SECONDS, 0.0) for frame in frames]
    return [
        Phoneme(symbol, edges[i], edges[i + 1])
        for i, (_, symbol) in enumerate(emitted)
        if symbol != "<wb>"
    ]


def _trim_silence(spans: list[Phoneme], level: NDArray[np.float32]) -> Iterator[Phoneme]:
    """Spans without the silence in them, short gaps closed."""
    speaking = level > silence_threshold(level)
    for index, span in enumerate(spans):
        following = spans[index + 1].start if index + 1 < len(spans) else np.inf
        end = following if 0 <= following - span.end < MAX_GAP_SECONDS else span.end
        start, end = span.start, min(end, following, span.start + MAX_PHONEME_SECONDS)
        first = int(start / HOP_SECONDS)
        last = max(int(np.ceil(end / HOP_SECONDS)), first + 1)
        loud = np.flatnonzero(speaking[first:last])
        if len(loud) == 0:
            # The closure of a stop is silent: retain it if sound follows at once.
            if speaking[last : last + 8].any():
                yield Phoneme(span.symbol, start, end)
            continue
        tail = (first + int(loud[-1]) + 1) * HOP_SECONDS
        if end - tail > 0.04:
            end = max(tail, start + 0.03)
        yield Phoneme(span.symbol, start, end)


def split_diphthong(span: Phoneme) -> Iterator[Phoneme]:
    """A diphthong as its two vowels, any other phoneme unchanged."""
    if span.symbol not in DIPHTHONGS:
        yield span
        return
    one, two = DIPHTHONGS[span.symbol]
    share = 1 - FIRST_VOWEL_SHARE if one in GLIDES else FIRST_VOWEL_SHARE
    middle = span.start + share * (span.end - span.start)
    yield Phoneme(one, span.start, middle)
    yield Phoneme(two, middle, span.end)
