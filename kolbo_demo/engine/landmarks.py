"""Pixels to face landmarks, and which face speaks.

Runs the official face landmarker (assets/face_landmarker.task) on LiteRT. Its parts and their
wiring follow the published MediaPipe graphs: a short-range detector on a letterboxed picture, a
square region 1.5 times the box turned upright by the eyes, 478 points inside it. Nothing is
smoothed in time here: a tracker that smooths makes late, shy lips.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property

import cv2
import numpy as np
from numpy.typing import NDArray

from kolbo_demo.engine.face_detector import TURNS, Detection, Detector, Network, Pixels
from kolbo_demo.media.probe import MediaError

LANDMARK_SIDE = 256
REGION_SCALE = 1.5
MIN_SCORE, MIN_CROP_SCORE = 0.5, 0.65
"""Of the detector, 0-1: for the whole picture (its makers' own), and for crops, of which so many
are tried that a coffee cup would pass as a face in one of them."""
MIN_PRESENCE = 0.5
MIN_ALIGNED, SURROUNDED, SETTLE = 0.7, 2.0, 3
"""Score of the detector where it is shown a face upright in a square so many times its size; and
how often landmarks may start anew from what it sees there."""
MOST_APART = 0.3
"""Eye distances between landmarks and the detector's keypoints, at most: faces have up to 0.17,
faces taken the wrong way up and what is none mostly over 0.3."""
NO_FACE = (
    "No face was found in the {what}. Use a clear, front-facing portrait with visible lips and "
    "some room around the face, or point at the face."
)

RIGHT_EYE_CORNER, LEFT_EYE_CORNER = 33, 263
"""Outer eye corners; "right" is the person's own right, at the left of the picture."""
_MARKS = ([33, 133], [263, 362], [1], [13, 14])
"""Landmarks whose mean is a keypoint of the detector."""

Points = NDArray[np.float32]


@dataclass(frozen=True)
class Face:
    """One face: `points` (478, 3) in pixels (x right, y down, z the same scale, smaller = nearer),
    `presence` 0-1."""

    points: Points
    presence: float

    @cached_property
    def box(self) -> tuple[float, float, float, float]:
        """Left, top, right, bottom in pixels."""
        low, high = self.points[:, :2].min(0), self.points[:, :2].max(0)
        return float(low[0]), float(low[1]), float(high[0]), float(high[1])

    @property
    def centre(self) -> NDArray[np.float32]:
        """Middle of the box, (2,) pixels."""
        left, top, right, bottom = self.box
        return np.array([(left + right) / 2, (top + bottom) / 2], np.float32)

    @property
    def turn(self) -> int:
        """Quarter turns, counterclockwise, after which it is about upright."""
        dx, dy = (self.points[LEFT_EYE_CORNER] - self.points[RIGHT_EYE_CORNER])[:2]
        return round(float(np.arctan2(dy, dx)) / (np.pi / 2)) % 4

    @property
    def size(self) -> float:
        """Longer side of the box, pixels."""
        left, top, right, bottom = self.box
        return max(right - left, bottom - top)


@dataclass(frozen=True)
class _Region:
    """A square turned upright by the eyes: centre and side in pixels, angle in radians."""

    x: float
    y: float
    side: float
    angle: float

    @classmethod
    def of(cls, seen: Detection) -> "_Region":
        x, y = seen.centre
        return cls(float(x), float(y), REGION_SCALE * seen.side, seen.angle)

    @classmethod
    def around(cls, points: NDArray[np.float32], scale: float = REGION_SCALE) -> "_Region":
        low, high = points[:, :2].min(0), points[:, :2].max(0)
        dx, dy = (points[LEFT_EYE_CORNER] - points[RIGHT_EYE_CORNER])[:2]
        centre = (low + high) / 2
        side = scale * float((high - low).max())
        return cls(float(centre[0]), float(centre[1]), side, float(np.arctan2(dy, dx)))

    def shows(self, face: Face) -> bool:
        """Whether a face that was found is in the middle of it and as large as it says."""
        off = float(np.hypot(*(face.centre - (self.x, self.y))))
        return off < 0.25 * face.size and 0.7 < face.size * REGION_SCALE / self.side < 1.4

    def to_crop(self) -> NDArray[np.float64]:
        """2x3 affine from picture pixels to crop pixels."""
        scale = LANDMARK_SIDE / self.side
        c, s = scale * np.cos(self.angle), scale * np.sin(self.angle)
        turn = np.array([[c, s], [-s, c]])
        shift = LANDMARK_SIDE / 2 - turn @ (self.x, self.y)
        return np.column_stack([turn, shift])


class FaceFinder:
    """Finds faces in RGB pictures. Not for use by several threads at once."""

    def __init__(self, threads: int = 1) -> None:
        """`threads` change how fast it is, not what it finds."""
        self._detector = Detector(threads)
        self._landmarker = Network("face_landmarks_detector.tflite", threads)

    def find(
        self,
        rgb: Pixels,
        near: tuple[float, float] | None = None,
        tiled: bool = True,
        turns: tuple[int, ...] = TURNS,
    ) -> list[Face]:
        """All faces in the picture, largest first.

        `near` (pixels) adds crops around that point, for small faces in large pictures. Where these
        and the whole picture show nothing, faces that are turned or cut off by the border are
        looked for, and then overlapping tiles are tried, if `tiled`. `turns` are the quarter turns
        in which faces may be, the likeliest first.
        """
        height, width = rgb.shape[:2]
        longer = max(height, width)
        faces: list[Face] = []
        self._search(rgb, (0, 0, width, height), faces, MIN_SCORE, turns[:1])
        if near is not None:
            for part in (1 / 2, 1 / 4, 1 / 8):
                side = max(int(longer * part), 48)
                left, top = int(near[0] - side / 2), int(near[1] - side / 2)
                self._search(rgb, (left, top, side, side), faces, MIN_CROP_SCORE, turns)
        if not faces:
            self._search(rgb, (0, 0, width, height), faces, MIN_SCORE, turns[1:])
        for spare in (longer // 4, longer // 2):
            if not faces:
                grown = (-spare, -spare, width + 2 * spare, height + 2 * spare)
                self._search(rgb, grown, faces, MIN_SCORE, turns)
        if not faces and tiled:
            for tile in _tiles(width, height):
                self._search(rgb, tile, faces, MIN_CROP_SCORE, turns)
        return sorted(faces, key=lambda face: -face.size)

    def beside(self, rgb: Pixels, face: Face) -> list[Face]:
        """The other faces that are seen in the whole picture."""
        faces = [face]
        self._search(rgb, (0, 0, rgb.shape[1], rgb.shape[0]), faces, MIN_SCORE, (face.turn,))
        return faces[1:]

    def follow(self, rgb: Pixels, face: Face) -> Face | None:
        """The same face in the next picture, or None where it is gone."""
        return self._landmarks(rgb, _Region.around(face.points))

    def refitted(
        self, rgb: Pixels, face: Face, right: float, down: float, scale: float, turn: float
    ) -> Face | None:
        """The face found in a crop moved by parts of its side, scaled and turned (radians)."""
        at = _Region.around(face.points)
        x, y = at.x + right * at.side, at.y + down * at.side
        return self._landmarks(rgb, _Region(x, y, at.side * scale, at.angle + turn))

    def _search(
        self,
        rgb: Pixels,
        tile: tuple[int, int, int, int],
        faces: list[Face],
        least: float,
        turns: tuple[int, ...],
    ) -> None:
        """Adds the faces that the detector sees in a tile (left, top, width, height)."""
        for detection in self._detector(rgb, tile, least, turns):
            region = _Region.of(detection)
            if any(region.shows(other) for other in faces):
                continue
            face = self._settled(rgb, self._landmarks(rgb, region))
            if face and not any(_same(face, other) for other in faces):
                faces.append(face)

    def _settled(self, rgb: Pixels, face: Face | None) -> Face | None:
        """The face once detector and landmarks agree where its eyes, nose and mouth are; None where
        they do not: landmarks fit a face to an upside-down one, too, and to what is none."""
        for _ in range(SETTLE):
            # Once more from its own points: the detector's box is only a guess.
            face = face and self.follow(rgb, face)
            seen = face and self._detected(rgb, face)
            if face is None or seen is None:
                return None
            if _apart(seen, face) < MOST_APART:
                return face
            face = self._landmarks(rgb, _Region.of(seen))
        return None

    def _detected(self, rgb: Pixels, face: Face) -> Detection | None:
        """The best detection at a face's landmarks, in a crop with the face upright and in its
        quarter turns."""
        region = _Region.around(face.points, SURROUNDED)
        to_crop = region.to_crop()
        crop = _crop(rgb, region)
        seen = self._detector(crop, (0, 0, *crop.shape[:2]), MIN_ALIGNED, TURNS)
        middle = LANDMARK_SIDE / 2
        near = [one for one in seen if np.abs(one.centre - middle).max() < middle / 2]
        best = max(near, key=lambda one: one.score, default=None)
        return best and best.moved(np.asarray(cv2.invertAffineTransform(to_crop), np.float64))

    def _landmarks(self, rgb: Pixels, region: _Region) -> Face | None:
        if not 8 < region.side < 8 * max(rgb.shape[:2]):
            return None
        to_crop, crop = region.to_crop(), _crop(rgb, region)
        raw, presence, _ = self._landmarker(crop / np.float32(255))
        score = float(1 / (1 + np.exp(-np.clip(presence.ravel()[0], -50, 50))))
        if score < MIN_PRESENCE:
            return None
        points = raw.reshape(478, 3).astype(np.float64)
        back = cv2.invertAffineTransform(to_crop)
        points[:, :2] = points[:, :2] @ back[:, :2].T + back[:, 2]
        points[:, 2] *= region.side / LANDMARK_SIDE
        return Face(points.astype(np.float32), score)


def _apart(seen: Detection, face: Face) -> float:
    """How far eyes, nose and mouth of a detection are from the landmarks, in eye distances."""
    p = face.points[:, :2].astype(np.float64)
    marks = np.array([p[group].mean(0) for group in _MARKS])
    off = np.linalg.norm(seen.marks[: len(marks)] - marks, axis=1).max()
    return float(off / max(np.linalg.norm(p[LEFT_EYE_CORNER] - p[RIGHT_EYE_CORNER]), 1e-6))


def _crop(rgb: Pixels, region: _Region) -> Pixels:
    """The region's part of a picture, LANDMARK_SIDE pixels wide and high; black outside it."""
    matrix = region.to_crop()
    if region.side > 2 * LANDMARK_SIDE:
        # Far larger than the network's input: average pixels first, or the points jitter.
        rgb, matrix = _shrunk(rgb, region, matrix)
    return np.asarray(cv2.warpAffine(rgb, matrix, (LANDMARK_SIDE, LANDMARK_SIDE)), np.uint8)


def _shrunk(
    rgb: Pixels, region: _Region, to_crop: NDArray[np.float64]
) -> tuple[Pixels, NDArray[np.float64]]:
    """The part of the picture under the region, averaged down, and the affine from it."""
    reach = region.side * 0.75
    x0, y0 = max(int(region.x - reach), 0), max(int(region.y - reach), 0)
    part = rgb[y0 : int(region.y + reach) + 1, x0 : int(region.x + reach) + 1]
    if part.size == 0:
        return rgb, to_crop
    factor = LANDMARK_SIDE * 1.25 / region.side
    size = (max(round(part.shape[1] * factor), 1), max(round(part.shape[0] * factor), 1))
    small = cv2.resize(part, size, interpolation=cv2.INTER_AREA)
    fx, fy = part.shape[1] / size[0], part.shape[0] / size[1]
    # Pixel centres: small (i + .5) f = part (j + .5).
    shift = np.array([x0 + (fx - 1) / 2, y0 + (fy - 1) / 2])
    matrix = to_crop.copy()
    matrix[:, 2] += to_crop[:, :2] @ shift
    matrix[:, :2] = to_crop[:, :2] * (fx, fy)
    return np.asarray(small, np.uint8), matrix


def _tiles(width: int, height: int) -> Iterator[tuple[int, int, int, int]]:
    """Overlapping squares of three sizes that cover the picture."""
    for part in (1.0, 0.5, 0.3):
        side = int(min(width, height) * part)
        if side < 48:
            return
        across = max(int(np.ceil(width / side * 1.5)), 1)
        down = max(int(np.ceil(height / side * 1.5)), 1)
        for top in np.linspace(0, height - side, down).astype(int):
            for left in np.linspace(0, width - side, across).astype(int):
                yield int(left), int(top), side, side


def _same(one: Face, other: Face) -> bool:
    return float(np.linalg.norm(one.centre - other.centre)) < 0.4 * max(one.size, other.size)


def speaker(faces: list[Face], point: tuple[float, float] | None) -> Face | None:
    """The face nearest the point (pixels), else the largest."""
    if not faces:
        return None
    if point is None:
        return max(faces, key=lambda face: face.size)
    return min(faces, key=lambda face: _distance(face, point))


def _distance(face: Face, point: tuple[float, float]) -> tuple[float, float]:
    """Pixels from the point to the box (0 inside it), then to the box's centre."""
    left, top, right, bottom = face.box
    dx = max(left - point[0], 0.0, point[0] - right)
    dy = max(top - point[1], 0.0, point[1] - bottom)
    return float(np.hypot(dx, dy)), float(np.linalg.norm(face.centre - np.asarray(point)))


def track(
    frames: Iterable[Pixels],
    finder: FaceFinder,
    point: tuple[float, float] | None,
    before: Face | None = None,
) -> Iterator[tuple[Pixels, Face | None]]:
    """Each frame with the speaker's face in it; None where it is not to be seen.

    `point` (pixels, upright) chooses among the faces of the first frame that has one, unless the
    speaker is known already: `before` is where the face was seen last. After a frame without the
    face it is looked for again near where it was last seen.
    """
    last = seen = before
    for rgb in frames:
        if last is not None:
            last = finder.follow(rgb, last)
            if last is not None and seen is not None and not _plausible(seen, last):
                last = None
        if last is None:
            at = point if seen is None else (float(seen.centre[0]), float(seen.centre[1]))
            turns = TURNS if seen is None else (seen.turn,)
            last = speaker(finder.find(rgb, near=at, turns=turns), at)
            if last is not None and seen is not None and not _plausible(seen, last):
                last = None
        seen = last or seen
        yield rgb, last


def _plausible(before: Face, after: Face) -> bool:
    """Whether one face can have become the other: no jump to another person in the picture."""
    return (
        float(np.linalg.norm(after.centre - before.centre)) < 1.5 * before.size
        and 0.5 < after.size / before.size < 2.0
    )


def find_speaker(rgb: Pixels, finder: FaceFinder, face: tuple[float, float] | None) -> Face:
    """The face to animate in a still. `face` is 0-1 of the picture. MediaError where none is."""
    height, width = rgb.shape[:2]
    at = None if face is None else (face[0] * width, face[1] * height)
    found = speaker(finder.find(rgb, near=at), at)
    if found is None:
        raise MediaError(NO_FACE.format(what="picture"))
    return found
