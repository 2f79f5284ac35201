"""Inspect files: kind, duration, dimensions, and a picture of them, upright.

Names and headers are not trusted: a file is recognised by its first bytes, measured before it is
decoded, and decoded only by the readers that `demux` and `picture` list.
"""

from contextlib import suppress
from pathlib import Path

import numpy as np
from av.error import FFmpegError
from PIL import Image

from kolbo_demo.media.audio_timestamps import decoded_duration, packet_duration
from kolbo_demo.media.audio_track import (
    VoiceTrack,
    find_voice_track,
    is_decodable_audio,
    voice_stream,
)
from kolbo_demo.media.demux import (
    CODEC_THREADS,
    NO_VIDEO,
    Orientation,
    check_colours,
    check_video_size,
    decode_video,
    open_media,
    read_timeline,
    square_size,
    video_stream,
)
from kolbo_demo.media.frame_colours import RgbConverter
from kolbo_demo.media.limits import MAX_FILE_BYTES
from kolbo_demo.media.picture import header_size, upright_image, upright_picture, verified_size
from kolbo_demo.media.sniff import (
    UNREADABLE,
    VIDEO_EXTENSIONS,
    MediaError,
    MediaInfo,
    MediaKind,
    as_recording,
    describe_non_media,
    kind_of,
    not_audio_message,
    sniff,
)

__all__ = [
    "MediaError",
    "MediaInfo",
    "MediaKind",
    "frame_at",
    "inspect_audio",
    "inspect_source",
    "kind_of",
    "picture_size",
    "upright_image",
    "upright_picture",
]

IMAGE_EXTENSIONS = frozenset(
    [".jpg", ".jpeg", ".png", ".gif", ".webp", ".bmp", ".tif", ".tiff", ".avif", ".heic", ".heif"]
)


def inspect_source(path: Path, decode: bool = True) -> MediaInfo:
    """Inspect a picture or a video to be lip-synced. Raises MediaError.

    `decode=False` reads a video without decoding any frame, which keeps memory small (a decoder
    takes 37 MB at 1920x1080); width and height are then as stored, not upright.
    """
    path = Path(path)
    size, found = _check_file(path)
    kind, name = _visual_kind(path, found)
    suffix = path.suffix.lower()
    if (kind == "image" and suffix in VIDEO_EXTENSIONS) or (
        kind == "video" and suffix in IMAGE_EXTENSIONS
    ):
        what = "a picture" if kind == "image" else "a video"
        raise MediaError(f"The file is {what}, but its name ends in {suffix}: rename it first.")
    if kind == "image":
        return MediaInfo(kind, name, size, *verified_size(path))
    return _inspect_video(path, name, size, decode)


def _visual_kind(path: Path, found: tuple[MediaKind, str] | None) -> tuple[MediaKind, str]:
    """Kind and format of a source: by first bytes, else by whether a video stream is found."""
    if found and found[0] != "audio":
        return found
    try:
        with open_media(path) as container:
            video_stream(container)
            return "video", found[1] if found else container.format.name.split(",")[0]
    except MediaError as error:
        if found:
            problem = (
                "The file is a sound recording: choose a picture or a video here, "
                "and the recording as the voice."
            )
        else:
            what = describe_non_media(path)
            problem = (
                f"The file is {what + ', ' if what else ''}no picture or video that can be read: "
                "choose a JPEG, PNG or WebP picture or an MP4, MOV or WebM video."
            )
        raise MediaError(problem) from error


@as_recording()
def inspect_audio(path: Path) -> MediaInfo:
    """Inspect a recording, or the audio of a video. Raises MediaError."""
    path = Path(path)
    size, found = _check_file(path)
    if what := describe_non_media(path):
        raise MediaError(not_audio_message(what))
    if found and found[0] == "image":
        raise MediaError("The file is a picture: choose a recording for the voice.")
    track = find_voice_track(path) if found else _find_unsniffed_voice_track(path)
    with open_media(path) as container:
        measure = packet_duration if found else decoded_duration
        duration = measure(container, voice_stream(container, track))
        name = found[1] if found else container.format.name.split(",")[0]
    return MediaInfo(
        "audio",
        name,
        size,
        duration=duration,
        has_audio=True,
        silent=track.silent,
        notes=track.notes,
    )


