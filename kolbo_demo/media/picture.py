"""Check pictures by their headers and decode them upright in sRGB."""

import math
import struct
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pi_heif
from PIL import AvifImagePlugin, Image

from kolbo_demo.media.demux import CODEC_THREADS
from kolbo_demo.media.limits import (
    MAX_DECODED_PIXELS,
    MAX_DRAFT_PIXELS,
    MAX_PIXELS,
    MAX_WEBP_PIXELS,
    MIN_SIDE,
)
from kolbo_demo.media.picture_colours import to_srgb
from kolbo_demo.media.picture_metadata import PictureFile, read_picture
from kolbo_demo.media.picture_tiff import orientation_of
from kolbo_demo.media.sniff import UNSUPPORTED_PICTURES, MediaError, sniff

_FORMATS = ("JPEG", "PNG", "GIF", "WEBP", "BMP", "TIFF", "AVIF", "HEIF")
_EXIF_TRANSPOSES = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_MAX_MISSING_ROWS = 1 / 8
"""Share of missing rows up to which a truncated picture is accepted."""
_MISSING_GREY = 128
"""Grey value of missing rows."""

DAMAGED = (
    "The picture is damaged or cut short, or its kind is not supported: open it in a photo "
    "program, save it again as JPEG or PNG and choose the new copy."
)
# Raised by Pillow's readers on damaged files.
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

AvifImagePlugin.DEFAULT_MAX_THREADS = (
    CODEC_THREADS  # else one a core, each with its own frame buffers
)
Image.MAX_IMAGE_PIXELS = MAX_DRAFT_PIXELS  # above all limits of this module
pi_heif.register_heif_opener(thumbnails=False, decode_threads=CODEC_THREADS)


def header_size(path: Path) -> tuple[int, int]:
    """Width and height in the header, as stored. Raises MediaError."""
    with _open(path) as (image, _):
        return image.size


def verified_size(path: Path) -> tuple[int, int]:
    """Upright width and height; detects damage without decoding a large picture whole. Raises
    MediaError."""
    with _open(path) as (image, file):
        width, height = image.size
        large = width * height > MAX_DECODED_PIXELS
        image.draft("RGB", (MIN_SIDE, MIN_SIDE))  # JPEG: decode all of it, at reduced size
        if large and (image.format != "JPEG" or "progressive" in image.info):
            image.verify()  # PNG checksums; other formats reveal damage at render time
        else:
            _load(image, file)
        return (height, width) if file.orientation in (5, 6, 7, 8) else (width, height)


def upright_image(path: Path, min_pixels: int | None = None) -> Image.Image:
    """A picture, or the first frame of an animation, as 8-bit sRGB, rotated by its EXIF.

    Transparency becomes white; CMYK, 16 bits, colour profiles and HDR are converted. A picture of
    more than four times `min_pixels` is reduced first, by a whole factor. Raises MediaError.
    """
    return upright_picture(path, min_pixels)[0]


def upright_picture(
    path: Path, min_pixels: int | None = None
) -> tuple[Image.Image, tuple[str, ...]]:
    """The same, with notes on changes to its colours."""
    with _open(path) as (image, file):
        if min_pixels and (factor := math.isqrt(image.width * image.height // min_pixels)) > 1:
            # JPEG: decode at reduced size
            image.draft(None, (image.width // factor, image.height // factor))
        _load(image, file)
        rgb = to_srgb(_reduce(image, min_pixels) if min_pixels else image, file)
        transpose = _EXIF_TRANSPOSES.get(file.orientation or 1)
        return rgb.transpose(transpose) if transpose is not None else rgb, tuple(file.notes)


@contextmanager
def _open(path: Path) -> Iterator[tuple[Image.Image, PictureFile]]:
    """A picture whose size is checked, not yet decoded. Any error in the block becomes a
    MediaError."""
    sniffed = sniff(path)
    if sniffed is None or sniffed[0] != "image":
        raise MediaError("The file is not a picture: choose a JPEG, PNG or WebP file.")
    if message := UNSUPPORTED_PICTURES.get(sniffed[1]):
        raise MediaError(message)
    try:
        with path.open("rb") as stored:
            file = read_picture(stored, sniffed[1])
            with Image.open(file.stream, formats=_FORMATS) as image:
                _check_size(image)
                if file.orientation is None:
                    file.orientation = orientation_of(image.info.get("exif") or b"")
                yield image, file
    except MediaError:
        raise
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise MediaError(_too_many_pixels("", MAX_PIXELS)) from error
    except _PILLOW_ERRORS as error:
        raise MediaError(DAMAGED) from error


def _load(image: Image.Image, file: PictureFile) -> None:
    """Decode; raise MediaError if more than a few rows are missing."""
    image.load()
    if file.incomplete and "progressive" in image.info:  # a truncated one is coarse everywhere
        raise MediaError(DAMAGED)
    if file.incomplete and image.mode in ("L", "RGB"):
        decoded = (np.asarray(image) != _MISSING_GREY).reshape(image.height, -1).any(1)
        last = np.flatnonzero(decoded).max(initial=-1)
        if image.height - 1 - last > image.height * _MAX_MISSING_ROWS:
            raise MediaError(DAMAGED)


def _check_size(image: Image.Image) -> None:
    width, height = image.size
    if min(width, height) < MIN_SIDE:
        raise MediaError(
            f"The picture is only {width}x{height} pixels: choose one of at least "
            f"{MIN_SIDE} pixels a side."
        )
    limit = MAX_WEBP_PIXELS if image.format == "WEBP" else MAX_PIXELS
    if image.format == "JPEG" and "progressive" not in image.info:
        limit = MAX_DRAFT_PIXELS
    if width * height > limit:
        raise MediaError(_too_many_pixels(f" ({width}x{height} pixels)", limit))


def _too_many_pixels(size: str, limit: int) -> str:
    return f"The picture is too large{size}: scale it down to {limit // 10**6} megapixels or fewer."


def _reduce(image: Image.Image, min_pixels: int) -> Image.Image:
    factor = math.isqrt(image.width * image.height // min_pixels)
    if factor < 2:
        return image
    if image.mode in ("P", "PA", "1"):
        image = image.convert("RGBA" if image.has_transparency_data else "RGB")
    try:
        return image.reduce(factor)
    except ValueError:  # 16-bit modes cannot be averaged
        size = (max(image.width // factor, 1), max(image.height // factor, 1))
        return image.resize(size, Image.Resampling.NEAREST)
