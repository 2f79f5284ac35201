"""`python -m fitting.judge --tracks DIR` fits assets/judge.npz to lips of real people.

DIR is a folder as in `dataset.py`. The ridge regression from sound to lips is fitted on all tracks
and evaluated on held-out speakers.
"""

import argparse
import json
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from kolbo_demo.engine.audio_io import load_voice
from kolbo_demo.engine.sync_eval.audio_model import (
    HOP_SECONDS,
    LIP_CHANNELS,
    MEL_BANDS,
    MEL_CONTEXT_HOPS,
    MODEL_PATH,
    SAMPLE_RATE,
    TOKEN_CONTEXT_HOPS,
    Array,
    LipModel,
    SoundFeatures,
    extract_sound_features,
    token_names,
)
from kolbo_demo.engine.sync_eval.lip_motion import LipMotion, measure_lips
from kolbo_demo.engine.sync_eval.measures import (
    MAX_LAG_HOPS,
    Floats,
    best_lag,
    confidence_features,
    lag_correlation,
)

TOKEN_COUNT = 52
"""Tokens with the most mass that are used; the others hardly ever occur."""
RIDGE, TOKEN_RIDGE = 3000.0, 6.0
"""Penalties of weights on mel bands, and on tokens, whose values are far smaller."""
EXCERPT_SECONDS = (2, 3, 4, 5, 6, 8)
WRONG_PAIRS = 8
"""Other speakers' sounds that each excerpt is compared with."""


@dataclass(frozen=True)
class Track:
    """One clip's lips and sound."""

    name: str
    speaker: str
    fold: int
    seconds: float
    motion: LipMotion
    sound: SoundFeatures

    @cached_property
    def target(self) -> NDArray[np.float64]:
        """(frames, 3) lips in standard deviations of the clip."""
        return (self.motion.lips - self.motion.lips.mean(0)) / (self.motion.lips.std(0) + 1e-9)


@dataclass(frozen=True)
class Excerpt:
    """Some seconds of a track."""

    track: Track
    start: int
    seconds: int

    @property
    def motion(self) -> LipMotion:
        """Its frames, from time 0."""
        whole = self.track.motion
        end = self.start + int(self.seconds * whole.fps)
        return LipMotion(whole.fps, whole.lips[self.start : end], None, None, 0.0)

    def expected_lips(self, models: list[LipModel]) -> Array:
        """Lips expected by its sound, from its first frame on, by a held-out model."""
        curves = _expected_lips(self.track, models)
        first = round(self.start / self.track.motion.fps / HOP_SECONDS)
        rows = np.arange(first, first + round(self.seconds / HOP_SECONDS))
        return curves[np.clip(rows, 0, len(curves) - 1)]


def load_tracks(folder: Path) -> list[Track]:
    out = []
    for entry in json.loads((folder / "index.json").read_text()):
        with np.load(folder / f"{entry['name']}.npz") as file:
            points = np.full((len(file["points"]), 478, 3), np.nan)
            points[:, file["index"]] = file["points"]
            motion = LipMotion(float(file["fps"]), measure_lips(points), None, None, 0.0)
        sound = extract_sound_features(load_voice(folder / f"{entry['name']}.flac", SAMPLE_RATE))
        out.append(
            Track(entry["name"], entry["speaker"], entry["fold"], entry["seconds"], motion, sound)
        )
    return out


def choose_tokens(tracks: list[Track]) -> tuple[str, ...]:
    """The TOKEN_COUNT tokens with the most mass over all tracks."""
    mass = np.sum([track.sound.posteriors.sum(0) for track in tracks], axis=0)
    return tuple(token_names()[i] for i in np.argsort(-mass)[:TOKEN_COUNT])


def fit_models(tracks: list[Track], symbols: tuple[str, ...]) -> list[LipModel]:
    """Six models: for each fold one fitted without it, and one fitted to all."""
    sums: list[list[NDArray[np.float64]]] = []
    for fold in range(5):
        fold_tracks = [track for track in tracks if track.fold == fold]
        x = np.concatenate([_inputs(track, symbols) for track in fold_tracks]).astype(np.float64)
        y = np.concatenate([track.target for track in fold_tracks])
        sums.append([x.T @ x, x.T @ y])
    mel, tokens = MEL_BANDS * len(MEL_CONTEXT_HOPS), len(symbols) * len(TOKEN_CONTEXT_HOPS)
    penalty = np.diag(np.r_[np.full(mel, RIDGE), np.full(tokens, TOKEN_RIDGE), 1e-3])
    models = []
    for left_out in [*range(5), None]:
        a, b = (sum(part[k] for i, part in enumerate(sums) if i != left_out) for k in (0, 1))
        weights = np.linalg.solve(a + penalty, b).astype(np.float32)
        models.append(
            LipModel(
                symbols,
                weights[:mel].reshape(len(MEL_CONTEXT_HOPS), MEL_BANDS, -1),
                weights[mel:-1].reshape(len(TOKEN_CONTEXT_HOPS), len(symbols), -1),
                weights[-1],
                np.zeros(3, np.float32),
            )
        )
    return models


def _inputs(track: Track, symbols: tuple[str, ...]) -> Array:
    """(frames, inputs): inputs of `SoundFeatures.expected_lips` at the frames' times."""
    tokens = track.sound.token_features(symbols)
    at = np.round(track.motion.times / HOP_SECONDS).astype(int)

    def rows(values: Array, hop: int) -> Array:
        return values[np.clip(at + hop, 0, len(values) - 1)]

    parts = [rows(track.sound.mel, hop) for hop in MEL_CONTEXT_HOPS]
    parts += [rows(tokens, hop) for hop in TOKEN_CONTEXT_HOPS]
    return np.concatenate([*parts, np.ones((len(at), 1), np.float32)], axis=1)


