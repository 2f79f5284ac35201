"""Trimming of a clip and a voice, and the modes that make their lengths equal, one class each.

The API has no field for it, so files are trimmed, looped or retimed before they are sent. The
engine's reader and writer decode and encode, moviepy maps the time between them.
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

MoviePyClip = Any
"""A moviepy `VideoClip`: its effects are not typed."""

LENGTH_TOLERANCE_SECONDS = 0.08
"""Two frames: a shorter difference is not noticeable."""
SLOWEST, FASTEST = 0.25, 4.0
"""Bounds of the playback speed of `Remap`."""
STEREO_BYTES = 90_000_000
"""A larger stereo voice is sent in mono, to stay below the limit of 100 MB."""


class Mode(ABC):
    """A way to make the lengths equal."""

    name: ClassVar[str]

    @classmethod
    @abstractmethod
    def applies(cls, clip: float, voice: float) -> bool:
        """Whether it changes anything sensible for these lengths in seconds."""

    @classmethod
    def result_seconds(cls, clip: float, voice: float) -> float:
        """Length of the result."""
        return max(clip, voice)

    def retime(self, clip: MoviePyClip, seconds: float) -> MoviePyClip:
        """The clip with a length of `seconds`, here by cutting it."""
        return clip.subclipped(0, min(clip.duration, seconds))


class CutOff(Mode):
    """Cuts the longer one."""

    name = "cut_off"

    @classmethod
    def applies(cls, clip: float, voice: float) -> bool:
        return abs(clip - voice) > LENGTH_TOLERANCE_SECONDS

    @classmethod
    def result_seconds(cls, clip: float, voice: float) -> float:
        return min(clip, voice)


class _Extend(Mode):
    """Extends a shorter clip with its own frames."""

    @classmethod
    def applies(cls, clip: float, voice: float) -> bool:
        return voice - clip > LENGTH_TOLERANCE_SECONDS


class Loop(_Extend):
    """Repeats a shorter clip."""

    name = "loop"

    def retime(self, clip: MoviePyClip, seconds: float) -> MoviePyClip:
        from moviepy import vfx  # slow to import

        return clip.with_effects([vfx.Loop(duration=seconds)])


class Bounce(_Extend):
    """Plays a shorter clip back and forth, without doubled end frames."""

    name = "bounce"

    def retime(self, clip: MoviePyClip, seconds: float) -> MoviePyClip:
        last = max(clip.duration - 1 / clip.fps, 1 / clip.fps)
        mirrored = clip.time_transform(lambda time: last - abs(last - time % (2 * last)))
        return mirrored.with_duration(seconds)


class PadWithSilence(Mode):
    """Pads a shorter voice with silence."""

    name = "silence"

    @classmethod
    def applies(cls, clip: float, voice: float) -> bool:
        return clip - voice > LENGTH_TOLERANCE_SECONDS


class Remap(Mode):
    """Plays the clip slower or faster."""

    name = "remap"

    @classmethod
    def applies(cls, clip: float, voice: float) -> bool:
        return abs(clip - voice) > LENGTH_TOLERANCE_SECONDS and SLOWEST <= clip / voice <= FASTEST

    @classmethod
    def result_seconds(cls, clip: float, voice: float) -> float:  # noqa: ARG003 - as the others
        return voice

    def retime(self, clip: MoviePyClip, seconds: float) -> MoviePyClip:
        from moviepy import vfx

        return clip.with_effects([vfx.MultiplySpeed(final_duration=seconds)])


MODES: dict[str, type[Mode]] = {
    mode.name: mode for mode in (CutOff, Loop, Bounce, PadWithSilence, Remap)
}


def result_seconds(trim: Trim) -> float:
    """Length of the result; 0 if unknown."""
    if trim.mode:
        return MODES[trim.mode].result_seconds(trim.clip_seconds, trim.voice_seconds)
    return trim.voice_seconds


def applicable_modes(clip: float | None, voice: float | None) -> list[type[Mode]]:
    """The modes that apply to these lengths in seconds; None is a portrait, or unknown."""
    if not clip or not voice:
        return []
    return [mode for mode in MODES.values() if mode.applies(clip, voice)]


def cut_source(
    path: str, output: str, start: float, end: float, mode: str | None, voice: float
) -> dict[str, Any]:
    """Write the clip from `start` to `end`, fitted to a voice of `voice` seconds, as an MP4 without
    sound at the clip's frame rate. Raises MediaError. Runs in a child only."""
    from moviepy import VideoClip

    with Clip(Path(path)) as clip:
        fps = clip.fps
        first = min(max(round(start * fps), 0), clip.frame_count - 1)
        last = min(max(round(end * fps), first + 1), clip.frame_count)
        moving: MoviePyClip = VideoClip(
            _FrameReader(clip, first), duration=float((last - first) / fps)
        )
        moving = moving.with_fps(float(fps))
        if mode:
            seconds = MODES[mode].result_seconds(moving.duration, voice)
            moving = MODES[mode]().retime(moving, seconds)
        with SegmentWriter(Path(output), clip.width, clip.height, fps) as writer:
            for number in range(frames_for(moving.duration, fps)):
                writer.write(moving.get_frame(float(number / fps)))
    return {}


