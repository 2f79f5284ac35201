"""Voice features to mouth curves: lips, jaw and tongue at each frame.

`motion_model` predicts opening, width, jaw and pout; this module restores the range of real lips,
in millimetres. Phonemes add what is categorical: lips meet on p, b and m, the lower lip meets the
teeth on f and v, the tongue rises for t, d, l and th, rounded sounds are round. Visemes are
coarticulated by dominance functions (Cohen and Massaro, 1993: "Modeling coarticulation in synthetic
visual speech"): each phoneme pulls the mouth towards its viseme with a strength that fades with
distance in time, and the mouth follows the weighted mean.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from kolbo_demo.engine.motion_model import load_motion_model
from kolbo_demo.engine.phoneme_model import FRAME_SECONDS
from kolbo_demo.engine.prompt import PromptStyle
from kolbo_demo.engine.smoothing import smoothed
from kolbo_demo.engine.speech_features import HOP_SECONDS, Phoneme, VoiceFeatures, silence_threshold

CURVE_RATE = 200
"""Curve samples a second, before resampling at the frame times."""
SMOOTHING_SECONDS = 0.014
"""Standard deviation of the final smoothing: about as fast as lips can move."""
LEAD_SECONDS = 0.05
"""Lead of people's lips over their sound, applied to what phonemes give; learned curves need none.
Measured together with `speech_features.RECOGNISER_LAG_SECONDS` on 83 clips of 39 speakers."""
SHARPENING, SHARPENING_SECONDS = 0.8, 0.04
"""Unsharp mask of a learned curve: gain, and the Gaussian's standard deviation. A mean over what
people might do is slower than each of them."""
ENSEMBLE_GAIN = 1.03
"""Makes up for the smaller range of a mean of several networks."""
OPENING_CALIBRATION = (
    (0.2, 0.5, 1.5, 3.5, 6.0, 8.0, 10.0, 13.0, 20.0),
    (0.0, 1.5, 3.2, 4.5, 6.0, 7.8, 9.8, 13.4, 20.5),
)
"""Openings in mm, by landmarks and true: the landmarker reports slightly parted lips as closed.
Measured on pictures with known openings."""
MAX_APERTURE_MM = 20.0
CORNER_PER_WIDTH = 0.5
"""Millimetres by which each corner moves per millimetre of width."""
PROTRUSION_PER_PUCKER = 1.4
"""Protrusion per unit of the face model's "pucker" score."""
PHONEME_ROUNDING = 0.6
"""Weight of the visemes' width and protrusion, added to the learned curves: u, w, o and sh look
round on every face. A larger weight correlates less with real lips."""
SMILE_LIFT_MM = 3.0
"""Rise of the corners under the direction "smile"."""
LABIODENTAL_APERTURE_MM = 2.4
"""Gap between the lips while the lower one touches the teeth (f, v)."""
PAUSE_BRIDGE_HOPS, ONSET_HOPS, RELEASE_HOPS = 18, 2, 5
"""Half of the longest gap that is not a pause; movement before and after speech, on top of
LEAD_SECONDS."""
ROUNDING_ONSET_HOPS = 4
"""Movement of width and protrusion before speech: a mouth is round before its w is audible."""
CLOSURE_HOLD_SECONDS, CLOSURE_RAMP_SECONDS = 0.07, 0.03
"""Longer than a frame at 25 a second, so that two frames show it. In 280 stops of people, lips are
closed for 0.07 to 0.16 s."""
NASAL_CENTRE_SECONDS, NASAL_HOLD_SECONDS = 0.1, 0.12
"""Latest centre of an m's closure, and its longest hold: of a long m, the end is often open."""

Curve = NDArray[np.float32]


class Viseme(NamedTuple):
    """The mouth's target in a phoneme: corner pull in mm (outward positive), protrusion, tongue and
    labiodental contact 0-1. The opening is learned."""

    width: float
    protrusion: float
    dominance: tuple[float, float, float]
    """Of width, protrusion, and both contacts."""
    tongue: float = 0.0
    teeth: float = 0.0


