"""Evaluation of predicted mouth curves on held-out speakers."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter1d

from fitting.dataset import CURVE_NAMES, TrainingClip
from kolbo_demo.engine.audio_io import load_voice
from kolbo_demo.engine.motion_model import load_motion_model
from kolbo_demo.engine.mouth_curves import (
    BILABIALS,
    LEAD_SECONDS,
    OPENING_CALIBRATION,
    MouthCurves,
    mouth_curves,
)
from kolbo_demo.engine.phoneme_model import FRAME_SECONDS, SAMPLE_RATE
from kolbo_demo.engine.speech_features import extract_voice_features

Floats = NDArray[np.float32]

QUANTILES = np.array([1, 5, 10, 25, 50, 75, 90, 95, 99])
LONG_CLIP_SECONDS = 2.9
"""Shorter clips say little about the range of a speaker's mouth."""
JITTER_SECONDS = 0.02
"""Smoothing before speeds are measured: landmarks jitter."""
LANDMARK_WIDTH_GAIN = 1.65
"""Width by landmarks for one millimetre at both corners. Measured on pictures with known widths."""

Measure = Callable[[TrainingClip, Floats], Sequence[float] | NDArray]


def mean_by_speaker(
    clips: list[TrainingClip], held_out: dict[str, Floats], measure: Measure
) -> Floats:
    """Mean over speakers of the mean over a speaker's clips."""
    values: dict[str, list[NDArray]] = {}
    for clip in clips:
        values.setdefault(clip.speaker, []).append(np.asarray(measure(clip, held_out[clip.name])))
    return np.mean([np.mean(rows, axis=0) for rows in values.values()], axis=0)


def correlation_lines(clips: list[TrainingClip], held_out: dict[str, Floats]) -> Iterator[str]:
    """Report lines: correlations at lag 0."""

    def correlations(clip: TrainingClip, curves: Floats) -> list[float]:
        return [
            _correlation(curves[CURVE_NAMES.index(curve)], clip.mouth[real])
            for curve, real in (("opening", "opening in image"), ("opening", "opening"),
                                 ("width", "width in image"), ("width", "width"))
        ]  # fmt: skip

    yield "correlation at lag 0      opening  (upright)  width  (upright)  speakers"
    long = LONG_CLIP_SECONDS
    for label, least in (("all clips", 0.0), ("clips over 1.3 s", 1.3), ("of 3 s and more", long)):
        subset = [clip for clip in clips if clip.seconds > least]
        if not subset:
            continue
        r = mean_by_speaker(subset, held_out, correlations)
        yield (
            f"{label:25} {r[0]:7.3f} {r[1]:10.3f} {r[2]:6.3f} {r[3]:10.3f}"
            f" {len({clip.speaker for clip in subset}):9}"
        )
    others = mean_by_speaker(clips, held_out, lambda clip, curves: [
        _correlation(curve, clip.mouth[name])
        for name, curve in zip(CURVE_NAMES, curves, strict=True)
    ])  # fmt: skip
    yield ", ".join(f"{name} {r:.2f}" for name, r in zip(CURVE_NAMES, others, strict=True))


