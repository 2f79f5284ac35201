"""Phonemes to mouth curves: where the lips and the jaw are at each frame.

Coarticulation by dominance functions (Cohen and Massaro, 1993: "Modeling coarticulation in
synthetic visual speech"): each sound pulls the mouth towards its target with a strength that
fades with distance in time, and the mouth follows the weighted mean. Closures of p, b and m are
categorical: the lips meet, whatever the neighbours say.
"""

from dataclasses import dataclass, fields
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter1d, maximum_filter1d

from kolbo_demo.engine.speech import HOP, Phoneme, threshold

STEPS = 200
"""Curve samples a second before they are read at the frame times."""
SMOOTH = 0.014
"""Seconds: spread of the last smoothing, about what lips can do."""
LEAD = 0.05
"""Seconds by which people's lips are ahead of the sound they make. Measured with `speech.LAG` on 83
clips of 39 real speakers: their opening matches these curves best with 110 ms in all."""
LIVELY = 1.5
"""Real lips open about so much further than the table's targets (same clips)."""
CLOSURE_HOLD, CLOSURE_RAMP = 0.05, 0.055
"""Seconds that lips stay pressed, and take to get there and away."""

Curve = NDArray[np.float32]


class Target(NamedTuple):
    """Where a sound wants the mouth: jaw and aperture in mm, corner pull in mm (outward
    positive), protrusion, tongue tip and labiodental contact 0-1; and how strongly."""

    jaw: float
    aperture: float
    width: float
    protrusion: float
    pull: tuple[float, float, float, float]
    """Dominance of jaw, aperture, width, protrusion."""
    tongue: float = 0.0
    teeth: float = 0.0


# Set by hand in the feasibility study (millimetres on an average adult face).
_OPEN = Target(9.0, 11.5, 0.0, 0.0, (1, 1, 0.5, 0.5))
_SCHWA = Target(3.2, 4.8, 0.0, 0.0, (0.4, 0.4, 0.25, 0.25))
_RHOTIC = Target(3.2, 4.8, -2.5, 0.5, (0.6, 0.6, 0.7, 0.7))
_STOP = Target(2.0, 3.8, 0.5, 0.0, (0.55, 0.55, 0.25, 0.25), tongue=0.55)
_BACK = Target(2.4, 4.0, 0.0, 0.0, (0.45, 0.5, 0.2, 0.2))
_LIPS = Target(1.4, 0.0, 0.0, 0.1, (0.8, 2.5, 0.25, 0.25))
_HISS = Target(1.0, 3.0, 1.4, 0.0, (1, 0.9, 0.6, 0.5), tongue=0.4)
_SHH = Target(1.2, 4.2, -3.0, 0.85, (1, 0.9, 1.1, 1.1))
_DENTAL = Target(2.2, 4.0, 0.0, 0.0, (0.7, 0.7, 0.3, 0.3), tongue=0.9)
_FV = Target(1.6, 2.4, 0.6, 0.0, (0.9, 2, 0.4, 0.4), teeth=1.0)
_REST = Target(0.0, 0.0, 0.0, 0.0, (1, 1, 0.6, 0.6))
_BREATH = Target(2.5, 4.0, 0.0, 0.0, (0.1, 0.1, 0.1, 0.1))
_ROUND = Target(2.2, 3.2, -5.5, 1.0, (0.9, 0.9, 1.4, 1.4))
_HALF_ROUND = Target(3.2, 4.6, -3.5, 0.7, (0.7, 0.7, 1, 1))

