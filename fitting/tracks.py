"""Tracks of people talking: what their mouths did, in millimetres, and what was heard.

A folder holds `index.json` (a list of clips: name, speaker, fold, seconds, fps), and for each clip
`NAME.npz` (`points` (frames, n, 3) pixels, `index` (n,) which MediaPipe face-mesh point each is,
`blendshapes` (frames, 52), `blendshape_names`) and `NAME.flac`, its speech in step: frame i shows
the time i / fps.
"""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.signal import lfilter, resample_poly

from kolbo_demo.engine.audio_io import load_voice
from kolbo_demo.engine.head_pose import CHIN, EYE_CORNERS_MM, RIGID, Pose
from kolbo_demo.engine.motion_model import mean_spectrum, spectrum
from kolbo_demo.engine.phoneme_model import RATE, recogniser

Floats = NDArray[np.float32]

LEARNT = ("opening", "width", "jaw", "forward", "upper", "corners", "lower", "pout", "funnel",
          "roll", "jaw open")  # fmt: skip
"""All that is fitted. The engine uses four of them; the others steady the networks."""
_INNER = ((13, 14), (82, 87), (312, 317))


@dataclass(frozen=True)
class Heard:
    """A voice as the networks hear it: inputs (n, 736), each frame 20 ms of sound that runs
    `stretch` times as long as the track."""

    inputs: NDArray[np.float16]
    stretch: float


@dataclass(frozen=True)
class Clip:
    """One clip: where it belongs, its mouth by name (frames,), its voice and variants of it."""

    name: str
    speaker: str
    fold: int
    seconds: float
    fps: float
    mouth: dict[str, Floats]
    voices: list[Heard]


def load(folder: Path, variants: int) -> list[Clip]:
    """All clips of a folder, each voice as it is and in so many disturbed variants."""
    clips = []
    rng = np.random.default_rng(1)
    for entry in json.loads((folder / "index.json").read_text()):
        wave = load_voice(folder / f"{entry['name']}.flac", RATE)
        voices = [Heard(_inputs(wave), 1.0)]
        for _ in range(variants):
            changed, stretch = _disturbed(wave, rng)
            voices.append(Heard(_inputs(changed), stretch))
        with np.load(folder / f"{entry['name']}.npz") as track:
            mouth = _mouth(track["points"], track["index"], track["blendshapes"],
                           [str(name) for name in track["blendshape_names"]])  # fmt: skip
        clips.append(Clip(entry["name"], entry["speaker"], entry["fold"], entry["seconds"],
                          float(entry["fps"]), mouth, voices))  # fmt: skip
    return clips


def _inputs(wave: Floats) -> NDArray[np.float16]:
    mels = recogniser().mels([wave])
    heard = spectrum(mels, mean_spectrum(mels))
    return np.concatenate([heard, *recogniser().hear(mels)[0]], 1).astype(np.float16)


def _disturbed(wave: Floats, rng: np.random.Generator) -> tuple[Floats, float]:
    """Another speed (and pitch), noise, colour and level; and how many times as long it is."""
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


def _mouth(
    points: Floats, index: NDArray[np.int16], shapes: NDArray[np.float16], names: list[str]
) -> dict[str, Floats]:
    """The mouth in millimetres (92 between the outer eye corners), the head's pose taken out."""
    pixels = points.astype(np.float64)
    column = {int(point): i for i, point in enumerate(index)}
    eyes = np.linalg.norm(pixels[:, column[33]] - pixels[:, column[263]], axis=1)
    seen = pixels / np.median(eyes) * EYE_CORNERS_MM
    rigid = [column[point] for point in RIGID if point in column]
    still = _facing(seen, column)
    mean = np.median(still, axis=0)[rigid]
    for _ in range(2):
        poses = [Pose.aligning(frame[rigid], mean) for frame in seen]
        still = np.array([frame @ pose.matrix.T + pose.shift for frame, pose in
                          zip(seen, poses, strict=True)])  # fmt: skip
        mean = still[:, rigid].mean(0)

    def at(point: int, axis: int) -> NDArray[np.float64]:
        return still[:, column[point], axis]

    def apart(frames: NDArray[np.float64], one: int, two: int) -> NDArray[np.float64]:
        return np.linalg.norm(frames[:, column[one]] - frames[:, column[two]], axis=1)

    def shape(name: str) -> NDArray[np.float16]:
        return shapes[:, names.index(name)]

    mouth = {
        "opening": np.mean([apart(still, a, b) for a, b in _INNER], axis=0),
        "width": apart(still, 61, 291),
        "jaw": at(CHIN, 1),
        "forward": -(at(0, 2) + at(17, 2)) / 2,
        "upper": -(at(13, 1) + at(0, 1)) / 2,
        "corners": -(at(61, 1) + at(291, 1)) / 2,
        "lower": (at(14, 1) + at(17, 1)) / 2,
        "pout": shape("mouthPucker"),
        "funnel": shape("mouthFunnel"),
        "roll": shape("mouthRollLower"),
        "jaw open": shape("jawOpen"),
        "opening seen": np.mean([apart(seen, a, b) for a, b in _INNER], axis=0),
        "width seen": apart(seen, 61, 291),
    }
    return {name: np.asarray(curve, np.float32) for name, curve in mouth.items()}


def _facing(frames: NDArray[np.float64], column: dict[int, int]) -> NDArray[np.float64]:
    """Each frame (frames, n, 3) turned by its eyes and nose to x right, y down, nose at 0."""
    out = np.empty_like(frames)
    for i, frame in enumerate(frames):
        x = frame[column[263]] - frame[column[33]]
        x /= np.linalg.norm(x)
        down = frame[column[2]] - frame[column[6]]
        y = down - x * (down @ x)
        y /= np.linalg.norm(y)
        out[i] = (frame - frame[column[2]]) @ np.column_stack([x, y, np.cross(x, y)])
    return out
