"""Decode and encode: clips to RGB frames, RGB frames and a voice to MP4, voices to samples.

PyAV does the work in this process: as fast as a pipe to the ffmpeg program, exact in time, and
nothing to start or clean up. Memory stays the same for any length.
"""

import math
from collections.abc import Generator, Iterator
from contextlib import suppress
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Self
from uuid import uuid4

import av
import numpy as np
from av.audio.frame import AudioFrame
from av.error import FFmpegError
from av.video.frame import VideoFrame
from av.video.reformatter import (
    ColorPrimaries,
    ColorRange,
    Colorspace,
    ColorTrc,
    Interpolation,
    VideoReformatter,
)

from kolbo_demo.container import (
    THREADS,
    UNREADABLE,
    MediaError,
    Orientation,
    check_video_size,
    decode_video,
    open_media,
    read_timeline,
    square_size,
    video_stream,
)
from kolbo_demo.engine.sound import aac_format, load_voice, read_samples

__all__ = ["Clip", "Writer", "frames_for", "load_voice"]

HELD_BYTES = 128 * 1024 * 1024
"""At most so many bytes of decoded frames are held while a clip is played backwards."""

CRF = 15
"""x264's quality: an unchanged frame stays over 40 dB, and a minute takes a few MB."""

_CHROMA = Interpolation.FULL_CHR_H_INT | Interpolation.FULL_CHR_H_INP | Interpolation.ACCURATE_RND
_TO_RGB = Interpolation.BILINEAR | _CHROMA
_TO_YUV = Interpolation.BICUBIC | _CHROMA
_WIDE = (ColorPrimaries.BT2020, ColorPrimaries.SMPTE431, ColorPrimaries.SMPTE432)
_HDR = (ColorTrc.SMPTE2084, ColorTrc.ARIB_STD_B67)
_UNTAGGED = 2
"""AVCOL_SPC_UNSPECIFIED: the file does not say which matrix its colours need."""


