"""When the sound of a file is heard, by its time stamps."""

from dataclasses import dataclass
from fractions import Fraction

from av.audio.stream import AudioStream
from av.container import InputContainer
from av.stream import Disposition

from kolbo_demo.media.demux import decode_audio, packets

JITTER = Fraction(1, 10)
"""Seconds that time stamps may be off without meaning it."""
LONGEST_GAP = 60
"""Seconds. A longer time between two pieces of sound is a damaged time stamp."""
LONGEST_OVERLAP = 1
"""Seconds. Where time stamps go back further, another recording begins."""
_EXACT = Fraction(1, 200)
_STAMPED = ("mov", "matroska", "mpeg", "asf", "flv", "ogg")
"""Containers that hold time stamps; for others libavformat makes them up."""
_FROM_ZERO = ("mov", "matroska")
"""Containers whose players begin at time 0, with silence where sound begins later."""


@dataclass
class Placing:
    """Where pieces of sound lie by their time stamps, as they come. Gaps become silence, what
    overlaps is left out; time stamps that nobody can mean are not followed."""

    zero: Fraction | None
    """When the file begins, in seconds of its own time; None for a file without time."""
    end: Fraction = Fraction(0)
    """Seconds up to which there is sound."""
    _resumes: bool = True
    """Whether the next piece lies exactly where its time stamp says."""

    def silence(self, start: Fraction | None, seconds: Fraction) -> Fraction | None:
        """Seconds of silence before a piece that is to begin at `start`; None if it is left out.
        Counts them and the piece."""
        gap = Fraction(0)
        if start is not None and self.zero is not None:
            gap = start - self.zero - self.end
            if gap > LONGEST_GAP or gap < -LONGEST_OVERLAP:
                self.zero += gap
                gap = Fraction(0)
        if gap < (-_EXACT if self._resumes else -JITTER):
            self._resumes = True
            return None
        if gap < (_EXACT if self._resumes else JITTER):
            gap = Fraction(0)
        self._resumes = False
        self.end += gap + seconds
        return gap


def beginning(container: InputContainer) -> Fraction | None:
    """When a file begins, in seconds of its own time: with its picture, or its sound if that is
    earlier; None where its time stamps mean nothing."""
    if not container.format.name.startswith(_STAMPED):
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
    elif container.format.name.startswith(_FROM_ZERO):
        begins = Fraction(0)
    else:
        return first
    return begins if 0 <= first - begins <= LONGEST_GAP else first


def sound_length(container: InputContainer, stream: AudioStream) -> float:
    """Seconds of sound from the beginning of a file, by its packets: headers are not trusted."""
    placing, unit = Placing(beginning(container)), stream.time_base or Fraction(1, 1000)
    for packet in packets(container, stream):
        start = None if packet.pts is None else packet.pts * unit
        if (
            not placing.end and start is not None and placing.zero is not None
        ):  # what decoders leave out comes before time 0
            placing.end = max(min(start - placing.zero, Fraction(0)), -JITTER)
        placing.silence(start, (packet.duration or 0) * unit)
    return float(max(placing.end, 0))


def decoded_length(container: InputContainer, stream: AudioStream) -> float:
    """The same by what is decoded: slower, and right for damaged files too."""
    placing = Placing(beginning(container))
    for frame in decode_audio(container, stream):
        start = None if frame.pts is None else frame.pts * (frame.time_base or Fraction(0))
        placing.silence(start, Fraction(frame.samples, frame.sample_rate))
    return float(placing.end)
