"""A clip's own mouths as texture: for each mouth shape, the person's mouth that comes nearest.

After Bregler, Covell and Slaney (1997, "Video Rewrite"): lips, teeth and tongue are taken from a
frame of the clip that shows about the wanted shape, warped the rest of the way, matched to the
light of the present frame and blended into it around the lips. Which frame serves when is planned
for the whole voice at once, by dynamic programming: near in shape, in pose and in light, and seldom
another. Where no frame comes near, the mouth is painted as on a still.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import cv2
import numpy as np
from numpy.typing import NDArray

from kolbo_demo.engine.head_pose import (
    LOWER_INNER,
    LOWER_OUTER,
    RIGID,
    UPPER_INNER,
    UPPER_OUTER,
    Array,
    Head,
    Pose,
    smoothstep,
)
from kolbo_demo.engine.landmarks import Face
from kolbo_demo.engine.motion_blur import blurred
from kolbo_demo.engine.mouth_curves import SHOWN
from kolbo_demo.engine.mouth_warp import LIPS, LOWER_LAYER, UPPER_LAYER, Layers, Shape, lips
from kolbo_demo.engine.thin_plate import Box, Grid, Map, Pixels, Spline, sampled

MOST, MOST_BYTES = 48, 16_000_000
"""Mouths kept of a clip, and the bytes of their pixels."""
SPARE = (24.0, 20.0)
"""Millimetres of skin kept beside and above or below the lips."""
RIM, SOFT = 4.0, 1.6
"""Millimetres of skin round the lips that come with them, and the spread of the blend."""

SQUEEZED, PRESSED, STRETCHED, PER_DEGREE, PER_TONE = 3.0, 2.0, 4.5, 0.08, 3.0
"""What cost, in millimetres that lips have to be warped: the logarithm of the ratio of openings,
if the wanted one is smaller, how much more if it is closed, and if it is larger; a degree of turn;
and a ratio of brightness."""
PAINTED = 3.0
"""Millimetres of warp for which a painted inside is preferred."""
OPAQUE = 0.4
"""Share of an opening that does not look like lip, under which the opening is doubted."""
SWITCH, SWITCH_TONE, SHUT = 1.6, 1.6, 0.4
"""The same for taking another mouth than the frame before; so much more where its inside is e times
as bright; and the part of both that counts where lips meet and a change is not seen."""
PLANNED = 1000
"""Frames whose cost is found at once: memory stays constant."""
MEETING = 0.6
"""Of an opening's height, the least over which the parts that go with either lip meet."""
FADE = (0.25, 0.5, 0.25)
"""A change from one mouth to another is spread over so many frames,"""
FADE_COST = 1.0
"""and over fewer where one of the two fits worse, by so many millimetres for a factor of e."""

_FAR = {
    50, 280, 187, 411, 147, 376, 192, 416, 214, 434, 132, 361, 58, 288, 172, 397, 136, 365, 175,
    199, 152, 148, 377, 176, 400, 149, 378, 150, 379,
}  # fmt: skip
"""Points of the face's layers that lie beyond the blend."""
_ABOVE, _BELOW = ([i for i in layer if i not in _FAR] for layer in (UPPER_LAYER, LOWER_LAYER))
_SITES = (
    164, 167, 393, 165, 391, 206, 426, 216, 436, 212, 432, 202, 422, 204, 424, 200, 201, 421, 194,
    418, 186, 410,
)  # fmt: skip
"""Skin round the mouth whose light is compared."""
_SITE_REACH = 1.4
"""Millimetres round each of them."""
LUMA = np.array([0.299, 0.587, 0.114], np.float32)


