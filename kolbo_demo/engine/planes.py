"""A clip's own planes: what a frame keeps of them is neither converted nor rounded.

Most clips are kept as the result is: 8 bits, half the colours' resolution (I420). To RGB and back
they lose more than by being encoded once more (6 dB on the sample clip), so a frame's new pixels
are laid into the planes that the file has.
"""

import cv2
import numpy as np
from av.video.reformatter import Colorspace
from numpy.typing import NDArray

from kolbo_demo.engine.warp import Pixels

Planes = NDArray[np.uint8]
"""Luma, then both colours at half the width and height, rows of `width`: (height * 3 / 2, width)
for an even picture, 16-235 and 16-240."""

_WEIGHTS = {Colorspace.ITU709: (0.2126, 0.0722), Colorspace.ITU601: (0.299, 0.114)}
"""Of red and blue in luma: ITU-R BT.709-6, BT.601-7."""


def patched(own: Planes, before: Pixels, after: Pixels, matrix: Colorspace) -> Planes:
    """A frame's `own` planes where two pictures of it, (height, width, 3), do not differ, and those
    of `after` where they do. `matrix` is how luma and colours are mixed."""
    out = own.copy()
    box = _differing(before, after)
    if box is None:
        return out
    height, width = after.shape[:2]
    rows, columns = box
    part = after[rows, columns]
    changed = (part != before[rows, columns]).any(2)
    mix = _mix(matrix)
    luma = out[:height][rows, columns]
    np.copyto(luma, cv2.transform(part, mix[:1]), where=changed)
    half = slice(rows.start // 2, rows.stop // 2), slice(columns.start // 2, columns.stop // 2)
    size = changed.shape[0] // 2, changed.shape[1] // 2
    blocks = changed.reshape(size[0], 2, size[1], 2).any((1, 3))
    small = cv2.resize(part, size[::-1], interpolation=cv2.INTER_AREA)
    colours = cv2.transform(small, mix[1:])
    both = out[height:].reshape(2, height // 2, width // 2)
    for i in range(2):
        np.copyto(both[i][half], colours[..., i], where=blocks)
    return out


def _differing(before: Pixels, after: Pixels) -> tuple[slice, slice] | None:
    """Rows and columns, from even to even, out of which two pictures are the same."""
    height = len(after)
    rows = np.flatnonzero((before != after).reshape(height, -1).any(1))
    if len(rows) == 0:
        return None
    down = slice(int(rows[0]) // 2 * 2, int(rows[-1]) // 2 * 2 + 2)
    columns = np.flatnonzero((before[down] != after[down]).any((0, 2)))
    return down, slice(int(columns[0]) // 2 * 2, int(columns[-1]) // 2 * 2 + 2)


def _mix(matrix: Colorspace) -> NDArray[np.float64]:
    """RGB 0-255 to luma and both colours: (3, 4)."""
    red, blue = _WEIGHTS[matrix]
    luma = np.array([red, 1 - red - blue, blue])
    colours = [(np.eye(3)[i] - luma) / (2 * (1 - luma[i])) for i in (2, 0)]
    mixed = np.array([219 * luma, 224 * colours[0], 224 * colours[1]]) / 255
    return np.column_stack([mixed, [16, 128, 128]])
