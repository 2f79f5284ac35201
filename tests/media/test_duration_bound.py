"""The billed duration of a recording is what any reader may find in it."""

import struct
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from av.audio.stream import AudioStream

from kolbo_demo.client import InputError
from kolbo_demo.media import sandbox
from kolbo_demo.ui.access.key_allowance import Allowance
from tests import samples


def recorded(
    path: Path,
    seconds: float = 46.0,
    codec: str = "pcm_s16le",
    tracks: int = 1,
    mux: Callable[[Any], None] | None = None,
    first: float | None = None,
) -> Path:
    """A recording; `first` is the length of its first track, `mux` changes packets."""
    rate = 16000
    with av.open(str(path), "w") as out:
        streams = list[AudioStream]()
        for _ in range(tracks):
            stream = out.add_stream(codec, rate=rate, layout="mono")
            assert isinstance(stream, AudioStream)
            streams.append(stream)
        for number, stream in enumerate(streams):
            lasts = first if first and number == 0 else seconds
            for at in range(0, round(lasts * rate), 1024):
                samples_ = np.full((1, 1024), at % 2000 + 500, np.int16)
                frame = av.AudioFrame.from_ndarray(samples_, "s16", "mono")
                frame.rate, frame.pts, frame.time_base = rate, at, Fraction(1, rate)
                for packet in stream.encode(frame):
                    if mux:
                        mux(packet)
                    out.mux(packet)
            for packet in stream.encode(None):
                if mux:
                    mux(packet)
                out.mux(packet)
    return path


def at_zero(packet: Any) -> None:
    packet.pts = packet.dts = packet.duration = 0


def patched(path: Path, name: bytes, offset: int, how: str, value: int) -> Path:
    data = bytearray(path.read_bytes())
    struct.pack_into(how, data, data.index(name) + 4 + offset, value)
    path.write_bytes(data)
    return path


def two_samples_each(path: Path) -> Path:
    """Every packet of an MP4 lasts two samples, its header says."""
    data = bytearray(path.read_bytes())
    at = data.index(b"stts")
    for entry in range(struct.unpack_from(">I", data, at + 8)[0]):
        struct.pack_into(">I", data, at + 16 + 8 * entry, 2)
    path.write_bytes(data)
    return path


LIARS: dict[str, Callable[[Path], Path]] = {
    "matroska whose time stamps are 0": lambda p: recorded(p / "a.mka", mux=at_zero),
    "webm whose time stamps are 0": lambda p: recorded(p / "a.webm", codec="libopus", mux=at_zero),
    "a short first track": lambda p: recorded(p / "a.mka", tracks=2, first=0.5),
    "mp4 with a short edit list": lambda p: patched(
        recorded(p / "a.m4a", codec="aac"), b"elst", 8, ">I", 20
    ),
    "mp4 with a short header": lambda p: patched(
        recorded(p / "a.m4a", codec="aac"), b"mvhd", 16, ">I", 20
    ),
    "mp4 whose packets last two samples": lambda p: two_samples_each(
        recorded(p / "a.m4a", codec="aac")
    ),
    "wav with a short length": lambda p: patched(recorded(p / "a.wav"), b"data", 0, "<I", 3200),
    "wav with no length": lambda p: patched(recorded(p / "a.wav"), b"data", 0, "<I", 0),
    "adts": lambda p: recorded(p / "a.aac", codec="aac"),
    "mp3": lambda p: recorded(p / "a.mp3", codec="libmp3lame"),
}


@pytest.mark.parametrize("liar", LIARS)
def test_a_recording_that_says_to_be_short_costs_what_it_lasts(liar: str, tmp_path: Path):
    voice = LIARS[liar](tmp_path)
    with pytest.raises(InputError), Allowance(45.0).spend("visitor", voice):
        pass
    with Allowance(49.0).spend("visitor", voice):
        pass


def test_an_honest_recording_costs_its_length():
    assert sandbox.max_audio_duration(samples.SPEECH, 60.0) == pytest.approx(5.79775)
