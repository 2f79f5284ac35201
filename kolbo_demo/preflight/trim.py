"""A clip and a voice cut to a part, and made equally long: one way, one class.

The API has no field for it, so clip and voice are cut, repeated or stretched before they are sent.
The engine's own parts decode and encode, moviepy bends the time between them.
"""

import wave
from abc import ABC, abstractmethod
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from kolbo_demo.engine.audio_io import aac_format, read_samples
from kolbo_demo.engine.video_reader import REVERSE_BUFFER_BYTES, Clip
from kolbo_demo.engine.video_writer import SegmentWriter, frames_for
from kolbo_demo.options import Trim

Moving = Any
"""A moviepy `VideoClip`, whose types its effects do not keep."""

SAME_SECONDS = 0.08
"""Two frames: nobody sees or hears such a difference."""
SLOWEST, FASTEST = 0.25, 4.0
"""Speeds between which `Remap` plays a clip."""
STEREO_BYTES = 90_000_000
"""A longer voice is sent in mono, to stay below the 100 MB that are taken."""


class Mode(ABC):
    """How the lengths are made equal. `name` is the field's own word for it."""

    name: ClassVar[str]

    @classmethod
    @abstractmethod
    def fits(cls, clip: float, voice: float) -> bool:
        """Whether it means anything for a clip and a voice of so many seconds."""

    @classmethod
    def lasts(cls, clip: float, voice: float) -> float:
        """Seconds of the result."""
        return max(clip, voice)

    def bent(self, clip: Moving, seconds: float) -> Moving:
        """The clip, made to last; as it stands here it is cut."""
        return clip.subclipped(0, min(clip.duration, seconds))


class CutOff(Mode):
    """The longer one is cut."""

    name = "cut_off"

    @classmethod
    def fits(cls, clip: float, voice: float) -> bool:
        return abs(clip - voice) > SAME_SECONDS

    @classmethod
    def lasts(cls, clip: float, voice: float) -> float:
        return min(clip, voice)


class Longer(Mode):
    """A shorter clip is made longer by its own frames."""

    @classmethod
    def fits(cls, clip: float, voice: float) -> bool:
        return voice - clip > SAME_SECONDS


class Loop(Longer):
    """A shorter clip begins again."""

    name = "loop"

    def bent(self, clip: Moving, seconds: float) -> Moving:
        from moviepy import vfx  # slow to import

        return clip.with_effects([vfx.Loop(duration=seconds)])


class Bounce(Longer):
    """A shorter clip plays back and forth, without showing the ends twice."""

    name = "bounce"

    def bent(self, clip: Moving, seconds: float) -> Moving:
        last = max(clip.duration - 1 / clip.fps, 1 / clip.fps)
        there = clip.time_transform(lambda time: last - abs(last - time % (2 * last)))
        return there.with_duration(seconds)


class Silence(Mode):
    """After a shorter voice the clip goes on in silence."""

    name = "silence"

    @classmethod
    def fits(cls, clip: float, voice: float) -> bool:
        return clip - voice > SAME_SECONDS


class Remap(Mode):
    """The clip plays slower or faster."""

    name = "remap"

    @classmethod
    def fits(cls, clip: float, voice: float) -> bool:
        return abs(clip - voice) > SAME_SECONDS and SLOWEST <= clip / voice <= FASTEST

    @classmethod
    def lasts(cls, clip: float, voice: float) -> float:  # noqa: ARG003 - as the others
        return voice

    def bent(self, clip: Moving, seconds: float) -> Moving:
        from moviepy import vfx

        return clip.with_effects([vfx.MultiplySpeed(final_duration=seconds)])


MODES: dict[str, type[Mode]] = {mode.name: mode for mode in (CutOff, Loop, Bounce, Silence, Remap)}


def result_seconds(trim: Trim) -> float:
    """Length of the result; 0 where it is not known."""
    if trim.mode:
        return MODES[trim.mode].lasts(trim.clip_seconds, trim.voice_seconds)
    return trim.voice_seconds


