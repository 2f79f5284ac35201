"""Pictures: judged by their headers, decoded upright in sRGB.

Only what makes the picture reaches Pillow: texts, thumbnails and other data of programs and cameras
are skipped, so no fault in them costs the picture.
"""

import math
import shutil
import struct
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import BinaryIO

import numpy as np
import pi_heif
from PIL import AvifImagePlugin, Image, ImageCms, TiffImagePlugin

from kolbo_demo import colours
from kolbo_demo.container import MIN_SIDE, THREADS
from kolbo_demo.magic import REFUSED_PICTURES, MediaError, sniff

MAX_PIXELS = 110_000_000
MAX_DRAFT_PIXELS = 270_000_000
"""Of a JPEG that is decoded at a fraction of its size: phones have sensors of 200 megapixels."""
MAX_DECODED_PIXELS = 8_000_000
"""A larger picture is not decoded just to be looked at: an upload takes little memory."""

_FORMATS = ("JPEG", "PNG", "GIF", "WEBP", "BMP", "TIFF", "AVIF", "HEIF")
_ORIENTATION = 0x0112
"""EXIF's tag for the way the camera was held."""
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_SUBFILE_TYPE, _SUB_IFDS, _DNG_VERSION = 0x00FE, 0x014A, 0xC612
"""Tags of TIFF."""
_THUMBNAIL_SIDE = 1024
_PNG_CHUNKS = frozenset(
    (b"IHDR", b"PLTE", b"IDAT", b"IEND", b"tRNS", b"iCCP", b"sRGB", b"gAMA", b"cHRM", b"eXIf")
)
_EXIF = b"Exif\0\0"