@dataclass(frozen=True)
class Mouth:
    """One mouth of the clip: `rgb` a crop of its frame, `points` (478, 3) the landmarks in it
    (pixels, inner lip edges as they are rather than as the landmarker tells them), `pose` the
    head's in the same pixels, `tone` (sites, 3) the skin's colours."""

    rgb: Pixels
    points: Array
    pose: Pose
    tone: Map
    inside: float
    """Of what lies between the lips' edges, how much does not look like lip, 0-1,"""
    light: float
    """and how bright it is, 1-256."""
    hollow: float
    """Where between the upper and the lower lip it is darkest, 0-1: there a stretch shows least."""

    @cached_property
    def lips(self) -> Array:
        """Where the lips are, (44, 2) head millimetres."""
        return self.pose.unproject(self.points[LIPS])[:, :2]

    @cached_property
    def whole(self) -> bool:
        """Whether the picture shows all of it, with the skin that is blended."""
        lips, rim = self.points[LIPS, :2], RIM * self.pose.scale
        size = np.array(self.rgb.shape[1::-1])
        return bool((lips.min(0) >= rim).all() and (lips.max(0) < size - rim).all())

    @classmethod
    def cut(cls, rgb: Pixels, points: Array, pose: Pose) -> "Mouth":
        points = _parted(points, pose)
        spare = np.array(SPARE) * pose.scale
        lips = points[LIPS, :2]
        left, top = np.maximum(lips.min(0) - spare, 0).astype(int)
        right, bottom = (lips.max(0) + spare).astype(int) + 1
        shift = np.array([left, top, 0])
        tone = tones(rgb, points, pose.scale)
        pixels = rgb[top:bottom, left:right].copy()
        points, pose = points - shift, Pose(pose.matrix, pose.shift - shift)
        return cls(pixels, points, pose, tone, *_inside(pixels, points, pose))


def tones(rgb: Pixels, points: Array, scale: float) -> Map:
    """Colours of the skin round a mouth, (sites, 3) float32. `points` (478, 2+) pixels."""
    reach = max(_SITE_REACH * scale, 1.0)
    ring = np.linspace(-reach, reach, 5)
    at = points[list(_SITES), None, None, :2] + np.stack(np.meshgrid(ring, ring), -1)
    height, width = rgb.shape[:2]
    x = np.clip(np.rint(at[..., 0]).astype(int), 0, width - 1)
    y = np.clip(np.rint(at[..., 1]).astype(int), 0, height - 1)
    return rgb[y, x].reshape(len(_SITES), -1, 3).mean(1, dtype=np.float32) + 1.0


def _parted(points: Array, pose: Pose) -> Array:
    """Landmarks whose inner lip edges stand as far apart as the lips do: the landmarker takes
    lips that are a little apart for closed (`mouth.SHOWN`)."""
    down = pose.matrix[:2, 1]
    unit = float(down @ down)
    upper, lower = list(UPPER_INNER), list(LOWER_INNER)
    gaps = ((points[lower, :2] - points[upper, :2]) @ down) / unit
    shown = float(gaps[3:8].mean())
    more = max(float(np.interp(shown, *SHOWN)) - shown, 0.0)
    t = np.linspace(-1, 1, len(upper))
    by = (0.5 * more * (1 - t**2))[:, None] * down
    out = points.copy()
    out[upper, :2] -= by
    out[lower, :2] += by
    return out


def _inside(rgb: Pixels, points: Array, pose: Pose) -> tuple[float, float, float]:
    """Of the opening's pixels the share that are darker, lighter or less red than both lips, the
    brightness, and the middle of the darkness.

    The landmarker takes the shade between some closed lips for an opening.
    """
    opening = np.zeros(rgb.shape[:2], np.uint8)
    ring = points[[*UPPER_INNER, *LOWER_INNER[::-1]], :2]
    cv2.fillPoly(opening, [np.rint(ring * 16).astype(np.int32)], 1, cv2.LINE_8, 4)
    shape = np.array(rgb.shape[1::-1]) - 1
    lips = []
    for inner, outer in ((UPPER_INNER, UPPER_OUTER), (LOWER_INNER, LOWER_OUTER)):
        ends = points[list(inner[2:9]), :2], points[list(outer[2:9]), :2]
        middle = np.concatenate([w * ends[0] + (1 - w) * ends[1] for w in (0.3, 0.5, 0.7)])
        x, y = np.clip(np.rint(middle).astype(int), 0, shape).T
        lips.append(_tint(rgb[y, x]))
    dark = min(float(np.percentile(light, 20)) for light, _ in lips)
    bright = max(float(np.percentile(light, 80)) for light, _ in lips)
    red = min(float(np.percentile(redness, 20)) for _, redness in lips)
    if not opening.any():  # the picture ends above the mouth
        return 0.0, 1.0, 0.5
    y, x = np.nonzero(opening)
    light, redness = _tint(rgb[y, x])
    other = (light < 0.8 * dark) | (light > bright + 12) | (redness < red - 7)
    back = np.linalg.inv(pose.matrix[:2, :2]).T
    at = np.column_stack([x, y]) @ back
    up, low = (
        np.interp(at[:, 0], ring[:, 0], ring[:, 1])
        for ring in (points[list(edge), :2] @ back for edge in (UPPER_INNER, LOWER_INNER))
    )
    place = np.clip((at[:, 1] - up) / np.maximum(low - up, 0.1), 0, 1)
    darkness = np.maximum(np.percentile(light, 75) - light, 0.01)
    hollow = float((place * darkness).sum() / darkness.sum())
    return float(other.mean()), float(light.mean()) + 1, hollow