TARGETS: dict[str, Target] = {
    **dict.fromkeys("aɑäàãåɐɒ", _OPEN),
    "æ": Target(8.0, 10.5, 1.5, 0.0, (1, 1, 0.7, 0.5)),
    **dict.fromkeys("ʌɤ", Target(5.5, 7.5, 0.0, 0.0, (0.8, 0.8, 0.4, 0.4))),
    **dict.fromkeys("əɘᵊ", _SCHWA),
    **dict.fromkeys("ɚɝɜ", _RHOTIC),
    "ɛ": Target(5.5, 8.0, 1.0, 0.0, (0.9, 0.9, 0.6, 0.4)),
    **dict.fromkeys("eẽ", Target(4.2, 6.5, 2.0, 0.0, (0.9, 0.9, 0.8, 0.5))),
    **dict.fromkeys("ɪɨ", Target(3.2, 5.0, 1.2, 0.0, (0.7, 0.7, 0.6, 0.4))),
    **dict.fromkeys("iìĩǐɯ", Target(2.2, 4.6, 2.8, 0.0, (0.8, 0.8, 1, 0.6))),
    "ɔ": Target(7.0, 9.0, -3.0, 0.6, (1, 1, 1, 1)),
    **dict.fromkeys("oõøœ", Target(5.0, 6.5, -4.2, 0.8, (1, 1, 1.2, 1.2))),
    **dict.fromkeys("ʊʏɵ", _HALF_ROUND),
    **dict.fromkeys("uũyʉ", _ROUND),
    **dict.fromkeys("wɥɰ", Target(1.8, 2.2, -6.0, 1.0, (0.9, 1.2, 1.4, 1.4))),
    **dict.fromkeys("ɹrɻʁʀ", Target(2.4, 3.8, -2.5, 0.5, (0.6, 0.7, 0.7, 0.7))),
    **dict.fromkeys(["p", "b", "m", "pʰ", "p͈", "ɓ", "β", "ɸ", "ʙ"], _LIPS),
    **dict.fromkeys("fvʋɱ", _FV),
    **dict.fromkeys("θð", _DENTAL),
    **dict.fromkeys(["t", "d", "n", "tʰ", "t͈", "ɖ", "ɗ", "ʈ", "ɾ", "ɽ", "ɲ"], _STOP),
    **dict.fromkeys("lɫʎ", Target(2.6, 4.6, 0.3, 0.0, (0.55, 0.6, 0.25, 0.25), tongue=0.8)),
    **dict.fromkeys(["s", "z", "s͈", "ɮ"], _HISS),
    **dict.fromkeys(["ʃ", "ʒ", "t͡ʃ", "d͡ʒ", "ɕ", "ʑ", "ʂ", "ʐ", "t͡ɕ", "t͡ɕʰ", "t͡ɕ͈"], _SHH),
    **dict.fromkeys(["k", "g", "ɡ", "ŋ", "x", "kʰ", "k͈", "ɣ", "χ", "c", "ɟ", "ç", "ɴ"], _BACK),
    **dict.fromkeys("hɦħʔ", _BREATH),
    **dict.fromkeys("jʝ", Target(2.0, 4.0, 2.0, 0.0, (0.6, 0.6, 0.7, 0.5))),
}

BILABIALS = frozenset(symbol for symbol, target in TARGETS.items() if target is _LIPS)
NASALS = frozenset({"m"})

# Reach of a target in time (theta), seconds: jaw, aperture, width, protrusion, tongue, teeth.
REACH = (0.045, 0.040, 0.065, 0.065, 0.045, 0.035)


@dataclass(frozen=True)
class MouthCurves:
    """One value a frame, each array (frames,) float32."""

    jaw: Curve
    """Drop of the chin, mm."""
    aperture: Curve
    """Height between the inner lips, mm; 0 = closed."""
    width: Curve
    """How far each mouth corner is from rest, mm, outward positive."""
    protrusion: Curve
    """0-1: lips pushed forward and rounded."""
    tongue: Curve
    """0-1: tongue tip raised to the upper teeth."""
    teeth: Curve
    """0-1: lower lip at the upper teeth (f, v)."""
    closure: Curve
    """0-1: lips pressed together (p, b, m)."""
    activity: Curve
    """0-1: someone is speaking."""

    def __len__(self) -> int:
        return len(self.jaw)

    def part(self, start: int, stop: int) -> "MouthCurves":
        """The curves of frames start to stop."""
        return MouthCurves(*(getattr(self, field.name)[start:stop] for field in fields(self)))


