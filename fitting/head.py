"""Fits the model of head gestures (`kolbo_demo.engine.head_gestures`) and evaluates it by speaker.

Numbers only: a posture's regression on those before it, the covariance of the remainder, and the
sizes and durations of strokes. No trajectory of a person is stored.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter1d
from scipy.signal import find_peaks

from kolbo_demo.engine.audio_io import load_voice
from kolbo_demo.engine.head_gestures import GestureModel, head_angles
from kolbo_demo.engine.idle_motion import syllable_stress
from kolbo_demo.engine.speech_features import HOP_SECONDS, SAMPLE_RATE, loudness
from kolbo_demo.engine.sync_eval.head_motion import measure_head

Array = NDArray[np.float64]

MIN_SECONDS = 4.0
SMOOTHING_SECONDS = 0.08
MIN_STROKE_SECONDS, MIN_PROMINENCE = 0.16, 0.3
"""Strokes are separated by minima of the head's speed, so far apart and so deep (spreads a second).
"""
DRAWS = 5
"""Motions of the model for each voice."""
LAGS = range(-10, 11)
"""Frames."""


@dataclass(frozen=True)
class HeadTrack:
    """A clip's rotations as points of turned axes (frames, 6, 3), and the voice's level."""

    fold: int
    fps: float
    axes: Array
    level: NDArray[np.float32]


def load_head_tracks(folder: Path) -> list[HeadTrack]:
    """Clips of MIN_SECONDS and more."""
    tracks, axes = [], np.concatenate([np.eye(3), -np.eye(3)])
    for entry in json.loads((folder / "index.json").read_text()):
        if entry["seconds"] < MIN_SECONDS:
            continue
        level = loudness(load_voice(folder / f"{entry['name']}.flac", SAMPLE_RATE))
        with np.load(folder / f"{entry['name']}.npz") as track:
            turns = track["pose"][:, :3, :3].astype(np.float64)
            points = np.einsum("nij,kj->nki", turns, axes) * (1.0, -1.0, -1.0)
            tracks.append(HeadTrack(entry["fold"], float(track["fps"]), points, level))
    return tracks


def fit(folder: Path, out: Path) -> Iterator[str]:
    """Fit to all speakers and write the model; yield figures of models that never saw a speaker."""
    tracks = load_head_tracks(folder)
    model = fit_model(tracks)
    np.savez(out, **{each.name: getattr(model, each.name) for each in fields(model)})
    held_out = {
        fold: fit_model([track for track in tracks if track.fold != fold])
        for fold in {track.fold for track in tracks}
    }
    people = [_measure(track.axes, track.fps) for track in tracks]
    ours = [
        _generate(track, held_out[track.fold], seed) for seed in range(DRAWS) for track in tracks
    ]
    for name, motions, of in (("people", people, 1), ("model, held out", ours, DRAWS)):
        yield f"{name}: {_describe(motions, of * tracks)}; {_follow(motions, of * tracks)}"


def fit_model(tracks: list[HeadTrack]) -> GestureModel:
    """The model of these clips."""
    rows = np.concatenate([list(_strokes(track)) for track in tracks])
    before, last, goal = rows[:, 0:3], rows[:, 3:6], rows[:, 6:9]
    seconds, energy = rows[:, 9], rows[:, 10]
    weights = np.linalg.lstsq(np.concatenate([last, before], 1), goal, rcond=None)[0]
    rest = goal - np.concatenate([last, before], 1) @ weights
    covariance = np.cov(rest.T)
    whitened = np.linalg.norm(np.linalg.solve(np.linalg.cholesky(covariance), rest.T), axis=0)
    log_size = np.log(whitened + 0.02)
    # The logarithm of the length of a Gaussian (3,) has variance trigamma(3 / 2) / 4.
    size_spread = float(np.sqrt(max(log_size.var() - 0.2337, 0.0)))
    way = np.log(np.linalg.norm(goal - last, axis=1) + 0.02)
    energy_gain = float(np.polyfit(energy, way, 1)[0])
    slope, start = np.polyfit(way, np.log(seconds), 1)
    noise = float(np.std(np.log(seconds) - start - slope * way))
    # A spread of sizes widens the remainder.
    covariance /= np.exp(2 * size_spread**2)
    previous = np.stack([weights[:3].T, weights[3:].T]).astype(np.float64)
    duration = np.array([start, slope, noise])
    return GestureModel(previous, covariance, size_spread, energy_gain, duration)


def _strokes(track: HeadTrack) -> Iterator[Array]:
    """Of each stroke: the posture before the last, the last and the next, seconds and energy."""
    fps = track.fps
    angles = gaussian_filter1d(_measure(track.axes, fps), SMOOTHING_SECONDS * fps, axis=0)
    angles = (angles - angles.mean(0)) / angles.std(0)
    speed = np.linalg.norm(np.gradient(angles, axis=0), axis=1) * fps
    found, _ = find_peaks(-speed, distance=MIN_STROKE_SECONDS * fps, prominence=MIN_PROMINENCE)
    energy = _energy(track.level)
    for i, j, k in zip(found, found[1:], found[2:], strict=False):
        spoken = energy[int(j / fps / HOP_SECONDS) : int(k / fps / HOP_SECONDS) + 1]
        yield np.array([*angles[i], *angles[j], *angles[k], (k - j) / fps, spoken.mean()])


def _energy(level: NDArray[np.float32]) -> Array:
    audible = np.maximum(level, np.percentile(level, 95) - 35).astype(np.float64)
    smooth = gaussian_filter1d(audible, 8)
    return (smooth - smooth.mean()) / max(float(smooth.std()), 1.0)


def _measure(axes: Array, fps: float) -> Array:
    """Smoothed angles in degrees, (frames, 3)."""
    return measure_head(axes, np.zeros((len(axes), 0, 3)), fps).angles


def _generate(track: HeadTrack, model: GestureModel, seed: int) -> Array:
    frames = len(track.axes)
    stress = syllable_stress(track.level)
    random = np.random.default_rng(seed)
    return np.degrees(head_angles(track.level, stress, track.fps, frames, random, model))


def _describe(motions: list[Array], tracks: list[HeadTrack]) -> str:
    """Medians over clips."""
    spread, speed, top, half = [], [], [], []
    for angles, track in zip(motions, tracks, strict=True):
        steps = np.abs(np.diff(angles, axis=0)) * track.fps
        spread.append(angles.std(0))
        speed.append(steps.mean(0))
        top.append(steps.max())
        power = np.abs(np.fft.rfft(angles - angles.mean(0), axis=0)) ** 2
        share = np.cumsum(power, axis=0) / power.sum(0)
        hertz = np.fft.rfftfreq(len(angles), 1 / track.fps)
        half.append(
            [[hertz[np.searchsorted(share[:, i], q)] for i in range(3)] for q in (0.5, 0.9)]
        )

    def told(values: list) -> str:
        return " / ".join(f"{value:.2f}" for value in np.median(values, axis=0).ravel())

    return (
        f"spread {told(spread)} degrees, speed {told(speed)} and at most {told(top)} degrees a "
        f"second, half and nine tenths of the power below {told(half)} Hz"
    )


def _follow(motions: list[Array], tracks: list[HeadTrack]) -> str:
    """Correlation of the head's speed with the voice's energy."""
    found = []
    for angles, track in zip(motions, tracks, strict=True):
        speed = np.linalg.norm(np.gradient(angles, axis=0), axis=1)
        speed = gaussian_filter1d(speed, 0.1 * track.fps)
        energy = _energy(track.level)
        time = np.arange(len(angles)) / track.fps
        heard = np.interp(time, np.arange(len(energy)) * HOP_SECONDS, energy)
        inner = slice(max(LAGS), -max(LAGS))
        found.append([np.corrcoef(speed[inner], np.roll(heard, lag)[inner])[0, 1] for lag in LAGS])
    mean = np.mean(found, axis=0)
    best = int(mean.argmax())
    return (
        f"correlation of speed and energy {mean[len(mean) // 2]:.3f}, at most {mean[best]:.3f} at "
        f"{LAGS[best]} frames"
    )