# Set by hand in the feasibility study (millimetres on an average adult face).
_OPEN = Viseme(0.0, 0.0, (0.5, 0.5, 1))
_SCHWA = Viseme(0.0, 0.0, (0.25, 0.25, 0.4))
_RHOTIC = Viseme(-2.5, 0.5, (0.7, 0.7, 0.6))
_STOP = Viseme(0.5, 0.0, (0.25, 0.25, 0.55), tongue=0.55)
_BACK = Viseme(0.0, 0.0, (0.2, 0.2, 0.5))
_LIPS = Viseme(0.0, 0.1, (0.25, 0.25, 2.5))
_HISS = Viseme(1.4, 0.0, (0.6, 0.5, 0.9), tongue=0.4)
_SHH = Viseme(-3.0, 0.85, (1.1, 1.1, 0.9))
_DENTAL = Viseme(0.0, 0.0, (0.3, 0.3, 0.7), tongue=0.9)
_FV = Viseme(0.6, 0.0, (0.4, 0.4, 2), teeth=1.0)
_REST = Viseme(0.0, 0.0, (0.6, 0.6, 1))
_BREATH = Viseme(0.0, 0.0, (0.1, 0.1, 0.1))
_ROUND = Viseme(-5.5, 1.0, (1.4, 1.4, 0.9))
_HALF_ROUND = Viseme(-3.5, 0.7, (1, 1, 0.7))

VISEMES: dict[str, Viseme] = {
    "": _REST,  # silence
    **dict.fromkeys("aɑäàãåɐɒ", _OPEN),
    "æ": Viseme(1.5, 0.0, (0.7, 0.5, 1)),
    **dict.fromkeys("ʌɤ", Viseme(0.0, 0.0, (0.4, 0.4, 0.8))),
    **dict.fromkeys("əɘᵊ", _SCHWA),
    **dict.fromkeys("ɚɝɜ", _RHOTIC),
    "ɛ": Viseme(1.0, 0.0, (0.6, 0.4, 0.9)),
    **dict.fromkeys("eẽ", Viseme(2.0, 0.0, (0.8, 0.5, 0.9))),
    **dict.fromkeys("ɪɨ", Viseme(1.2, 0.0, (0.6, 0.4, 0.7))),
    **dict.fromkeys("iìĩǐɯ", Viseme(2.8, 0.0, (1, 0.6, 0.8))),
    "ɔ": Viseme(-3.0, 0.6, (1, 1, 1)),
    **dict.fromkeys("oõøœ", Viseme(-4.2, 0.8, (1.2, 1.2, 1))),
    **dict.fromkeys("ʊʏɵ", _HALF_ROUND),
    **dict.fromkeys("uũyʉ", _ROUND),
    **dict.fromkeys("wɥɰ", Viseme(-6.0, 1.0, (1.4, 1.4, 1.2))),
    **dict.fromkeys("ɹrɻʁʀ", Viseme(-2.5, 0.5, (0.7, 0.7, 0.7))),
    **dict.fromkeys(["p", "b", "m", "pʰ", "p͈", "ɓ", "β", "ɸ", "ʙ"], _LIPS),
    **dict.fromkeys("fvʋɱ", _FV),
    **dict.fromkeys("θð", _DENTAL),
    **dict.fromkeys(["t", "d", "n", "tʰ", "t͈", "ɖ", "ɗ", "ʈ", "ɾ", "ɽ", "ɲ"], _STOP),
    **dict.fromkeys("lɫʎ", Viseme(0.3, 0.0, (0.25, 0.25, 0.6), tongue=0.8)),
    **dict.fromkeys(["s", "z", "s͈", "ɮ"], _HISS),
    **dict.fromkeys(["ʃ", "ʒ", "t͡ʃ", "d͡ʒ", "ɕ", "ʑ", "ʂ", "ʐ", "t͡ɕ", "t͡ɕʰ", "t͡ɕ͈"], _SHH),
    **dict.fromkeys(["k", "g", "ɡ", "ŋ", "x", "kʰ", "k͈", "ɣ", "χ", "c", "ɟ", "ç", "ɴ"], _BACK),
    **dict.fromkeys("hɦħʔ", _BREATH),
    **dict.fromkeys("jʝ", Viseme(2.0, 0.0, (0.7, 0.5, 0.6))),
}

BILABIALS = frozenset(symbol for symbol, target in VISEMES.items() if target is _LIPS)
NASALS = frozenset({"m"})

DOMINANCE_SECONDS = (0.05, 0.05, 0.045, 0.035)
"""Decay in time (theta) of width, protrusion, tongue and teeth."""


