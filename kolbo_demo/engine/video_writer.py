"""Encodes frames to segments of H.264, and joins segments with a voice to one MP4.

Segments are encoded independently: each begins with an IDR frame and refers to nothing outside, so
their packets can be concatenated without encoding. `join_segments` rewrites the time stamps and
adds the voice as AAC.
"""

import math
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from fractions import Fraction
from pathlib import Path
from typing import Any, Self
from uuid import uuid4

import av
import numpy as np
from av.audio.codeccontext import AudioCodecContext
from av.audio.frame import AudioFrame
from av.audio.stream import AudioStream
from av.container import OutputContainer
from av.error import FFmpegError
from av.packet import Packet
from av.video.frame import VideoFrame
from av.video.reformatter import (
    ColorPrimaries,
    ColorRange,
    Colorspace,
    ColorTrc,
)
from av.video.stream import VideoStream

from kolbo_demo.disclosure import COMMENT
from kolbo_demo.engine import EngineError
from kolbo_demo.engine.audio_io import aac_format, read_samples
from kolbo_demo.engine.prefetch import prefetch
from kolbo_demo.engine.yuv import PlaneConverter
from kolbo_demo.media.demux import CODEC_THREADS

CRF = 15
"""x264's rate factor: over 40 dB PSNR for an unchanged frame, a few MB a minute."""

AUDIO_PREFETCH_PACKETS = 512
"""AAC packets that are encoded ahead of the picture: about ten seconds."""

_WRITE_FAILED = "The video could not be written: free some disk space and try again."
_SEGMENTS_MISMATCH = "The pieces of the video do not fit together: render it again."


def frames_for(duration: float, fps: Fraction) -> int:
    """Number of frames that cover `duration` seconds, at least one."""
    return max(1, math.ceil(duration * fps - 1e-3))


@contextmanager
def _atomic_mp4(path: Path) -> Iterator[OutputContainer]:
    """An MP4 with its index in front that appears at `path` when it is complete.

    No file remains after an error. Raises OSError if the file cannot be written.
    """
    part = path.with_name(f".{uuid4().hex}.part")
    part.touch()  # raises now, not after the first frame, if the folder is not writable
    out = av.open(str(part.absolute()), "w", format="mp4", options={"movflags": "+faststart"})
    try:
        yield out
        with _os_errors():
            out.close()
        part.replace(path)
    except BaseException:
        with suppress(FFmpegError):
            out.close()
        part.unlink(missing_ok=True)
        raise


@contextmanager
def _os_errors() -> Iterator[None]:
    """Raise OSError for FFmpegError, with advice."""
    try:
        yield
    except FFmpegError as error:
        raise OSError(error.errno, _WRITE_FAILED) from error


