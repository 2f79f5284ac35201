"""Look at files: what they are, how long and how large, and their first picture, upright.

Nothing is believed but the bytes: a file is recognised by its first bytes, measured before it is
decoded, and decoded only by the readers listed here and in `container`.
"""

import re
import struct
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Literal

import numpy as np
from PIL import Image, ImageCms, ImageOps

from kolbo_demo.container import (
    MIN_SIDE,
    NO_VIDEO,
    UNREADABLE,
    MediaError,
    Orientation,
    audio_length,
    audio_stream,
    check_video_size,
    decode_audio,
    decode_video,
    open_media,
    read_timeline,
    square_size,
    video_stream,
)
from kolbo_demo.contract import MAX_FILE_BYTES, VIDEO_EXTENSIONS

__all__ = [
    "Kind",
    "Media",
    "MediaError",
    "first_frame",
    "inspect_audio",
    "inspect_source",
    "kind_of",
    "upright_image",
]

Kind = Literal["image", "video", "audio"]

MAX_IMAGE_PIXELS = 50_000_000
IMAGE_EXTENSIONS = frozenset(
    [".jpg", ".jpeg", ".png", ".gif", ".webp", ".bmp", ".tif", ".tiff", ".avif", ".heic", ".heif"]
)
_PILLOW_FORMATS = ("JPEG", "PNG", "GIF", "WEBP", "BMP", "TIFF", "AVIF")
_HEAD_BYTES = 4096

_MAGIC: tuple[tuple[bytes, Kind, str], ...] = (
    (rb"\xff\xd8\xff", "image", "jpeg"),
    (rb"\x89PNG\r\n\x1a\n", "image", "png"),
    (rb"GIF8[79]a", "image", "gif"),
    (rb"RIFF.{4}WEBP", "image", "webp"),
    (rb"BM.{12}[\x0c-\x7c]\0\0\0", "image", "bmp"),
    (rb"II\*\0|MM\0\*", "image", "tiff"),
    (rb".{4}ftyp(avi[fs]|mif1.{4}(?:.{4})*?avif)", "image", "avif"),
    (rb".{4}ftyp(hei[cxms]|hev[cx]|mif1|msf1)", "image", "heic"),
    (rb".{4}ftypM4[ABP] ", "audio", "m4a"),
    (rb".{4}ftypqt  |[\0-\x0f].{3}(moov|mdat|wide|free|skip|pnot)", "video", "mov"),
    (rb".{4}ftyp", "video", "mp4"),
    (rb"\x1a\x45\xdf\xa3(?!.*V_).*A_", "audio", "webm"),
    (rb"\x1a\x45\xdf\xa3.{0,60}webm", "video", "webm"),
    (rb"\x1a\x45\xdf\xa3", "video", "mkv"),
    (rb"RIFF.{4}AVI ", "video", "avi"),
    (rb"\0\0\x01[\xba\xb3]", "video", "mpeg"),
    (rb"(\x47.{187}){3}|(.{4}\x47.{187}){3}", "video", "ts"),
    (rb"FLV\x01", "video", "flv"),
    (rb"\x30\x26\xb2\x75\x8e\x66\xcf\x11", "video", "asf"),
    (rb"OggS.*\x80theora", "video", "ogg"),
    (rb"OggS", "audio", "ogg"),
    (rb"(RIFF|RIFX|RF64).{4}WAVE|riff\x2e\x91\xcf\x11", "audio", "wav"),
    (rb"ID3[\x02-\x04]|\xff[\xe2-\xe5\xf2-\xf5\xfa-\xfd][\x10-\xef]", "audio", "mp3"),
    (rb"\xff[\xf0\xf1\xf8\xf9]", "audio", "aac"),
    (rb"fLaC", "audio", "flac"),
    (rb"FORM.{4}AIF[FC]", "audio", "aiff"),
    (rb"caff\0\x01", "audio", "caf"),
    (rb"#!AMR", "audio", "amr"),
    (rb"\x0b\x77", "audio", "ac3"),
)
"""First bytes, what they mean; the first match counts."""

_PATTERNS = [(re.compile(magic, re.DOTALL), kind, name) for magic, kind, name in _MAGIC]

