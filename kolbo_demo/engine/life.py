"""What a still needs to live: small head motion, breath, brows, and blinks at human intervals.

All of it follows from the voice alone, so the same inputs give the same video.
"""

import zlib
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter1d

from kolbo_demo.engine.directions import Directions
from kolbo_demo.engine.head import Array, Pose
from kolbo_demo.engine.speech import HOP
from kolbo_demo.engine.warp import Box, Map, Pixels, sampled

BLINK_EVERY = 2.0, 6.0
"""Seconds between blinks, drawn evenly. People blink 10 to 20 times a minute while talking."""
BLINK_MOVES = 0.7
"""Seconds by which a blink may come sooner or later, to fall where the voice rests: people blink
where a phrase ends."""
BLINK_CLOSE, BLINK_HOLD, BLINK_OPEN = 0.08, 0.04, 0.16
"""Seconds a lid takes down, stays, and takes up."""
MIN_EYE = 3.0
"""Millimetres between the lids under which an eye is left alone."""
LASHES = 2.2
"""Millimetres above the lid's edge that lashes and liner take."""
SMEAR = (-2.6, -1.3, 1.3, 2.6)
"""Millimetres sideways from which a stretched lid is mixed as well, so that it shows no streaks."""
LID_SHADE = 0.05
"""How much darker a lid is that has turned down from the light."""
BREATH, BREATHE_EVERY = 0.5, 3.9
"""Millimetres by which breathing lifts the head, and seconds of a breath."""
BROWS = 1.1
"""Millimetres that brows rise on the most stressed syllables."""

PIVOT = 105.0
"""Millimetres below the nose around which the head turns: the neck."""

# Lids and brow from the picture's left to its right, for both eyes.
_EYES = (
    ((33, 246, 161, 160, 159, 158, 157, 173, 133),
     (33, 7, 163, 144, 145, 153, 154, 155, 133), (46, 53, 52, 65, 55)),
    ((362, 398, 384, 385, 386, 387, 388, 466, 263),
     (362, 382, 381, 380, 374, 373, 390, 249, 263), (285, 295, 282, 283, 276)),
)  # fmt: skip


@dataclass(frozen=True)
class Life:
    """One value a frame: shift of the head (mm), roll (radians), lids (0 open, 1 shut), and how far
    the brows are raised (mm)."""

    shift: NDArray[np.float64]
    roll: NDArray[np.float64]
    lids: NDArray[np.float64]
    brows: NDArray[np.float64]

    @classmethod
    def of(cls, level: NDArray[np.float32], fps: float, frames: int) -> "Life":
        """Motion for a voice; `level` is its loudness in decibels each 10 ms."""
        random = np.random.default_rng(zlib.crc32(level.tobytes()))
        time = np.arange(frames) / fps
        stress = gaussian_filter1d(np.clip((level - np.percentile(level, 60)) / 20, -1, 1), 12.0)
        nod = np.interp(time, np.arange(len(stress)) * HOP, stress)
        start = np.clip(time / 0.6, 0, 1)  # from where the picture has the head

        def drift(seconds: float, size: float) -> NDArray[np.float64]:
            steps = max(int(np.ceil(frames / fps * 10)) + 40, 60)
            noise = gaussian_filter1d(random.standard_normal(steps), seconds * 10)
            noise /= max(float(noise.std()), 1e-6)
            return size * start * np.interp(time, np.arange(steps) / 10, noise)

        x = drift(0.8, 0.9)
        y = drift(0.7, 0.5) + 0.9 * nod * start
        y -= BREATH * start * np.sin(2 * np.pi * (time / BREATHE_EVERY + random.random()))
        roll, lids = drift(0.9, 0.011), _blinks(random, time, nod)
        return cls(np.stack([x, y], 1), roll, lids, BROWS * start * _stressed(level, time))

    def directed(self, directions: Directions) -> "Life":
        """The same life, with the head and the lids as they were told."""
        return Life(
            self.shift * directions.head,
            self.roll * directions.head,
            self.lids if directions.blinks else np.zeros_like(self.lids),
            self.brows * min(directions.head, 1.5),
        )


def _stressed(level: NDArray[np.float32], time: NDArray[np.float64]) -> NDArray[np.float64]:
    """0-1: where the voice is louder than in the second around it, as on a stressed syllable."""
    loud = gaussian_filter1d(np.maximum(level, np.percentile(level, 95) - 30).astype(float), 8.0)
    over = loud - gaussian_filter1d(loud, 60.0)
    beat = np.clip((over - 2.0) / 8.0, 0, 1)
    return np.interp(time, np.arange(len(beat)) * HOP, gaussian_filter1d(beat, 7.0))


