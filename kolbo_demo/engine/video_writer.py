"""Encode: frames to pieces of video, and pieces and a voice to one MP4.

A long video is made in pieces that know nothing of each other: each starts with a frame that can
be decoded by itself and refers to nothing outside, so packets of one piece can follow those of
another as they are. `join` gives them the times of the whole and puts the sound beside them.
"""

import math
from collections.abc import Generator, Iterable, Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Self
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
    Interpolation,
    VideoReformatter,
)
from av.video.stream import VideoStream

from kolbo_demo.engine import EngineError
from kolbo_demo.engine.audio_io import aac_format, read_samples
from kolbo_demo.engine.prefetch import ahead
from kolbo_demo.media.demux import CODEC_THREADS

MARK = "AI-generated: the lips in this video were made by Kolbo Lipsync."
"""The comment in each result's metadata."""
CRF = 15
"""x264's quality: an unchanged frame stays over 40 dB, and a minute takes a few MB."""

VOICE_AHEAD = 512
"""Packets of sound encoded before the picture has come so far: about ten seconds."""

_TO_YUV = (
    Interpolation.BICUBIC
    | Interpolation.FULL_CHR_H_INT
    | Interpolation.FULL_CHR_H_INP
    | Interpolation.ACCURATE_RND
)
_NOT_WRITTEN = "The video could not be written: free some disk space and try again."
_NOT_JOINED = "The pieces of the video do not fit together: render it again."


def frames_for(duration: float, fps: Fraction) -> int:
    """How many frames cover `duration` seconds, at least one."""
    return max(1, math.ceil(duration * fps - 1e-3))


@contextmanager
def _made(path: Path) -> Iterator[OutputContainer]:
    """An MP4 with its index in front that appears under its name when it is whole.

    After an error nothing is left. Raises OSError if the disk does not take the file.
    """
    part = path.with_name(f".{uuid4().hex}.part")
    part.touch()  # a folder that takes no file is told now, not after the first frame
    out = av.open(str(part.absolute()), "w", format="mp4", options={"movflags": "+faststart"})
    try:
        yield out
        with _told():
            out.close()
        part.replace(path)
    except BaseException:
        with suppress(FFmpegError):
            out.close()
        part.unlink(missing_ok=True)
        raise


@contextmanager
def _told() -> Iterator[None]:
    """A disk that takes no more, in a sentence."""
    try:
        yield
    except FFmpegError as error:
        raise OSError(error.errno, _NOT_WRITTEN) from error