def _find_unsniffed_voice_track(path: Path) -> VoiceTrack:
    """The voice in a file of unknown signature. Raises MediaError."""
    with suppress(MediaError):
        track = find_voice_track(path)
        if is_decodable_audio(path, track):
            return track
    raise MediaError(
        "The file is no sound recording that can be read, whatever its name says: "
        "save the recording as WAV or MP3 and choose that."
    )


def picture_size(path: Path) -> tuple[int, int] | None:
    """Width and height in the header of a picture; None for a file of another kind. Raises
    MediaError."""
    found = _check_file(Path(path))[1]
    if found is None or found[0] != "image":
        return None
    return header_size(Path(path))


def frame_at(path: Path, at: float = 0.0, min_pixels: int | None = None) -> Image.Image:
    """A picture, or the frame of a video at `at` seconds, as upright RGB; a large picture is
    reduced to one to four times `min_pixels`. Raises MediaError."""
    path = Path(path)
    _, found = _check_file(path)
    if found and found[0] == "image":
        return upright_image(path, min_pixels)
    if found is None or found[0] == "audio":
        try:
            _visual_kind(path, found)
        except MediaError as error:
            raise MediaError(NO_VIDEO) from error
    return Image.fromarray(_video_frame(path, at))


def _video_frame(path: Path, at: float) -> np.ndarray:
    """RGB (height, width, 3), upright, with square pixels."""
    with open_media(path) as container:
        timeline = read_timeline(container, video_stream(container))
    target = timeline.start + round(at / timeline.time_base)
    with open_media(path) as container:
        stream = video_stream(container)
        converter = RgbConverter(*square_size(stream), CODEC_THREADS)
        if at > 0:
            with suppress(FFmpegError):
                container.seek(target, stream=stream)
        shown = None
        for frame in decode_video(container, stream):
            if shown is not None and (frame.pts or 0) > target:
                break
            shown = frame
        if shown is None:
            raise MediaError(UNREADABLE)
        orientation = Orientation.of(shown)
        check_video_size(*orientation.size(*square_size(stream)))
        return np.ascontiguousarray(orientation.apply(converter.rgb(shown)))


def _check_file(path: Path) -> tuple[int, tuple[MediaKind, str] | None]:
    """Size in bytes, and kind and format by the first bytes. Raises MediaError."""
    try:
        if not path.is_file():
            raise MediaError("There is no such file: check its name and choose it again.")
        size = path.stat().st_size
        if size == 0:
            raise MediaError("The file is empty: choose another, or upload it again.")
        if size > MAX_FILE_BYTES:
            raise MediaError(
                f"The file is {size / 2**20:.0f} MB, and at most {MAX_FILE_BYTES >> 20} MB "
                "are taken: shorten or compress it."
            )
        return size, sniff(path)
    except OSError as error:
        raise MediaError("The file cannot be opened: check that you may read it.") from error


def _inspect_video(path: Path, name: str, size: int, decode: bool) -> MediaInfo:
    with open_media(path) as container:
        stream = video_stream(container)
        width, height = square_size(stream)
        if decode:
            frame = next(decode_video(container, stream), None)
            if frame is None:
                raise MediaError(UNREADABLE)
            check_colours(frame)
            width, height = Orientation.of(frame).size(width, height)
        check_video_size(width, height)
        has_audio = len(container.streams.audio) > 0
    with open_media(path) as container:
        timeline = read_timeline(container, video_stream(container))
    duration, fps = float(timeline.frame_count / timeline.fps), float(timeline.fps)
    return MediaInfo(
        "video", name, size, width, height, duration, fps, has_audio, timeline.variable_frame_rate
    )
