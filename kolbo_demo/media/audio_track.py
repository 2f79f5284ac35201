"""Select the audio track that contains the voice, and the mix of its channels that preserves it.

Mixing channels can cancel speech (inverted polarity) or mask it (noise on one channel), and the
first track is not always the one with speech. Each track is therefore analysed first, up to 40
audible seconds at 8 kHz.
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
from kolbo_demo.media.resampling import Resampler, is_standard_layout
from kolbo_demo.media.sniff import UNREADABLE, MediaError

_ANALYSIS_RATE = 8000
_ANALYSED_SECONDS = 40
"""Of each track; silence does not count."""
_SEARCH_SECONDS, _MAX_SEARCH_SECONDS = 120, 600
"""How far the file is analysed if one track has enough audio, and if none has."""
_PROBED_PACKETS, _MIN_GOOD_PACKETS = 200, 8
_FRAME_SAMPLES, _HOP_SAMPLES = 320, 80
"""40 ms, every 10 ms."""
_SILENCE_DB = -65.0
"""dBFS."""
_MIN_SPEECH = 0.3
"""Speech scores 1.3 to 8, with equally loud noise 0.4; noise and hum 0 to 0.3."""
_MIN_MIX_SPEECH_RATIO = 0.7
"""A mix with a lower speech score than this share of its best channel's masks the speech."""
_MAX_MIX_HUM_DB = 6.0
"""Out-of-band level of a mix above that of its best channel."""
_MAX_MIX_LOSS_DB = (0.0, 9.0, 15.0)
"""Level of a mix below its best channel: of one, two and more channels."""
_MIN_SPEECH_OF_BEST = 0.4
"""Share of the best speech score from which a track counts as speech."""
_MAX_MASKING_DB = 40.0
"""Out-of-band level above that of the speech band. Codec noise below a louder sound varies like
speech."""
ONE_CHANNEL_NOTE = "the voice is one channel of the sound"
_SECONDARY = (
    Disposition.comment
    | Disposition.visual_impaired
    | Disposition.karaoke
    | Disposition.clean_effects
    | Disposition.descriptions
)


@dataclass(frozen=True)
class VoiceTrack:
    """The voice in a media file."""

    index: int
    """Of the stream in the container."""
    mix: tuple[float, ...] | None = None
    """Weight of each channel; None for the default mix."""
    silent: bool = False
    """Whether it has no audible sound."""
    notes: tuple[str, ...] = ()
    """For people: which track or channel was selected, if there was a choice."""


def find_voice_track(path: Path) -> VoiceTrack:
    """The voice in a file, cached. Raises MediaError if no audio can be decoded."""
    try:
        stat = path.stat()
    except OSError as error:
        raise MediaError(UNREADABLE) from error
    return _find_voice_track(path, stat.st_size, stat.st_mtime_ns)


@lru_cache(16)
def _find_voice_track(path: Path, _size: int, _time: int) -> VoiceTrack:
    with open_media(path) as container:
        tracks = _decodable_tracks(container)
        _analyse(container, tracks)
        found = [track for track in tracks if track.decoded_seconds]
        if not found:
            raise MediaError(UNREADABLE)
        for track in found:
            track.choose_mix()
        chosen = _select(found)
        notes = []
        if chosen is not tracks[0]:
            note = f"the voice is sound track {tracks.index(chosen) + 1} of {len(tracks)}"
            notes.append(note + (chosen.name and f" ({chosen.name})"))
        if chosen.single_channel:
            notes.append(ONE_CHANNEL_NOTE)
        return VoiceTrack(chosen.stream.index, chosen.mix, chosen.silent, tuple(notes))


def _select(tracks: "list[_TrackAnalysis]") -> "_TrackAnalysis":
    best = max(track.speech for track in tracks)
    if best >= _MIN_SPEECH:
        tracks = [track for track in tracks if track.speech >= _MIN_SPEECH_OF_BEST * best]
    else:
        tracks = [track for track in tracks if not track.silent] or tracks
    return min(tracks, key=lambda track: track.rank)


