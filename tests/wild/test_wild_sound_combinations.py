"""Recordings of kinds combined at random. A failure names its seed: KOLBO_WILD_SEED=N runs that
one, KOLBO_WILD_CASES=N runs more."""

from collections.abc import Callable
from pathlib import Path

import av
import numpy as np
import pytest

from kolbo_demo.engine.audio_io import load_voice
from kolbo_demo.media import probe
from tests import samples
from tests.wild import cases
from tests.wild.sounds import RATE, ffmpeg, hum, lag, noise, silence, speech

SECONDS, GAP = 2.0, 2.0
RATES = (8000, 11025, 16000, 22050, 32000, 44100, 48000, 96000)
PCM = ("pcm_u8", "pcm_s16le", "pcm_s24le", "pcm_s32le", "pcm_f32le", "pcm_f64le", "pcm_alaw")
CODECS: dict[str, tuple[int, tuple[int, ...]]] = {
    "aac": (8, RATES),
    "ac3": (6, (32000, 44100, 48000)),
    "eac3": (6, (32000, 44100, 48000)),
    "dca": (6, (44100, 48000)),
    "truehd": (6, (44100, 48000, 96000)),
    "libmp3lame": (2, RATES[:-1]),
    "mp2": (2, (16000, 22050, 32000, 44100, 48000)),
    "libopus": (8, (8000, 16000, 48000)),
    "libvorbis": (8, RATES[2:]),
    "wmav1": (2, RATES[2:-1]),
    "wmav2": (2, RATES[2:-1]),
    "nellymoser": (1, (11025, 22050, 44100)),
    "adpcm_swf": (2, (11025, 22050, 44100)),
    "adpcm_ms": (2, RATES),
    "adpcm_ima_wav": (2, RATES),
    "adpcm_ima_qt": (2, RATES),
    "libopencore_amrnb": (1, (8000,)),
    "s302m": (2, (48000,)),
    "pcm_dvd": (2, (48000,)),
}
"""Most channels and the sample rates; others take any."""
KINDS: dict[str, tuple[str, ...]] = {
    "mp4": ("aac", "alac", "libopus", "flac", "ac3", "eac3", "libmp3lame", "dca"),
    "m4a": ("aac", "alac"),
    "mov": ("aac", "alac", "pcm_s16be", "pcm_s24le", "pcm_f32le", "pcm_mulaw", "adpcm_ima_qt"),
    "3gp": ("libopencore_amrnb", "aac"),
    "mkv": (
        *("aac", "libopus", "libvorbis", "flac", "ac3", "libmp3lame", "truehd", "dca"),
        *("wavpack", "pcm_s16le", "pcm_s24le", "pcm_f32le", "alac", "mp2"),
    ),
    "webm": ("libopus", "libvorbis"),
    "ts": ("aac", "mp2", "ac3", "eac3", "libmp3lame", "s302m", "dca"),
    "mpg": ("mp2", "ac3", "pcm_dvd"),
    "flv": ("aac", "libmp3lame", "nellymoser", "adpcm_swf"),
    "asf": ("wmav1", "wmav2", "libmp3lame"),
    "avi": ("libmp3lame", "pcm_s16le", "ac3", "adpcm_ms", "mp2", "aac"),
    "wav": (*PCM, "adpcm_ms", "adpcm_ima_wav", "libmp3lame"),
    "w64": PCM,
    "aiff": ("pcm_s16be", "pcm_s24be", "pcm_s8", "pcm_f32be", "pcm_mulaw"),
    "caf": ("pcm_s16le", "pcm_f32be", "alac", "pcm_alaw"),
    "au": ("pcm_s16be", "pcm_f64be", "pcm_mulaw"),
    "ogg": ("libvorbis", "libopus", "flac"),
    "flac": ("flac",),
    "mp3": ("libmp3lame",),
    "mp2": ("mp2",),
    "aac": ("aac",),
    "ac3": ("ac3",),
    "eac3": ("eac3",),
    "dts": ("dca",),
    "amr": ("libopencore_amrnb",),
    "wv": ("wavpack",),
    "tta": ("tta",),
}
PICTURES = {
    "mp4": "mpeg4", "mov": "mjpeg", "mkv": "mpeg4", "webm": "libvpx", "ts": "mpeg2video",
    "mpg": "mpeg1video", "flv": "flv", "asf": "wmv2", "avi": "mpeg4", "3gp": "mpeg4",
}  # fmt: skip
FROM_ZERO = ("mp4", "m4a", "mov", "3gp", "mkv", "webm")
STAMPED = (*FROM_ZERO, "ts", "mpg", "flv", "asf")
COUNTED = {"mov": ("pcm", "adpcm"), "mpg": ("pcm", "ac3", "mp2")}
"""Codecs whose packets cannot be written later than they are."""
TRACKS = ("mp4", "m4a", "mov", "mkv", "webm", "ts", "mpg", "asf", "avi")
JOINED = ("mp3", "mp2", "aac", "ac3", "eac3", "dts", "ts")
NOISE = ("adpcm_swf", "pcm_u8", "pcm_s8", "nellymoser")
"""Codecs that hide quiet channels in noise of their own."""


