"""Chooses the mouth exemplars of each frame for a whole voice, by dynamic programming.

An exemplar costs the warp of its lips and the mismatch of its opening, pose and light; a change of
exemplars costs extra. Where no exemplar comes near, the mouth is painted as on a still.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from kolbo_demo.engine.head_pose import Array, Head
from kolbo_demo.engine.mouth_curves import MouthCurves
from kolbo_demo.engine.mouth_exemplars import (
    ExemplarSet,
    forward_directions,
    lip_gap,
    skin_brightness,
)
from kolbo_demo.engine.mouth_shape import MouthShape, lip_points
from kolbo_demo.json_codec import stored_as

# Costs are in millimetres of lip warp.
SMALLER_COST, CLOSED_COST = 3.0, 2.0
"""Cost for each factor e by which the target's opening is smaller than the exemplar's, and its
addition where the target is closed."""
LARGER_COST = 4.5
"""Cost for each factor e by which the target's opening is larger."""
COST_PER_DEGREE = 0.08
"""Cost of a turn of the head."""
BRIGHTNESS_COST = 3.0
"""Cost for each factor e in the skin's brightness."""
PAINTING_COST = 3.0
"""Cost of a painted interior."""
SWITCH_COST, SWITCH_BRIGHTNESS_COST = 1.6, 1.6
"""Cost of a change of exemplars, and its addition for each factor e in their interiors' brightness.
"""
CLOSED_SWITCH_SHARE = 0.4
"""Share of these costs where closed lips hide the change."""
MIN_INTERIOR_SHARE = 0.4
"""`interior_share` below which an exemplar's opening is uncertain."""
COST_BATCH_FRAMES = 1000
"""Frames whose costs are computed at once, so that memory stays constant."""
FADE_WEIGHTS = (0.25, 0.5, 0.25)
"""Cross-fade over consecutive frames."""
FADE_COST_MM = 1.0
"""Excess cost that reduces an exemplar's weight in a cross-fade by a factor of e."""
MIN_WEIGHT = 0.05
"""Smaller weights in a cross-fade are dropped."""

Mix = list[tuple[int, float]]
"""Indices of a frame's exemplars, and weights. The painted interior has the rest of the weight."""


@dataclass(frozen=True)
class MixPlan:
    """The `Mix` of each frame, as compact arrays."""

    indices: NDArray[np.int16] = field(metadata=stored_as("mouths"))
    """Indices of `ExemplarSet.exemplars`, (frames, 0-2)."""
    weights: NDArray[np.float32] = field(metadata=stored_as("shares"))
    """Weights 0-1, (frames, 0-2)."""

    def __getitem__(self, frame: int) -> Mix:
        both = zip(self.indices[frame].tolist(), self.weights[frame].tolist(), strict=True)
        return [(index, weight) for index, weight in both if weight]


def plan_mixes(
    exemplars: ExemplarSet, head: Head, curves: MouthCurves, source_frames: Sequence[int]
) -> MixPlan:
    """The exemplars of each frame of `curves`, whose frames of the clip are `source_frames`.

    The result depends on the whole curves, not on their division into segments.
    """
    shapes = [MouthShape.at(curves, frame) for frame in range(len(curves))]
    if not exemplars.exemplars:
        empty = np.zeros((len(shapes), 0))
        return MixPlan(empty.astype(np.int16), empty.astype(np.float32))
    costs = _costs(exemplars, head, shapes, np.array(source_frames, np.float64))
    brightness = np.array([mouth.brightness for mouth in exemplars.exemplars])
    brightness = np.log(np.append(brightness, np.median(brightness)))
    difference = np.abs(brightness[:, None] - brightness)
    switch_costs = SWITCH_COST + SWITCH_BRIGHTNESS_COST * difference
    np.fill_diagonal(switch_costs, 0)
    opened = np.minimum([shape.aperture / 2 for shape in shapes], 1)
    switch_weights = CLOSED_SWITCH_SHARE + (1 - CLOSED_SWITCH_SHARE) * opened
    return _cross_faded(_cheapest_path(costs, switch_costs, switch_weights), costs)


def _cross_faded(path: NDArray[np.intp], costs: Array) -> MixPlan:
    """The exemplars along a path, at most two a frame, faded into each other."""
    states = np.eye(costs.shape[1])[path]
    padded = np.pad(states, ((1, 1), (0, 0)), mode="edge")
    weights = sum(w * padded[i : i + len(states)] for i, w in enumerate(FADE_WEIGHTS))
    best = costs[np.arange(len(costs)), path]
    weights = weights * np.exp(-np.maximum(costs - best[:, None], 0) / FADE_COST_MM)
    second = np.sort(weights, axis=1)[:, -2:-1]
    weights = np.where((weights >= second) & (weights > MIN_WEIGHT), weights, 0)
    weights /= weights.sum(1, keepdims=True)
    own = weights[:, :-1]  # without the painted interior
    indices = np.sort(np.argsort(-own, axis=1, kind="stable")[:, :2], axis=1)
    chosen = np.take_along_axis(own, indices, axis=1)
    return MixPlan(indices.astype(np.int16), chosen.astype(np.float32))


