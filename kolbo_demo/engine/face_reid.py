"""Face re-identification and mouth occlusion by colours at the landmarks.

Landmarks mark the same spots of a face in every pose, so colours there are comparable spot by spot
once lighting (level, tint, gradient) is removed. Brows, eyes and nose then distinguish people; lips
and chin distinguish a mouth from a hand before it.
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
from kolbo_demo.engine.landmarks import LEFT_EYE_CORNER, RIGHT_EYE_CORNER, FaceLandmarks, Pixels

SAMPLE_EYE_DISTANCE = 32.0
"""Pixels between the outer eye corners at which colours are sampled: finer detail is noise."""
MIN_SIMILARITY = 0.72
"""Least similarity of a face that is the person's;"""
MIN_TRACKED_SIMILARITY = 0.55
"""of one that was tracked from the previous frame;"""
MIN_MOUTH_SIMILARITY = 0.66
"""and of a mouth that is not covered."""
MAX_EXEMPLARS = 8
"""Descriptors stored of a person, and of others."""

_FACE_OVAL = {
    10, 338, 297, 332, 284, 251, 389, 356, 454, 323, 361, 288, 397, 365, 379, 378, 400, 377, 152,
    148, 176, 149, 150, 136, 172, 58, 132, 93, 234, 127, 162, 21, 54, 103, 67, 109,
}  # fmt: skip
"""The face's outline, where the background begins."""
_INNER_LIPS = {*UPPER_INNER, *LOWER_INNER}
_LIPS = {*UPPER_OUTER, *LOWER_OUTER, *_INNER_LIPS}
_SKIN_LANDMARKS = 468
"""The landmarks after these are the irises."""
_MOUTH_TOP_MM = 12.0
_MOUTH_HALF_WIDTH_MM = 32.0
"""The mouth patch in head coordinates: its top below the base of the nose, and its half width."""
_OPPONENT_AXES = np.array([[0.3, 2, 0], [0.6, -2, -1], [0.1, 0, 1]], np.float32)
"""Log RGB to lightness, redness (which distinguishes lips) and blueness."""
_CHANNEL_WEIGHTS = np.array([1, 2, 2], np.float32)
"""Weights of these for the upper face: shadows change lightness most."""


@dataclass(frozen=True)
class FaceDescriptor:
    """Unit vectors that describe one face in one picture: its upper part and its mouth."""

    face: Array
    mouth: Array


@dataclass(frozen=True)
class Person:
    """Descriptors of one person. Field names are keys of the plan file."""

    at: Array
    """(478, 2) landmarks of the first face in head millimetres, which define the patches."""
    faces: Array
    """(n, ...) `FaceDescriptor.face` of the person."""
    mouths: Array
    """(n, ...) `FaceDescriptor.mouth` while not covered."""
    others: Array
    """(m, ...) `FaceDescriptor.face` of other people in the same frames."""

    @classmethod
    def from_frame(
        cls, rgb: Pixels, face: FaceLandmarks, others: Sequence[FaceLandmarks] = ()
    ) -> "Person":
        """From one frame with the person's face and those of others."""
        at = Pose.from_landmarks(face.points).unproject(face.points.astype(np.float64))[:, :2]
        blank = cls(at, *(np.zeros((0, 0)),) * 3)
        own = blank.describe(rgb, face)
        no_faces = np.empty((0, len(own.face)), np.float32)
        other_faces = [blank.describe(rgb, other).face[None] for other in others[:MAX_EXEMPLARS]]
        return cls(at, own.face[None], own.mouth[None], np.concatenate([no_faces, *other_faces]))

    @cached_property
    def _upper_face_patch(self) -> "_FacePatch":
        x, y = self.at.T
        index = [
            i
            for i in range(_SKIN_LANDMARKS)
            if i not in _FACE_OVAL | _LIPS and y[i] < _MOUTH_TOP_MM
        ]
        return _FacePatch.build(x, y, index, quadratic=True)

    @cached_property
    def _mouth_patch(self) -> "_FacePatch":
        x, y = self.at.T
        index = [
            i
            for i in range(_SKIN_LANDMARKS)
            if i not in _FACE_OVAL | _INNER_LIPS
            and _MOUTH_TOP_MM <= y[i] < y[CHIN] - 4
            and abs(x[i]) < _MOUTH_HALF_WIDTH_MM
        ]
        return _FacePatch.build(x, y, index, quadratic=False)

    def describe(self, rgb: Pixels, face: FaceLandmarks) -> FaceDescriptor:
        """Descriptor of a face, comparable with this person's."""
        colours = np.log(_sample_colours(rgb, face.points) + 8) @ _OPPONENT_AXES
        face_values = self._upper_face_patch(colours * _CHANNEL_WEIGHTS)
        return FaceDescriptor(face_values, self._mouth_patch(colours))

    def similarity(self, descriptor: FaceDescriptor) -> float:
        """Largest cosine similarity to the person's descriptors, -1 to 1; -1 if the face is more
        similar to one of the others."""
        own = float((self.faces @ descriptor.face).max())
        if len(self.others) and float((self.others @ descriptor.face).max()) > own:
            return -1.0
        return own

    def is_mouth_hidden(self, descriptor: FaceDescriptor) -> bool:
        return float((self.mouths @ descriptor.mouth).max()) < MIN_MOUTH_SIMILARITY

    def updated(
        self, descriptors: Sequence[FaceDescriptor], others: Sequence[FaceDescriptor] = ()
    ) -> "Person":
        """With new descriptors. Mouths unlike the median are taken to be covered."""
        mouths = np.array([descriptor.mouth for descriptor in descriptors])
        typical = _normalised(np.median(mouths, axis=0))
        mouths = mouths[mouths @ typical >= MIN_MOUTH_SIMILARITY]
        other_faces = self.others
        if others:
            new = np.array([other.face for other in others])
            other_faces = _most_diverse(np.concatenate([other_faces, new]))
        return Person(
            self.at,
            _most_diverse(np.array([descriptor.face for descriptor in descriptors])),
            _most_diverse(mouths if len(mouths) else typical[None]),
            other_faces,
        )


