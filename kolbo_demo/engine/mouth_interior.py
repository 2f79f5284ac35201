"""The inside of the mouth: cavity, tongue and teeth, painted in millimetres on the skull.

Upper teeth stay with the skull, lower teeth and tongue go with the jaw, so that they do not swim
with the lips. Colours are taken from the face itself: a grey photograph gets grey teeth.
"""

from dataclasses import dataclass
from typing import ClassVar

import cv2
import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from kolbo_demo.engine.head_pose import LOWER_INNER, LOWER_OUTER, UPPER_INNER, UPPER_OUTER, Array
from kolbo_demo.engine.mouth_warp import Opening, Paint, Shape
from kolbo_demo.engine.thin_plate import Map, Pixels

Colour = NDArray[np.floating]

# Millimetres from the middle of the tooth row to each gap between upper teeth, as seen from the
# front (the arch turns away, so they get narrower).
_TOOTH_GAPS = np.array([0.0, 8.4, 14.6, 20.4, 24.4, 27.2])
_LOWER_TOOTH = 5.3
"""Millimetres across a lower front tooth."""
_EYES = ((33, 468), (133, 468), (362, 473), (263, 473))
"""Corner and iris of each eye: white lies between them."""
_LUMA = np.array([0.299, 0.587, 0.114], np.float32)
_EDGE = 1.5
"""Millimetres from the seam at rest down to the upper front teeth's edge."""


@dataclass(frozen=True)
class Palette:
    """RGB colours (3,) 0-255 of one person's mouth."""

    lip: Colour
    cavity: Colour
    tongue: Colour
    teeth: Colour

    @classmethod
    def of(cls, rgb: Pixels, points: Array) -> "Palette":
        """Colours from the lips and the skin of a picture; `points` (478, 2+) pixels."""
        p = points[:, :2]
        lip = _median(rgb, p[[*LOWER_OUTER[2:9]]] * 0.5 + p[[*LOWER_INNER[2:9]]] * 0.5)
        upper = _median(rgb, p[[*UPPER_OUTER[2:9]]] * 0.5 + p[[*UPPER_INNER[2:9]]] * 0.5)
        lip = (lip + upper) / 2
        skin = _median(rgb, p[[50, 280, 205, 425, 36, 266, 101, 330]])
        light = max(float(skin @ _LUMA), 1.0)
        # White under the light that falls on the skin: as bright as it, half as tinted; and tinted
        # as the white of the eyes is.
        tan = np.maximum(skin, 1) / light
        tint = np.sqrt(tan)
        eyes = np.array([_colour(rgb, at) for at in (p[a] + 0.3 * (p[b] - p[a]) for a, b in _EYES)])
        eye = np.median(eyes[np.argsort(eyes @ _LUMA)[2:]], axis=0)
        if float(eye @ _LUMA) > 0.5 * light:
            # (a small eye's white may be anything: no less than a third as tinted as the skin)
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


def _colour(rgb: Pixels, at: Array) -> Colour:
    """Colours (..., 3) of the pixels nearest to points (..., 2)."""
    height, width = rgb.shape[:2]
    x, y = np.moveaxis(np.clip(np.rint(at).astype(int), 0, (width - 1, height - 1)), -1, 0)
    return rgb[y, x].astype(np.float32)


def _median(rgb: Pixels, at: Array) -> Colour:
    return np.asarray(np.median(_colour(rgb, at), axis=0), np.float32)


def _step(value: Map, soft: float | Map) -> Map:
    """0 below -soft, 1 above soft, smooth between."""
    v = np.clip(value / (2 * soft) + 0.5, 0, 1)
    return v * v * (3 - 2 * v)


