"""Pixels to face landmarks, and which face speaks.

Runs the official face landmarker (assets/face_landmarker.task) on LiteRT. Its parts and their
wiring follow the published MediaPipe graphs: a short-range detector on a letterboxed picture, a
square region 1.5 times the box turned upright by the eyes, 478 points inside it. Nothing is
smoothed in time here: a tracker that smooths makes late, shy lips.
"""

import zipfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property

import cv2
import numpy as np
from numpy.typing import NDArray

from kolbo_demo.data_files import ASSETS
from kolbo_demo.media import MediaError

MODEL = ASSETS / "face_landmarker.task"
DETECTOR_SIDE = 128
LANDMARK_SIDE = 256
REGION_SCALE = 1.5
MIN_SCORE, MIN_CROP_SCORE = 0.5, 0.65
"""Of the detector, 0-1: for the whole picture (its makers' own), and for crops, of which so many
are tried that a coffee cup would pass as a face in one of them."""
MIN_PRESENCE = 0.5
NO_FACE = (
    "No face was found in the {what}. Use a clear, front-facing portrait with visible lips, "
    "or point at the face."
)

RIGHT_EYE_CORNER, LEFT_EYE_CORNER = 33, 263
"""Outer eye corners; "right" is the person's own right, at the left of the picture."""

Points = NDArray[np.float32]
Pixels = NDArray[np.uint8]


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
    def around(cls, points: NDArray[np.float32]) -> "_Region":
        low, high = points[:, :2].min(0), points[:, :2].max(0)
        dx, dy = (points[LEFT_EYE_CORNER] - points[RIGHT_EYE_CORNER])[:2]
        centre = (low + high) / 2
        side = REGION_SCALE * float((high - low).max())
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


def _anchors() -> NDArray[np.float32]:
    """Centres of the detector's 896 anchors, 0-1: strides 8 and 16 with 2 and 6 a cell."""
    rows = []
    for stride, per_cell in ((8, 2), (16, 6)):
        cells = DETECTOR_SIDE // stride
        axis = (np.arange(cells) + 0.5) / cells
        x, y = np.meshgrid(axis, axis)
        rows.append(np.repeat(np.column_stack([x.ravel(), y.ravel()]), per_cell, axis=0))
    return np.concatenate(rows).astype(np.float32)


class _Network:
    """One network out of the task file."""

    def __init__(self, name: str, threads: int) -> None:
        from ai_edge_litert.interpreter import Interpreter  # heavy, and missing on some platforms

        with zipfile.ZipFile(MODEL) as task:
            self._net = Interpreter(model_content=task.read(name), num_threads=threads)
        self._net.allocate_tensors()
        self._input = self._net.get_input_details()[0]["index"]
        self._outputs = [detail["index"] for detail in self._net.get_output_details()]

    def __call__(self, value: NDArray[np.floating]) -> list[NDArray[np.float32]]:
        self._net.set_tensor(self._input, value[None].astype(np.float32, copy=False))
        self._net.invoke()
        return [self._net.get_tensor(index)[0] for index in self._outputs]


