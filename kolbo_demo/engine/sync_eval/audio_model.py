"""The judge's model of expected lip motion, independent of the renderer's.

Ridge regression from audio (log-mel bands and the recogniser's posteriors, 0.3 s either way) to
opening, width and height of real people's lips. `fitting/judge.py` fits it.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache, cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kolbo_demo.data_files import ASSETS
from kolbo_demo.engine.speech_features import HOP_SECONDS, SAMPLE_RATE, loudness

Array = NDArray[np.float32]

MODEL_PATH = ASSETS / "judge.npz"
LIP_CHANNELS = ("opening", "width", "height")
"""Distances between inner lips, corners, and outer edges."""

MEL_BANDS, MIN_HZ, MAX_HZ, WINDOW_SAMPLES, FFT_SIZE = 32, 60.0, 7600.0, 400, 512
POWER_FLOOR = 3e-8
MEL_CONTEXT_HOPS = range(-30, 31, 3)
TOKEN_CONTEXT_HOPS = range(-24, 37, 4)
"""Input hops (10 ms) around an output. The recogniser's peaks lag the sound."""

CHUNK_SECONDS, MARGIN_SECONDS = 30, 1
"""Processed at once, and context on either side: memory stays constant."""
HOPS_PER_FRAME = 2
"""Hops per output frame of the recogniser."""
CONFIDENT_POSTERIOR, MIN_POSTERIOR = 0.5, 0.2
"""Posterior of a reliable phoneme, and of a peak that counts with its neighbours' mass."""
SPEECH_RANGE_DB = 38.0
"""Speech is at most this far below the loud parts (95th percentile)."""
SILENCE_DB = -62.0
"""Speech exceeds this level, dBFS."""
MIN_PHONEMES, MIN_PHONEME_RATE = 4, 1.2
"""Reliable phonemes in speech, in total and per second of sound."""

BILABIAL_LAGS = {"p": -0.11, "pʰ": -0.11, "b": -0.12, "m": -0.095}
ROUNDED_LAGS = {"w": -0.11, "u": -0.05, "ʊ": -0.05, "ju": -0.05, "o": -0.07, "oʊ": -0.07}
SPREAD_LAGS: Mapping[str, float] = dict.fromkeys(("i", "ɪ", "e", "eɪ", "ɛ", "æ"), -0.07)
"""Seconds from the recogniser's peak to the extreme of people's lips, means over 82 speakers. Lags
are negative: a closure is over when it is recognised."""


@dataclass(frozen=True)
class LipModel:
    """Weights by context hop: `mel` (21, bands, 3), `tokens` (16, symbols, 3), `bias` (3,);
    `symbols` are the recogniser's tokens; `calibration` (3,) maps `measures.confidence_features`
    to the log odds that lips and sound belong together."""

    symbols: tuple[str, ...]
    mel: Array
    tokens: Array
    bias: Array
    calibration: Array

    @classmethod
    @cache
    def load(cls) -> "LipModel":
        """The shipped model."""
        with np.load(MODEL_PATH) as file:
            return cls(
                tuple(str(symbol) for symbol in file["symbols"]),
                *(file[name].astype(np.float32) for name in ("mel", "tokens", "bias", "trust")),
            )


@dataclass(frozen=True)
class SoundFeatures:
    """Audio features every 10 ms: `level` (n,) in dBFS, `mel` (n, bands) standardised over the
    recording; `posteriors` (n / 2, tokens) every 20 ms."""

    level: Array
    mel: Array
    posteriors: Array

    @property
    def seconds(self) -> float:
        """Of the recording."""
        return len(self.level) * HOP_SECONDS

    @cached_property
    def speaking(self) -> NDArray[np.bool_]:
        """(n,): whether the level is that of speech."""
        return self.level > max(float(np.percentile(self.level, 95)) - SPEECH_RANGE_DB, SILENCE_DB)

    @cached_property
    def has_speech(self) -> bool:
        """Whether there are enough reliable phonemes."""
        phoneme_tokens = [i for i, symbol in enumerate(token_names()) if not symbol.startswith("<")]
        confident = self.posteriors[:, phoneme_tokens].max(1, initial=0.0) > CONFIDENT_POSTERIOR
        count = int((confident[1:] & ~confident[:-1]).sum())
        seconds = HOP_SECONDS * float(self.speaking.sum())
        return count >= max(MIN_PHONEMES, MIN_PHONEME_RATE * seconds)

    def event_times(self, lags: Mapping[str, float]) -> NDArray[np.float64]:
        """Times in order, seconds, at which real lips reach the extremes of these phonemes."""
        times: list[float] = []
        for lag in sorted(set(lags.values())):
            tokens = [token_names().index(symbol) for symbol in lags if lags[symbol] == lag]
            mass = self.posteriors[:, tokens].sum(1)
            before, after = np.append(0.0, mass[:-1]), np.append(mass[1:], 0.0)
            peaks = (mass >= MIN_POSTERIOR) & (mass >= before) & (mass > after)
            peaks &= before + mass + after >= 0.3
            times += (np.flatnonzero(peaks) * HOPS_PER_FRAME * HOP_SECONDS + lag).tolist()
        return np.array(sorted(t for t in times if t >= 0))

    def expected_lips(self, model: LipModel) -> Array:
        """(n, 3): expected LIP_CHANNELS every 10 ms, in standard deviations."""
        out: Array = np.tile(model.bias, (len(self.mel), 1)).astype(np.float32)
        for weights, hop in zip(model.mel, MEL_CONTEXT_HOPS, strict=True):
            out += _shift_rows(self.mel @ weights, hop)
        tokens = self.token_features(model.symbols)
        for weights, hop in zip(model.tokens, TOKEN_CONTEXT_HOPS, strict=True):
            out += _shift_rows(tokens @ weights, hop)
        return out

    def token_features(self, symbols: tuple[str, ...]) -> Array:
        """(n, symbols): smoothed posteriors of these tokens every 10 ms."""
        chosen = self.posteriors[:, [token_names().index(symbol) for symbol in symbols]]
        position = np.arange(len(self.mel)) / HOPS_PER_FRAME
        low = np.minimum(position.astype(int), len(chosen) - 1)
        high = np.minimum(low + 1, len(chosen) - 1)
        fraction = (position - np.floor(position))[:, None]
        smooth = _smooth_rows(chosen)
        return (smooth[low] * (1 - fraction) + smooth[high] * fraction).astype(np.float32)


