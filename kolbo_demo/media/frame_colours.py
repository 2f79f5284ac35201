"""Convert decoded frames of any colour space to 8-bit RGB of BT.709.

swscale converts the common ones. For wide gamuts, HDR and matrices that it does not know, a lookup
table is computed once from the equations of ITU-T H.273 and ITU-R BT.2100, and libavfilter applies
it.
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

from kolbo_demo.media.demux import CODEC_THREADS, UNSPECIFIED, check_colours

Floats = NDArray[np.float64]

HDR_NOTE = "HDR was tone-mapped to SDR"
ALPHA_NOTE = "transparent parts were laid on white"
"""Notes on a source."""

BT601_MATRICES = (5, 6)
"""AVCOL_SPC_BT470BG and AVCOL_SPC_SMPTE170M, which are equal."""
_SWSCALE_MATRICES = {
    1: Colorspace.ITU709,
    4: Colorspace.FCC,
    5: Colorspace.ITU601,
    6: Colorspace.ITU601,
    7: Colorspace.SMPTE240M,
    9: Colorspace.BT2020,
}
"""Matrices that swscale supports."""
_RGB, _NCL = 0, 9
_YCGCO, _CL, _DERIVED, _DERIVED_CL, _ICTCP = _OTHER_MATRICES = 8, 10, 12, 13, 14
"""Matrices that it does not support and this module does."""
_PQ, _HLG = 16, 18
WIDE_PRIMARIES = {
    9: ((0.708, 0.292), (0.170, 0.797), (0.131, 0.046)),
    11: ((0.680, 0.320), (0.265, 0.690), (0.150, 0.060)),  # DCI with a D65 white
    12: ((0.680, 0.320), (0.265, 0.690), (0.150, 0.060)),
}
"""x, y of red, green and blue: BT.2020 and both P3."""
_BT709 = ((0.640, 0.330), (0.300, 0.600), (0.150, 0.060))
_D65 = (0.3127, 0.3290)
_DIFFUSE_WHITE = 203.0
"""cd/m2 of HDR reference white (ITU-R BT.2408)."""
_HLG_PEAK = 1000.0
"""cd/m2 of the display for which BT.2100 sets the system gamma of HLG to 1.2."""
_KNEE = 0.85
"""Share of diffuse white up to which tone mapping is linear."""
_CLUT_LEVEL = 7
"""The table has its square of points a side; odd, so that greys lie on points."""
_MAX_TABLES = 4
"""Tables cached for one clip."""

_TO_RGB = (
    Interpolation.BILINEAR
    | Interpolation.FULL_CHR_H_INT
    | Interpolation.FULL_CHR_H_INP
    | Interpolation.ACCURATE_RND
)


class ColourTags(NamedTuple):
    """Colour space of a frame, by the code points of ITU-T H.273."""

    matrix: int
    primaries: int
    transfer: int

    @classmethod
    def of(cls, frame: VideoFrame) -> "ColourTags":
        """The tags of a frame; invalid values count as unspecified."""
        kind = frame.format
        return _resolve_tags(
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
    def is_swscale_supported(self) -> bool:
        """Whether swscale alone can convert it."""
        return self.primaries == self.transfer == 1 and self.matrix in (_RGB, *_SWSCALE_MATRICES)


@lru_cache(256)
def _resolve_tags(matrix: int, primaries: int, transfer: int, rgb: bool, hd: bool) -> ColourTags:
    """Cached, since it is called for each frame. `hd`: unspecified colours are BT.709."""
    hdr = transfer in (_PQ, _HLG)
    if primaries == UNSPECIFIED and hdr:
        primaries = 9
    if not rgb and matrix not in (*_SWSCALE_MATRICES, *_OTHER_MATRICES):
        matrix = _NCL if hdr else 1 if hd else 5
    primaries = primaries if primaries in WIDE_PRIMARIES else 1
    return ColourTags(matrix, primaries, transfer if hdr else 1)


def is_hdr(transfer: int) -> bool:
    """Whether this transfer function is PQ or HLG."""
    return transfer in (_PQ, _HLG)


def to_bt709(rgb: NDArray[np.uint8], primaries: int, transfer: int) -> NDArray[np.uint8]:
    """Convert RGB (height, width, 3) of these primaries and transfer to BT.709."""
    height, width = rgb.shape[:2]
    colours = _resolve_tags(_RGB, primaries, transfer, True, False)
    table = _LookupTable(colours, width, height, CODEC_THREADS)
    deep = table.apply(np.multiply(rgb, 257, dtype=np.uint16))
    return np.asarray(cv2.convertScaleAbs(deep, alpha=1 / 257), np.uint8)


def has_alpha(frame: VideoFrame) -> bool:
    """Whether a frame has an alpha channel."""
    return _format_has_alpha(frame.format.name)


@lru_cache(256)
def _format_has_alpha(pixel_format: str) -> bool:
    return any(component.is_alpha for component in VideoFormat(pixel_format).components)


class RgbConverter:
    """Converts the frames of one clip to RGB of one size."""

    def __init__(self, width: int, height: int, threads: int) -> None:
        self._size, self._threads = (width, height), threads
        self._reformatter, self._alpha = VideoReformatter(), VideoReformatter()
        self._tables: dict[ColourTags, _LookupTable] = {}

    def rgb(self, frame: VideoFrame) -> NDArray[np.uint8]:
        """uint8 (height, width, 3), not rotated, transparency on white. May be a view of the frame.
        Raises MediaError."""
        check_colours(frame)
        colours = ColourTags.of(frame)
        if colours.is_swscale_supported:
            rgb = np.asarray(self._reformat(self._reformatter, frame, "rgb24", colours))
        else:
            # Not rgb48, which swscale corrupts with these flags.
            kind = "yuv444p16le" if colours.matrix in _OTHER_MATRICES else "gbrp16le"
            planes = self._reformat(self._reformatter, frame, kind, colours)
            deep = self._table(colours).apply(planes)
            rgb = np.asarray(cv2.convertScaleAbs(deep, alpha=1 / 257), np.uint8)
        if has_alpha(frame):
            rgba = self._reformat(self._alpha, frame, "rgba", colours)
            rgb = _on_white(rgb, rgba[..., 3])
        return rgb

    def _reformat(
        self, by: VideoReformatter, frame: VideoFrame, kind: str, colours: ColourTags
    ) -> NDArray[Any]:
        matrix = _SWSCALE_MATRICES.get(colours.matrix, Colorspace.ITU709)
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

    def _table(self, colours: ColourTags) -> "_LookupTable":
        if colours not in self._tables:
            if len(self._tables) == _MAX_TABLES:
                self._tables.clear()
            self._tables[colours] = _LookupTable(colours, *self._size, self._threads)
        return self._tables[colours]


def _on_white(rgb: NDArray[np.uint8], alpha: NDArray[np.uint8]) -> NDArray[np.uint8]:
    opacity = cv2.cvtColor(alpha, cv2.COLOR_GRAY2RGB)
    weighted = cv2.multiply(rgb, opacity, scale=1 / 255)
    return np.asarray(cv2.add(weighted, cv2.bitwise_not(opacity)), np.uint8)


class _LookupTable:
    """libavfilter's haldclut with a table from a colour space to RGB of BT.709."""

    def __init__(self, colours: ColourTags, width: int, height: int, threads: int) -> None:
        self._graph, self._count, side = Graph(), 0, _CLUT_LEVEL**3
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
        values = np.round(65535 * _lookup_values(colours)).astype(np.uint16)
        table.push(VideoFrame.from_ndarray(values.reshape(side, side, 3), "rgb48le"))
        table.push(None)

    def apply(self, pixels: NDArray[np.uint16]) -> NDArray[np.uint16]:
        """Convert uint16 (height, width, 3): RGB, or limited-range Y, Cb, Cr."""
        frame = VideoFrame.from_numpy_buffer(pixels, "rgb48le")
        frame.pts, frame.time_base = self._count, Fraction(1)
        self._count += 1
        self._source.push(frame)
        return np.asarray(self._graph.vpull().to_ndarray(), np.uint16)


