"""Sources and voices of any size and length, made from the sample media. Also used by tests."""

import io
import wave
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from kolbo_demo.data_files import ASSETS
from kolbo_demo.engine.audio_io import load_voice
from kolbo_demo.engine.video_reader import Clip
from kolbo_demo.engine.video_writer import VideoWriter

PORTRAIT, CLIP, SPEECH = ASSETS / "portrait.jpg", ASSETS / "clip.mp4", ASSETS / "speech.wav"


def speech_wav(seconds: float) -> bytes:
    """A WAV of the sample voice, repeated."""
    out = io.BytesIO()
    with wave.open(str(SPEECH)) as source, wave.open(out, "wb") as target:
        params, once = source.getparams(), source.readframes(source.getnframes())
        size = int(seconds * params.framerate) * params.sampwidth * params.nchannels
        target.setparams(params)
        target.writeframes((once * (size // len(once) + 1))[:size])
    return out.getvalue()


def make_voice(path: Path, seconds: float) -> Path:
    """Write `speech_wav`."""
    path.write_bytes(speech_wav(seconds))
    return path


def portrait_jpeg(side: int | None = None) -> bytes:
    """The portrait, scaled to a square of `side` pixels if given."""
    out = io.BytesIO()
    with Image.open(PORTRAIT) as picture:
        (picture.resize((side, side)) if side else picture).save(out, "JPEG")
    return out.getvalue()


def make_still(folder: Path, width: int, height: int) -> Path:
    """The portrait, cropped to the shape and scaled."""
    path = folder / f"still-{width}.png"
    with Image.open(PORTRAIT) as picture:
        high = round(picture.width * height / width)
        picture.crop((0, 0, picture.width, high)).resize((width, height)).save(path)
    return path


def make_clip(folder: Path, width: int, height: int) -> Path:
    """The sample clip, cropped to the shape and scaled, as long as the sample voice."""
    path = folder / f"clip-{width}.mp4"
    seconds = len(load_voice(SPEECH)) / 16_000
    with Clip(CLIP) as clip, VideoWriter(path, width, height, clip.fps, SPEECH, seconds) as out:
        high = round(clip.width * height / width)
        for frame in clip.frames(out.frame_count):
            out.write(np.asarray(cv2.resize(frame[:high], (width, height)), np.uint8))
    return path
