"""Videos made worse in known ways, for measuring who notices."""

from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from kolbo_demo.engine.audio_io import load_voice
from kolbo_demo.engine.landmarks import Face, FaceFinder, Pixels, track
from kolbo_demo.engine.speech_features import HOP, RATE, loudness
from kolbo_demo.engine.video_reader import Clip
from kolbo_demo.engine.video_writer import VideoWriter

Change = Callable[[Pixels, Face], Pixels]
LIPS = (61, 291, 0, 17)


def still(video: Path, voice: Path, output: Path) -> Path:
    """The first frame of a video, as long as a voice."""
    with Clip(video) as clip:
        first = next(clip.frames(1))
        count = _count(voice, clip.fps)
        return _write((first for _ in range(count)), count, clip.fps, voice, output)


def blurred(video: Path, voice: Path, output: Path, sigma: float = 0.03) -> Path:
    """A video whose mouth is blurred; `sigma` in parts of the eye distance."""

    def blur(rgb: Pixels, face: Face) -> Pixels:
        lips = face.points[list(LIPS), :2]
        middle, eyes = lips.mean(0), _eyes(face)
        soft = cv2.GaussianBlur(rgb, (0, 0), sigma * eyes)
        reach = 0.75 * float(np.ptp(lips[:, 0]))
        y, x = np.mgrid[: rgb.shape[0], : rgb.shape[1]]
        far = np.hypot(x - middle[0], 1.1 * (y - middle[1])) / reach
        part = np.clip((1.3 - far) / 0.3, 0, 1)[..., None]
        return (rgb * (1 - part) + soft * part).astype(np.uint8)

    with Clip(video) as clip:
        count = min(_count(voice, clip.fps), clip.frame_count)
        pictures = (
            blur(rgb, face) if face else rgb
            for rgb, face in track(clip.frames(count), FaceFinder(), None)
        )
        return _write(pictures, count, clip.fps, voice, output)


def loudness_mouth(picture: Pixels, voice: Path, output: Path, widest: float = 0.12) -> Path:
    """A picture whose lower lip and chin only drop with the sound's loudness, a dark gap above
    them, `widest` in parts of the eye distance: what a puppet does."""
    face = FaceFinder().find(picture)[0]
    level = loudness(load_voice(voice, RATE))
    fps = Fraction(25)
    times = np.arange(_count(voice, fps)) / float(fps)
    smooth = np.convolve(np.clip(level - np.percentile(level, 95) + 25, 0, 27), np.ones(7) / 7)
    drops = np.interp(times, (np.arange(len(smooth)) - 3) * HOP, smooth) / 25
    pictures = (_dropped(picture, face, float(d) * widest * _eyes(face)) for d in drops)
    return _write(pictures, len(drops), fps, voice, output)


def _dropped(rgb: Pixels, face: Face, drop: float) -> Pixels:
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


def shifted(wave: NDArray[np.float32], seconds: float) -> NDArray[np.float32]:
    """A 16 kHz sound moved later (or, negative, earlier) by so much, silence where it was."""
    by = round(RATE * abs(seconds))
    return np.r_[np.zeros(by, np.float32), wave] if seconds > 0 else wave[by:]


def _eyes(face: Face) -> float:
    return float(np.linalg.norm(face.points[33, :2] - face.points[263, :2]))


def _count(voice: Path, fps: Fraction) -> int:
    return round(len(load_voice(voice, RATE)) / RATE * fps)


def _write(
    pictures: Iterator[Pixels], count: int, fps: Fraction, voice: Path, output: Path
) -> Path:
    first = next(pictures)
    with VideoWriter(output, first.shape[1], first.shape[0], fps, voice, count / float(fps)) as out:
        out.write(first)
        for picture in pictures:
            out.write(picture)
    return output
