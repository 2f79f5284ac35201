"""Strip picture files of metadata before Pillow reads them.

Texts, thumbnails, maker notes and EXIF never reach Pillow, so damage in them cannot make the
picture unreadable. Orientation and colour information are read here, independently.
"""

import re
import struct
import zlib
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from io import BytesIO
from typing import BinaryIO

import pi_heif

from kolbo_demo.media.picture_tiff import EXIF, orientation_of, strip_to_main_page

_MAX_PROFILE_BYTES = 8 * 1024**2

_JPEG_MARKERS = frozenset(
    bytes([marker])
    for marker in (0xC0, 0xC1, 0xC2, 0xC4, 0xC9, 0xCA, 0xCC, 0xDB, 0xDD, *range(0xE0, 0xFF))
)
"""Accepted before the first scan. Lossless and hierarchical frames are not: decoding one at reduced
size makes Pillow and libjpeg-turbo write out of bounds."""
_PNG_CRITICAL = (b"IHDR", b"PLTE", b"IDAT", b"IEND")
_PNG_COLOUR = (b"tRNS", b"iCCP", b"sRGB", b"gAMA", b"cHRM", b"cICP", b"eXIf")
_PNG_TRANSPARENCY = {0: (2,), 2: (6,), 3: tuple(range(1, 257))}
"""Valid lengths of tRNS by colour type."""


_METADATA_ITEM = re.compile(
    rb"(infe\x02.{7}|infe\x03.{9})(?!hvc1|hev1|av01|grid|iden|iovl|tmap)....", re.DOTALL
)


@dataclass
class PictureFile:
    """A stripped picture for Pillow, and the metadata that matters."""

    stream: BinaryIO
    orientation: int | None = None
    """EXIF orientation, 1 to 8; None if Pillow reads it."""
    profile: bytes | None = None
    """ICC profile; None if Pillow reads it."""
    cicp: tuple[int, int] | None = None
    """Code points of primaries and transfer in ITU-T H.273."""
    gamma: float | None = None
    """Of a PNG: exponent from light to values, 1 for linear ones."""
    chromaticities: tuple[float, ...] | None = None
    """Of a PNG: x and y of white, red, green and blue."""
    incomplete: bool = False
    """Whether this is a truncated JPEG, whose end marker was added."""
    notes: list[str] = field(default_factory=list)
    """Changes to its colours, for people."""


def read_picture(file: BinaryIO, name: str) -> PictureFile:
    """Strip a picture whose format `sniff` calls `name`. Raises MediaError for raw files, and
    struct.error for damaged ones."""
    readers: dict[str, Callable[[BinaryIO], PictureFile]] = {
        "jpeg": _jpeg,
        "png": _png,
        "tiff": _tiff,
        "avif": _heif,
        "heic": partial(_heif, orientation=1),
    }
    return readers.get(name, PictureFile)(file)


def _jpeg(file: BinaryIO) -> PictureFile:
    """Retain of application data the colour profile and Adobe's transform, and of several pictures
    (MPO, gain maps) the first."""
    stripped, orientation = BytesIO(), None
    stripped.write(file.read(2))
    while True:
        start = file.tell()
        while (byte := file.read(1)) == b"\xff":  # fill bytes
            pass
        head = byte + file.read(2)
        length = int.from_bytes(head[1:])
        if byte == b"\xda":
            break
        if file.tell() < start + 4 or byte not in _JPEG_MARKERS or length < 2:
            raise struct.error
        body = file.read(length - 2)
        if byte == b"\xe1" and body.startswith(EXIF):
            orientation = orientation or orientation_of(body)
        profile = byte == b"\xe2" and body.startswith(b"ICC_PROFILE\0")
        if profile or byte == b"\xee" or not (b"\xe0" < byte <= b"\xef" or byte == b"\xfe"):
            stripped.write(b"\xff" + head + body)
    file.seek(start)
    scan_start = stripped.tell()
    while block := file.read(1 << 20):
        stripped.write(block)
    incomplete = stripped.getvalue().rfind(b"\xff\xd9", scan_start) < 0
    if incomplete:
        stripped.write(b"\xff\xd9")
    stripped.seek(0)
    return PictureFile(stripped, orientation or 1, incomplete=incomplete)