def mouth_curves(
    sounds: list[Phoneme], level: NDArray[np.float32], fps: float, frames: int
) -> MouthCurves:
    """The mouth at `frames` frames; frame i is shown at i / fps seconds, as a camera would.

    `level` is the loudness in decibels of each 10 ms (`speech.loudness`).
    """
    count = max(int(np.ceil(frames / fps * STEPS)) + STEPS // 2, 1)
    time = (np.arange(count) + 0.5) / STEPS
    values = _coarticulated(sounds, count)
    gain, active = _energy(level, time)
    closure, exact = _closures(sounds, time)
    spread = SMOOTH * STEPS
    values = gaussian_filter1d(values * active, spread, axis=1, mode="nearest")
    jaw, aperture, width, protrusion, tongue, teeth = values
    gain = gaussian_filter1d(gain, spread)
    open_share = 1 - closure
    gain = LIVELY * gain
    curves = (
        jaw * gain * (1 - 0.25 * closure), aperture * gain * open_share, width, protrusion,
        tongue, np.clip(teeth, 0, 1) * open_share, closure,
        gaussian_filter1d(active, 2 * spread),
    )  # fmt: skip
    at = np.arange(frames) / fps + LEAD
    sampled = [np.interp(at, time, curve).astype(np.float32) for curve in curves]
    # Frames are sparse: the one on which a closure falls shows it whole.
    hits = np.clip(np.rint((np.array(exact) - LEAD) * fps).astype(int), 0, frames - 1)
    sampled[1][hits] = 0.0
    sampled[5][hits] = 0.0
    sampled[6][hits] = 1.0
    return MouthCurves(*sampled)


def _coarticulated(sounds: list[Phoneme], count: int) -> NDArray[np.float64]:
    """Dominance-weighted mean of the targets, (6, count): jaw, aperture, width, protrusion,
    tongue, teeth."""
    total = np.zeros((6, count))
    weight = np.full((6, count), 1e-4)  # a faint pull towards rest, for the time in between
    reach = np.array(REACH)[:, None]
    for sound in [*sounds, *_silences(sounds, count / STEPS)]:
        target = _REST if sound.symbol == "" else TARGETS.get(sound.symbol[:1] if
            sound.symbol not in TARGETS else sound.symbol, _SCHWA)  # fmt: skip
        half = (sound.end - sound.start) / 2
        first = max(int((sound.start - 0.5) * STEPS), 0)
        last = min(int((sound.end + 0.5) * STEPS) + 1, count)
        time = (np.arange(first, last) + 0.5) / STEPS
        distance = np.maximum(np.abs(time - sound.centre) - 0.6 * half, 0.0)
        strength = np.array([*target.pull, target.pull[1], target.pull[1]])[:, None]
        fade = strength * np.exp(-((distance / reach) ** 1.3))
        aim = (
            target.jaw, target.aperture, target.width, target.protrusion,
            target.tongue, target.teeth,
        )  # fmt: skip
        total[:, first:last] += fade * np.array(aim)[:, None]
        weight[:, first:last] += fade
    return total / weight


def _silences(sounds: list[Phoneme], end: float) -> list[Phoneme]:
    """The stretches of at least 80 ms between sounds, as sounds of no symbol."""
    edges = [0.0, *(t for sound in sounds for t in (sound.start, sound.end)), end]
    pairs = zip(edges[::2], edges[1::2], strict=True)
    return [Phoneme("", start, stop) for start, stop in pairs if stop - start > 0.08]


def _energy(
    level: NDArray[np.float32], time: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Loudness gain (0.7-1.12) and activity (0-1) at the curve's times."""
    at = (np.arange(len(level)) + 0.5) * HOP
    loud = gaussian_filter1d(level.astype(np.float64), 2.0)
    top = float(np.percentile(level, 95))
    gain = np.clip(1 + 0.022 * (loud - (top - 6)), 0.7, 1.12)
    speaking = (level > threshold(level)).astype(np.float64)
    if top < -60:
        speaking[:] = 0.0
    # Lips open before the sound and a stop's hold is silent: bridge 120 ms either way.
    widened = maximum_filter1d(speaking, 2 * int(0.12 / HOP) + 1, mode="constant")
    active = gaussian_filter1d(widened, 3.0)
    return np.interp(time, at, gain), np.interp(time, at, active, right=0.0)


def _closures(
    sounds: list[Phoneme], time: NDArray[np.float64]
) -> tuple[NDArray[np.float64], list[float]]:
    """How closed the lips are (0-1) at the curve's times, and the closures' centres, seconds.

    A stop is held up to its release, where the recogniser hears it begin; m hums through. (The
    faintest sound nearby was tried for stops: real lips agreed with it less.)
    """
    closed = np.zeros(len(time))
    centres = []
    for sound in sounds:
        if sound.symbol not in BILABIALS:
            continue
        centre, hold = sound.start, CLOSURE_HOLD
        if sound.symbol in NASALS:
            centre = sound.centre
            hold = max(hold, min(0.7 * (sound.end - sound.start), 0.12))
        distance = np.maximum(np.abs(time - centre) - hold / 2, 0.0) / CLOSURE_RAMP
        ramp = np.clip(1 - distance, 0, 1)
        closed = np.maximum(closed, ramp * ramp * (3 - 2 * ramp))
        centres.append(centre)
    return closed, centres
