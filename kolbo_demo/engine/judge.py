"""Whether lips say what is heard: a verdict on any video, from its pixels and its sound alone.

It knows nothing of how a video was made. What lips ought to do comes from a model of its own
(`judge_sound.py`), what they do from landmarks (`judge_picture.py`). The limits below are the
marks of real people talking; `python -m benchmarks judge` prints how well they part good from bad.
"""

from dataclasses import asdict, dataclass, field
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from kolbo_demo.container import MediaError
from kolbo_demo.engine.judge_picture import Seen, watch
from kolbo_demo.engine.judge_sound import CLOSED, ROUND, SPREAD, Array, Model, Sound, hear
from kolbo_demo.engine.speech import HOP, RATE
from kolbo_demo.engine.video import load_voice

Floats = NDArray[np.float64]

REACH = 50
"""Hops (10 ms) that sound and lips are tried apart, either way."""
WEIGHTS = np.array([0.5, 0.3, 0.2])
"""Of opening, width and height in the agreement of lips and sound."""

FACE_SHARE = 0.3
"""Of the frames: less of a face cannot be judged."""
SPEECHLESS, MOTIONLESS = 0.025, 2.0
"""Spread of the opening (5th to 95th percentile) under which lips do not move: real ones that talk
spread over 0.07 and more; thousandths of the eye distance under which the whole face stands."""
LOUD, LOUDER = 0.8, 0.12
"""Correlation of opening and loudness, and how far it is above that with the expected opening, of
a mouth that only opens with the sound."""
SHORT = 2.0
"""Seconds with a face and speech under which nothing is said about sync."""
TRUST = 0.5
IN_STEP = 45.0
"""Milliseconds that go unnoticed either way (ITU-R BT.1359-1: sound early by 45 is noticed)."""

SHUT, SHUT_SHARE, AROUND = 0.03, 0.2, 0.05
"""Lips are closed under so much of the eye distance (2.8 mm), and under this share of their wide
openings (95th percentile), within so many seconds of where real lips close."""
PAUSE, EDGE = 0.2, 0.06
"""Seconds of silence that make a pause, and what of it at either end still belongs to speech."""
BLURRED = 0.62
UNEASY = 25.0
RESTLESS = 1.0
MISSED = 0.6


@dataclass(frozen=True)
class Report:
    """What was found. Times in seconds unless named `_ms`; None where it cannot be told."""

    verdict: str
    """In a few words: "in step", "120 ms late", "still picture", ..."""
    fps: float
    seconds: float
    """Of the picture."""
    face: float
    """Share of the frames in which a face is seen, 0-1."""
    offset_ms: int | None = None
    """Lips behind the sound; negative: before it. Good to one frame from 5 s of speech on."""
    confidence: float = 0.0
    """Probability that these lips belong to this sound, if one pair in two did, 0-1."""
    sync: float | None = None
    """Correlation of the lips with those expected, where they are."""
    sync_best: float | None = None
    """The same, the sound moved by the offset."""
    follows_loudness: float | None = None
    """Correlation of the opening with the sound's loudness at its best."""
    closures: int = 0
    """p, b and m heard while the face is seen."""
    closures_hit: float | None = None
    """Share of them at which the lips are closed, 0-1."""
    closures_chance: float | None = None
    """Share of other moments of speech at which they are closed all the same, 0-1."""
    rounding: float | None = None
    """Chance that a rounded vowel is narrower than a spread one (0.5: no rounding; people 0.83)."""
    pause_motion: float | None = None
    """Speed of the lips in pauses over that in speech (people about 0.5)."""
    shake: float | None = None
    """Trembling of the upper face, thousandths of the eye distance."""
    sharpness: float | None = None
    """Of the mouth over eyes and nose."""
    notes: tuple[str, ...] = ()
    """What else a viewer would notice, in plain words."""
    aperture: Floats = field(default_factory=lambda: np.zeros(0), repr=False)
    """Opening of the lips in each frame, parts of the eye distance, NaN without a face."""
    width: Floats = field(default_factory=lambda: np.zeros(0), repr=False)
    """Corner to corner in each frame, the same unit."""

    @property
    def in_step(self) -> bool:
        """Whether lips and sound belong together and nothing is noticed."""
        return self.verdict == "in step"

    def summary(self) -> dict:
        """Everything but the curves, rounded, for JSON."""
        values = asdict(self)
        for curve in ("aperture", "width"):
            del values[curve]
        return {k: round(v, 3) if isinstance(v, float) else v for k, v in values.items()}


def judge(
    video: Path, point: tuple[float, float] | None = None, audio: Path | None = None
) -> Report:
    """Judge a video's lips against its own sound, or against another one that starts with it.

    `point` is 0-1 of the upright picture: the face nearest to it is judged, else the largest.
    Memory does not grow with the picture's length but for a few numbers a frame. Raises
    MediaError where the picture cannot be read.
    """
    cv2.setNumThreads(1)  # oversubscribed cores cost far more than threads gain
    seen = watch(video, point)
    try:
        wave = load_voice(audio or video, RATE)
    except MediaError:
        wave = None
    return verdict_on(seen, None if wave is None else hear(wave), Model.load())


