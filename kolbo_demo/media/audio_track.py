"""Which sound of a file is its voice: of several tracks the one that speaks, of several channels
those in which speech survives.

A mix of channels can cancel speech (one channel turned round) or bury it (noise on the other), and
the first track is not always the one with somebody in it. So tracks are listened to before one is
used: in short pieces, at telephone quality.
"""

from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

import numpy as np
from av.audio.frame import AudioFrame
from av.audio.stream import AudioStream
from av.container import InputContainer
from av.error import FFmpegError
from av.stream import Disposition
from numpy.typing import NDArray

from kolbo_demo.media.demux import NO_AUDIO, check_codec, open_media, packets
from kolbo_demo.media.resampling import Resampler, is_plain
from kolbo_demo.media.sniff import UNREADABLE, MediaError

RATE = 8000
HEARD_SECONDS = 40
"""Sound that is listened to in each track; silence does not count."""
ENOUGH_SECONDS, MOST_SECONDS = 120, 600
"""How far to look for a track that speaks where one was found, and where none was."""
PROBED, LEAST_GOOD = 200, 8
"""Packets."""
FRAME, STEP = 320, 80
"""Samples: 40 ms, each 10 ms."""
SILENT = -65.0
"""Decibels of full scale."""
SPEAKS = 0.3
"""`_likeness` of speech is 1.3 to 8, under noise as loud 0.4, that of noise and hum 0 to 0.3."""
DROWNED = 40.0
"""Decibels by which the rest of a sound may be louder than what could be speech in it: below that
is the noise of a codec, which comes and goes as speech does."""
BURIED = 0.7
"""A mix that is less like speech than its best channel by this factor has buried it."""
HUMS = 6.0
"""Decibels by which a mix may hum more than its best channel."""
LOST = (0.0, 9.0, 15.0)
"""Decibels that a mix may be below its best channel: of one, two and more channels."""
LEAST_OF_BEST = 0.4
"""A track speaks if it is so much like speech, compared with the one that is most."""
ONE_CHANNEL = "the voice is one channel of the sound"
"""A note."""
_SECONDARY = (
    Disposition.comment
    | Disposition.visual_impaired
    | Disposition.karaoke
    | Disposition.clean_effects
    | Disposition.descriptions
)


@dataclass(frozen=True)
class Soundtrack:
    """The sound of a file that is its voice."""

    index: int
    """Of the stream in its container."""
    mix: tuple[float, ...] | None = None
    """What of each channel makes the voice; None for the usual mix."""
    silent: bool = False
    """Whether nothing is heard in it."""
    notes: tuple[str, ...] = ()
    """What was chosen, in short."""


def soundtrack(path: Path) -> Soundtrack:
    """The voice of a file. Raises MediaError if it has no sound that can be decoded."""
    try:
        stat = path.stat()
    except OSError as error:
        raise MediaError(UNREADABLE) from error
    return _soundtrack(path, stat.st_size, stat.st_mtime_ns)


@lru_cache(16)
def _soundtrack(path: Path, _size: int, _time: int) -> Soundtrack:
    with open_media(path) as container:
        tracks = _decodable(container)
        _listen(container, tracks)
        found = [track for track in tracks if track.decoded]
        if not found:
            raise MediaError(UNREADABLE)
        for track in found:
            track.judge()
        chosen = _chosen(found)
        notes = []
        if chosen is not tracks[0]:
            told = f"the voice is sound track {tracks.index(chosen) + 1} of {len(tracks)}"
            notes.append(told + (chosen.name and f" ({chosen.name})"))
        if chosen.alone:
            notes.append(ONE_CHANNEL)
        return Soundtrack(chosen.stream.index, chosen.mix, chosen.silent, tuple(notes))


def _chosen(tracks: "list[_Track]") -> "_Track":
    best = max(track.likeness for track in tracks)
    if best >= SPEAKS:
        tracks = [track for track in tracks if track.likeness >= LEAST_OF_BEST * best]
    else:
        tracks = [track for track in tracks if not track.silent] or tracks
    return min(tracks, key=lambda track: track.rank)


