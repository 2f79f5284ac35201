"""Blends mouth exemplars into a warped face: texture warp, light match and blend mask."""

from collections.abc import Sequence

import cv2
import numpy as np

from kolbo_demo.engine import motion_blur
from kolbo_demo.engine.exemplar_plan import Mix
from kolbo_demo.engine.head_pose import (
    LIPS,
    LOWER_INNER,
    LOWER_OUTER,
    UPPER_OUTER,
    Array,
    smoothstep,
)
from kolbo_demo.engine.mouth_exemplars import (
    BLEND_MARGIN_MM,
    SKIN_SITES,
    ExemplarSet,
    MouthExemplar,
    lip_gap,
)
from kolbo_demo.engine.mouth_warp import LOWER_LAYER, UPPER_LAYER, Layers
from kolbo_demo.engine.thin_plate import Box, Grid, Map, Pixels, ThinPlateSpline, resample

BLEND_SIGMA_MM = 1.6
"""Softness of the blend's edge."""
MIN_SEAM_HEIGHT = 0.6
"""Least part of an opening's height over which the textures of upper and lower lip are mixed."""

_OUTSIDE_BLEND = {
    50, 280, 187, 411, 147, 376, 192, 416, 214, 434, 132, 361, 58, 288, 172, 397, 136, 365, 175,
    199, 152, 148, 377, 176, 400, 149, 378, 150, 379,
}  # fmt: skip
"""Points of the warp's layers outside the blend mask."""
_ABOVE, _BELOW = (
    [i for i in layer if i not in _OUTSIDE_BLEND] for layer in (UPPER_LAYER, LOWER_LAYER)
)


def covers_interior(mix: Mix) -> bool:
    """Whether a mix leaves nothing of the interior to be painted."""
    return sum(weight for _, weight in mix) > 1 - 1e-6


def blank_interior(x: Map, _y: Map) -> Map:
    """Paint for an interior that exemplars cover."""
    return np.zeros((*x.shape, 3), np.float32)


def blend_mix(exemplars: ExemplarSet, mix: Mix, layers: Layers, drawn: Pixels, tone: Map) -> None:
    """Blend a frame's exemplars into its warped face `drawn`, the pixels of `layers.box`.

    `tone` are the `skin_tones` of the frame itself.
    """
    box, mask = _blend_mask(layers)
    if mask.size == 0 or not mix:
        return
    mouths = [exemplars.exemplars[index] for index, _ in mix]
    weights = [weight for _, weight in mix]
    maps = _source_maps(mouths, layers, box)
    texture = np.zeros((*mask.shape, 3), np.float32)
    for mouth, weight, at in zip(mouths, weights, maps, strict=True):
        texture += resample(mouth.rgb, at) * (weight * _light_gain(mouth, layers, box, tone))
    left, top = layers.box[:2]
    under = drawn[box[1] - top : box[3] - top, box[0] - left : box[2] - left]
    alpha = mask[..., None]
    out = under * (1 - sum(weights) * alpha) + texture * alpha
    under[:] = np.clip(out + 0.5, 0, 255).astype(np.uint8)


def blur_lips(layers: Layers, drawn: Pixels, motion: Array) -> None:
    """Blur the lips of a drawn face, the pixels of `layers.box`, along `motion`, (2,) pixels."""
    box, mask = _blend_mask(layers)
    if mask.size == 0:
        return
    left, top = layers.box[:2]
    lips = drawn[box[1] - top : box[3] - top, box[0] - left : box[2] - left]
    lips[:] = cv2.blendLinear(motion_blur.apply(lips, motion), lips.copy(), mask, 1 - mask)


def blur_lower_lip(layers: Layers, drawn: Pixels, motion: Array) -> None:
    """Blur the lower lip of a drawn face, the pixels of `layers.box`, along `motion` (2,)."""
    ring = layers.target[[*LOWER_INNER, *LOWER_OUTER[::-1]]] - layers.box[:2]
    reach = np.abs(motion).max() + 2.5 * layers.opening.scale
    size = (drawn.shape[1], drawn.shape[0])
    (left, top) = np.maximum(np.floor(ring.min(0) - reach), 0).astype(int)
    (right, bottom) = np.minimum(np.ceil(ring.max(0) + reach), size).astype(int)
    lip = drawn[top:bottom, left:right]
    if lip.size == 0:
        return
    mask = np.zeros(lip.shape[:2], np.float32)
    polygon = np.rint((ring - (left, top)) * 16).astype(np.int32)
    width = max(round(float(np.linalg.norm(motion))), 1)
    cv2.fillPoly(mask, [polygon], 1.0, cv2.LINE_8, 4)
    cv2.polylines(mask, [polygon], True, 1.0, width, cv2.LINE_8, 4)
    mask = np.asarray(cv2.GaussianBlur(mask, (0, 0), 0.8 * layers.opening.scale), np.float32)
    lip[:] = cv2.blendLinear(motion_blur.apply(lip, motion), lip.copy(), mask, 1 - mask)


