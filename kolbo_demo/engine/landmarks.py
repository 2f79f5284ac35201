"""Face landmarks in pictures, and the choice of the face that speaks.

Runs the official face landmarker (assets/face_landmarker.task) on LiteRT, wired as in the published
MediaPipe graphs: short-range detector on a letterboxed picture, square crop of 1.5 times the box
rotated upright by the eyes, 478 points inside it. No temporal smoothing: it would delay and flatten
lip motion.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property

import cv2
import numpy as np
from numpy.typing import NDArray

from kolbo_demo.engine.face_detector import (
    QUARTER_TURNS,
    Detection,
    FaceDetector,
    LiteRtModel,
    Pixels,
)
from kolbo_demo.media.probe import MediaError

LANDMARK_INPUT_PIXELS = 256
CROP_SCALE = 1.5
MIN_DETECTION_SCORE, MIN_CROP_DETECTION_SCORE = 0.5, 0.65
"""Detector scores, 0-1: for the whole picture (the model card's default), and for crops, which are
so many that a coffee cup would pass as a face in one of them."""
MIN_PRESENCE = 0.5
VERIFY_MIN_SCORE, VERIFY_CROP_SCALE, VERIFY_ATTEMPTS = 0.7, 2.0, 3
"""Verification of landmarks by the detector: least score in an upright square of so many times the
face, and how many times landmarks may restart from its detection."""
MAX_KEYPOINT_DISTANCE = 0.3
"""Between landmarks and the detector's keypoints, in eye distances: up to 0.17 on faces, mostly
over 0.3 on upside-down fits and false detections."""
NO_FACE = (
    "No face was found in the {what}. Use a clear, front-facing portrait with visible lips and "
    "some room around the face, or point at the face."
)

RIGHT_EYE_CORNER, LEFT_EYE_CORNER = 33, 263
"""Outer eye corners; "right" is the person's own right, at the left of the picture."""
_KEYPOINT_LANDMARKS = ([33, 133], [263, 362], [1], [13, 14])
"""Landmarks whose mean corresponds to each keypoint of the detector."""

Points = NDArray[np.float32]


@dataclass(frozen=True)
class FaceLandmarks:
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
    def quarter_turns(self) -> int:
        """Counterclockwise quarter turns that bring the face about upright."""
        dx, dy = (self.points[LEFT_EYE_CORNER] - self.points[RIGHT_EYE_CORNER])[:2]
        return round(float(np.arctan2(dy, dx)) / (np.pi / 2)) % 4

    @property
    def size(self) -> float:
        """Longer side of the box, pixels."""
        left, top, right, bottom = self.box
        return max(right - left, bottom - top)


@dataclass(frozen=True)
class _CropSquare:
    """A square rotated upright by the eyes: centre and side in pixels, angle in radians."""

    x: float
    y: float
    side: float
    angle: float

    @classmethod
    def from_detection(cls, detection: Detection) -> "_CropSquare":
        x, y = detection.centre
        return cls(float(x), float(y), CROP_SCALE * detection.side, detection.angle)

    @classmethod
    def around_points(cls, points: NDArray[np.float32], scale: float = CROP_SCALE) -> "_CropSquare":
        low, high = points[:, :2].min(0), points[:, :2].max(0)
        dx, dy = (points[LEFT_EYE_CORNER] - points[RIGHT_EYE_CORNER])[:2]
        centre = (low + high) / 2
        side = scale * float((high - low).max())
        return cls(float(centre[0]), float(centre[1]), side, float(np.arctan2(dy, dx)))

    def matches(self, face: FaceLandmarks) -> bool:
        """Whether a known face has the crop's centre and size."""
        distance = float(np.hypot(*(face.centre - (self.x, self.y))))
        return distance < 0.25 * face.size and 0.7 < face.size * CROP_SCALE / self.side < 1.4

    def affine(self) -> NDArray[np.float64]:
        """(2, 3) from picture pixels to crop pixels."""
        scale = LANDMARK_INPUT_PIXELS / self.side
        c, s = scale * np.cos(self.angle), scale * np.sin(self.angle)
        turn = np.array([[c, s], [-s, c]])
        shift = LANDMARK_INPUT_PIXELS / 2 - turn @ (self.x, self.y)
        return np.column_stack([turn, shift])


class FaceLandmarker:
    """Detects and tracks faces in RGB pictures. Not thread-safe."""

    def __init__(self, threads: int = 1) -> None:
        self._detector = FaceDetector(threads)
        self._landmarker = LiteRtModel.from_task("face_landmarks_detector.tflite", threads)

    def detect(
        self,
        rgb: Pixels,
        near: tuple[float, float] | None = None,
        tiled: bool = True,
        turns: tuple[int, ...] = QUARTER_TURNS,
    ) -> list[FaceLandmarks]:
        """All faces in the picture, largest first.

        `near` (pixels) adds crops around that point, for small faces in large pictures. If these
        and the whole picture give none, turned and cropped faces are searched, then overlapping
        tiles if `tiled`. `turns` are the quarter turns to search, the likeliest first.
        """
        height, width = rgb.shape[:2]
        longer = max(height, width)
        faces: list[FaceLandmarks] = []
        self._detect_in_tile(rgb, (0, 0, width, height), faces, MIN_DETECTION_SCORE, turns[:1])
        if near is not None:
            for part in (1 / 2, 1 / 4, 1 / 8):
                side = max(int(longer * part), 48)
                left, top = int(near[0] - side / 2), int(near[1] - side / 2)
                self._detect_in_tile(
                    rgb, (left, top, side, side), faces, MIN_CROP_DETECTION_SCORE, turns
                )
        if not faces:
            self._detect_in_tile(rgb, (0, 0, width, height), faces, MIN_DETECTION_SCORE, turns[1:])
        for margin in (longer // 4, longer // 2):
            if not faces:
                padded = (-margin, -margin, width + 2 * margin, height + 2 * margin)
                self._detect_in_tile(rgb, padded, faces, MIN_DETECTION_SCORE, turns)
        if not faces and tiled:
            for tile in _tiles(width, height):
                self._detect_in_tile(rgb, tile, faces, MIN_CROP_DETECTION_SCORE, turns)
        return sorted(faces, key=lambda face: -face.size)

    def detect_others(self, rgb: Pixels, face: FaceLandmarks) -> list[FaceLandmarks]:
        """The other faces in the whole picture."""
        faces, whole = [face], (0, 0, rgb.shape[1], rgb.shape[0])
        self._detect_in_tile(rgb, whole, faces, MIN_DETECTION_SCORE, (face.quarter_turns,))
        return faces[1:]

    def follow(self, rgb: Pixels, face: FaceLandmarks) -> FaceLandmarks | None:
        """The same face in the next picture, or None if it is gone."""
        return self._fit(rgb, _CropSquare.around_points(face.points))

    def refit(
        self, rgb: Pixels, face: FaceLandmarks, right: float, down: float, scale: float, turn: float
    ) -> FaceLandmarks | None:
        """Landmarks from a crop moved by fractions of its side, scaled and rotated (radians)."""
        at = _CropSquare.around_points(face.points)
        x, y = at.x + right * at.side, at.y + down * at.side
        return self._fit(rgb, _CropSquare(x, y, at.side * scale, at.angle + turn))

    def _detect_in_tile(
        self,
        rgb: Pixels,
        tile: tuple[int, int, int, int],
        faces: list[FaceLandmarks],
        min_score: float,
        turns: tuple[int, ...],
    ) -> None:
        """Append new faces in a tile (left, top, width, height) to `faces`."""
        for detection in self._detector(rgb, tile, min_score, turns):
            square = _CropSquare.from_detection(detection)
            if any(square.matches(other) for other in faces):
                continue
            face = self._verified(rgb, self._fit(rgb, square))
            if face and not any(_same_face(face, other) for other in faces):
                faces.append(face)

    def _verified(self, rgb: Pixels, face: FaceLandmarks | None) -> FaceLandmarks | None:
        """The face once detector and landmarks agree on eyes, nose and mouth, else None: landmarks
        alone also fit upside-down faces and objects."""
        for _ in range(VERIFY_ATTEMPTS):
            # Refit from its own points: the detector's box is approximate.
            face = face and self.follow(rgb, face)
            detection = face and self._redetect(rgb, face)
            if face is None or detection is None:
                return None
            if _keypoint_distance(detection, face) < MAX_KEYPOINT_DISTANCE:
                return face
            face = self._fit(rgb, _CropSquare.from_detection(detection))
        return None

    def _redetect(self, rgb: Pixels, face: FaceLandmarks) -> Detection | None:
        """The best detection at a face's landmarks, in an upright crop and its quarter turns."""
        square = _CropSquare.around_points(face.points, VERIFY_CROP_SCALE)
        affine = square.affine()
        crop = _crop_pixels(rgb, square)
        detections = self._detector(crop, (0, 0, *crop.shape[:2]), VERIFY_MIN_SCORE, QUARTER_TURNS)
        middle = LANDMARK_INPUT_PIXELS / 2
        central = [d for d in detections if np.abs(d.centre - middle).max() < middle / 2]
        best = max(central, key=lambda d: d.score, default=None)
        return best and best.transformed(np.asarray(cv2.invertAffineTransform(affine), np.float64))

    def _fit(self, rgb: Pixels, square: _CropSquare) -> FaceLandmarks | None:
        if not 8 < square.side < 8 * max(rgb.shape[:2]):
            return None
        affine, crop = square.affine(), _crop_pixels(rgb, square)
        raw, presence, _ = self._landmarker(crop / np.float32(255))
        score = float(1 / (1 + np.exp(-np.clip(presence.ravel()[0], -50, 50))))
        if score < MIN_PRESENCE:
            return None
        points = raw.reshape(478, 3).astype(np.float64)
        back = cv2.invertAffineTransform(affine)
        points[:, :2] = points[:, :2] @ back[:, :2].T + back[:, 2]
        points[:, 2] *= square.side / LANDMARK_INPUT_PIXELS
        return FaceLandmarks(points.astype(np.float32), score)


def _keypoint_distance(detection: Detection, face: FaceLandmarks) -> float:
    """Largest distance of a detection's keypoints from the landmarks, in eye distances."""
    p = face.points[:, :2].astype(np.float64)
    keypoints = np.array([p[group].mean(0) for group in _KEYPOINT_LANDMARKS])
    largest = np.linalg.norm(detection.keypoints[: len(keypoints)] - keypoints, axis=1).max()
    return float(largest / max(np.linalg.norm(p[LEFT_EYE_CORNER] - p[RIGHT_EYE_CORNER]), 1e-6))


def _crop_pixels(rgb: Pixels, square: _CropSquare) -> Pixels:
    """A square LANDMARK_INPUT_PIXELS wide, black outside the picture."""
    matrix = square.affine()
    if square.side > 2 * LANDMARK_INPUT_PIXELS:
        # Average pixels before downscaling this far, or the points jitter.
        rgb, matrix = _downsample(rgb, square, matrix)
    size = LANDMARK_INPUT_PIXELS, LANDMARK_INPUT_PIXELS
    return np.asarray(cv2.warpAffine(rgb, matrix, size), np.uint8)


def _downsample(
    rgb: Pixels, square: _CropSquare, affine: NDArray[np.float64]
) -> tuple[Pixels, NDArray[np.float64]]:
    """The picture around the square, area-averaged, and the affine from it to the crop."""
    reach = square.side * 0.75
    x0, y0 = max(int(square.x - reach), 0), max(int(square.y - reach), 0)
    part = rgb[y0 : int(square.y + reach) + 1, x0 : int(square.x + reach) + 1]
    if part.size == 0:
        return rgb, affine
    factor = LANDMARK_INPUT_PIXELS * 1.25 / square.side
    size = (max(round(part.shape[1] * factor), 1), max(round(part.shape[0] * factor), 1))
    small = cv2.resize(part, size, interpolation=cv2.INTER_AREA)
    fx, fy = part.shape[1] / size[0], part.shape[0] / size[1]
    # Pixel centres: small (i + .5) f = part (j + .5).
    shift = np.array([x0 + (fx - 1) / 2, y0 + (fy - 1) / 2])
    matrix = affine.copy()
    matrix[:, 2] += affine[:, :2] @ shift
    matrix[:, :2] = affine[:, :2] * (fx, fy)
    return np.asarray(small, np.uint8), matrix


def _tiles(width: int, height: int) -> Iterator[tuple[int, int, int, int]]:
    """Overlapping squares of three sizes that cover the picture: left, top, width, height."""
    for part in (1.0, 0.5, 0.3):
        side = int(min(width, height) * part)
        if side < 48:
            return
        across = max(int(np.ceil(width / side * 1.5)), 1)
        down = max(int(np.ceil(height / side * 1.5)), 1)
        for top in np.linspace(0, height - side, down).astype(int):
            for left in np.linspace(0, width - side, across).astype(int):
                yield int(left), int(top), side, side


def _same_face(one: FaceLandmarks, other: FaceLandmarks) -> bool:
    return float(np.linalg.norm(one.centre - other.centre)) < 0.4 * max(one.size, other.size)


def choose_face(
    faces: list[FaceLandmarks], point: tuple[float, float] | None
) -> FaceLandmarks | None:
    """The face nearest the point (pixels), else the largest."""
    if not faces:
        return None
    if point is None:
        return max(faces, key=lambda face: face.size)
    return min(faces, key=lambda face: _point_distance(face, point))


def _point_distance(face: FaceLandmarks, point: tuple[float, float]) -> tuple[float, float]:
    """Pixels from the point to the box (0 inside), then to its centre."""
    left, top, right, bottom = face.box
    dx = max(left - point[0], 0.0, point[0] - right)
    dy = max(top - point[1], 0.0, point[1] - bottom)
    return float(np.hypot(dx, dy)), float(np.linalg.norm(face.centre - np.asarray(point)))


def track_face(
    frames: Iterable[Pixels],
    landmarker: FaceLandmarker,
    point: tuple[float, float] | None,
    previous: FaceLandmarks | None = None,
) -> Iterator[tuple[Pixels, FaceLandmarks | None]]:
    """Each frame with the face of one person, None where it is not visible.

    `point` (pixels, upright) chooses among the faces of the first frame that has any, unless
    `previous` gives the face's last position. After a gap the face is searched near its last
    position.
    """
    last = visible = previous
    for rgb in frames:
        if last is not None:
            last = landmarker.follow(rgb, last)
            if last is not None and visible is not None and not _is_continuous(visible, last):
                last = None
        if last is None:
            at = point if visible is None else (float(visible.centre[0]), float(visible.centre[1]))
            turns = QUARTER_TURNS if visible is None else (visible.quarter_turns,)
            last = choose_face(landmarker.detect(rgb, near=at, turns=turns), at)
            if last is not None and visible is not None and not _is_continuous(visible, last):
                last = None
        visible = last or visible
        yield rgb, last


def _is_continuous(previous: FaceLandmarks, current: FaceLandmarks) -> bool:
    """Whether two consecutive faces can be one person's: no jump across the picture."""
    return (
        float(np.linalg.norm(current.centre - previous.centre)) < 1.5 * previous.size
        and 0.5 < current.size / previous.size < 2.0
    )


def detect_speaker(
    rgb: Pixels, landmarker: FaceLandmarker, face: tuple[float, float] | None
) -> FaceLandmarks:
    """The face to animate in a still; `face` is a point, 0-1. Raises MediaError without a face."""
    height, width = rgb.shape[:2]
    at = None if face is None else (face[0] * width, face[1] * height)
    found = choose_face(landmarker.detect(rgb, near=at), at)
    if found is None:
        raise MediaError(NO_FACE.format(what="picture"))
    return found
