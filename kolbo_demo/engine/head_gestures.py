"""Head rotation of a person who says what a voice says, by a generative model of people.

A head moves in strokes between postures. The model (`python -m fitting head`) has the statistics of
postures, durations and sizes; the voice sets when strokes happen: they lead it, fall on stressed
syllables and rest with it. `assets/head.npz` holds the fitted numbers.
"""

from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from kolbo_demo.data_files import ASSETS
from kolbo_demo.engine.smoothing import smoothed
from kolbo_demo.engine.speech_features import HOP_SECONDS, silence_threshold

Array = NDArray[np.float64]

MODEL_PATH = ASSETS / "head.npz"

SPREAD_DEGREES = (2.5, 3.0, 1.8)
"""Standard deviation of pitch, yaw and roll in WINDOW_SECONDS of speech."""
SPEED_DEGREES = (6.6, 7.4, 4.8)
"""Mean speed of pitch, yaw and roll, degrees a second."""
SPEED_TOLERANCE, MAX_DRAWS = 0.15, 12
"""Motions are drawn until all speeds are so near to SPEED_DEGREES, by their logarithms; if none is,
the nearest is used."""
WINDOW_SECONDS = 8.0
MIN_SPREAD = 0.4
"""Of the model's postures, in its own units: motion of less is not scaled up to SPREAD_DEGREES."""
TEMPO = 0.65
"""Strokes take so much of the fitted durations, which were measured on smoothed motion."""
MAX_SPREADS = 2.5
"""Largest turn from the picture's own pose, in standard deviations."""
MAX_SPEED = 50.0
"""Degrees a second; the motion is scaled down if any is faster."""
SECONDS_PER_SPREAD = 0.12
"""Least duration of a stroke, by its size in standard deviations."""
NOD_DEGREES = 1.6
"""Drop of the chin on the most stressed syllables."""
LEAD_SECONDS = 0.2
"""Strokes lead the voice's energy, in people by 0.24 s."""
ADVANCE_SECONDS = 0.25
"""Time by which strokes are shown earlier, since they end after the energy that made them."""
MIN_PAUSE_SECONDS = 0.3
"""A shorter pause is no rest."""
SNAP_SECONDS = 0.12
"""Longest shift of a stroke's middle to a stressed syllable."""
SMOOTHING_SECONDS = 0.05
START_SECONDS, END_SECONDS = 0.6, 0.9
"""Time in which motion begins at the picture's own pose, and returns to it."""


@dataclass(frozen=True)
class GestureModel:
    """Statistics of strokes, for pitch, yaw and roll in units of a speaker's spread."""

    previous: Array
    """(2, 3, 3): the mean next posture is the last one times [0], plus that before it times [1]."""
    covariance: Array
    """(3, 3) of the remainder."""
    size_spread: float
    """Standard deviation of the logarithm of the remainder's size beyond that of a Gaussian."""
    energy_gain: float
    """Change of the logarithm of a stroke's size with the voice's energy (standard deviations)."""
    duration: Array
    """(3,): the logarithm of a stroke's seconds is [0] + [1] log(its size) + [2] noise."""

    @classmethod
    def load(cls, path: Path) -> "GestureModel":
        with np.load(path) as stored:
            return cls(
                stored["previous"], stored["covariance"], float(stored["size_spread"]),
                float(stored["energy_gain"]), stored["duration"],
            )  # fmt: skip


@cache
def gesture_model() -> GestureModel:
    """The shipped model."""
    return GestureModel.load(MODEL_PATH)


def head_angles(
    level: NDArray[np.float32],
    stress: Array,
    fps: float,
    frames: int,
    random: np.random.Generator,
    model: GestureModel | None = None,
) -> Array:
    """Pitch, yaw and roll relative to the picture's own pose, radians (frames, 3).

    `level` is the voice's loudness in decibels each 10 ms, `stress` 0-1 that of its syllables.
    Positive pitch lowers the chin, yaw turns to the picture's right, roll is clockwise.
    """
    model = model or gesture_model()
    time = np.arange(frames) / fps
    seconds = frames / fps
    energy, resting = _energy(level)
    nods = NOD_DEGREES * np.interp(time, np.arange(len(stress)) * HOP_SECONDS, stress)
    best: Array = np.zeros((frames, 3))
    least = np.inf
    for _ in range(MAX_DRAWS if frames > 1 else 0):
        until = seconds + ADVANCE_SECONDS
        knots, postures = _strokes(model, energy, resting, stress, until, random)
        angles = np.stack([_through(knots, one, time + ADVANCE_SECONDS) for one in postures.T], 1)
        angles = _scaled(angles, nods, time, seconds, fps)
        speed = np.abs(np.diff(angles, axis=0)).mean(0) * fps
        error = float(np.abs(np.log(np.maximum(speed, 1e-6) / SPEED_DEGREES)).max())
        if error < least:
            best, least = angles, error
        if least < SPEED_TOLERANCE:
            break
    return np.radians(best)


