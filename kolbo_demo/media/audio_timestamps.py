"""When the sound of a file is heard, by its time stamps."""

from dataclasses import dataclass
from fractions import Fraction

from av.audio.stream import AudioStream
from av.container import InputContainer
from av.stream import Disposition

from kolbo_demo.media.demux import decode_audio, packets

MAX_JITTER_SECONDS = Fraction(1, 10)
"""Seconds that time stamps may be off without meaning it."""
MAX_GAP_SECONDS = 60
"""Seconds. A longer time between two pieces of sound is a damaged time stamp."""
MAX_OVERLAP_SECONDS = 1
"""Seconds. Where time stamps go back further, another recording begins."""
_EXACT_SECONDS = Fraction(1, 200)
_TIMESTAMPED_FORMATS = ("mov", "matroska", "mpeg", "asf", "flv", "ogg")
"""Containers that hold time stamps; for others libavformat makes them up."""
_ZERO_BASED_FORMATS = ("mov", "matroska")
"""Containers whose players begin at time 0, with silence where sound begins later."""


@dataclass
class AudioTimeline:
    """Where pieces of sound lie by their time stamps, as they come. Gaps become silence, what
    overlaps is left out; time stamps that nobody can mean are not followed."""

    origin: Fraction | None
    """When the file begins, in seconds of its own time; None for a file without time."""
    end: Fraction = Fraction(0)
    """Seconds up to which there is sound."""
    _resync: bool = True
    """Whether the next piece lies exactly where its time stamp says."""

    def append(self, start: Fraction | None, seconds: Fraction) -> Fraction | None:
        """Seconds of silence before a piece that is to begin at `start`; None if it is left out.
        Counts them and the piece."""
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
    """When a file begins, in seconds of its own time: with its picture, or its sound if that is
    earlier; None where its time stamps mean nothing."""
    if not container.format.name.startswith(_TIMESTAMPED_FORMATS):
        return None
    sounds, pictures = (
        [
            stream.start_time * (stream.time_base or Fraction(0))
            for stream in streams
            if stream.start_time is not None and not stream.disposition & Disposition.attached_pic
        ]
        for streams in (container.streams.audio, container.streams.video)
    )
    first = min(sounds, default=Fraction(0))
    if pictures:
        begins = min(pictures)
    elif container.format.name.startswith(_ZERO_BASED_FORMATS):
        begins = Fraction(0)
    else:
        return first
    return begins if 0 <= first - begins <= MAX_GAP_SECONDS else first


def packet_duration(container: InputContainer, stream: AudioStream) -> float:
    """Seconds of sound from the beginning of a file, by its packets: headers are not trusted."""
    timeline, unit = (
        AudioTimeline(media_start_time(container)),
        stream.time_base or Fraction(1, 1000),
    )
    for packet in packets(container, stream):
        start = None if packet.pts is None else packet.pts * unit
        if (
            not timeline.end and start is not None and timeline.origin is not None
        ):  # what decoders leave out comes before time 0
            timeline.end = max(min(start - timeline.origin, Fraction(0)), -MAX_JITTER_SECONDS)
        timeline.append(start, (packet.duration or 0) * unit)
    return float(max(timeline.end, 0))


def decoded_duration(container: InputContainer, stream: AudioStream) -> float:
    """The same by what is decoded: slower, and right for damaged files too."""
    timeline = AudioTimeline(media_start_time(container))
    for frame in decode_audio(container, stream):
        start = None if frame.pts is None else frame.pts * (frame.time_base or Fraction(0))
        timeline.append(start, Fraction(frame.samples, frame.sample_rate))
    return float(timeline.end)
