"""Where faces seem to be, and which way up: the landmarker's short-range detector (BlazeFace).

It knows upright faces only, so a picture may be shown to it in four turns.
"""

import zipfile
from collections.abc import Iterator
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from kolbo_demo.data_files import ASSETS

MODEL = ASSETS / "face_landmarker.task"
SIDE = 128
"""Pixels of the square that the detector looks at."""

Pixels = NDArray[np.uint8]
Affine = NDArray[np.float64]
TURNS = (0, 1, 2, 3)
"""Quarter turns in which a picture is looked at."""

_TURN = np.array([[0.0, -1.0, SIDE], [1.0, 0.0, 0.0]])
"""2x3 affine from the square turned once, counterclockwise, to the square as it was."""


@dataclass(frozen=True)
class Detection:
    """A face by its box and keypoints: `score` 0-1, `centre` (2,), `side` of the box, `angle` of
    the eye line (radians clockwise), and `marks` (6, 2): right eye, left eye, tip of the nose,
    mouth, right ear, left ear. Pixels."""

    score: float
    centre: NDArray[np.float64]
    side: float
    angle: float
    marks: NDArray[np.float64]

    def moved(self, by: Affine) -> "Detection":
        """In other coordinates; `by` (2, 3) is a similarity."""
        scale = float(np.sqrt(abs(np.linalg.det(by[:, :2]))))
        centre, marks = (at @ by[:, :2].T + by[:, 2] for at in (self.centre, self.marks))
        angle = self.angle + float(np.arctan2(by[1, 0], by[0, 0]))
        return Detection(self.score, centre, self.side * scale, angle, marks)


class Network:
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


class Detector:
    """Finds boxes and keypoints of faces. Not for use by several threads at once."""

    def __init__(self, threads: int) -> None:
        self._network = Network("face_detector.tflite", threads)
        self._anchors = _anchors()

    def __call__(
        self,
        rgb: Pixels,
        tile: tuple[int, int, int, int],
        least: float,
        turns: tuple[int, ...],
    ) -> list[Detection]:
        """Faces in a tile (left, top, width, height) of a picture, best first in each turn.

        The detector sees black where the tile lies outside the picture.
        """
        left, top, width, height = tile
        x0, y0 = max(left, 0), max(top, 0)
        part = rgb[y0 : max(top + height, 0), x0 : max(left + width, 0)]
        if part.size == 0:
            return []
        scale = SIDE / max(width, height)
        size = [max(round(length * scale), 1) for length in part.shape[1::-1]]
        small = cv2.resize(part, size, interpolation=cv2.INTER_AREA)
        boxed = np.zeros((SIDE, SIDE, 3), np.float32)
        dx = (SIDE - round(width * scale)) // 2 + round((x0 - left) * scale)
        dy = (SIDE - round(height * scale)) // 2 + round((y0 - top) * scale)
        into = boxed[dy : dy + size[1], dx : dx + size[0]]
        into[:] = small[: into.shape[0], : into.shape[1]]
        back = np.array([[1 / scale, 0, x0 - dx / scale], [0, 1 / scale, y0 - dy / scale]])
        return [one.moved(back) for turn in turns for one in self._seen(boxed, turn, least)]

    def _seen(self, boxed: NDArray[np.float32], turn: int, least: float) -> Iterator[Detection]:
        """In the square turned so often, in the coordinates of the square as it is."""
        raw, logits = self._network(np.rot90(boxed, turn) / np.float32(127.5) - 1)
        scores = 1 / (1 + np.exp(-np.clip(logits[:, 0], -50, 50)))
        taken: list[Detection] = []
        for index in np.argsort(-scores):
            if scores[index] < least:
                return
            values = raw[index].reshape(8, 2) / SIDE
            values[[0, *range(2, 8)]] += self._anchors[index]
            angle = float(np.arctan2(*(values[3] - values[2])[::-1]))
            values = values.astype(np.float64) * SIDE
            centre, side = values[0], float(values[1].max())
            found = Detection(float(scores[index]), centre, side, angle, values[2:])
            if any(np.abs(found.centre - one.centre).max() < found.side / 2 for one in taken):
                continue
            taken.append(found)
            for _ in range(turn):
                found = found.moved(_TURN)
            yield found


def _anchors() -> NDArray[np.float32]:
    """Centres of the detector's 896 anchors, 0-1: strides 8 and 16 with 2 and 6 a cell."""
    rows = []
    for stride, per_cell in ((8, 2), (16, 6)):
        cells = SIDE // stride
        axis = (np.arange(cells) + 0.5) / cells
        x, y = np.meshgrid(axis, axis)
        rows.append(np.repeat(np.column_stack([x.ravel(), y.ravel()]), per_cell, axis=0))
    return np.concatenate(rows).astype(np.float32)