def voice_stream(container: InputContainer, track: VoiceTrack) -> AudioStream:
    """The stream of `track` in a container of the same file. Raises MediaError."""
    stream = next((one for one in container.streams.audio if one.index == track.index), None)
    if stream is None:
        raise MediaError(NO_AUDIO)
    return stream


def is_decodable_audio(path: Path, track: VoiceTrack) -> bool:
    """Whether the packets of a file of unknown signature decode: demuxers find audio in noise."""
    good = bad = 0
    with open_media(path) as container:
        stream = voice_stream(container, track)
        for packet in packets(container, stream):
            if not packet.size:
                continue
            try:
                good += any(not frame.is_corrupt for frame in packet.decode())
            except FFmpegError:
                bad += 1
            if good + bad == _PROBED_PACKETS:
                break
    return good >= _MIN_GOOD_PACKETS and bad <= good / 10


def _decodable_tracks(container: InputContainer) -> "list[_TrackAnalysis]":
    tracks, fault = [], MediaError(NO_AUDIO)
    for stream in container.streams.audio:
        try:
            check_codec(stream)
        except MediaError as error:
            fault = error
        else:
            tracks.append(_TrackAnalysis(stream))
    if not tracks:
        raise fault
    return tracks


def _analyse(container: InputContainer, tracks: "list[_TrackAnalysis]") -> None:
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
        passed = max(track.decoded_seconds for track in tracks)
        if all(full) or passed > (_SEARCH_SECONDS if any(full) else _MAX_SEARCH_SECONDS):
            return


@dataclass
class _TrackAnalysis:
    """Analysis of one track."""

    stream: AudioStream
    decoded_seconds: float = 0.0
    mix: tuple[float, ...] | None = None
    single_channel: bool = False
    """Whether `mix` selects one of several channels."""
    speech: float = 0.0
    silent: bool = True
    _audible_seconds: float = 0.0
    _samples: list[NDArray[np.float32]] = field(default_factory=list)
    _resampler: Resampler | None = None
    _channels: int = 0
    _standard_layout: bool = True

    @property
    def full(self) -> bool:
        return self._audible_seconds >= _ANALYSED_SECONDS

    @property
    def rank(self) -> tuple[bool, bool, int]:
        """Sort key; the lowest is preferred."""
        flags = self.stream.disposition
        return bool(flags & _SECONDARY), not flags & Disposition.default, self.stream.index

    @property
    def name(self) -> str:
        """Language and title, if the file has them."""
        texts = (self.stream.metadata.get(key, "") for key in ("language", "title"))
        printable = ("".join(c for c in text if c.isprintable())[:60] for text in texts)
        return ", ".join(text for text in printable if text and text != "und")

    def add(self, frame: AudioFrame) -> None:
        self.decoded_seconds += frame.samples / frame.sample_rate
        if self.full:
            return
        channels = frame.layout.nb_channels
        if channels != self._channels:  # the format changes
            self._channels, self._standard_layout = channels, is_standard_layout(frame.layout.name)
            self._samples.clear()
        if self._resampler is None:
            self._resampler = Resampler(_ANALYSIS_RATE)
        for samples in self._resampler(frame):
            if np.abs(samples).max(initial=0.0) > 10 ** (_SILENCE_DB / 20):
                self._audible_seconds += samples.shape[1] / _ANALYSIS_RATE
                self._samples.append(samples)

    def choose_mix(self) -> None:
        """Select the mix that preserves speech, and score it."""
        pieces = [piece for piece in self._samples if len(piece) == self._channels]
        if not self._channels:
            return
        default = None if self._standard_layout else (1 / self._channels,) * self._channels
        self.mix = default
        if not pieces:
            return
        self.silent = False
        sound = np.concatenate(pieces, axis=1)
        mixed = _speech_score(sound.mean(0) if default else _default_mix(sound))
        channels = [_speech_score(channel) for channel in sound]
        by_speech = max(range(len(channels)), key=lambda n: channels[n].speech)
        by_level = max(range(len(channels)), key=lambda n: channels[n].level)
        best = by_speech if channels[by_speech].speech >= _MIN_SPEECH else by_level
        lost = channels[best].level - mixed.level > _MAX_MIX_LOSS_DB[min(len(channels), 3) - 1]
        masked = best == by_speech and (
            mixed.speech < _MIN_MIX_SPEECH_RATIO * channels[best].speech
            or mixed.out_of_band > channels[best].out_of_band + _MAX_MIX_HUM_DB
        )
        if len(channels) > 1 and (lost or masked):
            self.mix = tuple(float(n == best) for n in range(len(channels)))
            self.single_channel = True
            mixed = channels[best]
        self.speech = mixed.speech