def _lookup_values(colours: ColourTags) -> Floats:
    """RGB 0-1 for each point of a table, (n, 3); the first axis varies fastest."""
    side = np.linspace(0, 1, _CLUT_LEVEL**2)
    light = _linear_light(
        colours, np.stack(np.meshgrid(side, side, side, indexing="ij")[::-1], -1).reshape(-1, 3)
    )
    wide = _rgb_to_xyz(WIDE_PRIMARIES.get(colours.primaries, _BT709))
    light = light @ (np.linalg.inv(_rgb_to_xyz(_BT709)) @ wide).T
    if not colours.hdr:
        return _bt709_signal(np.clip(light, 0, 1))
    # All channels by one factor, which preserves hues; the display gamma is that of BT.1886.
    brightest = light.max(1, keepdims=True)
    over = np.maximum(brightest - _KNEE, 0) / (1 - _KNEE)
    rolled = np.minimum(brightest, _KNEE) + (1 - _KNEE) * over / (1 + over)
    light = light * (rolled / np.maximum(brightest, 1e-9))
    return np.clip(light, 0, 1) ** (1 / 2.4)


def _linear_light(colours: ColourTags, planes: Floats) -> Floats:
    """Linear RGB in the clip's own primaries; 1 is diffuse white."""
    matrix, transfer = colours.matrix, colours.transfer
    if matrix not in _OTHER_MATRICES:  # already inverted by swscale
        return _apply_eotf(planes, transfer)
    luma, first, second = ((planes * 65535 / 256 - [16, 128, 128]) / [219, 224, 224]).T
    if matrix == _YCGCO:
        rest = luma - first
        return _apply_eotf(np.stack([rest + second, luma + first, rest - second], 1), transfer)
    if matrix == _ICTCP:
        return _from_ictcp(np.stack([luma, first, second], 1), transfer)
    red, green, blue = _luma_weights(colours)
    if matrix in (_CL, _DERIVED_CL):
        outer = [
            luma + 2 * np.where(c < 0, _bt709_signal(1 - k), 1 - _bt709_signal(k)) * c
            for c, k in ((second, red), (first, blue))
        ]
        r, y, b = _apply_eotf(np.stack([outer[0], luma, outer[1]], 1), transfer).T
        return np.stack([r, (y - red * r - blue * b) / green, b], 1)
    r, b = luma + 2 * (1 - red) * second, luma + 2 * (1 - blue) * first
    return _apply_eotf(np.stack([r, (luma - red * r - blue * b) / green, b], 1), transfer)