class Clip:
    """A video file as upright RGB frames at a constant rate, as often as wanted.

    Use as a context manager. Raises MediaError if nothing in the file can be shown.
    """

    def __init__(self, path: Path) -> None:
        self.path = Path(path)
        with open_media(self.path) as container:
            stream = video_stream(container)
            self._stored = square_size(stream)
            self._timeline = read_timeline(container, stream)
        self.fps = self._timeline.fps
        self.frame_count = self._timeline.frame_count
        self.duration = float(self.frame_count / self.fps)
        """Seconds."""
        _, first = next(self._decoded(0.0), (0.0, None))
        if first is None:
            raise MediaError(UNREADABLE)
        self._orientation = Orientation.of(first)
        self._frame_bytes = sum(plane.buffer_size for plane in first.planes)
        width, height = self._orientation.size(*self._stored)
        check_video_size(width, height)
        self.width, self.height = width // 2 * 2, height // 2 * 2
        """Upright pixels, even: what is odd loses its last column or row."""
        self._reformatter = VideoReformatter()  # kept: making its tables for HDR takes seconds
        self._playing: Generator[np.ndarray] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the file that `frames` may have open."""
        if self._playing is not None:
            self._playing.close()

    def frames(self, count: int | None = None) -> Iterator[np.ndarray]:
        """Yield `count` frames (default: `frame_count`), each a new uint8 array (H, W, 3).

        More than there are play back and forth, without showing the ends twice; fewer are cut.
        """
        self.close()
        self._playing = self._play(self.frame_count if count is None else count)
        return self._playing

    def _play(self, count: int) -> Generator[np.ndarray]:
        yield from self._forth(0, min(count, self.frame_count))
        left = count - self.frame_count
        last = self.frame_count - 1
        if left > 0 and last == 0:
            still = next(self._forth(0, 1))
            for _ in range(left):
                yield still.copy()
            return
        backwards = True
        while left > 0:
            leg = min(left, last)
            yield from self._back(last - leg, last) if backwards else self._forth(1, 1 + leg)
            backwards = not backwards
            left -= leg

    def _forth(self, first: int, end: int) -> Iterator[np.ndarray]:
        yield from map(self._rgb, self._nearest(first, end))

    def _back(self, first: int, end: int) -> Iterator[np.ndarray]:
        """Frames end-1 down to first: pieces are decoded forwards, then handed out backwards."""
        piece = max(1, HELD_BYTES // self._frame_bytes)
        while end > first:
            start = max(first, end - piece)
            yield from map(self._rgb, reversed(list(self._nearest(start, end))))
            end = start

    def _nearest(self, first: int, end: int) -> Iterator[VideoFrame]:
        """For each place of the grid the frame whose time is nearest: no drift adds up."""
        held, held_time, place = None, -math.inf, first
        for time, frame in self._decoded(float(first / self.fps)):
            while held is not None and place < end and 2 * place / self.fps < held_time + time:
                yield held
                place += 1
            if place >= end:
                return
            if time > held_time:
                held, held_time = frame, time
        while held is not None and place < end:
            yield held
            place += 1

    def _decoded(self, seconds: float) -> Iterator[tuple[float, VideoFrame]]:
        """Time and frame, from the last keyframe that lies no later than `seconds`."""
        if seconds > 0:
            decoded = self._decoded_after(seconds)
            first = next(decoded, None)
            if first is not None and first[0] <= seconds:
                yield first
                yield from decoded
                return
            # This file cannot be searched: read it from its beginning.
        yield from self._decoded_after(None)

    def _decoded_after(self, seconds: float | None) -> Iterator[tuple[float, VideoFrame]]:
        start, unit = self._timeline.start, self._timeline.time_base
        with open_media(self.path) as container:
            stream = video_stream(container)
            if seconds is not None:
                try:
                    container.seek(start + math.floor(seconds / unit), stream=stream)
                except FFmpegError:
                    return
            time = -1 / self.fps
            for frame in decode_video(container, stream):
                time = (frame.pts - start) * unit if frame.pts is not None else time + 1 / self.fps
                if -1 < time < self.duration + 1:  # others bear a damaged time stamp
                    yield float(time), frame

    def _rgb(self, frame: VideoFrame) -> np.ndarray:
        width, height = self._stored
        untagged = frame.colorspace == _UNTAGGED and not frame.format.is_rgb
        hd = frame.height >= 720 or frame.width >= 1280
        wide = frame.color_trc in _HDR or frame.color_primaries in _WIDE
        converted = self._reformatter.reformat(
            frame,
            width,
            height,
            "rgb24",
            src_colorspace=(Colorspace.ITU709 if hd else Colorspace.ITU601) if untagged else None,
            interpolation=_TO_RGB,
            dst_color_trc=ColorTrc.BT709 if wide else None,
            dst_color_primaries=ColorPrimaries.BT709 if wide else None,
            threads=THREADS,
        )
        rgb = self._orientation.apply(converted.to_ndarray())[: self.height, : self.width]
        return rgb.copy() if converted is frame else np.ascontiguousarray(rgb)


class Writer:
    """An MP4 that any browser plays: H.264 and AAC, constant rate, index in front.

    Use as a context manager and write `frame_count` frames; fewer are made up by the last one.
    The file appears under its name when it is whole; after an error nothing is left.
    Raises MediaError for a voice that cannot be read, OSError if the disk does not take the file.
    """

    def __init__(
        self,
        path: Path,
        width: int,
        height: int,
        fps: Fraction | int,
        audio: Path,
        duration: float,
    ) -> None:
        """`width` and `height` are even pixels, `duration` is in seconds."""
        if width % 2 or height % 2:
            raise ValueError("width and height must be even")
        self.path = Path(path)
        self.fps = Fraction(fps)
        self.frame_count = frames_for(duration, self.fps)
        """Frames that cover the whole duration."""
        self._size = (height, width, 3)
        self._written = 0
        self._last: VideoFrame | None = None
        self._reformatter = VideoReformatter()
        self._part = self.path.with_name(f".{uuid4().hex}.part")
        self._audio = Path(audio)
        rate, layout = aac_format(self._audio)
        self._part.touch()  # a folder that takes no file is told now, not after the first frame
        self._container = av.open(
            str(self._part.absolute()), "w", format="mp4", options={"movflags": "+faststart"}
        )
        try:
            self._video = self._container.add_stream(
                "libx264", rate=self.fps, options={"preset": "veryfast", "crf": str(CRF)}
            )
            context = self._video.codec_context
            context.width, context.height, context.pix_fmt = width, height, "yuv420p"
            context.time_base = 1 / self.fps
            context.thread_count = THREADS
            context.colorspace = Colorspace.ITU709
            context.color_range = ColorRange.MPEG
            context.color_primaries = ColorPrimaries.BT709
            context.color_trc = ColorTrc.BT709
            self._voice = self._container.add_stream("aac", rate=rate, layout=layout)
            channels = self._voice.codec_context.layout.nb_channels
            self._voice.bit_rate = channels * min(160_000, 5 * rate)
            self._pieces = read_samples(self._audio, rate, layout)
            self._spoken = 0
            self._sound_end = round(self.frame_count / self.fps * rate)
        except BaseException:
            self._abandon()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if kind is not None:
            self._abandon()
            return
        try:
            self._finish()
        except BaseException:
            self._abandon()
            raise

    def write(self, rgb: np.ndarray) -> None:
        """Add one frame: uint8, (height, width, 3)."""
        if rgb.shape != self._size or rgb.dtype != np.uint8:
            raise ValueError(f"a frame must be uint8 of shape {self._size}")
        if self._written == self.frame_count:
            raise ValueError(f"{self.frame_count} frames cover the duration: one too many")
        frame = self._reformatter.reformat(
            VideoFrame.from_numpy_buffer(np.ascontiguousarray(rgb), "rgb24"),
            format="yuv420p",
            dst_colorspace=Colorspace.ITU709,
            dst_color_range=ColorRange.MPEG,
            interpolation=_TO_YUV,
            threads=THREADS,
        )
        self._encode(frame)
        self._last = frame

    def _encode(self, frame: VideoFrame) -> None:
        frame.pts = self._written
        frame.time_base = 1 / self.fps
        self._written += 1
        self._mux(self._video.encode(frame))
        self._speak(round(self._written / self.fps * self._voice.rate))

    def _speak(self, until: int) -> None:
        """Encode the voice up to sample `until`, so that neither stream waits for the other."""
        while self._spoken < until:
            samples = next(self._pieces, None)
            if samples is None:
                return
            samples = samples[:, : self._sound_end - self._spoken]
            piece = AudioFrame.from_ndarray(samples, "fltp", self._voice.layout.name)
            piece.rate = self._voice.rate
            piece.time_base = Fraction(1, self._voice.rate)
            piece.pts = self._spoken
            self._spoken += samples.shape[1]
            self._mux(self._voice.encode(piece))

    def _mux(self, packets: list) -> None:
        try:
            self._container.mux(packets)
        except FFmpegError as error:
            raise OSError(error.errno, _NOT_WRITTEN) from error

    def _finish(self) -> None:
        if self._last is None:
            raise ValueError("no frame was written")
        while self._written < self.frame_count:
            self._encode(self._last)
        self._mux(self._video.encode(None))
        self._mux(self._voice.encode(None))
        try:
            self._container.close()
        except FFmpegError as error:
            raise OSError(error.errno, _NOT_WRITTEN) from error
        self._part.replace(self.path)

    def _abandon(self) -> None:
        with suppress(FFmpegError):
            self._container.close()
        self._part.unlink(missing_ok=True)


_NOT_WRITTEN = "The video could not be written: free some disk space and try again."


def frames_for(duration: float, fps: Fraction) -> int:
    """How many frames cover `duration` seconds, at least one."""
    return max(1, math.ceil(duration * fps - 1e-3))
