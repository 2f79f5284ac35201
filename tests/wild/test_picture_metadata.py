"""Metadata of programs and cameras, if broken, costs at most the orientation."""

import struct
import zlib
from pathlib import Path

import pillow_heif
import pytest
from PIL import Image, ImageCms, TiffImagePlugin

from kolbo_demo.media import probe, sandbox
from kolbo_demo.media.sniff import MediaError
from tests.wild.pictures import (
    UNTURNED,
    assert_a_card,
    card,
    chunk,
    exif_turned,
    ifd,
    jpeg_with,
    noisy,
    png_with,
    saved,
    segment,
    tiff_with,
)

TEXTS = {
    "one megabyte": [chunk(b"tEXt", b"parameters\0" + b"a" * 2**20)],
    "a hundred": [chunk(b"tEXt", b"key\0" + b"b" * 2**20)] * 70,
    "a bomb": [chunk(b"zTXt", b"key\0\0" + zlib.compress(bytes(100 * 2**20)))],
    "an international bomb": [
        chunk(b"iTXt", b"k\0\1\0\0\0" + zlib.compress(bytes(100 * 2**20)))
    ],
    "no text": [chunk(b"tEXt", b""), chunk(b"zTXt", b"\xff" * 9), chunk(b"iTXt", b"k\0\1")],
    "a wrong checksum": [chunk(b"tEXt", b"key\0value", crc=1)],
    "unknown chunks": [chunk(b"zzZz", bytes(1000)), chunk(b"caBX", bytes(1000), crc=1)],
    "a profile that is none": [chunk(b"iCCP", b"name\0\0" + zlib.compress(b"no profile"))],
    "EXIF that is none": [chunk(b"eXIf", b"II*\0\xff\xff\xff\xff")],
    "wrong physical sizes": [chunk(b"pHYs", b"\0")],
    "a profile that is a bomb": [
        chunk(b"iCCP", b"name\0\0" + zlib.compress(bytes(100 * 2**20)))
    ],
    "a text that names colours": [chunk(b"tEXt", b"key\0cICP\x09\x10\0\1")],
}  # fmt: skip


@pytest.mark.parametrize("texts", TEXTS)
def test_texts_of_a_png_are_skipped(tmp_path: Path, texts: str) -> None:
    path = tmp_path / "card.png"
    path.write_bytes(png_with(*TEXTS[texts]))
    assert_a_card(path, within=0)


TURNED = (0x0112, 3, 1, 6)
SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
FACTS = {
    b"iCCP": b"x\0\0" + zlib.compress(SRGB),
    b"gAMA": struct.pack(">I", 45455),
    b"cHRM": bytes(32),
    b"sRGB": b"\0",
    b"cICP": b"\1\x0d\0\1",
    b"eXIf": exif_turned(1),
    b"tRNS": bytes(6),
}
EXIFS = {
    "sound": ifd(TURNED),
    "other order": ifd(TURNED, order=">"),
    "a rational of -1 to 0": ifd(TURNED, (0x011A, 10, 1, 38), tail=struct.pack("<ii", -1, 0)),
    "values beyond the end": ifd((0x010F, 2, 2**31, 2**31), TURNED, (0x8769, 4, 1, 2**32 - 1)),
    "unknown types": ifd((0x010E, 99, 7, 1), TURNED, (0xEEEE, 0, 2**32 - 1, 0)),
    "a circle": ifd(TURNED, (0x8769, 4, 1, 8), (0x8825, 4, 1, 8)),
    "more entries than there are": ifd(TURNED)[:8] + b"\xff\xff" + ifd(TURNED)[10:],
}