_BROKEN_PICTURE = (
    "The picture is damaged or cut short: open it in a photo program, save it again "
    "and choose the new copy."
)
# What Pillow's readers are known to raise on damaged files.
_PILLOW_ERRORS = (
    OSError,
    SyntaxError,
    ValueError,
    EOFError,
    LookupError,
    TypeError,
    OverflowError,
    struct.error,
    zlib.error,
)


@dataclass(frozen=True)
class Media:
    """What a file is."""

    kind: Kind
    format: str
    """Short name of the file format, such as `jpeg`, `mp4`, `wav`."""
    bytes: int
    width: int | None = None
    height: int | None = None
    """Upright pixels, once they are square."""
    duration: float | None = None
    """Seconds that can be read, whatever the header promises; None for pictures."""
    fps: float | None = None
    has_audio: bool = False


def kind_of(path: Path) -> Kind | None:
    """What a file is by its first bytes, None if it is nothing known. Raises OSError.

    A container made for video counts as video even if it may hold only sound.
    """
    found = _sniff(Path(path))
    return found[0] if found else None


def inspect_source(path: Path) -> Media:
    """Measure a picture or a video that is to speak. Raises MediaError."""
    path = Path(path)
    size, found = _checked(path)
    if found is None:
        raise MediaError(
            "The file is neither a picture nor a video, whatever its name says: "
            "choose a JPEG, PNG or WebP picture or an MP4, MOV or WebM video."
        )
    kind, name = found
    suffix = path.suffix.lower()
    if kind == "audio":
        raise MediaError(
            "The file is a sound recording: choose a picture or a video here, "
            "and the recording as the voice."
        )
    if (kind == "image" and suffix in VIDEO_EXTENSIONS) or (
        kind == "video" and suffix in IMAGE_EXTENSIONS
    ):
        what = "a picture" if kind == "image" else "a video"
        raise MediaError(f"The file is {what}, but its name ends in {suffix}: rename it first.")
    if kind == "image":
        with _opened(path) as image:
            width, height = _upright_size(image)
            image.draft("RGB", (MIN_SIDE, MIN_SIDE))  # JPEG: read all of it, but small
            image.load()
        return Media(kind, name, size, width, height)
    return _inspect_video(path, name, size)


def inspect_audio(path: Path) -> Media:
    """Measure a recording, or the sound of a video. Raises MediaError."""
    path = Path(path)
    size, found = _checked(path)
    if found is None:
        raise MediaError(
            "The file is no sound recording, whatever its name says: "
            "choose an MP3, WAV, M4A, OGG or FLAC file."
        )
    if found[0] == "image":
        raise MediaError("The file is a picture: choose a recording for the voice.")
    with open_media(path) as container:
        stream = audio_stream(container)
        if next(decode_audio(container, stream), None) is None:
            raise MediaError(UNREADABLE)
    with open_media(path) as container:
        duration = audio_length(container, audio_stream(container))
    return Media("audio", found[1], size, duration=duration, has_audio=True)


def upright_image(path: Path) -> Image.Image:
    """A picture as RGB, turned as its EXIF says; the first frame if it is animated.

    Transparent parts become white; CMYK, 16 bits and colour profiles become sRGB of 8 bits.
    Raises MediaError.
    """
    with _opened(Path(path)) as image:
        profile = image.info.get("icc_profile")
        image.load()
        return _srgb(ImageOps.exif_transpose(image), profile)


def first_frame(path: Path, at: float = 0.0) -> Image.Image:
    """The picture, or the frame that a video shows at `at` seconds, upright RGB. MediaError."""
    path = Path(path)
    size, found = _checked(path)
    if found is None or found[0] == "audio":
        raise MediaError(NO_VIDEO)
    if found[0] == "image":
        return upright_image(path)
    media = _inspect_video(path, found[1], size)
    from moviepy import VideoFileClip  # slow to import, and only videos need it

    try:
        with VideoFileClip(str(path.absolute()), audio=False) as clip:
            last = clip.duration - 1 / clip.fps
            frame = clip.get_frame(min(max(at, 0.0), max(last, 0.0)))
    except (OSError, ValueError, LookupError, AttributeError, TypeError, ArithmeticError) as error:
        raise MediaError(UNREADABLE) from error
    image = Image.fromarray(np.ascontiguousarray(frame))
    upright = (media.width or image.width, media.height or image.height)
    return image if image.size == upright else image.resize(upright)


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
        return size, _sniff(path)
    except OSError as error:
        raise MediaError("The file cannot be opened: check that you may read it.") from error


