"""How lips and sound are compared: agreement, offset, loudness, closures, rounding, pauses."""

import numpy as np
from numpy.typing import NDArray

from kolbo_demo.engine.speech_features import HOP
from kolbo_demo.engine.sync_eval.audio_model import CLOSED, ROUND, SPREAD, Array, Model, Sound
from kolbo_demo.engine.sync_eval.lip_motion import Seen

Floats = NDArray[np.floating]

REACH = 50
"""Hops (10 ms) that sound and lips are tried apart, either way."""
FAR_FETCHED = 0.2
"""Correlation by which lips at the end of that reach must agree better than lips in step."""
WEIGHTS = np.array([0.5, 0.3, 0.2])
"""Of opening, width and height in the agreement of lips and sound."""

SHUT, HARDLY_OPEN, SHUT_SHARE, AROUND = 0.03, 0.012, 0.2, 0.05
"""Lips are closed under this share of their wide openings (95th percentile), but never over the
first part of the eye distance (2.8 mm) and always under the second (1.1 mm, what a moustache is
taken for), within so many seconds of where real lips close."""
APART = 0.15
"""Seconds from every closure of the moments that tell how often lips are closed by chance."""
PAUSE, EDGE = 0.2, 0.06
"""Seconds of silence that make a pause, and what of it at either end still belongs to speech."""


def agreement(seen: Seen, expected: Array) -> Floats:
    """Correlation of lips and expected lips for each of 2 REACH + 1 lags of the lips, 10 ms each,
    from early to late."""
    lips, times = seen.lips[seen.found], seen.times[seen.found]
    return np.array(
        [
            WEIGHTS @ _alike(lips, _at(expected, times - lag * HOP))
            for lag in range(-REACH, REACH + 1)
        ]
    )


def peak(curve: Floats) -> tuple[float, float, float]:
    """Where an agreement is best, in milliseconds (lips late: positive), finer than its steps by a
    parabola through the best three; how strong it is with distance held against it; and the
    correlation there."""
    held = curve - FAR_FETCHED * (np.arange(-REACH, REACH + 1) / REACH) ** 2
    best = int(held.argmax())
    shift = 0.0
    if 0 < best < len(held) - 1:
        before, at, after = held[best - 1 : best + 2]
        shift = 0.5 * (before - after) / min(before - 2 * at + after, -1e-9)
    return 1000 * HOP * (best - REACH + shift), float(held[best]), float(curve[best])


def evidence(strength: float, seconds: float) -> Floats:
    """What confidence is told from: the strength of the agreement, alone and with length."""
    clear = np.arctanh(np.clip(strength, -0.99, 0.99))
    return np.array([clear, clear * np.sqrt(min(seconds, 30.0)), 1.0])


def sync(seen: Seen, sound: Sound, model: Model) -> dict:
    expected = sound.expected(model)
    curve = agreement(seen, expected)
    offset, strength, best = peak(curve)
    seconds = min(float(seen.found.sum()) / seen.fps, sound.seconds)
    odds = float(model.trust @ evidence(strength, seconds))
    loud, usual = _follows(seen, sound, expected)
    return {
        "offset_ms": round(offset),
        "confidence": float(1 / (1 + np.exp(-odds))),
        "sync": float(curve[REACH]),
        "sync_best": best,
        "follows_loudness": loud,
        "follows_sounds": usual,
        "expected": _at(expected[:, :1], seen.times)[:, 0],
    }


def _follows(seen: Seen, sound: Sound, expected: Array) -> tuple[float, float]:
    """Best correlation of the opening with any usual kind of loudness, and with the expected
    opening, lags of up to 0.2 s allowed."""
    opening, times = seen.lips[seen.found, :1], seen.times[seen.found]
    floor = float(np.percentile(sound.level, 95)) - 40
    level = np.maximum(sound.level, floor)
    kinds = [level, 10 ** (level / 20)]
    loud = np.column_stack([_mean(kind, reach) for kind in kinds for reach in (2, 5, 10)])

    def best(curves: Floats | Array) -> float:
        lags = range(-20, 21, 2)
        return float(max(_alike(opening, _at(curves, times - k * HOP)).max() for k in lags))

    return best(loud), best(expected[:, :1])