@pytest.mark.parametrize("exif", EXIFS)
@pytest.mark.parametrize("kind", ["jpeg", "png", "webp"])
def test_exif_costs_the_orientation_at_most(tmp_path: Path, kind: str, exif: str) -> None:
    lying = card().transpose(Image.Transpose.ROTATE_90)
    path = tmp_path / f"card.{kind}"
    body = EXIFS[exif]
    if kind == "jpeg":
        data = saved(lying, "JPEG", quality=95, subsampling=0)
        path.write_bytes(data[:2] + segment(0xE1, b"Exif\0\0" + body) + data[2:])
    elif kind == "png":
        data = saved(lying, "PNG")
        path.write_bytes(data[:33] + chunk(b"eXIf", body) + data[33:])
    else:
        path.write_bytes(saved(lying, "WEBP", lossless=True, exif=body))
    assert (probe.inspect_source(path).width, probe.inspect_source(path).height) == (96, 72)
    assert_a_card(path)


SEGMENTS = {
    "EXIF that is none": [segment(0xE1, b"Exif\0\0" + bytes(60))],
    "EXIF cut short": [segment(0xE1, b"Exif\0\0II*\0\x08\0\0\0\x05")],
    "XMP in pieces": [segment(0xE1, b"http://ns.adobe.com/xmp/extension/\0" + bytes(65000))] * 30,
    "a broken list of pictures": [segment(0xE2, b"MPF\0" + b"\xff" * 80)],
    "Photoshop's": [segment(0xED, b"Photoshop 3.0\0" + b"8BIM\x03\xed" + b"\xff" * 20)],
    "a broken profile": [segment(0xE2, b"ICC_PROFILE\0\x02\x05" + bytes(100))],
    "comments": [segment(0xFE, b"x" * 65000)] * 20,
    "filling bytes": [b"\xff" * 100],
    "no JFIF": [segment(0xE0, b"JFXX\0\x10" + bytes(10))],
}


@pytest.mark.parametrize("segments", SEGMENTS)
def test_what_cameras_add_to_a_jpeg_is_skipped(tmp_path: Path, segments: str) -> None:
    path = tmp_path / "card.jpg"
    path.write_bytes(jpeg_with(*SEGMENTS[segments]) + b"bytes after the end" * 1000)
    assert_a_card(path)


def test_broken_exif_of_an_avif_costs_nothing(tmp_path: Path) -> None:
    path = tmp_path / "card.avif"
    good = saved(card(), "AVIF", quality=95, exif=b"Exif\0\0" + ifd((0x010F, 2, 4, 65)))
    assert b"Exif" in good
    path.write_bytes(good.replace(b"II*\0\x08", b"II*\0\xf8"))
    assert_a_card(path)


@pytest.mark.parametrize("harm", ["a wrong checksum", "no bytes", "too many bytes"])
@pytest.mark.parametrize("name", FACTS, ids=bytes.decode)
def test_a_broken_chunk_costs_no_picture(tmp_path: Path, name: bytes, harm: str) -> None:
    body = FACTS[name]
    broken = {
        "a wrong checksum": chunk(name, body, crc=1),
        "no bytes": chunk(name, b""),
        "too many bytes": chunk(name, body * 3 + bytes(3000)),
    }
    path = tmp_path / "card.png"
    path.write_bytes(png_with(broken[harm]))
    assert_a_card(path, within=1)


@pytest.mark.parametrize("filled", [0, 7], ids=["", "after filling bytes"])
@pytest.mark.parametrize("exif", EXIFS)
def test_the_second_exif_counts_where_the_first_is_broken(
    tmp_path: Path, exif: str, filled: int
) -> None:
    data = saved(card().transpose(Image.Transpose.ROTATE_90), "JPEG", quality=95, subsampling=0)
    bodies = bytes(60), EXIFS[exif]
    both = [b"\xff" * filled + segment(0xE1, b"Exif\0\0" + body) for body in bodies]
    path = tmp_path / "card.jpg"
    path.write_bytes(data[:2] + b"".join(both) + data[2:])
    assert_a_card(path)


TIFFS = {
    "nothing": {},
    "a megabyte of text": {0x010E: (2, "x" * 2**20)},
    "a rational of -1": {0x011A: (10, TiffImagePlugin.IFDRational(-1, 1))},
    "a circle": {0x8769: (4, 8)},
    "a profile that is none": {0x8773: (7, b"no profile")},
    "a profile that is text": {0x8773: (2, "no profile")},
}


