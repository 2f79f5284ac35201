"""What a sound makes lips do, as the judge knows it: its own model, none of the renderer's.

A ridge regression from the sound (log-mel bands and the recogniser's posteriors, 0.3 s either way)
to how far real people's lips are open, how wide, and how high over all. `fitting/judge.py` fits it.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache, cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kolbo_demo.data_files import ASSETS
from kolbo_demo.engine.speech_features import HOP, RATE, loudness

Array = NDArray[np.float32]

MODEL = ASSETS / "judge.npz"
CHANNELS = ("opening", "width", "height")
"""What is expected of the lips: inner lips apart, corner to corner, outer edge to outer edge."""

BANDS, LOWEST, HIGHEST, WINDOW, POINTS = 32, 60.0, 7600.0, 400, 512
"""Mel bands, their range in Hz, samples of a window, points of its transform."""
FLOOR = 3e-8
MEL_REACH = range(-30, 31, 3)
TOKEN_REACH = range(-24, 37, 4)
"""Hops (10 ms) around a moment that are heard. The recogniser's peaks trail the sound."""

CHUNK, MARGIN = 30, 1
"""Seconds recognised at once, and heard on either side: memory stays constant."""
STEPS = 2
"""Hops between two answers of the recogniser."""
SURE, FAINT = 0.5, 0.2
"""Posterior of a sound that surely was spoken, and the least of one that counts with its
neighbours' mass."""
QUIET = 38.0
"""Decibels under the loud parts (95th percentile) at which nobody is speaking."""
SILENT = -62.0
"""Decibels of full scale that no speech stays under."""
LEAST_SOUNDS, LEAST_RATE = 4, 1.2
"""Sure sounds, in all and a second of sound, under which nobody is taken to speak."""

CLOSED = {"p": -0.11, "pʰ": -0.11, "b": -0.12, "m": -0.095}
ROUND = {"w": -0.11, "u": -0.05, "ʊ": -0.05, "ju": -0.05, "o": -0.07, "oʊ": -0.07}
SPREAD: Mapping[str, float] = dict.fromkeys(("i", "ɪ", "e", "eɪ", "ɛ", "æ"), -0.07)
"""Seconds from the recogniser's peak to the extreme of real people's lips, means over 82 speakers:
a closure is over when it is recognised."""


@dataclass(frozen=True)
class Model:
    """Weights by hop of reach: `mel` (21, bands, 3), `tokens` (16, symbols, 3), `bias` (3,);
    `symbols` names the recogniser's tokens; `trust` (3,) turns strength, length and a constant
    into the log odds that lips and sound belong together."""

    symbols: tuple[str, ...]
    mel: Array
    tokens: Array
    bias: Array
    trust: Array

    @classmethod
    @cache
    def load(cls) -> "Model":
        """The model that ships."""
        with np.load(MODEL) as file:
            return cls(
                tuple(str(symbol) for symbol in file["symbols"]),
                *(file[name].astype(np.float32) for name in ("mel", "tokens", "bias", "trust")),
            )


@dataclass(frozen=True)
class Sound:
    """What is heard, every 10 ms: `level` (n,) in dB, `mel` (n, bands) standardised over the
    recording, `posteriors` (n / 2, tokens) every 20 ms."""

    level: Array
    mel: Array
    posteriors: Array

    @property
    def seconds(self) -> float:
        """Of the recording."""
        return len(self.level) * HOP

    @cached_property
    def speaking(self) -> NDArray[np.bool_]:
        """(n,): whether there is sound at all, every 10 ms."""
        return self.level > max(float(np.percentile(self.level, 95)) - QUIET, SILENT)

    @cached_property
    def speech(self) -> bool:
        """Whether somebody speaks: sounds recognised surely, and often enough."""
        plain = [i for i, symbol in enumerate(token_names()) if not symbol.startswith("<")]
        sure = self.posteriors[:, plain].max(1, initial=0.0) > SURE
        count = int((sure[1:] & ~sure[:-1]).sum())
        return count >= LEAST_SOUNDS and count >= LEAST_RATE * HOP * float(self.speaking.sum())

    def moments(self, sounds: Mapping[str, float]) -> NDArray[np.float64]:
        """Seconds, in order, at which real lips would be where these sounds take them."""
        times: list[float] = []
        for lag in sorted(set(sounds.values())):
            alike = [token_names().index(symbol) for symbol in sounds if sounds[symbol] == lag]
            mass = self.posteriors[:, alike].sum(1)
            wide = np.pad(mass, 1)
            wide = wide[:-2] + wide[1:-1] + wide[2:]
            before, after = np.append(0.0, mass[:-1]), np.append(mass[1:], 0.0)
            peaks = (mass >= FAINT) & (mass >= before) & (mass > after) & (wide >= 0.3)
            times += [float(t) for t in np.flatnonzero(peaks) * STEPS * HOP + lag if t >= 0]
        return np.array(sorted(times))

    def expected(self, model: Model) -> Array:
        """(n, 3): what real lips would do, every 10 ms, in standard deviations (see CHANNELS)."""
        out: Array = np.tile(model.bias, (len(self.mel), 1)).astype(np.float32)
        for weights, hop in zip(model.mel, MEL_REACH, strict=True):
            out += _shifted(self.mel @ weights, hop)
        heard = self.token_inputs(model.symbols)
        for weights, hop in zip(model.tokens, TOKEN_REACH, strict=True):
            out += _shifted(heard @ weights, hop)
        return out

    def token_inputs(self, symbols: tuple[str, ...]) -> Array:
        """(n, symbols): the posteriors of these tokens every 10 ms, a little smoothed."""
        chosen = self.posteriors[:, [token_names().index(symbol) for symbol in symbols]]
        at = np.arange(len(self.mel)) / STEPS
        low = np.minimum(at.astype(int), len(chosen) - 1)
        high = np.minimum(low + 1, len(chosen) - 1)
        part = (at - np.floor(at))[:, None]
        smooth = _smoothed(chosen)
        return (smooth[low] * (1 - part) + smooth[high] * part).astype(np.float32)