@dataclass(frozen=True)
class _FacePatch:
    """A part of the face: its landmarks, and the projection that removes lighting from them."""

    index: NDArray[np.intp]
    detrend: Array

    @classmethod
    def build(cls, x: Array, y: Array, index: list[int], quadratic: bool) -> "_FacePatch":
        x, y = x[index] / 50, y[index] / 50
        terms = [np.ones_like(x), x, y, *([x * x, x * y, y * y] if quadratic else [])]
        basis = np.stack(terms, 1)
        detrend = np.eye(len(index)) - basis @ np.linalg.pinv(basis)
        return cls(np.array(index), detrend.astype(np.float32))

    def __call__(self, colours: Array) -> Array:
        return _normalised((self.detrend @ colours[self.index]).ravel())


def _sample_colours(rgb: Pixels, points: NDArray[np.float32]) -> Array:
    """RGB at each landmark, (478, 3) float32, of the picture scaled to SAMPLE_EYE_DISTANCE."""
    at = points[:, :2]
    scale = SAMPLE_EYE_DISTANCE / float(np.linalg.norm(at[LEFT_EYE_CORNER] - at[RIGHT_EYE_CORNER]))
    margin = 3 / scale
    height, width = rgb.shape[:2]
    x0, y0 = (int(v) for v in np.clip(at.min(0) - margin, 0, (width - 1, height - 1)))
    x1, y1 = (int(v) + 1 for v in np.clip(at.max(0) + margin, (x0, y0), (width - 1, height - 1)))
    part = rgb[y0 : y1 + 1, x0 : x1 + 1]
    stride = max(int(0.5 / scale), 1)  # enough pixels remain to average
    part = part[::stride, ::stride]
    size = max(round((x1 - x0) * scale), 1), max(round((y1 - y0) * scale), 1)
    interpolation = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    small = cv2.GaussianBlur(cv2.resize(part, size, interpolation=interpolation), (0, 0), 1.0)
    factor = np.array([size[0] / (x1 - x0), size[1] / (y1 - y0)])
    positions = ((at - (x0, y0) + 0.5) * factor - 0.5).astype(np.float32)
    border = cv2.BORDER_REPLICATE
    sampled = cv2.remap(small, positions[None], None, cv2.INTER_LINEAR, borderMode=border)  # type: ignore[call-overload]
    return sampled[0].astype(np.float32)


def _normalised(vector: Array) -> Array:
    return vector / max(float(np.linalg.norm(vector)), 1e-9)


def _most_diverse(vectors: Array) -> Array:
    """At most MAX_EXEMPLARS of unit vectors (n, ...), by farthest-point sampling."""
    chosen = [0]
    similarity = vectors @ vectors[0]
    while len(chosen) < min(MAX_EXEMPLARS, len(vectors)):
        chosen.append(int(similarity.argmin()))
        similarity = np.maximum(similarity, vectors @ vectors[chosen[-1]])
    return vectors[sorted(set(chosen))]
