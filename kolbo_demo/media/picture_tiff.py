"""Read the directories of a TIFF, or of EXIF, which is one, and strip a TIFF to its main page."""

import contextlib
import struct
from dataclasses import dataclass

from kolbo_demo.media.sniff import UNSUPPORTED_PICTURES, MediaError

EXIF = b"Exif\0\0"
"""Prefix of EXIF in other formats."""
_LAYOUT_TAGS = (*range(256, 260), 266, 273, 277, 278, 279, 284, 292, 293, *range(322, 326), 347)
_COLOUR_TAGS = (262, 317, 320, 332, 338, 339, *range(512, 522), *range(529, 533))
_PICTURE_TAGS = frozenset((*_LAYOUT_TAGS, *_COLOUR_TAGS))
_SUBFILE_TYPE, _WIDTH, _HEIGHT, _COMPRESSION, _PHOTOMETRIC = 254, 256, 257, 259, 262
_ORIENTATION, _SUB_IFDS, _ICC_PROFILE, _DNG_VERSION = 274, 330, 34675, 50706
_RAW_PHOTOMETRIC = (32803, 34892)
_RAW_COMPRESSION = (32767, 32769, 32770, 34713, 65000, 65535)
"""Sony, Epson, Samsung, Nikon, Kodak and Pentax."""
_THUMBNAIL_SIDE = 1024
_MAX_PAGES = 64


def orientation_of(exif: bytes) -> int | None:
    """EXIF orientation, 1 to 8; None if it has none. The rest of EXIF may be broken."""
    tags = _Directories(memoryview(exif.removeprefix(EXIF)))
    with contextlib.suppress(struct.error):
        for page in tags.pages()[:1]:
            return tags.orientation(page)
    return None


def strip_to_main_page(data: memoryview) -> tuple[int | None, bytes]:
    """Retain the first page that is no thumbnail. Returns its orientation and its ICC profile.
    Raises MediaError for camera raw files, and struct.error for damaged ones."""
    tags = _Directories(data)
    pages = tags.pages()
    if not pages:
        raise struct.error
    full = [page for page in pages if not tags.value(page, _SUBFILE_TYPE) & 1]
    page = (full or pages)[0]
    if _is_raw(tags, pages, page):
        raise MediaError(UNSUPPORTED_PICTURES["raw"])
    orientation, profile = tags.orientation(page), tags.content(page, _ICC_PROFILE)
    tags.retain(page, _PICTURE_TAGS)
    return orientation, profile


def _is_raw(tags: "_Directories", pages: "list[_Page]", page: "_Page") -> bool:
    """Whether a TIFF is a camera raw file, of which `page` may be a thumbnail."""
    small = max(tags.value(page, _WIDTH), tags.value(page, _HEIGHT)) < _THUMBNAIL_SIDE
    return (
        any(_DNG_VERSION in each.entries for each in pages)
        or tags.value(page, _PHOTOMETRIC) in _RAW_PHOTOMETRIC
        or tags.value(page, _COMPRESSION) in _RAW_COMPRESSION
        or (
            any(_SUB_IFDS in each.entries for each in pages)
            and (small or bool(tags.value(pages[0], _SUBFILE_TYPE) & 1))
        )
    )


@dataclass
class _Page:
    offset: int
    entries: dict[int, int]
    """Offset of the entry of each tag."""


class _Directories:
    """The image file directories of a TIFF or BigTIFF."""

    def __init__(self, data: memoryview) -> None:
        self._data = data
        self._order = ">" if data[:2] == b"MM" else "<"
        self._large = 43 in data[2:4]
        self._unit, self._counter = ("Q", "Q") if self._large else ("I", "H")
        self._width = struct.calcsize(self._unit)
        self._entry = 4 + 2 * self._width

    def pages(self) -> list[_Page]:
        found: list[_Page] = []
        (offset,) = self._read(self._unit, self._width)
        visited = set[int]()
        while offset and offset not in visited and len(visited) < _MAX_PAGES:
            visited.add(offset)
            try:
                (count,) = self._read(self._counter, offset)
                start = offset + struct.calcsize(self._counter)
                end = start + count * self._entry
                offsets = range(start, min(end, len(self._data) - self._entry + 1), self._entry)
                found.append(_Page(offset, {self._read("H", at)[0]: at for at in offsets}))
                (offset,) = self._read(self._unit, end)
            except struct.error:
                break
        return found

    def value(self, page: _Page, tag: int) -> int:
        """The first number of a tag; 0 if there is none."""
        offset = page.entries.get(tag)
        if offset is None:
            return 0
        kind = {1: "B", 3: "H", 4: "I", 16: "Q"}.get(self._read("H", offset + 2)[0])
        if kind is None or struct.calcsize(kind) > self._width:
            return 0
        return self._read(kind, offset + 4 + self._width)[0]

    def orientation(self, page: _Page) -> int | None:
        orientation = self.value(page, _ORIENTATION)
        return orientation if 1 <= orientation <= 8 else None

    def content(self, page: _Page, tag: int) -> bytes:
        """The bytes of a tag; empty if it is missing or broken."""
        offset = page.entries.get(tag)
        if offset is None:
            return b""
        kind, count, start = self._read(f"H{self._unit}{self._unit}", offset + 2)
        return bytes(self._data[start : start + count]) if kind in (1, 7) else b""

    def retain(self, page: _Page, retained: frozenset[int]) -> None:
        """Reduce the file to one page with these tags."""
        entries = [bytes(self._data[at : at + self._entry]) for at in page.entries.values()]
        tag = self._order + "H"
        entries = [entry for entry in entries if struct.unpack_from(tag, entry)[0] in retained]
        start = page.offset + struct.calcsize(self._counter)
        body = (b"".join(entries) + bytes(self._width))[: len(self._data) - start]
        self._data[start : start + len(body)] = body
        self._write(self._counter, page.offset, len(entries))
        self._write(self._unit, self._width, page.offset)

    def _read(self, layout: str, offset: int) -> tuple[int, ...]:
        if offset > len(self._data):
            raise struct.error
        return struct.unpack_from(self._order + layout, self._data, offset)

    def _write(self, layout: str, offset: int, value: int) -> None:
        struct.pack_into(self._order + layout, self._data, offset, value)