class SegmentWriter:
    """Encodes frames to a segment: H.264 at a constant rate, without sound.

    Use as a context manager. The file appears at `path` when it is complete; no file remains after
    an error. Raises OSError if the file cannot be written.
    """

    def __init__(
        self,
        path: Path,
        width: int,
        height: int,
        fps: Fraction | int,
        threads: int = CODEC_THREADS,
        matrix: Colorspace = Colorspace.ITU709,
    ) -> None:
        """`width` and `height` are even. `matrix` is the YUV matrix. All segments of a video need
        the same `matrix` and `threads`, which changes the encoded bits slightly."""
        if width % 2 or height % 2:
            raise ValueError("width and height must be even")
        self.fps = Fraction(fps)
        self.frames_written = 0
        self._size = (height, width, 3)
        self._last: VideoFrame | None = None
        self._to_yuv = PlaneConverter(matrix, threads)
        with ExitStack() as stack:
            self._container = stack.enter_context(_atomic_mp4(Path(path)))
            # Players cannot switch settings between segments: all have the same.
            self._stream = self._container.add_stream(
                "libx264", rate=self.fps, options={"preset": "veryfast", "crf": str(CRF)}
            )
            context = self._stream.codec_context
            context.width, context.height, context.pix_fmt = width, height, "yuv420p"
            context.time_base = 1 / self.fps
            context.thread_count = threads
            context.colorspace = matrix
            context.color_range = ColorRange.MPEG
            context.color_primaries = ColorPrimaries.BT709
            context.color_trc = ColorTrc.BT709
            self._stack = stack.pop_all()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *raised: Any) -> None:
        if raised[0] is not None:
            self._stack.__exit__(*raised)
            return
        with self._stack:
            self._finish()

    def write(self, frame: np.ndarray) -> None:
        """Encode one frame, uint8: RGB (height, width, 3) or `Planes` in the writer's matrix."""
        height, width, _ = self._size
        if frame.dtype != np.uint8 or frame.shape not in (self._size, (height * 3 // 2, width)):
            raise ValueError(f"a frame must be uint8 of shape {self._size}, or planes")
        frame = np.ascontiguousarray(frame)
        if frame.ndim == 2:
            # PyAV's from_numpy_buffer cuts heights to multiples of 4.
            self._last = VideoFrame.from_ndarray(frame, "yuv420p")
        else:
            self._last = self._to_yuv(frame)
        self.repeat()

    @property
    def last_frame(self) -> VideoFrame | None:
        """The frame that was encoded last, in 4:2:0."""
        return self._last

    def repeat(self) -> None:
        """Encode the last frame again."""
        if self._last is None:
            raise ValueError("no frame was written")
        self._last.pts = self.frames_written
        self._last.time_base = 1 / self.fps
        self.frames_written += 1
        with _os_errors():
            self._container.mux(self._stream.encode(self._last))

    def _finish(self) -> None:
        if self._last is None:
            raise ValueError("no frame was written")
        with _os_errors():
            self._container.mux(self._stream.encode(None))


def join_segments(
    segments: Iterable[Path], audio: Path, path: Path, fps: Fraction, frame_count: int
) -> None:
    """Concatenate segments, without encoding, to an MP4 with a voice, index in front.

    `segments` are files of `SegmentWriter` with equal settings and `frame_count` frames in all. The
    iterable is consumed lazily: each file is opened when it is needed. The sound is cut to the
    length of the picture. The file appears at `path` when it is complete; no file remains after an
    error. Raises MediaError for an unreadable voice, EngineError for segments that do not fit, and
    OSError if the file cannot be written.
    """
    rate, layout = aac_format(audio)
    encoded = _encode_aac(audio, rate, layout, round(frame_count / fps * rate))
    with (
        _atomic_mp4(Path(path)) as out,
        closing(prefetch(encoded, AUDIO_PREFETCH_PACKETS)) as audio_packets,
    ):
        out.metadata["comment"] = COMMENT
        next_audio = next(
            audio_packets, None
        )  # starts encoding of the voice, in parallel with the segments
        video_stream: VideoStream | None = None
        audio_stream: AudioStream | None = None
        extradata, muxed = b"", 0
        for segment in segments:
            with _open_segment(segment) as (stream, packets):
                if video_stream is None or audio_stream is None:
                    extradata = stream.codec_context.extradata
                    video_stream = out.add_stream_from_template(stream)
                    video_stream.time_base = 1 / fps
                    audio_stream = out.add_stream("aac", rate=rate, layout=layout)
                    audio_stream.bit_rate = _bit_rate(
                        rate, audio_stream.codec_context.layout.nb_channels
                    )
                elif stream.codec_context.extradata != extradata:
                    raise EngineError(_SEGMENTS_MISMATCH)
                first = muxed
                for packet in packets:
                    if muxed == frame_count:
                        raise EngineError(_SEGMENTS_MISMATCH)
                    _retime(packet, first, muxed, fps)
                    _mux(out, packet, video_stream)
                    muxed += 1
                    while next_audio is not None and (next_audio.pts or 0) < muxed / fps * rate:
                        _mux(out, next_audio, audio_stream)
                        next_audio = next(audio_packets, None)
        if muxed != frame_count or audio_stream is None:
            raise EngineError(_SEGMENTS_MISMATCH)
        while next_audio is not None:
            _mux(out, next_audio, audio_stream)
            next_audio = next(audio_packets, None)


def _mux(out: OutputContainer, packet: Packet, stream: VideoStream | AudioStream) -> None:
    packet.stream = stream
    with _os_errors():
        out.mux(packet)


@contextmanager
def _open_segment(segment: Path) -> Iterator[tuple[VideoStream, Iterator[Packet]]]:
    try:
        with av.open(str(segment.absolute())) as container:
            stream = container.streams.video[0]
            yield stream, (packet for packet in container.demux(stream) if packet.size)
    except FFmpegError as error:
        raise EngineError(_SEGMENTS_MISMATCH) from error


def _retime(packet: Packet, first_frame: int, position: int, fps: Fraction) -> None:
    """Rewrite a packet's time stamps in units of frames, which are exact at any rate.

    `first_frame` is the number of the segment's first frame, `position` the packet's among all in
    decoding order.
    """
    if packet.pts is None or packet.is_corrupt:
        raise EngineError(_SEGMENTS_MISMATCH)
    packet.pts = round(packet.pts * packet.time_base * fps) + first_frame
    packet.dts = position - packet.stream.codec_context.reorder_depth
    packet.duration = 1
    packet.time_base = 1 / fps


def _bit_rate(rate: int, channels: int) -> int:
    return channels * min(160_000, 5 * rate)


def _encode_aac(audio: Path, rate: int, layout: str, end: int) -> Iterator[Packet]:
    """Yield AAC packets of a recording up to sample `end`, with time stamps in samples."""
    encoder = AudioCodecContext.create("aac", "w")
    encoder.rate, encoder.layout, encoder.format = rate, layout, "fltp"
    encoder.time_base = Fraction(1, rate)
    encoder.bit_rate = _bit_rate(rate, encoder.layout.nb_channels)
    encoded = 0
    for samples in read_samples(audio, rate, layout):
        frame = AudioFrame.from_ndarray(samples[:, : end - encoded], "fltp", layout)
        frame.rate, frame.time_base, frame.pts = rate, Fraction(1, rate), encoded
        encoded += frame.samples
        yield from encoder.encode(frame)
        if encoded == end:
            break
    yield from encoder.encode(None)


class VideoWriter:
    """Encodes frames and a voice to an MP4: one segment, joined with the voice on exit.

    Use as a context manager and write `frame_count` frames; the last one is repeated if there are
    fewer. Raises what `join_segments` and `SegmentWriter` raise.
    """

    def __init__(
        self,
        path: Path,
        width: int,
        height: int,
        fps: Fraction | int,
        audio: Path,
        duration: float,
        matrix: Colorspace = Colorspace.ITU709,
    ) -> None:
        """`width`, `height` and `matrix` as in SegmentWriter, `duration` in seconds."""
        aac_format(audio)  # raises before the first frame if the voice is unreadable
        self.path, self.fps, self._audio = Path(path), Fraction(fps), Path(audio)
        self.frame_count = frames_for(duration, self.fps)
        """Frames that cover `duration`."""
        self._segment_path = self.path.with_name(f".{uuid4().hex}.piece")
        self._segment = SegmentWriter(self._segment_path, width, height, fps, matrix=matrix)

    def __enter__(self) -> Self:
        return self

    def write(self, frame: np.ndarray) -> None:
        """Encode one frame, see `SegmentWriter.write`."""
        if self._segment.frames_written == self.frame_count:
            raise ValueError(f"{self.frame_count} frames cover the duration: one too many")
        self._segment.write(frame)

    def __exit__(self, *raised: Any) -> None:
        if raised[0] is not None:
            self._segment.__exit__(*raised)
            return
        with self._segment:
            while self._segment.frames_written < self.frame_count:
                self._segment.repeat()
        try:
            join_segments([self._segment_path], self._audio, self.path, self.fps, self.frame_count)
        finally:
            self._segment_path.unlink(missing_ok=True)
