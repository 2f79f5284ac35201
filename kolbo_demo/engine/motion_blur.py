"""Motion blur: how far a face moved while the camera looked, and the same for its new mouth.

A move takes detail away along its way and leaves it across: the face's own upper part tells how
much, against what it shows when it is at rest.
"""

from functools import lru_cache

import cv2
import numpy as np

from kolbo_demo.engine.head_pose import EYE_CORNERS_MM, Array, Pose
from kolbo_demo.engine.thin_plate import Pixels

EYES_APART = 64.0
"""Pixels between the outer eye corners at which detail is measured."""
LEFT, TOP, RIGHT, BOTTOM = -48.0, -62.0, 48.0, 4.0
"""Millimetres round the base of the nose: brows, eyes and nose."""
SLOW = 2.0
"""Millimetres a frame under which no blur is looked for."""
EDGE = 1.8
"""Pixels by which an edge is soft where nothing moves."""
LONGEST = 1.2
"""Of the way from frame to frame, the most that a camera can see in one."""


def detail(rgb: Pixels, pose: Pose) -> Array:
    """Mean product of the gradients of a face's upper part, (2, 2), along the head's axes."""
    scale = EYES_APART / EYE_CORNERS_MM
    size = round((RIGHT - LEFT) * scale), round((BOTTOM - TOP) * scale)
    to_mm = np.array([[1 / scale, 0, LEFT], [0, 1 / scale, TOP]])
    to_pixels = pose.matrix[:2, :2] @ to_mm
    to_pixels[:, 2] += pose.shift[:2]
    coarse = max(pose.scale / scale, 1.0)
    low = np.maximum(np.floor(_corners(to_pixels, size).min(0)).astype(int), 0)
    high = np.ceil(_corners(to_pixels, size).max(0)).astype(int) + 1
    part = cv2.cvtColor(rgb[low[1] : high[1], low[0] : high[0]], cv2.COLOR_RGB2GRAY)
    if coarse > 1:
        part = cv2.GaussianBlur(part, (0, 0), 0.5 * coarse)
    to_pixels[:, 2] -= low
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    face = cv2.warpAffine(part, to_pixels, size, flags=flags, borderMode=cv2.BORDER_REPLICATE)
    down, across = np.gradient(cv2.GaussianBlur(face, (0, 0), 1.0).astype(np.float32))
    flat = np.stack([across.ravel(), down.ravel()])
    return flat @ flat.T / flat.shape[1]


def _corners(to_pixels: Array, size: tuple[int, int]) -> Array:
    x, y = size
    return np.array([(0, 0), (x, 0), (0, y), (x, y)]) @ to_pixels[:, :2].T + to_pixels[:, 2]


def seen(rgb: Pixels, pose: Pose, way: Array, at_rest: Array) -> Array:
    """How far a face is blurred, (2,) pixels, of `way` (2,) pixels that it goes in a frame.

    `at_rest` is the `detail` of the same face when it does not move. An edge whose gradients are
    spread over a length l by the move keeps about 1 / (1 + l / (2 sqrt(pi) EDGE)) of their energy.
    """
    mm = np.linalg.solve(pose.matrix[:2, :2], way)
    length = float(np.linalg.norm(mm))
    if length < SLOW:
        return np.zeros(2)
    along = mm / length
    across = np.array([-along[1], along[0]])
    here = detail(rgb, pose)
    kept = (along @ here @ along) / max(float(across @ here @ across), 1e-6)
    usual = (along @ at_rest @ along) / max(float(across @ at_rest @ across), 1e-6)
    spread = 2 * np.sqrt(np.pi) * EDGE * max(usual / max(kept, 1e-6) - 1, 0)
    share = spread * EYE_CORNERS_MM / EYES_APART / length
    return way * min(share, LONGEST)


def blurred(picture: Pixels, by: Array) -> Pixels:
    """A picture as if it moved by (2,) pixels while the camera looked."""
    kernel = _kernel(round(float(by[0]), 1), round(float(by[1]), 1))
    out = cv2.filter2D(picture, -1, kernel, borderType=cv2.BORDER_REPLICATE)
    return np.asarray(out, np.uint8)


@lru_cache(16)
def _kernel(x: float, y: float) -> Array:
    reach = int(np.ceil(max(abs(x), abs(y)) / 2)) + 1
    out = np.zeros((2 * reach + 1,) * 2, np.float32)
    steps = 8 * reach
    for part in (np.arange(steps) + 0.5) / steps - 0.5:
        at_x, at_y = reach + part * x, reach + part * y
        i, j = int(at_y), int(at_x)
        v, u = at_y - i, at_x - j
        out[i : i + 2, j : j + 2] += [[(1 - v) * (1 - u), (1 - v) * u], [v * (1 - u), v * u]]
    return out / out.sum()
