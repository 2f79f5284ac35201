"""Resample audio frames of any format and channel layout to float samples."""

from collections.abc import Iterator
from fractions import Fraction

import numpy as np
from av.audio.frame import AudioFrame
from av.audio.resampler import AudioResampler
from av.error import FFmpegError
from av.filter import Graph
from numpy.typing import NDArray

_SAMPLE_FORMAT = "flt"
"""Packed: PyAV 18 reads out of bounds in planar frames of 8 channels."""
_STANDARD_LAYOUTS = ("quad", "4.0", "5.0", "5.1", "7.0", "7.1")
_UNNAMED = ("1 channels", "2 channels", "6 channels", "8 channels")


def is_standard_layout(layout: str) -> bool:
    """Whether libswresample downmixes all channels of a layout that may contain speech. It drops
    LFE, unpositioned and ambisonic channels."""
    return layout in ("mono", "stereo", *_UNNAMED) or layout.startswith(_STANDARD_LAYOUTS)


class Resampler:
    """Converts frames, whose format may change, to float samples (channels, n) at `rate` Hz.

    `layout` None retains the channels. `mix`, a weight for each channel, makes one of them first.
    """

    def __init__(
        self, rate: int, layout: str | None = None, mix: tuple[float, ...] | None = None
    ) -> None:
        self._rate, self._layout, self._mix = rate, layout, mix
        self._source: tuple[str, str, int] | None = None
        self._graph: AudioResampler | _Mixer | None = None

    def __call__(self, frame: AudioFrame | None) -> Iterator[NDArray[np.float32]]:
        """Samples available after a frame; None flushes."""
        if frame is None:
            if self._graph is not None:
                yield from map(_to_samples, self._graph.resample(None))
            self._graph = None
            return
        source = (frame.format.name, frame.layout.name, frame.sample_rate)
        if self._graph is None or self._source != source:
            yield from self(None)
            self._source, self._graph = source, self._build_graph(frame)
        frame.pts = None
        yield from map(_to_samples, self._graph.resample(frame))

    def _build_graph(self, frame: AudioFrame) -> "AudioResampler | _Mixer":
        count, mix = frame.layout.nb_channels, self._mix
        if mix is not None and len(mix) != count:
            mix = (1 / count,) * count
        if mix is None and self._layout is not None and not is_standard_layout(frame.layout.name):
            mix = (1 / count,) * count
        if mix is not None:
            return _Mixer(frame, self._rate, self._layout or "mono", mix)
        layout = self._layout or frame.layout.name
        return AudioResampler(_SAMPLE_FORMAT, layout, self._rate, options={"rematrix_maxval": "1"})


class _Mixer:
    """Mixes channels by their index into one, which `AudioResampler` cannot do."""

    def __init__(self, frame: AudioFrame, rate: int, layout: str, mix: tuple[float, ...]) -> None:
        self._graph = Graph()
        terms = "+".join(f"{weight:.6f}*c{n}" for n, weight in enumerate(mix) if weight)
        self._graph.link_nodes(
            self._graph.add_abuffer(
                sample_rate=frame.sample_rate,
                format=frame.format.name,
                layout=frame.layout.name,
                time_base=Fraction(1, frame.sample_rate),
            ),
            self._graph.add("pan", f"mono|c0={terms}"),
            self._graph.add(
                "aformat",
                sample_rates=str(rate),
                sample_fmts=_SAMPLE_FORMAT,
                channel_layouts=layout,
            ),
            self._graph.add("abuffersink"),
        ).configure()

    def resample(self, frame: AudioFrame | None) -> list[AudioFrame]:
        self._graph.push(frame)
        frames = []
        while True:
            try:
                pulled = self._graph.pull()
            except (FFmpegError, EOFError):  # more input is needed, or it is flushed
                return frames
            if isinstance(pulled, AudioFrame):
                frames.append(pulled)


def _to_samples(frame: AudioFrame) -> NDArray[np.float32]:
    samples = np.ascontiguousarray(frame.to_ndarray().reshape(-1, frame.layout.nb_channels).T)
    return np.clip(np.nan_to_num(samples, copy=False, nan=0.0), -1.0, 1.0, dtype=np.float32)
