"""Known degradations of videos and sounds, for evaluating the judge."""

from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from kolbo_demo.engine.audio_io import load_voice
from kolbo_demo.engine.landmarks import FaceLandmarker, FaceLandmarks, Pixels, track_face
from kolbo_demo.engine.speech_features import HOP_SECONDS, SAMPLE_RATE, loudness
from kolbo_demo.engine.video_reader import Clip
from kolbo_demo.engine.video_writer import VideoWriter

LIPS = (61, 291, 0, 17)


def freeze(video: Path, voice: Path, output: Path) -> Path:
    """The first frame of a video for the duration of a voice."""
    with Clip(video) as clip:
        first = next(clip.frames(1))
        count = _frame_count(voice, clip.fps)
        return _write((first for _ in range(count)), count, clip.fps, voice, output)


def blur_mouth(video: Path, voice: Path, output: Path, sigma: float = 0.03) -> Path:
    """A video with a blurred mouth; `sigma` in eye distances."""

    def blur(rgb: Pixels, face: FaceLandmarks) -> Pixels:
        lips = face.points[list(LIPS), :2]
        middle, eyes = lips.mean(0), _eye_distance(face)
        blurred_rgb = cv2.GaussianBlur(rgb, (0, 0), sigma * eyes)
        reach = 0.75 * float(np.ptp(lips[:, 0]))
        y, x = np.mgrid[: rgb.shape[0], : rgb.shape[1]]
        far = np.hypot(x - middle[0], 1.1 * (y - middle[1])) / reach
        part = np.clip((1.3 - far) / 0.3, 0, 1)[..., None]
        return (rgb * (1 - part) + blurred_rgb * part).astype(np.uint8)

    with Clip(video) as clip:
        count = min(_frame_count(voice, clip.fps), clip.frame_count)
        pictures = (
            blur(rgb, face) if face else rgb
            for rgb, face in track_face(clip.frames(count), FaceLandmarker(), None)
        )
        return _write(pictures, count, clip.fps, voice, output)


def animate_by_loudness(picture: Pixels, voice: Path, output: Path, widest: float = 0.12) -> Path:
    """A picture whose lower lip and chin drop with loudness alone, like a puppet's, below a dark
    gap of at most `widest` eye distances."""
    face = FaceLandmarker().detect(picture)[0]
    level = loudness(load_voice(voice, SAMPLE_RATE))
    fps = Fraction(25)
    times = np.arange(_frame_count(voice, fps)) / float(fps)
    smooth = np.convolve(np.clip(level - np.percentile(level, 95) + 25, 0, 27), np.ones(7) / 7)
    drops = np.interp(times, (np.arange(len(smooth)) - 3) * HOP_SECONDS, smooth) / 25
    pictures = (_drop_jaw(picture, face, float(d) * widest * _eye_distance(face)) for d in drops)
    return _write(pictures, len(drops), fps, voice, output)


def _drop_jaw(rgb: Pixels, face: FaceLandmarks, drop: float) -> Pixels:
    xy = face.points[:, :2].astype(np.float64)
    seam = float(xy[[13, 14], 1].mean())
    left, right, chin = float(xy[78, 0]), float(xy[308, 0]), float(xy[152, 1])
    y, x = np.mgrid[: rgb.shape[0], : rgb.shape[1]].astype(np.float32)
    across = np.clip(1 - ((x - (left + right) / 2) / ((right - left) / 2)) ** 2, 0, 1) ** 0.5
    here = drop * across
    below = np.clip((chin + 0.3 * (chin - seam) - y) / (1.3 * (chin - seam)), 0, 1)
    moved = cv2.remap(rgb, x, np.where(y > seam, y - here * below, y).astype(np.float32), 1)
    gap = (y > seam) & (y < seam + here * below) & (here > 0.5)
    moved[gap] = (45, 15, 15)
    return np.asarray(moved, np.uint8)


def shift_sound(wave: NDArray[np.float32], seconds: float) -> NDArray[np.float32]:
    """A 16 kHz sound delayed by silence, or for negative `seconds` cut at the start."""
    samples = round(SAMPLE_RATE * abs(seconds))
    return np.r_[np.zeros(samples, np.float32), wave] if seconds > 0 else wave[samples:]


def _eye_distance(face: FaceLandmarks) -> float:
    return float(np.linalg.norm(face.points[33, :2] - face.points[263, :2]))


def _frame_count(voice: Path, fps: Fraction) -> int:
    return round(len(load_voice(voice, SAMPLE_RATE)) / SAMPLE_RATE * fps)


def _write(
    pictures: Iterator[Pixels], count: int, fps: Fraction, voice: Path, output: Path
) -> Path:
    first = next(pictures)
    with VideoWriter(output, first.shape[1], first.shape[0], fps, voice, count / float(fps)) as out:
        out.write(first)
        for picture in pictures:
            out.write(picture)
    return output
