"""Pictures: judged by their headers, decoded upright in sRGB."""

import math
import struct
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pi_heif
from PIL import AvifImagePlugin, Image

from kolbo_demo.media import picture_metadata
from kolbo_demo.media.demux import MIN_SIDE, THREADS
from kolbo_demo.media.picture_colours import srgb
from kolbo_demo.media.picture_metadata import PictureFile
from kolbo_demo.media.sniff import REFUSED_PICTURES, MediaError, sniff

MAX_PIXELS = 110_000_000
MAX_DRAFT_PIXELS = 270_000_000
"""Of a JPEG that is decoded at a fraction of its size: phones have sensors of 200 megapixels."""
MAX_WEBP_PIXELS = 70_000_000
"""Its decoder takes 16 bytes for each, and so much memory has no child."""
MAX_DECODED_PIXELS = 8_000_000
"""A larger picture is not decoded just to be looked at: an upload takes little memory."""

_FORMATS = ("JPEG", "PNG", "GIF", "WEBP", "BMP", "TIFF", "AVIF", "HEIF")
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_MISSING_ROWS = 1 / 8
"""Share of a picture that was cut short, up to which the rest of it is good enough."""
_MISSING = 128
"""Grey of such rows."""

BROKEN = (
    "The picture is damaged or cut short, or its kind is not supported: open it in a photo "
    "program, save it again as JPEG or PNG and choose the new copy."
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
    ZeroDivisionError,
    struct.error,
    zlib.error,
)

AvifImagePlugin.DEFAULT_MAX_THREADS = THREADS  # else one a core, each with pictures of its own
Image.MAX_IMAGE_PIXELS = MAX_DRAFT_PIXELS  # what is more than this module lets through
pi_heif.register_heif_opener(thumbnails=False, decode_threads=THREADS)


def stored_size(path: Path) -> tuple[int, int]:
    """The sides that the header tells, decoding nothing. Raises MediaError."""
    with _opened(path) as (image, _):
        return image.size


def checked_size(path: Path) -> tuple[int, int]:
    """Upright width and height; finds damage without holding a large picture in memory. Raises
    MediaError."""
    with _opened(path) as (image, file):
        width, height = image.size
        large = width * height > MAX_DECODED_PIXELS
        image.draft("RGB", (MIN_SIDE, MIN_SIDE))  # JPEG: read all of it, but small
        if large and (image.format != "JPEG" or "progressive" in image.info):
            image.verify()  # PNG by its checksums; others show their damage when they are rendered
        else:
            _load(image, file)
        return (height, width) if file.orientation in (5, 6, 7, 8) else (width, height)


def upright_image(path: Path, enough: int | None = None) -> Image.Image:
    """A picture as RGB, turned as its EXIF says; the first frame if it is animated.

    Transparent parts become white; CMYK, 16 bits, colour profiles and HDR become sRGB of 8 bits.
    One of more than four times as many pixels as are `enough` is reduced before anything else is
    done. Raises MediaError.
    """
    return upright_picture(path, enough)[0]


def upright_picture(path: Path, enough: int | None = None) -> tuple[Image.Image, tuple[str, ...]]:
    """As `upright_image`, with notes on what was changed of its colours."""
    with _opened(path) as (image, file):
        if enough and (factor := math.isqrt(image.width * image.height // enough)) > 1:
            # JPEG: decoded smaller at once
            image.draft(None, (image.width // factor, image.height // factor))
        _load(image, file)
        shown = srgb(_reduced(image, enough) if enough else image, file)
        turn = _TURNS.get(file.orientation or 1)
        return shown.transpose(turn) if turn is not None else shown, tuple(file.notes)


@contextmanager
def _opened(path: Path) -> Iterator[tuple[Image.Image, PictureFile]]:
    """A picture measured but not yet decoded, and what is known of it. Whatever is wrong with it
    is a MediaError."""
    found = sniff(path)
    if found is None or found[0] != "image":
        raise MediaError("The file is not a picture: choose a JPEG, PNG or WebP file.")
    if advice := REFUSED_PICTURES.get(found[1]):
        raise MediaError(advice)
    try:
        with path.open("rb") as stored:
            file = picture_metadata.read(stored, found[1])
            with Image.open(file.stream, formats=_FORMATS) as image:
                _check_size(image)
                if file.orientation is None:
                    file.orientation = picture_metadata.orientation_of(
                        image.info.get("exif") or b""
                    )
                yield image, file
    except MediaError:
        raise
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise MediaError(_too_many_pixels("", MAX_PIXELS)) from error
    except _PILLOW_ERRORS as error:
        raise MediaError(BROKEN) from error


def _load(image: Image.Image, file: PictureFile) -> None:
    """Decode, and refuse what lacks more than a few rows."""
    image.load()
    if file.incomplete and "progressive" in image.info:  # all of it is coarse
        raise MediaError(BROKEN)
    if file.incomplete and image.mode in ("L", "RGB"):
        there = np.flatnonzero((np.asarray(image) != _MISSING).reshape(image.height, -1).any(1))
        if image.height - 1 - there.max(initial=-1) > image.height * _MISSING_ROWS:
            raise MediaError(BROKEN)


def _check_size(image: Image.Image) -> None:
    width, height = image.size
    if min(width, height) < MIN_SIDE:
        raise MediaError(
            f"The picture is only {width}x{height} pixels: choose one of at least "
            f"{MIN_SIDE} pixels a side."
        )
    most = MAX_WEBP_PIXELS if image.format == "WEBP" else MAX_PIXELS
    if image.format == "JPEG" and "progressive" not in image.info:
        most = MAX_DRAFT_PIXELS
    if width * height > most:
        raise MediaError(_too_many_pixels(f" ({width}x{height} pixels)", most))


def _too_many_pixels(size: str, most: int) -> str:
    return f"The picture is too large{size}: scale it down to {most // 10**6} megapixels or fewer."


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
