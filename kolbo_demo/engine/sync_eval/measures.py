"""Comparison of lips and sound: correlation, offset, loudness, closures, rounding, pauses."""

import numpy as np
from numpy.typing import NDArray

from kolbo_demo.engine.speech_features import HOP_SECONDS
from kolbo_demo.engine.sync_eval.audio_model import (
    BILABIAL_LAGS,
    ROUNDED_LAGS,
    SPREAD_LAGS,
    Array,
    LipModel,
    SoundFeatures,
)
from kolbo_demo.engine.sync_eval.lip_motion import LipMotion

Floats = NDArray[np.floating]

MAX_LAG_HOPS = 50
"""Largest lag between sound and lips, in hops of 10 ms."""
LAG_PENALTY = 0.2
"""Correlation by which the largest lag must exceed lag 0."""
CHANNEL_WEIGHTS = np.array([0.5, 0.3, 0.2])
"""Of opening, width and height in the correlation of lips and sound."""

MAX_CLOSED_OPENING, MIN_CLOSED_OPENING, CLOSED_SHARE, EVENT_WINDOW_SECONDS = 0.03, 0.012, 0.2, 0.05
"""Lips are closed below CLOSED_SHARE of their wide openings (95th percentile), at most the first
(2.8 mm) and at least the second (1.1 mm, as moustaches are measured), in eye distances; and an
event counts within the window around its expected time."""
CHANCE_DISTANCE_SECONDS = 0.15
"""Least distance from every closure of the moments that give the chance level."""
MIN_PAUSE_SECONDS, PAUSE_MARGIN_SECONDS = 0.2, 0.06
"""Shortest silence that is a pause, and its margins that still belong to speech."""


def lag_correlation(motion: LipMotion, expected: Array) -> Floats:
    """Correlation of actual and expected lips at 2 MAX_LAG_HOPS + 1 lags of the lips, from early to
    late."""
    lips, times = motion.lips[motion.visible], motion.times[motion.visible]
    return np.array(
        [
            CHANNEL_WEIGHTS @ _correlation(lips, _sample_at(expected, times - lag * HOP_SECONDS))
            for lag in range(-MAX_LAG_HOPS, MAX_LAG_HOPS + 1)
        ]
    )


def best_lag(curve: Floats) -> tuple[float, float, float]:
    """Peak of `lag_correlation`: milliseconds (lips late: positive) by parabolic interpolation,
    penalised correlation, and correlation."""
    penalised = curve - LAG_PENALTY * np.linspace(-1, 1, 2 * MAX_LAG_HOPS + 1) ** 2
    best = int(penalised.argmax())
    shift = 0.0
    if 0 < best < len(penalised) - 1:
        before, at, after = penalised[best - 1 : best + 2]
        shift = 0.5 * (before - after) / min(before - 2 * at + after, -1e-9)
    lag_ms = 1000 * HOP_SECONDS * (best - MAX_LAG_HOPS + shift)
    return lag_ms, float(penalised[best]), float(curve[best])


def confidence_features(strength: float, seconds: float) -> Floats:
    """Inputs of the confidence: Fisher's z of the correlation, z scaled by duration, a constant."""
    fisher_z = np.arctanh(np.clip(strength, -0.99, 0.99))
    return np.array([fisher_z, fisher_z * np.sqrt(min(seconds, 30.0)), 1.0])


def measure_sync(motion: LipMotion, sound: SoundFeatures, model: LipModel) -> dict:
    expected = sound.expected_lips(model)
    curve = lag_correlation(motion, expected)
    offset, strength, best = best_lag(curve)
    seconds = min(float(motion.visible.sum()) / motion.fps, sound.seconds)
    odds = float(model.calibration @ confidence_features(strength, seconds))
    loudness, phonemes = _opening_correlations(motion, sound, expected)
    return {
        "offset_ms": round(offset),
        "confidence": float(1 / (1 + np.exp(-odds))),
        "sync": float(curve[MAX_LAG_HOPS]),
        "sync_best": best,
        "follows_loudness": loudness,
        "follows_sounds": phonemes,
        "expected": _sample_at(expected[:, :1], motion.times)[:, 0],
    }


def _opening_correlations(
    motion: LipMotion, sound: SoundFeatures, expected: Array
) -> tuple[float, float]:
    """Best correlation of the opening with loudness (linear or dB, three smoothings), and with the
    expected opening, at lags up to 0.2 s."""
    opening, times = motion.lips[motion.visible, :1], motion.times[motion.visible]
    floor = float(np.percentile(sound.level, 95)) - 40
    level = np.maximum(sound.level, floor)
    levels = [level, 10 ** (level / 20)]
    smoothed_levels = np.column_stack(
        [_running_mean(values, reach) for values in levels for reach in (2, 5, 10)]
    )

    def best(curves: Floats | Array) -> float:
        lags = HOP_SECONDS * np.arange(-20, 21, 2)
        return float(max(_correlation(opening, _sample_at(curves, times - t)).max() for t in lags))

    return best(smoothed_levels), best(expected[:, :1])


