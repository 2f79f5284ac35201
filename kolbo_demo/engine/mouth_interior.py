"""Paints the interior of the mouth: cavity, tongue and teeth.

Upper teeth are fixed to the skull, lower teeth and tongue to the jaw, so that they do not swim with
the lips. Colours are derived from the face: a grey photograph gets grey teeth.
"""

from dataclasses import dataclass
from typing import ClassVar

import cv2
import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from kolbo_demo.engine.head_pose import LOWER_INNER, LOWER_OUTER, UPPER_INNER, UPPER_OUTER, Array
from kolbo_demo.engine.mouth_shape import MouthShape
from kolbo_demo.engine.mouth_warp import Opening, Paint
from kolbo_demo.engine.thin_plate import Map, Pixels

Colour = NDArray[np.floating]

# Distances from the middle of the upper row to each gap between teeth, seen from the front (teeth
# narrow as the arch turns away).
_TOOTH_GAPS_MM = np.array([0.0, 8.4, 14.6, 20.4, 24.4, 27.2])
_LOWER_TOOTH_MM = 5.3
"""Width of a lower front tooth."""
_EYE_WHITES = ((33, 468), (133, 468), (362, 473), (263, 473))
"""Corner and iris of each eye; the white of the eye lies between them."""
_LUMA = np.array([0.299, 0.587, 0.114], np.float32)
_UPPER_EDGE_MM = 1.5
"""Height of the upper front teeth's edge below the seam at rest."""


@dataclass(frozen=True)
class Palette:
    """Colours of one person's mouth: RGB (3,), 0-255."""

    lip: Colour
    cavity: Colour
    tongue: Colour
    teeth: Colour

    @classmethod
    def from_picture(cls, rgb: Pixels, points: Array) -> "Palette":
        """Colours derived from lips, skin and eyes; `points` (478, 2+) are landmarks in pixels."""
        p = points[:, :2]
        lip = _median_colour(rgb, p[[*LOWER_OUTER[2:9]]] * 0.5 + p[[*LOWER_INNER[2:9]]] * 0.5)
        upper = _median_colour(rgb, p[[*UPPER_OUTER[2:9]]] * 0.5 + p[[*UPPER_INNER[2:9]]] * 0.5)
        lip = (lip + upper) / 2
        skin = _median_colour(rgb, p[[50, 280, 205, 425, 36, 266, 101, 330]])
        light = max(float(skin @ _LUMA), 1.0)
        # Teeth are as bright as the skin and half as tinted, and tinted as the white of the eyes.
        tan = np.maximum(skin, 1) / light
        tint = np.sqrt(tan)
        eyes = np.array(
            [_colours_at(rgb, at) for at in (p[a] + 0.3 * (p[b] - p[a]) for a, b in _EYE_WHITES)]
        )
        eye = np.median(eyes[np.argsort(eyes @ _LUMA)[2:]], axis=0)
        if float(eye @ _LUMA) > 0.5 * light:
            # The white of a small eye is unreliable: limit its tint to a range around the skin's.
            least = np.cbrt(tan)
            white = np.clip(
                eye / float(eye @ _LUMA), np.minimum(least, tan), np.maximum(least, tan)
            )
            tint = 0.5 * (tint + white)
        white = np.clip(0.62 * light + 66, 35, 222) * tint
        redder = lip + 0.35 * (lip - float(lip @ _LUMA))
        return cls(
            lip=lip,
            cavity=np.clip(0.26 * redder, 3, 70).astype(np.float32),
            tongue=np.clip(0.74 * redder + 4, 0, 215).astype(np.float32),
            teeth=np.clip(white, 0, 240).astype(np.float32),
        )


def _colours_at(rgb: Pixels, at: Array) -> Colour:
    """Colours (..., 3) of the pixels nearest to points (..., 2)."""
    height, width = rgb.shape[:2]
    x, y = np.moveaxis(np.clip(np.rint(at).astype(int), 0, (width - 1, height - 1)), -1, 0)
    return rgb[y, x].astype(np.float32)


def _median_colour(rgb: Pixels, at: Array) -> Colour:
    return np.asarray(np.median(_colours_at(rgb, at), axis=0), np.float32)


def _ramp(value: Map, soft: float | Map) -> Map:
    """Smoothstep from 0 at -soft to 1 at soft."""
    v = np.clip(value / (2 * soft) + 0.5, 0, 1)
    return v * v * (3 - 2 * v)


