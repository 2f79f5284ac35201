"""Position and duration of audio by its time stamps."""

from dataclasses import dataclass
from fractions import Fraction

from av.audio.stream import AudioStream
from av.container import InputContainer
from av.stream import Disposition

from kolbo_demo.media.demux import decode_audio, packets

MAX_JITTER_SECONDS = Fraction(1, 10)
"""Deviations of time stamps up to this are noise."""
MAX_GAP_SECONDS = 60
"""A longer gap is a damaged time stamp."""
MAX_OVERLAP_SECONDS = 1
"""Where time stamps go back further, another recording begins."""
_EXACT_SECONDS = Fraction(1, 200)
_TIMESTAMPED_FORMATS = ("mov", "matroska", "mpeg", "asf", "flv", "ogg")
"""Containers with time stamps; libavformat invents those of others."""
_ZERO_BASED_FORMATS = ("mov", "matroska")
"""Containers that are played from time 0, with silence before a later start."""


@dataclass
class AudioTimeline:
    """Places audio frames by their time stamps. Gaps become silence, overlaps are dropped,
    implausible time stamps are ignored."""

    origin: Fraction | None
    """Start of the file, in seconds of its own time; None if its time stamps are meaningless."""
    end: Fraction = Fraction(0)
    """Seconds of audio so far."""
    _resync: bool = True
    """Whether the next frame is placed exactly by its time stamp."""

    def append(self, start: Fraction | None, seconds: Fraction) -> Fraction | None:
        """Append a frame of `seconds` that starts at `start`. Returns the seconds of silence before
        it, or None if it is dropped."""
        gap = Fraction(0)
        if start is not None and self.origin is not None:
            gap = start - self.origin - self.end
            if gap > MAX_GAP_SECONDS or gap < -MAX_OVERLAP_SECONDS:
                self.origin += gap
                gap = Fraction(0)
        if gap < (-_EXACT_SECONDS if self._resync else -MAX_JITTER_SECONDS):
            self._resync = True
            return None
        if gap < (_EXACT_SECONDS if self._resync else MAX_JITTER_SECONDS):
            gap = Fraction(0)
        self._resync = False
        self.end += gap + seconds
        return gap


def media_start_time(container: InputContainer) -> Fraction | None:
    """Start of a file, in seconds of its own time: that of its video, or its audio if that is
    earlier; None if its time stamps are meaningless."""
    if not container.format.name.startswith(_TIMESTAMPED_FORMATS):
        return None
    audio, video = (
        [
            stream.start_time * (stream.time_base or Fraction(0))
            for stream in streams
            if stream.start_time is not None and not stream.disposition & Disposition.attached_pic
        ]
        for streams in (container.streams.audio, container.streams.video)
    )
    first = min(audio, default=Fraction(0))
    if video:
        start = min(video)
    elif container.format.name.startswith(_ZERO_BASED_FORMATS):
        start = Fraction(0)
    else:
        return first
    return start if 0 <= first - start <= MAX_GAP_SECONDS else first


def packet_duration(container: InputContainer, stream: AudioStream) -> float:
    """Seconds from the start of a file to the end of its audio, by packets: headers may lie."""
    timeline = AudioTimeline(media_start_time(container))
    unit = stream.time_base or Fraction(1, 1000)
    for packet in packets(container, stream):
        start = None if packet.pts is None else packet.pts * unit
        if not timeline.end and start is not None and timeline.origin is not None:
            # Priming samples, which decoders drop, lie before time 0.
            timeline.end = max(min(start - timeline.origin, Fraction(0)), -MAX_JITTER_SECONDS)
        timeline.append(start, (packet.duration or 0) * unit)
    return float(max(timeline.end, 0))


def decoded_duration(container: InputContainer, stream: AudioStream) -> float:
    """The same by decoding: slower, and right for damaged files too."""
    timeline = AudioTimeline(media_start_time(container))
    for frame in decode_audio(container, stream):
        start = None if frame.pts is None else frame.pts * (frame.time_base or Fraction(0))
        timeline.append(start, Fraction(frame.samples, frame.sample_rate))
    return float(timeline.end)
