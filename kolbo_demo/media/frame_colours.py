"""Decoded frames to upright pictures' pixels: RGB of BT.709 in 8 bits, whatever a clip's colours.

swscale converts what most clips have. For the rest (wide or HDR colours, matrices that it does not
know) a table is made once from the equations of ITU-T H.273 and ITU-R BT.2100, and libavfilter
looks each pixel up in it.
"""

from fractions import Fraction
from functools import lru_cache
from typing import Any, NamedTuple

import cv2
import numpy as np
from av.filter import Graph
from av.video.format import VideoFormat
from av.video.frame import VideoFrame
from av.video.reformatter import ColorRange, Colorspace, Interpolation, VideoReformatter
from numpy.typing import NDArray

from kolbo_demo.media.demux import THREADS, UNTAGGED, check_colours

Floats = NDArray[np.float64]

NO_HDR = "HDR was tone-mapped to SDR"
NO_ALPHA = "transparent parts were laid on white"
"""Notes on a source."""

ITU601 = (5, 6)
"""AVCOL_SPC_BT470BG and AVCOL_SPC_SMPTE170M: the same."""
_SWSCALE = {
    1: Colorspace.ITU709,
    4: Colorspace.FCC,
    5: Colorspace.ITU601,
    6: Colorspace.ITU601,
    7: Colorspace.SMPTE240M,
    9: Colorspace.BT2020,
}
"""Matrices that swscale knows."""
_RGB, _NCL = 0, 9
_YCGCO, _CL, _DERIVED, _DERIVED_CL, _ICTCP = _UNKNOWN = 8, 10, 12, 13, 14
"""Matrices that it does not, but that are known here."""
_PQ, _HLG = 16, 18
WIDE = {
    9: ((0.708, 0.292), (0.170, 0.797), (0.131, 0.046)),
    11: ((0.680, 0.320), (0.265, 0.690), (0.150, 0.060)),  # of DCI, with the white of screens
    12: ((0.680, 0.320), (0.265, 0.690), (0.150, 0.060)),
}
"""Red, green and blue (x, y) of BT.2020 and both P3."""
_BT709 = ((0.640, 0.330), (0.300, 0.600), (0.150, 0.060))
_D65 = (0.3127, 0.3290)
_DIFFUSE_WHITE = 203.0
"""cd/m2 that SDR shows as white (ITU-R BT.2408)."""
_HLG_PEAK = 1000.0
"""cd/m2 of the display for which BT.2100 gives HLG a gamma of 1.2."""
_KNEE = 0.85
"""Share of diffuse white up to which HDR is shown as it is; what is brighter has the rest."""
_LEVEL = 7
"""The table has the square of it in points a side; odd, so that greys have points of their own."""
_TABLES = 4
"""That one clip may have at a time."""

_TO_RGB = (
    Interpolation.BILINEAR
    | Interpolation.FULL_CHR_H_INT
    | Interpolation.FULL_CHR_H_INP
    | Interpolation.ACCURATE_RND
)


class Colours(NamedTuple):
    """How a frame's three planes mean colours, by the numbers of ITU-T H.273."""

    matrix: int
    primaries: int
    transfer: int

    @classmethod
    def of(cls, frame: VideoFrame) -> "Colours":
        """The tags of a frame; impossible values count as untagged."""
        kind = frame.format
        return _meant(
            _RGB if kind.is_rgb else int(frame.colorspace),
            int(frame.color_primaries),
            int(frame.color_trc),
            kind.is_rgb,
            frame.height >= 720 or frame.width >= 1280,
        )

    @property
    def hdr(self) -> bool:
        return self.transfer in (_PQ, _HLG)

    @property
    def ordinary(self) -> bool:
        """Whether swscale alone can convert them."""
        return self.primaries == self.transfer == 1 and self.matrix in (_RGB, *_SWSCALE)


@lru_cache(256)
def _meant(matrix: int, primaries: int, transfer: int, rgb: bool, hd: bool) -> Colours:
    """Asked for each frame. `hd`: as large as those that are BT.709 where nothing is said."""
    hdr = transfer in (_PQ, _HLG)
    if primaries == UNTAGGED and hdr:
        primaries = 9
    if not rgb and matrix not in (*_SWSCALE, *_UNKNOWN):
        matrix = _NCL if hdr else 1 if hd else 5
    return Colours(matrix, primaries if primaries in WIDE else 1, transfer if hdr else 1)


def is_hdr(transfer: int) -> bool:
    """Whether this transfer function is PQ or HLG."""
    return transfer in (_PQ, _HLG)


def shown(rgb: NDArray[np.uint8], primaries: int, transfer: int) -> NDArray[np.uint8]:
    """A picture (height, width, 3) of such colours as RGB of BT.709."""
    height, width = rgb.shape[:2]
    colours = _meant(_RGB, primaries, transfer, True, False)
    deep = _Table(colours, width, height, THREADS).looked_up(np.multiply(rgb, 257, dtype=np.uint16))
    return np.asarray(cv2.convertScaleAbs(deep, alpha=1 / 257), np.uint8)


