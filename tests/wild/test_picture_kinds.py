"""Each kind of picture is read, or refused by its name."""

from collections.abc import Callable
from pathlib import Path

import pillow_heif
import pytest
from PIL import Image

from kolbo_demo.media import probe
from kolbo_demo.media.sniff import MediaError
from tests.wild.pictures import assert_a_card, card, saved, tiff_pages


@pytest.mark.parametrize("turned", [1, 6])
def test_a_heic_is_read_upright(tmp_path: Path, turned: int) -> None:
    picture = card(192, 144)
    stored = picture.transpose(Image.Transpose.ROTATE_90) if turned == 6 else picture
    exif = Image.Exif()
    exif[0x0112] = turned
    path = tmp_path / "IMG_0001.HEIC"
    pillow_heif.from_pillow(stored).save(path, quality=95, exif=exif.tobytes())
    found = probe.inspect_source(path)
    assert (found.kind, found.width, found.height) == ("image", 192, 144)
    assert_a_card(path)


RAW = {
    "a.dng": [{0x00FE: (4, 1), 0xC612: (1, b"\1\4\0\0")}],
    "a.nef": [{0x00FE: (4, 1), 0x014A: (4, 8)}],
    "a.arw": [{0x00FE: (4, 1), 0x014A: (4, 8)}, {0x00FE: (4, 1)}],
    "plain.arw": [{0x00FE: (4, 1), 0x014A: (4, 8)}, {}],
    "small.nef": [{0x014A: (4, 8)}],
    "a.pef": [{0x0103: (3, 65535)}],
    "a.tif": [{0x0106: (3, 32803)}],
}
"""Tags of the pages of cameras' pictures, each of which holds a thumbnail."""


@pytest.mark.parametrize("name", RAW)
def test_a_raw_picture_is_not_its_thumbnail(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.write_bytes(tiff_pages(*((card(160, 120), tags) for tags in RAW[name])))
    with pytest.raises(MediaError, match="Raw pictures"):
        probe.inspect_source(path)


def test_a_tiff_is_not_its_thumbnail(tmp_path: Path) -> None:
    path = tmp_path / "scan.tif"
    thumbnail = Image.new("RGB", (160, 120)), {0x00FE: (4, 1)}
    path.write_bytes(tiff_pages(thumbnail, (card(640, 480), {}), thumbnail))
    assert probe.inspect_source(path).width == 640
    assert_a_card(path)


@pytest.mark.parametrize("kind", ["png", "gif", "webp", "avif", "tiff", "mpo"])
def test_the_first_of_several_pictures_is_shown(tmp_path: Path, kind: str) -> None:
    path = tmp_path / f"several.{kind}"
    other = card().rotate(180)
    more = {"lossless": True} if kind == "webp" else {"quality": 95}
    more = more if kind not in ("png", "gif", "tiff") else {}
    path.write_bytes(saved(card(), kind.upper(), save_all=True, append_images=[other], **more))
    assert_a_card(path, within=10)


def written(data: bytes) -> Callable[[Path], object]:
    return lambda path: path.write_bytes(data + bytes(5000))


REFUSED: dict[str, tuple[Callable[[Path], object], str]] = {
    "a.cr2": (written(b"II*\0\x10\0\0\0CR\x02\0"), "Raw pictures"),
    "a.cr3": (written(b"\0\0\0\x18ftypcrx \0\0\0\1crx isom"), "Raw pictures"),
    "a.raf": (written(b"FUJIFILMCCD-RAW 0201"), "Raw pictures"),
    "a.orf": (written(b"IIRO\x08\0\0\0"), "Raw pictures"),
    "a.rw2": (written(b"IIU\0\x18\0\0\0"), "Raw pictures"),
    "a.jxl": (written(b"\xff\x0a\xfa\x1f"), "JPEG XL"),
    "b.jxl": (written(b"\0\0\0\x0cJXL \r\n\x87\n"), "JPEG XL"),
    "a.jp2": (written(b"\0\0\0\x0cjP  \r\n\x87\n"), "JPEG 2000"),
    "a.psd": (written(b"8BPS\0\1"), "Photoshop"),
    "a.ico": (written(b"\0\0\1\0\1\0"), "Icons"),
    "a.svg": (written(b'<?xml version="1.0"?>\n<svg xmlns="x"></svg>'), "SVG"),
    "b.svg": (written(b"<svg viewBox='0 0 1 1'/>"), "SVG"),
    "a.pdf": (written(b"%PDF-1.7\n"), "PDF"),
    "a.eps": (written(b"%!PS-Adobe-3.0 EPSF-3.0\n"), "PostScript"),
    "a.qoi": (written(b"qoif\0\0\0\x10"), "QOI"),
    "a.mrw": (written(b"\0MRM\0\1"), "Raw pictures"),
    "a.icns": (written(b"icns\0\1"), "Icons"),
    "a.cur": (written(b"\0\0\2\0\1\0"), "Icons"),
    "a.xcf": (written(b"gimp xcf v011\0"), "GIMP"),
    "a.hdr": (written(b"#?RADIANCE\n"), "Radiance"),
    "a.exr": (written(b"\x76\x2f\x31\x01\2\0"), "OpenEXR"),
    "a.dds": (written(b"DDS \x7c\0"), "DirectDraw"),
    "a.tga": (written(saved(card(), "TGA")), "Targa"),
    "b.tga": (written(saved(card().convert("P"), "TGA")), "Targa"),
    "a.pcx": (written(saved(card(), "PCX")), "PCX"),
    "a.ppm": (written(b"P6\n16 16\n255\n"), "PNM"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_not_taken_is_refused_by_its_name(tmp_path: Path, name: str) -> None:
    make, told = REFUSED[name]
    path = tmp_path / name
    make(path)
    with pytest.raises(MediaError, match=told) as refused:
        probe.inspect_source(path)
    assert "choose that" in str(refused.value)


@pytest.mark.parametrize("frame", [0xC3, 0xC5, 0xC7, 0xCB, 0xCF], ids=hex)
@pytest.mark.parametrize("before", [b"", b"\xff\x01", b"\xff\xd0", b"\0\0"], ids=bytes.hex)
def test_lossless_and_hierarchical_jpegs_reach_no_decoder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, frame: int, before: bytes
) -> None:
    """It would write beyond its memory."""
    data = saved(card(), "JPEG")
    path = tmp_path / "card.jpg"
    path.write_bytes(data.replace(b"\xff\xc0", before + bytes([0xFF, frame]), 1))
    monkeypatch.setattr(Image, "open", lambda *_, **__: pytest.fail("a decoder was reached"))
    with pytest.raises(MediaError, match="not supported"):
        probe.inspect_source(path)