@pytest.mark.parametrize("turned", [1, 3, 6, 8])
@pytest.mark.parametrize("big", [False, True], ids=["TIFF", "BigTIFF"])
@pytest.mark.parametrize("told", TIFFS)
def test_tags_of_a_tiff_cost_the_orientation_at_most(
    tmp_path: Path, told: str, big: bool, turned: int
) -> None:
    path = tmp_path / "card.tif"
    stored = card() if turned == 1 else card().transpose(UNTURNED[turned])
    path.write_bytes(tiff_with(stored, {0x0112: (3, turned), **TIFFS[told]}, big_tiff=big))
    assert_a_card(path, within=0)


@pytest.mark.parametrize("harm", [(2, 2**31, 2**31), (99, 9, 9)], ids=["beyond", "of no type"])
def test_a_broken_tag_of_a_tiff_is_skipped(tmp_path: Path, harm: tuple[int, ...]) -> None:
    data = bytearray(tiff_with(card(), {0x010E: (2, "abcdefgh")}))
    place = data.index(struct.pack("<HH", 0x010E, 2)) + 2
    data[place : place + 10] = struct.pack("<HII", *harm)
    path = tmp_path / "card.tif"
    path.write_bytes(data)
    assert_a_card(path, within=0)


@pytest.mark.parametrize("broken", [False, True], ids=["sound", "broken"])
@pytest.mark.parametrize("told", [False, True], ids=["without EXIF", "with EXIF"])
def test_exif_of_a_heic_does_not_count(tmp_path: Path, told: bool, broken: bool) -> None:
    """Its orientation is stored elsewhere."""
    path = tmp_path / "card.heic"
    body = exif_turned(1) + bytes(200)
    heif = pillow_heif.from_pillow(card(192, 144))
    heif.save(path, quality=95, **({"exif": body} if told else {}))
    if broken:
        path.write_bytes(path.read_bytes().replace(body, b"II*\0" + b"\xff" * (len(body) - 4)))
    assert_a_card(path)


def test_broken_metadata_of_a_heic_cost_nothing(tmp_path: Path) -> None:
    """In a process of its own: what reads them may crash."""
    path = tmp_path / "card.heic"
    body = exif_turned(1) + bytes(2000)
    pillow_heif.from_pillow(card(192, 144)).save(path, quality=95, exif=body)
    data = path.read_bytes()
    length = next(
        struct.pack(">I", len(body) + more)
        for more in (0, 4, 6, 10)
        if data.count(struct.pack(">I", len(body) + more)) == 1
    )
    broken = [data.replace(length, struct.pack(">I", wrong)) for wrong in (2**31, 2**24, 2, 0)]
    for harmed in (*broken, data.replace(b"Exif", b"Ex\xfff", 1)):
        path.write_bytes(harmed)
        found = sandbox.inspect_source(path)
        assert (found.width, found.height) == (192, 144)


@pytest.mark.parametrize("lost", [2, 10, 0.03])
def test_a_photograph_that_lacks_its_last_rows_is_read(tmp_path: Path, lost: float) -> None:
    """As where a memory card was full."""
    path = tmp_path / "card.jpg"
    data = saved(noisy(640, 480), "JPEG", quality=95, subsampling=0)
    path.write_bytes(data[: -int(lost if lost >= 1 else lost * len(data))])
    assert_a_card(path, within=30)


@pytest.mark.parametrize("more", [{}, {"progressive": True}], ids=["sequential", "progressive"])
def test_half_a_photograph_is_none(tmp_path: Path, more: dict[str, bool]) -> None:
    path = tmp_path / "card.jpg"
    data = saved(noisy(640, 480), "JPEG", quality=95, **more)
    path.write_bytes(data[: len(data) // 2])
    for look in (probe.inspect_source, probe.upright_image):
        with pytest.raises(MediaError, match="cut short"):
            look(path)