def _tint(rgb: Pixels) -> tuple[Map, Map]:
    """Brightness and redness of colours (n, 3)."""
    colours = rgb.astype(np.float32)
    return colours @ LUMA, colours[:, 0] - colours[:, 1:].mean(1)


def _ratio(gap: Array | float, other: Array | float) -> NDArray[np.floating]:
    """How much further open one mouth is than another, as a logarithm; a slit is nearly closed."""
    return np.log((np.asarray(gap) + 1.5) / (np.asarray(other) + 1.5))


def _apart(lips: Array, other: Array) -> NDArray[np.floating]:
    """Root mean square distance of two lips' points (..., 44, 2), wherever on the head, mm."""
    off = lips - other
    off = off - off.mean(-2, keepdims=True)
    return np.sqrt((off**2).sum(-1).mean(-1))


def _all_apart(lips: Array, others: Array) -> NDArray[np.floating]:
    """`_apart` of each of (n, 44, 2) from each of (m, 44, 2), (n, m) mm."""
    one, two = (
        (each - each.mean(1, keepdims=True)).reshape(len(each), -1) for each in (lips, others)
    )
    squares = (one**2).sum(1)[:, None] + (two**2).sum(1) - 2 * one @ two.T
    return np.sqrt(np.maximum(squares, 0) / lips.shape[1])


def _gap(lips: Array) -> NDArray[np.floating]:
    """Height of the opening's middle, mm: (..., 44, 2) to (...)."""
    n = len(UPPER_INNER)
    upper, lower = lips[..., -2 * n : -n, 1], lips[..., -n:, 1]
    return np.maximum((lower - upper)[..., 3:8].mean(-1), 0)


Cast = list[tuple[int, float]]
"""Mouths for one frame and their shares, which add up to 1; what is missing is painted."""


@dataclass(frozen=True)
class Casts:
    """The cast of each frame, in little room: a clip may be long."""

    mouths: NDArray[np.int16]
    """Places among `Mouths.kept`, (frames, 0-2)."""
    shares: NDArray[np.float32]
    """Of each, 0-1: 0 does not play."""

    def __getitem__(self, frame: int) -> Cast:
        both = zip(self.mouths[frame].tolist(), self.shares[frame].tolist(), strict=True)
        return [(mouth, share) for mouth, share in both if share]


def covers(cast: Cast) -> bool:
    """Whether nothing is left to be painted."""
    return sum(share for _, share in cast) > 1 - 1e-6


def unseen(x: Map, _y: Map) -> Map:
    """Paint for an inside that a mouth will cover."""
    return np.zeros((*x.shape, 3), np.float32)