def _costs(
    exemplars: ExemplarSet, head: Head, shapes: Sequence[MouthShape], frames: Array
) -> Array:
    """Cost of each exemplar in each frame, (frames, exemplars + 1); the last is painting."""
    mouths = exemplars.exemplars
    lips = np.array([mouth.lips for mouth in mouths])
    certainty = np.minimum([mouth.interior_share / MIN_INTERIOR_SHARE for mouth in mouths], 1)
    certain_gaps = lip_gap(lips) * certainty
    forward = _interpolate(exemplars, frames, exemplars.forward)
    angles = np.degrees(np.arccos(np.clip(forward @ forward_directions(mouths).T, -1, 1)))
    brightness = _interpolate(exemplars, frames, exemplars.log_brightness)
    difference = np.abs(brightness[:, None] - skin_brightness(mouths))
    costs = COST_PER_DEGREE * angles + BRIGHTNESS_COST * difference
    costs = np.column_stack([costs, np.zeros(len(shapes))])
    for first in range(0, len(shapes), COST_BATCH_FRAMES):
        part = slice(first, first + COST_BATCH_FRAMES)
        target = lip_points(head, shapes[part])
        present = _interpolate(exemplars, frames[part], exemplars.lips)
        costs[part] += _shape_costs(target, present, lips, certain_gaps)
    return costs


def _shape_costs(target: Array, present: Array, lips: Array, certain_gaps: Array) -> Array:
    """Costs (frames, exemplars + 1) of lip shapes.

    `target` and `present` (frames, 44, 2) are the lips to show and those in the clip's frames,
    `lips` (exemplars, 44, 2) those of the exemplars, `certain_gaps` (exemplars,) their openings,
    reduced where uncertain.
    """
    gaps, gap = lip_gap(lips), lip_gap(target)[:, None]
    opened = np.minimum(gap / 2, 1.0)
    smaller = (SMALLER_COST + CLOSED_COST * (1 - opened)) * _log_gap_ratio(certain_gaps, gap)
    larger = LARGER_COST * (
        opened * _log_gap_ratio(gaps, certain_gaps) - np.minimum(_log_gap_ratio(gaps, gap), 0)
    )
    # A closed target over an open mouth: its teeth would show.
    unclosed = np.maximum(_log_gap_ratio(lip_gap(present)[:, None], gap), 0) * (1 - opened)
    painting = (
        _lip_distance(present, target)[:, None] + PAINTING_COST * opened + SMALLER_COST * unclosed
    )
    return np.hstack([np.maximum(smaller, 0) + larger + _lip_distances(target, lips), painting])


def _interpolate(exemplars: ExemplarSet, frames: Array, values: Array) -> Array:
    """Values (n, ...) of the reference frames, interpolated at `frames`."""
    flat = values.reshape(len(values), -1).T
    out = np.stack([np.interp(frames, exemplars.frames, value) for value in flat], -1)
    return out.reshape(len(frames), *values.shape[1:])


def _log_gap_ratio(gap: Array, other: Array) -> NDArray[np.floating]:
    """Logarithm of the ratio of two openings (mm); slits count as nearly closed."""
    return np.log((gap + 1.5) / (other + 1.5))


def _lip_distance(lips: Array, other: Array) -> NDArray[np.floating]:
    """Root mean square distance of points LIPS (..., 44, 2) up to translation, mm."""
    off = lips - other
    off = off - off.mean(-2, keepdims=True)
    return np.sqrt((off**2).sum(-1).mean(-1))


def _lip_distances(lips: Array, others: Array) -> NDArray[np.floating]:
    """`_lip_distance` of each of (n, 44, 2) from each of (m, 44, 2), (n, m) mm."""
    one, two = (
        (each - each.mean(1, keepdims=True)).reshape(len(each), -1) for each in (lips, others)
    )
    squares = (one**2).sum(1)[:, None] + (two**2).sum(1) - 2 * one @ two.T
    return np.sqrt(np.maximum(squares, 0) / lips.shape[1])


def _cheapest_path(costs: Array, switch_costs: Array, switch_weights: Array) -> NDArray[np.intp]:
    """The sequence of states (frames,) of least cost, by the Viterbi algorithm.

    `costs` (frames, states) is the cost of each state, `switch_costs` (states, states) times
    `switch_weights` (frames,) that of each transition.
    """
    total = costs[0]
    previous = np.zeros(costs.shape, np.intp)
    for frame in range(1, len(costs)):
        totals = total[:, None] + switch_weights[frame] * switch_costs
        previous[frame] = totals.argmin(0)
        total = totals.min(0) + costs[frame]
    path = np.empty(len(costs), np.intp)
    path[-1] = int(total.argmin())
    for frame in range(len(costs) - 1, 0, -1):
        path[frame - 1] = previous[frame, path[frame]]
    return path