BROKEN = (
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
    with _opened(path) as (image, turned):
        width, height = image.size
        large = width * height > MAX_DECODED_PIXELS
        image.draft("RGB", (MIN_SIDE, MIN_SIDE))  # JPEG: read all of it, but small
        if large and (image.format != "JPEG" or "progressive" in image.info):
            image.verify()  # PNG by its checksums; others show their damage when they are rendered
        else:
            image.load()
        return (height, width) if turned in (5, 6, 7, 8) else (width, height)


def upright_image(path: Path, enough: int | None = None) -> Image.Image:
    """A picture as RGB, turned as its EXIF says; the first frame if it is animated.

    Transparent parts become white; CMYK, 16 bits, colour profiles and HDR become sRGB of 8 bits.
    One of more than four times as many pixels as are `enough` is reduced before anything else is
    done. Raises MediaError.
    """
    with _opened(path) as (image, turned):
        profile = image.info.get("icc_profile")
        if enough and (factor := math.isqrt(image.width * image.height // enough)) > 1:
            # JPEG: decoded smaller at once
            image.draft(None, (image.width // factor, image.height // factor))
        image.load()
        wide = _wide_colours(path, image)
        small = _reduced(image, enough) if enough else image
        shown = _srgb(small, profile)
        if wide:
            shown = Image.fromarray(colours.shown(np.asarray(shown), *wide))
        return shown.transpose(_TURNS[turned]) if turned in _TURNS else shown


@contextmanager
def _opened(path: Path) -> Iterator[tuple[Image.Image, int]]:
    """A picture measured but not yet decoded, and its EXIF orientation. Whatever is wrong with it
    is a MediaError."""
    found = sniff(path)
    if found is None or found[0] != "image":
        raise MediaError("The file is not a picture: choose a JPEG, PNG or WebP file.")
    if advice := REFUSED_PICTURES.get(found[1]):
        raise MediaError(advice)
    try:
        with path.open("rb") as file:
            stream, exif = _essence(file, found[1])
            with Image.open(stream, formats=_FORMATS) as image:
                _check_raw(image)
                _check_size(image)
                yield image, _orientation(exif or image.info.get("exif", b""), image)
    except MediaError:
        raise
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise MediaError(_too_many_pixels("", MAX_PIXELS)) from error
    except _PILLOW_ERRORS as error:
        raise MediaError(BROKEN) from error


def _essence(file: BinaryIO, name: str) -> tuple[BinaryIO, bytes]:
    """What makes the picture, and its EXIF where that is left out of it."""
    match name:
        case "jpeg":
            return _jpeg_essence(file)
        case "png":
            return _png_essence(file), b""
        case "avif":  # Pillow gives up on EXIF that it cannot read; the turn stands elsewhere too
            return BytesIO(file.read().replace(b"Exif", b"none")), b""
        case _:
            return file, b""


def _jpeg_essence(file: BinaryIO) -> tuple[BinaryIO, bytes]:
    """Without application data other than JFIF, the colour profile and Adobe's transform. The first
    picture alone of files with several (MPO, gain maps)."""
    kept, exif = BytesIO(), b""
    kept.write(file.read(2))
    while True:
        start = file.tell()
        head = file.read(4)
        marker, length = head[1:2], int.from_bytes(head[2:4])
        if len(head) < 4 or head[:1] != b"\xff" or not b"\xc0" <= marker <= b"\xfe":
            break
        if length < 2 or marker in (b"\xd8", b"\xd9", b"\xda"):
            break
        body = file.read(length - 2)
        if marker == b"\xe1" and body.startswith(_EXIF):
            exif = exif or body
        if not (b"\xe1" <= marker <= b"\xef" or marker == b"\xfe") or (
            (marker == b"\xe2" and body.startswith(b"ICC_PROFILE\0")) or marker == b"\xee"
        ):
            kept.write(head + body)
    file.seek(start)
    shutil.copyfileobj(file, kept)
    kept.seek(0)
    return kept, exif


def _png_essence(file: BinaryIO) -> BinaryIO:
    """Without texts and whatever else programs leave in it."""
    kept = BytesIO()
    kept.write(file.read(8))
    while len(head := file.read(8)) == 8:
        length, name = int.from_bytes(head[:4]), head[4:]
        if name in _PNG_CHUNKS:
            kept.write(head + file.read(length + 4))
        else:
            file.seek(length + 4, 1)
        if name == b"IEND":
            break
    kept.seek(0)
    return kept


def _orientation(exif: bytes, image: Image.Image) -> int:
    """EXIF's orientation from 1 to 8, read by itself: the rest of EXIF may be broken."""
    if image.format == "TIFF":  # which Pillow turns by itself
        return 1
    body = exif.removeprefix(_EXIF)
    order = ">" if body.startswith(b"MM") else "<"
    try:
        (place,) = struct.unpack_from(f"{order}I", body, 4)
        (count,) = struct.unpack_from(f"{order}H", body, place)
        for entry in range(place + 2, place + 2 + 12 * count, 12):
            tag, kind = struct.unpack_from(f"{order}HH", body, entry)
            if tag == _ORIENTATION:
                (turned,) = struct.unpack_from(order + ("H" if kind == 3 else "I"), body, entry + 8)
                return turned if 1 <= turned <= 8 else 1
    except struct.error:
        pass
    return 1


def _check_raw(image: Image.Image) -> None:
    """Refuse a TIFF that is a camera's raw picture: Pillow would show its thumbnail."""
    if not isinstance(image, TiffImagePlugin.TiffImageFile):
        return
    tags = image.tag_v2
    reduced = bool(tags.get(_SUBFILE_TYPE, 0)) or max(image.size) < _THUMBNAIL_SIDE
    if _DNG_VERSION in tags or (_SUB_IFDS in tags and reduced):
        raise MediaError(REFUSED_PICTURES["raw"])


def _check_size(image: Image.Image) -> None:
    width, height = image.size
    if min(width, height) < MIN_SIDE:
        raise MediaError(
            f"The picture is only {width}x{height} pixels: choose one of at least "
            f"{MIN_SIDE} pixels a side."
        )
    drafted = image.format == "JPEG" and "progressive" not in image.info
    most = MAX_DRAFT_PIXELS if drafted else MAX_PIXELS
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


def _srgb(image: Image.Image, profile: bytes | None) -> Image.Image:
    """RGB of sRGB on white, by the colour profile if there is a sound one."""
    if image.mode in ("I", "F") or image.mode.startswith("I;16"):
        image = _eight_bits(image)
    elif image.mode in ("1", "P", "PA", "LA", "La", "RGBa") or image.has_transparency_data:
        image = image.convert("RGBA" if image.has_transparency_data else "RGB")
    alpha = image.getchannel("A") if image.mode == "RGBA" else None
    if alpha:
        image = image.convert("RGB")
    shown = _by_profile(image, profile) or _plain(image)
    if alpha:
        shown = Image.composite(shown, Image.new("RGB", shown.size, "white"), alpha)
    return shown


def _plain(image: Image.Image) -> Image.Image:
    if image.mode == "LAB":
        lab = ImageCms.createProfile("LAB")
        target = ImageCms.createProfile("sRGB")
        return ImageCms.profileToProfile(image, lab, target, outputMode="RGB") or image
    return image.convert("RGB")


def _by_profile(image: Image.Image, profile: bytes | None) -> Image.Image | None:
    """None where a profile is missing, broken or for other colours: the picture is good without."""
    if not profile:
        return None
    try:
        source = ImageCms.ImageCmsProfile(BytesIO(profile))
        space = getattr(source.profile, "xcolor_space", "").strip()
        mode = {"RGB": "RGB", "GRAY": "L", "CMYK": "CMYK", "Lab": "LAB"}.get(space)
        if mode == "RGB" and image.mode == "L":
            image = image.convert("RGB")
        elif mode == "L" and image.mode == "RGB" and _is_grey(image):
            image = image.convert("L")
        if image.mode != mode:
            return None
        target = ImageCms.createProfile("sRGB")
        return ImageCms.profileToProfile(image, source, target, outputMode="RGB")
    except (ImageCms.PyCMSError, *_PILLOW_ERRORS):
        return None


def _is_grey(image: Image.Image) -> bool:
    red, green, blue = image.split()
    return red.tobytes() == green.tobytes() == blue.tobytes()


def _eight_bits(image: Image.Image) -> Image.Image:
    """Grey of 16 or 32 bits or floats as 8 bits: Pillow itself would cut off what is bright."""
    values = np.nan_to_num(np.asarray(image, np.float32))
    brightest = float(values.max(initial=0.0))
    scales = [65535.0] if image.mode.startswith("I;16") else [255.0, 65535.0, brightest]
    if image.mode == "F":
        scales.insert(0, 1.0)
    full = next(scale for scale in scales if brightest <= scale)
    return Image.fromarray(np.clip(values * (255.0 / full), 0, 255).astype(np.uint8))


def _wide_colours(path: Path, image: Image.Image) -> tuple[int, int] | None:
    """Primaries and transfer by the numbers of ITU-T H.273 where an AVIF, HEIC or PNG says that
    they are wider than sRGB's; None for others."""
    tags = {"AVIF": (b"colrnclx", ">HH"), "HEIF": (b"colrnclx", ">HH"), "PNG": (b"cICP", ">BB")}
    if image.format not in tags or image.info.get("icc_profile"):
        return None
    name, layout = tags[image.format]
    with path.open("rb") as file:
        head = file.read(256 * 1024)
    place = head.find(name) + len(name)
    if place < len(name) or len(head) < place + 4:
        return None
    primaries, transfer = struct.unpack_from(layout, head, place)
    return (primaries, transfer) if colours.is_wide(primaries, transfer) else None