def cut_voice(
    path: str, output: str, start: float, end: float, mode: str | None, clip: float
) -> dict[str, Any]:
    """Write the voice from `start` to `end`, fitted to a clip of `clip` seconds, as a WAV at its
    own sample rate. Raises MediaError. Runs in a child only."""
    seconds = end - start
    lasts = MODES[mode].result_seconds(clip, seconds) if mode else seconds
    rate, layout = aac_format(Path(path))
    channels = 1 if layout == "mono" or lasts * rate * 4 > STEREO_BYTES else 2
    layout = "mono" if channels == 1 else "stereo"
    used = range(round(start * rate), round((start + min(seconds, lasts)) * rate))
    with wave.open(output, "wb") as file:
        file.setparams((channels, 2, rate, 0, "NONE", ""))
        for samples in _slice_samples(read_samples(Path(path), rate, layout), used):
            file.writeframes((samples.T * 32767).round().astype("<i2").tobytes())
        missing = round(lasts * rate) - file.tell()
        file.writeframes(bytes(2 * channels * max(missing, 0)))
    return {}


def _slice_samples(pieces: Iterator[np.ndarray], used: range) -> Iterator[np.ndarray]:
    """The samples with a number in `used`, of chunks of shape (channels, samples)."""
    place = 0
    for piece in pieces:
        if place >= used.stop:
            return
        yield piece[:, max(used.start - place, 0) : max(used.stop - place, 0)]
        place += piece.shape[1]


class _FrameReader:
    """Frames of a clip by time, in any order. Backwards it decodes in chunks, because a seek for
    each frame takes minutes."""

    def __init__(self, clip: Clip, first: int) -> None:
        """Time 0 is frame `first`."""
        self._clip, self._first = clip, first
        self._chunk = max(REVERSE_BUFFER_BYTES // (3 * clip.width * clip.height), 1)
        self._cache: dict[int, np.ndarray] = {}
        self._decoder: Iterator[np.ndarray] = iter(())
        self._last = -1

    def __call__(self, time: float) -> np.ndarray:
        number = min(self._first + round(time * float(self._clip.fps)), self._clip.frame_count - 1)
        if number not in self._cache:
            if number == self._last - 1:
                start = max(number - self._chunk + 1, self._first)
                pictures = self._clip.frames(number + 1 - start, start)
                self._cache = dict(enumerate(pictures, start))
                self._decoder = iter(())
            else:
                self._cache = {number: self._forward(number)}
        self._last = number
        return self._cache[number]

    def _forward(self, number: int) -> np.ndarray:
        for _ in range(self._last + 1, number):
            next(self._decoder, None)
        picture = next(self._decoder, None) if number > self._last else None
        if picture is None:
            self._decoder = self._clip.frames(self._clip.frame_count - number, number)
            picture = next(self._decoder)
        return picture
