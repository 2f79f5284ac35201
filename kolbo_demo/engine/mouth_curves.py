"""A voice to mouth curves: where the lips and the jaw are at each frame.

Curves learned from people (`motion`) say where opening, width, jaw and pout go; here they get the
reach of real lips back, in millimetres. Phonemes add what is categorical: the lips meet on p, b and
m, the lower lip meets the teeth on f and v, the tongue rises for t, d, l and th, rounded sounds are
round. Those targets are coarticulated by dominance functions (Cohen and Massaro, 1993: "Modeling
coarticulation in synthetic visual speech"): each sound pulls the mouth towards its target with a
strength that fades with distance in time, and the mouth follows the weighted mean.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from kolbo_demo.engine.motion_model import motion
from kolbo_demo.engine.phoneme_model import STEP
from kolbo_demo.engine.prompt import PromptStyle
from kolbo_demo.engine.smoothing import smoothed
from kolbo_demo.engine.speech_features import HOP, Heard, Phoneme, threshold

STEPS = 200
"""Curve samples a second before they are read at the frame times."""
SMOOTH = 0.014
"""Seconds: spread of the last smoothing, about what lips can do."""
LEAD = 0.05
"""Seconds by which people's lips are ahead of the sound they make. Measured with `speech.LAG` on 83
clips of 39 real speakers; it moves what phonemes give. Learned curves are in step as they are."""
CRISP, CRISP_REACH = 0.8, 0.04
"""How much of what is faster than CRISP_REACH (seconds) is added to a learned curve once more: as a
mean of what people might do, it is a little slower than each of them."""
ENSEMBLE = 1.03
"""The mean of several networks moves so much less than one of them."""
SHOWN = (
    (0.2, 0.5, 1.5, 3.5, 6.0, 8.0, 10.0, 13.0, 20.0),
    (0.0, 1.5, 3.2, 4.5, 6.0, 7.8, 9.8, 13.4, 20.5),
)
"""Openings as the landmarks of people tell them, and what they are, mm: the landmarker takes lips
that are a little apart for closed. Measured on pictures with known openings."""
WIDEST = 20.0
"""Millimetres: no mouth is opened further."""
CORNER = 0.5
"""Millimetres that each corner goes out for one of width."""
POUT = 1.4
"""Protrusion for one of the face model's score "pucker"."""
ROUNDED = 0.6
"""How much of the table's width and protrusion comes on top of the learned: u, w, o and sh look
round on every face. More of it agrees with real lips less."""
SMILE = 3.0
"""Millimetres that a smile which was asked for pulls the corners up."""
FV_APERTURE = 2.4
"""Millimetres between the lips while the lower one is at the teeth."""
BRIDGE, BEFORE, AFTER = 18, 2, 5
"""Tens of milliseconds: half of the longest gap that is no pause, and how far lips move on either
side of speech. (What leads the sound opens them LEAD earlier still.)"""
ROUND_BEFORE = 4
"""The same for how wide and round they are: a mouth is round before its w is heard."""
CLOSURE_HOLD, CLOSURE_RAMP = 0.05, 0.055
"""Seconds that lips stay pressed, and take to get there and away."""

Curve = NDArray[np.float32]


class Target(NamedTuple):
    """Where a sound wants the mouth: corner pull in mm (outward positive), protrusion, tongue tip
    and labiodental contact 0-1; and how strongly. How far the mouth opens is learned."""

    width: float
    protrusion: float
    pull: tuple[float, float, float]
    """Dominance of width, protrusion, and both contacts."""
    tongue: float = 0.0
    teeth: float = 0.0


# Set by hand in the feasibility study (millimetres on an average adult face).
_OPEN = Target(0.0, 0.0, (0.5, 0.5, 1))
_SCHWA = Target(0.0, 0.0, (0.25, 0.25, 0.4))
_RHOTIC = Target(-2.5, 0.5, (0.7, 0.7, 0.6))
_STOP = Target(0.5, 0.0, (0.25, 0.25, 0.55), tongue=0.55)
_BACK = Target(0.0, 0.0, (0.2, 0.2, 0.5))
_LIPS = Target(0.0, 0.1, (0.25, 0.25, 2.5))
_HISS = Target(1.4, 0.0, (0.6, 0.5, 0.9), tongue=0.4)
_SHH = Target(-3.0, 0.85, (1.1, 1.1, 0.9))
_DENTAL = Target(0.0, 0.0, (0.3, 0.3, 0.7), tongue=0.9)
_FV = Target(0.6, 0.0, (0.4, 0.4, 2), teeth=1.0)
_REST = Target(0.0, 0.0, (0.6, 0.6, 1))
_BREATH = Target(0.0, 0.0, (0.1, 0.1, 0.1))
_ROUND = Target(-5.5, 1.0, (1.4, 1.4, 0.9))
_HALF_ROUND = Target(-3.5, 0.7, (1, 1, 0.7))