@dataclass(frozen=True)
class Teeth:
    """The upper teeth in a picture, rectified to mouth millimetres and extrapolated upward under
    the lip."""

    LEFT: ClassVar = -34.0
    TOP: ClassVar = -16.0
    RIGHT: ClassVar = 34.0
    BOTTOM: ClassVar = 18.0
    MIN_ROW_WIDTH: ClassVar = 0.45
    """Least width of a row of teeth, as a share of the mouth's width."""

    colours: Map
    """RGB 0-255, (rows, columns, 3), starting at LEFT, TOP."""
    cover: Map
    """Opacity 0-1, (rows, columns)."""
    scale: float
    """Rows and columns a millimetre."""
    arch: Array
    """(3,) polynomial coefficients: height of the row's lower edge (mm, downward) over mm from the
    middle."""
    tone: Colour
    """RGB (3,): median colour, for teeth that the picture does not show."""

    @classmethod
    def from_mask(cls, colours: Map, mask: Pixels, scale: float) -> "Teeth":
        """Teeth from a patch of colours and a mask, both at `scale` pixels a millimetre."""
        columns, lowest = _lowest_rows(mask)
        arch = _fit_arch(columns / scale + cls.LEFT, lowest / scale + cls.TOP)
        line = np.polyval(arch[::-1], np.arange(mask.shape[1]) / scale + cls.LEFT) - cls.TOP
        cover = _tooth_cover(mask, line * scale, scale)
        tone = np.median(colours[mask > 0], axis=0).astype(np.float32)
        return cls(_extrapolate(colours, mask, scale), cover, scale, arch, tone)

    @classmethod
    def detect(cls, rgb: Pixels, points: Array, to_mm: Array, scale: float) -> "Teeth | None":
        """Teeth of a picture; None if they fill under 30 % of its open mouth.

        `points` (478, 2+) are landmarks in pixels, `to_mm` (2, 3) maps pixels to mouth millimetres,
        `scale` is in pixels a millimetre.
        """
        patch_scale = float(np.clip(2 * scale, 2.0, 8.0))
        size = (
            round((cls.RIGHT - cls.LEFT) * patch_scale),
            round((cls.BOTTOM - cls.TOP) * patch_scale),
        )
        patch_to_mm = np.array([[1 / patch_scale, 0, cls.LEFT], [0, 1 / patch_scale, cls.TOP]])
        back = np.linalg.inv(to_mm[:, :2])
        patch_to_px = np.column_stack(
            [back @ patch_to_mm[:, :2], back @ (patch_to_mm[:, 2] - to_mm[:, 2])]
        )
        flags = cv2.INTER_CUBIC | cv2.WARP_INVERSE_MAP
        patch = cv2.warpAffine(rgb, patch_to_px, size, flags=flags, borderMode=cv2.BORDER_REPLICATE)
        rings = [points[list(ring), :2] for ring in (UPPER_INNER, LOWER_INNER)]
        upper, lower = (
            (r @ to_mm[:, :2].T + to_mm[:, 2] - (cls.LEFT, cls.TOP)) * patch_scale for r in rings
        )
        if float((lower[:, 1] - upper[:, 1]).max()) < 2.5 * patch_scale:
            return None
        opening = np.zeros(size[::-1], np.uint8)
        cv2.fillPoly(opening, [np.rint(np.concatenate([upper, lower[::-1]])).astype(np.int32)], 1)
        opening = cv2.erode(opening, np.ones((max(round(0.7 * patch_scale), 1),) * 2, np.uint8))
        colours = patch.astype(np.float32)
        light = colours @ _LUMA
        redness = colours[..., 0] - colours[..., 1:].mean(-1)
        inside = opening > 0
        if inside.sum() < 40:
            return None
        # Teeth are the brightest part, and at most half as red as the lips, relative to it.
        lightest = inside & (light >= np.percentile(light[inside], 88))
        red = float(np.median(redness[lightest]))
        lip = float(np.percentile(redness[inside], 92))
        bright = inside & (light > 0.58 * float(np.percentile(light[inside], 97)))
        bright &= redness <= red + 0.5 * max(lip - red, 12.0)
        if bright.sum() < 0.3 * inside.sum():
            return None
        upper_row = _upper_row(bright, patch_scale)
        if upper_row.any(0).sum() < cls.MIN_ROW_WIDTH * np.ptp(upper[:, 0]):
            return None
        # Teeth are whiter than skin; otherwise it is a lip, or the face is too small.
        cheeks = _median_colour(rgb, points[[50, 280, 205, 425], :2])
        tinted = float(np.ptp(cheeks) / max(cheeks.max(), 1.0))
        tone = np.median(colours[upper_row > 0], axis=0)
        if tinted > 0.15 and float(np.ptp(tone) / max(tone.max(), 1.0)) > 0.8 * tinted:
            return None
        return cls.from_mask(colours, upper_row, patch_scale)

    def __call__(self, x: Map, y: Map) -> tuple[Map, Map]:
        """Colours (..., 3) and opacity 0-1 (...) at mouth millimetres."""
        at = (
            ((x - self.LEFT) * self.scale).astype(np.float32),
            ((y - self.TOP) * self.scale).astype(np.float32),
        )
        flags = cv2.INTER_LINEAR
        colours = cv2.remap(self.colours, *at, flags, borderMode=cv2.BORDER_REPLICATE)
        cover = cv2.remap(self.cover, *at, flags, borderMode=cv2.BORDER_CONSTANT)
        return np.asarray(colours, np.float32), np.asarray(cover, np.float32)

    def edge(self, x: Map) -> Map:
        """Height (mm, downward) of the row's lower edge at `x` (mm), extrapolated."""
        a, b, c = self.arch
        return (a + b * x + c * x * x).astype(np.float32)


