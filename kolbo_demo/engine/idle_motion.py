"""Idle motion of a still: head motion, breathing, brow raises, blinks and gaze.

It is derived from the voice alone, so equal inputs give equal videos.
"""

import zlib
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from kolbo_demo.engine.head_gestures import head_angles
from kolbo_demo.engine.head_pose import Array, Pose, smoothstep
from kolbo_demo.engine.prompt import PromptStyle
from kolbo_demo.engine.smoothing import smoothed
from kolbo_demo.engine.speech_features import HOP_SECONDS
from kolbo_demo.engine.thin_plate import Map, Picture, Pixels, resample

BLINK_INTERVAL_SECONDS = 1.6, 5.2
"""Range of a uniform distribution. People blink 10 to 20 times a minute while talking."""
BLINK_SHIFT_SECONDS = 0.7
"""Most time by which a blink is moved to a pause in the voice: people blink at phrase ends."""
BLINK_CLOSE_SECONDS, BLINK_HOLD_SECONDS, BLINK_OPEN_SECONDS = 0.08, 0.04, 0.16
"""Duration of each phase of a blink."""
MIN_EYE_OPENING_MM = 3.0
"""Distance of the lids below which an eye counts as closed and does not blink."""
LID_OVERLAP_MM, LID_OVERLAP_PIXELS = 0.7, 1.2
"""Distance by which a closed lid covers the lower one's landmarks, which miss by about a pixel."""
LASH_HEIGHT_MM = 2.2
"""Height of lashes and liner above the lid's edge."""
LID_BLUR_OFFSETS_MM = (-2.6, -1.3, 1.3, 2.6)
"""Sideways offsets that are averaged in a stretched lid, so that it shows no streaks."""
CREASE_SHARE, CREASE_STEP_MM, CREASE_MARGIN_MM, MIN_CREASE_MM = 0.6, 0.25, 0.8, 2.0
"""Height of the skin that a lid stretches, as a share of the way to the brow; the step in which it
is searched for a line, the distance that is kept from one, and the least height."""
MAX_LASH_START_MM, LASH_WING_SHARE = 3.0, 0.25
"""Height above the lid's landmarks up to which a dark line is lashes or liner, and the share of the
lid at each end where lashes may be longer."""
LINE_CONTRAST = 0.5
"""Lightness, relative to the skin of the lids, below which a line is a rim of glasses, or drawn."""
MIN_RIM_SHARE = 0.5
"""Share of a lid that a rim covers."""
LID_SHADE = 0.05
"""How much darker a closed lid is, because it faces down from the light."""
FIXATION_SECONDS = 0.7, 2.6
"""Range of the duration of a fixation."""
HOME_SHARE = 0.5
"""Share of the fixations on the picture's own point."""
SACCADE_MM = 0.9, 0.35
"""Standard deviation of the other fixations' distance from it, across and down, at the iris."""
EYE_RADIUS_MM = 12.0
FIXATION_GAIN = 0.8
"""Share of the head's turn that the eyes make up for, to keep their fixation."""
MAX_GAZE_MM = 2.0, 0.7
"""Most that an iris moves, across and down."""
MAX_GAZE_YAW, MIN_GAZE_SCALE = 0.45, 0.45
"""Radians of yaw up to which, and pixels a millimetre from which, eyes are seen well enough."""
IRIS_RADIUS_MM, EYE_END_MM = 6.5, 12.5
"""Distance from the iris within which an eye moves rigidly, and from which it rests."""
LID_EDGE_MM = 0.7
"""Distance from the lids over which the motion begins."""
BREATH_LIFT_MM, BREATH_SECONDS = 0.5, 3.9
"""Lift of the head by breathing, and duration of a breath."""
BROW_RAISE_MM = 1.1
"""Rise of the brows on the most stressed syllables, and hint of a squint."""

# For each eye: upper lid, lower lid and brow, from the picture's left to its right.
EYES = (
    ((33, 246, 161, 160, 159, 158, 157, 173, 133),
     (33, 7, 163, 144, 145, 153, 154, 155, 133), (46, 53, 52, 65, 55)),
    ((362, 398, 384, 385, 386, 387, 388, 466, 263),
     (362, 382, 381, 380, 374, 373, 390, 249, 263), (285, 295, 282, 283, 276)),
)  # fmt: skip

IRISES = 468, 473
"""Landmarks of the same eyes' irises."""


