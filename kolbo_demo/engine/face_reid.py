"""Whose face it is, and whether its mouth is to be seen: told from the colours at the landmarks.

Landmarks say where the same spot of a face is in every picture, however the head is turned, so
colours there can be compared spot by spot. What light does to a whole face (level, tint, a slope
across it) is taken out; what is left of brows, eyes and nose tells one person from another, and
what is left of lips and chin tells a mouth from a hand before it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import cv2
import numpy as np
from numpy.typing import NDArray

from kolbo_demo.engine.head_pose import (
    CHIN,
    LOWER_INNER,
    LOWER_OUTER,
    UPPER_INNER,
    UPPER_OUTER,
    Array,
    Pose,
)
from kolbo_demo.engine.landmarks import LEFT_EYE_CORNER, RIGHT_EYE_CORNER, Face, Pixels

EYES_APART = 32.0
"""Pixels between the outer eye corners at which colours are compared: finer detail is noise."""
SAME = 0.72
"""Likeness from which on a face is the person's."""
FOLLOWED = 0.55
"""The same where the face was followed from the picture before."""
HIDDEN = 0.66
"""Likeness of the mouth under which something is before it."""
EXEMPLARS = 8
"""Pictures of a person, and of others, that are remembered."""

_OVAL = {
    10, 338, 297, 332, 284, 251, 389, 356, 454, 323, 361, 288, 397, 365, 379, 378, 400, 377, 152,
    148, 176, 149, 150, 136, 172, 58, 132, 93, 234, 127, 162, 21, 54, 103, 67, 109,
}  # fmt: skip
"""The face's outline, where the background begins."""
_INSIDE = {*UPPER_INNER, *LOWER_INNER}
_LIPS = {*UPPER_OUTER, *LOWER_OUTER, *_INSIDE}
_MESH = 468
"""Landmarks of the skin; those after them are the irises."""
_UNDER_NOSE = 12.0
"""Millimetres under the base of the nose where the mouth's part of the face begins."""
_BESIDE = 32.0
"""Millimetres to either side of the nose that it reaches."""
_COLOURS = np.array([[0.3, 2, 0], [0.6, -2, -1], [0.1, 0, 1]], np.float32)
"""RGB logarithms to lightness, redness (which tells lips) and blueness."""
_TINT = np.array([1, 2, 2], np.float32)
"""How much more tints count than lightness where people are told apart: shadows change it most."""


@dataclass(frozen=True)
class Look:
    """One face in one picture: unit vectors of what its upper part and its mouth look like."""

    face: Array
    mouth: Array


@dataclass(frozen=True)
class Person:
    """What one person looks like, as far as it was seen."""

    at: Array
    """(478, 2) head millimetres of the face that was seen first: which landmarks lie where."""
    faces: Array
    """(n, ...) upper faces, as `Look.face`,"""
    mouths: Array
    """(n, ...) mouths that nothing hides,"""
    others: Array
    """(m, ...) and the upper faces of those who were seen beside the person."""

    @classmethod
    def first(cls, rgb: Pixels, face: Face, others: Sequence[Face] = ()) -> "Person":
        """As seen in one picture, with others in it."""
        at = Pose.of(face.points).unproject(face.points.astype(np.float64))[:, :2]
        blank = cls(at, *(np.zeros((0, 0)),) * 3)
        own = blank.look(rgb, face)
        beside = np.empty((0, len(own.face)), np.float32)
        looks = [blank.look(rgb, other).face[None] for other in others[:EXEMPLARS]]
        return cls(at, own.face[None], own.mouth[None], np.concatenate([beside, *looks]))

    @cached_property
    def _upper(self) -> "_Part":
        x, y = self.at.T
        there = [i for i in range(_MESH) if i not in _OVAL | _LIPS and y[i] < _UNDER_NOSE]
        return _Part.of(x, y, there, bent=True)

    @cached_property
    def _mouth(self) -> "_Part":
        x, y = self.at.T
        there = [
            i
            for i in range(_MESH)
            if i not in _OVAL | _INSIDE
            and _UNDER_NOSE <= y[i] < y[CHIN] - 4
            and abs(x[i]) < _BESIDE
        ]
        return _Part.of(x, y, there, bent=False)

    def look(self, rgb: Pixels, face: Face) -> Look:
        """What a face looks like in a picture, for comparison with this person."""
        colours = np.log(_colours(rgb, face.points) + 8) @ _COLOURS
        return Look(self._upper(colours * _TINT), self._mouth(colours))

    def likeness(self, look: Look) -> float:
        """-1 to 1: how much a face is like the person's in the picture of it that is most like it;
        -1 where it is more like that of somebody seen beside the person."""
        own = float((self.faces @ look.face).max())
        if len(self.others) and float((self.others @ look.face).max()) > own:
            return -1.0
        return own

    def hides(self, look: Look) -> bool:
        """Whether something is before the mouth."""
        return float((self.mouths @ look.mouth).max()) < HIDDEN

    def joined_by(self, looks: Sequence[Look], others: Sequence[Look] = ()) -> "Person":
        """With what more pictures show. Mouths unlike most are taken to be hidden."""
        mouths = np.array([look.mouth for look in looks])
        usual = _unit(np.median(mouths, axis=0))
        mouths = mouths[mouths @ usual >= HIDDEN]
        beside = np.array([look.face for look in others] or self.others[:0])
        return Person(
            self.at,
            _diverse(np.array([look.face for look in looks])),
            _diverse(mouths if len(mouths) else usual[None]),
            _diverse(np.concatenate([self.others, beside])) if len(beside) else self.others,
        )


