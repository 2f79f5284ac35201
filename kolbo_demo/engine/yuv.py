"""I420 planes of a clip: unchanged pixels of a frame are copied instead of converted.

Converting I420 to RGB and back loses more than encoding once more (6 dB on the sample clip), so
changed pixels are written into the decoded planes.
"""

from collections.abc import Iterable

import cv2
import numpy as np
from av.video.reformatter import Colorspace
from numpy.typing import NDArray

from kolbo_demo.engine.thin_plate import Box, Pixels

Planes = NDArray[np.uint8]
"""I420 of a frame with even sides, (height * 3 / 2, width): luma 16-235, then both chroma planes
16-240 at half the width and height."""

_RED_BLUE_WEIGHTS = {Colorspace.ITU709: (0.2126, 0.0722), Colorspace.ITU601: (0.299, 0.114)}
"""Luma weights of red and blue: ITU-R BT.709-6, BT.601-7."""


def patch_planes(
    planes: Planes, before: Pixels, after: Pixels, boxes: Iterable[Box], matrix: Colorspace
) -> Planes:
    """A copy of `planes` with the pixels inside `boxes` in which `after` differs from `before`.

    `before` and `after` are RGB (height, width, 3), `matrix` the YUV matrix of `planes`.
    """
    out = planes.copy()
    height, width = after.shape[:2]
    luma, chroma = out[:height], out[height:].reshape(2, height // 2, width // 2)
    coefficients = _rgb_to_yuv(matrix)
    for left, top, right, bottom in boxes:
        chroma_box = slice(top // 2, (bottom + 1) // 2), slice(left // 2, (right + 1) // 2)
        luma_box = tuple(slice(2 * part.start, 2 * part.stop) for part in chroma_box)
        part = after[luma_box]
        changed = cv2.transform(cv2.absdiff(part, before[luma_box]), np.ones((1, 3))) > 0
        np.copyto(luma[luma_box], cv2.transform(part, coefficients[:1]), where=changed)
        rows = changed[::2] | changed[1::2]
        blocks = rows[:, ::2] | rows[:, 1::2]
        small = cv2.resize(part, blocks.shape[::-1], interpolation=cv2.INTER_AREA)
        for plane, colour in zip(chroma, coefficients[1:], strict=True):
            np.copyto(plane[chroma_box], cv2.transform(small, colour[None]), where=blocks)
    return out


def _rgb_to_yuv(matrix: Colorspace) -> NDArray[np.float64]:
    """(3, 4) affine from RGB 0-255 to luma and both chroma channels."""
    red, blue = _RED_BLUE_WEIGHTS[matrix]
    luma = np.array([red, 1 - red - blue, blue])
    colours = [(np.eye(3)[i] - luma) / (2 * (1 - luma[i])) for i in (2, 0)]
    coefficients = np.array([219 * luma, 224 * colours[0], 224 * colours[1]]) / 255
    return np.column_stack([coefficients, [16, 128, 128]])