@dataclass(frozen=True)
class Mouths:
    """All the mouths kept of a clip, and what its frames look like: arrays and numbers only."""

    kept: tuple[Mouth, ...]
    places: Array
    """(n,) the clip's frames that were looked at,"""
    turns: Array
    """(n, 3) the head's forward direction there,"""
    lights: Array
    """(n,) the logarithm of the skin's brightness,"""
    lips: Array
    """(n, 44, 2) and where the lips were, head millimetres."""

    @classmethod
    def learnt(
        cls, head: Head, seen: Sequence[tuple[Pixels, Face]], places: Sequence[int]
    ) -> "Mouths":
        """Out of pictures of one person, each at a place (frame) of the clip."""
        rigid = head.points[list(RIGID)]
        mouths, errors, sharp = [], [], []
        for rgb, face in seen:
            points = face.points.astype(np.float64)
            pose = Pose.aligning(rigid, points[list(RIGID)])
            off = pose.project(rigid) - points[list(RIGID), :2]
            errors.append(float(np.sqrt((off**2).sum(1).mean())) / pose.scale)
            mouths.append(Mouth.cut(rgb, points, pose))
            sharp.append(_fineness(mouths[-1].rgb))
        turns = np.array([mouth.pose.matrix[:, 2] / mouth.pose.scale for mouth in mouths])
        lights = np.array([np.log(mouth.tone.mean()) for mouth in mouths])
        usable = np.array(errors) < 2.0 * np.median(errors) + 0.5
        usable &= np.array(sharp) > 0.6 * np.median(sharp)
        usable &= np.array([mouth.whole for mouth in mouths])
        usable &= _like_the_others(np.array([mouth.tone for mouth in mouths]))
        kept = _diverse([mouth for mouth, good in zip(mouths, usable, strict=True) if good])
        lips = np.array([mouth.lips for mouth in mouths])
        return cls(tuple(kept), np.array(places, np.float64), turns, lights, lips)

    def planned(self, head: Head, shapes: Sequence[Shape], places: Array) -> Casts:
        """Who plays in each frame of `shapes`: `places` (frames,) are the clip's frames behind
        them. The same for the same curve, however it is rendered."""
        if not self.kept:
            return Casts(
                np.zeros((len(shapes), 0), np.int16), np.zeros((len(shapes), 0), np.float32)
            )
        fit = self._fit(head, shapes, places)
        lights = np.array([mouth.light for mouth in self.kept])
        lights = np.log(np.append(lights, np.median(lights)))
        change = SWITCH + SWITCH_TONE * np.abs(lights[:, None] - lights)
        np.fill_diagonal(change, 0)
        opened = np.minimum([shape.aperture / 2 for shape in shapes], 1)
        path = _cheapest(fit, change, SHUT + (1 - SHUT) * opened)
        states = np.eye(fit.shape[1])[path]
        padded = np.pad(states, ((1, 1), (0, 0)), mode="edge")
        shares = sum(w * padded[i : i + len(states)] for i, w in enumerate(FADE))
        best = fit[np.arange(len(fit)), path]
        shares = shares * np.exp(-np.maximum(fit - best[:, None], 0) / FADE_COST)
        # Two at once are enough.
        least = np.sort(shares, axis=1)[:, -2:-1]
        shares = np.where((shares >= least) & (shares > 0.05), shares, 0)
        shares /= shares.sum(1, keepdims=True)
        own = shares[:, :-1]
        two = np.sort(np.argsort(-own, axis=1, kind="stable")[:, :2], axis=1)
        found = np.take_along_axis(own, two, axis=1)
        return Casts(two.astype(np.int16), found.astype(np.float32))

    def _fit(self, head: Head, shapes: Sequence[Shape], places: Array) -> Array:
        """What each mouth costs in each frame, mm: (frames, mouths + 1), last the painted one."""
        own = np.array([mouth.lips for mouth in self.kept])
        gaps = _gap(own)
        sure = gaps * np.minimum([mouth.inside / OPAQUE for mouth in self.kept], 1)
        turns = np.array([mouth.pose.matrix[:, 2] / mouth.pose.scale for mouth in self.kept])
        lights = np.array([np.log(mouth.tone.mean()) for mouth in self.kept])
        there = self._at(places, self.turns)
        angles = np.degrees(np.arccos(np.clip(there @ turns.T, -1, 1)))
        light = self._at(places, self.lights)
        costs = PER_DEGREE * angles + PER_TONE * np.abs(light[:, None] - lights)
        costs = np.column_stack([costs, np.zeros(len(shapes))])
        for first in range(0, len(shapes), PLANNED):
            part = slice(first, first + PLANNED)
            costs[part] += self._warped(own, sure, head, shapes[part], places[part])
        return costs

    def _warped(
        self, own: Array, sure: Array, head: Head, shapes: Sequence[Shape], places: Array
    ) -> Array:
        """The part of the costs that lips' shapes make. `own` (mouths, 44, 2) are the mouths' lips,
        `sure` (mouths,) the height of the openings that are not doubted."""
        wanted, present = lips(head, shapes), self._at(places, self.lips)
        gaps, gap = _gap(own), _gap(wanted)[:, None]
        opened = np.minimum(gap / 2, 1.0)
        squeezed = (SQUEEZED + PRESSED * (1 - opened)) * _ratio(sure, gap)
        stretched = STRETCHED * (opened * _ratio(gaps, sure) - np.minimum(_ratio(gaps, gap), 0))
        bleeds = np.maximum(_ratio(_gap(present)[:, None], gap), 0) * (1 - opened)
        painted = _apart(present, wanted)[:, None] + PAINTED * opened + SQUEEZED * bleeds
        return np.hstack([np.maximum(squeezed, 0) + stretched + _all_apart(wanted, own), painted])

    def _at(self, places: Array, values: Array) -> Array:
        """Values (n, ...) of the frames that were looked at, for others between them."""
        flat = values.reshape(len(values), -1).T
        out = np.stack([np.interp(places, self.places, value) for value in flat], -1)
        return out.reshape(len(places), *values.shape[1:])

    def lay(self, layers: Layers, drawn: Pixels, cast: Cast, tone: Map) -> None:
        """Lays a frame's mouths over its warped face `drawn`, the pixels of `layers.box`.

        `tone` are the frame's own skin colours (`tones`).
        """
        box, mask = _blend(layers)
        if mask.size == 0 or not cast:
            return
        mouths = [self.kept[index] for index, _ in cast]
        shares = [share for _, share in cast]
        mix = np.zeros((*mask.shape, 3), np.float32)
        for mouth, share, at in zip(mouths, shares, _maps(mouths, layers, box), strict=True):
            mix += sampled(mouth.rgb, at) * (share * _gain(mouth, layers, box, tone))
        left, top = layers.box[:2]
        under = drawn[box[1] - top : box[3] - top, box[0] - left : box[2] - left]
        alpha = mask[..., None]
        out = under * (1 - sum(shares) * alpha) + mix * alpha
        under[:] = np.clip(out + 0.5, 0, 255).astype(np.uint8)


