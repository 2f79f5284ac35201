"""Resample audio frames of any format and channel layout to float samples."""

from collections.abc import Iterator

import numpy as np
from av.audio.frame import AudioFrame
from av.audio.layout import AudioLayout
from av.audio.resampler import AudioResampler
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

    `layout` None retains the channels. `mix`, a weight for each channel, makes one of them, which
    all channels of a `layout` get.
    """

    def __init__(
        self, rate: int, layout: str | None = None, mix: tuple[float, ...] | None = None
    ) -> None:
        self._rate, self._layout, self._mix = rate, layout, mix
        self._source: tuple[str, str, int] | None = None
        self._resampler: AudioResampler | None = None
        self._weights: NDArray[np.float32] | None = None

    def __call__(self, frame: AudioFrame | None) -> Iterator[NDArray[np.float32]]:
        """Samples available after a frame; None flushes."""
        if frame is None:
            if self._resampler is not None:
                yield from map(self._to_samples, self._resampler.resample(None))
            self._resampler = None
            return
        source = (frame.format.name, frame.layout.name, frame.sample_rate)
        if self._resampler is None or self._source != source:
            yield from self(None)
            self._source, self._weights = source, self._mixing_weights(frame.layout)
            kept = self._layout is None or self._weights is not None
            layout = frame.layout.name if kept else self._layout
            options = {"rematrix_maxval": "1"}
            self._resampler = AudioResampler(_SAMPLE_FORMAT, layout, self._rate, options=options)
        frame.pts = None
        yield from map(self._to_samples, self._resampler.resample(frame))

    def _mixing_weights(self, source: AudioLayout) -> NDArray[np.float32] | None:
        """Weights (channels, channels of the source); None leaves them to libswresample."""
        mix, count = self._mix, source.nb_channels
        unmixable = self._layout is not None and not is_standard_layout(source.name)
        if (mix is None and unmixable) or (mix is not None and len(mix) != count):
            mix = (1 / count,) * count
        channels = AudioLayout(self._layout or "mono").nb_channels
        return None if mix is None else np.array([mix] * channels, np.float32)

    def _to_samples(self, frame: AudioFrame) -> NDArray[np.float32]:
        packed = frame.to_ndarray().reshape(-1, frame.layout.nb_channels)
        samples = np.ascontiguousarray(np.nan_to_num(packed, copy=False).T)
        if self._weights is not None:
            samples = self._weights @ samples
        return np.clip(samples, -1.0, 1.0, dtype=np.float32)