@dataclass(frozen=True)
class IdleMotion:
    """One value a frame: shift of the head (n, 2) in mm, roll in radians, lids (0 open, 1 closed),
    brow raise in mm, pitch and yaw of the head (n, 2) in radians, fixations of the irises (n, 2)
    in mm.

    Plans of earlier releases have no pitch, yaw and fixations.
    """

    shift: NDArray[np.float64]
    roll: NDArray[np.float64]
    lids: NDArray[np.float64]
    brows: NDArray[np.float64]
    turn: NDArray[np.float64] | None = None
    fixations: NDArray[np.float64] | None = None

    def angles(self, frame: int) -> NDArray[np.float64]:
        """Pitch, yaw and roll (3,), radians."""
        turn = np.zeros(2) if self.turn is None else self.turn[frame]
        return np.append(turn, self.roll[frame])

    def gaze(self, frame: int) -> NDArray[np.float64]:
        """Shift (2,) mm of the irises in the head, which keep their fixation as it turns."""
        if self.fixations is None:
            return np.zeros(2)
        pitch, yaw, _ = self.angles(frame)
        kept = FIXATION_GAIN * EYE_RADIUS_MM * np.sin((-yaw, -pitch))
        return np.clip(self.fixations[frame] + kept, np.negative(MAX_GAZE_MM), MAX_GAZE_MM)

    @classmethod
    def from_loudness(cls, level: NDArray[np.float32], fps: float, frames: int) -> "IdleMotion":
        """Motion for a voice; `level` is its loudness in decibels, one value each 10 ms."""
        random = np.random.default_rng(zlib.crc32(level.tobytes()))
        time = np.arange(frames) / fps
        stressed = np.clip((level - np.percentile(level, 60)) / 20, -1, 1)
        stress = smoothed(stressed, 12.0, "symmetric")
        nod = np.interp(time, np.arange(len(stress)) * HOP_SECONDS, stress)
        fade_in = np.clip(time / 0.6, 0, 1)  # starts at the picture's own pose

        def drift(seconds: float, size: float) -> NDArray[np.float64]:
            steps = max(int(np.ceil(frames / fps * 10)) + 40, 60)
            noise = smoothed(random.standard_normal(steps), seconds * 10, "symmetric")
            noise /= max(float(noise.std()), 1e-6)
            return size * fade_in * np.interp(time, np.arange(steps) / 10, noise)

        x = drift(0.8, 0.4)
        y = drift(0.7, 0.3)
        y -= (
            BREATH_LIFT_MM * fade_in * np.sin(2 * np.pi * (time / BREATH_SECONDS + random.random()))
        )
        lids = _blinks(random, time, nod)
        beat = syllable_stress(level)
        brows = np.interp(time, np.arange(len(beat)) * HOP_SECONDS, beat)
        angles = head_angles(level, beat, fps, frames, random)
        return cls(
            np.stack([x, y], 1), angles[:, 2], lids, BROW_RAISE_MM * fade_in * brows,
            angles[:, :2], _fixations(random, time),
        )  # fmt: skip

    def styled(self, style: PromptStyle) -> "IdleMotion":
        """This motion, scaled and restricted as a prompt asks."""
        return IdleMotion(
            self.shift * style.head,
            self.roll * style.head,
            self.lids if style.blinks else np.zeros_like(self.lids),
            self.brows * min(style.head, 1.5),
            None if self.turn is None else self.turn * style.head,
            None if self.fixations is None else self.fixations * style.gaze,
        )


def syllable_stress(level: NDArray[np.float32]) -> NDArray[np.float64]:
    """0-1 each 10 ms: how much louder the voice is than in the second around it."""
    audible = np.maximum(level, np.percentile(level, 95) - 30).astype(float)
    loud = smoothed(audible, 8.0, "symmetric")
    over = loud - smoothed(loud, 60.0, "symmetric")
    beat = np.clip((over - 2.0) / 8.0, 0, 1)
    return np.asarray(smoothed(beat, 7.0, "symmetric"), np.float64)


def _blinks(
    random: np.random.Generator, time: NDArray[np.float64], stress: NDArray[np.float64]
) -> NDArray[np.float64]:
    lids = np.zeros(len(time))
    at = 0.8 + random.uniform(0, 1.2)
    while at < time[-1] - 0.1 if len(time) else False:
        near = np.flatnonzero(np.abs(time - at) <= min(BLINK_SHIFT_SECONDS, at))
        # Of equal pauses, the one nearest to the drawn time.
        rest = near[(stress[near] + 0.05 * np.abs(time[near] - at)).argmin()] if len(near) else 0
        since = time - time[rest]
        down = np.clip(since / BLINK_CLOSE_SECONDS, 0, 1)
        up = np.clip((since - BLINK_CLOSE_SECONDS - BLINK_HOLD_SECONDS) / BLINK_OPEN_SECONDS, 0, 1)
        lids = np.maximum(lids, down * (1 - up * up * (3 - 2 * up)))
        at += random.uniform(*BLINK_INTERVAL_SECONDS)
    return lids