def has_alpha(frame: VideoFrame) -> bool:
    """Whether parts of a frame may be transparent."""
    return _keeps_alpha(frame.format.name)


@lru_cache(256)
def _keeps_alpha(pixel_format: str) -> bool:
    return any(component.is_alpha for component in VideoFormat(pixel_format).components)


class Converter:
    """Frames of one clip to RGB of one size."""

    def __init__(self, width: int, height: int, threads: int) -> None:
        """Pixels; `threads` convert."""
        self._size, self._threads = (width, height), threads
        self._reformatter, self._alpha = VideoReformatter(), VideoReformatter()
        self._tables: dict[Colours, _Table] = {}

    def rgb(self, frame: VideoFrame) -> NDArray[np.uint8]:
        """uint8 (height, width, 3), as stored, what is transparent laid on white. The array may be
        the frame's own. Raises MediaError."""
        check_colours(frame)
        colours = Colours.of(frame)
        if colours.ordinary:
            rgb = np.asarray(self._converted(self._reformatter, frame, "rgb24", colours))
        else:
            # Not rgb48, which swscale spoils with these flags.
            kind = "yuv444p16le" if colours.matrix in _UNKNOWN else "gbrp16le"
            spread = self._converted(self._reformatter, frame, kind, colours)
            deep = self._table(colours).looked_up(spread)
            rgb = np.asarray(cv2.convertScaleAbs(deep, alpha=1 / 257), np.uint8)
        if has_alpha(frame):
            rgba = self._converted(self._alpha, frame, "rgba", colours)
            rgb = _on_white(rgb, rgba[..., 3])
        return rgb

    def _converted(
        self, by: VideoReformatter, frame: VideoFrame, kind: str, colours: Colours
    ) -> NDArray[Any]:
        matrix = _SWSCALE.get(colours.matrix, Colorspace.ITU709)
        limited = ColorRange.MPEG if kind == "yuv444p16le" else None
        converted = by.reformat(
            frame,
            *self._size,
            kind,
            src_colorspace=None if frame.format.is_rgb else matrix,
            dst_colorspace=matrix if limited else None,
            dst_color_range=limited,
            interpolation=_TO_RGB,
            threads=self._threads,
        )
        return np.asarray(converted.to_ndarray())

    def _table(self, colours: Colours) -> "_Table":
        if colours not in self._tables:
            if len(self._tables) == _TABLES:
                self._tables.clear()
            self._tables[colours] = _Table(colours, *self._size, self._threads)
        return self._tables[colours]


def _on_white(rgb: NDArray[np.uint8], alpha: NDArray[np.uint8]) -> NDArray[np.uint8]:
    share = cv2.cvtColor(alpha, cv2.COLOR_GRAY2RGB)
    shown = cv2.multiply(rgb, share, scale=1 / 255)
    return np.asarray(cv2.add(shown, cv2.bitwise_not(share)), np.uint8)


class _Table:
    """libavfilter's haldclut, with a table from some colours to RGB of BT.709."""

    def __init__(self, colours: Colours, width: int, height: int, threads: int) -> None:
        self._graph, self._count, side = Graph(), 0, _LEVEL**3
        self._source, table = (
            self._graph.add_buffer(
                width=w, height=h, format=VideoFormat("rgb48le"), time_base=Fraction(1)
            )
            for w, h in ((width, height), (side, side))
        )
        lookup = self._graph.add("haldclut", f"clut=first:interp=tetrahedral:threads={threads}")
        self._source.link_to(lookup, 0, 0)
        table.link_to(lookup, 0, 1)
        lookup.link_to(self._graph.add("buffersink"))
        self._graph.configure()
        values = np.round(65535 * _shown(colours)).astype(np.uint16)
        table.push(VideoFrame.from_ndarray(values.reshape(side, side, 3), "rgb48le"))
        table.push(None)

    def looked_up(self, pixels: NDArray[np.uint16]) -> NDArray[np.uint16]:
        """`pixels` are uint16 (height, width, 3): RGB, or Y, Cb and Cr of limited range."""
        given = VideoFrame.from_numpy_buffer(pixels, "rgb48le")
        given.pts, given.time_base = self._count, Fraction(1)
        self._count += 1
        self._source.push(given)
        return np.asarray(self._graph.vpull().to_ndarray(), np.uint16)


def _shown(colours: Colours) -> Floats:
    """RGB 0-1 for each point of a table, (n, 3): the first of three values changes fastest."""
    side = np.linspace(0, 1, _LEVEL**2)
    light = _light(
        colours, np.stack(np.meshgrid(side, side, side, indexing="ij")[::-1], -1).reshape(-1, 3)
    )
    wide = _to_xyz(WIDE.get(colours.primaries, _BT709))
    light = light @ (np.linalg.inv(_to_xyz(_BT709)) @ wide).T
    if not colours.hdr:
        return _from_light(np.clip(light, 0, 1))
    # By one factor, so that hues stay; the display's gamma is that of BT.1886.
    brightest = light.max(1, keepdims=True)
    over = np.maximum(brightest - _KNEE, 0) / (1 - _KNEE)
    rolled = np.minimum(brightest, _KNEE) + (1 - _KNEE) * over / (1 + over)
    light = light * (rolled / np.maximum(brightest, 1e-9))
    return np.clip(light, 0, 1) ** (1 / 2.4)


