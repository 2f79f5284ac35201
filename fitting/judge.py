"""python -m fitting.judge --tracks DIR: fits assets/judge.npz to real people's lips.

DIR holds lip landmarks of talking people, the speech in step with them, and `index.json` with a
fold for each speaker. A ridge regression from sound to lips is solved on all of them; its figures
are of speakers left out.
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
    BANDS,
    CHANNELS,
    HOP,
    MEL_REACH,
    MODEL,
    RATE,
    TOKEN_REACH,
    Array,
    Model,
    Sound,
    hear,
    token_names,
)
from kolbo_demo.engine.sync_eval.lip_motion import Seen, lips_of
from kolbo_demo.engine.sync_eval.measures import REACH, Floats, agreement, evidence, peak

SYMBOLS = 52
"""The recogniser's tokens with the most mass are heard; the others hardly ever occur."""
RIDGE, TOKEN_RIDGE = 3000.0, 6.0
"""Penalties of a weight on a mel band, and on a token (whose values are far smaller)."""
LENGTHS = (2, 3, 4, 5, 6, 8)
"""Seconds of the pieces that are told apart."""
WRONG = 8
"""Other speakers' sounds that each piece is tried with."""


@dataclass(frozen=True)
class Track:
    """One clip's lips and sound."""

    name: str
    speaker: str
    fold: int
    seconds: float
    seen: Seen
    sound: Sound

    @cached_property
    def target(self) -> NDArray[np.float64]:
        """(frames, 3) lips in standard deviations of the clip."""
        return (self.seen.lips - self.seen.lips.mean(0)) / (self.seen.lips.std(0) + 1e-9)


@dataclass(frozen=True)
class Piece:
    """Some seconds of a track."""

    track: Track
    start: int
    seconds: int

    @property
    def seen(self) -> Seen:
        """Its frames; their time begins at 0."""
        whole = self.track.seen
        end = self.start + int(self.seconds * whole.fps)
        return Seen(whole.fps, whole.lips[self.start : end], None, None, 0.0)

    def expected(self, models: list[Model]) -> Array:
        """What its sound expects from its first frame on, by a model that never heard the
        speaker."""
        curves = _expected(self.track, models)
        first = round(self.start / self.track.seen.fps / HOP)
        rows = np.arange(first, first + round(self.seconds / HOP))
        return curves[np.clip(rows, 0, len(curves) - 1)]


def tracks(folder: Path) -> list[Track]:
    """All tracks of a folder, heard."""
    out = []
    for entry in json.loads((folder / "index.json").read_text()):
        with np.load(folder / f"{entry['name']}.npz") as file:
            points = np.full((len(file["points"]), 478, 3), np.nan)
            points[:, file["index"]] = file["points"]
            seen = Seen(float(file["fps"]), lips_of(points), None, None, 0.0)
        sound = hear(load_voice(folder / f"{entry['name']}.flac", RATE))
        out.append(
            Track(entry["name"], entry["speaker"], entry["fold"], entry["seconds"], seen, sound)
        )
    return out


def choose_symbols(all_tracks: list[Track]) -> tuple[str, ...]:
    """The tokens with the most mass over all tracks."""
    mass = np.sum([track.sound.posteriors.sum(0) for track in all_tracks], axis=0)
    return tuple(token_names()[i] for i in np.argsort(-mass)[:SYMBOLS])


def solve(all_tracks: list[Track], symbols: tuple[str, ...]) -> list[Model]:
    """Six models: by number of fold the one that never heard it, last the one fitted to all."""
    sums: list[list[NDArray[np.float64]]] = []
    for fold in range(5):
        mine = [track for track in all_tracks if track.fold == fold]
        x = np.concatenate([_inputs(track, symbols) for track in mine]).astype(np.float64)
        y = np.concatenate([track.target for track in mine])
        sums.append([x.T @ x, x.T @ y])
    mel, tokens = BANDS * len(MEL_REACH), len(symbols) * len(TOKEN_REACH)
    penalty = np.diag(np.r_[np.full(mel, RIDGE), np.full(tokens, TOKEN_RIDGE), 1e-3])
    models = []
    for left_out in [*range(5), None]:
        a, b = (sum(part[k] for i, part in enumerate(sums) if i != left_out) for k in (0, 1))
        weights = np.linalg.solve(a + penalty, b).astype(np.float32)
        models.append(
            Model(
                symbols,
                weights[:mel].reshape(len(MEL_REACH), BANDS, -1),
                weights[mel:-1].reshape(len(TOKEN_REACH), len(symbols), -1),
                weights[-1],
                np.zeros(3, np.float32),
            )
        )
    return models


def _inputs(track: Track, symbols: tuple[str, ...]) -> Array:
    """(frames, inputs): the rows that `Sound.expected` weighs, at the frames' times."""
    heard = track.sound.token_inputs(symbols)
    at = np.round(track.seen.times / HOP).astype(int)

    def rows(values: Array, hop: int) -> Array:
        return values[np.clip(at + hop, 0, len(values) - 1)]

    parts = [rows(track.sound.mel, hop) for hop in MEL_REACH]
    parts += [rows(heard, hop) for hop in TOKEN_REACH]
    return np.concatenate([*parts, np.ones((len(at), 1), np.float32)], axis=1)


_KEPT: dict[str, Array] = {}


