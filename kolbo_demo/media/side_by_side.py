"""Side-by-side video of two videos, or of a picture and a video, made in a child process."""

import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from kolbo_demo.disclosure import COMMENT
from kolbo_demo.media.sniff import MediaError, kind_of
from kolbo_demo.process.child import ChildFailedError, call_module, parent_connection
from kolbo_demo.process.confinement import MAX_OUTPUT_BYTES, AllowedFiles, limit_resources

_TIMEOUT_SECONDS = 900.0
_MEMORY_BYTES = 4 * 1024**3
_MAX_HEIGHT = 720
"""Pixels. Smaller pictures keep their size."""
_NICENESS = 10


def write_side_by_side(
    left: Path, right: Path, target: Path, finish: Callable[[Path], None] = lambda _: None
) -> None:
    """Write `target`, an MP4 with `left` and `right` at one height, the duration and the sound of
    `right`. A shorter `left` freezes on its last frame. Blocks.

    Raises MediaError. `target` appears when it is complete and `finish` has changed it in place.
    """
    sources = [str(path.absolute()) for path in (left, right)]
    with tempfile.TemporaryDirectory(prefix=".", dir=target.absolute().parent) as folder:
        part = Path(folder, "beside.mp4")
        files = AllowedFiles(read=tuple(sources), write=(folder,))
        request = {"left": sources[0], "right": sources[1], "part": str(part)}
        try:
            done = call_module(__name__, _TIMEOUT_SECONDS, files, **request)["done"]
        except ChildFailedError:
            done = False
        if not done:
            raise MediaError("These two could not be put side by side. Try others.")
        finish(part)
        part.replace(target)


# From here on: the child.


def main() -> None:
    """Write the video that the parent requests."""
    if hasattr(os, "nice"):
        os.nice(_NICENESS)
    with parent_connection() as (requests, send):
        request = next(requests)
        limit_resources(_TIMEOUT_SECONDS, _MEMORY_BYTES, MAX_OUTPUT_BYTES)
        try:
            _write(Path(request["left"]), Path(request["right"]), Path(request["part"]))
        except Exception:  # noqa: BLE001 - moviepy raises whatever its parts raise
            send(done=False)
        else:
            send(done=True)


def _write(left: Path, right: Path, part: Path) -> None:
    from moviepy import VideoFileClip, clips_array

    with VideoFileClip(str(right)) as talking:
        height = min(talking.h, _MAX_HEIGHT) // 2 * 2
        sides = [_open_clip(left, talking.duration), talking]
        clips_array([[_scale_to_height(clip, height) for clip in sides]]).with_duration(
            talking.duration
        ).with_audio(talking.audio).write_videofile(
            str(part),
            fps=talking.fps,
            codec="libx264",
            audio_codec="aac",
            preset="veryfast",
            ffmpeg_params=[
                *("-crf", "20", "-pix_fmt", "yuv420p", "-movflags", "+faststart"),
                *("-metadata", f"comment={COMMENT}"),
            ],
            temp_audiofile_path=str(part.parent),
            logger=None,
        )


def _open_clip(path: Path, seconds: float) -> Any:
    """The picture, or the clip without sound, for so many seconds."""
    from moviepy import ImageClip, VideoFileClip
    from moviepy.video.fx import Freeze

    if kind_of(path) == "image":
        return ImageClip(str(path)).with_duration(seconds)
    clip = VideoFileClip(str(path), audio=False)
    if clip.duration >= seconds:
        return clip.subclipped(0, seconds)
    last = max(0.0, clip.duration - 1.5 / clip.fps)
    return clip.with_effects([Freeze(t=last, freeze_duration=seconds - last)])


def _scale_to_height(clip: Any, height: int) -> Any:
    """Scaled to a height and an even width, which H.264 requires."""
    return clip.resized((max(2, round(clip.w * height / clip.h / 2) * 2), height))


if __name__ == "__main__":
    main()
