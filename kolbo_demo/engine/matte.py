"""Matte of the people in a picture: MediaPipe's selfie segmenter on LiteRT."""

import cv2
import numpy as np
from numpy.typing import NDArray

from kolbo_demo.data_files import ASSETS
from kolbo_demo.engine.face_detector import LiteRtModel
from kolbo_demo.engine.head_pose import Array, Pose
from kolbo_demo.engine.thin_plate import Pixels

MODEL_PATH = ASSETS / "selfie_segmentation.tflite"
INPUT_PIXELS = 256
CROP_MM = 560.0
"""Side of the square around the head that the segmenter sees: head and shoulders."""
MIN_FACE_SHARE = 0.9
"""Least mean of a usable matte on the face."""

Matte = NDArray[np.float32]


def head_matte(picture: Pixels, points: Array, pose: Pose) -> Matte | None:
    """Opacity 0-1 (height, width) of people near a face; None where the segmenter fails.

    `points` (478, 2+) are the face's landmarks in pixels. Beyond the crop around the head the
    matte repeats its border.
    """
    height, width = picture.shape[:2]
    centre, half = pose.shift[:2], CROP_MM * pose.scale / 2
    left, top = (max(int(at - half), 0) for at in centre)
    right, bottom = min(int(centre[0] + half), width), min(int(centre[1] + half), height)
    crop = picture[top:bottom, left:right]
    size = (INPUT_PIXELS, INPUT_PIXELS)
    small = cv2.resize(crop, size, interpolation=cv2.INTER_AREA).astype(np.float32) / 255
    found = LiteRtModel(MODEL_PATH.read_bytes())(small)[0][..., 0]
    matte = cv2.resize(found, crop.shape[1::-1], interpolation=cv2.INTER_CUBIC)
    border = (top, height - bottom, left, width - right)
    matte = cv2.copyMakeBorder(np.clip(matte, 0, 1), *border, cv2.BORDER_REPLICATE)
    face = np.zeros((height, width), np.uint8)
    hull = cv2.convexHull(np.rint(points[:, :2]).astype(np.int32))
    cv2.fillConvexPoly(face, hull, 1)
    if not face.any() or float(matte[face > 0].mean()) < MIN_FACE_SHARE:
        return None
    return np.asarray(matte, np.float32)
