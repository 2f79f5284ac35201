"""What the tests see of a video's lips: measured on its pixels, never taken from the engine."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from kolbo_demo.engine.audio_io import load_voice
from kolbo_demo.engine.landmarks import FaceFinder, track
from kolbo_demo.engine.speech_features import HOP, RATE, loudness
from kolbo_demo.engine.video_reader import Clip


@dataclass(frozen=True)
class Lips:
    """Per frame, in parts of the eye distance; and the sound's loudness at the frame (dB)."""

    aperture: np.ndarray
    width: np.ndarray
    level: np.ndarray
    fps: float


def lips(video: Path, point: tuple[float, float] | None = None) -> Lips:
    """Lips of the face nearest to a point (0-1) or the largest, in each frame of a video."""
    with Clip(video) as clip:
        at = None if point is None else (point[0] * clip.width, point[1] * clip.height)
        faces = [face for _, face in track(clip.frames(), FaceFinder(), at)]
        fps = float(clip.fps)
    assert all(faces), "a face is seen in every frame"
    points = np.array([face.points for face in faces if face])
    unit = np.linalg.norm(points[:, 33] - points[:, 263], axis=1)
    upper, lower = points[:, [13, 82, 312]], points[:, [14, 87, 317]]
    aperture = np.linalg.norm(upper - lower, axis=2).mean(axis=1)
    width = np.linalg.norm(points[:, 61] - points[:, 291], axis=1)
    level = loudness(load_voice(video, RATE))
    at_frame = np.interp(np.arange(len(points)) / fps, np.arange(len(level)) * HOP, level)
    return Lips(aperture / unit, width / unit, at_frame, fps)
