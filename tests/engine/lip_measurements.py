"""Lip measurements of a video, from its pixels alone."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from kolbo_demo.engine.audio_io import load_voice
from kolbo_demo.engine.landmarks import FaceLandmarker, track_face
from kolbo_demo.engine.speech_features import HOP_SECONDS, SAMPLE_RATE, loudness
from kolbo_demo.engine.video_reader import Clip


@dataclass(frozen=True)
class LipMeasurements:
    """Per frame, in eye distances; and the loudness at the frame in dB."""

    aperture: np.ndarray
    width: np.ndarray
    level: np.ndarray
    fps: float


def measure_lips(video: Path, point: tuple[float, float] | None = None) -> LipMeasurements:
    """Measure the face nearest to a point (0-1), else the largest, in each frame."""
    with Clip(video) as clip:
        at = None if point is None else (point[0] * clip.width, point[1] * clip.height)
        faces = [face for _, face in track_face(clip.frames(), FaceLandmarker(), at)]
        fps = float(clip.fps)
    assert all(faces), "every frame has a face"
    points = np.array([face.points for face in faces if face])
    unit = np.linalg.norm(points[:, 33] - points[:, 263], axis=1)
    upper, lower = points[:, [13, 82, 312]], points[:, [14, 87, 317]]
    aperture = np.linalg.norm(upper - lower, axis=2).mean(axis=1)
    width = np.linalg.norm(points[:, 61] - points[:, 291], axis=1)
    level = loudness(load_voice(video, SAMPLE_RATE))
    at_frame = np.interp(np.arange(len(points)) / fps, np.arange(len(level)) * HOP_SECONDS, level)
    return LipMeasurements(aperture / unit, width / unit, at_frame, fps)
