"""Decodes a clip to upright RGB frames at a constant rate, from any position.

PyAV decodes in this process: as fast as a pipe from ffmpeg, with exact time stamps and no process
to manage. Memory is constant for any length.
"""

import math
from collections.abc import Generator, Iterator, Sequence
from fractions import Fraction
from itertools import repeat
from pathlib import Path
from typing import Self

import numpy as np
from av.error import FFmpegError
from av.filter import Graph
from av.video.frame import VideoFrame
from av.video.reformatter import ColorRange, Colorspace

from kolbo_demo.engine.yuv import Planes
from kolbo_demo.media.demux import (
    CODEC_THREADS,
    UNREADABLE,
    UNSPECIFIED,
    MediaError,
    Orientation,
    check_colours,
    check_video_size,
    decode_video,
    open_media,
    read_timeline,
    square_size,
    video_stream,
)
from kolbo_demo.media.frame_colours import (
    ALPHA_NOTE,
    BT601_MATRICES,
    HDR_NOTE,
    ColourTags,
    RgbConverter,
    has_alpha,
)

REVERSE_BUFFER_BYTES = 64 * 1024 * 1024
"""Bytes of decoded frames that are buffered to play a clip backwards."""


class Clip:
    """A video file as upright RGB frames at a constant rate; it can be read repeatedly.

    Use as a context manager. Raises MediaError if no frame can be decoded.
    """

    def __init__(self, path: Path, threads: int = CODEC_THREADS) -> None:
        """`threads` is the number of threads to decode and convert; frames do not depend on it."""
        self.path, self._threads = Path(path), threads
        with open_media(self.path) as container:
            stream = video_stream(container)
            self._stored_size = square_size(stream)
            self._timeline = read_timeline(container, stream)
        self.fps = self._timeline.fps
        self.frame_count = self._timeline.frame_count
        self.duration = float(self.frame_count / self.fps)
        """Seconds."""
        self._seekable, self._interlaced = True, False
        _, first = next(self._decoded(Fraction(0)), (0.0, None))
        if first is None:
            raise MediaError(UNREADABLE)
        check_colours(first)
        self.notes = tuple(_notes(first))
        """Changes to its colours."""
        self._orientation = Orientation.of(first)
        self._frame_bytes = sum(plane.buffer_size for plane in first.planes)
        width, height = self._orientation.size(*self._stored_size)
        check_video_size(width, height)
        self.width, self.height = width // 2 * 2, height // 2 * 2
        """Upright pixels; odd sizes lose the last column or row."""
        self.matrix = _output_matrix(first)
        """YUV matrix for a result."""
        if not self._can_copy_planes(first):
            self.matrix = Colorspace.ITU709
        self._converter = RgbConverter(*self._stored_size, threads)
        self._playing: Generator[VideoFrame] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the file that `frames` may have open."""
        if self._playing is not None:
            self._playing.close()

    def frames(self, count: int | None = None, first: int = 0) -> Iterator[np.ndarray]:
        """Yield `count` frames (default: `frame_count`), each a new uint8 array (H, W, 3).

        Beyond its end the clip plays backwards and forwards in turn, without repeating its first
        and last frame. `first` is the position in that sequence to start from.
        """
        yield from (rgb for rgb, _ in self.frames_and_planes(count, first, planes=False))

    def frames_and_planes(
        self, count: int | None = None, first: int = 0, planes: bool = True
    ) -> Generator[tuple[np.ndarray, Planes | None]]:
        """As `frames`, each with its decoded planes; None where a result cannot copy them: formats
        other than I420, rotated or stretched ones."""
        self.close()
        self._playing = self._play_frames(first, self.frame_count if count is None else count)
        for frame in self._playing:
            copy = planes and self._can_copy_planes(frame)
            yield self._rgb(frame), np.asarray(frame.to_ndarray(), np.uint8) if copy else None

    def source_frame(self, position: int) -> int:
        """Number of the clip's frame at a position of the sequence of `frames`."""
        last = self.frame_count - 1
        return last - abs(last - position % (2 * last)) if last else 0

    def frames_at(self, numbers: list[int]) -> Iterator[np.ndarray]:
        """Yield the clip's frames with these numbers, ascending, (H, W, 3).

        Frames in between are skipped by seeking where the file allows it, else decoded.
        """
        self.close()
        self._playing = self._pick_frames(numbers)
        yield from map(self._rgb, self._playing)

    def _pick_frames(self, numbers: list[int]) -> Generator[VideoFrame]:
        while numbers:
            # Up to the next keyframe, decoding on is as fast as seeking.
            keyframe = self._timeline.keyframe_after(float(numbers[0] / self.fps))
            limit = keyframe - 1e-6 if self._seekable else math.inf
            in_reach = [n for i, n in enumerate(numbers) if i == 0 or float(n / self.fps) < limit]
            yield from self._nearest_frames(in_reach)
            numbers = numbers[len(in_reach) :]

    def _play_frames(self, first: int, count: int) -> Generator[VideoFrame]:
        last = self.frame_count - 1
        if last == 0:
            yield from repeat(next(self._nearest_frames([0])), count)
            return
        while count > 0:
            position = first % (2 * last)
            if position <= last:
                leg = min(last + 1 - position, count)
                yield from self._nearest_frames(range(position, position + leg))
            else:
                end = 2 * last - position + 1
                leg = min(end - 1, count)
                yield from self._play_reversed(end - leg, end)
            first, count = first + leg, count - leg

    def _play_reversed(self, first: int, end: int) -> Iterator[VideoFrame]:
        """Yield frames end-1 down to first: chunks are decoded forwards and reversed."""
        chunk = max(1, REVERSE_BUFFER_BYTES // self._frame_bytes)
        while end > first:
            start = max(first, end - chunk)
            yield from reversed(list(self._nearest_frames(range(start, end))))
            end = start

    def _nearest_frames(self, numbers: Sequence[int]) -> Iterator[VideoFrame]:
        """Yield the frame nearest in time for each number of the constant-rate grid, ascending, so
        that no drift accumulates."""
        if not numbers:
            return
        # Deinterlacing needs the previous frame.
        start = max(numbers[0] - self._interlaced, 0)
        previous, previous_time, done = None, -math.inf, 0
        for time, frame in self._decoded(start / self.fps):
            while (
                previous is not None
                and done < len(numbers)
                and 2 * numbers[done] / self.fps < previous_time + time
            ):
                yield previous
                done += 1
            if done == len(numbers):
                return
            if time > previous_time:
                previous, previous_time = frame, time
        while previous is not None and done < len(numbers):
            yield previous
            done += 1

    def _decoded(self, seconds: Fraction) -> Iterator[tuple[float, VideoFrame]]:
        """Yield time and frame, from the last keyframe at or before `seconds` on."""
        if seconds > 0 and self._seekable:
            decoded = self._decoded_after(seconds)
            first = next(decoded, None)
            if first is not None and first[0] <= float(seconds):
                yield first
                yield from decoded
                return
            self._seekable = False  # read it from its beginning
        yield from self._decoded_after(None)

    def _decoded_after(self, seconds: Fraction | None) -> Iterator[tuple[float, VideoFrame]]:
        start, unit = self._timeline.start * self._timeline.time_base, self._timeline.time_base
        with open_media(self.path) as container:
            stream = video_stream(container)
            stream.thread_count = self._threads
            if seconds is not None:
                try:
                    container.seek(self._timeline.start + math.floor(seconds / unit), stream=stream)
                except FFmpegError:
                    return
            time = -1 / self.fps
            for frame in self._deinterlaced(decode_video(container, stream)):
                if frame.pts is None:
                    time += 1 / self.fps
                else:
                    time = frame.pts * (frame.time_base or unit) - start
                if -1 < time < self.duration + 1:  # other time stamps are damaged
                    yield float(time), frame

    def _deinterlaced(self, frames: Iterator[VideoFrame]) -> Iterator[VideoFrame]:
        """Yield deinterlaced frames at the same rate; progressive ones unchanged."""
        graph: Graph | None = None
        shape = None
        for frame in frames:
            self._interlaced |= frame.interlaced_frame
            if self._interlaced and _frame_shape(frame) != shape:
                yield from _drain(graph)
                shape, graph = _frame_shape(frame), _deinterlacer(frame)
            if graph is None:
                yield frame
                continue
            graph.vpush(frame)
            yield from _drain(graph, more=True)
        yield from _drain(graph)

    def _can_copy_planes(self, frame: VideoFrame) -> bool:
        """Whether a result can copy this frame's planes."""
        return (
            frame.format.name == "yuv420p"
            and frame.colorspace in (UNSPECIFIED, Colorspace.ITU709, *BT601_MATRICES)
            and frame.color_range in (ColorRange.UNSPECIFIED, ColorRange.MPEG)
            and ColourTags.of(frame).is_swscale_supported
            and _output_matrix(frame) == self.matrix
            and self._orientation == Orientation()
            and (frame.width, frame.height) == self._stored_size == (self.width, self.height)
        )

    def _rgb(self, frame: VideoFrame) -> np.ndarray:
        rgb = self._converter.rgb(frame)
        upright = self._orientation.apply(rgb)[: self.height, : self.width]
        return upright.copy() if frame.format.name == "rgb24" else np.ascontiguousarray(upright)


def _output_matrix(frame: VideoFrame) -> Colorspace:
    """YUV matrix of a result that copies a frame's planes."""
    return Colorspace.ITU601 if ColourTags.of(frame).matrix in BT601_MATRICES else Colorspace.ITU709


def _notes(frame: VideoFrame) -> Iterator[str]:
    if ColourTags.of(frame).hdr:
        yield HDR_NOTE
    if has_alpha(frame):
        yield ALPHA_NOTE


def _frame_shape(frame: VideoFrame) -> tuple[int, int, str]:
    return frame.width, frame.height, frame.format.name


def _deinterlacer(frame: VideoFrame) -> Graph:
    """libavfilter's bwdif, one frame out for each frame in."""
    graph = Graph()
    source = graph.add_buffer(
        width=frame.width, height=frame.height, format=frame.format, time_base=frame.time_base
    )
    graph.link_nodes(
        source,
        graph.add("bwdif", f"mode=send_frame:deint=interlaced:threads={CODEC_THREADS}"),
        graph.add("buffersink"),
    ).configure()
    return graph


def _drain(graph: Graph | None, more: bool = False) -> Iterator[VideoFrame]:
    """Yield the frames that a graph has ready; flush it unless there will be `more`."""
    if graph is None:
        return
    if not more:
        graph.vpush(None)
    while True:
        try:
            yield graph.vpull()
        except (BlockingIOError, EOFError):
            return
