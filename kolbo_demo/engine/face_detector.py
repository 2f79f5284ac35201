"""Face boxes and keypoints: the landmarker's short-range detector (BlazeFace).

The model detects upright faces only, so a picture may be tried in four quarter turns.
"""

import zipfile
from collections.abc import Iterator
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from kolbo_demo.data_files import ASSETS

MODEL_PATH = ASSETS / "face_landmarker.task"
INPUT_PIXELS = 128

Pixels = NDArray[np.uint8]
Affine = NDArray[np.float64]
QUARTER_TURNS = (0, 1, 2, 3)

_ROTATE_90 = np.array([[0.0, -1.0, INPUT_PIXELS], [1.0, 0.0, 0.0]])
"""(2, 3) affine from the input rotated once, counterclockwise, back to the input."""


@dataclass(frozen=True)
class Detection:
    """A face by its box and keypoints: `score` 0-1, `centre` (2,), `side` of the box, `angle` of
    the eye line (radians clockwise), and `keypoints` (6, 2): right eye, left eye, tip of the nose,
    mouth, right ear, left ear. Pixels."""

    score: float
    centre: NDArray[np.float64]
    side: float
    angle: float
    keypoints: NDArray[np.float64]

    def transformed(self, affine: Affine) -> "Detection":
        """In other coordinates; `affine` (2, 3) is a similarity."""
        scale = float(np.sqrt(abs(np.linalg.det(affine[:, :2]))))
        centre, keypoints = (
            at @ affine[:, :2].T + affine[:, 2] for at in (self.centre, self.keypoints)
        )
        angle = self.angle + float(np.arctan2(affine[1, 0], affine[0, 0]))
        return Detection(self.score, centre, self.side * scale, angle, keypoints)


class LiteRtModel:
    """A network with one input."""

    def __init__(self, content: bytes, threads: int = 1) -> None:
        from ai_edge_litert.interpreter import Interpreter  # heavy, and missing on some platforms

        self._interpreter = Interpreter(model_content=content, num_threads=threads)
        self._interpreter.allocate_tensors()
        self._input = self._interpreter.get_input_details()[0]["index"]
        self._outputs = [detail["index"] for detail in self._interpreter.get_output_details()]

    @classmethod
    def from_task(cls, name: str, threads: int) -> "LiteRtModel":
        """A network of the landmarker's task file."""
        with zipfile.ZipFile(MODEL_PATH) as task:
            return cls(task.read(name), threads)

    def __call__(self, value: NDArray[np.floating]) -> list[NDArray[np.float32]]:
        self._interpreter.set_tensor(self._input, value[None].astype(np.float32, copy=False))
        self._interpreter.invoke()
        return [self._interpreter.get_tensor(index)[0] for index in self._outputs]


class FaceDetector:
    """Boxes and keypoints of faces. Not thread-safe."""

    def __init__(self, threads: int) -> None:
        self._model = LiteRtModel.from_task("face_detector.tflite", threads)
        self._anchors = _anchors()

    def __call__(
        self,
        rgb: Pixels,
        tile: tuple[int, int, int, int],
        min_score: float,
        turns: tuple[int, ...],
    ) -> list[Detection]:
        """Faces in a tile (left, top, width, height), best first in each turn.

        Parts of the tile outside the picture are black.
        """
        left, top, width, height = tile
        x0, y0 = max(left, 0), max(top, 0)
        part = rgb[y0 : max(top + height, 0), x0 : max(left + width, 0)]
        if part.size == 0:
            return []
        scale = INPUT_PIXELS / max(width, height)
        size = [max(round(length * scale), 1) for length in part.shape[1::-1]]
        small = cv2.resize(part, size, interpolation=cv2.INTER_AREA)
        letterboxed = np.zeros((INPUT_PIXELS, INPUT_PIXELS, 3), np.float32)
        dx = (INPUT_PIXELS - round(width * scale)) // 2 + round((x0 - left) * scale)
        dy = (INPUT_PIXELS - round(height * scale)) // 2 + round((y0 - top) * scale)
        into = letterboxed[dy : dy + size[1], dx : dx + size[0]]
        into[:] = small[: into.shape[0], : into.shape[1]]
        back = np.array([[1 / scale, 0, x0 - dx / scale], [0, 1 / scale, y0 - dy / scale]])
        return [
            one.transformed(back)
            for turn in turns
            for one in self._detect_rotated(letterboxed, turn, min_score)
        ]

    def _detect_rotated(
        self, letterboxed: NDArray[np.float32], turn: int, min_score: float
    ) -> Iterator[Detection]:
        """Faces in the input after so many quarter turns, in coordinates of the unturned input."""
        raw, logits = self._model(np.rot90(letterboxed, turn) / np.float32(127.5) - 1)
        scores = 1 / (1 + np.exp(-np.clip(logits[:, 0], -50, 50)))
        accepted: list[Detection] = []
        for index in np.argsort(-scores):
            if scores[index] < min_score:
                return
            values = raw[index].reshape(8, 2) / INPUT_PIXELS
            values[[0, *range(2, 8)]] += self._anchors[index]
            angle = float(np.arctan2(*(values[3] - values[2])[::-1]))
            values = values.astype(np.float64) * INPUT_PIXELS
            centre, side = values[0], float(values[1].max())
            detection = Detection(float(scores[index]), centre, side, angle, values[2:])
            apart = [np.abs(detection.centre - other.centre).max() for other in accepted]
            if min(apart, default=np.inf) < detection.side / 2:
                continue
            accepted.append(detection)
            for _ in range(turn):
                detection = detection.transformed(_ROTATE_90)
            yield detection


def _anchors() -> NDArray[np.float32]:
    """Centres of the detector's 896 anchors, 0-1: strides 8 and 16 with 2 and 6 a cell."""
    rows = []
    for stride, per_cell in ((8, 2), (16, 6)):
        cells = INPUT_PIXELS // stride
        axis = (np.arange(cells) + 0.5) / cells
        x, y = np.meshgrid(axis, axis)
        rows.append(np.repeat(np.column_stack([x.ravel(), y.ravel()]), per_cell, axis=0))
    return np.concatenate(rows).astype(np.float32)
