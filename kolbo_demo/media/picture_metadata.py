"""What makes the picture in a file, apart from what programs and cameras leave beside it.

Texts, thumbnails, maker notes and broken EXIF never reach Pillow, so no fault in them costs the
picture. Orientation and colours are read here, each by itself.
"""

import re
import struct
import zlib
from collections.abc import Callable
from dataclasses import dataclass, field
from io import BytesIO
from typing import BinaryIO

import pi_heif

from kolbo_demo.media import picture_tiff

_ORIENTATION = 0x0112
"""EXIF's tag for the way the camera was held."""
_EXIF = b"Exif\0\0"
_MAX_PROFILE_BYTES = 8 * 1024**2

_JPEG_MARKERS = frozenset(
    bytes([marker])
    for marker in (0xC0, 0xC1, 0xC2, 0xC4, 0xC9, 0xCA, 0xCC, 0xDB, 0xDD, *range(0xE0, 0xFF))
)
"""Before the first scan. Not those of lossless and hierarchical frames: where one is to be decoded
smaller, Pillow and libjpeg-turbo write beyond their memory."""
_PNG_PICTURE = (b"IHDR", b"PLTE", b"IDAT", b"IEND")
_PNG_FACTS = (b"tRNS", b"iCCP", b"sRGB", b"gAMA", b"cHRM", b"cICP", b"eXIf")
_PNG_TRANSPARENCY = {0: (2,), 2: (6,), 3: tuple(range(1, 257))}
"""Lengths of tRNS by colour type."""


_OTHER_ITEM = re.compile(
    rb"(infe\x02.{7}|infe\x03.{9})(?!hvc1|hev1|av01|grid|iden|iovl|tmap)....", re.DOTALL
)


@dataclass
class PictureFile:
    """A picture for Pillow, and what was told beside it."""

    stream: BinaryIO
    orientation: int | None = None
    """EXIF's, 1 to 8; None where Pillow knows it."""
    profile: bytes | None = None
    """ICC; None where Pillow knows it."""
    coding: tuple[int, int] | None = None
    """Primaries and transfer by the numbers of ITU-T H.273."""
    gamma: float | None = None
    """A PNG's: power of light that its values are, 1 for linear ones."""
    chromaticities: tuple[float, ...] | None = None
    """A PNG's x and y of white, red, green and blue."""
    incomplete: bool = False
    """A JPEG that was cut short, and given an end."""
    notes: list[str] = field(default_factory=list)
    """What was changed of its colours."""


def read(file: BinaryIO, name: str) -> PictureFile:
    """The picture of a format that `magic` calls `name`. Raises MediaError for raw pictures, and
    struct.error where the file is damaged."""
    readers: dict[str, Callable[[BinaryIO], PictureFile]] = {
        "jpeg": _jpeg,
        "png": _png,
        "tiff": _tiff,
        "avif": _avif,
        "heic": _heic,
    }
    return readers.get(name, PictureFile)(file)


def orientation_of(exif: bytes) -> int | None:
    """EXIF's orientation, 1 to 8; None if it has none. The rest of EXIF may be broken."""
    body = exif.removeprefix(_EXIF)
    order = ">" if body.startswith(b"MM") else "<"
    try:
        (place,) = struct.unpack_from(f"{order}I", body, 4)
        (count,) = struct.unpack_from(f"{order}H", body, place)
        for entry in range(place + 2, place + 2 + 12 * count, 12):
            tag, kind = struct.unpack_from(f"{order}HH", body, entry)
            if tag == _ORIENTATION:
                (turned,) = struct.unpack_from(order + ("H" if kind == 3 else "I"), body, entry + 8)
                return turned if 1 <= turned <= 8 else None
    except struct.error:
        pass
    return None


def _jpeg(file: BinaryIO) -> PictureFile:
    """Without application data other than the colour profile and Adobe's transform. The first
    picture alone of files with several (MPO, gain maps)."""
    kept, turned = BytesIO(), None
    kept.write(file.read(2))
    while True:
        start = file.tell()
        while (byte := file.read(1)) == b"\xff":  # any number of them
            pass
        head = byte + file.read(2)
        length = int.from_bytes(head[1:])
        if byte == b"\xda":
            break
        if file.tell() < start + 4 or byte not in _JPEG_MARKERS or length < 2:
            raise struct.error
        body = file.read(length - 2)
        if byte == b"\xe1" and body.startswith(_EXIF):
            turned = turned or orientation_of(body)
        profile = byte == b"\xe2" and body.startswith(b"ICC_PROFILE\0")
        if profile or byte == b"\xee" or not (b"\xe0" < byte <= b"\xef" or byte == b"\xfe"):
            kept.write(b"\xff" + head + body)
    file.seek(start)
    begun = kept.tell()
    while block := file.read(1 << 20):
        kept.write(block)
    incomplete = kept.getvalue().rfind(b"\xff\xd9", begun) < 0
    if incomplete:
        kept.write(b"\xff\xd9")
    kept.seek(0)
    return PictureFile(kept, turned or 1, incomplete=incomplete)