class FaceFinder:
    """Finds faces in RGB pictures. Not for use by several threads at once."""

    def __init__(self, threads: int = 1) -> None:
        """`threads` change how fast it is, not what it finds."""
        self._detector = _Network("face_detector.tflite", threads)
        self._landmarker = _Network("face_landmarks_detector.tflite", threads)
        self._anchors = _anchors()

    def find(
        self, rgb: Pixels, near: tuple[float, float] | None = None, tiled: bool = True
    ) -> list[Face]:
        """All faces in the picture, largest first.

        `near` (pixels) adds crops around that point, for small faces in large pictures; without
        it, or where they show nothing, overlapping tiles are tried once the whole picture is
        found empty, if `tiled`.
        """
        height, width = rgb.shape[:2]
        longer = max(height, width)
        faces: list[Face] = []
        self._search(rgb, (0, 0, width, height), faces, MIN_SCORE)
        if near is not None:
            for part in (1 / 2, 1 / 4, 1 / 8):
                side = max(int(longer * part), 48)
                left, top = int(near[0] - side / 2), int(near[1] - side / 2)
                self._search(rgb, (left, top, side, side), faces, MIN_CROP_SCORE)
        if not faces and tiled:
            for tile in _tiles(width, height):
                self._search(rgb, tile, faces, MIN_CROP_SCORE)
        return sorted(faces, key=lambda face: -face.size)

    def beside(self, rgb: Pixels, face: Face) -> list[Face]:
        """The other faces that are seen in the whole picture."""
        faces = [face]
        self._search(rgb, (0, 0, rgb.shape[1], rgb.shape[0]), faces, MIN_SCORE)
        return faces[1:]

    def follow(self, rgb: Pixels, face: Face) -> Face | None:
        """The same face in the next picture, or None where it is gone."""
        return self._landmarks(rgb, _Region.around(face.points))

    def _search(
        self, rgb: Pixels, tile: tuple[int, int, int, int], faces: list[Face], least: float
    ) -> None:
        """Adds the faces that the detector sees in a tile (left, top, width, height)."""
        left, top, width, height = tile
        x0, y0 = max(left, 0), max(top, 0)
        part = rgb[y0 : top + height, x0 : left + width]
        if part.size == 0:
            return
        for region in self._detect(part, (x0, y0), least):
            if any(region.shows(other) for other in faces):
                continue
            face = self._landmarks(rgb, region)
            # Once more from its own points: the detector's box is only a guess.
            face = face and self.follow(rgb, face)
            if face and not any(_same(face, other) for other in faces):
                faces.append(face)

    def _detect(self, part: Pixels, corner: tuple[int, int], least: float) -> Iterator[_Region]:
        height, width = part.shape[:2]
        side = max(height, width)
        scale = DETECTOR_SIDE / side
        size = (max(round(width * scale), 1), max(round(height * scale), 1))
        small = cv2.resize(part, size, interpolation=cv2.INTER_AREA)
        boxed = np.zeros((DETECTOR_SIDE, DETECTOR_SIDE, 3), np.float32)
        dx, dy = (DETECTOR_SIDE - size[0]) // 2, (DETECTOR_SIDE - size[1]) // 2
        boxed[dy : dy + size[1], dx : dx + size[0]] = small
        raw, logits = self._detector(boxed / 127.5 - 1)
        scores = 1 / (1 + np.exp(-np.clip(logits[:, 0], -50, 50)))
        taken: list[NDArray[np.float32]] = []
        for index in np.argsort(-scores):
            if scores[index] < least:
                return
            values = raw[index].reshape(8, 2) / DETECTOR_SIDE
            values[[0, *range(2, 8)]] += self._anchors[index]
            centre, extent, eyes = values[0], values[1], values[2:4]
            if any(np.abs(centre - other).max() < extent.max() / 2 for other in taken):
                continue
            taken.append(centre)
            in_part = (centre * DETECTOR_SIDE - (dx, dy)) / scale
            angle = np.arctan2(*(eyes[1] - eyes[0])[::-1])
            yield _Region(
                float(in_part[0]) + corner[0],
                float(in_part[1]) + corner[1],
                REGION_SCALE * float(extent.max()) * side,
                float(angle),
            )

    def _landmarks(self, rgb: Pixels, region: _Region) -> Face | None:
        if not 8 < region.side < 8 * max(rgb.shape[:2]):
            return None
        to_crop = region.to_crop()
        picture, matrix = rgb, to_crop
        if region.side > 2 * LANDMARK_SIDE:
            # Far larger than the network's input: average pixels first, or the points jitter.
            picture, matrix = _shrunk(rgb, region, to_crop)
        crop = cv2.warpAffine(picture, matrix, (LANDMARK_SIDE, LANDMARK_SIDE))
        raw, presence, _ = self._landmarker(crop / np.float32(255))
        score = float(1 / (1 + np.exp(-np.clip(presence.ravel()[0], -50, 50))))
        if score < MIN_PRESENCE:
            return None
        points = raw.reshape(478, 3).astype(np.float64)
        back = cv2.invertAffineTransform(to_crop)
        points[:, :2] = points[:, :2] @ back[:, :2].T + back[:, 2]
        points[:, 2] *= region.side / LANDMARK_SIDE
        return Face(points.astype(np.float32), score)


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
            last = speaker(finder.find(rgb, near=at), at)
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
