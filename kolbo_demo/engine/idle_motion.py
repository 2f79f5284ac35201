"""What a still needs to live: small head motion, breath, brows, and blinks at human intervals.

All of it follows from the voice alone, so the same inputs give the same video.
"""

import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from kolbo_demo.engine.head_pose import Array, Pose
from kolbo_demo.engine.prompt import Directions
from kolbo_demo.engine.smoothing import smoothed
from kolbo_demo.engine.speech_features import HOP
from kolbo_demo.engine.thin_plate import Box, Grid, Map, Picture, Pixels, sampled

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

STEP = 6.0
"""Millimetres between the places at which the motion is worked out."""
STRIP = 64
"""Rows of pixels worked on at once."""
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
        stressed = np.clip((level - np.percentile(level, 60)) / 20, -1, 1)
        stress = smoothed(stressed, 12.0, "symmetric")
        nod = np.interp(time, np.arange(len(stress)) * HOP, stress)
        start = np.clip(time / 0.6, 0, 1)  # from where the picture has the head

        def drift(seconds: float, size: float) -> NDArray[np.float64]:
            steps = max(int(np.ceil(frames / fps * 10)) + 40, 60)
            noise = smoothed(random.standard_normal(steps), seconds * 10, "symmetric")
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
    heard = np.maximum(level, np.percentile(level, 95) - 30).astype(float)
    loud = smoothed(heard, 8.0, "symmetric")
    over = loud - smoothed(loud, 60.0, "symmetric")
    beat = np.clip((over - 2.0) / 8.0, 0, 1)
    return np.interp(time, np.arange(len(beat)) * HOP, smoothed(beat, 7.0, "symmetric"))


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
        self._grid = Grid(self.box, pose.scale, STEP)
        self._held = lru_cache(2)(self._held_by)
        brows = [points[list(brow), :2].mean(0) for _, _, brow in _EYES]
        mm = [(self._grid.nodes - brow) @ self._back.T for brow in brows]
        near = sum(np.exp(-((d[:, 0] / 20) ** 2) - (d[:, 1] / 9) ** 2) for d in mm)
        self._brows = np.outer(near, self._axes[:, 1])

    def offset(self, grid: Grid, shift: Array, roll: float) -> Array:
        """From a grid's nodes (n, 2) to where the source shows the same point, in pixels."""
        arm, weight = self._held(grid)
        c, s = np.cos(roll), np.sin(roll)
        turn = np.array([[c, -s], [s, c]])
        turned = arm @ ((turn - np.eye(2)) @ self._axes.T)
        return (turned - shift @ turn @ self._axes.T) * weight

    def _held_by(self, grid: Grid) -> tuple[Array, Array]:
        """From the neck to each node, mm; and how much of the head's motion the node takes part in.
        The same in every frame."""
        mm = (grid.nodes - self._origin) @ self._back.T
        return mm - (0.0, PIVOT), self._weight(grid.nodes, mm)[:, None]

    def _weight(self, pixels: Array, mm: Array) -> Array:
        distance = np.hypot(mm[:, 0] / 92, (mm[:, 1] + 22) / 118)
        near = np.clip((1.55 - distance) / 0.6, 0, 1)
        height, width = self._size
        rim = np.minimum.reduce(
            [pixels[:, 0], pixels[:, 1], width - 1 - pixels[:, 0], height - 1 - pixels[:, 1]]
        )
        inner = np.clip(rim / (14 * self._pose.scale), 0, 1)
        return near * near * (3 - 2 * near) * inner * inner * (3 - 2 * inner)

    def strips(self, but: Box) -> Iterator[tuple[slice, slice]]:
        """Rows and columns of the box that move, less those of another one: in pieces that stay in
        a processor's cache while they are worked on."""
        left, top, right, bottom = self.box
        cell = self._grid.cell
        moving = (self._held(self._grid)[1] > 0).reshape(self._grid.rows, -1)
        ends = {min(max(y, top), bottom) for y in (but[1], but[3], bottom)}
        for first, last in pairwise(sorted({*range(top, bottom, STRIP), *ends})):
            rows = slice(first - top, last - top)
            near = np.flatnonzero(moving[rows.start // cell : rows.stop // cell + 5].any(0))
            if len(near) == 0:
                continue
            # A node is two cells further on than the pixels that it lies over.
            start, stop = max((near[0] - 3) * cell, 0), min((near[-1] + 1) * cell, right - left)
            spans = [(start, stop)]
            if but[1] <= first < but[3]:
                spans = [(start, min(but[0] - left, stop)), (max(but[2] - left, start), stop)]
            for one, end in spans:
                if one < end:
                    yield rows, slice(one, end)

    def head_map(self, shift: Array, roll: float, brows: float = 0.0) -> Map:
        """Source pixel of each of the box's, (height, width, 2). `brows` is millimetres upward."""
        offsets = self.offset(self._grid, shift, roll)
        if brows:
            offsets = offsets + brows * self._brows
        return self._grid.roughly(offsets)


class Eyelids:
    """Lets the lids of a picture's open eyes fall, by drawing the skin above them down."""

    def __init__(self, picture: Picture, points: Array, pose: Pose) -> None:
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
        some = at[::4, ::4]
        near = ((some > low) & (some < high)).all(-1)
        if not near.any():
            return None
        rows, columns = 4 * np.flatnonzero(near.any(1)), 4 * np.flatnonzero(near.any(0))
        return np.s_[max(rows[0] - 3, 0) : rows[-1] + 4, max(columns[0] - 3, 0) : columns[-1] + 4]


def _lid(x: Map, up: Array, brow: Array) -> tuple[Map, Map]:
    """Heights (mm) of an upper lid's edge and of its crease at `x`."""
    lid = np.interp(x, up[:, 0], up[:, 1])
    brows = np.interp(x, brow[:, 0], brow[:, 1])
    return lid, lid - 0.6 * np.maximum(lid - brows, 1.0)
