"""Look at files: what they are, how long and how large, and their first picture, upright.

Nothing is believed but the bytes: a file is recognised by its first bytes, measured before it is
decoded, and decoded only by the readers that this module and `container` list.
"""

from contextlib import suppress
from pathlib import Path

import numpy as np
from av.error import FFmpegError
from PIL import Image

from kolbo_demo.media.audio_timestamps import decoded_length, sound_length
from kolbo_demo.media.audio_track import Soundtrack, chosen_stream, is_sound, soundtrack
from kolbo_demo.media.demux import (
    NO_VIDEO,
    THREADS,
    Orientation,
    check_colours,
    check_video_size,
    decode_video,
    open_media,
    read_timeline,
    square_size,
    video_stream,
)
from kolbo_demo.media.frame_colours import Converter
from kolbo_demo.media.picture import checked_size, stored_size, upright_image, upright_picture
from kolbo_demo.media.sniff import (
    MAX_FILE_BYTES,
    UNREADABLE,
    VIDEO_EXTENSIONS,
    Kind,
    Media,
    MediaError,
    as_recording,
    kind_of,
    not_sound,
    other,
    sniff,
)

__all__ = [
    "Kind",
    "Media",
    "MediaError",
    "first_frame",
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


def inspect_source(path: Path, decode: bool = True) -> Media:
    """Measure a picture or a video that is to speak. Raises MediaError.

    `decode=False` reads a video without decoding any frame, which keeps memory small (a decoder
    takes 37 MB at 1920x1080); its sides are then as stored, not as shown upright.
    """
    path = Path(path)
    size, found = _checked(path)
    kind, name = _shown(path, found)
    suffix = path.suffix.lower()
    if (kind == "image" and suffix in VIDEO_EXTENSIONS) or (
        kind == "video" and suffix in IMAGE_EXTENSIONS
    ):
        what = "a picture" if kind == "image" else "a video"
        raise MediaError(f"The file is {what}, but its name ends in {suffix}: rename it first.")
    if kind == "image":
        return Media(kind, name, size, *checked_size(path))
    return _inspect_video(path, name, size, decode)


def _shown(path: Path, found: tuple[Kind, str] | None) -> tuple[Kind, str]:
    """Kind and format of a source. First bytes tell pictures; what else there is to be seen,
    decoders know."""
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
            what = other(path)
            problem = (
                f"The file is {what + ', ' if what else ''}no picture or video that can be read: "
                "choose a JPEG, PNG or WebP picture or an MP4, MOV or WebM video."
            )
        raise MediaError(problem) from error


@as_recording()
def inspect_audio(path: Path) -> Media:
    """Measure a recording, or the sound of a video. Raises MediaError."""
    path = Path(path)
    size, found = _checked(path)
    if what := other(path):
        raise MediaError(not_sound(what))
    if found and found[0] == "image":
        raise MediaError("The file is a picture: choose a recording for the voice.")
    track = soundtrack(path) if found else _unknown_sound(path)
    with open_media(path) as container:
        measure = sound_length if found else decoded_length
        duration = measure(container, chosen_stream(container, track))
        name = found[1] if found else container.format.name.split(",")[0]
    return Media(
        "audio",
        name,
        size,
        duration=duration,
        has_audio=True,
        silent=track.silent,
        notes=track.notes,
    )


def _unknown_sound(path: Path) -> Soundtrack:
    """The voice of a file whose first bytes say nothing. Raises MediaError."""
    with suppress(MediaError):
        track = soundtrack(path)
        if is_sound(path, track):
            return track
    raise MediaError(
        "The file is no sound recording that can be read, whatever its name says: "
        "save the recording as WAV or MP3 and choose that."
    )


def picture_size(path: Path) -> tuple[int, int] | None:
    """The sides that a picture says to have, decoding nothing; None for a file of another kind.
    Raises MediaError."""
    found = _checked(Path(path))[1]
    if found is None or found[0] != "image":
        return None
    return stored_size(Path(path))


def first_frame(path: Path, at: float = 0.0, enough: int | None = None) -> Image.Image:
    """The picture, or the frame that a video shows at `at` seconds, upright RGB; a picture with
    about as many pixels as are `enough`, if it has so many. Raises MediaError."""
    path = Path(path)
    _, found = _checked(path)
    if found and found[0] == "image":
        return upright_image(path, enough)
    if found is None or found[0] == "audio":
        try:
            _shown(path, found)
        except MediaError as error:
            raise MediaError(NO_VIDEO) from error
    return Image.fromarray(_movie_frame(path, at))


def _movie_frame(path: Path, at: float) -> np.ndarray:
    """RGB (height, width, 3) as a render shows it: upright, with square pixels."""
    with open_media(path) as container:
        timeline = read_timeline(container, video_stream(container))
    wanted = timeline.start + round(at / timeline.time_base)
    with open_media(path) as container:
        stream = video_stream(container)
        converter = Converter(*square_size(stream), THREADS)
        if at > 0:
            with suppress(FFmpegError):
                container.seek(wanted, stream=stream)
        shown = None
        for frame in decode_video(container, stream):
            if shown is not None and (frame.pts or 0) > wanted:
                break
            shown = frame
        if shown is None:
            raise MediaError(UNREADABLE)
        upright = Orientation.of(shown)
        check_video_size(*upright.size(*square_size(stream)))
        return np.ascontiguousarray(upright.apply(converter.rgb(shown)))


def _checked(path: Path) -> tuple[int, tuple[Kind, str] | None]:
    """Size in bytes and what the first bytes say."""
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


def _inspect_video(path: Path, name: str, size: int, decode: bool) -> Media:
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
    return Media("video", name, size, width, height, duration, fps, has_audio, timeline.variable)
