"""Upper bound of the audio duration of a file, for billing by the second."""

import contextlib
from dataclasses import dataclass
from pathlib import Path

import av
from av.audio.frame import AudioFrame
from av.audio.stream import AudioStream
from av.codec.context import Flags2
from av.error import FFmpegError
from av.packet import Packet

from kolbo_demo.media.demux import NO_AUDIO, MediaError, check_codec, open_media, packets


@dataclass
class _TrackDuration:
    """Duration of one track, in seconds, by each measure."""

    stream: AudioStream
    decoded: float = 0.0
    packets: float = 0.0
    """Sum of packet durations."""
    first: float | None = None
    last: float = 0.0

    def add(self, packet: Packet) -> None:
        unit = float(packet.time_base or 0)
        duration = float(packet.duration or 0) * unit
        self.packets += duration
        if packet.pts is not None:
            start = packet.pts * unit
            self.first = start if self.first is None else min(self.first, start)
            self.last = max(self.last, start + duration)
        with contextlib.suppress(FFmpegError):  # later packets may be sound
            for frame in packet.decode():
                if isinstance(frame, AudioFrame) and frame.sample_rate:
                    self.decoded += frame.samples / frame.sample_rate

    @property
    def longest(self) -> float:
        declared = float((self.stream.duration or 0) * (self.stream.time_base or 0))
        return max(declared, self.decoded, self.packets, self.last - (self.first or 0.0))


def max_audio_duration(path: Path, cutoff: float) -> float:
    """The most seconds of audio that any reader may find in a file; if more than `cutoff`, some
    number above it. Raises MediaError.

    The maximum of the declared duration and of each track's: decoded, by packets and by time
    stamps, including what headers, edit lists and padding exclude from playback.
    """
    with open_media(path, ignore_editlist="1", ignore_length="1") as container:
        tracks = {stream.index: _TrackDuration(stream) for stream in container.streams.audio}
        if not tracks:
            raise MediaError(NO_AUDIO)
        for track in tracks.values():
            check_codec(track.stream)
            track.stream.codec_context.flags2 |= Flags2.skip_manual
        declared = (container.duration or 0) / av.time_base
        for packet in packets(container, *(track.stream for track in tracks.values())):
            track = tracks[packet.stream.index]
            track.add(packet)
            if max(declared, track.longest) > cutoff:
                break
        return max(declared, *(track.longest for track in tracks.values()))