def _expected(track: Track, models: list[Model]) -> Array:
    if track.name not in _KEPT:
        _KEPT[track.name] = track.sound.expected(models[track.fold])
    return _KEPT[track.name]


def pieces(all_tracks: list[Track], seconds: int) -> list[Piece]:
    """All pieces of this length, side by side."""
    return [
        Piece(track, start, seconds)
        for track in all_tracks
        for length in [int(seconds * track.seen.fps)]
        for start in range(0, len(track.seen.lips) - length + 1, length)
    ]


@dataclass(frozen=True)
class Trial:
    """Lips against a sound: whether it is theirs, and the agreement over the lags."""

    right: bool
    seconds: int
    fold: int
    curve: Floats


def trials(all_tracks: list[Track], models: list[Model]) -> Iterator[Trial]:
    """Pieces of every length against their own sound and some of others'."""
    random = np.random.default_rng(0)
    for seconds in LENGTHS:
        mine = pieces(all_tracks, seconds)
        for piece in mine:
            own = agreement(piece.seen, piece.expected(models))
            yield Trial(True, seconds, piece.track.fold, own)
            others = [p for p in mine if p.track.speaker != piece.track.speaker]
            for k in random.choice(len(others), min(WRONG, len(others)), replace=False):
                curve = agreement(piece.seen, others[k].expected(models))
                yield Trial(False, seconds, piece.track.fold, curve)


def calibrate(all_trials: list[Trial]) -> Array:
    """Logistic regression (Newton's method) from evidence to right or wrong, both weighing the
    same at every length."""
    x = np.array([evidence(peak(t.curve)[1], t.seconds) for t in all_trials])
    y = np.array([t.right for t in all_trials], float)
    keys = [(t.right, t.seconds) for t in all_trials]
    weight = np.array([1 / keys.count(key) for key in keys])
    w = np.zeros(x.shape[1])
    for _ in range(50):
        p = 1 / (1 + np.exp(-x @ w))
        hessian = (x * (weight * p * (1 - p))[:, None]).T @ x + 1e-4 * np.eye(len(w))
        w -= np.linalg.solve(hessian, x.T @ (weight * (p - y)) + 1e-4 * w)
    return w.astype(np.float32)


def auc(positive: NDArray[np.floating], negative: NDArray[np.floating]) -> float:
    """Chance that a positive is above a negative."""
    above = (positive[:, None] > negative).mean() + 0.5 * (positive[:, None] == negative).mean()
    return float(above)


def figures(all_tracks: list[Track], models: list[Model], all_trials: list[Trial]) -> dict:
    """How well speakers never heard are understood."""
    by_speaker: dict[str, list[NDArray[np.float64]]] = {}
    for track in all_tracks:
        curves = _expected(track, models)
        at = np.clip(np.round(track.seen.times / HOP).astype(int), 0, len(curves) - 1)
        found = [np.corrcoef(curves[at, k], track.target[:, k])[0, 1] for k in range(3)]
        by_speaker.setdefault(track.speaker, []).append(np.array(found))
    means = np.mean([np.mean(rows, axis=0) for rows in by_speaker.values()], axis=0)
    return {
        "speakers": len(by_speaker),
        "correlation_at_lag_0": dict(zip(CHANNELS, means.round(3).tolist(), strict=True)),
        "right_or_wrong_sound": {f"{s} s": told_apart(all_trials, s) for s in LENGTHS},
    }


def told_apart(all_trials: list[Trial], seconds: int) -> dict:
    """AUC of right against wrong sounds, and how far the offset found is from none."""

    def of(right: bool, value: Callable[[Floats], float]) -> Floats:
        chosen = [t for t in all_trials if t.seconds == seconds and t.right == right]
        return np.array([value(t.curve) for t in chosen])

    best, at_0 = (lambda curve: peak(curve)[1]), (lambda curve: curve[REACH])
    offsets = np.abs(of(True, lambda curve: peak(curve)[0]))
    return {
        "pieces": len(offsets),
        "auc_offset_unknown": round(auc(of(True, best), of(False, best)), 4),
        "auc_at_lag_0": round(auc(of(True, at_0), of(False, at_0)), 4),
        "sync_median": round(float(np.median(of(True, at_0))), 3),
        "offset_within_40_ms": round(float(np.mean(offsets <= 40)), 3),
        "offset_median_ms": round(float(np.median(offsets)), 1),
    }


def main() -> int:
    """Fit, print the figures, write the model."""
    parser = argparse.ArgumentParser(prog="python -m fitting.judge", description=__doc__)
    parser.add_argument("--tracks", type=Path, required=True)
    parser.add_argument("--output", type=Path, default=MODEL)
    args = parser.parse_args()
    heard = tracks(args.tracks)
    models = solve(heard, choose_symbols(heard))
    tried = list(trials(heard, models))
    trust = calibrate(tried)
    final = models[-1]
    np.savez_compressed(
        args.output,
        symbols=np.array(final.symbols),
        mel=final.mel.astype(np.float16),
        tokens=final.tokens.astype(np.float16),
        bias=final.bias,
        trust=trust,
    )
    print(json.dumps(figures(heard, models, tried) | {"trust": trust.tolist()}, indent=2))
    return 0


if __name__ == "__main__":
    sys.exit(main())
