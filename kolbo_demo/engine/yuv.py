"""A clip's own planes: what a frame keeps of them is neither converted nor rounded.

Most clips are kept as the result is: 8 bits, half the colours' resolution (I420). To RGB and back
they lose more than by being encoded once more (6 dB on the sample clip), so a frame's new pixels
are laid into the planes that the file has.
"""

from collections.abc import Iterable

import cv2
import numpy as np
from av.video.reformatter import Colorspace
from numpy.typing import NDArray

from kolbo_demo.engine.thin_plate import Box, Pixels

Planes = NDArray[np.uint8]
"""Luma, then both colours at half the width and height, rows of `width`: (height * 3 / 2, width)
for an even picture, 16-235 and 16-240."""

_WEIGHTS = {Colorspace.ITU709: (0.2126, 0.0722), Colorspace.ITU601: (0.299, 0.114)}
"""Of red and blue in luma: ITU-R BT.709-6, BT.601-7."""


def patched(
    own: Planes, before: Pixels, after: Pixels, boxes: Iterable[Box], matrix: Colorspace
) -> Planes:
    """A frame's `own` planes where two pictures of it, (height, width, 3), do not differ, and those
    of `after` where they do, which is within `boxes`. `matrix` is how luma and colours are mixed.
    """
    out = own.copy()
    height, width = after.shape[:2]
    luma, colours = out[:height], out[height:].reshape(2, height // 2, width // 2)
    mix = _mix(matrix)
    for left, top, right, bottom in boxes:
        half = slice(top // 2, (bottom + 1) // 2), slice(left // 2, (right + 1) // 2)
        whole = tuple(slice(2 * part.start, 2 * part.stop) for part in half)
        part = after[whole]
        changed = cv2.transform(cv2.absdiff(part, before[whole]), np.ones((1, 3))) > 0
        np.copyto(luma[whole], cv2.transform(part, mix[:1]), where=changed)
        rows = changed[::2] | changed[1::2]
        blocks = rows[:, ::2] | rows[:, 1::2]
        small = cv2.resize(part, blocks.shape[::-1], interpolation=cv2.INTER_AREA)
        for plane, colour in zip(colours, mix[1:], strict=True):
            np.copyto(plane[half], cv2.transform(small, colour[None]), where=blocks)
    return out


def _mix(matrix: Colorspace) -> NDArray[np.float64]:
    """RGB 0-255 to luma and both colours: (3, 4)."""
    red, blue = _WEIGHTS[matrix]
    luma = np.array([red, 1 - red - blue, blue])
    colours = [(np.eye(3)[i] - luma) / (2 * (1 - luma[i])) for i in (2, 0)]
    mixed = np.array([219 * luma, 224 * colours[0], 224 * colours[1]]) / 255
    return np.column_stack([mixed, [16, 128, 128]])
