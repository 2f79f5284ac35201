"""Builders of pictures as programs, cameras and telephones leave them."""

import io
import re
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageCms, TiffImagePlugin

from kolbo_demo.media import probe

COLOURS = ((200, 60, 50), (60, 170, 80), (50, 70, 190), (190, 150, 120))
"""Red, green, blue, skin: the corners of a card, from the upper left, row by row."""


def card(width: int = 96, height: int = 72) -> Image.Image:
    rgb = np.zeros((height, width, 3), np.uint8)
    for place, colour in enumerate(COLOURS):
        rows = slice(height // 2, None) if place > 1 else slice(height // 2)
        columns = slice(width // 2, None) if place % 2 else slice(width // 2)
        rgb[rows, columns] = colour
    return Image.fromarray(rgb)


def corners(image: Image.Image) -> np.ndarray:
    """The colours in the middle of the four quarters, (4, 3)."""
    height, width = (side // 4 for side in image.size[::-1])
    rgb = np.asarray(image.convert("RGB"), float)
    return rgb[[height, height, 3 * height, 3 * height], [width, 3 * width, width, 3 * width]]


def saved(image: Image.Image, kind: str, **options: object) -> bytes:
    image.info.pop("icc_profile", None)
    out = io.BytesIO()
    image.save(out, kind, **options)
    return out.getvalue()


def assert_a_card(path: Path, within: float = 6) -> None:
    probe.inspect_source(path)
    found = corners(probe.upright_image(path))
    assert np.abs(found - COLOURS).max() <= within, found


def chunk(name: bytes, body: bytes, crc: int | None = None) -> bytes:
    return struct.pack(">I", len(body)) + name + body + struct.pack(
        ">I", zlib.crc32(name + body) if crc is None else crc
    )  # fmt: skip


def png_with(*chunks: bytes) -> bytes:
    data = saved(card(), "PNG")
    return data[:33] + b"".join(chunks) + data[33:]


def segment(marker: int, body: bytes) -> bytes:
    return bytes([0xFF, marker]) + struct.pack(">H", len(body) + 2) + body


def ifd(*entries: tuple[int, int, int, int], order: str = "<", tail: bytes = b"") -> bytes:
    head = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(f"{order}I", 8)
    body = struct.pack(f"{order}H", len(entries))
    for tag, kind, count, value in entries:
        value_of = f"{order}Hxx" if kind == 3 else f"{order}I"
        body += struct.pack(f"{order}HHI", tag, kind, count) + struct.pack(value_of, value)
    return head + body + struct.pack(f"{order}I", 0) + tail


def jpeg_with(*segments: bytes, **options: object) -> bytes:
    data = saved(card(), "JPEG", quality=95, subsampling=0, **options)
    return data[:2] + b"".join(segments) + data[2:]


D50 = np.array([0.9642, 1, 0.8249])


def matrix_profile(primaries: tuple[tuple[float, float], ...], gamma: float) -> bytes:
    """A display profile (ICC.1:2010) of red, green and blue (x, y), and one gamma."""

    def xyz(x: float, y: float) -> np.ndarray:
        return np.array([x / y, 1, (1 - x - y) / y])

    columns = np.stack([xyz(*p) for p in primaries], 1)
    white = xyz(0.3127, 0.3290)
    rgb = columns * np.linalg.solve(columns, white)
    cone = np.array(  # Bradford's
        [[0.8951, 0.2664, -0.1614], [-0.7502, 1.7135, 0.0367], [0.0389, -0.0685, 1.0296]]
    )
    adapted = np.linalg.inv(cone) @ np.diag((cone @ D50) / (cone @ white)) @ cone @ rgb
    tags = [(name, xyz_tag(adapted[:, n])) for n, name in enumerate((b"rXYZ", b"gXYZ", b"bXYZ"))]
    tags += [(name, curve(gamma)) for name in (b"rTRC", b"gTRC", b"bTRC")]
    return profile(b"RGB ", tags)


def grey_profile(gamma: float) -> bytes:
    return profile(b"GRAY", [(b"kTRC", curve(gamma))])


def xyz_tag(values: np.ndarray) -> bytes:
    return b"XYZ " + bytes(4) + struct.pack(">3i", *(round(v * 65536) for v in values))


def curve(gamma: float) -> bytes:
    return b"curv" + bytes(4) + struct.pack(">IH", 1, round(gamma * 256)) + bytes(2)


def profile(space: bytes, tags: list[tuple[bytes, bytes]]) -> bytes:
    name = b"desc" + bytes(4) + struct.pack(">I", 2) + b"x\0" + bytes(79)
    tags = [*tags, (b"wtpt", xyz_tag(D50)), (b"desc", name), (b"cprt", b"text" + bytes(4) + b"x\0")]
    table, body = struct.pack(">I", len(tags)), b""
    start = 128 + 4 + 12 * len(tags)
    for name, data in tags:
        table += name + struct.pack(">II", start + len(body), len(data))
        body += data + bytes(-len(data) % 4)
    size = start + len(body)
    head = struct.pack(">I4sI4s4s4s", size, b"none", 0x02400000, b"mntr", space, b"XYZ ")
    head += bytes(12) + b"acsp" + bytes(28) + struct.pack(">3i", 63190, 65536, 54061) + bytes(48)
    return head + table + body


P3 = ((0.680, 0.320), (0.265, 0.690), (0.150, 0.060))
ADOBE = ((0.640, 0.330), (0.210, 0.710), (0.150, 0.060))
BT709 = ((0.640, 0.330), (0.300, 0.600), (0.150, 0.060))
PROFILES = {
    "Display P3": matrix_profile(P3, 2.2),
    "Adobe RGB": matrix_profile(ADOBE, 2.2),
    "linear": matrix_profile(BT709, 1.0),
}


def in_profile(target: bytes, image: Image.Image | None = None) -> Image.Image:
    """The card, as a file has it whose profile that is."""
    srgb = ImageCms.createProfile("sRGB")
    other = ImageCms.ImageCmsProfile(io.BytesIO(target))
    found = ImageCms.profileToProfile(image or card(), srgb, other, outputMode="RGB")
    assert found
    return found


def exif_turned(turned: int) -> bytes:
    return ifd((0x0112, 3, 1, turned))


UNTURNED = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_90,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_270,
}
"""Transformations from an upright picture to its stored form, by EXIF orientation."""


def noisy(width: int, height: int) -> Image.Image:
    """The card with noise, so that each row takes its share of the file."""
    noise = np.random.default_rng(1).integers(0, 9, (height, width, 3))
    return Image.fromarray((np.asarray(card(width, height)) + noise).astype(np.uint8))


def as_lab(image: Image.Image) -> Image.Image:
    srgb, lab = ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB")
    found = ImageCms.profileToProfile(image, srgb, lab, outputMode="LAB")
    assert found
    found.info.clear()
    return found


def tiff_with(image: Image.Image, tags: dict[int, tuple[int, Any]], **options: object) -> bytes:
    """`tags`: type and value of each."""
    told = TiffImagePlugin.ImageFileDirectory_v2()
    for tag, (kind, value) in tags.items():
        told[tag] = value
        told.tagtype[tag] = kind
    return saved(image, "TIFF", tiffinfo=told, **options)


def tiff_pages(*pages: tuple[Image.Image, dict[int, tuple[int, Any]]]) -> bytes:
    """Each a picture and the tags that it has beside or instead of its own."""
    data = b""
    for image, tags in pages:
        page = tiff_with(image, {tag: told for tag, told in tags.items() if tag not in _OWN})
        for tag, (_, value) in tags.items():
            if tag in _OWN:
                found = re.search(struct.pack("<HHI", tag, 3, 1), page, re.DOTALL)
                assert found
                page = page[: found.end()] + struct.pack("<I", value) + page[found.end() + 4 :]
        data = _appended(data, page)
    return data


_OWN = (0x0103, 0x0106)
"""Compression and colours, which Pillow writes by itself."""


def _appended(data: bytes, page: bytes) -> bytes:
    """A TIFF with the pages of both."""
    if not data:
        return page
    out = io.BytesIO(data)
    with TiffImagePlugin.AppendingTiffWriter(out) as writer:
        writer.write(page)
        writer.newFrame()
    return out.getvalue()
