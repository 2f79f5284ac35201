"""Decode: a clip's pictures upright, in RGB, at a constant rate, from any place on.

PyAV does the work in this process: as fast as a pipe to the ffmpeg program, exact in time, and
nothing to start or clean up. Memory stays the same for any length.
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

from kolbo_demo.engine.audio_io import load_voice
from kolbo_demo.engine.video_writer import Writer, frames_for
from kolbo_demo.engine.yuv import Planes
from kolbo_demo.media.demux import (
    THREADS,
    UNREADABLE,
    UNTAGGED,
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
from kolbo_demo.media.frame_colours import ITU601, NO_ALPHA, NO_HDR, Colours, Converter, has_alpha

__all__ = ["Clip", "Writer", "frames_for", "load_voice"]

HELD_BYTES = 64 * 1024 * 1024
"""At most so many bytes of decoded frames are held while a clip is played backwards."""


class Clip:
    """A video file as upright RGB frames at a constant rate, as often as wanted.

    Use as a context manager. Raises MediaError if nothing in the file can be shown.
    """

    def __init__(self, path: Path, threads: int = THREADS) -> None:
        """`threads` decode and convert; the frames are the same."""
        self.path, self._threads = Path(path), threads
        with open_media(self.path) as container:
            stream = video_stream(container)
            self._stored = square_size(stream)
            self._timeline = read_timeline(container, stream)
        self.fps = self._timeline.fps
        self.frame_count = self._timeline.frame_count
        self.duration = float(self.frame_count / self.fps)
        """Seconds."""
        self._searchable, self._interlaced = True, False
        _, first = next(self._decoded(Fraction(0)), (0.0, None))
        if first is None:
            raise MediaError(UNREADABLE)
        check_colours(first)
        self.notes = tuple(_notes(first))
        """Changes to its colours."""
        self._orientation = Orientation.of(first)
        self._frame_bytes = sum(plane.buffer_size for plane in first.planes)
        width, height = self._orientation.size(*self._stored)
        check_video_size(width, height)
        self.width, self.height = width // 2 * 2, height // 2 * 2
        """Upright pixels, even: what is odd loses its last column or row."""
        self.matrix = _matrix(first)
        """How luma and colours are mixed in a result that keeps the clip's own."""
        if not self._keeps(first):
            self.matrix = Colorspace.ITU709
        self._converter = Converter(*self._stored, threads)
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

        More than there are play back and forth, without showing the ends twice; fewer are cut.
        `first` starts further on, at that place of the back and forth.
        """
        yield from (rgb for rgb, _ in self.frames_and_planes(count, first, planes=False))

    def frames_and_planes(
        self, count: int | None = None, first: int = 0, planes: bool = True
    ) -> Generator[tuple[np.ndarray, Planes | None]]:
        """What `frames` yields, each with the planes that the file has of it; None where a result
        cannot keep them: other kinds than I420, turned or stretched ones."""
        self.close()
        self._playing = self._play(first, self.frame_count if count is None else count)
        for frame in self._playing:
            keep = planes and self._keeps(frame)
            yield self._rgb(frame), np.asarray(frame.to_ndarray(), np.uint8) if keep else None

    def number_at(self, place: int) -> int:
        """Which of the clip's frames is shown at a place of the back and forth."""
        last = self.frame_count - 1
        return last - abs(last - place % (2 * last)) if last else 0

    def frames_at(self, numbers: list[int]) -> Iterator[np.ndarray]:
        """Yield some frames, (H, W, 3): `numbers` of the clip's own, ascending.

        What lies between is searched over where the file allows it, else decoded and not looked at.
        """
        self.close()
        self._playing = self._pick(numbers)
        yield from map(self._rgb, self._playing)

    def _pick(self, numbers: list[int]) -> Generator[VideoFrame]:
        while numbers:
            # As far as decoding on is no longer than searching.
            keyframe = self._timeline.keyframe_after(float(numbers[0] / self.fps))
            near = keyframe - 1e-6 if self._searchable else math.inf
            reached = [n for i, n in enumerate(numbers) if i == 0 or float(n / self.fps) < near]
            yield from self._nearest(reached)
            numbers = numbers[len(reached) :]

    def _play(self, first: int, count: int) -> Generator[VideoFrame]:
        last = self.frame_count - 1
        if last == 0:
            yield from repeat(next(self._nearest([0])), count)
            return
        while count > 0:
            place = first % (2 * last)
            if place <= last:
                leg = min(last + 1 - place, count)
                yield from self._nearest(range(place, place + leg))
            else:
                end = 2 * last - place + 1
                leg = min(end - 1, count)
                yield from self._back(end - leg, end)
            first, count = first + leg, count - leg

    def _back(self, first: int, end: int) -> Iterator[VideoFrame]:
        """Frames end-1 down to first: pieces are decoded forwards, then handed out backwards."""
        piece = max(1, HELD_BYTES // self._frame_bytes)
        while end > first:
            start = max(first, end - piece)
            yield from reversed(list(self._nearest(range(start, end))))
            end = start

    def _nearest(self, places: Sequence[int]) -> Iterator[VideoFrame]:
        """For each of some places of the grid, ascending, the frame whose time is nearest: no drift
        adds up."""
        if not places:
            return
        # Deinterlacing wants to have seen the frame before.
        start = max(places[0] - self._interlaced, 0)
        held, held_time, done = None, -math.inf, 0
        for time, frame in self._decoded(start / self.fps):
            while (
                held is not None
                and done < len(places)
                and 2 * places[done] / self.fps < held_time + time
            ):
                yield held
                done += 1
            if done == len(places):
                return
            if time > held_time:
                held, held_time = frame, time
        while held is not None and done < len(places):
            yield held
            done += 1

    def _decoded(self, seconds: Fraction) -> Iterator[tuple[float, VideoFrame]]:
        """Time and frame, from the last keyframe that lies no later than `seconds`."""
        if seconds > 0 and self._searchable:
            decoded = self._decoded_after(seconds)
            first = next(decoded, None)
            if first is not None and first[0] <= float(seconds):
                yield first
                yield from decoded
                return
            self._searchable = False  # it is read from its beginning
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
                if -1 < time < self.duration + 1:  # others bear a damaged time stamp
                    yield float(time), frame

    def _deinterlaced(self, frames: Iterator[VideoFrame]) -> Iterator[VideoFrame]:
        """Frames with both fields of one moment, at the rate they have; others as they are."""
        graph: Graph | None = None
        shape = None
        for frame in frames:
            self._interlaced |= frame.interlaced_frame
            if self._interlaced and _shape(frame) != shape:
                yield from _pulled(graph)
                shape, graph = _shape(frame), _deinterlacer(frame)
            if graph is None:
                yield frame
                continue
            graph.vpush(frame)
            yield from _pulled(graph, more=True)
        yield from _pulled(graph)

    def _keeps(self, frame: VideoFrame) -> bool:
        """Whether a result can have this frame's planes."""
        return (
            frame.format.name == "yuv420p"
            and frame.colorspace in (UNTAGGED, Colorspace.ITU709, *ITU601)
            and frame.color_range in (ColorRange.UNSPECIFIED, ColorRange.MPEG)
            and Colours.of(frame).ordinary
            and _matrix(frame) == self.matrix
            and self._orientation == Orientation()
            and (frame.width, frame.height) == self._stored == (self.width, self.height)
        )

    def _rgb(self, frame: VideoFrame) -> np.ndarray:
        rgb = self._converter.rgb(frame)
        upright = self._orientation.apply(rgb)[: self.height, : self.width]
        return upright.copy() if frame.format.name == "rgb24" else np.ascontiguousarray(upright)


def _matrix(frame: VideoFrame) -> Colorspace:
    """How a result that keeps a frame's planes mixes luma and colours."""
    return Colorspace.ITU601 if Colours.of(frame).matrix in ITU601 else Colorspace.ITU709


def _notes(frame: VideoFrame) -> Iterator[str]:
    if Colours.of(frame).hdr:
        yield NO_HDR
    if has_alpha(frame):
        yield NO_ALPHA


def _shape(frame: VideoFrame) -> tuple[int, int, str]:
    return frame.width, frame.height, frame.format.name


def _deinterlacer(frame: VideoFrame) -> Graph:
    """libavfilter's bwdif, a frame for each frame."""
    graph = Graph()
    source = graph.add_buffer(
        width=frame.width, height=frame.height, format=frame.format, time_base=frame.time_base
    )
    graph.link_nodes(
        source,
        graph.add("bwdif", f"mode=send_frame:deint=interlaced:threads={THREADS}"),
        graph.add("buffersink"),
    ).configure()
    return graph


def _pulled(graph: Graph | None, more: bool = False) -> Iterator[VideoFrame]:
    """What a graph has ready; all it has unless there will be `more`."""
    if graph is None:
        return
    if not more:
        graph.vpush(None)
    while True:
        try:
            yield graph.vpull()
        except (BlockingIOError, EOFError):
            return
