"""The upper teeth that a picture shows: by far the most convincing ones."""

from dataclasses import dataclass
from typing import ClassVar

import cv2
import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from kolbo_demo.engine.head_pose import LOWER_INNER, UPPER_INNER, Array
from kolbo_demo.engine.mouth_colours import LUMA, Colour, median_colour
from kolbo_demo.engine.thin_plate import Map, Pixels


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
        light = colours @ LUMA
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
        cheeks = median_colour(rgb, points[[50, 280, 205, 425], :2])
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