def measure_articulation(motion: LipMotion, sound: SoundFeatures) -> dict:
    opening, times = motion.lips[:, 0], motion.times
    closed_below = np.clip(
        CLOSED_SHARE * np.nanpercentile(opening, 95), MIN_CLOSED_OPENING, MAX_CLOSED_OPENING
    )
    closed = times[motion.visible & (opening < closed_below)]
    visible_times = times[motion.visible]

    def hit_rate(times: Floats) -> float | None:
        hits = _any_within(times, closed, EVENT_WINDOW_SECONDS)
        return float(hits.mean()) if len(times) else None

    closures = sound.event_times(BILABIAL_LAGS)
    closures = closures[_any_within(closures, visible_times, EVENT_WINDOW_SECONDS)]
    others = np.flatnonzero(sound.speaking)[::2] * HOP_SECONDS
    others = others[
        _any_within(others, visible_times, EVENT_WINDOW_SECONDS)
        & ~_any_within(others, closures, CHANCE_DISTANCE_SECONDS)
    ]
    rounded, spread = (
        [width for t in sound.event_times(sounds) if (width := _width_at(motion, t)) is not None]
        for sounds in (ROUNDED_LAGS, SPREAD_LAGS)
    )
    wider_spread = len(spread) - np.searchsorted(np.sort(spread), rounded, "right")
    return {
        "closures": len(closures),
        "closures_hit": hit_rate(closures),
        "closures_chance": hit_rate(others),
        "closure_times": closures,
        "closure_met": _any_within(closures, closed, EVENT_WINDOW_SECONDS),
        "rounding": float(wider_spread.mean()) / len(spread) if rounded and spread else None,
        "pause_motion": _pause_motion(motion, sound),
    }


def _any_within(moments: Floats, times: Floats, reach: float) -> NDArray[np.bool_]:
    """For each moment whether any of the sorted times lies within `reach` seconds."""
    reach += 1e-6
    return np.searchsorted(times, moments + reach) > np.searchsorted(times, moments - reach)


def _width_at(motion: LipMotion, moment: float) -> float | None:
    window = [moment - EVENT_WINDOW_SECONDS, moment + EVENT_WINDOW_SECONDS]
    first, end = np.searchsorted(motion.times, window)
    widths = motion.lips[first:end, 1]
    widths = widths[~np.isnan(widths)]
    return float(widths.mean()) if len(widths) else None


def _pause_motion(motion: LipMotion, sound: SoundFeatures) -> float | None:
    speed = np.linalg.norm(np.diff(motion.lips, axis=0), axis=1)
    middle = motion.times[:-1] + 0.5 / motion.fps
    valid = ~np.isnan(speed) & (middle < sound.seconds)
    speed, middle = speed[valid], middle[valid]
    edges = np.flatnonzero(np.diff(np.r_[0, (~sound.speaking).astype(int), 0])) * HOP_SECONDS
    quiet = np.zeros(len(middle), bool)
    for start, end in zip(edges[::2], edges[1::2], strict=True):
        if end - start >= MIN_PAUSE_SECONDS:
            quiet |= (middle > start + PAUSE_MARGIN_SECONDS) & (middle < end - PAUSE_MARGIN_SECONDS)
    last = len(sound.speaking) - 1
    speaking = sound.speaking[np.minimum((middle / HOP_SECONDS).astype(int), last)]
    if quiet.sum() < 5 or speaking.sum() < 10:
        return None
    return float(speed[quiet].mean() / max(speed[speaking].mean(), 1e-9))


def _correlation(one: Floats | Array, other: Floats | Array) -> Floats:
    """Pearson correlation by column, (columns,)."""
    a, b = one - one.mean(0), other - other.mean(0)
    return (a * b).mean(0) / (a.std(0) * b.std(0) + 1e-9)


def _sample_at(curves: Floats | Array, seconds: Floats) -> Floats | Array:
    """Rows of 10 ms curves at `seconds`, the ends repeated."""
    return curves[np.clip(np.round(seconds / HOP_SECONDS).astype(int), 0, len(curves) - 1)]


def _running_mean(values: Array, reach: int) -> Floats:
    """Running mean over `reach` values to either side."""
    total = np.cumsum(np.pad(values.astype(np.float64), (reach + 1, reach), "edge"))
    return (total[2 * reach + 1 :] - total[: -2 * reach - 1]) / (2 * reach + 1)
