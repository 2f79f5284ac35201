"""The AI disclosure: "AI-generated" in the lower right corner of each frame, and a comment in the
file's metadata."""

from pathlib import Path

import av
import numpy as np
from av.error import FFmpegError
from PIL import Image, ImageDraw, ImageFont

from kolbo_demo.disclosure import COMMENT, MARK_TEXT
from kolbo_demo.engine.landmarks import Pixels
from kolbo_demo.engine.video_reader import Clip
from kolbo_demo.engine.video_writer import VideoWriter
from kolbo_demo.engine.yuv import patch_planes
from kolbo_demo.media.demux import UNREADABLE, MediaError, open_media

_FAST_START = {"movflags": "+faststart"}
TEXT_HEIGHT, MIN_TEXT_PIXELS = 0.035, 12
"""Height of the letters, as a share of the frame's shorter side, and its minimum."""
MAX_WIDTH = 0.9
"""Share of the frame's width."""
PLATE_GREY, PLATE_OPACITY = 20, 0.68
"""Grey level (0-255) and opacity of the plate under the white letters. Their contrast is 6:1 on a
white picture and 19:1 on a black one."""


class Watermark:
    """Draws the watermark into frames of `width` x `height` pixels."""

    def __init__(self, width: int, height: int) -> None:
        plate = _plate(max(round(min(width, height) * TEXT_HEIGHT), MIN_TEXT_PIXELS))
        max_size = (int(width * MAX_WIDTH), int(height * MAX_WIDTH))
        if plate.width > max_size[0] or plate.height > max_size[1]:
            plate.thumbnail(max_size, Image.Resampling.LANCZOS)
        margin = plate.height // 3
        self._x = max(width - plate.width - margin, 0)
        self._y = max(height - plate.height - margin, 0)
        pixels = np.asarray(plate, np.float32)
        self.box = (self._x, self._y, self._x + plate.width, self._y + plate.height)
        """Left, top, right, bottom of the plate, pixels."""
        self._cover = pixels[..., 3:] / 255
        self._colour = pixels[..., :3] * self._cover

    def __call__(self, rgb: Pixels) -> Pixels:
        """A copy of a frame, uint8 (height, width, 3), with the watermark."""
        marked = rgb.copy()
        height, width = self._cover.shape[:2]
        under = marked[self._y : self._y + height, self._x : self._x + width]
        under[:] = np.rint(under * (1 - self._cover) + self._colour)
        return marked


def _plate(text_height: int) -> Image.Image:
    """White letters `text_height` pixels high on a dark, translucent plate: RGBA."""
    font = ImageFont.load_default(text_height)
    left, top, right, bottom = font.getbbox(MARK_TEXT)
    padding_x, padding_y = round(text_height * 0.6), round(text_height * 0.4)
    size = (round(right - left) + 2 * padding_x, round(bottom - top) + 2 * padding_y)
    plate = Image.new("RGBA", size, (PLATE_GREY, PLATE_GREY, PLATE_GREY, 0))
    draw = ImageDraw.Draw(plate)
    shade = (PLATE_GREY, PLATE_GREY, PLATE_GREY, round(255 * PLATE_OPACITY))
    draw.rounded_rectangle((0, 0, size[0] - 1, size[1] - 1), text_height // 3, fill=shade)
    letters = Image.new("L", size, 0)
    ImageDraw.Draw(letters).text(
        (padding_x - left, padding_y - top), MARK_TEXT, fill=255, font=font
    )
    plate.paste((255, 255, 255, 255), mask=letters)
    return plate


def add_watermark(video: Path, output: Path) -> None:
    """Write a copy of `video` with the watermark in every frame; `output` appears when complete.

    Raises MediaError for a video that is unreadable or has no sound, OSError if it cannot be
    written.
    """
    with Clip(video) as clip:
        watermark = Watermark(clip.width, clip.height)
        size, matrix = (clip.width, clip.height), clip.matrix
        with VideoWriter(output, *size, clip.fps, video, clip.duration, matrix) as writer:
            for rgb, planes in clip.frames_and_planes():
                marked = watermark(rgb)
                writer.write(
                    marked
                    if planes is None
                    else patch_planes(planes, rgb, marked, [watermark.box], matrix)
                )


def tag_metadata(video: Path, output: Path) -> None:
    """Remux `video` to MP4, without encoding, with COMMENT in its metadata.

    Raises MediaError where MP4 cannot carry its streams.
    """
    with open_media(video) as container:
        try:
            with av.open(str(output), "w", format="mp4", options=_FAST_START) as out:
                out.metadata.update(container.metadata)
                out.metadata["comment"] = COMMENT
                streams = [*container.streams.video, *container.streams.audio]
                copies = {stream.index: out.add_stream_from_template(stream) for stream in streams}
                for packet in container.demux(streams):
                    if packet.dts is not None:
                        packet.stream = copies[packet.stream.index]
                        out.mux(packet)
        except (FFmpegError, ValueError) as error:
            raise MediaError(UNREADABLE) from error
