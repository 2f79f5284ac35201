"""Motion blur: estimates it on the upper face and applies it to the drawn mouth.

Blur removes gradients along the motion and leaves those across it. Their ratio on the upper face,
compared with the same face at rest, gives the length of the blur.
"""

from functools import lru_cache

import cv2
import numpy as np

from kolbo_demo.engine.head_pose import EYE_CORNERS_MM, Array, Pose
from kolbo_demo.engine.thin_plate import Pixels

EYE_DISTANCE_PIXELS = 64.0
"""Distance of the outer eye corners at which gradients are measured."""
LEFT, TOP, RIGHT, BOTTOM = -48.0, -62.0, 48.0, 4.0
"""The measured patch, millimetres from the base of the nose: brows, eyes and nose."""
MIN_MOTION_MM = 2.0
"""Motion a frame below which no blur is estimated."""
EDGE_SIGMA_PIXELS = 1.8
"""Softness of an edge without motion."""
MAX_EXPOSURE = 1.2
"""Longest blur, as a share of the motion from frame to frame."""


def structure_tensor(rgb: Pixels, pose: Pose) -> Array:
    """Structure tensor of the upper face, (2, 2) along the head's axes: mean outer product of the
    gradients."""
    scale = EYE_DISTANCE_PIXELS / EYE_CORNERS_MM
    size = round((RIGHT - LEFT) * scale), round((BOTTOM - TOP) * scale)
    to_mm = np.array([[1 / scale, 0, LEFT], [0, 1 / scale, TOP]])
    to_pixels = pose.matrix[:2, :2] @ to_mm
    to_pixels[:, 2] += pose.shift[:2]
    shrink = max(pose.scale / scale, 1.0)
    low = np.maximum(np.floor(_corners(to_pixels, size).min(0)).astype(int), 0)
    high = np.ceil(_corners(to_pixels, size).max(0)).astype(int) + 1
    part = cv2.cvtColor(rgb[low[1] : high[1], low[0] : high[0]], cv2.COLOR_RGB2GRAY)
    if shrink > 1:
        part = cv2.GaussianBlur(part, (0, 0), 0.5 * shrink)
    to_pixels[:, 2] -= low
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    face = cv2.warpAffine(part, to_pixels, size, flags=flags, borderMode=cv2.BORDER_REPLICATE)
    down, across = np.gradient(cv2.GaussianBlur(face, (0, 0), 1.0).astype(np.float32))
    gradients = np.stack([across.ravel(), down.ravel()])
    return gradients @ gradients.T / gradients.shape[1]


def _corners(to_pixels: Array, size: tuple[int, int]) -> Array:
    x, y = size
    return np.array([(0, 0), (x, 0), (0, y), (x, y)]) @ to_pixels[:, :2].T + to_pixels[:, 2]


def estimate(rgb: Pixels, pose: Pose, motion: Array, rest_tensor: Array) -> Array:
    """Blur vector of a face, (2,) pixels, that moves by `motion` (2,) pixels a frame.

    `rest_tensor` is the `structure_tensor` of the same face without motion. An edge blurred over a
    length l retains about 1 / (1 + l / (2 sqrt(pi) EDGE_SIGMA_PIXELS)) of its gradient energy.
    """
    mm = np.linalg.solve(pose.matrix[:2, :2], motion)
    length = float(np.linalg.norm(mm))
    if length < MIN_MOTION_MM:
        return np.zeros(2)
    along = mm / length
    across = np.array([-along[1], along[0]])
    tensor = structure_tensor(rgb, pose)
    ratio = (along @ tensor @ along) / max(float(across @ tensor @ across), 1e-6)
    rest_ratio = (along @ rest_tensor @ along) / max(float(across @ rest_tensor @ across), 1e-6)
    spread = 2 * np.sqrt(np.pi) * EDGE_SIGMA_PIXELS * max(rest_ratio / max(ratio, 1e-6) - 1, 0)
    share = spread * EYE_CORNERS_MM / EYE_DISTANCE_PIXELS / length
    return motion * min(share, MAX_EXPOSURE)


def apply(picture: Pixels, motion: Array) -> Pixels:
    """The picture blurred along `motion`, (2,) pixels."""
    kernel = _line_kernel(round(float(motion[0]), 1), round(float(motion[1]), 1))
    out = cv2.filter2D(picture, -1, kernel, borderType=cv2.BORDER_REPLICATE)
    return np.asarray(out, np.uint8)


@lru_cache(16)
def _line_kernel(x: float, y: float) -> Array:
    reach = int(np.ceil(max(abs(x), abs(y)) / 2)) + 1
    out = np.zeros((2 * reach + 1,) * 2, np.float32)
    steps = 8 * reach
    for part in (np.arange(steps) + 0.5) / steps - 0.5:
        at_x, at_y = reach + part * x, reach + part * y
        i, j = int(at_y), int(at_x)
        v, u = at_y - i, at_x - j
        out[i : i + 2, j : j + 2] += [[(1 - v) * (1 - u), (1 - v) * u], [v * (1 - u), v * u]]
    return out / out.sum()