def blur_lips(layers: Layers, drawn: Pixels, by: Array) -> None:
    """Blurs the lips of a drawn face, the pixels of `layers.box`, by a move of (2,) pixels."""
    box, mask = _blend(layers)
    if mask.size == 0:
        return
    left, top = layers.box[:2]
    lips = drawn[box[1] - top : box[3] - top, box[0] - left : box[2] - left]
    lips[:] = cv2.blendLinear(blurred(lips, by), lips.copy(), mask, 1 - mask)


def _blend(layers: Layers) -> tuple[Box, Map]:
    """The pixels round the lips and how much of each is the mouth's."""
    scale = layers.opening.scale
    ring = layers.target[[*UPPER_OUTER, *LOWER_OUTER[::-1]]]
    reach = (RIM + 2.5 * SOFT) * scale + 2
    low, high = np.floor(ring.min(0) - reach), np.ceil(ring.max(0) + reach)
    box = layers.box
    left, top = max(int(low[0]), box[0]), max(int(low[1]), box[1])
    right, bottom = min(int(high[0]), box[2]), min(int(high[1]), box[3])
    mask = np.zeros((max(bottom - top, 0), max(right - left, 0)), np.float32)
    if mask.size == 0:
        return (left, top, right, bottom), mask
    polygon = np.rint((ring - (left, top)) * 16).astype(np.int32)
    cv2.fillPoly(mask, [polygon], 1.0, cv2.LINE_8, 4)
    cv2.polylines(mask, [polygon], True, 1.0, max(round(2 * RIM * scale), 1), cv2.LINE_8, 4)
    blurred = cv2.GaussianBlur(mask, (0, 0), SOFT * scale)
    return (left, top, right, bottom), np.asarray(blurred, np.float32)


def _maps(mouths: Sequence[Mouth], layers: Layers, box: Box) -> list[Map]:
    """For each mouth the pixel of it that each of the box's shows."""
    grid = Grid(box, layers.opening.scale)
    everything = grid.over(0, grid.height)
    fields = []
    for index in (_ABOVE, _BELOW):
        to = layers.target[index]
        values = [mouth.points[index, :2] - to for mouth in mouths]
        fields.append(Spline(to, np.concatenate(values, axis=1))(grid.nodes))
    first, place, gap = _between(layers, box)
    last = first + len(place)
    out = []
    for i, mouth in enumerate(mouths):
        upper, lower = (grid.upsampled(f[:, 2 * i : 2 * i + 2], everything) for f in fields)
        # Each lip takes what lies behind it along; the two meet where it is dark.
        lack = 1 - float(_gap(mouth.lips)) / max(gap, 1e-3)
        width = float(np.clip(1.65 * lack, MEETING, 1))
        middle = float(np.clip(mouth.hollow, width / 2, 1 - width / 2))
        down = smoothstep((place - middle) / width + 0.5).astype(np.float32)[..., None]
        at = np.concatenate([upper[:last], lower[last:]])
        at[first:last] += down * (lower[first:last] - upper[first:last])
        out.append(at)
    return out