def _light(colours: Colours, planes: Floats) -> Floats:
    """Linear RGB of the clip's own primaries, 1 is diffuse white."""
    matrix, transfer = colours.matrix, colours.transfer
    if matrix not in _UNKNOWN:  # swscale has undone it
        return _linear(planes, transfer)
    luma, first, second = ((planes * 65535 / 256 - [16, 128, 128]) / [219, 224, 224]).T
    if matrix == _YCGCO:
        rest = luma - first
        return _linear(np.stack([rest + second, luma + first, rest - second], 1), transfer)
    if matrix == _ICTCP:
        return _from_ictcp(np.stack([luma, first, second], 1), transfer)
    red, green, blue = _weights(colours)
    if matrix in (_CL, _DERIVED_CL):
        outer = [
            luma + 2 * np.where(c < 0, _from_light(1 - k), 1 - _from_light(k)) * c
            for c, k in ((second, red), (first, blue))
        ]
        r, y, b = _linear(np.stack([outer[0], luma, outer[1]], 1), transfer).T
        return np.stack([r, (y - red * r - blue * b) / green, b], 1)
    r, b = luma + 2 * (1 - red) * second, luma + 2 * (1 - blue) * first
    return _linear(np.stack([r, (luma - red * r - blue * b) / green, b], 1), transfer)


def _weights(colours: Colours) -> tuple[float, float, float]:
    """Of red, green and blue in luma."""
    red, blue = 0.2627, 0.0593
    if colours.matrix != _CL:
        red, _, blue = _to_xyz(WIDE.get(colours.primaries, _BT709))[1]
    return red, 1 - red - blue, blue


def _linear(signal: Floats, transfer: int) -> Floats:
    """Light of a signal (n, 3), 1 is diffuse white."""
    if transfer == _PQ:
        return _from_pq(signal) / _DIFFUSE_WHITE
    if transfer == _HLG:
        return _displayed(_from_hlg(signal))
    return np.where(
        signal < 0.081, signal / 4.5, ((np.maximum(signal, 0) + 0.099) / 1.099) ** (1 / 0.45)
    )


def _from_light(light: Floats | float) -> Floats:
    """BT.709's signal for light 0-1."""
    return np.where(light < 0.018, 4.5 * light, 1.099 * np.maximum(light, 0) ** 0.45 - 0.099)


def _from_pq(signal: Floats) -> Floats:
    """cd/m2 (SMPTE ST 2084)."""
    power = np.clip(signal, 0, 1) ** (32 / 2523)
    share = np.maximum(4096 * power - 3424, 0) / (32 * (2413 - 2392 * power))
    return 10000 * share ** (16384 / 2610)


def _from_hlg(signal: Floats) -> Floats:
    """Light of the scene, 0-1 (ITU-R BT.2100)."""
    signal = np.clip(signal, 0, 1)
    dark = signal**2 / 3
    return np.where(
        signal <= 0.5, dark, (np.exp((signal - 0.55991073) / 0.17883277) + 0.28466892) / 12
    )


def _displayed(scene: Floats) -> Floats:
    """Light of an HLG display, from light of the scene (the OOTF of BT.2100); 1 is diffuse
    white."""
    luminance = np.maximum(scene @ [0.2627, 0.6780, 0.0593], 1e-9)[:, None]
    return _HLG_PEAK / _DIFFUSE_WHITE * luminance**0.2 * scene


def _from_ictcp(planes: Floats, transfer: int) -> Floats:
    """BT.2020's light of ICtCp (ITU-R BT.2100), 1 is diffuse white."""
    hlg = transfer == _HLG
    colour = (
        [[3625, -7465, 3840], [9500, -9212, -288]]
        if hlg
        else [[6610, -13613, 7003], [17933, -17390, -543]]
    )
    mixed = np.array([[2048, 2048, 0], *colour]) / 4096
    cones = np.array([[1688, 2146, 262], [683, 2951, 462], [99, 309, 3688]]) / 4096
    signal = planes @ np.linalg.inv(mixed).T
    light = (_from_hlg(signal) if hlg else _from_pq(signal)) @ np.linalg.inv(cones).T
    return _displayed(light) if hlg else light / _DIFFUSE_WHITE


def _to_xyz(primaries: tuple[tuple[float, float], ...]) -> Floats:
    """CIE XYZ of linear RGB, white having a luminance of 1."""

    def xyz(x: float, y: float) -> Floats:
        return np.array([x / y, 1, (1 - x - y) / y])

    columns = np.stack([xyz(*primary) for primary in primaries], 1)
    return columns * np.linalg.solve(columns, xyz(*_D65))