@dataclass(frozen=True)
class _Part:
    """A part of the face: its landmarks, and what takes out of values there what light does."""

    index: NDArray[np.intp]
    even: Array

    @classmethod
    def of(cls, x: Array, y: Array, index: list[int], bent: bool) -> "_Part":
        x, y = x[index] / 50, y[index] / 50
        light = [np.ones_like(x), x, y, *([x * x, x * y, y * y] if bent else [])]
        slopes = np.stack(light, 1)
        even = np.eye(len(index)) - slopes @ np.linalg.pinv(slopes)
        return cls(np.array(index), even.astype(np.float32))

    def __call__(self, colours: Array) -> Array:
        return _unit((self.even @ colours[self.index]).ravel())


def _colours(rgb: Pixels, points: NDArray[np.float32]) -> Array:
    """RGB at each landmark, (478, 3) float32, of the picture at EYES_APART."""
    at = points[:, :2]
    scale = EYES_APART / float(np.linalg.norm(at[LEFT_EYE_CORNER] - at[RIGHT_EYE_CORNER]))
    spare = 3 / scale
    height, width = rgb.shape[:2]
    x0, y0 = (int(v) for v in np.clip(at.min(0) - spare, 0, (width - 1, height - 1)))
    x1, y1 = (int(v) + 1 for v in np.clip(at.max(0) + spare, (x0, y0), (width - 1, height - 1)))
    part = rgb[y0 : y1 + 1, x0 : x1 + 1]
    coarse = max(int(0.5 / scale), 1)  # so many pixels are enough to be averaged
    part = part[::coarse, ::coarse]
    size = max(round((x1 - x0) * scale), 1), max(round((y1 - y0) * scale), 1)
    way = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    small = cv2.GaussianBlur(cv2.resize(part, size, interpolation=way), (0, 0), 1.0)
    by = np.array([size[0] / (x1 - x0), size[1] / (y1 - y0)])
    places = ((at - (x0, y0) + 0.5) * by - 0.5).astype(np.float32)
    found = cv2.remap(small, places[None], None, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)  # type: ignore[call-overload]
    return found[0].astype(np.float32)


def _unit(vector: Array) -> Array:
    return vector / max(float(np.linalg.norm(vector)), 1e-9)


def _diverse(vectors: Array) -> Array:
    """At most EXEMPLARS of unit vectors (n, ...), as different as can be."""
    taken = [0]
    near = vectors @ vectors[0]
    while len(taken) < min(EXEMPLARS, len(vectors)):
        taken.append(int(near.argmin()))
        near = np.maximum(near, vectors @ vectors[taken[-1]])
    return vectors[sorted(set(taken))]
