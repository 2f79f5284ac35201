"""Head rotation, blinks and gaze of a speaker in a video, from landmarks.

Angles are relative to the head's mean orientation in the video, about the axes of the picture.
`python -m benchmarks liveliness` prints the figures of people.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

UPPER_FACE = (10, 151, 9, 168, 6, 197, 195, 4, 33, 133, 263, 362, 67, 297, 103, 332, 54, 284)
"""Forehead, eye corners, nose: not moved by speech."""
EYES = ((33, 133, 159, 145, 468), (362, 263, 386, 374, 473))
"""Of each eye, from the picture's left: both corners, middle of upper and lower lid, iris."""
EYE_POINTS = tuple(point for eye in EYES for point in eye)

SMOOTHING_SECONDS = 0.06
"""Standard deviation of the Gaussian that angles are smoothed with before they are measured."""
BASELINE_SECONDS, CLOSED_SHARE, MAX_BLINK_SECONDS = 1.0, 0.65, 0.6
"""An eye is closed below so much of its median opening in the seconds either side; eyes closed for
longer than a blink are not one. Between 0.5 and 0.65, five clips of people have the same blinks;
landmarks of small or dark faces with closed eyes have up to 0.65."""
GAZE_SECONDS, GAZE_SHIFT, SQUINT_SHARE = 0.12, 0.07, 0.8
"""A gaze shift moves the iris by so much of the eye's width, about 8 degrees, from its median
position before to that after. Lids hide the iris below so much of their median opening."""
MIN_FRAMES = 10


@dataclass(frozen=True)
class HeadMotion:
    """Pitch, yaw and roll as (3,) where there are three; NaN where too few frames show a face."""

    spread: Array
    """Standard deviation, degrees."""
    speed: Array
    """Mean speed, degrees a second."""
    top_speed: float
    """Of any angle, degrees a second."""
    noise: Array
    """Standard deviation of the angles' noise from frame to frame before smoothing, degrees."""
    noise_speed: Array
    """Mean speed that this noise alone has after smoothing, degrees a second."""
    fps: float
    blinks: float
    """A minute."""
    gaze_shifts: float
    """A minute."""
    angles: Array
    """Smoothed, degrees, (frames, 3); NaN without a face."""


def measure_head(rigid: Array, eyes: Array, fps: float) -> HeadMotion:
    """Motion from landmarks in pixels, x right, y down, z away: `rigid` (frames, n, 3) and `eyes`
    (frames, EYE_POINTS, 3), NaN in frames without a face. Eyes may be (frames, 0, 3)."""
    visible = ~np.isnan(rigid[:, 0, 0])
    angles = np.full((len(rigid), 3), np.nan)
    if visible.sum() < MIN_FRAMES:
        nothing = np.full(3, np.nan)
        return HeadMotion(nothing, nothing, np.nan, nothing, nothing, fps, np.nan, np.nan, angles)
    raw = _angles(rigid[visible])
    noise = _noise(raw)
    kernel = _gaussian(SMOOTHING_SECONDS * fps)
    # Noise of variance 1 has this variance of differences after smoothing.
    gain = float(np.sqrt((np.diff(np.pad(kernel, 1)) ** 2).sum()))
    frames = np.arange(len(rigid))
    filled = np.stack([np.interp(frames, frames[visible], one) for one in raw.T], 1)
    reach = len(kernel) // 2
    padded = np.pad(filled, ((reach, reach), (0, 0)), "edge")
    smooth = np.stack([np.convolve(one, kernel, "valid") for one in padded.T], 1)
    angles[visible] = smooth[visible]
    speed = np.abs(np.diff(angles, axis=0)) * fps
    minutes = float(visible.sum()) / fps / 60
    blinks = gaze_shifts = np.nan
    if eyes.shape[1]:
        opening = _relative_opening(eyes[visible], fps)
        blinks = _count_blinks(opening, fps)
        gaze_shifts = _count_gaze_shifts(eyes[visible], opening, fps)
    return HeadMotion(
        np.nanstd(angles, axis=0), np.nanmean(speed, axis=0), float(np.nanmax(speed)),
        noise, noise * gain * np.sqrt(2 / np.pi) * fps, fps,
        blinks / minutes, gaze_shifts / minutes,
        angles,
    )  # fmt: skip


