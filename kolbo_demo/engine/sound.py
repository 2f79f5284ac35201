"""Voices: the sound of any file as samples, the same for the engine's ears and for the result."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from av.audio.frame import AudioFrame
from av.audio.resampler import AudioResampler

from kolbo_demo.container import UNREADABLE, MediaError, audio_stream, decode_audio, open_media

MAX_VOICE_SECONDS = 3600
"""An hour: what is heard in a voice is held in memory as a whole."""
PIECE_SECONDS = 30

AAC_RATES = (8000, 11025, 12000, 16000, 22050, 24000, 32000, 44100, 48000, 64000, 88200, 96000)
AAC_LAYOUTS = {1: "mono", 2: "stereo", 6: "5.1"}


def load_voice(path: Path, rate: int = 16000) -> np.ndarray:
    """The sound of any file, mixed to one channel: float32 (samples,) at `rate` a second, in -1..1.

    Sample 0 is the sample 0 that `Writer` puts under frame 0. Raises MediaError if there is no
    sound, or more than `MAX_VOICE_SECONDS`.
    """
    voice = bytearray()
    for piece in read_voice(path, rate):
        voice += piece.tobytes()
    return np.frombuffer(voice, np.float32)


def read_voice(path: Path, rate: int = 16000) -> Iterator[np.ndarray]:
    """What `load_voice` loads, in pieces of `PIECE_SECONDS`; the last one is shorter."""
    held, length, most = bytearray(), 0, 4 * rate * PIECE_SECONDS
    for samples in read_samples(Path(path), rate, "mono"):
        held += samples.tobytes()
        length += samples.size
        if length > rate * MAX_VOICE_SECONDS:
            raise MediaError("The sound is longer than an hour: choose a shorter piece of it.")
        while len(held) >= most:
            yield np.frombuffer(bytes(held[:most]), np.float32)
            del held[:most]
    yield np.frombuffer(bytes(held), np.float32)


def aac_format(path: Path) -> tuple[int, str]:
    """Rate and layout in which a voice is encoded: its own, where AAC has them."""
    with open_media(path) as container:
        first = next(decode_audio(container, audio_stream(container)), None)
    if first is None:
        raise MediaError(UNREADABLE)
    rate = next((legal for legal in AAC_RATES if legal >= first.sample_rate), AAC_RATES[-1])
    channels = first.layout.nb_channels
    return rate, AAC_LAYOUTS.get(channels, "5.1" if channels > 6 else "stereo")


def read_samples(path: Path, rate: int, layout: str) -> Iterator[np.ndarray]:
    """The sound of a file in pieces, float32 (channels, samples) in -1..1. Raises MediaError."""
    resampler, source = None, None
    with open_media(path) as container:
        for frame in decode_audio(container, audio_stream(container)):
            now = (frame.format.name, frame.layout.name, frame.sample_rate)
            if resampler is None or source != now:  # some files change on the way
                if resampler is not None:
                    yield from map(_clean, resampler.resample(None))
                source = now
                resampler = AudioResampler("fltp", layout, rate, options={"rematrix_maxval": "1"})
            frame.pts = None
            yield from map(_clean, resampler.resample(frame))
    if resampler is None:
        raise MediaError(UNREADABLE)
    yield from map(_clean, resampler.resample(None))


def _clean(frame: AudioFrame) -> np.ndarray:
    samples = frame.to_ndarray()
    return np.clip(np.nan_to_num(samples, copy=False, nan=0.0), -1.0, 1.0, dtype=np.float32)
