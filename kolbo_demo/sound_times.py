"""When the sound of a file is heard, by its time stamps."""

from dataclasses import dataclass
from fractions import Fraction

from av.audio.stream import AudioStream
from av.container import InputContainer
from av.stream import Disposition

from kolbo_demo.container import packets

JITTER = Fraction(1, 10)
"""Seconds that time stamps may be off without meaning it."""
LONGEST_GAP = 60
"""Seconds. A longer time between two pieces of sound is a damaged time stamp."""
LONGEST_OVERLAP = 1
"""Seconds. Where time stamps go back further, another recording begins."""
_BEFORE_PICTURE = Fraction(1, 10)
_EXACT = Fraction(1, 200)
_FROM_ZERO = ("mov", "matroska")
"""Containers whose players begin at time 0, with silence where sound begins later."""


@dataclass
class Placing:
    """Where pieces of sound lie by their time stamps, as they come. Gaps become silence, what
    overlaps is left out; time stamps that nobody can mean are not followed."""

    zero: Fraction
    """When the file begins, in seconds of its own time."""
    end: Fraction = Fraction(0)
    """Seconds up to which there is sound."""
    _begun: bool = False
    _dropping: bool = False

    def silence(self, start: Fraction | None, seconds: Fraction) -> Fraction | None:
        """Seconds of silence before a piece that is to begin at `start`; None if it is left out.
        Counts them and the piece."""
        gap = Fraction(0) if start is None else start - self.zero - self.end
        if gap > LONGEST_GAP or gap < -LONGEST_OVERLAP:
            self.zero += gap
            gap = Fraction(0)
        self._dropping = gap < (-seconds / 2 if self._dropping else -JITTER)
        if self._dropping:
            return None
        if gap < (JITTER if self._begun else _EXACT):
            gap = Fraction(0)
        self._begun = True
        self.end += gap + seconds
        return gap


def beginning(container: InputContainer) -> Fraction:
    """When a file begins, in seconds of its own time: with its picture, or its sound if that is
    earlier."""
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
    return begins if -_BEFORE_PICTURE < first - begins <= LONGEST_GAP else first


def sound_length(container: InputContainer, stream: AudioStream) -> float:
    """Seconds of sound from the beginning of a file, by its packets: headers are not trusted."""
    placing, unit = Placing(beginning(container)), stream.time_base or Fraction(1, 1000)
    for packet in packets(container, stream):
        start = None if packet.pts is None else packet.pts * unit
        if not placing.end and start is not None:  # what decoders leave out comes before time 0
            placing.end = max(min(start - placing.zero, Fraction(0)), -JITTER)
        placing.silence(start, (packet.duration or 0) * unit)
    return float(max(placing.end, 0))