def _tooth_cover(mask: Pixels, arch: Array, scale: float) -> Map:
    """Opacity: 1 above each column's lowest tooth pixel, soft at the edges.

    `arch` (columns,) is the fitted edge; the mask's edge is clipped to a range around it.
    """
    columns, lowest = _lowest_rows(mask)
    edge = np.interp(np.arange(mask.shape[1]), columns, lowest).astype(np.float32)
    width = max(round(3 * scale) | 1, 3)
    edge = np.median(sliding_window_view(np.pad(edge, width // 2, "edge"), width), axis=1)
    edge = np.clip(edge, arch - 0.5 * scale, arch + 0.4 * scale)
    edge = cv2.GaussianBlur(np.array([edge], np.float32), (0, 0), 0.6 * scale)
    down = np.arange(len(mask), dtype=np.float32)[:, None]
    cover = np.clip((edge - down) / (0.5 * scale) + 0.5, 0, 1)
    side = cv2.GaussianBlur(np.array([mask.any(0)], np.float32), (0, 0), 0.8 * scale)
    return (cover * side).astype(np.float32)


def _lowest_rows(mask: Pixels) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """The columns with teeth, and the lowest row with teeth in each."""
    columns = np.flatnonzero(mask.any(0))
    return columns, len(mask) - 1 - np.argmax(mask[::-1, columns], axis=0)


def _fit_arch(x: Array, y: Array) -> Array:
    """Robust fit of a parabola (3,), raised at the sides, to tooth edges; some columns show a lip
    or a lower tooth instead."""
    inliers = np.ones(len(x), bool)
    fit = np.zeros(3)
    for _ in range(4):
        bend = float(np.polyfit(x[inliers], y[inliers], 2)[0]) if inliers.sum() > 8 else 0.0
        bend = float(np.clip(bend, -0.02, 0.0))
        slope, height = np.polyfit(x[inliers], y[inliers] - bend * x[inliers] ** 2, 1)
        fit = np.array([height, float(np.clip(slope, -0.15, 0.15)), bend])
        off = np.abs(y - (fit[0] + fit[1] * x + fit[2] * x * x))
        inliers = off <= max(float(np.percentile(off, 70)), 0.3)
    return fit


def _extrapolate(patch: Map, mask: Pixels, scale: float) -> Map:
    """Colours extended beyond the mask by normalised convolution with growing kernels."""
    weight = mask.astype(np.float32)
    colour = patch * weight[..., None]
    out = colour.copy()
    known = weight.copy()
    for spread in (0.6, 1.5, 4.0, 12.0):
        blurred = cv2.GaussianBlur(colour, (0, 0), spread * scale)
        share = cv2.GaussianBlur(weight, (0, 0), spread * scale)
        take = (known == 0) & (share > 0.02)
        out[take] = blurred[take] / share[take][:, None]
        known[take] = 1
    return out


def _upper_row(mask: NDArray[np.bool_], scale: float) -> Pixels:
    """The topmost run of each column of a mask; lower runs are lower teeth or lip."""
    close = np.ones((round(0.5 * scale) | 1,) * 2, np.uint8)
    whole = np.asarray(cv2.morphologyEx(mask.astype(np.uint8), cv2.MORPH_CLOSE, close), np.uint8)
    first = np.argmax(whole, axis=0)
    down = np.arange(len(whole))[:, None]
    ended = np.maximum.accumulate((down > first) & (whole == 0), axis=0)
    return np.where(ended, 0, whole).astype(np.uint8)


def interior_painter(
    palette: Palette, shape: MouthShape, opening: Opening, own_teeth: Teeth | None = None
) -> Paint:
    """A function that paints one frame's interior; `own_teeth` are the person's, where known."""
    pixel = 0.6 / opening.scale
    soft = max(0.35, pixel)

    def paint(x: Map, y: Map) -> Map:
        up, low = opening.edges(x)
        gap = np.maximum(low - up, 0.0)
        # The floor of the mouth catches more light than its back.
        floor = 0.75 + 0.6 * _ramp(y - up - 0.75 * gap, 0.5 * gap + 0.3)
        out = np.multiply(palette.cavity, floor[..., None])
        jaw = shape.jaw
        a = np.abs(x)
        half = max(float(abs(opening.x[0])), 1.0)
        # Tongue: a soft mound, its tip rises for t, d, l, th.
        top = 3.4 + 0.42 * jaw - (2.4 + 0.2 * jaw) * shape.tongue + 0.014 * x * x
        mound = 0.9 * _ramp(y - top, max(1.5, pixel)) * _ramp(18 - a, 4.0)
        shade = np.clip(0.68 + 0.07 * (y - top), 0.5, 1.0)
        out = _blend(out, mound, palette.tongue * shade[..., None])
        # Lower teeth go with the jaw: of a wide mouth they show their edges.
        fine = min(opening.scale / 2, 1.0)
        edge = _UPPER_EDGE_MM + 0.5 + 0.95 * jaw - 0.008 * x * x
        lower = 0.92 * _ramp(y - edge, soft) * _ramp(19 - a, 3.0)
        split = np.abs(a / _LOWER_TOOTH_MM - np.rint(a / _LOWER_TOOTH_MM)) * _LOWER_TOOTH_MM
        # The lip's shadow darkens their lower part and hides the lines between them.
        depth = np.clip(y - edge, 0, 8)
        line = 0.13 * fine * _ramp(0.4 - split, max(0.4, pixel)) * (1 - depth / 10)
        tone = (0.8 - 0.013 * a) * (1 - line) * (1 - 0.045 * depth)
        white = palette.teeth if own_teeth is None else 0.92 * own_teeth.tone
        out = _blend(out, lower, white * tone[..., None])
        # Upper teeth. Beside the person's own teeth, painted ones extend the row, without gaps.
        if own_teeth is None:
            row = _UPPER_EDGE_MM - 0.009 * x * x + 0.25 * _tooth_scallop(x)
            lines = 1 - 0.16 * _tooth_gap_lines(x, max(0.3, pixel)) * fine
        else:
            row, lines = own_teeth.edge(x), 1.0
        # At the sides the lip bares them too, but not in the corner.
        row = np.maximum(row, up + 1.6 * _ramp(a - 9, 3.0) * _ramp(half - 7 - a, 4.0))
        upper = _ramp(row - y, soft) * _ramp(26 - a, 2.0)
        # Shading of a rounded surface: lighter below, darker towards the gums.
        tone = (0.97 - 0.0009 * x * x) * lines * (1 - 0.02 * np.clip(row - y, 0, 8))
        out = _blend(out, upper, white * tone[..., None])
        if own_teeth is not None:
            colours, cover = own_teeth(x, y)
            out = _blend(out, cover, colours)
        # Lips shade the interior, the upper lip most; so do a small gap and the turn of the arch.
        # Dark parts retain the red of the lips' inside.
        dark = 0.68 + 0.32 * _ramp(y - up - 0.8, 1.2)
        dark *= 0.85 + 0.15 * _ramp(low - y - 0.7, 0.9)
        dark *= 0.82 + 0.18 * _ramp(gap - 2.6, 1.8)
        dark += 0.6 * shape.teeth * (1 - dark)  # f and v bare the teeth to the light
        side = 1 - a / half
        turned = 1 - _ramp(side - 0.2, 0.2)
        dark *= 1 - 0.5 * turned
        out = out * dark[..., None] + (0.36 * (1 - dark))[..., None] * palette.lip
        out = _blend(out, 0.75 * turned, palette.lip * 0.45)
        # The rim shows the wet inside of the lip; a narrow gap shows nothing else.
        rim = 0.5 * (1 - _ramp(np.minimum(y - up, low - y) - 0.35, 0.45))
        narrow = 1 - _ramp(gap - 1.0 + 0.5 * shape.teeth, 0.8)
        return _blend(out, np.maximum(rim, narrow), palette.lip * 0.5)

    return paint


def _blend(under: Map, cover: Map, colours: Map) -> Map:
    return under + cover[..., None] * (colours - under)


def _tooth_scallop(x: Map) -> Map:
    """0 at the gaps between teeth, 1 at the middle of each tooth's edge."""
    a = np.abs(x)
    index = np.clip(np.searchsorted(_TOOTH_GAPS_MM, a) - 1, 0, len(_TOOTH_GAPS_MM) - 2)
    start, end = _TOOTH_GAPS_MM[index], _TOOTH_GAPS_MM[index + 1]
    t = np.clip((a - start) / (end - start), 0, 1)
    return (1 - (2 * t - 1) ** 4).astype(np.float32)


def _tooth_gap_lines(x: Map, soft: float) -> Map:
    """1 on the lines between teeth, 0 on teeth."""
    near = np.abs(np.abs(x)[..., None] - _TOOTH_GAPS_MM).min(-1)
    return np.exp(-((near / soft) ** 2)).astype(np.float32)