def _png(file: BinaryIO) -> PictureFile:
    """Retain the picture and its transparency only."""
    stripped, colour_type, chunks = BytesIO(), 0, dict[bytes, bytes]()
    stripped.write(file.read(8))
    while len(head := file.read(8)) == 8:
        length, name = int.from_bytes(head[:4]), head[4:]
        if name in _PNG_CRITICAL:
            body = file.read(length + 4)
            colour_type = body[9] if name == b"IHDR" and length >= 13 else colour_type
            stripped.write(head + body)
        elif name in _PNG_COLOUR and length < _MAX_PROFILE_BYTES and name not in chunks:
            body, check = file.read(length), file.read(4)
            if zlib.crc32(name + body) != int.from_bytes(check):
                continue
            chunks[name] = body
            if name == b"tRNS" and length in _PNG_TRANSPARENCY.get(colour_type, ()):
                stripped.write(head + body + check)
        else:
            file.seek(length + 4, 1)
        if name == b"IEND":
            break
    stripped.seek(0)
    picture = PictureFile(stripped, orientation_of(chunks.get(b"eXIf", b"")) or 1)
    if len(cicp := chunks.get(b"cICP", b"")) == 4:
        picture.cicp = cicp[0], cicp[1]
    elif profile := _inflate_profile(chunks.get(b"iCCP", b"")):
        picture.profile = profile
    elif len(chunks.get(b"sRGB", b"")) != 1 and len(chunks.get(b"gAMA", b"")) == 4:
        picture.gamma = _fixed_point(chunks[b"gAMA"])[0]
        if len(chunks.get(b"cHRM", b"")) == 32:
            picture.chromaticities = _fixed_point(chunks[b"cHRM"])
    return picture


def _fixed_point(body: bytes) -> tuple[float, ...]:
    """Numbers of a PNG, stored times 100,000."""
    return tuple(value / 100_000 for value in struct.unpack(f">{len(body) // 4}I", body))


def _inflate_profile(chunk: bytes) -> bytes | None:
    """The profile of an iCCP chunk; None if it is broken or too large."""
    try:
        profile = zlib.decompressobj().decompress(
            chunk[chunk.index(b"\0") + 2 :], _MAX_PROFILE_BYTES
        )
    except (ValueError, zlib.error):
        return None
    return profile if profile[36:40] == b"acsp" else None


def _heif(file: BinaryIO, orientation: int | None = None) -> PictureFile:
    """The pictures of a HEIC or AVIF. libheif rotates a HEIC, whose EXIF orientation is ignored."""
    data = _without_metadata(file.read())
    return PictureFile(BytesIO(data), orientation, cicp=_read_cicp(data))


def _without_metadata(data: bytes) -> bytes:
    """Change the type of all items but pictures (ISO/IEC 23008-12) to an unknown one: broken EXIF
    and XMP make Pillow fail and pi-heif crash. The rotation is stored elsewhere."""
    return _METADATA_ITEM.sub(rb"\1none", data)


def _read_cicp(data: bytes) -> tuple[int, int] | None:
    """`cicp` of the primary picture of a HEIC or AVIF, without decoding it."""
    try:
        nclx = pi_heif.open_heif(BytesIO(data)).info["nclx_profile"]
        return nclx["color_primaries"], nclx["transfer_characteristics"]
    except (OSError, ValueError, LookupError, RuntimeError, SyntaxError):
        return None


def _tiff(file: BinaryIO) -> PictureFile:
    """Retain the picture tags of the first page that is no thumbnail."""
    stripped = BytesIO(file.read())
    stripped.seek(0)
    with stripped.getbuffer() as data:
        orientation, profile = strip_to_main_page(data)
    return PictureFile(stripped, orientation or 1, profile)
