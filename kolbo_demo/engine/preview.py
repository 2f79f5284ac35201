"""Small pictures of the latest frame, written while a video is rendered."""

import time
from contextlib import suppress
from pathlib import Path

from av.video.frame import VideoFrame
from av.video.reformatter import ColorRange, Colorspace, Interpolation, VideoReformatter
from PIL import Image

PREVIEW_WIDTH, PREVIEW_HEIGHT = 320, 640
"""Maximum size in pixels."""
INTERVAL_SECONDS = 1.0
_QUALITY = 75


class PreviewWriter:
    """Replaces a JPEG by the latest frame, at most once a second."""

    def __init__(self, path: Path, matrix: Colorspace) -> None:
        """`matrix` is the YUV matrix of the frames."""
        self._path, self._matrix = path, matrix
        self._reformatter = VideoReformatter()
        self._due = 0.0

    def update(self, frame: VideoFrame) -> None:
        """Write `frame`, in 4:2:0, if the last one is old enough. A file that cannot be written is
        left out."""
        if time.monotonic() < self._due:
            return
        scale = min(1.0, PREVIEW_WIDTH / frame.width, PREVIEW_HEIGHT / frame.height)
        picture = self._reformatter.reformat(
            frame,
            max(1, round(frame.width * scale)),
            max(1, round(frame.height * scale)),
            "rgb24",
            src_colorspace=self._matrix,
            src_color_range=ColorRange.MPEG,
            dst_color_range=ColorRange.JPEG,
            interpolation=Interpolation.AREA,
        )
        part = self._path.with_suffix(".part")
        with suppress(OSError):
            Image.fromarray(picture.to_ndarray()).save(part, "JPEG", quality=_QUALITY)
            part.replace(self._path)
        self._due = time.monotonic() + INTERVAL_SECONDS