def said() -> np.ndarray:
    return speech()[: round(SECONDS * RATE)]


def quiet() -> np.ndarray:
    return silence(SECONDS)


CHANNELS: dict[str, Callable[[], list[np.ndarray]]] = {
    "mono": lambda: [said()],
    "stereo": lambda: [said(), 0.9 * said()],
    "antiphase": lambda: [said(), -said()],
    "left silent": lambda: [quiet(), said()],
    "right silent": lambda: [said(), quiet()],
    "noise on the left": lambda: [noise(SECONDS, 0.1), 0.5 * said()],
    "centre of 5.1": lambda: [quiet(), quiet(), said(), *[quiet()] * 3],
    "centre of 5.1 in music": lambda: [music(1), music(2), said(), *[quiet()] * 3],
    "side of 5.1": lambda: [*[quiet()] * 4, said(), quiet()],
    "centre of 7.1": lambda: [quiet(), quiet(), said(), *[quiet()] * 5],
}
OTHERS = {
    "silent": quiet,
    "noise": lambda: noise(SECONDS),
    "hum": lambda: hum()[: round(SECONDS * RATE)],
}


def music(seed: int) -> np.ndarray:
    return 0.3 * noise(SECONDS, 0.1, seed) + 0.1 * OTHERS["hum"]()