def chosen_stream(container: InputContainer, track: Soundtrack) -> AudioStream:
    """The stream of a file that was opened again. Raises MediaError."""
    stream = next((one for one in container.streams.audio if one.index == track.index), None)
    if stream is None:
        raise MediaError(NO_AUDIO)
    return stream


def is_sound(path: Path, track: Soundtrack) -> bool:
    """Whether a file of no known signature is sound all the same: demuxers find some in noise."""
    good = bad = 0
    with open_media(path) as container:
        stream = chosen_stream(container, track)
        for packet in packets(container, stream):
            if not packet.size:
                continue
            try:
                good += any(not frame.is_corrupt for frame in packet.decode())
            except FFmpegError:
                bad += 1
            if good + bad == PROBED:
                break
    return good >= LEAST_GOOD and bad <= good / 10


def _decodable(container: InputContainer) -> "list[_Track]":
    tracks, fault = [], MediaError(NO_AUDIO)
    for stream in container.streams.audio:
        try:
            check_codec(stream)
        except MediaError as error:
            fault = error
        else:
            tracks.append(_Track(stream))
    if not tracks:
        raise fault
    return tracks


def _listen(container: InputContainer, tracks: "list[_Track]") -> None:
    by_index = {track.stream.index: track for track in tracks}
    for packet in packets(container, *(track.stream for track in tracks)):
        track = by_index[packet.stream.index]
        try:
            frames = packet.decode()
        except FFmpegError:
            continue
        for frame in frames:
            if isinstance(frame, AudioFrame) and not frame.is_corrupt:
                track.add(frame)
        full = [track.full for track in tracks]
        passed = max(track.decoded for track in tracks)
        if all(full) or passed > (ENOUGH_SECONDS if any(full) else MOST_SECONDS):
            return


@dataclass
class _Track:
    """One track while it is listened to."""

    stream: AudioStream
    decoded: float = 0.0
    """Seconds so far."""
    mix: tuple[float, ...] | None = None
    alone: bool = False
    """Whether that is one of several."""
    likeness: float = 0.0
    silent: bool = True
    _kept: float = 0.0
    _heard: list[NDArray[np.float32]] = field(default_factory=list)
    _resampler: "Resampler | None" = None
    _channels: int = 0
    _plain: bool = True

    @property
    def full(self) -> bool:
        return self._kept >= HEARD_SECONDS

    @property
    def rank(self) -> tuple[bool, bool, int]:
        """The lowest is used, of those that speak."""
        flags = self.stream.disposition
        return bool(flags & _SECONDARY), not flags & Disposition.default, self.stream.index

    @property
    def name(self) -> str:
        """Language and title, as far as the file tells them."""
        told = (self.stream.metadata.get(key, "") for key in ("language", "title"))
        printable = ("".join(c for c in text if c.isprintable())[:60] for text in told)
        return ", ".join(text for text in printable if text and text != "und")

    def add(self, frame: AudioFrame) -> None:
        self.decoded += frame.samples / frame.sample_rate
        if self.full:
            return
        channels = frame.layout.nb_channels
        if channels != self._channels:  # what came before was something else
            self._channels, self._plain = channels, is_plain(frame.layout.name)
            self._heard.clear()
        if self._resampler is None:
            self._resampler = Resampler(RATE)
        for samples in self._resampler(frame):
            if np.abs(samples).max(initial=0.0) > 10 ** (SILENT / 20):
                self._kept += samples.shape[1] / RATE
                self._heard.append(samples)

    def judge(self) -> None:
        """Find the mix in which speech survives, and how much like speech it is."""
        heard = [piece for piece in self._heard if len(piece) == self._channels]
        if not self._channels:
            return
        usual = None if self._plain else (1 / self._channels,) * self._channels
        self.mix = usual
        if not heard:
            return
        self.silent = False
        sound = np.concatenate(heard, axis=1)
        mixed = _likeness(sound.mean(0) if usual else _usual_mix(sound))
        alone = [_likeness(channel) for channel in sound]
        by_speech = max(range(len(alone)), key=lambda n: alone[n].speech)
        by_level = max(range(len(alone)), key=lambda n: alone[n].level)
        best = by_speech if alone[by_speech].speech >= SPEAKS else by_level
        lost = alone[best].level - mixed.level > LOST[min(len(alone), 3) - 1]
        buried = best == by_speech and (
            mixed.speech < BURIED * alone[best].speech or mixed.rest > alone[best].rest + HUMS
        )
        if len(alone) > 1 and (lost or buried):
            self.mix, self.alone = tuple(float(n == best) for n in range(len(alone))), True
            mixed = alone[best]
        self.likeness = mixed.speech


