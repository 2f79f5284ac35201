"""Look at files: what they are, how long and how large, and their first picture, upright.

Nothing is believed but the bytes: a file is recognised by its first bytes, measured before it is
decoded, and decoded only by the readers that this module and `container` list.
"""

import math
import struct
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from io import BytesIO
from pathlib import Path

import numpy as np
from av.error import FFmpegError
from PIL import AvifImagePlugin, Image, ImageCms, ImageOps

from kolbo_demo.colours import Converter
from kolbo_demo.container import (
    MIN_SIDE,
    NO_VIDEO,
    THREADS,
    Orientation,
    audio_length,
    audio_stream,
    check_colours,
    check_video_size,
    decode_audio,
    decode_video,
    open_media,
    read_timeline,
    square_size,
    video_stream,
)
from kolbo_demo.contract import MAX_FILE_BYTES, VIDEO_EXTENSIONS
from kolbo_demo.magic import UNREADABLE, Kind, Media, MediaError, kind_of, sniff

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
]

MAX_IMAGE_PIXELS = 50_000_000
MAX_DECODED_PIXELS = 8_000_000
"""A larger picture is not decoded just to be looked at: an upload takes little memory."""
IMAGE_EXTENSIONS = frozenset(
    [".jpg", ".jpeg", ".png", ".gif", ".webp", ".bmp", ".tif", ".tiff", ".avif", ".heic", ".heif"]
)
_ORIENTATION = 0x0112
"""The tag of EXIF."""
AvifImagePlugin.DEFAULT_MAX_THREADS = THREADS  # else one a core, each with pictures of its own
_PILLOW_FORMATS = ("JPEG", "PNG", "GIF", "WEBP", "BMP", "TIFF", "AVIF")

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
    RuntimeError,
    struct.error,
    zlib.error,
)


def inspect_source(path: Path, decode: bool = True) -> Media:
    """Measure a picture or a video that is to speak. Raises MediaError.

    `decode=False` reads a video without decoding any frame, which keeps memory small (a decoder
    takes 37 MB at 1920x1080); its sides are then as stored, not as shown upright.
    """
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
            _look_through(image)
        return Media(kind, name, size, width, height)
    return _inspect_video(path, name, size, decode)


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


def picture_size(path: Path) -> tuple[int, int] | None:
    """The sides that a picture says to have, decoding nothing; None for a file of another kind.
    Raises MediaError."""
    found = _checked(Path(path))[1]
    if found is None or found[0] != "image":
        return None
    with _opened(Path(path)) as image:
        return image.size


def upright_image(path: Path, enough: int | None = None) -> Image.Image:
    """A picture as RGB, turned as its EXIF says; the first frame if it is animated.

    Transparent parts become white; CMYK, 16 bits and colour profiles become sRGB of 8 bits. One of
    more than four times as many pixels as are `enough` is reduced before anything else is done.
    Raises MediaError.
    """
    with _opened(Path(path)) as image:
        profile = image.info.get("icc_profile")
        if enough and (factor := math.isqrt(image.width * image.height // enough)) > 1:
            # JPEG: decoded smaller at once
            image.draft(None, (image.width // factor, image.height // factor))
        image.load()
        turned = image.getexif().get(_ORIENTATION)
        small = _reduced(image, enough) if enough else image
        if small is not image and turned:
            small.getexif()[_ORIENTATION] = turned
        return _srgb(ImageOps.exif_transpose(small), profile)


def _reduced(image: Image.Image, enough: int) -> Image.Image:
    factor = math.isqrt(image.width * image.height // enough)
    if factor < 2:
        return image
    if image.mode in ("P", "PA", "1"):
        image = image.convert("RGBA" if image.has_transparency_data else "RGB")
    try:
        return image.reduce(factor)
    except ValueError:  # no averages of 16 bits
        size = (max(image.width // factor, 1), max(image.height // factor, 1))
        return image.resize(size, Image.Resampling.NEAREST)


def first_frame(path: Path, at: float = 0.0, enough: int | None = None) -> Image.Image:
    """The picture, or the frame that a video shows at `at` seconds, upright RGB; a picture with
    about as many pixels as are `enough`, if it has so many. Raises MediaError."""
    path = Path(path)
    _, found = _checked(path)
    if found is None or found[0] == "audio":
        raise MediaError(NO_VIDEO)
    if found[0] == "image":
        return upright_image(path, enough)
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


def _look_through(image: Image.Image) -> None:
    """Find damage without holding a large picture in memory; what Pillow raises is the caller's."""
    large = _is_large(image)
    image.draft("RGB", (MIN_SIDE, MIN_SIDE))  # JPEG: read all of it, but small
    if large and (image.format != "JPEG" or "progressive" in image.info):
        image.verify()  # PNG by its checksums; others show their damage when they are rendered
    else:
        image.load()


def _is_large(image: Image.Image) -> bool:
    return image.width * image.height > MAX_DECODED_PIXELS


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
    # A PNG's own way to its EXIF decodes all of it.
    exif = Image.Image.getexif(image) if _is_large(image) else image.getexif()
    lying = exif.get(_ORIENTATION) in (5, 6, 7, 8)  # the EXIF orientations of a quarter turn
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