def fitting(clip: float | None, voice: float | None) -> list[type[Mode]]:
    """The modes that mean something for these lengths in seconds; None is a still, or unknown."""
    if not clip or not voice:
        return []
    return [mode for mode in MODES.values() if mode.fits(clip, voice)]


def cut_source(
    path: str, output: str, start: float, end: float, mode: str | None, voice: float
) -> dict[str, Any]:
    """The clip from `start` to `end` seconds, made to suit a voice of `voice` seconds, as an MP4
    without sound at the clip's own rate. Raises MediaError. In a child only."""
    from moviepy import VideoClip

    with Clip(Path(path)) as clip:
        fps = clip.fps
        first = min(max(round(start * fps), 0), clip.frame_count - 1)
        last = min(max(round(end * fps), first + 1), clip.frame_count)
        moving: Moving = VideoClip(_Frames(clip, first), duration=float((last - first) / fps))
        moving = moving.with_fps(float(fps))
        if mode:
            seconds = MODES[mode].lasts(moving.duration, voice)
            moving = MODES[mode]().bent(moving, seconds)
        with SegmentWriter(Path(output), clip.width, clip.height, fps) as writer:
            for number in range(frames_for(moving.duration, fps)):
                writer.write(moving.get_frame(float(number / fps)))
    return {}


def cut_voice(
    path: str, output: str, start: float, end: float, mode: str | None, clip: float
) -> dict[str, Any]:
    """The voice from `start` to `end` seconds, made to suit a clip of `clip` seconds, as a WAV at
    its own rate. Raises MediaError. In a child only."""
    seconds = end - start
    lasts = MODES[mode].lasts(clip, seconds) if mode else seconds
    rate, layout = aac_format(Path(path))
    channels = 1 if layout == "mono" or lasts * rate * 4 > STEREO_BYTES else 2
    layout = "mono" if channels == 1 else "stereo"
    taken = range(round(start * rate), round((start + min(seconds, lasts)) * rate))
    with wave.open(output, "wb") as file:
        file.setparams((channels, 2, rate, 0, "NONE", ""))
        for samples in _between(read_samples(Path(path), rate, layout), taken):
            file.writeframes((samples.T * 32767).round().astype("<i2").tobytes())
        missing = round(lasts * rate) - file.tell()
        file.writeframes(bytes(2 * channels * max(missing, 0)))
    return {}


def _between(pieces: Iterator[np.ndarray], taken: range) -> Iterator[np.ndarray]:
    """Of samples that come in pieces (channels, samples) those numbered in `taken`."""
    place = 0
    for piece in pieces:
        if place >= taken.stop:
            return
        yield piece[:, max(taken.start - place, 0) : max(taken.stop - place, 0)]
        place += piece.shape[1]


class _Frames:
    """What a clip shows at a time, in whatever order it is asked for: forwards as it is decoded,
    backwards in pieces, because searching for each single frame takes minutes."""

    def __init__(self, clip: Clip, first: int) -> None:
        """Time 0 is frame `first`."""
        self._clip, self._first = clip, first
        self._piece = max(REVERSE_BUFFER_BYTES // (3 * clip.width * clip.height), 1)
        self._held: dict[int, np.ndarray] = {}
        self._ahead: Iterator[np.ndarray] = iter(())
        self._shown = -1

    def __call__(self, time: float) -> np.ndarray:
        number = min(self._first + round(time * float(self._clip.fps)), self._clip.frame_count - 1)
        if number not in self._held:
            if number == self._shown - 1:
                start = max(number - self._piece + 1, self._first)
                pictures = self._clip.frames(number + 1 - start, start)
                self._held = dict(enumerate(pictures, start))
                self._ahead = iter(())
            else:
                self._held = {number: self._forward(number)}
        self._shown = number
        return self._held[number]

    def _forward(self, number: int) -> np.ndarray:
        for _ in range(self._shown + 1, number):
            next(self._ahead, None)
        picture = next(self._ahead, None) if number > self._shown else None
        if picture is None:
            self._ahead = self._clip.frames(self._clip.frame_count - number, number)
            picture = next(self._ahead)
        return picture