def _luma_weights(colours: ColourTags) -> tuple[float, float, float]:
    """Luma weights of red, green and blue."""
    red, blue = 0.2627, 0.0593
    if colours.matrix != _CL:
        red, _, blue = _rgb_to_xyz(WIDE_PRIMARIES.get(colours.primaries, _BT709))[1]
    return red, 1 - red - blue, blue


def _apply_eotf(signal: Floats, transfer: int) -> Floats:
    """Linear light of a signal (n, 3); 1 is diffuse white."""
    if transfer == _PQ:
        return _from_pq(signal) / _DIFFUSE_WHITE
    if transfer == _HLG:
        return _apply_hlg_ootf(_from_hlg(signal))
    return np.where(
        signal < 0.081, signal / 4.5, ((np.maximum(signal, 0) + 0.099) / 1.099) ** (1 / 0.45)
    )


def _bt709_signal(light: Floats | float) -> Floats:
    """BT.709 OETF of light 0-1."""
    return np.where(light < 0.018, 4.5 * light, 1.099 * np.maximum(light, 0) ** 0.45 - 0.099)


def _from_pq(signal: Floats) -> Floats:
    """PQ EOTF, cd/m2 (SMPTE ST 2084)."""
    power = np.clip(signal, 0, 1) ** (32 / 2523)
    share = np.maximum(4096 * power - 3424, 0) / (32 * (2413 - 2392 * power))
    return 10000 * share ** (16384 / 2610)


def _from_hlg(signal: Floats) -> Floats:
    """HLG inverse OETF: scene light 0-1 (ITU-R BT.2100)."""
    signal = np.clip(signal, 0, 1)
    dark = signal**2 / 3
    return np.where(
        signal <= 0.5, dark, (np.exp((signal - 0.55991073) / 0.17883277) + 0.28466892) / 12
    )


def _apply_hlg_ootf(scene: Floats) -> Floats:
    """Display light from scene light (OOTF of BT.2100); 1 is diffuse white."""
    luminance = np.maximum(scene @ [0.2627, 0.6780, 0.0593], 1e-9)[:, None]
    return _HLG_PEAK / _DIFFUSE_WHITE * luminance**0.2 * scene


def _from_ictcp(planes: Floats, transfer: int) -> Floats:
    """Linear BT.2020 RGB of ICtCp (ITU-R BT.2100); 1 is diffuse white."""
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
    return _apply_hlg_ootf(light) if hlg else light / _DIFFUSE_WHITE


def _rgb_to_xyz(primaries: tuple[tuple[float, float], ...]) -> Floats:
    """Matrix from linear RGB to CIE XYZ; white has a luminance of 1."""

    def xyz(x: float, y: float) -> Floats:
        return np.array([x / y, 1, (1 - x - y) / y])

    columns = np.stack([xyz(*primary) for primary in primaries], 1)
    return columns * np.linalg.solve(columns, xyz(*_D65))