@dataclass(frozen=True)
class MouthCurves:
    """One value a frame, each array (frames,) float32. Field names are keys of the plan file."""

    jaw: Curve
    """Drop of the chin, mm."""
    aperture: Curve
    """Height between the inner lips, mm; 0 = closed."""
    width: Curve
    """Displacement of each mouth corner from rest, mm, outward positive."""
    protrusion: Curve
    """0-1: lips pushed forward and rounded."""
    tongue: Curve
    """0-1: tongue tip raised to the upper teeth."""
    teeth: Curve
    """0-1: lower lip at the upper teeth (f, v)."""
    closure: Curve
    """0-1: lips pressed together (p, b, m)."""
    smile: Curve
    """Rise of each mouth corner, mm, unless a sound rounds the mouth."""

    def __len__(self) -> int:
        return len(self.jaw)

    def styled(self, style: PromptStyle) -> "MouthCurves":
        """The curves scaled and shifted by a prompt's style. Closures stay closed."""
        scale = style.lips
        return replace(
            self,
            jaw=self.jaw * scale,
            aperture=np.minimum(self.aperture * scale, MAX_APERTURE_MM),
            width=self.width * scale,
            protrusion=np.minimum(self.protrusion * scale, 1),
            smile=self.smile + (SMILE_LIFT_MM if style.smile else 0),
        )