def _blend_mask(layers: Layers) -> tuple[Box, Map]:
    """The box around the lips, and the exemplars' share of each pixel in it."""
    scale = layers.opening.scale
    ring = layers.target[[*UPPER_OUTER, *LOWER_OUTER[::-1]]]
    reach = (BLEND_MARGIN_MM + 2.5 * BLEND_SIGMA_MM) * scale + 2
    low, high = np.floor(ring.min(0) - reach), np.ceil(ring.max(0) + reach)
    box = layers.box
    left, top = max(int(low[0]), box[0]), max(int(low[1]), box[1])
    right, bottom = min(int(high[0]), box[2]), min(int(high[1]), box[3])
    mask = np.zeros((max(bottom - top, 0), max(right - left, 0)), np.float32)
    if mask.size == 0:
        return (left, top, right, bottom), mask
    polygon = np.rint((ring - (left, top)) * 16).astype(np.int32)
    cv2.fillPoly(mask, [polygon], 1.0, cv2.LINE_8, 4)
    cv2.polylines(
        mask, [polygon], True, 1.0, max(round(2 * BLEND_MARGIN_MM * scale), 1), cv2.LINE_8, 4
    )
    blurred = cv2.GaussianBlur(mask, (0, 0), BLEND_SIGMA_MM * scale)
    return (left, top, right, bottom), np.asarray(blurred, np.float32)


def _source_maps(mouths: Sequence[MouthExemplar], layers: Layers, box: Box) -> list[Map]:
    """For each exemplar, the source position of each pixel of the box."""
    grid = Grid(box, layers.opening.scale)
    everything = grid.node_rows(0, grid.height)
    fields = []
    for index in (_ABOVE, _BELOW):
        to = layers.target[index]
        values = [mouth.points[index, :2] - to for mouth in mouths]
        fields.append(ThinPlateSpline(to, np.concatenate(values, axis=1))(grid.nodes))
    first, position, gap = _opening_position(layers, box)
    last = first + len(position)
    out = []
    for i, mouth in enumerate(mouths):
        upper, lower = (grid.source_map(f[:, 2 * i : 2 * i + 2], everything) for f in fields)
        # The interior moves with the nearer lip; both parts meet where it is darkest.
        lack = 1 - float(lip_gap(mouth.lips)) / max(gap, 1e-3)
        width = float(np.clip(1.65 * lack, MIN_SEAM_HEIGHT, 1))
        middle = float(np.clip(mouth.darkest, width / 2, 1 - width / 2))
        down = smoothstep((position - middle) / width + 0.5).astype(np.float32)[..., None]
        at = np.concatenate([upper[:last], lower[last:]])
        at[first:last] += down * (lower[first:last] - upper[first:last])
        out.append(at)
    return out


def _opening_position(layers: Layers, box: Box) -> tuple[int, Map, float]:
    """First row that can show the opening; each pixel's position, down to its last row, between the
    lip edges (0 at the upper, 1 at the lower); and the gap in the middle, mm."""
    o = layers.opening
    m = o.to_mm.astype(np.float32)
    first, last = o.row_range(box, 0.0)
    at_x = np.arange(box[0], box[2], dtype=np.float32)
    at_y = np.arange(box[1] + first, box[1] + last, dtype=np.float32)[:, None]
    x = m[0, 0] * at_x + m[0, 1] * at_y + m[0, 2]
    y = m[1, 0] * at_x + m[1, 1] * at_y + m[1, 2]
    up, low = np.interp(x, o.x, o.upper), np.interp(x, o.x, o.lower)
    gap = np.maximum(low - up, 2 / o.scale)
    return first, (y - (up + low) / 2) / gap + 0.5, float((o.lower - o.upper)[20:45].mean())


def _light_gain(mouth: MouthExemplar, layers: Layers, box: Box, tone: Map) -> Map:
    """Gain of each channel from an exemplar to the frame: a plane over the box, fitted to the skin
    at SKIN_SITES."""
    centre, unit = layers.target[LIPS].mean(0).astype(np.float32), 40 * layers.opening.scale
    at = (layers.target[list(SKIN_SITES)] - centre) / unit
    ratio = np.clip(tone / mouth.tone, 0.5, 2.0)
    off = np.abs(ratio - np.median(ratio, axis=0)).max(1)
    reliable = (off < 3 * np.median(off) + 0.02).astype(np.float64)[:, None]
    plane = np.column_stack([np.ones(len(at)), at])
    system = plane.T @ (reliable * plane) + np.diag([0.0, 1.0, 1.0])
    c = np.linalg.solve(system, plane.T @ (reliable * ratio)).astype(np.float32)
    x = ((np.arange(box[0], box[2], dtype=np.float32) - centre[0]) / unit)[:, None]
    y = ((np.arange(box[1], box[3], dtype=np.float32) - centre[1]) / unit)[:, None, None]
    return (c[0] + x * c[1]) + y * c[2]