def hear(wave: Array) -> Sound:
    """A 16 kHz mono waveform of any length as the judge hears it."""
    if len(wave) < RATE // 10:
        wave = np.pad(wave, (0, RATE // 10 - len(wave)))
    level = loudness(wave)
    mel = np.concatenate(list(_log_mel(wave)))[: len(level)]
    mel -= mel.mean(0)
    mel /= mel.std() + 1e-6
    return Sound(level, _smoothed(mel), np.concatenate(list(_posteriors(wave))))


def _log_mel(wave: Array) -> Iterator[Array]:
    """Log power in mel bands around every 10 ms, a chunk at a time."""
    bank, window = _bank(), np.hanning(WINDOW).astype(np.float32)
    hop, length = int(RATE * HOP), CHUNK * RATE
    for start in range(0, len(wave), length):
        begin = start - WINDOW // 2
        piece = wave[max(begin, 0) : start + length + WINDOW]
        piece = np.pad(piece, (max(-begin, 0), WINDOW))
        count = -(-min(length, len(wave) - start) // hop)
        frames = np.lib.stride_tricks.sliding_window_view(piece, WINDOW)[::hop][:count]
        power = np.abs(np.fft.rfft(frames * window, POINTS)) ** 2
        yield np.log(power @ bank + FLOOR).astype(np.float32)


@cache
def _bank() -> Array:
    """Triangles even on the mel scale (O'Shaughnessy's formula), (points / 2 + 1, bands)."""
    low, high = (2595 * np.log10(1 + hz / 700) for hz in (LOWEST, HIGHEST))
    edges = 700 * (10 ** (np.linspace(low, high, BANDS + 2) / 2595) - 1)
    hz = np.fft.rfftfreq(POINTS, 1 / RATE)[:, None]
    rise = (hz - edges[:-2]) / (edges[1:-1] - edges[:-2])
    fall = (edges[2:] - hz) / (edges[2:] - edges[1:-1])
    return np.maximum(0, np.minimum(rise, fall)).astype(np.float32)


@cache
def _recogniser() -> Any:
    from hama import ASRModel  # a native library that some platforms lack

    return ASRModel()


@cache
def token_names() -> tuple[str, ...]:
    """The recogniser's tokens in the order of its posteriors; `<...>` are no sounds."""
    return tuple(_recogniser().decoder_tokens)


def _posteriors(wave: Array) -> Iterator[Array]:
    """The recogniser's own probabilities, every 20 ms, a chunk at a time."""
    model = _recogniser()
    # The one thing its public door does not give: it answers with the best token only.
    names = [model._log_probs_output_name, model._out_lengths_output_name]
    step = RATE * STEPS // round(1 / HOP)
    for start in range(0, len(wave), CHUNK * RATE):
        begin = max(start - MARGIN * RATE, 0)
        piece = wave[begin : start + (CHUNK + MARGIN) * RATE]
        if len(piece) < RATE // 10:
            piece = np.pad(piece, (0, RATE // 10 - len(piece)))
        feeds = {
            model._waveform_input_name: piece[None],
            model._waveform_lengths_input_name: np.array([len(piece)], np.int64),
        }
        log_probs, counts = model.session.run(names, feeds)
        answers = np.exp(np.asarray(log_probs, np.float32)[0][: int(np.ravel(counts)[0])])
        first = (start - begin) // step
        last = start + CHUNK * RATE >= len(wave)
        yield answers[first : None if last else first + CHUNK * RATE // step]


def _smoothed(values: Array) -> Array:
    """Each row with its neighbours: a Gaussian of one row."""
    weights = np.exp(-0.5 * np.arange(-3, 4) ** 2)
    weights = (weights / weights.sum()).astype(np.float32)
    wide = np.pad(values, ((3, 3), (0, 0)), "edge")
    return sum(w * wide[i : i + len(values)] for i, w in enumerate(weights))  # type: ignore[return-value]


def _shifted(values: Array, hops: int) -> Array:
    """The rows `hops` later than each row, the ends repeated."""
    return values[np.clip(np.arange(len(values)) + hops, 0, len(values) - 1)]