TARGETS: dict[str, Target] = {
    "": _REST,  # a silence
    **dict.fromkeys("aɑäàãåɐɒ", _OPEN),
    "æ": Target(1.5, 0.0, (0.7, 0.5, 1)),
    **dict.fromkeys("ʌɤ", Target(0.0, 0.0, (0.4, 0.4, 0.8))),
    **dict.fromkeys("əɘᵊ", _SCHWA),
    **dict.fromkeys("ɚɝɜ", _RHOTIC),
    "ɛ": Target(1.0, 0.0, (0.6, 0.4, 0.9)),
    **dict.fromkeys("eẽ", Target(2.0, 0.0, (0.8, 0.5, 0.9))),
    **dict.fromkeys("ɪɨ", Target(1.2, 0.0, (0.6, 0.4, 0.7))),
    **dict.fromkeys("iìĩǐɯ", Target(2.8, 0.0, (1, 0.6, 0.8))),
    "ɔ": Target(-3.0, 0.6, (1, 1, 1)),
    **dict.fromkeys("oõøœ", Target(-4.2, 0.8, (1.2, 1.2, 1))),
    **dict.fromkeys("ʊʏɵ", _HALF_ROUND),
    **dict.fromkeys("uũyʉ", _ROUND),
    **dict.fromkeys("wɥɰ", Target(-6.0, 1.0, (1.4, 1.4, 1.2))),
    **dict.fromkeys("ɹrɻʁʀ", Target(-2.5, 0.5, (0.7, 0.7, 0.7))),
    **dict.fromkeys(["p", "b", "m", "pʰ", "p͈", "ɓ", "β", "ɸ", "ʙ"], _LIPS),
    **dict.fromkeys("fvʋɱ", _FV),
    **dict.fromkeys("θð", _DENTAL),
    **dict.fromkeys(["t", "d", "n", "tʰ", "t͈", "ɖ", "ɗ", "ʈ", "ɾ", "ɽ", "ɲ"], _STOP),
    **dict.fromkeys("lɫʎ", Target(0.3, 0.0, (0.25, 0.25, 0.6), tongue=0.8)),
    **dict.fromkeys(["s", "z", "s͈", "ɮ"], _HISS),
    **dict.fromkeys(["ʃ", "ʒ", "t͡ʃ", "d͡ʒ", "ɕ", "ʑ", "ʂ", "ʐ", "t͡ɕ", "t͡ɕʰ", "t͡ɕ͈"], _SHH),
    **dict.fromkeys(["k", "g", "ɡ", "ŋ", "x", "kʰ", "k͈", "ɣ", "χ", "c", "ɟ", "ç", "ɴ"], _BACK),
    **dict.fromkeys("hɦħʔ", _BREATH),
    **dict.fromkeys("jʝ", Target(2.0, 0.0, (0.7, 0.5, 0.6))),
}

BILABIALS = frozenset(symbol for symbol, target in TARGETS.items() if target is _LIPS)
NASALS = frozenset({"m"})

# Reach of a target in time (theta), seconds: width, protrusion, tongue, teeth.
REACH = (0.05, 0.05, 0.045, 0.035)


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
    smile: Curve
    """How far each mouth corner is pulled up, mm, unless a sound rounds it."""

    def __len__(self) -> int:
        return len(self.jaw)

    def styled(self, style: PromptStyle) -> "MouthCurves":
        """These curves, scaled as a prompt asks. Closures stay closed."""
        scale = style.lips
        return replace(
            self,
            jaw=self.jaw * scale,
            aperture=np.minimum(self.aperture * scale, WIDEST),
            width=self.width * scale,
            protrusion=np.minimum(self.protrusion * scale, 1),
            smile=self.smile + (SMILE if style.smile else 0),
        )


