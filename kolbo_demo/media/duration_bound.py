"""Upper bound of the sound in a file, for billing by the second."""

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
    """Length of one track, in seconds, by each measure."""

    stream: AudioStream
    decoded: float = 0.0
    packets: float = 0.0
    """By its packets' own durations."""
    first: float | None = None
    last: float = 0.0

    def add(self, packet: Packet) -> None:
        unit = float(packet.time_base or 0)
        lasts = float(packet.duration or 0) * unit
        self.packets += lasts
        if packet.pts is not None:
            begins = packet.pts * unit
            self.first = begins if self.first is None else min(self.first, begins)
            self.last = max(self.last, begins + lasts)
        with contextlib.suppress(FFmpegError):  # damage: what comes after still counts
            for frame in packet.decode():
                if isinstance(frame, AudioFrame) and frame.sample_rate:
                    self.decoded += frame.samples / frame.sample_rate

    @property
    def longest(self) -> float:
        declared = float((self.stream.duration or 0) * (self.stream.time_base or 0))
        return max(declared, self.decoded, self.packets, self.last - (self.first or 0.0))


def max_audio_duration(path: Path, cutoff: float) -> float:
    """The most seconds that any reader may find of sound in a file; where they are more than
    `enough`, some number above that. Raises MediaError.

    What the file declares counts, and what its tracks hold once they are decoded, with what
    headers, time stamps, edit lists and padding have players leave out.
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