class Mixture:
    """A file, and where what of speech is to be heard in it."""

    def __init__(self, folder: Path, rng: np.random.Generator) -> None:
        self.kind = str(rng.choice(list(KINDS)))
        self.codec = str(rng.choice(KINDS[self.kind]))
        most, rates = CODECS.get(self.codec, (8, RATES))
        most = 6 if self.kind == "aac" else most
        if self.kind in ("mpg", "flv"):
            rates = [r for r in rates if r in ((48000,) if self.kind == "mpg" else (44100,))]
        self.rate = int(rng.choice(rates))
        able = [name for name, made in CHANNELS.items() if len(made()) <= most]
        if self.codec == "s302m":
            able.remove("mono")
        if self.codec in NOISE:
            able = [name for name in able if "noise" not in name]
        self.channels = str(rng.choice(able))
        self.pictured = self.kind in PICTURES and rng.random() < 0.5
        self.late = 0.0
        if self.kind in STAMPED and (self.pictured or self.kind in FROM_ZERO):
            self.late = float(rng.choice([0, 0, 0.35, 1.2]))
        gaps = self.kind in STAMPED and not self.codec.startswith(COUNTED.get(self.kind, "-"))
        self.gap = GAP if gaps and self.rate >= 16000 and rng.random() < 0.4 else 0.0
        self.other = str(rng.choice(list(OTHERS))) if (
            self.kind in TRACKS and self.codec != "s302m" and rng.random() < 0.4
        ) else None  # fmt: skip
        self.first = bool(rng.random() < 0.5)
        self.joined = self.kind in JOINED and not self.pictured and not self.gap and (
            not self.other and rng.random() < 0.3
        )  # fmt: skip
        self.offset = float(rng.choice([0, 0, 100, 95443])) if self.kind == "ts" else 0.0
        self.renamed = rng.random() < 0.3
        self.half = round(float(rng.uniform(0.6, 1.0)) * RATE)
        self.path = self._written(folder)

    def __repr__(self) -> str:
        return repr(vars(self))

    def _written(self, folder: Path) -> Path:
        voice = samples.wav(folder / "voice.raw", np.stack(CHANNELS[self.channels]()), RATE)
        path = folder / f"mixture.{self.kind}"
        sounds = [["-itsoffset", self.late, "-i", voice]]
        if self.other:
            other = samples.wav(folder / "other.raw", OTHERS[self.other]()[None], RATE)
            sounds.insert(0 if self.first else 1, ["-i", other])
        picture = ["-f", "lavfi", "-i", f"testsrc=s=64x64:r=25:d={SECONDS}"]
        inputs = [*sounds, *([picture] if self.pictured else [])]
        order = list(range(len(inputs)))
        if self.pictured and self.first:
            order = [order[-1], *order[:-1]]
        words = [word for one in inputs for word in one]
        words += [word for number in order for word in ("-map", number)]
        words += ["-c:a", self.codec, "-ar", self.rate, "-strict", -2]
        words += ["-c:v", PICTURES[self.kind]] if self.pictured else []
        words += ["-output_ts_offset", self.offset] if self.offset else []
        ffmpeg(*words, path)
        if self.gap:
            gapped(path, self.late + self.half / RATE, self.gap)
        if self.joined:
            path.write_bytes(2 * path.read_bytes())
        return path.rename(folder / "mixture.dat") if self.renamed else path

    @property
    def seconds(self) -> float:
        return self.late + SECONDS * (1 + self.joined) + self.gap

    @property
    def exact(self) -> float:
        """Seconds that places may be off: some containers do not tell how long an encoder's
        lead-in is, and packets are where gaps may be."""
        return 0.05 + 2400 / self.rate

    @property
    def pieces(self) -> list[tuple[float, np.ndarray]]:
        if not self.gap:
            return [(self.late, said())]
        edge = RATE * 4700 // self.rate  # as long as packets are
        later = self.late + self.gap + (self.half + edge) / RATE
        return [(self.late, said()[: self.half - RATE // 8]), (later, said()[self.half + edge :])]


def gapped(path: Path, at: float, gap: float) -> None:
    """The same packets, from `at` on so much later."""
    whole = path.rename(path.with_name("whole"))
    muxer = {"mkv": "matroska", "ts": "mpegts", "mpg": "mpeg", "m4a": "ipod"}
    kind = path.suffix[1:]
    with av.open(whole) as given, av.open(path, "w", muxer.get(kind, kind)) as out:
        copies = {one.index: out.add_stream_from_template(one) for one in given.streams}
        begins = (given.start_time or 0) / av.time_base if kind in ("ts", "mpg") else 0
        for packet in given.demux():
            if packet.dts is None or packet.pts is None:
                continue
            if packet.stream.type == "audio" and packet.pts * packet.time_base - begins >= at:
                late = round(gap / packet.time_base)
                packet.pts, packet.dts = packet.pts + late, packet.dts + late
            packet.stream = copies[packet.stream.index]
            out.mux(packet)
    whole.unlink()


@pytest.mark.parametrize("seed", cases.seeds(60))
def test_speech_is_heard_when_it_is_said(tmp_path: Path, seed: int) -> None:
    mixture = Mixture(tmp_path, np.random.default_rng(seed))
    heard = load_voice(mixture.path)
    look = probe.inspect_audio(mixture.path)
    assert not look.silent, mixture
    spare = 0.1 + mixture.exact * (1 + mixture.joined)
    assert len(heard) / RATE == pytest.approx(mixture.seconds, abs=spare), mixture
    assert look.duration == pytest.approx(len(heard) / RATE, abs=spare), mixture
    for place, piece in mixture.pieces:
        found, alike = lag(heard, piece)
        if not (mixture.gap and "music" in mixture.channels):  # which is louder than pauses
            assert alike > 0.5, (alike, found, mixture)
        if not mixture.joined:
            assert found == pytest.approx(place, abs=mixture.exact), mixture
