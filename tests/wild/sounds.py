"""Builders of recordings as phones, recorders, editors and messengers leave them."""

import subprocess
from functools import cache
from pathlib import Path

import imageio_ffmpeg
import numpy as np

from kolbo_demo.engine.audio_io import load_voice
from tests import samples

RATE = 16000
FFMPEG = imageio_ffmpeg.get_ffmpeg_exe()


def ffmpeg(*words: object) -> None:
    subprocess.run([FFMPEG, "-v", "error", "-y", *map(str, words)], check=True)


@cache
def speech() -> np.ndarray:
    """Three seconds."""
    return load_voice(samples.SPEECH)[: 3 * RATE]


def noise(seconds: float = 3.0, level: float = 0.2, seed: int = 1) -> np.ndarray:
    drawn = np.random.default_rng(seed).standard_normal(round(seconds * RATE))
    return (level * drawn).astype(np.float32)


def silence(seconds: float = 3.0) -> np.ndarray:
    return np.zeros(round(seconds * RATE), np.float32)


def hum() -> np.ndarray:
    time = np.arange(3 * RATE) / RATE
    return (0.5 * np.sin(2 * np.pi * 100 * time)).astype(np.float32)


def lag(heard: np.ndarray, said: np.ndarray) -> tuple[float, float]:
    """Seconds by which `said` begins in `heard`, and how well it is found there, 0-1."""
    size = len(heard) + len(said)
    product = np.fft.rfft(heard, size) * np.conj(np.fft.rfft(said, size))
    alike = np.abs(np.fft.irfft(product, size))
    place = int(alike.argmax())
    place = place - size if place > len(heard) else place
    part = heard[max(place, 0) :][: len(said)]
    norm = np.linalg.norm(part) * np.linalg.norm(said) + 1e-9
    return place / RATE, float(alike.max() / norm)


def film(path: Path, *words: object, size: str = "64x64", seconds: float = 5.0) -> Path:
    """A film of a test card, with sound as the words say; input 0 is the picture."""
    card = ("-f", "lavfi", "-i", f"testsrc=s={size}:r=25:d={seconds}")
    ffmpeg(*card, *words, path)
    return path