def _png(file: BinaryIO) -> PictureFile:
    """Without texts, animation and whatever else programs leave in it."""
    kept, colour_type, facts = BytesIO(), 0, dict[bytes, bytes]()
    kept.write(file.read(8))
    while len(head := file.read(8)) == 8:
        length, name = int.from_bytes(head[:4]), head[4:]
        if name in _PNG_PICTURE:
            body = file.read(length + 4)
            colour_type = body[9] if name == b"IHDR" and length >= 13 else colour_type
            kept.write(head + body)
        elif name in _PNG_FACTS and length < _MAX_PROFILE_BYTES and name not in facts:
            body, check = file.read(length), file.read(4)
            if zlib.crc32(name + body) != int.from_bytes(check):
                continue
            facts[name] = body
            if name == b"tRNS" and length in _PNG_TRANSPARENCY.get(colour_type, ()):
                kept.write(head + body + check)
        else:
            file.seek(length + 4, 1)
        if name == b"IEND":
            break
    kept.seek(0)
    found = PictureFile(kept, orientation_of(facts.get(b"eXIf", b"")) or 1)
    if len(coding := facts.get(b"cICP", b"")) == 4:
        found.coding = coding[0], coding[1]
    elif profile := _inflated(facts.get(b"iCCP", b"")):
        found.profile = profile
    elif len(facts.get(b"sRGB", b"")) != 1 and len(facts.get(b"gAMA", b"")) == 4:
        found.gamma = _parts(facts[b"gAMA"])[0]
        if len(facts.get(b"cHRM", b"")) == 32:
            found.chromaticities = _parts(facts[b"cHRM"])
    return found


def _parts(body: bytes) -> tuple[float, ...]:
    """Numbers of a PNG, which are stored 100,000 times as large."""
    return tuple(value / 100_000 for value in struct.unpack(f">{len(body) // 4}I", body))


def _inflated(chunk: bytes) -> bytes | None:
    """The profile of an iCCP chunk; None if it is broken or no profile is so large."""
    try:
        profile = zlib.decompressobj().decompress(
            chunk[chunk.index(b"\0") + 2 :], _MAX_PROFILE_BYTES
        )
    except (ValueError, zlib.error):
        return None
    return profile if profile[36:40] == b"acsp" else None


def _avif(file: BinaryIO) -> PictureFile:
    data = _without_metadata(file.read())
    return PictureFile(BytesIO(data), coding=_coding(data))


def _heic(file: BinaryIO) -> PictureFile:
    """libheif turns the picture by itself, and EXIF's orientation does not count."""
    data = _without_metadata(file.read())
    return PictureFile(BytesIO(data), 1, coding=_coding(data))


def _without_metadata(data: bytes) -> bytes:
    """All items but pictures (ISO/IEC 23008-12) under a type that nobody looks for: at broken EXIF
    and XMP Pillow gives up, and pi-heif crashes. The turn stands elsewhere."""
    return _OTHER_ITEM.sub(rb"\1none", data)


def _coding(data: bytes) -> tuple[int, int] | None:
    """Of the main picture of a HEIC or AVIF, which libheif need not decode for it."""
    try:
        told = pi_heif.open_heif(BytesIO(data)).info["nclx_profile"]
        return told["color_primaries"], told["transfer_characteristics"]
    except (OSError, ValueError, LookupError, RuntimeError, SyntaxError):
        return None


def _tiff(file: BinaryIO) -> PictureFile:
    """Of the first page that is no thumbnail, the tags that make the picture."""
    kept = BytesIO(file.read())
    kept.seek(0)
    with kept.getbuffer() as data:
        turned, profile = picture_tiff.reduce(data)
    return PictureFile(kept, turned if 1 <= turned <= 8 else 1, profile)