def verdict_on(seen: Seen, sound: Sound | None, model: Model) -> Report:
    """The report on what was seen and heard; `sound` None where there is none."""
    facts: dict = {
        "fps": seen.fps,
        "seconds": len(seen.lips) / seen.fps,
        "face": float(seen.found.mean()) if len(seen.lips) else 0.0,
        "shake": seen.shake,
        "sharpness": seen.sharpness,
        "aperture": seen.lips[:, 0],
        "width": seen.lips[:, 1],
    }
    if facts["face"] < FACE_SHARE or seen.found.sum() < 3:
        return Report("no face", **facts)
    opening = seen.lips[seen.found, 0]
    still = float(np.subtract(*np.percentile(opening, [95, 5]))) < SPEECHLESS
    speech = sound is not None and sound.speech
    if speech and sound is not None:
        facts |= _agreement(seen, sound, model) | _articulation(seen, sound)
    facts["notes"] = tuple(_notes(facts))
    if still:
        moves = seen.motion > MOTIONLESS
        return Report("lips do not move" if moves else "still picture", **facts)
    if not speech or sound is None:
        return Report("no speech found", **facts)
    if facts.pop("loudness_only"):
        return Report("mouth follows loudness only", **facts)
    if min(sound.speaking.sum() * HOP, seen.found.sum() / seen.fps) < SHORT:
        return Report("too short to tell", **facts)
    if facts["confidence"] < TRUST:
        return Report("lips do not follow this sound", **facts)
    offset = facts["offset_ms"]
    if abs(offset) <= IN_STEP:
        return Report("in step", **facts)
    return Report(f"{abs(offset)} ms {'late' if offset > 0 else 'early'}", **facts)


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


def peak(curve: Floats) -> tuple[float, float]:
    """Where an agreement is best, in milliseconds (lips late: positive), and how good it is there;
    finer than its steps by a parabola through the best three."""
    best = int(curve.argmax())
    shift = 0.0
    if 0 < best < len(curve) - 1:
        before, at, after = curve[best - 1 : best + 2]
        shift = 0.5 * (before - after) / min(before - 2 * at + after, -1e-9)
    return 1000 * HOP * (best - REACH + shift), float(curve[best])


def evidence(best: float, seconds: float) -> Floats:
    """What confidence is told from: the strength of the agreement, alone and with length."""
    strength = np.arctanh(np.clip(best, -0.99, 0.99))
    return np.array([strength, strength * np.sqrt(min(seconds, 30.0)), 1.0])


def _agreement(seen: Seen, sound: Sound, model: Model) -> dict:
    expected = sound.expected(model)
    curve = agreement(seen, expected)
    offset, best = peak(curve)
    seconds = min(float(seen.found.sum()) / seen.fps, sound.seconds)
    odds = float(model.trust @ evidence(best, seconds))
    loud, usual = _follows(seen, sound, expected)
    return {
        "offset_ms": round(offset),
        "confidence": float(1 / (1 + np.exp(-odds))),
        "sync": float(curve[REACH]),
        "sync_best": best,
        "follows_loudness": loud,
        "loudness_only": loud > LOUD and loud > usual + LOUDER,
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


def _articulation(seen: Seen, sound: Sound) -> dict:
    opening, width = seen.lips[:, 0], seen.lips[:, 1]
    times, found = seen.times, seen.found
    shut = found & (opening < min(SHUT, SHUT_SHARE * float(np.nanpercentile(opening, 95))))

    def shown(moments: Floats) -> Floats:
        near = np.abs(times - moments[:, None]) <= AROUND if len(moments) else np.zeros((0, 1))
        return moments[(near & found).any(1)] if len(moments) else moments

    def hit(moments: Floats) -> Floats:
        return (np.abs(times[shut] - moments[:, None]) <= AROUND).any(1)

    closures = shown(sound.moments(CLOSED))
    others = np.flatnonzero(sound.speaking)[::2] * HOP
    if len(closures):
        others = others[np.abs(others[:, None] - closures).min(1) > 0.15]
    others = shown(others)
    rounded, spread = (
        np.array([np.nanmean(width[found & (np.abs(times - t) <= AROUND)]) for t in shown(where)])
        for where in (sound.moments(ROUND), sound.moments(SPREAD))
    )
    narrower = (rounded[:, None] < spread).mean() if len(rounded) and len(spread) else None
    return {
        "closures": len(closures),
        "closures_hit": float(hit(closures).mean()) if len(closures) else None,
        "closures_chance": float(hit(others).mean()) if len(others) else None,
        "rounding": None if narrower is None else float(narrower),
        "pause_motion": _pause_motion(seen, sound),
    }


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


def _notes(facts: dict) -> list[str]:
    """What a viewer would notice beside sync."""
    notes = []
    if (facts["sharpness"] or 1.0) < BLURRED:
        notes.append("the mouth is blurred")
    if (facts["shake"] or 0.0) > UNEASY:
        notes.append("the face trembles")
    if (facts.get("pause_motion") or 0.0) > RESTLESS:
        notes.append("the lips move in pauses")
    if facts.get("closures", 0) >= 4 and facts["closures_hit"] < MISSED:
        notes.append("lips stay open at p, b and m")
    return notes


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