def _fixations(random: np.random.Generator, time: NDArray[np.float64]) -> NDArray[np.float64]:
    """Places (n, 2) of the irises, mm: steps of one frame, from and to the picture's own place."""
    places, at = np.zeros((len(time), 2)), random.uniform(*FIXATION_SECONDS)
    while len(time) and at < time[-1] - FIXATION_SECONDS[0]:
        away = random.random() > HOME_SHARE
        places[time >= at] = random.standard_normal(2) * SACCADE_MM * away
        at += random.uniform(*FIXATION_SECONDS)
    places[time > at] = 0
    return np.clip(places, np.negative(MAX_GAZE_MM), MAX_GAZE_MM)


class Eyes:
    """Moves the irises of a picture's open eyes, and closes the lids by stretching the skin above
    them down."""

    def __init__(self, picture: Picture, points: Array, pose: Pose) -> None:
        """`points` (478, 2+) are the landmarks in pixels."""
        self._picture, self._scale = picture, pose.scale
        self._axes = pose.matrix[:2, :2]
        self._inverse_axes = np.linalg.inv(self._axes)
        self._origin = pose.shift[:2]
        shift = -self._inverse_axes @ self._origin
        self._to_mm = np.column_stack([self._inverse_axes, shift]).astype(np.float32)
        mm = (points[:, :2] - self._origin) @ self._inverse_axes.T
        eyes = [
            (mm[list(up)], mm[list(low)], mm[list(brow)], mm[iris])
            for (up, low, brow), iris in zip(EYES, IRISES, strict=True)
        ]
        self._eyes: list[tuple[Array, Array, Array, Array]] = []
        self.rims = False
        """Whether lines above the lids, such as rims of glasses, must not move with the brows."""
        for up, low, brow, iris in eyes:
            if float((low - up)[:, 1].max()) > MIN_EYE_OPENING_MM:
                crease, line_share = self._crease(up, brow)
                self._eyes.append((up, low, crease, iris))
                self.rims |= line_share > MIN_RIM_SHARE
        yaw = float(np.arctan2(pose.matrix[2, 0], np.linalg.norm(pose.matrix[:2, 0])))
        self._gazes = pose.scale >= MIN_GAZE_SCALE and abs(yaw) <= MAX_GAZE_YAW

    def _crease(self, up: Array, brow: Array) -> tuple[Array, float]:
        """Points (n, 2) mm at the top of the skin that a lid stretches: below rims of glasses and
        drawn lines, which stay in place; and the share of the lid that is below such a line."""
        wing = LASH_WING_SHARE * (up[-1, 0] - up[0, 0])
        x = np.arange(up[0, 0] + wing, up[-1, 0] - wing, CREASE_STEP_MM)
        lid, brows = (np.interp(x, line[:, 0], line[:, 1]) for line in (up, brow))
        reach = CREASE_SHARE * np.maximum(lid - brows, 1.0)
        steps = np.arange(0, reach.max() + CREASE_STEP_MM, CREASE_STEP_MM)[:, None]
        at = np.stack(np.broadcast_arrays(x, lid - steps), -1) @ self._axes.T + self._origin
        light = resample(self._picture, at.astype(np.float32)).astype(np.float32).mean(-1)
        skin = steps <= reach
        line = (light < LINE_CONTRAST * np.median(light[skin])) & skin
        line &= ~np.logical_and.accumulate(line | (steps < MAX_LASH_START_MM), axis=0)
        clear = np.where(line.any(0), line.argmax(0) * CREASE_STEP_MM - CREASE_MARGIN_MM, reach)
        sigma = 3.0 / CREASE_STEP_MM
        lowest = cv2.erode(clear.astype(np.float32)[None], np.ones((1, 2 * round(sigma) + 1)))
        smooth = cv2.GaussianBlur(lowest, (0, 0), sigma, borderType=cv2.BORDER_REPLICATE)[0]
        crease = lid - np.maximum(np.minimum(smooth, reach), MIN_CREASE_MM)
        return np.stack([x, crease], 1), float(line.any(0).mean())

    def draw(self, onto: Pixels, source_map: Map, amount: float, gaze: NDArray[np.float64]) -> None:
        """Move the irises by `gaze` (2,) mm and close the lids by `amount` (0-1) in pixels whose
        source positions are `source_map`."""
        if self._gazes and np.abs(gaze).max() > 0.05:
            self._move_irises(onto, source_map, gaze)
        if amount >= 0.02:
            self._close_lids(onto, source_map, amount)

    def _move_irises(self, onto: Pixels, source_map: Map, gaze: NDArray[np.float64]) -> None:
        for up, low, _, iris in self._eyes:
            part = self._region(source_map, np.concatenate([up, low]))
            if part is None:
                continue
            source = source_map[part]
            x, y = cv2.split(cv2.transform(source, self._to_mm))
            near = np.abs(x - np.float32(iris[0] + gaze[0])) < EYE_END_MM
            x, y = x[near], y[near]
            lid, lower = (np.interp(x, edge[:, 0], edge[:, 1]) for edge in (up, low))
            open_eye = (y > lid) & (y < lower)
            near[near] = open_eye
            x, edge = x[open_eye], np.minimum(y - lid, lower - y)[open_eye]
            off = np.abs(x - iris[0] - gaze[0])
            share = smoothstep(edge / LID_EDGE_MM) * (
                1 - smoothstep((off - IRIS_RADIUS_MM) / (EYE_END_MM - IRIS_RADIUS_MM))
            )
            moved = (source[near] - share[:, None] * (self._axes @ gaze)).astype(np.float32)
            if len(moved):
                onto[part][near] = resample(self._picture, moved[:, None])[:, 0]

    def _close_lids(self, onto: Pixels, source_map: Map, amount: float) -> None:
        for up, low, crease_line, _ in self._eyes:
            part = self._region(source_map, np.concatenate([up, low, crease_line]))
            if part is None:
                continue
            source = source_map[part]
            mm = (source - self._origin) @ self._inverse_axes.T
            x, y = mm[..., 0], mm[..., 1]
            lid, crease = _lid_and_crease(x, up, crease_line)
            height = np.maximum(np.interp(x, low[:, 0], low[:, 1]) - lid, 0)
            # Beyond the landmarks, or a sliver of the eye stays open.
            beyond = LID_OVERLAP_MM + LID_OVERLAP_PIXELS / self._scale
            tallest = float((low - up)[:, 1].max())
            edge = lid + amount * height * (1 + beyond / tallest)
            # Lashes move unstretched; only the skin above them stretches.
            lashes = np.minimum(LASH_HEIGHT_MM, 0.6 * (lid - crease))
            part_down = (y - crease) / np.maximum(edge - lashes - crease, 1e-3)
            stretched = crease + part_down * (lid - lashes - crease)
            drawn = np.where(y > edge - lashes, y - edge + lid, stretched)
            drawn = np.where(y < crease, y, drawn)
            colours = self._colours_at(source, 0.0, drawn - y)
            mixed = colours.copy()
            for by in LID_BLUR_OFFSETS_MM:
                lid_there, crease_there = _lid_and_crease(x + by, up, crease_line)
                skin = np.maximum(lid_there - 1.3 * lashes - crease_there, 0)
                mixed += self._colours_at(source, by, crease_there + part_down * skin - y)
            even = mixed / (1 + len(LID_BLUR_OFFSETS_MM)) * (1 - LID_SHADE * amount)
            colours += (amount * np.clip((1 - part_down) * 4, 0, 1))[..., None] * (even - colours)
            cover = np.clip((edge - y) * self._scale + 0.5, 0, 1) * (height > 0)
            cover = (cover * np.clip((y - crease) / 1.5, 0, 1))[..., None]
            there = onto[part]
            there[:] = np.rint(there + cover * (colours - there.astype(float)))

    def _colours_at(self, source: Map, right: float, down: Map) -> Map:
        """Colours `right` and `down` millimetres from source positions."""
        by = right * self._axes[:, 0] + down[..., None] * self._axes[:, 1]
        return resample(self._picture, (source + by).astype(np.float32)).astype(np.float32)

    def _region(self, source_map: Map, mm: Array) -> tuple[slice, slice] | None:
        """Rows and columns of a map that show the face points `mm`; None if no pixel does."""
        rim = mm @ self._axes.T + self._origin
        (left, top), (right, bottom) = rim.min(0) - 3, rim.max(0) + 3
        x, y = source_map[::4, ::4, 0], source_map[::4, ::4, 1]
        near = (x > left) & (x < right) & (y > top) & (y < bottom)
        if not near.any():
            return None
        rows, columns = 4 * np.flatnonzero(near.any(1)), 4 * np.flatnonzero(near.any(0))
        return np.s_[max(rows[0] - 3, 0) : rows[-1] + 4, max(columns[0] - 3, 0) : columns[-1] + 4]


def _lid_and_crease(x: Map, up: Array, crease: Array) -> tuple[Map, Map]:
    """Heights (mm) of an upper lid's edge and of its crease at positions `x` (mm)."""
    lid = np.interp(x, up[:, 0], up[:, 1])
    return lid, np.interp(x, crease[:, 0], crease[:, 1])