def _between(layers: Layers, box: Box) -> tuple[int, Map, float]:
    """The first row that can show the opening; from there to its last row where each pixel lies
    between the lips' edges, 0 at the upper and 1 at the lower; and their gap in the middle, mm."""
    o = layers.opening
    m = o.to_mm.astype(np.float32)
    first, last = o.band(box, 0.0)
    at_x = np.arange(box[0], box[2], dtype=np.float32)
    at_y = np.arange(box[1] + first, box[1] + last, dtype=np.float32)[:, None]
    x = m[0, 0] * at_x + m[0, 1] * at_y + m[0, 2]
    y = m[1, 0] * at_x + m[1, 1] * at_y + m[1, 2]
    up, low = np.interp(x, o.x, o.upper), np.interp(x, o.x, o.lower)
    gap = np.maximum(low - up, 2 / o.scale)
    return first, (y - (up + low) / 2) / gap + 0.5, float((o.lower - o.upper)[20:45].mean())


def _gain(mouth: Mouth, layers: Layers, box: Box, tone: Map) -> Map:
    """How much brighter each channel is in the frame than in the mouth's own: a plane over the
    picture, through the skin round the mouth."""
    centre, unit = layers.target[LIPS].mean(0).astype(np.float32), 40 * layers.opening.scale
    at = (layers.target[list(_SITES)] - centre) / unit
    ratio = np.clip(tone / mouth.tone, 0.5, 2.0)
    off = np.abs(ratio - np.median(ratio, axis=0)).max(1)
    steady = (off < 3 * np.median(off) + 0.02).astype(np.float64)[:, None]
    plane = np.column_stack([np.ones(len(at)), at])
    system = plane.T @ (steady * plane) + np.diag([0.0, 1.0, 1.0])
    c = np.linalg.solve(system, plane.T @ (steady * ratio)).astype(np.float32)
    x = ((np.arange(box[0], box[2], dtype=np.float32) - centre[0]) / unit)[:, None]
    y = ((np.arange(box[1], box[3], dtype=np.float32) - centre[1]) / unit)[:, None, None]
    return (c[0] + x * c[1]) + y * c[2]


def _fineness(rgb: Pixels) -> float:
    """Strength of the finest detail: motion blur has little."""
    grey = cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY).astype(np.float32)
    return float(np.abs(cv2.Laplacian(grey, cv2.CV_32F)).mean())


def _like_the_others(tone: Array) -> NDArray[np.bool_]:
    """Whether a mouth's skin looks like skin does in most pictures, whatever the light: a hand or
    a microphone before it does not. `tone` (n, sites, 3)."""
    values = np.log(tone)
    values = values - np.median(values, axis=1, keepdims=True)
    off = np.abs(values - np.median(values, axis=0)).mean((1, 2))
    return off < 2.5 * np.median(off) + 0.05


def _diverse(mouths: list[Mouth]) -> list[Mouth]:
    """At most MOST, as different in shape as can be, of at most MOST_BYTES."""
    if not mouths:
        return []
    most = min(MOST, max(int(MOST_BYTES / max(mouth.rgb.nbytes for mouth in mouths)), 1))
    if len(mouths) <= most:
        return mouths
    lips = np.array([mouth.lips for mouth in mouths])
    taken = [int(np.argmin(_gap(lips)))]
    far = np.full(len(mouths), np.inf)
    while len(taken) < most:
        far = np.minimum(far, ((lips - lips[taken[-1]]) ** 2).sum((1, 2)))
        taken.append(int(far.argmax()))
    return [mouths[i] for i in sorted(taken)]


def _cheapest(fit: Array, change: Array, weight: Array) -> NDArray[np.intp]:
    """The path (frames,) through the states of least cost: `fit` (frames, states) to be in them,
    `change` (states, states) times `weight` (frames,) to go from one to another."""
    total = fit[0]
    came = np.zeros(fit.shape, np.intp)
    for frame in range(1, len(fit)):
        ways = total[:, None] + weight[frame] * change
        came[frame] = ways.argmin(0)
        total = ways.min(0) + fit[frame]
    path = np.empty(len(fit), np.intp)
    path[-1] = int(total.argmin())
    for frame in range(len(fit) - 1, 0, -1):
        path[frame - 1] = came[frame, path[frame]]
    return path
