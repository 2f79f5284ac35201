"""I420 planes of frames: unchanged pixels are copied instead of converted.

Converting a clip's I420 to RGB and back loses more than encoding once more (6 dB on the sample
clip), so changed pixels are written into the decoded planes. Of a still's frames only the part that
moves is converted, which saves time.
"""

from collections.abc import Iterable

import cv2
import numpy as np
from av.video.frame import VideoFrame
from av.video.reformatter import ColorRange, Colorspace, Interpolation, VideoReformatter
from numpy.typing import NDArray

from kolbo_demo.engine.thin_plate import Box, Pixels

Planes = NDArray[np.uint8]
"""I420 of a frame with even sides, (height * 3 / 2, width): luma 16-235, then both chroma planes
16-240 at half the width and height."""

_RED_BLUE_WEIGHTS = {Colorspace.ITU709: (0.2126, 0.0722), Colorspace.ITU601: (0.299, 0.114)}
"""Luma weights of red and blue: ITU-R BT.709-6, BT.601-7."""
_TO_YUV = (
    Interpolation.BICUBIC
    | Interpolation.FULL_CHR_H_INT
    | Interpolation.FULL_CHR_H_INP
    | Interpolation.ACCURATE_RND
)
_FILTER_PIXELS = 8
"""Pixels beside a box that its conversion may read or change; more than the filter's reach."""


class PlaneConverter:
    """Converts RGB to I420."""

    def __init__(self, matrix: Colorspace, threads: int = 1) -> None:
        self._reformatter, self._matrix, self._threads = VideoReformatter(), matrix, threads

    def __call__(self, rgb: Pixels) -> VideoFrame:
        """An I420 frame of uint8 (height, width, 3) with even sides."""
        return self._reformatter.reformat(
            VideoFrame.from_numpy_buffer(np.ascontiguousarray(rgb), "rgb24"),
            format="yuv420p",
            dst_colorspace=self._matrix,
            dst_color_range=ColorRange.MPEG,
            interpolation=_TO_YUV,
            threads=self._threads,
        )


class StillPlanes:
    """Converts frames that differ from one picture in a box; equals `PlaneConverter`."""

    def __init__(self, picture: Pixels, matrix: Colorspace) -> None:
        self._convert = PlaneConverter(matrix)
        self._planes = self._converted(picture)

    def __call__(self, frame: Pixels, box: Box) -> Planes:
        """Planes of a frame that equals the picture outside `box`."""
        out = self._planes.copy()
        height, width = frame.shape[:2]
        # Even pixels, and as many again, so that the part's own border is not used.
        inner, outer = (
            np.clip(np.array(box).reshape(2, 2) // 2 * 2 + [[-by], [by + 2]], 0, (width, height))
            for by in (_FILTER_PIXELS, 2 * _FILTER_PIXELS)
        )
        (left, top), (right, bottom) = outer
        part = self._converted(frame[top:bottom, left:right])
        for to, from_, scale in zip(_split(out), _split(part), (1, 2, 2), strict=True):
            (x, y), (x_end, y_end) = inner // scale
            dx, dy = outer[0] // scale
            to[y:y_end, x:x_end] = from_[y - dy : y_end - dy, x - dx : x_end - dx]
        return out

    def _converted(self, rgb: Pixels) -> Planes:
        return np.asarray(self._convert(rgb).to_ndarray(), np.uint8)


def _split(planes: Planes) -> tuple[Planes, Planes, Planes]:
    """Views of luma and both chroma planes."""
    height, width = len(planes) * 2 // 3, planes.shape[1]
    first, second = planes[height:].reshape(2, height // 2, width // 2)
    return planes[:height], first, second


def patch_planes(
    planes: Planes, before: Pixels, after: Pixels, boxes: Iterable[Box], matrix: Colorspace
) -> Planes:
    """A copy of `planes` with the pixels inside `boxes` in which `after` differs from `before`.

    `before` and `after` are RGB (height, width, 3), `matrix` the YUV matrix of `planes`.
    """
    out = planes.copy()
    luma, *chroma = _split(out)
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