def _scaled(angles: Array, nods: Array, time: Array, seconds: float, fps: float) -> Array:
    """Postures (frames, 3) as degrees of people's spread, with nods, from and to a head at rest."""
    smooth = [smoothed(one, SMOOTHING_SECONDS * fps, "edge") for one in angles.T]
    angles = np.stack(smooth, 1).astype(np.float64)
    envelope = _smooth(time / START_SECONDS) * _smooth((seconds - time) / END_SECONDS)
    # A head that rests, as the voice does, is not scaled up.
    angles *= np.array(SPREAD_DEGREES) / np.maximum(angles.std(0), MIN_SPREAD)
    angles[:, 0] += nods - nods.mean()
    limit = MAX_SPREADS * np.array(SPREAD_DEGREES)
    angles = limit * np.tanh(angles / limit) * envelope[:, None]
    angles *= np.array(SPREAD_DEGREES) / _windowed_spread(angles, fps)
    top = float(np.abs(np.diff(angles, axis=0)).max(initial=0.0)) * fps
    return angles * min(1.0, MAX_SPEED / max(top, 1e-9))


def _energy(level: NDArray[np.float32]) -> tuple[Array, NDArray[np.bool_]]:
    """The voice's smooth energy in standard deviations, and whether it rests, each 10 ms."""
    audible = np.maximum(level, np.percentile(level, 95) - 35).astype(np.float64)
    smooth = smoothed(audible, 8.0, "symmetric")
    spoken = level > silence_threshold(level)
    reach = round(MIN_PAUSE_SECONDS / HOP_SECONDS / 2)
    near = np.convolve(spoken, np.ones(2 * reach + 1), "same") > 0
    # Closing: a pause shorter than the window disappears, a longer one keeps its length.
    closed = np.convolve(~near, np.ones(2 * reach + 1), "same") > 0
    return (smooth - smooth.mean()) / max(float(smooth.std()), 1.0), closed


def _strokes(
    model: GestureModel,
    energy: Array,
    resting: NDArray[np.bool_],
    stress: Array,
    seconds: float,
    random: np.random.Generator,
) -> tuple[Array, Array]:
    """Times (n,) and postures (n, 3) between which the head moves, from before 0 to the end."""
    root = np.linalg.cholesky(model.covariance)
    times, postures = [-0.5, 0.0], [np.zeros(3), np.zeros(3)]

    def at(values: NDArray, time: float) -> int:
        return int(np.clip(round(time / HOP_SECONDS), 0, len(values) - 1))

    while times[-1] < seconds:
        start = times[-1]
        here = at(resting, start + LEAD_SECONDS)
        if resting[here]:
            ahead = np.flatnonzero(~resting[here:])
            wake = start + (float(ahead[0]) * HOP_SECONDS if len(ahead) else seconds)
            if wake > start + 0.1:
                # A head at rest sinks back half of its way to the picture's own pose.
                times.append(wake)
                postures.append(0.8 * postures[-1])
                continue
        draw = root @ random.standard_normal(3)
        size = np.exp(model.size_spread * random.standard_normal())
        size *= np.exp(model.energy_gain * energy[at(energy, start + LEAD_SECONDS)])
        last, before = postures[-1], postures[-2]
        goal = model.previous[0] @ last + model.previous[1] @ before + size * draw
        way = float(np.linalg.norm(goal - last)) + 0.02
        log_seconds = model.duration[:2] @ (1.0, np.log(way))
        length = float(np.exp(log_seconds + model.duration[2] * random.standard_normal()))
        length = float(np.clip(TEMPO * length, 0.2, 1.0))
        middle = start + length / 2 + LEAD_SECONDS / 2
        low, high = at(stress, middle - SNAP_SECONDS), at(stress, middle + SNAP_SECONDS) + 1
        snapped = (low + int(stress[low:high].argmax())) * HOP_SECONDS
        if stress[low:high].max() > 0.1:
            length = max(length + 2 * (snapped - middle), 0.2)
        length = max(length, SECONDS_PER_SPREAD * way)
        times.append(start + length)
        postures.append(goal)
    return np.array(times), np.array(postures)


def _through(times: Array, values: Array, at: Array) -> Array:
    """Values at times, by cubics that are at rest where the values turn around."""
    steps, slopes = np.diff(times), np.diff(values) / np.diff(times)
    same = slopes[:-1] * slopes[1:] > 0
    speed = np.zeros(len(values))
    both = np.where(same, slopes[:-1] + slopes[1:], 1.0)
    speed[1:-1] = np.where(same, 2 * slopes[:-1] * slopes[1:] / both, 0.0)
    i = np.clip(np.searchsorted(times, at, "right") - 1, 0, len(steps) - 1)
    t, h = (at - times[i]) / steps[i], steps[i]
    a, b = values[i], values[i + 1]
    rise = t * t * (3 - 2 * t)
    return a + (b - a) * rise + h * t * (1 - t) * ((1 - t) * speed[i] - t * speed[i + 1])


def _windowed_spread(angles: Array, fps: float) -> Array:
    """Median standard deviation (3,) in windows of WINDOW_SECONDS."""
    length = max(round(WINDOW_SECONDS * fps), 1)
    starts = range(0, max(len(angles) - length, 0) + 1, max(length // 4, 1))
    spreads = [angles[start : start + length].std(0) for start in starts]
    return np.maximum(np.median(spreads, axis=0), 0.8 * np.array(SPREAD_DEGREES))


def _smooth(value: Array) -> Array:
    v = np.clip(value, 0.0, 1.0)
    return v * v * (3 - 2 * v)