@dataclass(frozen=True)
class Teeth:
    """The upper teeth that a picture shows, straightened onto mouth millimetres.

    Above what is seen they go on under the lip; below their edges there is nothing.
    """

    LEFT: ClassVar = -34.0
    TOP: ClassVar = -16.0
    RIGHT: ClassVar = 34.0
    BOTTOM: ClassVar = 18.0
    NARROWEST: ClassVar = 0.45
    """Of the mouth's width: less is no row of teeth."""

    colours: Map
    """RGB 0-255, (rows, columns, 3), from LEFT, TOP on."""
    cover: Map
    """0-1, (rows, columns)."""
    scale: float
    """Rows and columns a millimetre."""
    arch: Array
    """(3,): height (mm, downward) of the row's lower edge as a polynomial of mm from the middle."""
    tone: Colour
    """RGB (3,): what teeth beside those that are seen look like."""

    @classmethod
    def of(cls, colours: Map, mask: Pixels, scale: float) -> "Teeth":
        """From a patch of colours and a mask of teeth, both `scale` pixels a millimetre."""
        columns, lowest = _lowest(mask)
        arch = _arch(columns / scale + cls.LEFT, lowest / scale + cls.TOP)
        line = np.polyval(arch[::-1], np.arange(mask.shape[1]) / scale + cls.LEFT) - cls.TOP
        cover = _cover(mask, line * scale, scale)
        tone = np.median(colours[mask > 0], axis=0).astype(np.float32)
        return cls(_filled(colours, mask, scale), cover, scale, arch, tone)

    @classmethod
    def shown(cls, rgb: Pixels, points: Array, to_mm: Array, scale: float) -> "Teeth | None":
        """Teeth out of a picture, or None where under a third of its open mouth shows any.

        `points` (478, 2+) pixels; `to_mm` (2, 3) from pixels to mouth millimetres; `scale` pixels
        a millimetre.
        """
        fine = float(np.clip(2 * scale, 2.0, 8.0))
        size = round((cls.RIGHT - cls.LEFT) * fine), round((cls.BOTTOM - cls.TOP) * fine)
        patch_to_mm = np.array([[1 / fine, 0, cls.LEFT], [0, 1 / fine, cls.TOP]])
        back = np.linalg.inv(to_mm[:, :2])
        patch_to_px = np.column_stack(
            [back @ patch_to_mm[:, :2], back @ (patch_to_mm[:, 2] - to_mm[:, 2])]
        )
        flags = cv2.INTER_CUBIC | cv2.WARP_INVERSE_MAP
        patch = cv2.warpAffine(rgb, patch_to_px, size, flags=flags, borderMode=cv2.BORDER_REPLICATE)
        rings = [points[list(ring), :2] for ring in (UPPER_INNER, LOWER_INNER)]
        upper, lower = (
            (r @ to_mm[:, :2].T + to_mm[:, 2] - (cls.LEFT, cls.TOP)) * fine for r in rings
        )
        if float((lower[:, 1] - upper[:, 1]).max()) < 2.5 * fine:
            return None
        opening = np.zeros(size[::-1], np.uint8)
        cv2.fillPoly(opening, [np.rint(np.concatenate([upper, lower[::-1]])).astype(np.int32)], 1)
        opening = cv2.erode(opening, np.ones((max(round(0.7 * fine), 1),) * 2, np.uint8))
        colours = patch.astype(np.float32)
        light = colours @ _LUMA
        redness = colours[..., 0] - colours[..., 1:].mean(-1)
        inside = opening > 0
        if inside.sum() < 40:
            return None
        # Teeth are the brightest there, and no redder than half-way to the lips.
        lightest = inside & (light >= np.percentile(light[inside], 88))
        red = float(np.median(redness[lightest]))
        lip = float(np.percentile(redness[inside], 92))
        bright = inside & (light > 0.58 * float(np.percentile(light[inside], 97)))
        bright &= redness <= red + 0.5 * max(lip - red, 12.0)
        if bright.sum() < 0.3 * inside.sum():
            return None
        upper_row = _uppermost(bright, fine)
        if upper_row.any(0).sum() < cls.NARROWEST * np.ptp(upper[:, 0]):
            return None
        # White among skin: what is tinted like it is a lip, or a face too small to tell.
        cheeks = _median(rgb, points[[50, 280, 205, 425], :2])
        tinted = float(np.ptp(cheeks) / max(cheeks.max(), 1.0))
        tone = np.median(colours[upper_row > 0], axis=0)
        if tinted > 0.15 and float(np.ptp(tone) / max(tone.max(), 1.0)) > 0.8 * tinted:
            return None
        return cls.of(colours, upper_row, fine)

    def __call__(self, x: Map, y: Map) -> tuple[Map, Map]:
        """Colours (..., 3) and cover 0-1 (...) at mouth millimetres."""
        at = (
            ((x - self.LEFT) * self.scale).astype(np.float32),
            ((y - self.TOP) * self.scale).astype(np.float32),
        )
        flags = cv2.INTER_LINEAR
        colours = cv2.remap(self.colours, *at, flags, borderMode=cv2.BORDER_REPLICATE)
        cover = cv2.remap(self.cover, *at, flags, borderMode=cv2.BORDER_CONSTANT)
        return np.asarray(colours, np.float32), np.asarray(cover, np.float32)

    def edge(self, x: Map) -> Map:
        """Height (mm, downward) of the row's lower edge at `x` (mm), seen or not."""
        a, b, c = self.arch
        return (a + b * x + c * x * x).astype(np.float32)