def realism_lines(
    clips: list[TrainingClip], held_out: dict[str, Floats], folder: Path
) -> Iterator[str]:
    """Report lines: the engine's curves against real lips. Correlations, and on clips of 3 s and
    more standard deviation and speed in millimetres, and closures."""
    engine_output = {clip.name: _engine_curves(clip, held_out[clip.name], folder) for clip in clips}
    r = mean_by_speaker(clips, held_out, lambda clip, _: [
        _correlation(engine_output[clip.name][0].aperture, clip.mouth["opening in image"]),
        _correlation(engine_output[clip.name][0].width, clip.mouth["width in image"]),
    ])  # fmt: skip
    yield f"as the engine shows them, all clips: opening {r[0]:.3f}, width {r[1]:.3f}"

    def spread_and_speed(clip: TrainingClip, _: Floats) -> list[float]:
        curves, mouth = engine_output[clip.name][0], clip.mouth
        opening = np.interp(curves.aperture, OPENING_CALIBRATION[1], OPENING_CALIBRATION[0])
        pairs = (
            (mouth["opening"], opening), (mouth["width"], curves.width * LANDMARK_WIDTH_GAIN),
            (mouth["jaw"], curves.jaw),
        )  # fmt: skip
        return [
            of
            for real, ours in pairs
            for of in (real.std(), ours.std(), speed(real, clip.fps), speed(ours, clip.fps))
        ]

    long = [clip for clip in clips if clip.seconds > LONG_CLIP_SECONDS]
    values = mean_by_speaker(long, held_out, spread_and_speed)
    yield f"{'mm as landmarks see them, 3 s and more':40} spread: real  ours  speed: real  ours"
    for name, (a, b, c, d) in zip(("opening", "width", "jaw"), values.reshape(3, 4), strict=True):
        yield f"{name:40} {a:12.2f} {b:5.2f} {c:12.0f} {d:5.0f}"
    closed = [
        aperture[round((at - LEAD_SECONDS) * fps)] == 0
        for aperture, at, fps in (
            (engine_output[clip.name][0].aperture, at, clip.fps)
            for clip in clips
            for at in engine_output[clip.name][1]
        )
        if 0 <= round((at - LEAD_SECONDS) * fps) < len(aperture)
    ]
    yield f"closures on their own frame: {sum(closed)} of {len(closed)}"


def _engine_curves(
    clip: TrainingClip, curves: Floats, folder: Path
) -> tuple[MouthCurves, list[float]]:
    """The engine's curves from predicted ones, and the closures of p, b and m, seconds."""
    voice = extract_voice_features(load_voice(folder / f"{clip.name}.flac", SAMPLE_RATE))
    times = np.arange(curves.shape[1]) / clip.fps
    grid = np.arange(0, times[-1], FRAME_SECONDS)
    curves_by_name = {
        name: np.interp(grid, times, curves[CURVE_NAMES.index(name)]).astype(np.float32)
        for name in load_motion_model().curve_names
    }
    voice = replace(voice, curves=curves_by_name)
    closures = [
        phoneme.centre if phoneme.symbol == "m" else phoneme.start
        for phoneme in voice.phonemes
        if phoneme.symbol in BILABIALS
    ]
    return mouth_curves(voice, clip.fps, curves.shape[1]), closures


def quantile_maps(
    clips: list[TrainingClip], held_out: dict[str, Floats], names: tuple[str, ...]
) -> tuple[Floats, Floats]:
    """Quantiles of predicted and of real curves, both (curves, quantiles), means over speakers.

    Real ones are in mm (pout 0-1), relative to the clip's smallest opening, median width and 5th
    percentile of the jaw.
    """
    long = [clip for clip in clips if clip.seconds > LONG_CLIP_SECONDS]
    predicted, real = [], []
    for name in names:
        row = CURVE_NAMES.index(name)
        predicted.append(
            mean_by_speaker(long, held_out, lambda _, c, row=row: np.percentile(c[row], QUANTILES))
        )
        real.append(
            mean_by_speaker(long, held_out, lambda clip, _, n=name: _quantiles(clip.mouth[n], n))
        )
    return np.array(predicted), np.array(real)


def _quantiles(curve: Floats, name: str) -> list[float]:
    offset = {
        "opening": curve.min(), "width": np.median(curve), "jaw": np.percentile(curve, 5)
    }.get(name, 0.0)  # fmt: skip
    return list(np.percentile(curve - offset, QUANTILES))


def _correlation(one: Floats, two: Floats) -> float:
    one, two = one - one.mean(), two - two.mean()
    return float((one * two).sum() / np.sqrt((one**2).sum() * (two**2).sum() + 1e-9))


def speed(curve: Floats, fps: float) -> float:
    """95th percentile of a curve's speed per second, without jitter."""
    smooth = gaussian_filter1d(np.asarray(curve, np.float64), JITTER_SECONDS * fps, mode="nearest")
    return float(np.percentile(np.abs(np.diff(smooth)), 95) * fps)