def _sniff(path: Path) -> tuple[Kind, str] | None:
    with path.open("rb") as file:
        head = file.read(_HEAD_BYTES)
    for magic, kind, name in _PATTERNS:
        if magic.match(head):
            return kind, name
    return None


def _inspect_video(path: Path, name: str, size: int) -> Media:
    with open_media(path) as container:
        stream = video_stream(container)
        frame = next(decode_video(container, stream), None)
        if frame is None:
            raise MediaError(UNREADABLE)
        width, height = Orientation.of(frame).size(*square_size(stream))
        check_video_size(width, height)
        has_audio = len(container.streams.audio) > 0
    with open_media(path) as container:
        timeline = read_timeline(container, video_stream(container))
    duration, fps = float(timeline.frame_count / timeline.fps), float(timeline.fps)
    return Media("video", name, size, width, height, duration, fps, has_audio)


@contextmanager
def _opened(path: Path) -> Iterator[Image.Image]:
    """A picture measured but not yet decoded; whatever is wrong with it is a MediaError."""
    found = _checked(path)[1]
    if found is None or found[0] != "image":
        raise MediaError("The file is not a picture: choose a JPEG, PNG or WebP file.")
    if found[1] == "heic":
        raise MediaError("HEIC pictures cannot be read here: save it as JPEG and choose that.")
    try:
        with Image.open(path, formats=_PILLOW_FORMATS) as image:
            _check_image_size(*image.size)
            yield image
    except MediaError:
        raise
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise MediaError(_too_many_pixels("")) from error
    except _PILLOW_ERRORS as error:
        raise MediaError(_BROKEN_PICTURE) from error


def _check_image_size(width: int, height: int) -> None:
    if min(width, height) < MIN_SIDE:
        raise MediaError(
            f"The picture is only {width}x{height} pixels: choose one of at least "
            f"{MIN_SIDE} pixels a side."
        )
    if width * height > MAX_IMAGE_PIXELS:
        raise MediaError(_too_many_pixels(f" ({width}x{height} pixels)"))


def _too_many_pixels(size: str) -> str:
    return (
        f"The picture is too large{size}: scale it down to {MAX_IMAGE_PIXELS // 10**6} "
        "megapixels or fewer."
    )


def _upright_size(image: Image.Image) -> tuple[int, int]:
    lying = image.getexif().get(0x0112) in (5, 6, 7, 8)  # the EXIF orientations of a quarter turn
    return (image.height, image.width) if lying else image.size


def _srgb(image: Image.Image, profile: bytes | None) -> Image.Image:
    if image.mode in ("I", "F") or image.mode.startswith("I;16"):
        return _eight_bits(image).convert("RGB")
    if image.has_transparency_data:
        layer = image.convert("RGBA")
        white = Image.new("RGBA", layer.size, "white")
        return Image.alpha_composite(white, layer).convert("RGB")
    if profile and image.mode in ("RGB", "CMYK"):
        try:
            source = ImageCms.ImageCmsProfile(BytesIO(profile))
            target = ImageCms.createProfile("sRGB")
            converted = ImageCms.profileToProfile(image, source, target, outputMode="RGB")
        except (ImageCms.PyCMSError, *_PILLOW_ERRORS):
            converted = None  # a broken profile is no reason to refuse a good picture
        if converted is not None:
            return converted
    return image.convert("RGB")


def _eight_bits(image: Image.Image) -> Image.Image:
    """Grey of 16 or 32 bits or floats as 8 bits: Pillow itself would cut off what is bright."""
    values = np.nan_to_num(np.asarray(image, np.float32))
    brightest = float(values.max(initial=0.0))
    scales = [65535.0] if image.mode.startswith("I;16") else [255.0, 65535.0, brightest]
    if image.mode == "F":
        scales.insert(0, 1.0)
    full = next(scale for scale in scales if brightest <= scale)
    return Image.fromarray(np.clip(values * (255.0 / full), 0, 255).astype(np.uint8))