def _usual_mix(sound: NDArray[np.float32]) -> NDArray[np.float32]:
    """About what libswresample makes of these channels."""
    weights = {2: (1, 1), 6: (1, 1, 1.4, 0, 0.7, 0.7), 8: (1, 1, 1.4, 0, 0.7, 0.7, 0.7, 0.7)}
    of_each = np.array(weights.get(len(sound), (1,) * len(sound)), np.float32)
    return of_each @ sound / of_each.sum()


@dataclass(frozen=True)
class _Likeness:
    level: float = -100.0
    """Decibels of full scale between 300 and 3400 Hz, where it is loud."""
    rest: float = 0.0
    """Decibels by which all other frequencies are louder than these."""
    speech: float = 0.0
    """How much like speech: decibels by which loudness changes from syllable to syllable, by the
    share of the sound that has a pitch."""


def _likeness(sound: NDArray[np.float32]) -> _Likeness:
    """Of samples at RATE."""
    if len(sound) < FRAME + 20 * STEP:
        sound = np.pad(sound, (0, FRAME + 20 * STEP - len(sound)))
    window = np.hanning(FRAME).astype(np.float32)
    frames = np.lib.stride_tricks.sliding_window_view(sound, FRAME)[::STEP]
    level, pitch, powers = [], [], []
    whole = _autocorrelation(window)[0]
    for start in range(0, len(frames), 1000):
        power, other, alike = _spectrum_and_pitch(frames[start : start + 1000] * window)
        powers.append((power.sum(), other.sum()))
        level.append(10 * np.log10(power / (FRAME * window.sum()) + 1e-10))
        pitch.append((alike / (whole[20:101] / whole[0])).max(1))
    decibels, pitched = np.concatenate(level), np.concatenate(pitch) > 0.6
    loud = float(np.percentile(decibels, 95))
    band, other = np.sum(powers, 0)
    rest = float(10 * np.log10((other + 1e-9) / (band + 1e-9)))
    if loud < SILENT or rest > DROWNED:
        return _Likeness(loud, rest)
    envelope = np.convolve(np.maximum(decibels, loud - 35), np.ones(5) / 5, "same")
    slow = np.convolve(np.pad(envelope, 25, "edge"), np.ones(51) / 51, "valid")
    active = decibels > loud - 25
    return _Likeness(loud, rest, float((envelope - slow)[active].std() * pitched[active].mean()))


def _autocorrelation(frames: NDArray[np.float32]) -> NDArray[np.floating]:
    return np.fft.irfft(np.abs(np.fft.rfft(np.atleast_2d(frames), 1024)) ** 2)


def _spectrum_and_pitch(
    frames: NDArray[np.float32],
) -> tuple[NDArray[np.floating], NDArray[np.floating], NDArray[np.floating]]:
    """Power between 300 and 3400 Hz and elsewhere, and likeness to itself 2.5 to 12.5 ms later,
    (n, 81)."""
    power = np.abs(np.fft.rfft(frames, 1024)) ** 2
    band = power[:, 38:435].sum(1)
    other = power[:, 1:38].sum(1)
    power[:, :8] = 0
    alike = np.fft.irfft(power)
    return band, other, alike[:, 20:101] / (alike[:, :1] + 1e-12)