def extract_sound_features(wave: Array) -> SoundFeatures:
    """Features of a 16 kHz mono waveform of any length."""
    if len(wave) < SAMPLE_RATE // 10:
        wave = np.pad(wave, (0, SAMPLE_RATE // 10 - len(wave)))
    level = loudness(wave)
    mel = np.concatenate(list(_log_mel(wave)))[: len(level)]
    mel -= mel.mean(0)
    mel /= mel.std() + 1e-6
    return SoundFeatures(level, _smooth_rows(mel), np.concatenate(list(_posteriors(wave))))


def _log_mel(wave: Array) -> Iterator[Array]:
    """Log power in mel bands every 10 ms, by chunk."""
    bank, window = _mel_filterbank(), np.hanning(WINDOW_SAMPLES).astype(np.float32)
    hop, length = int(SAMPLE_RATE * HOP_SECONDS), CHUNK_SECONDS * SAMPLE_RATE
    for start in range(0, len(wave), length):
        context_start = start - WINDOW_SAMPLES // 2
        piece = wave[max(context_start, 0) : start + length + WINDOW_SAMPLES]
        piece = np.pad(piece, (max(-context_start, 0), WINDOW_SAMPLES))
        count = -(-min(length, len(wave) - start) // hop)
        frames = np.lib.stride_tricks.sliding_window_view(piece, WINDOW_SAMPLES)[::hop][:count]
        power = np.abs(np.fft.rfft(frames * window, FFT_SIZE)) ** 2
        yield np.log(power @ bank + POWER_FLOOR).astype(np.float32)


@cache
def _mel_filterbank() -> Array:
    """Triangles evenly spaced in mel (O'Shaughnessy's formula), (FFT_SIZE / 2 + 1, bands)."""
    low, high = (2595 * np.log10(1 + hz / 700) for hz in (MIN_HZ, MAX_HZ))
    edges = 700 * (10 ** (np.linspace(low, high, MEL_BANDS + 2) / 2595) - 1)
    hz = np.fft.rfftfreq(FFT_SIZE, 1 / SAMPLE_RATE)[:, None]
    rise = (hz - edges[:-2]) / (edges[1:-1] - edges[:-2])
    fall = (edges[2:] - hz) / (edges[2:] - edges[1:-1])
    return np.maximum(0, np.minimum(rise, fall)).astype(np.float32)


@cache
def _recogniser() -> Any:
    from hama import ASRModel  # a native library that some platforms lack

    return ASRModel()


@cache
def token_names() -> tuple[str, ...]:
    """The recogniser's tokens in the order of its posteriors; `<...>` are not phonemes."""
    return tuple(_recogniser().decoder_tokens)


def _posteriors(wave: Array) -> Iterator[Array]:
    """The recogniser's posteriors every 20 ms, by chunk."""
    model = _recogniser()
    # Private API: the public one returns the best token only.
    names = [model._log_probs_output_name, model._out_lengths_output_name]
    samples_per_frame = SAMPLE_RATE * HOPS_PER_FRAME // round(1 / HOP_SECONDS)
    for start in range(0, len(wave), CHUNK_SECONDS * SAMPLE_RATE):
        context_start = max(start - MARGIN_SECONDS * SAMPLE_RATE, 0)
        piece = wave[context_start : start + (CHUNK_SECONDS + MARGIN_SECONDS) * SAMPLE_RATE]
        if len(piece) < SAMPLE_RATE // 10:
            piece = np.pad(piece, (0, SAMPLE_RATE // 10 - len(piece)))
        inputs = {
            model._waveform_input_name: piece[None],
            model._waveform_lengths_input_name: np.array([len(piece)], np.int64),
        }
        log_probs, counts = model.session.run(names, inputs)
        posteriors = np.exp(np.asarray(log_probs, np.float32)[0][: int(np.ravel(counts)[0])])
        first = (start - context_start) // samples_per_frame
        last = start + CHUNK_SECONDS * SAMPLE_RATE >= len(wave)
        yield posteriors[
            first : None if last else first + CHUNK_SECONDS * SAMPLE_RATE // samples_per_frame
        ]


def _smooth_rows(values: Array) -> Array:
    """Rows smoothed by a Gaussian with a standard deviation of one row."""
    weights = np.exp(-0.5 * np.arange(-3, 4) ** 2)
    weights = (weights / weights.sum()).astype(np.float32)
    padded = np.pad(values, ((3, 3), (0, 0)), "edge")
    return sum(w * padded[i : i + len(values)] for i, w in enumerate(weights))  # type: ignore[return-value]


def _shift_rows(values: Array, hops: int) -> Array:
    """Each row replaced by the one `hops` later, the ends repeated."""
    return values[np.clip(np.arange(len(values)) + hops, 0, len(values) - 1)]
