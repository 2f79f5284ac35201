"""Audio of any file as samples, identical for speech recognition and for the result."""

from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import numpy as np
from av.audio.layout import AudioLayout

from kolbo_demo.media.audio_timestamps import AudioTimeline, media_start_time
from kolbo_demo.media.audio_track import find_voice_track, voice_stream
from kolbo_demo.media.demux import UNREADABLE, MediaError, decode_audio, open_media
from kolbo_demo.media.resampling import Resampler

MAX_VOICE_SECONDS = 3600
"""A voice's features are in memory as a whole."""
BLOCK_SECONDS = 30
SILENCE_BLOCK_SAMPLES = 48000
"""Longest array of zeros for a gap."""

AAC_RATES = (8000, 11025, 12000, 16000, 22050, 24000, 32000, 44100, 48000, 64000, 88200, 96000)
AAC_LAYOUTS = {1: "mono", 2: "stereo", 6: "5.1"}


def load_voice(path: Path, rate: int = 16000) -> np.ndarray:
    """The audio of a file, mixed to mono: float32 (samples,) at `rate` a second, in -1..1.

    Sample 0 is the one that `Writer` puts under frame 0. Raises MediaError without audio, or beyond
    MAX_VOICE_SECONDS.
    """
    voice = bytearray()
    for block in stream_voice(path, rate):
        voice += block.tobytes()
    return np.frombuffer(voice, np.float32)


def stream_voice(path: Path, rate: int = 16000) -> Iterator[np.ndarray]:
    """The samples of `load_voice` in blocks of BLOCK_SECONDS; the last one is shorter."""
    buffer, length, block_bytes = bytearray(), 0, 4 * rate * BLOCK_SECONDS
    for samples in read_samples(Path(path), rate, "mono"):
        buffer += samples.tobytes()
        length += samples.size
        if length > rate * MAX_VOICE_SECONDS:
            raise MediaError("The sound is longer than an hour: choose a shorter piece of it.")
        while len(buffer) >= block_bytes:
            yield np.frombuffer(bytes(buffer[:block_bytes]), np.float32)
            del buffer[:block_bytes]
    yield np.frombuffer(bytes(buffer), np.float32)


def aac_format(path: Path) -> tuple[int, str]:
    """Rate and layout to encode a voice in: its own where AAC supports them."""
    track = find_voice_track(path)
    with open_media(path) as container:
        first = next(decode_audio(container, voice_stream(container, track)), None)
    if first is None:
        raise MediaError(UNREADABLE)
    rate = next((legal for legal in AAC_RATES if legal >= first.sample_rate), AAC_RATES[-1])
    if track.mix is not None:
        return rate, "mono"
    channels = first.layout.nb_channels
    return rate, AAC_LAYOUTS.get(channels, "5.1" if channels > 6 else "stereo")


def read_samples(path: Path, rate: int, layout: str) -> Iterator[np.ndarray]:
    """The voice of a file, decoded frame by frame: float32 (channels, samples) in -1..1. Starts at
    the file's beginning; gaps between time stamps are silent. Raises MediaError."""
    track = find_voice_track(path)
    resampler, channels = Resampler(rate, layout, track.mix), AudioLayout(layout).nb_channels
    with open_media(path) as container:
        stream, placing = voice_stream(container, track), AudioTimeline(media_start_time(container))
        for frame in decode_audio(container, stream):
            unit = frame.time_base or stream.time_base
            start = None if frame.pts is None or unit is None else frame.pts * unit
            gap = placing.append(start, Fraction(frame.samples, frame.sample_rate))
            if gap is None:
                continue
            if gap:
                yield from resampler(None)
                yield from _silence(channels, round(gap * rate))
            yield from resampler(frame)
    if not placing.end:
        raise MediaError(UNREADABLE)
    yield from resampler(None)


def _silence(channels: int, samples: int) -> Iterator[np.ndarray]:
    while samples > 0:
        count = min(samples, SILENCE_BLOCK_SAMPLES)
        yield np.zeros((channels, count), np.float32)
        samples -= count