def _default_mix(sound: NDArray[np.float32]) -> NDArray[np.float32]:
    """Approximation of libswresample's default downmix."""
    weights = {2: (1, 1), 6: (1, 1, 1.4, 0, 0.7, 0.7), 8: (1, 1, 1.4, 0, 0.7, 0.7, 0.7, 0.7)}
    row = np.array(weights.get(len(sound), (1,) * len(sound)), np.float32)
    return row @ sound / row.sum()


@dataclass(frozen=True)
class _SpeechScore:
    level: float = -100.0
    """dBFS between 300 and 3400 Hz, 95th percentile."""
    out_of_band: float = 0.0
    """Power of all other frequencies relative to these, dB."""
    speech: float = 0.0
    """Syllabic modulation of the level (standard deviation, dB) times the voiced share."""


def _speech_score(sound: NDArray[np.float32]) -> _SpeechScore:
    """Score samples at `_ANALYSIS_RATE`."""
    if len(sound) < _FRAME_SAMPLES + 20 * _HOP_SAMPLES:
        sound = np.pad(sound, (0, _FRAME_SAMPLES + 20 * _HOP_SAMPLES - len(sound)))
    window = np.hanning(_FRAME_SAMPLES).astype(np.float32)
    frames = np.lib.stride_tricks.sliding_window_view(sound, _FRAME_SAMPLES)[::_HOP_SAMPLES]
    level, pitch, powers = [], [], []
    whole = np.fft.irfft(np.abs(np.fft.rfft(window, 1024)) ** 2)
    for start in range(0, len(frames), 1000):
        power, other, correlation = _spectrum_and_pitch(frames[start : start + 1000] * window)
        powers.append((power.sum(), other.sum()))
        level.append(10 * np.log10(power / (_FRAME_SAMPLES * window.sum()) + 1e-10))
        pitch.append((correlation / (whole[20:101] / whole[0])).max(1))
    decibels, pitched = np.concatenate(level), np.concatenate(pitch) > 0.6
    loud = float(np.percentile(decibels, 95))
    band, other = np.sum(powers, 0)
    out_of_band = float(10 * np.log10((other + 1e-9) / (band + 1e-9)))
    if loud < _SILENCE_DB or out_of_band > _MAX_MASKING_DB:
        return _SpeechScore(loud, out_of_band)
    envelope = np.convolve(np.maximum(decibels, loud - 35), np.ones(5) / 5, "same")
    slow = np.convolve(np.pad(envelope, 25, "edge"), np.ones(51) / 51, "valid")
    active = decibels > loud - 25
    modulation = (envelope - slow)[active].std()
    return _SpeechScore(loud, out_of_band, float(modulation * pitched[active].mean()))


def _spectrum_and_pitch(
    frames: NDArray[np.float32],
) -> tuple[NDArray[np.floating], NDArray[np.floating], NDArray[np.floating]]:
    """Power between 300 and 3400 Hz, power elsewhere, (n,) each, and normalised autocorrelation at
    lags of 2.5 to 12.5 ms, (n, 81)."""
    power = np.abs(np.fft.rfft(frames, 1024)) ** 2
    band = power[:, 38:435].sum(1)
    other = power[:, 1:38].sum(1)
    power[:, :8] = 0
    correlation = np.fft.irfft(power)
    return band, other, correlation[:, 20:101] / (correlation[:, :1] + 1e-12)
