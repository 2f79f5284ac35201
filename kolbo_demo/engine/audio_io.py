"""Voices: the sound of any file as samples, the same for the engine's ears and for the result."""

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
"""An hour: what is heard in a voice is held in memory as a whole."""
PIECE_SECONDS = 30
MAX_SILENCE = 48000
"""Samples at once."""

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
    """The voice of a file in pieces, float32 (channels, samples) in -1..1, from the file's
    beginning on: silence where its time stamps leave a gap. Raises MediaError."""
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
        count = min(samples, MAX_SILENCE)
        yield np.zeros((channels, count), np.float32)
        samples -= count