def mouth_curves(voice: VoiceFeatures, fps: float, frames: int) -> MouthCurves:
    """Mouth curves of `frames` frames; frame i is sampled at i / fps seconds, as by a camera."""
    count = max(int(np.ceil(frames / fps * CURVE_RATE)) + CURVE_RATE // 2, 1)
    time = (np.arange(count) + 0.5) / CURVE_RATE
    values = _coarticulate(voice.phonemes, count)
    activity, rounding = (
        _speech_activity(voice.level, time, hops) for hops in (ONSET_HOPS, ROUNDING_ONSET_HOPS)
    )
    closure, closure_times = _closures(voice.phonemes, time)
    names = load_motion_model().curve_names
    learned = {name: _calibrated(name, voice, time - LEAD_SECONDS) for name in names}
    width, protrusion, tongue, teeth = values
    teeth = np.clip(teeth, 0, 1)
    aperture = learned["opening"] + 0.8 * teeth * (LABIODENTAL_APERTURE_MM - learned["opening"])
    width = learned["width"] + PHONEME_ROUNDING * width
    protrusion = np.clip(learned["pout"] + PHONEME_ROUNDING * protrusion, 0, 1)
    values = np.array([learned["jaw"], aperture, width, protrusion, tongue, teeth])
    values *= np.array([activity, activity, rounding, rounding, activity, activity])
    jaw, aperture, width, protrusion, tongue, teeth = (
        smoothed(value, SMOOTHING_SECONDS * CURVE_RATE, "edge") for value in values
    )
    curves = (
        jaw * (1 - 0.25 * closure), aperture * (1 - closure), width, protrusion, tongue,
        teeth * (1 - closure), closure,
    )  # fmt: skip
    frame_times = np.arange(frames) / fps + LEAD_SECONDS
    sampled = [np.interp(frame_times, time, curve).astype(np.float32) for curve in curves]
    # Frames are sparse: the frame nearest a closure shows it in full.
    closed_frames = np.rint((np.array(closure_times) - LEAD_SECONDS) * fps).astype(int)
    closed_frames = np.clip(closed_frames, 0, frames - 1)
    sampled[1][closed_frames] = 0.0
    sampled[5][closed_frames] = 0.0
    sampled[6][closed_frames] = 1.0
    return MouthCurves(*sampled, smile=np.zeros(frames, np.float32))


def _calibrated(name: str, voice: VoiceFeatures, time: NDArray[np.float64]) -> NDArray[np.float64]:
    """A learned curve at `time` (seconds) with the range and speed of real lips: mm, or 0-1 for the
    pout. Maps the quantiles of predicted curves to those of people's lips."""
    if name not in voice.curves:
        return np.zeros(len(time))
    curve = ENSEMBLE_GAIN * voice.curves[name].astype(np.float64)
    blurred = smoothed(curve, SHARPENING_SECONDS / FRAME_SECONDS, "edge")
    curve = curve + SHARPENING * (curve - blurred)
    predicted, real = load_motion_model().quantiles[name]
    shaped = np.interp(curve, predicted, _TO_MOUTH_UNITS[name](real))
    return np.interp(time, np.arange(len(curve)) * FRAME_SECONDS, shaped)


_TO_MOUTH_UNITS: dict[str, Callable[[Curve], Curve]] = {
    "opening": lambda mm: np.minimum(np.interp(mm, *OPENING_CALIBRATION), MAX_APERTURE_MM),
    "width": lambda mm: mm * CORNER_PER_WIDTH,
    "jaw": lambda mm: np.maximum(mm, 0),
    "pout": lambda score: np.minimum(score * PROTRUSION_PER_PUCKER, 1),
}
"""Landmark measurements of real lips to the units of `MouthCurves`."""


def _coarticulate(phonemes: list[Phoneme], count: int) -> NDArray[np.float64]:
    """Dominance-weighted mean of the visemes, (4, count): width, protrusion, tongue, teeth."""
    total = np.zeros((4, count))
    weight = np.full((4, count), 1e-4)  # a faint pull towards rest between phonemes
    reach = np.array(DOMINANCE_SECONDS)[:, None]
    for phoneme in [*phonemes, *_silences(phonemes, count / CURVE_RATE)]:
        viseme = VISEMES.get(phoneme.symbol) or VISEMES.get(phoneme.symbol[:1], _SCHWA)
        half = (phoneme.end - phoneme.start) / 2
        first = max(int((phoneme.start - 0.5) * CURVE_RATE), 0)
        last = min(int((phoneme.end + 0.5) * CURVE_RATE) + 1, count)
        time = (np.arange(first, last) + 0.5) / CURVE_RATE
        distance = np.maximum(np.abs(time - phoneme.centre) - 0.6 * half, 0.0)
        strength = np.array([*viseme.dominance, viseme.dominance[2]])[:, None]
        pull = strength * np.exp(-((distance / reach) ** 1.3))
        target = np.array([viseme.width, viseme.protrusion, viseme.tongue, viseme.teeth])
        total[:, first:last] += pull * target[:, None]
        weight[:, first:last] += pull
    return total / weight


def _silences(phonemes: list[Phoneme], end: float) -> list[Phoneme]:
    """Gaps of over 80 ms between phonemes, as phonemes without a symbol."""
    edges = [0.0, *(t for phoneme in phonemes for t in (phoneme.start, phoneme.end)), end]
    pairs = zip(edges[::2], edges[1::2], strict=True)
    return [Phoneme("", start, stop) for start, stop in pairs if stop - start > 0.08]


def _speech_activity(
    level: NDArray[np.float32], time: NDArray[np.float64], onset_hops: int
) -> NDArray[np.float64]:
    """0-1 at `time`: speech, widened by `onset_hops` before and RELEASE_HOPS after it."""
    level_times = (np.arange(len(level)) + 0.5) * HOP_SECONDS
    speaking = (level > silence_threshold(level)).astype(np.float64)
    if float(np.percentile(level, 95)) < -60:
        speaking[:] = 0.0
    # Stops are silent while they are held, and mouths stay open for a breath: bridge such gaps.
    span = 2 * PAUSE_BRIDGE_HOPS + 1
    dilated = sliding_window_view(np.pad(speaking, span - 1), span).max(1)
    bridged = sliding_window_view(dilated, span).min(1)
    reach = onset_hops + RELEASE_HOPS + 1
    padded = np.pad(bridged, (RELEASE_HOPS, onset_hops))
    widened = sliding_window_view(padded, reach).max(1)
    return np.interp(time, level_times, smoothed(widened, 2.5, "symmetric"), right=0.0)


def _closures(
    phonemes: list[Phoneme], time: NDArray[np.float64]
) -> tuple[NDArray[np.float64], list[float]]:
    """Lip closure 0-1 at `time`, and the centres of the closures, seconds.

    The recogniser detects a stop at its release, so its closure is centred on the start; m is
    voiced throughout. (Centring stops on the nearest level minimum matched real lips less.)
    """
    closed = np.zeros(len(time))
    centres = []
    for phoneme in phonemes:
        if phoneme.symbol not in BILABIALS:
            continue
        centre, hold = phoneme.start, CLOSURE_HOLD_SECONDS
        if phoneme.symbol in NASALS:
            centre = min(phoneme.centre, phoneme.start + NASAL_CENTRE_SECONDS)
            hold = max(hold, min(0.7 * (phoneme.end - phoneme.start), NASAL_HOLD_SECONDS))
        distance = np.maximum(np.abs(time - centre) - hold / 2, 0.0) / CLOSURE_RAMP_SECONDS
        ramp = np.clip(1 - distance, 0, 1)
        closed = np.maximum(closed, ramp * ramp * (3 - 2 * ramp))
        centres.append(centre)
    return closed, centres