def _blinks(
    random: np.random.Generator, time: NDArray[np.float64], stress: NDArray[np.float64]
) -> NDArray[np.float64]:
    lids = np.zeros(len(time))
    at = 0.8 + random.uniform(0, 1.2)
    while at < time[-1] - 0.1 if len(time) else False:
        near = np.flatnonzero(np.abs(time - at) <= min(BLINK_MOVES, at))
        # Of equal rests the one nearest to when the blink was due.
        rest = near[(stress[near] + 0.05 * np.abs(time[near] - at)).argmin()] if len(near) else 0
        since = time - time[rest]
        down = np.clip(since / BLINK_CLOSE, 0, 1)
        up = np.clip((since - BLINK_CLOSE - BLINK_HOLD) / BLINK_OPEN, 0, 1)
        lids = np.maximum(lids, down * (1 - up * up * (3 - 2 * up)))
        at += random.uniform(*BLINK_EVERY)
    return lids


class Sway:
    """Moves a head in its picture, fading out into the background."""

    def __init__(self, pose: Pose, size: tuple[int, int], points: Array) -> None:
        """`size` is the picture's (height, width), `points` (478, 2+) the landmarks in pixels."""
        self._pose, self._size = pose, size
        self._axes = pose.matrix[:2, :2]
        self._back = np.linalg.inv(self._axes)
        self._origin = pose.shift[:2]
        rim = np.array([(x, y) for x in (-150.0, 150.0) for y in (-205.0, 165.0)])
        corners = rim @ self._axes.T + self._origin
        low = np.maximum(np.floor(corners.min(0)), 0).astype(int)
        high = np.minimum(np.ceil(corners.max(0)), (size[1], size[0])).astype(int)
        self.box: Box = (int(low[0]), int(low[1]), int(high[0]), int(high[1]))
        brows = [points[list(brow), :2].mean(0) for _, _, brow in _EYES]
        mm = [(self._nodes()[2] - brow) @ self._back.T for brow in brows]
        self._brows = sum(np.exp(-((d[:, 0] / 20) ** 2) - (d[:, 1] / 9) ** 2) for d in mm)

    def _nodes(self) -> tuple[int, int, Array]:
        """Rows and columns of a grid over the box, and its nodes (n, 2), pixels."""
        left, top, right, bottom = self.box
        rows, columns = (max(int((b - a) / (6 * self._pose.scale)), 8) for a, b in
                         ((top, bottom), (left, right)))  # fmt: skip
        x = left + (np.arange(columns) + 0.5) * (right - left) / columns - 0.5
        y = top + (np.arange(rows) + 0.5) * (bottom - top) / rows - 0.5
        return rows, columns, np.stack(np.meshgrid(x, y), -1).reshape(-1, 2)

    def offset(self, pixels: Array, shift: Array, roll: float) -> Array:
        """From output pixels (n, 2) to where the source shows the same point, minus themselves."""
        mm = (pixels - self._origin) @ self._back.T
        pivot = np.array([0.0, PIVOT])
        c, s = np.cos(roll), np.sin(roll)
        turned = (mm - pivot - shift) @ np.array([[c, -s], [s, c]]) + pivot
        return ((turned - mm) * self._weight(pixels, mm)[:, None]) @ self._axes.T

    def _weight(self, pixels: Array, mm: Array) -> Array:
        distance = np.hypot(mm[:, 0] / 92, (mm[:, 1] + 22) / 118)
        near = np.clip((1.55 - distance) / 0.6, 0, 1)
        height, width = self._size
        rim = np.minimum.reduce(
            [pixels[:, 0], pixels[:, 1], width - 1 - pixels[:, 0], height - 1 - pixels[:, 1]]
        )
        inner = np.clip(rim / (14 * self._pose.scale), 0, 1)
        return near * near * (3 - 2 * near) * inner * inner * (3 - 2 * inner)

    def head_map(self, shift: Array, roll: float, brows: float = 0.0) -> Map:
        """Source pixel of each of the box's, (height, width, 2)."""
        left, top, right, bottom = self.box
        rows, columns, nodes = self._nodes()
        offsets = self.offset(nodes, shift, roll)
        if brows:
            offsets += np.outer(brows * self._brows, self._axes[:, 1])
        offsets = offsets.astype(np.float32).reshape(rows, columns, 2)
        out = np.asarray(cv2.resize(offsets, (right - left, bottom - top)), np.float32)
        out[..., 0] += np.arange(left, right, dtype=np.float32)
        out[..., 1] += np.arange(top, bottom, dtype=np.float32)[:, None]
        return out