_EXPECTED_BY_TRACK: dict[str, Array] = {}


def _expected_lips(track: Track, models: list[LipModel]) -> Array:
    if track.name not in _EXPECTED_BY_TRACK:
        _EXPECTED_BY_TRACK[track.name] = track.sound.expected_lips(models[track.fold])
    return _EXPECTED_BY_TRACK[track.name]


def split_excerpts(tracks: list[Track], seconds: int) -> list[Excerpt]:
    """All adjacent excerpts of this length."""
    return [
        Excerpt(track, start, seconds)
        for track in tracks
        for length in [int(seconds * track.motion.fps)]
        for start in range(0, len(track.motion.lips) - length + 1, length)
    ]


@dataclass(frozen=True)
class Trial:
    """Lips against a sound: whether it is theirs, and their `lag_correlation`."""

    matching: bool
    seconds: int
    fold: int
    curve: Floats


def make_trials(tracks: list[Track], models: list[LipModel]) -> Iterator[Trial]:
    """Excerpts of every length against their own sound and some of other speakers."""
    random = np.random.default_rng(0)
    for seconds in EXCERPT_SECONDS:
        excerpts = split_excerpts(tracks, seconds)
        for excerpt in excerpts:
            curve = lag_correlation(excerpt.motion, excerpt.expected_lips(models))
            yield Trial(True, seconds, excerpt.track.fold, curve)
            others = [p for p in excerpts if p.track.speaker != excerpt.track.speaker]
            for k in random.choice(len(others), min(WRONG_PAIRS, len(others)), replace=False):
                curve = lag_correlation(excerpt.motion, others[k].expected_lips(models))
                yield Trial(False, seconds, excerpt.track.fold, curve)


def calibrate(trials: list[Trial]) -> Array:
    """Logistic regression (Newton's method) of matching on `confidence_features`, balanced at every
    length."""
    x = np.array([confidence_features(best_lag(t.curve)[1], t.seconds) for t in trials])
    y = np.array([t.matching for t in trials], float)
    keys = [(t.matching, t.seconds) for t in trials]
    weight = np.array([1 / keys.count(key) for key in keys])
    w = np.zeros(x.shape[1])
    for _ in range(50):
        p = 1 / (1 + np.exp(-x @ w))
        hessian = (x * (weight * p * (1 - p))[:, None]).T @ x + 1e-4 * np.eye(len(w))
        w -= np.linalg.solve(hessian, x.T @ (weight * (p - y)) + 1e-4 * w)
    return w.astype(np.float32)


def auc(positive: NDArray[np.floating], negative: NDArray[np.floating]) -> float:
    """Probability that a positive exceeds a negative."""
    above = (positive[:, None] > negative).mean() + 0.5 * (positive[:, None] == negative).mean()
    return float(above)


def figures(tracks: list[Track], models: list[LipModel], trials: list[Trial]) -> dict:
    """Evaluation on held-out speakers."""
    by_speaker: dict[str, list[NDArray[np.float64]]] = {}
    for track in tracks:
        curves = _expected_lips(track, models)
        at = np.clip(np.round(track.motion.times / HOP_SECONDS).astype(int), 0, len(curves) - 1)
        r = [np.corrcoef(curves[at, k], track.target[:, k])[0, 1] for k in range(3)]
        by_speaker.setdefault(track.speaker, []).append(np.array(r))
    means = np.mean([np.mean(rows, axis=0) for rows in by_speaker.values()], axis=0)
    return {
        "speakers": len(by_speaker),
        "correlation_at_lag_0": dict(zip(LIP_CHANNELS, means.round(3).tolist(), strict=True)),
        "right_or_wrong_sound": {f"{s} s": discrimination(trials, s) for s in EXCERPT_SECONDS},
    }


def discrimination(trials: list[Trial], seconds: int) -> dict:
    """AUC of matching against other sounds, and errors of the offset."""

    def values(matching: bool, value: Callable[[Floats], float]) -> Floats:
        chosen = [t for t in trials if t.seconds == seconds and t.matching == matching]
        return np.array([value(t.curve) for t in chosen])

    strength, at_0 = (lambda curve: best_lag(curve)[1]), (lambda curve: curve[MAX_LAG_HOPS])
    offsets = np.abs(values(True, lambda curve: best_lag(curve)[0]))
    return {
        "pieces": len(offsets),
        "auc_offset_unknown": round(auc(values(True, strength), values(False, strength)), 4),
        "auc_at_lag_0": round(auc(values(True, at_0), values(False, at_0)), 4),
        "sync_median": round(float(np.median(values(True, at_0))), 3),
        "offset_within_40_ms": round(float(np.mean(offsets <= 40)), 3),
        "offset_median_ms": round(float(np.median(offsets)), 1),
    }


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m fitting.judge", description=__doc__)
    parser.add_argument("--tracks", type=Path, required=True)
    parser.add_argument("--output", type=Path, default=MODEL_PATH)
    args = parser.parse_args()
    tracks = load_tracks(args.tracks)
    models = fit_models(tracks, choose_tokens(tracks))
    trials = list(make_trials(tracks, models))
    calibration = calibrate(trials)
    final = models[-1]
    np.savez_compressed(
        args.output,
        symbols=np.array(final.symbols),
        mel=final.mel.astype(np.float16),
        tokens=final.tokens.astype(np.float16),
        bias=final.bias,
        trust=calibration,
    )
    print(json.dumps(figures(tracks, models, trials) | {"trust": calibration.tolist()}, indent=2))
    return 0


if __name__ == "__main__":
    sys.exit(main())
