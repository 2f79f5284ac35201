"""Writes small test videos, and reads numbered frames back."""

from fractions import Fraction
from pathlib import Path

import numpy as np

from kolbo_demo.engine.video_reader import Clip
from kolbo_demo.engine.video_writer import VideoWriter
from tests import samples


def psnr(a: np.ndarray, b: np.ndarray) -> float:
    """Peak signal-to-noise ratio of two pictures, dB."""
    error = np.mean((a.astype(float) - b) ** 2)
    return float(10 * np.log10(255**2 / max(error, 1e-9)))


def frame_numbers(path: Path, count: int | None = None) -> list[int]:
    """The numbers on a clip's frames, see `samples.card`."""
    with Clip(path) as clip:
        return [samples.number_on(frame) for frame in clip.frames(count)]


def write_video(
    path: Path,
    frames: list[np.ndarray],
    fps: Fraction | int = 25,
    audio: Path = samples.SPEECH,
    seconds: float | None = None,
) -> Path:
    """Encode frames with the engine's writer."""
    height, width = frames[0].shape[:2]
    duration = float(len(frames) / fps) if seconds is None else seconds
    with VideoWriter(path, width, height, fps, audio, duration) as writer:
        for frame in frames:
            writer.write(frame)
    return path