class Eyelids:
    """Lets the lids of a picture's open eyes fall, by drawing the skin above them down."""

    def __init__(self, picture: Pixels, points: Array, pose: Pose) -> None:
        """`points` (478, 2+) are the landmarks in pixels."""
        self._picture, self._scale = picture, pose.scale
        self._axes = pose.matrix[:2, :2]
        self._back = np.linalg.inv(self._axes)
        self._origin = pose.shift[:2]
        mm = (points[:, :2] - self._origin) @ self._back.T
        eyes = [(mm[list(up)], mm[list(low)], mm[list(brow)]) for up, low, brow in _EYES]
        self._eyes = [eye for eye in eyes if float((eye[1] - eye[0])[:, 1].max()) > MIN_EYE]

    def draw(self, onto: Pixels, at: Map, amount: float) -> None:
        """Shuts the lids by `amount` (0-1) in pixels whose source pixels are `at` (h, w, 2)."""
        if amount < 0.02:
            return
        for up, low, brow in self._eyes:
            part = self._part(at, np.concatenate([up, low, brow]))
            if part is None:
                continue
            source = at[part]
            mm = (source - self._origin) @ self._back.T
            x, y = mm[..., 0], mm[..., 1]
            lid, crease = _lid(x, up, brow)
            height = np.maximum(np.interp(x, low[:, 0], low[:, 1]) - lid, 0)
            # A little further than the landmarks say, or a sliver of the eye stays open.
            tallest = float((low - up)[:, 1].max())
            edge = lid + amount * height * (1 + 0.7 / tallest)
            # Lashes come down as they are; only the skin above them stretches.
            lashes = np.minimum(LASHES, 0.6 * (lid - crease))
            part_down = (y - crease) / np.maximum(edge - lashes - crease, 1e-3)
            stretched = crease + part_down * (lid - lashes - crease)
            drawn = np.where(y > edge - lashes, y - edge + lid, stretched)
            drawn = np.where(y < crease, y, drawn)
            colours = self._at(source, 0.0, drawn - y)
            mixed = colours.copy()
            for by in SMEAR:
                lid_there, crease_there = _lid(x + by, up, brow)
                skin = np.maximum(lid_there - 1.3 * lashes - crease_there, 0)
                mixed += self._at(source, by, crease_there + part_down * skin - y)
            even = mixed / (1 + len(SMEAR)) * (1 - LID_SHADE * amount)
            colours += (amount * np.clip((1 - part_down) * 4, 0, 1))[..., None] * (even - colours)
            cover = np.clip((edge - y) * self._scale + 0.5, 0, 1) * (height > 0)
            cover = (cover * np.clip((y - crease) / 1.5, 0, 1))[..., None]
            there = onto[part]
            there[:] = np.rint(there + cover * (colours - there.astype(float)))

    def _at(self, source: Map, right: float, down: Map) -> Map:
        """Colours so many millimetres to the right of source pixels and below them."""
        by = right * self._axes[:, 0] + down[..., None] * self._axes[:, 1]
        return sampled(self._picture, (source + by).astype(np.float32)).astype(np.float32)

    def _part(self, at: Map, mm: Array) -> tuple[slice, slice] | None:
        """Rows and columns of a map in which points of the face lie."""
        rim = mm @ self._axes.T + self._origin
        low, high = rim.min(0) - 3, rim.max(0) + 3
        near = ((at > low) & (at < high)).all(-1)
        if not near.any():
            return None
        rows, columns = np.flatnonzero(near.any(1)), np.flatnonzero(near.any(0))
        return np.s_[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]


def _lid(x: Map, up: Array, brow: Array) -> tuple[Map, Map]:
    """Heights (mm) of an upper lid's edge and of its crease at `x`."""
    lid = np.interp(x, up[:, 0], up[:, 1])
    brows = np.interp(x, brow[:, 0], brow[:, 1])
    return lid, lid - 0.6 * np.maximum(lid - brows, 1.0)