def mouth_curves(heard: Heard, fps: float, frames: int) -> MouthCurves:
    """The mouth at `frames` frames; frame i is shown at i / fps seconds, as a camera would."""
    count = max(int(np.ceil(frames / fps * STEPS)) + STEPS // 2, 1)
    time = (np.arange(count) + 0.5) / STEPS
    values = _coarticulated(heard.sounds, count)
    active, rounding = (_activity(heard.level, time, before) for before in (BEFORE, ROUND_BEFORE))
    closure, exact = _closures(heard.sounds, time)
    learned = {name: _lifelike(name, heard, time - LEAD) for name in motion().names}
    width, protrusion, tongue, teeth = values
    teeth = np.clip(teeth, 0, 1)
    aperture = learned["opening"] + 0.8 * teeth * (FV_APERTURE - learned["opening"])
    width = learned["width"] + ROUNDED * width
    protrusion = np.clip(learned["pout"] + ROUNDED * protrusion, 0, 1)
    values = np.array([learned["jaw"], aperture, width, protrusion, tongue, teeth])
    values *= np.array([active, active, rounding, rounding, active, active])
    jaw, aperture, width, protrusion, tongue, teeth = (
        smoothed(value, SMOOTH * STEPS, "edge") for value in values
    )
    curves = (
        jaw * (1 - 0.25 * closure), aperture * (1 - closure), width, protrusion, tongue,
        teeth * (1 - closure), closure,
    )  # fmt: skip
    at = np.arange(frames) / fps + LEAD
    sampled = [np.interp(at, time, curve).astype(np.float32) for curve in curves]
    # Frames are sparse: the one on which a closure falls shows it whole.
    hits = np.clip(np.rint((np.array(exact) - LEAD) * fps).astype(int), 0, frames - 1)
    sampled[1][hits] = 0.0
    sampled[5][hits] = 0.0
    sampled[6][hits] = 1.0
    return MouthCurves(*sampled, smile=np.zeros(frames, np.float32))


def _lifelike(name: str, heard: Heard, time: NDArray[np.float64]) -> NDArray[np.float64]:
    """A learned curve at `time` (seconds) with the spread and the speed of real lips: mm, or 0-1
    for the pout. Quantiles of what is predicted for people are laid on those of the people."""
    if name not in heard.curves:
        return np.zeros(len(time))
    curve = ENSEMBLE * heard.curves[name].astype(np.float64)
    curve = curve + CRISP * (curve - smoothed(curve, CRISP_REACH / STEP, "edge"))
    predicted, real = motion().quantiles[name]
    shaped = np.interp(curve, predicted, _SHAPED[name](real))
    return np.interp(time, np.arange(len(curve)) * STEP, shaped)


_SHAPED: dict[str, Callable[[Curve], Curve]] = {
    "opening": lambda mm: np.minimum(np.interp(mm, *SHOWN), WIDEST),
    "width": lambda mm: mm * CORNER,
    "jaw": lambda mm: np.maximum(mm, 0),
    "pout": lambda score: np.minimum(score * POUT, 1),
}
"""From what is seen of real lips to the units of `MouthCurves`."""


def _coarticulated(sounds: list[Phoneme], count: int) -> NDArray[np.float64]:
    """Dominance-weighted mean of the targets, (4, count): width, protrusion, tongue, teeth."""
    total = np.zeros((4, count))
    weight = np.full((4, count), 1e-4)  # a faint pull towards rest, for the time in between
    reach = np.array(REACH)[:, None]
    for sound in [*sounds, *_silences(sounds, count / STEPS)]:
        target = TARGETS.get(sound.symbol) or TARGETS.get(sound.symbol[:1], _SCHWA)
        half = (sound.end - sound.start) / 2
        first = max(int((sound.start - 0.5) * STEPS), 0)
        last = min(int((sound.end + 0.5) * STEPS) + 1, count)
        time = (np.arange(first, last) + 0.5) / STEPS
        distance = np.maximum(np.abs(time - sound.centre) - 0.6 * half, 0.0)
        strength = np.array([*target.pull, target.pull[2]])[:, None]
        fade = strength * np.exp(-((distance / reach) ** 1.3))
        aim = np.array([target.width, target.protrusion, target.tongue, target.teeth])
        total[:, first:last] += fade * aim[:, None]
        weight[:, first:last] += fade
    return total / weight


def _silences(sounds: list[Phoneme], end: float) -> list[Phoneme]:
    """The stretches of at least 80 ms between sounds, as sounds of no symbol."""
    edges = [0.0, *(t for sound in sounds for t in (sound.start, sound.end)), end]
    pairs = zip(edges[::2], edges[1::2], strict=True)
    return [Phoneme("", start, stop) for start, stop in pairs if stop - start > 0.08]


def _activity(
    level: NDArray[np.float32], time: NDArray[np.float64], before: int
) -> NDArray[np.float64]:
    """0-1: whether someone is speaking or will within `before`, at the curves' times."""
    at = (np.arange(len(level)) + 0.5) * HOP
    speaking = (level > threshold(level)).astype(np.float64)
    if float(np.percentile(level, 95)) < -60:
        speaking[:] = 0.0
    # A stop's hold is silent, and nobody shuts the mouth for a breath: gaps are bridged; lips open
    # before the sound and close after it.
    near = sliding_window_view(np.pad(speaking, 2 * BRIDGE), 2 * BRIDGE + 1).max(1)
    bridged = sliding_window_view(near, 2 * BRIDGE + 1).min(1)
    # Where `bridged` is 1 within AFTER before a moment or `before` after it.
    reach = before + AFTER + 1
    padded = np.pad(bridged, (AFTER, before))
    widened = sliding_window_view(padded, reach).max(1)
    return np.interp(time, at, smoothed(widened, 2.5, "symmetric"), right=0.0)


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
