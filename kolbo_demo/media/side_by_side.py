"""Two videos, or a picture and a video, side by side in one file; in a process of its own."""

import os
import tempfile
from pathlib import Path
from typing import Any

from kolbo_demo.media.demux import MediaError
from kolbo_demo.media.sniff import kind_of
from kolbo_demo.process.child import once, parent_connection
from kolbo_demo.process.confinement import MAX_OUTPUT_BYTES, AllowedFiles, limit_resources

TIMEOUT_SECONDS = 900.0
"""Seconds that it may take."""
MEMORY_BYTES = 4 * 1024**3
"""Bytes of address space for it."""
MAX_HEIGHT = 720
"""Pixels of the result at most: smaller pictures stay as they are."""
_NICENESS = 10


def write_side_by_side(left: Path, right: Path, target: Path) -> None:
    """Writes `target`, an MP4 with `left` and `right` at one height, as long as `right` and with
    its sound. A `left` that is shorter stands still in the end. Blocks.

    Raises MediaError where one of them cannot be read. The file appears when it is whole.
    """
    given = [str(path.absolute()) for path in (left, right)]
    with tempfile.TemporaryDirectory(prefix=".", dir=target.absolute().parent) as folder:
        part = Path(folder, "beside.mp4")
        files = AllowedFiles(read=tuple(given), write=(folder,))
        answer = once(
            __name__, TIMEOUT_SECONDS, files, left=given[0], right=given[1], part=str(part)
        )
        if isinstance(answer, str) or "failure" in answer:
            raise MediaError("These two could not be put side by side. Try others.")
        part.replace(target)


# From here on: the child.


def main() -> None:
    """Put together what is asked for."""
    if hasattr(os, "nice"):
        os.nice(_NICENESS)
    with parent_connection() as (requests, tell):
        asked = next(requests)
        limit_resources(TIMEOUT_SECONDS, MEMORY_BYTES, MAX_OUTPUT_BYTES)
        try:
            _write(Path(asked["left"]), Path(asked["right"]), Path(asked["part"]))
        except Exception as error:  # noqa: BLE001 - moviepy raises whatever its parts raise
            tell(failure=str(error))
        else:
            tell(done=True)


def _write(left: Path, right: Path, part: Path) -> None:
    from moviepy import VideoFileClip, clips_array

    with VideoFileClip(str(right)) as talking:
        height = min(talking.h, MAX_HEIGHT) // 2 * 2
        both = [
            _scale_to_height(_open_clip(left, talking.duration), height),
            _scale_to_height(talking, height),
        ]
        clips_array([both]).with_duration(talking.duration).with_audio(
            talking.audio
        ).write_videofile(
            str(part),
            fps=talking.fps,
            codec="libx264",
            audio_codec="aac",
            preset="veryfast",
            ffmpeg_params=["-crf", "20", "-pix_fmt", "yuv420p", "-movflags", "+faststart"],
            temp_audiofile_path=str(part.parent),
            logger=None,
        )


def _open_clip(path: Path, seconds: float) -> Any:
    """The picture, or the clip without its sound, for so many seconds."""
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
    """At this height, and an even width, which H.264 asks for."""
    return clip.resized((max(2, round(clip.w * height / clip.h / 2) * 2), height))


if __name__ == "__main__":
    main()