def articulation(seen: Seen, sound: Sound) -> dict:
    opening, times = seen.lips[:, 0], seen.times
    shut = np.clip(SHUT_SHARE * np.nanpercentile(opening, 95), HARDLY_OPEN, SHUT)
    closed = times[seen.found & (opening < shut)]
    shown = times[seen.found]

    def hit(moments: Floats) -> float | None:
        return float(_near(moments, closed, AROUND).mean()) if len(moments) else None

    closures = sound.moments(CLOSED)
    closures = closures[_near(closures, shown, AROUND)]
    others = np.flatnonzero(sound.speaking)[::2] * HOP
    others = others[_near(others, shown, AROUND) & ~_near(others, closures, APART)]
    rounded, spread = (
        [width for t in sound.moments(sounds) if (width := _width_at(seen, t)) is not None]
        for sounds in (ROUND, SPREAD)
    )
    wider = len(spread) - np.searchsorted(np.sort(spread), rounded, "right")
    return {
        "closures": len(closures),
        "closures_hit": hit(closures),
        "closures_chance": hit(others),
        "closure_times": closures,
        "closure_met": _near(closures, closed, AROUND),
        "rounding": float(wider.mean()) / len(spread) if rounded and spread else None,
        "pause_motion": _pause_motion(seen, sound),
    }


def _near(moments: Floats, times: Floats, reach: float) -> NDArray[np.bool_]:
    """For each moment whether any of the times, in order, lies within `reach` seconds."""
    reach += 1e-6
    return np.searchsorted(times, moments + reach) > np.searchsorted(times, moments - reach)


def _width_at(seen: Seen, moment: float) -> float | None:
    first, end = np.searchsorted(seen.times, [moment - AROUND, moment + AROUND])
    widths = seen.lips[first:end, 1]
    widths = widths[~np.isnan(widths)]
    return float(widths.mean()) if len(widths) else None


def _pause_motion(seen: Seen, sound: Sound) -> float | None:
    speed = np.linalg.norm(np.diff(seen.lips, axis=0), axis=1)
    middle = seen.times[:-1] + 0.5 / seen.fps
    known = ~np.isnan(speed) & (middle < sound.seconds)
    speed, middle = speed[known], middle[known]
    edges = np.flatnonzero(np.diff(np.r_[0, (~sound.speaking).astype(int), 0])) * HOP
    quiet = np.zeros(len(middle), bool)
    for start, end in zip(edges[::2], edges[1::2], strict=True):
        if end - start >= PAUSE:
            quiet |= (middle > start + EDGE) & (middle < end - EDGE)
    last = len(sound.speaking) - 1
    spoken = sound.speaking[np.minimum((middle / HOP).astype(int), last)]
    if quiet.sum() < 5 or spoken.sum() < 10:
        return None
    return float(speed[quiet].mean() / max(speed[spoken].mean(), 1e-9))


def _alike(one: Floats | Array, other: Floats | Array) -> Floats:
    """Correlation of columns with columns, (columns,)."""
    a, b = one - one.mean(0), other - other.mean(0)
    return (a * b).mean(0) / (a.std(0) * b.std(0) + 1e-9)


def _at(curves: Floats | Array, seconds: Floats) -> Floats | Array:
    """Rows of 10 ms curves at these times, the ends repeated."""
    return curves[np.clip(np.round(seconds / HOP).astype(int), 0, len(curves) - 1)]


def _mean(values: Array, reach: int) -> Floats:
    """Running mean over `reach` values either way."""
    total = np.cumsum(np.pad(values.astype(np.float64), (reach + 1, reach), "edge"))
    return (total[2 * reach + 1 :] - total[: -2 * reach - 1]) / (2 * reach + 1)