def _gaussian(sigma: float) -> Array:
    reach = max(round(4 * sigma), 1)
    kernel = np.exp(-0.5 * (np.arange(-reach, reach + 1) / sigma) ** 2)
    return kernel / kernel.sum()


def _angles(points: Array) -> Array:
    """Pitch, yaw and roll in degrees, (n, 3), of (n, k, 3) points against their mean shape."""
    centred = points - points.mean(1, keepdims=True)
    shapes = centred / np.linalg.norm(centred, axis=(1, 2), keepdims=True)
    mean = shapes[len(shapes) // 2]
    for _ in range(3):
        turns = _rotations(mean, shapes)
        mean = np.einsum("nij,nki->kj", turns, shapes) / len(shapes)
    turns = _rotations(mean, shapes)
    pitch = np.arctan2(turns[:, 2, 1], turns[:, 2, 2])
    yaw = -np.arcsin(np.clip(turns[:, 2, 0], -1, 1))
    roll = np.arctan2(turns[:, 1, 0], turns[:, 0, 0])
    return np.degrees(np.stack([pitch, yaw, roll], 1))


def _rotations(reference: Array, shapes: Array) -> Array:
    """Least-squares rotations (n, 3, 3) from a shape (k, 3) to shapes (n, k, 3) (Kabsch, 1976)."""
    u, _, vt = np.linalg.svd(np.einsum("nki,kj->nij", shapes, reference))
    u[:, :, 2] *= np.sign(np.linalg.det(u @ vt))[:, None]
    return u @ vt


def _noise(angles: Array) -> Array:
    """Standard deviation of white noise in smooth curves (n, k), from their third differences, by
    the median, which fast real motion does not move."""
    return 1.4826 * np.median(np.abs(np.diff(angles, 3, axis=0)), axis=0) / np.sqrt(20.0)


def _relative_opening(eyes: Array, fps: float) -> Array:
    """Opening of both eyes relative to their median in the seconds around each frame."""
    opening = np.mean(
        [_distance(eyes, up, low) / _distance(eyes, one, two) for one, two, up, low, _ in EYES], 0
    )
    reach = round(BASELINE_SECONDS * fps)
    padded = np.pad(opening, reach, "symmetric")
    windows = np.lib.stride_tricks.sliding_window_view(padded, 2 * reach + 1)
    return opening / np.median(windows, axis=1)


def _count_blinks(opening: Array, fps: float) -> int:
    """Times that both eyes close and open again."""
    closed = np.pad(opening < CLOSED_SHARE, 1)
    edges = np.flatnonzero(np.diff(closed.astype(np.int8)))
    lengths = (edges[1::2] - edges[::2]) / fps
    return int((lengths <= MAX_BLINK_SECONDS).sum())


def _count_gaze_shifts(eyes: Array, opening: Array, fps: float) -> int:
    """Times that the irises move to another place between the corners of open eyes."""
    eyes = eyes[opening > SQUINT_SHARE]
    place = []
    for one, two, _, _, iris in EYES:
        left, right, centre = (eyes[:, EYE_POINTS.index(point), :2] for point in (one, two, iris))
        across = right - left
        width = (across**2).sum(1)
        off = centre - left
        along = (off * across).sum(1) / width
        up = (off[:, 0] * across[:, 1] - off[:, 1] * across[:, 0]) / width
        place.append(np.stack([along, up], 1))
    gaze = np.mean(place, axis=0)
    reach = max(round(GAZE_SECONDS * fps), 2)
    if len(gaze) < 2 * reach + 1:
        return 0
    medians = np.median(np.lib.stride_tricks.sliding_window_view(gaze, reach, axis=0), axis=-1)
    moved = np.linalg.norm(medians[reach + 1 :] - medians[: -reach - 1], axis=1)
    shifts, at = 0, 0
    while (far := np.flatnonzero(moved[at:] > GAZE_SHIFT)).size:
        shifts += 1
        at += int(far[0]) + 2 * reach
    return shifts


def _distance(eyes: Array, one: int, two: int) -> Array:
    a, b = (eyes[:, EYE_POINTS.index(point), :2] for point in (one, two))
    return np.linalg.norm(a - b, axis=1)
