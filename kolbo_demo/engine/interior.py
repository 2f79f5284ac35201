"""The inside of the mouth: cavity, tongue and teeth, painted in millimetres on the skull.

Upper teeth stay with the skull, lower teeth and tongue go with the jaw, so that they do not swim
with the lips. Colours are taken from the face itself: a grey photograph gets grey teeth.
"""

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import median_filter

from kolbo_demo.engine.deform import Opening, Paint, Shape
from kolbo_demo.engine.head import LOWER_INNER, LOWER_OUTER, UPPER_INNER, UPPER_OUTER, Array
from kolbo_demo.engine.warp import Map, Pixels

Colour = NDArray[np.floating]

# Millimetres from the middle of the tooth row to each gap between upper teeth, as seen from the
# front (the arch turns away, so they get narrower).
_TOOTH_GAPS = np.array([0.0, 8.4, 14.6, 20.4, 24.4, 27.2])
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
        # White under the light that falls on the skin: as bright as it, half as tinted.
        white = np.clip(0.62 * light + 66, 35, 222) * np.sqrt(np.maximum(skin, 1) / light)
        redder = lip + 0.35 * (lip - float(lip @ _LUMA))
        return cls(
            lip=lip,
            cavity=np.clip(0.26 * redder, 3, 70).astype(np.float32),
            tongue=np.clip(0.74 * redder + 4, 0, 215).astype(np.float32),
            teeth=np.clip(white, 0, 240).astype(np.float32),
        )


def _median(rgb: Pixels, at: Array) -> Colour:
    height, width = rgb.shape[:2]
    x = np.clip(np.rint(at[:, 0]).astype(int), 0, width - 1)
    y = np.clip(np.rint(at[:, 1]).astype(int), 0, height - 1)
    return np.median(rgb[y, x], axis=0).astype(np.float32)


def _step(value: Map, soft: float | Map) -> Map:
    """0 below -soft, 1 above soft, smooth between."""
    v = np.clip(value / (2 * soft) + 0.5, 0, 1)
    return v * v * (3 - 2 * v)


class Teeth:
    """The upper teeth that a picture shows, straightened onto mouth millimetres.

    Above what is seen they go on under the lip; below their edges there is nothing.
    """

    LEFT, TOP, RIGHT, BOTTOM = -34.0, -16.0, 34.0, 18.0

    def __init__(self, colours: Map, cover: Map, scale: float) -> None:
        self._colours, self._cover, self._scale = colours, cover, scale

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
        return cls(
            _filled(np.asarray(patch, np.uint8), upper_row, fine), _cover(upper_row, fine), fine
        )

    def __call__(self, x: Map, y: Map) -> tuple[Map, Map]:
        """Colours (..., 3) and cover 0-1 (...) at mouth millimetres."""
        at = (
            ((x - self.LEFT) * self._scale).astype(np.float32),
            ((y - self.TOP) * self._scale).astype(np.float32),
        )
        flags = cv2.INTER_LINEAR
        colours = cv2.remap(self._colours, *at, flags, borderMode=cv2.BORDER_REPLICATE)
        cover = cv2.remap(self._cover, *at, flags, borderMode=cv2.BORDER_CONSTANT)
        return np.asarray(colours, np.float32), np.asarray(cover, np.float32)


def _filled(patch: Pixels, mask: Pixels, fine: float) -> Map:
    """The masked colours carried on beyond the mask (normalised blurring, coarser and coarser)."""
    weight = mask.astype(np.float32)
    colour = patch.astype(np.float32) * weight[..., None]
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


def _cover(mask: Pixels, fine: float) -> Map:
    """1 from each column's lowest tooth upward, soft at the edge and at the sides."""
    rows = mask.shape[0]
    has = mask.any(0)
    columns = np.flatnonzero(has)
    lowest = rows - 1 - np.argmax(mask[::-1, columns], axis=0)
    edge = np.interp(np.arange(mask.shape[1]), columns, lowest).astype(np.float32)
    # A tooth is 5 to 8 mm wide: what is ragged within 3 mm is the mask's doing.
    edge = median_filter(edge, max(round(3 * fine) | 1, 3), mode="nearest")
    edge = cv2.GaussianBlur(np.array([edge]), (0, 0), 0.4 * fine)
    down = np.arange(rows, dtype=np.float32)[:, None]
    cover = np.clip((edge - down) / (0.5 * fine) + 0.5, 0, 1)
    side = cv2.GaussianBlur(np.array([has], np.float32), (0, 0), 0.8 * fine)
    return (cover * side).astype(np.float32)


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
        # Tongue: a soft mound, its tip rises for t, d, l, th.
        top = 3.9 + 0.42 * jaw - (2.6 + 0.12 * jaw) * shape.tongue + 0.014 * x * x
        mound = 0.85 * _step(y - top, max(1.5, pixel)) * _step(18 - np.abs(x), 4.0)
        shade = np.clip(0.42 + 0.07 * (y - top), 0.36, 0.8)
        out = _over(out, mound, palette.tongue * shade[..., None])
        # Lower teeth, seldom more than their edges.
        edge = _EDGE + 1.6 + 0.95 * jaw - 0.006 * x * x
        lower = 0.9 * _step(y - edge, soft) * _step(20 - np.abs(x), 2.5)
        out = _over(out, lower, palette.teeth * (0.6 - 0.01 * np.abs(x))[..., None])
        if shown is not None:
            colours, cover = shown(x, y)
            out = _over(out, cover, colours)
        else:
            edge = _EDGE - 0.009 * x * x + 0.25 * _scallop(x)
            upper = _step(edge - y, soft) * _step(26 - np.abs(x), 2.0)
            lines = 1 - 0.16 * _gaps(x, max(0.3, pixel)) * min(opening.scale / 2, 1.0)
            tone = (0.95 - 0.0007 * x * x) * lines
            out = _over(out, upper, palette.teeth * tone[..., None])
        # Lips shade what lies behind them, the upper one most; so does the turn of the arch.
        dark = 0.6 + 0.4 * _step(y - up - 1.0, 1.3)
        dark *= 0.8 + 0.2 * _step(low - y - 0.7, 0.9)
        side = 1 - np.abs(x) / max(float(abs(opening.x[0])), 1.0)
        dark *= 0.6 + 0.4 * _step(side - 0.2, 0.22)
        out = out * dark[..., None]
        # Wet lip turns inward at the rim, and where the lips all but meet there is only lip.
        rim = 0.5 * (1 - _step(np.minimum(y - up, low - y) - 0.35, 0.45))
        narrow = 1 - _step(gap - 1.0, 0.9)
        return _over(out, np.maximum(rim, narrow), palette.lip * 0.45)

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