class PieceWriter:
    """Frames to a video without sound that `join` takes: H.264 at a constant rate.

    Use as a context manager. The file appears under its name when it is whole; after an error
    nothing is left. Raises OSError if the disk does not take the file.
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
        """`width` and `height` are even pixels. `threads` changes what is encoded, if not what is
        seen; `matrix` is how luma and colours are mixed: all pieces of one video have the same."""
        if width % 2 or height % 2:
            raise ValueError("width and height must be even")
        self.fps = Fraction(fps)
        self.written = 0
        """Frames so far."""
        self._size = (height, width, 3)
        self._last: VideoFrame | None = None
        self._reformatter, self._threads, self._matrix = VideoReformatter(), threads, matrix
        with ExitStack() as stack:
            self._container = stack.enter_context(_made(Path(path)))
            # Every piece has the same settings, or a player could not go from one to the next.
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

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if kind is not None:
            self._stack.__exit__(kind, error, trace)
            return
        with self._stack:
            self._finish()

    def write(self, frame: np.ndarray) -> None:
        """Add one frame: uint8, RGB (height, width, 3), or planes of the writer's matrix."""
        height, width, _ = self._size
        if frame.dtype != np.uint8 or frame.shape not in (self._size, (height * 3 // 2, width)):
            raise ValueError(f"a frame must be uint8 of shape {self._size}, or planes")
        frame = np.ascontiguousarray(frame)
        if frame.ndim == 2:
            self._last = VideoFrame.from_numpy_buffer(frame, "yuv420p")
        else:
            self._last = self._converted(frame)
        self.repeat()

    def _converted(self, rgb: np.ndarray) -> VideoFrame:
        return self._reformatter.reformat(
            VideoFrame.from_numpy_buffer(rgb, "rgb24"),
            format="yuv420p",
            dst_colorspace=self._matrix,
            dst_color_range=ColorRange.MPEG,
            interpolation=_TO_YUV,
            threads=self._threads,
        )

    def repeat(self) -> None:
        """Add the last frame once more."""
        if self._last is None:
            raise ValueError("no frame was written")
        self._last.pts = self.written
        self._last.time_base = 1 / self.fps
        self.written += 1
        with _told():
            self._container.mux(self._stream.encode(self._last))

    def _finish(self) -> None:
        if self._last is None:
            raise ValueError("no frame was written")
        with _told():
            self._container.mux(self._stream.encode(None))


def join(pieces: Iterable[Path], audio: Path, path: Path, fps: Fraction, frame_count: int) -> None:
    """Put pieces of video one after another, as they are, and a voice beside them: an MP4 that any
    browser plays, index in front.

    `pieces` come from `PieceWriter`, all of one size and rate, `frame_count` frames in all; they
    may be still in the making, each is read when its turn comes. The sound is as long as the
    picture. The file appears under its name when it is whole; after an error nothing is left.
    Raises MediaError for a voice that cannot be read, EngineError for pieces that do not fit, and
    OSError if the disk does not take the file.
    """
    rate, layout = aac_format(audio)
    with _made(Path(path)) as out, closing(_spoken(audio, rate, layout, frame_count / fps)) as said:
        out.metadata["comment"] = MARK
        waiting = next(said, None)  # from now on the voice is encoded, beside whoever makes pieces
        video: VideoStream | None = None
        voice: AudioStream | None = None
        settings, shown = b"", 0
        for piece in pieces:
            with _opened(piece) as (stream, packets):
                if video is None or voice is None:
                    settings = stream.codec_context.extradata
                    video = out.add_stream_from_template(stream)
                    video.time_base = 1 / fps
                    voice = out.add_stream("aac", rate=rate, layout=layout)
                    voice.bit_rate = _bit_rate(rate, voice.codec_context.layout.nb_channels)
                elif stream.codec_context.extradata != settings:
                    raise EngineError(_NOT_JOINED)
                first = shown
                for packet in packets:
                    if shown == frame_count:
                        raise EngineError(_NOT_JOINED)
                    _retime(packet, first, shown, fps)
                    _mux(out, packet, video)
                    shown += 1
                    while waiting is not None and (waiting.pts or 0) < shown / fps * rate:
                        _mux(out, waiting, voice)
                        waiting = next(said, None)
        if shown != frame_count or voice is None:
            raise EngineError(_NOT_JOINED)
        while waiting is not None:
            _mux(out, waiting, voice)
            waiting = next(said, None)


def _mux(out: OutputContainer, packet: Packet, stream: VideoStream | AudioStream) -> None:
    packet.stream = stream
    with _told():
        out.mux(packet)


@contextmanager
def _opened(piece: Path) -> Iterator[tuple[VideoStream, Iterator[Packet]]]:
    try:
        with av.open(str(piece.absolute())) as container:
            stream = container.streams.video[0]
            yield stream, (packet for packet in container.demux(stream) if packet.size)
    except FFmpegError as error:
        raise EngineError(_NOT_JOINED) from error


def _retime(packet: Packet, first: int, place: int, fps: Fraction) -> None:
    """Times of the whole, counted in frames: exact at any rate. `first` is the piece's first frame,
    `place` the packet's among all; decoding runs ahead of showing by as much everywhere."""
    if packet.pts is None or packet.is_corrupt:
        raise EngineError(_NOT_JOINED)
    packet.pts = round(packet.pts * packet.time_base * fps) + first
    packet.dts = place - packet.stream.codec_context.reorder_depth
    packet.duration = 1
    packet.time_base = 1 / fps


def _bit_rate(rate: int, channels: int) -> int:
    return channels * min(160_000, 5 * rate)


def _spoken(
    audio: Path, rate: int, layout: str, seconds: Fraction
) -> Generator[Packet, None, None]:
    """A recording's first seconds as packets of AAC, made in a thread ahead of who asks."""
    return ahead(_aac(audio, rate, layout, round(seconds * rate)), VOICE_AHEAD)


def _aac(audio: Path, rate: int, layout: str, end: int) -> Iterator[Packet]:
    """Packets of a recording up to sample `end`, timed in samples."""
    coder = AudioCodecContext.create("aac", "w")
    coder.rate, coder.layout, coder.format = rate, layout, "fltp"
    coder.time_base = Fraction(1, rate)
    coder.bit_rate = _bit_rate(rate, coder.layout.nb_channels)
    spoken = 0
    for samples in read_samples(audio, rate, layout):
        piece = AudioFrame.from_ndarray(samples[:, : end - spoken], "fltp", layout)
        piece.rate, piece.time_base, piece.pts = rate, Fraction(1, rate), spoken
        spoken += piece.samples
        yield from coder.encode(piece)
        if spoken == end:
            break
    yield from coder.encode(None)


class Writer:
    """Frames and a voice to an MP4 in one go: one piece, joined with the voice at the end.

    Use as a context manager and write `frame_count` frames; fewer are made up by the last one.
    Raises what `join` and `PieceWriter` do.
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
        """`width`, `height` and `matrix` as of a PieceWriter, `duration` is in seconds."""
        aac_format(audio)  # a voice that cannot be read is told before the first frame
        self.path, self.fps, self._audio = Path(path), Fraction(fps), Path(audio)
        self.frame_count = frames_for(duration, self.fps)
        """Frames that cover the whole duration."""
        self._silent = self.path.with_name(f".{uuid4().hex}.piece")
        self._piece = PieceWriter(self._silent, width, height, fps, matrix=matrix)

    def __enter__(self) -> Self:
        return self

    def write(self, frame: np.ndarray) -> None:
        """Add one frame, as `PieceWriter.write` takes them."""
        if self._piece.written == self.frame_count:
            raise ValueError(f"{self.frame_count} frames cover the duration: one too many")
        self._piece.write(frame)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if kind is not None:
            self._piece.__exit__(kind, error, trace)
            return
        with self._piece:
            while self._piece.written < self.frame_count:
                self._piece.repeat()
        try:
            join([self._silent], self._audio, self.path, self.fps, self.frame_count)
        finally:
            self._silent.unlink(missing_ok=True)
