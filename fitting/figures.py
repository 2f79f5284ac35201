"""How well curves that were never fitted to a speaker follow that speaker's lips."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter1d

from fitting.tracks import LEARNT, Clip
from kolbo_demo.engine.audio_io import load_voice
from kolbo_demo.engine.motion_model import motion
from kolbo_demo.engine.mouth_curves import BILABIALS, LEAD, SHOWN, MouthCurves, mouth_curves
from kolbo_demo.engine.phoneme_model import RATE, STEP
from kolbo_demo.engine.speech_features import hear

Floats = NDArray[np.float32]

QUANTILES = np.array([1, 5, 10, 25, 50, 75, 90, 95, 99])
LONG = 2.9
"""Seconds: shorter clips say little about how a speaker's mouth is spread."""
JITTER = 0.02
"""Seconds: landmarks jitter; speeds are measured on curves smoothed by so much."""

WIDTH_SEEN = 1.65
"""Millimetres of width that the landmarker sees where both corners go one millimetre out. Measured
on pictures with known widths."""

Measure = Callable[[Clip, Floats], Sequence[float] | NDArray]


def by_speaker(clips: list[Clip], unheard: dict[str, Floats], measure: Measure) -> Floats:
    """Mean over speakers of the mean over each one's clips."""
    values: dict[str, list[NDArray]] = {}
    for clip in clips:
        values.setdefault(clip.speaker, []).append(np.asarray(measure(clip, unheard[clip.name])))
    return np.mean([np.mean(rows, axis=0) for rows in values.values()], axis=0)


def figures(clips: list[Clip], unheard: dict[str, Floats]) -> Iterator[str]:
    """Correlations at lag 0, and how alive the curves are, in lines to print."""

    def likeness(clip: Clip, curves: Floats) -> list[float]:
        return [
            _r(curves[LEARNT.index(learnt)], clip.mouth[real])
            for learnt, real in (("opening", "opening seen"), ("opening", "opening"),
                                 ("width", "width seen"), ("width", "width"))
        ]  # fmt: skip

    yield "correlation at lag 0      opening  (upright)  width  (upright)  speakers"
    for label, least in (("all clips", 0.0), ("clips over 1.3 s", 1.3), ("of 3 s and more", LONG)):
        some = [clip for clip in clips if clip.seconds > least]
        if not some:
            continue
        r = by_speaker(some, unheard, likeness)
        yield (
            f"{label:25} {r[0]:7.3f} {r[1]:10.3f} {r[2]:6.3f} {r[3]:10.3f}"
            f" {len({clip.speaker for clip in some}):9}"
        )
    others = by_speaker(clips, unheard, lambda clip, curves: [
        _r(curve, clip.mouth[name]) for name, curve in zip(LEARNT, curves, strict=True)
    ])  # fmt: skip
    yield ", ".join(f"{name} {r:.2f}" for name, r in zip(LEARNT, others, strict=True))


def alive(clips: list[Clip], unheard: dict[str, Floats], tracks: Path) -> Iterator[str]:
    """What the engine makes of the predictions beside real lips, clips of 3 s and more: spread and
    speed in millimetres, closures, sounds that are round. In lines to print."""
    shown = {clip.name: _shown(clip, unheard[clip.name], tracks) for clip in clips}
    r = by_speaker(clips, unheard, lambda clip, _: [
        _r(shown[clip.name][0].aperture, clip.mouth["opening seen"]),
        _r(shown[clip.name][0].width, clip.mouth["width seen"]),
    ])  # fmt: skip
    yield f"as the engine shows them, all clips: opening {r[0]:.3f}, width {r[1]:.3f}"

    def reach(clip: Clip, _: Floats) -> list[float]:
        curves, mouth = shown[clip.name][0], clip.mouth
        opening = np.interp(curves.aperture, SHOWN[1], SHOWN[0])
        pairs = (
            (mouth["opening"], opening), (mouth["width"], curves.width * WIDTH_SEEN),
            (mouth["jaw"], curves.jaw),
        )  # fmt: skip
        return [
            of
            for real, ours in pairs
            for of in (real.std(), ours.std(), speed(real, clip.fps), speed(ours, clip.fps))
        ]

    long = [clip for clip in clips if clip.seconds > LONG]
    values = by_speaker(long, unheard, reach)
    yield f"{'mm as landmarks see them, 3 s and more':40} spread: real  ours  speed: real  ours"
    for name, (a, b, c, d) in zip(("opening", "width", "jaw"), values.reshape(3, 4), strict=True):
        yield f"{name:40} {a:12.2f} {b:5.2f} {c:12.0f} {d:5.0f}"
    closed = [
        aperture[round((at - LEAD) * fps)] == 0
        for aperture, at, fps in (
            (shown[clip.name][0].aperture, at, clip.fps)
            for clip in clips
            for at in shown[clip.name][1]
        )
        if 0 <= round((at - LEAD) * fps) < len(aperture)
    ]
    yield f"closures on their own frame: {sum(closed)} of {len(closed)}"


def _shown(clip: Clip, curves: Floats, tracks: Path) -> tuple[MouthCurves, list[float]]:
    """The engine's curves from those of a clip's unheard speaker, and when p, b, m are closed."""
    heard = hear(load_voice(tracks / f"{clip.name}.flac", RATE))
    times = np.arange(curves.shape[1]) / clip.fps
    grid = np.arange(0, times[-1], STEP)
    learned = {
        name: np.interp(grid, times, curves[LEARNT.index(name)]).astype(np.float32)
        for name in motion().names
    }
    heard = replace(heard, curves=learned)
    closures = [
        sound.centre if sound.symbol == "m" else sound.start
        for sound in heard.sounds
        if sound.symbol in BILABIALS
    ]
    return mouth_curves(heard, clip.fps, curves.shape[1]), closures


def knots(
    clips: list[Clip], unheard: dict[str, Floats], names: tuple[str, ...]
) -> tuple[Floats, Floats]:
    """Quantiles of predicted curves and of the real ones (curves, quantiles), mean over speakers:
    laying one on the other gives a curve the spread of real lips.

    Real ones are in mm (pout 0-1): opening from the clip's smallest, width from its median, jaw
    from its 5th percentile.
    """
    long = [clip for clip in clips if clip.seconds > LONG]
    heard, seen = [], []
    for name in names:
        row = LEARNT.index(name)
        heard.append(
            by_speaker(long, unheard, lambda _, c, row=row: np.percentile(c[row], QUANTILES))
        )
        seen.append(by_speaker(long, unheard, lambda clip, _, n=name: _quantiles(clip.mouth[n], n)))
    return np.array(heard), np.array(seen)


def _quantiles(curve: Floats, name: str) -> list[float]:
    rest = {
        "opening": curve.min(), "width": np.median(curve), "jaw": np.percentile(curve, 5)
    }.get(name, 0.0)  # fmt: skip
    return list(np.percentile(curve - rest, QUANTILES))


def _r(one: Floats, two: Floats) -> float:
    one, two = one - one.mean(), two - two.mean()
    return float((one * two).sum() / np.sqrt((one**2).sum() * (two**2).sum() + 1e-9))


def speed(curve: Floats, fps: float) -> float:
    """95th percentile of how fast a curve changes, a second, jitter taken out."""
    smooth = gaussian_filter1d(np.asarray(curve, np.float64), JITTER * fps, mode="nearest")
    return float(np.percentile(np.abs(np.diff(smooth)), 95) * fps)