def _cover(mask: Pixels, arch: Array, fine: float) -> Map:
    """1 from each column's lowest tooth upward, soft at the edge and at the sides; what strays from
    the arch (a row for each column) is the mask's doing."""
    columns, lowest = _lowest(mask)
    edge = np.interp(np.arange(mask.shape[1]), columns, lowest).astype(np.float32)
    width = max(round(3 * fine) | 1, 3)
    edge = np.median(sliding_window_view(np.pad(edge, width // 2, "edge"), width), axis=1)
    edge = np.clip(edge, arch - 0.5 * fine, arch + 0.4 * fine)
    edge = cv2.GaussianBlur(np.array([edge], np.float32), (0, 0), 0.6 * fine)
    down = np.arange(len(mask), dtype=np.float32)[:, None]
    cover = np.clip((edge - down) / (0.5 * fine) + 0.5, 0, 1)
    side = cv2.GaussianBlur(np.array([mask.any(0)], np.float32), (0, 0), 0.8 * fine)
    return (cover * side).astype(np.float32)


def _lowest(mask: Pixels) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """The columns that show teeth, and the lowest row that does in each."""
    columns = np.flatnonzero(mask.any(0))
    return columns, len(mask) - 1 - np.argmax(mask[::-1, columns], axis=0)


def _arch(x: Array, y: Array) -> Array:
    """(3,): the parabola, arched upward at the sides, on which most edges lie; some columns show a
    lip or a lower tooth."""
    kept = np.ones(len(x), bool)
    fit = np.zeros(3)
    for _ in range(4):
        bend = float(np.polyfit(x[kept], y[kept], 2)[0]) if kept.sum() > 8 else 0.0
        bend = float(np.clip(bend, -0.02, 0.0))
        slope, height = np.polyfit(x[kept], y[kept] - bend * x[kept] ** 2, 1)
        fit = np.array([height, float(np.clip(slope, -0.15, 0.15)), bend])
        off = np.abs(y - (fit[0] + fit[1] * x + fit[2] * x * x))
        kept = off <= max(float(np.percentile(off, 70)), 0.3)
    return fit


def _filled(patch: Map, mask: Pixels, fine: float) -> Map:
    """The masked colours carried on beyond the mask (normalised blurring, coarser and coarser)."""
    weight = mask.astype(np.float32)
    colour = patch * weight[..., None]
    out = colour.copy()
    known = weight.copy()
    for spread in (0.6, 1.5, 4.0, 12.0):
        blurred = cv2.GaussianBlur(colour, (0, 0), spread * fine)
        share = cv2.GaussianBlur(weight, (0, 0), spread * fine)
        take = (known == 0) & (share > 0.02)
        out[take] = blurred[take] / share[take][:, None]
        known[take] = 1
    return out


def _uppermost(mask: NDArray[np.bool_], fine: float) -> Pixels:
    """Only each column's first run from above: what is under a gap are lower teeth or lip."""
    close = np.ones((round(0.5 * fine) | 1,) * 2, np.uint8)
    whole = np.asarray(cv2.morphologyEx(mask.astype(np.uint8), cv2.MORPH_CLOSE, close), np.uint8)
    first = np.argmax(whole, axis=0)
    down = np.arange(len(whole))[:, None]
    ended = np.maximum.accumulate((down > first) & (whole == 0), axis=0)
    return np.where(ended, 0, whole).astype(np.uint8)


def painter(palette: Palette, shape: Shape, opening: Opening, shown: Teeth | None = None) -> Paint:
    """What paints this frame's mouth; `shown` are the person's own teeth, where known."""
    pixel = 0.6 / opening.scale
    soft = max(0.35, pixel)

    def paint(x: Map, y: Map) -> Map:
        up, low = opening.edges(x)
        gap = np.maximum(low - up, 0.0)
        # The floor of the mouth catches more light than its back.
        floor = 0.75 + 0.6 * _step(y - up - 0.75 * gap, 0.5 * gap + 0.3)
        out = np.multiply(palette.cavity, floor[..., None])
        jaw = shape.jaw
        a = np.abs(x)
        half = max(float(abs(opening.x[0])), 1.0)
        # Tongue: a soft mound, its tip rises for t, d, l, th.
        top = 3.4 + 0.42 * jaw - (2.4 + 0.2 * jaw) * shape.tongue + 0.014 * x * x
        mound = 0.9 * _step(y - top, max(1.5, pixel)) * _step(18 - a, 4.0)
        shade = np.clip(0.68 + 0.07 * (y - top), 0.5, 1.0)
        out = _over(out, mound, palette.tongue * shade[..., None])
        # Lower teeth go with the jaw: of a wide mouth they show their edges.
        fine = min(opening.scale / 2, 1.0)
        edge = _EDGE + 0.5 + 0.95 * jaw - 0.008 * x * x
        lower = 0.92 * _step(y - edge, soft) * _step(19 - a, 3.0)
        split = np.abs(a / _LOWER_TOOTH - np.rint(a / _LOWER_TOOTH)) * _LOWER_TOOTH
        # The lip's own shadow lies on their lower part, where the lines between them drown.
        depth = np.clip(y - edge, 0, 8)
        line = 0.13 * fine * _step(0.4 - split, max(0.4, pixel)) * (1 - depth / 10)
        tone = (0.8 - 0.013 * a) * (1 - line) * (1 - 0.045 * depth)
        white = palette.teeth if shown is None else 0.92 * shown.tone
        out = _over(out, lower, white * tone[..., None])
        # Upper teeth; where some are seen, the others carry their row on, too dark to show gaps.
        if shown is None:
            row = _EDGE - 0.009 * x * x + 0.25 * _scallop(x)
            lines = 1 - 0.16 * _gaps(x, max(0.3, pixel)) * fine
        else:
            row, lines = shown.edge(x), 1.0
        # At the sides the lip bares them too, but not in the corner.
        row = np.maximum(row, up + 1.6 * _step(a - 9, 3.0) * _step(half - 7 - a, 4.0))
        upper = _step(row - y, soft) * _step(26 - a, 2.0)
        # They are round and stand in the lip's light: paler below, deeper towards the gums.
        tone = (0.97 - 0.0009 * x * x) * lines * (1 - 0.02 * np.clip(row - y, 0, 8))
        out = _over(out, upper, white * tone[..., None])
        if shown is not None:
            colours, cover = shown(x, y)
            out = _over(out, cover, colours)
        # Lips shade what lies behind them, the upper one most, a small gap all of it; so does the
        # turn of the arch. Where it is dark there is still the red of the lips' inside.
        dark = 0.68 + 0.32 * _step(y - up - 0.8, 1.2)
        dark *= 0.85 + 0.15 * _step(low - y - 0.7, 0.9)
        dark *= 0.82 + 0.18 * _step(gap - 2.6, 1.8)
        dark += 0.6 * shape.teeth * (1 - dark)  # f and v bare the teeth to the light
        side = 1 - a / half
        turned = 1 - _step(side - 0.2, 0.2)
        dark *= 1 - 0.5 * turned
        out = out * dark[..., None] + (0.36 * (1 - dark))[..., None] * palette.lip
        out = _over(out, 0.75 * turned, palette.lip * 0.45)
        # Wet lip turns inward at the rim, and where the lips all but meet there is only lip.
        rim = 0.5 * (1 - _step(np.minimum(y - up, low - y) - 0.35, 0.45))
        narrow = 1 - _step(gap - 1.0 + 0.5 * shape.teeth, 0.8)
        return _over(out, np.maximum(rim, narrow), palette.lip * 0.5)

    return paint


def _over(under: Map, cover: Map, colours: Map) -> Map:
    return under + cover[..., None] * (colours - under)


def _scallop(x: Map) -> Map:
    """0 at the gaps between teeth, 1 at the middle of each tooth's edge."""
    a = np.abs(x)
    index = np.clip(np.searchsorted(_TOOTH_GAPS, a) - 1, 0, len(_TOOTH_GAPS) - 2)
    start, end = _TOOTH_GAPS[index], _TOOTH_GAPS[index + 1]
    t = np.clip((a - start) / (end - start), 0, 1)
    return (1 - (2 * t - 1) ** 4).astype(np.float32)


def _gaps(x: Map, soft: float) -> Map:
    """1 on the lines between teeth, 0 on teeth."""
    near = np.abs(np.abs(x)[..., None] - _TOOTH_GAPS).min(-1)
    return np.exp(-((near / soft) ** 2)).astype(np.float32)
