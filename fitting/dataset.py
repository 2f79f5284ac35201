"""Training clips: mouth curves in millimetres and network inputs, from landmark tracks.

A folder holds `index.json` (a list of clips: name, speaker, fold, seconds, fps), and for each clip
`NAME.npz` (`points` (frames, n, 3) pixels, `index` (n,) which MediaPipe face-mesh point each is,
`blendshapes` (frames, 52), `blendshape_names`) and `NAME.flac`, its speech in sync: frame i is at
i / fps seconds.
"""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.signal import lfilter, resample_poly

from kolbo_demo.engine.audio_io import load_voice
from kolbo_demo.engine.head_pose import CHIN, EYE_CORNERS_MM, RIGID_LANDMARKS, Pose
from kolbo_demo.engine.motion_model import mean_spectrum, spectral_inputs
from kolbo_demo.engine.phoneme_model import SAMPLE_RATE, phoneme_recogniser
from kolbo_demo.engine.sync_eval.lip_motion import INNER_LIP_PAIRS

Floats = NDArray[np.float32]

CURVE_NAMES = ("opening", "width", "jaw", "forward", "upper", "corners", "lower", "pout", "funnel",
          "roll", "jaw open")  # fmt: skip
"""Curves that are fitted. The engine uses four of them; the others regularise the networks."""


@dataclass(frozen=True)
class VoiceInputs:
    """Network inputs (n, 736), one per 20 ms, of a voice `stretch` times as long as the track."""

    inputs: NDArray[np.float16]
    stretch: float


@dataclass(frozen=True)
class TrainingClip:
    """One clip: its mouth curves by name, each (frames,), its voice and augmented copies of it."""

    name: str
    speaker: str
    fold: int
    seconds: float
    fps: float
    mouth: dict[str, Floats]
    voices: list[VoiceInputs]


def load(folder: Path, variants: int) -> list[TrainingClip]:
    """All clips of a folder, each with its voice and so many augmented variants."""
    clips = []
    rng = np.random.default_rng(1)
    for entry in json.loads((folder / "index.json").read_text()):
        wave = load_voice(folder / f"{entry['name']}.flac", SAMPLE_RATE)
        voices = [VoiceInputs(_network_inputs(wave), 1.0)]
        for _ in range(variants):
            augmented, stretch = _augmented(wave, rng)
            voices.append(VoiceInputs(_network_inputs(augmented), stretch))
        with np.load(folder / f"{entry['name']}.npz") as track:
            mouth = _measure_mouth(track["points"], track["index"], track["blendshapes"],
                           [str(name) for name in track["blendshape_names"]])  # fmt: skip
        clips.append(TrainingClip(entry["name"], entry["speaker"], entry["fold"], entry["seconds"],
                          float(entry["fps"]), mouth, voices))  # fmt: skip
    return clips


def _network_inputs(wave: Floats) -> NDArray[np.float16]:
    mels = phoneme_recogniser().log_mels([wave])
    spectra = spectral_inputs(mels, mean_spectrum(mels))
    return np.concatenate([spectra, *phoneme_recogniser().infer(mels)[0]], 1).astype(np.float16)


def _augmented(wave: Floats, rng: np.random.Generator) -> tuple[Floats, float]:
    """A voice with random speed (and pitch), noise, filter and level; and its stretch."""
    percent = int(rng.integers(90, 112))
    wave = resample_poly(wave, percent, 100)
    if rng.random() < 0.8:
        noise = rng.standard_normal(len(wave))
        if rng.random() < 0.5:
            noise = np.asarray(lfilter([1], [1, -0.95], noise))
        wave = wave + noise * wave.std() / noise.std() * 10 ** (-rng.uniform(8, 30) / 20)
    if rng.random() < 0.5:
        wave = np.asarray(lfilter([1, rng.uniform(-0.7, 0.7)], [1], wave))
    return np.clip(wave * 10 ** (rng.uniform(-9, 6) / 20), -1, 1).astype(np.float32), percent / 100


def _measure_mouth(
    points: Floats, index: NDArray[np.int16], shapes: NDArray[np.float16], names: list[str]
) -> dict[str, Floats]:
    """Mouth curves in millimetres (EYE_CORNERS_MM apart), with the head's pose removed."""
    pixels = points.astype(np.float64)
    column = {int(point): i for i, point in enumerate(index)}
    eyes = np.linalg.norm(pixels[:, column[33]] - pixels[:, column[263]], axis=1)
    image = pixels / np.median(eyes) * EYE_CORNERS_MM
    rigid = [column[point] for point in RIGID_LANDMARKS if point in column]
    aligned = _align_by_eyes(image, column)
    mean = np.median(aligned, axis=0)[rigid]
    for _ in range(2):
        poses = [Pose.fit(frame[rigid], mean) for frame in image]
        aligned = np.array([frame @ pose.matrix.T + pose.shift for frame, pose in
                          zip(image, poses, strict=True)])  # fmt: skip
        mean = aligned[:, rigid].mean(0)

    def at(point: int, axis: int) -> NDArray[np.float64]:
        return aligned[:, column[point], axis]

    def distance(frames: NDArray[np.float64], one: int, two: int) -> NDArray[np.float64]:
        return np.linalg.norm(frames[:, column[one]] - frames[:, column[two]], axis=1)

    def shape(name: str) -> NDArray[np.float16]:
        return shapes[:, names.index(name)]

    mouth = {
        "opening": np.mean([distance(aligned, a, b) for a, b in INNER_LIP_PAIRS], axis=0),
        "width": distance(aligned, 61, 291),
        "jaw": at(CHIN, 1),
        "forward": -(at(0, 2) + at(17, 2)) / 2,
        "upper": -(at(13, 1) + at(0, 1)) / 2,
        "corners": -(at(61, 1) + at(291, 1)) / 2,
        "lower": (at(14, 1) + at(17, 1)) / 2,
        "pout": shape("mouthPucker"),
        "funnel": shape("mouthFunnel"),
        "roll": shape("mouthRollLower"),
        "jaw open": shape("jawOpen"),
        "opening in image": np.mean([distance(image, a, b) for a, b in INNER_LIP_PAIRS], axis=0),
        "width in image": distance(image, 61, 291),
    }
    return {name: np.asarray(curve, np.float32) for name, curve in mouth.items()}


def _align_by_eyes(frames: NDArray[np.float64], column: dict[int, int]) -> NDArray[np.float64]:
    """Each frame (frames, n, 3) rotated by eyes and nose to x right, y down, nose at 0."""
    out = np.empty_like(frames)
    for i, frame in enumerate(frames):
        x = frame[column[263]] - frame[column[33]]
        x /= np.linalg.norm(x)
        down = frame[column[2]] - frame[column[6]]
        y = down - x * (down @ x)
        y /= np.linalg.norm(y)
        out[i] = (frame - frame[column[2]]) @ np.column_stack([x, y, np.cross(x, y)])
    return out
