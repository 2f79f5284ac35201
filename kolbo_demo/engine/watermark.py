"""Marks of what AI made: "AI-generated" in the lower right corner of each frame, and in the file's
metadata."""

from pathlib import Path

import av
import numpy as np
from av.error import FFmpegError
from PIL import Image, ImageDraw, ImageFont

from kolbo_demo.engine.landmarks import Pixels
from kolbo_demo.engine.video_reader import Clip
from kolbo_demo.engine.video_writer import MARK, Writer
from kolbo_demo.engine.yuv import patched
from kolbo_demo.media.demux import UNREADABLE, MediaError, open_media

TEXT = "AI-generated"
_FAST_START = {"movflags": "+faststart"}
SIZE, LEAST = 0.035, 12
"""Height of the letters: a part of the shorter side, and pixels."""
WIDEST = 0.9
"""Of the frame's width."""
DARK, SHADE = 20, 0.68
"""Grey level of the plate under white letters, and how much of the picture it covers. On white the
letters still have a contrast of 6 to 1, on black of 19 to 1."""


class Mark:
    """Draws the mark into frames of one size."""

    def __init__(self, width: int, height: int) -> None:
        """`width` and `height` in pixels."""
        plate = _plate(max(round(min(width, height) * SIZE), LEAST))
        most = (int(width * WIDEST), int(height * WIDEST))
        if plate.width > most[0] or plate.height > most[1]:
            plate.thumbnail(most, Image.Resampling.LANCZOS)
        off = plate.height // 3
        self._x = max(width - plate.width - off, 0)
        self._y = max(height - plate.height - off, 0)
        pixels = np.asarray(plate, np.float32)
        self.box = (self._x, self._y, self._x + plate.width, self._y + plate.height)
        """Left, top, right, bottom: the pixels that are covered."""
        self._cover = pixels[..., 3:] / 255
        self._colour = pixels[..., :3] * self._cover

    def __call__(self, rgb: Pixels) -> Pixels:
        """A copy of a frame, uint8 (height, width, 3), with the mark."""
        marked = rgb.copy()
        height, width = self._cover.shape[:2]
        under = marked[self._y : self._y + height, self._x : self._x + width]
        under[:] = np.rint(under * (1 - self._cover) + self._colour)
        return marked


def _plate(size: int) -> Image.Image:
    """White letters `size` pixels high on a dark, half transparent plate: RGBA."""
    font = ImageFont.load_default(size)
    left, top, right, bottom = font.getbbox(TEXT)
    wide, high = round(size * 0.6), round(size * 0.4)
    box = (round(right - left) + 2 * wide, round(bottom - top) + 2 * high)
    plate = Image.new("RGBA", box, (DARK, DARK, DARK, 0))
    draw = ImageDraw.Draw(plate)
    shade = (DARK, DARK, DARK, round(255 * SHADE))
    draw.rounded_rectangle((0, 0, box[0] - 1, box[1] - 1), size // 3, fill=shade)
    letters = Image.new("L", box, 0)
    ImageDraw.Draw(letters).text((wide - left, high - top), TEXT, fill=255, font=font)
    plate.paste((255, 255, 255, 255), mask=letters)
    return plate


def mark(video: Path, output: Path) -> None:
    """Write `video` once more with the mark in every frame. The file appears when it is whole.
    Raises MediaError for a video that cannot be read or has no sound, OSError if the disk does not
    take the file."""
    with Clip(video) as clip:
        drawn = Mark(clip.width, clip.height)
        size, matrix = (clip.width, clip.height), clip.matrix
        with Writer(output, *size, clip.fps, video, clip.duration, matrix) as writer:
            for rgb, own in clip.frames_and_planes():
                marked = drawn(rgb)
                writer.write(
                    marked if own is None else patched(own, rgb, marked, [drawn.box], matrix)
                )


def stamp(video: Path, output: Path) -> None:
    """Write `video` once more, picture and sound as they are, with the mark in its metadata. Raises
    MediaError for what cannot be written as MP4 just so."""
    with open_media(video) as container:
        try:
            with av.open(str(output), "w", format="mp4", options=_FAST_START) as out:
                out.metadata.update(container.metadata)
                out.metadata["comment"] = MARK
                kinds = [*container.streams.video, *container.streams.audio]
                copies = {stream.index: out.add_stream_from_template(stream) for stream in kinds}
                for packet in container.demux(kinds):
                    if packet.dts is not None:
                        packet.stream = copies[packet.stream.index]
                        out.mux(packet)
        except (FFmpegError, ValueError) as error:
            raise MediaError(UNREADABLE) from error
