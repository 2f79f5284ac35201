"""Pictures as programs, cameras and telephones leave them."""

import io
import struct
import subprocess
import sys
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pillow_heif
import pytest
from PIL import Image, ImageCms, TiffImagePlugin

from kolbo_demo import media
from kolbo_demo.magic import MediaError
from tests import samples

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
    out = io.BytesIO()
    image.save(out, kind, **options)
    return out.getvalue()


def assert_a_card(path: Path, within: float = 6) -> None:
    media.inspect_source(path)
    found = corners(media.upright_image(path))
    assert np.abs(found - COLOURS).max() <= within, found


# Row 10: what programs and cameras write beside the picture


def chunk(name: bytes, body: bytes, crc: int | None = None) -> bytes:
    return struct.pack(">I", len(body)) + name + body + struct.pack(
        ">I", zlib.crc32(name + body) if crc is None else crc
    )  # fmt: skip


def png_with(*chunks: bytes) -> bytes:
    data = saved(card(), "PNG")
    return data[:33] + b"".join(chunks) + data[33:]


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
}  # fmt: skip


@pytest.mark.parametrize("texts", TEXTS)
def test_texts_of_a_png_are_skipped(tmp_path: Path, texts: str) -> None:
    path = tmp_path / "card.png"
    path.write_bytes(png_with(*TEXTS[texts]))
    assert_a_card(path, within=0)


def segment(marker: int, body: bytes) -> bytes:
    return bytes([0xFF, marker]) + struct.pack(">H", len(body) + 2) + body


def ifd(*entries: tuple[int, int, int, int], order: str = "<", tail: bytes = b"") -> bytes:
    head = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(f"{order}I", 8)
    body = struct.pack(f"{order}H", len(entries))
    for tag, kind, count, value in entries:
        value_of = f"{order}Hxx" if kind == 3 else f"{order}I"
        body += struct.pack(f"{order}HHI", tag, kind, count) + struct.pack(value_of, value)
    return head + body + struct.pack(f"{order}I", 0) + tail


TURNED = (0x0112, 3, 1, 6)
EXIFS = {
    "sound": ifd(TURNED),
    "other order": ifd(TURNED, order=">"),
    "a rational of -1 to 0": ifd(TURNED, (0x011A, 10, 1, 38), tail=struct.pack("<ii", -1, 0)),
    "values beyond the end": ifd((0x010F, 2, 2**31, 2**31), TURNED, (0x8769, 4, 1, 2**32 - 1)),
    "unknown types": ifd((0x010E, 99, 7, 1), TURNED, (0xEEEE, 0, 2**32 - 1, 0)),
    "a circle": ifd(TURNED, (0x8769, 4, 1, 8), (0x8825, 4, 1, 8)),
    "more entries than there are": ifd(TURNED)[:8] + b"\xff\xff" + ifd(TURNED)[10:],
}


def jpeg_with(*segments: bytes, **options: object) -> bytes:
    data = saved(card(), "JPEG", quality=95, subsampling=0, **options)
    return data[:2] + b"".join(segments) + data[2:]


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
    assert (media.inspect_source(path).width, media.inspect_source(path).height) == (96, 72)
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


# Row 11: colour profiles

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


def in_profile(target: bytes) -> Image.Image:
    """The card, as a file has it whose profile that is."""
    srgb = ImageCms.createProfile("sRGB")
    other = ImageCms.ImageCmsProfile(io.BytesIO(target))
    found = ImageCms.profileToProfile(card(), srgb, other, outputMode="RGB")
    assert found
    return found


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "P", "transparent P"])
@pytest.mark.parametrize("name", PROFILES)
def test_a_profile_counts_in_every_mode(tmp_path: Path, name: str, mode: str) -> None:
    shown = in_profile(PROFILES[name])
    assert np.abs(corners(shown) - COLOURS).max() > 10, "the test would pass without the profile"
    more: dict[str, Any] = {}
    if mode == "RGBA":
        shown = shown.convert("RGBA")
        shown.putpixel((0, 0), (0, 0, 0, 0))
    elif "P" in mode and mode != "RGB":
        shown = shown.convert("P", palette=Image.Palette.ADAPTIVE)
        more = {"transparency": 255} if "transparent" in mode else {}
    path = tmp_path / "card.png"
    shown.save(path, icc_profile=PROFILES[name], **more)
    assert_a_card(path, within=8 if name == "linear" else 4)


@pytest.mark.parametrize("mode", ["L", "LA", "RGB"])
@pytest.mark.parametrize("gamma", [1.0, 1.8])
def test_a_profile_of_greys_counts(tmp_path: Path, mode: str, gamma: float) -> None:
    level = 128
    light = ((level / 255 + 0.055) / 1.055) ** 2.4
    stored = round(255 * light ** (1 / gamma))
    path = tmp_path / "grey.png"
    Image.new("L", (96, 72), stored).convert(mode).save(path, icc_profile=grey_profile(gamma))
    assert np.abs(corners(media.upright_image(path)) - level).max() <= 3


@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA", "CMYK"])
def test_a_profile_for_other_colours_costs_nothing(tmp_path: Path, mode: str) -> None:
    other = grey_profile(1.0) if mode != "L" else PROFILES["Display P3"]
    path = tmp_path / "card.tif"
    image = card().convert(mode)
    image.save(path, icc_profile=other)
    found = corners(media.upright_image(path))
    assert np.abs(found - corners(image.convert("RGB"))).max() <= 4


# Row 12: pictures of telephones and cameras


@pytest.mark.parametrize("transfer", [16, 18], ids=["PQ", "HLG"])
def test_an_hdr_picture_is_neither_dull_nor_grey(tmp_path: Path, transfer: int) -> None:
    """BT.2020 and 203 cd/m2 for white, as a telephone saves it."""
    rgb = np.asarray(card(), float) / 255
    light = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4) * 0.7
    to2020 = np.array(
        [[0.6274, 0.3293, 0.0433], [0.0691, 0.9195, 0.0114], [0.0164, 0.0880, 0.8956]]
    )
    wide = light @ to2020.T
    if transfer == 16:
        power = (wide * 203 / 10000) ** (2610 / 16384)
        signal = ((3424 / 4096 + 18.8515625 * power) / (1 + 18.6875 * power)) ** 78.84375
    else:
        luminance = (wide @ [0.2627, 0.6780, 0.0593])[..., None]
        scene = wide * 0.203 / (0.203 * luminance) ** (0.2 / 1.2)
        curved = 0.17883277 * np.log(np.maximum(12 * scene - 0.28466892, 1e-9)) + 0.55991073
        signal = np.where(scene <= 1 / 12, np.sqrt(3 * scene), curved)
    picture = Image.fromarray(np.round(signal * 255).astype(np.uint8))
    data = saved(picture, "AVIF", quality=100, subsampling="4:4:4")
    place = data.index(b"colrnclx") + 8
    path = tmp_path / "card.avif"
    path.write_bytes(data[:place] + struct.pack(">HH", 9, transfer) + data[place + 4 :])
    found = corners(media.upright_image(path))
    wanted = 255 * np.clip(0.7 ** (1 / 2.2), 0, 1) * np.array(COLOURS) / 255
    assert np.abs(found - wanted).max() < 30, found
    saturation = (found.max(1) - found.min(1)) / found.max(1)
    assert (saturation > 0.3).all(), found


@pytest.mark.parametrize("turned", [1, 6])
def test_a_heic_is_read_upright(tmp_path: Path, turned: int) -> None:
    picture = card(192, 144)
    stored = picture.transpose(Image.Transpose.ROTATE_90) if turned == 6 else picture
    exif = Image.Exif()
    exif[0x0112] = turned
    path = tmp_path / "IMG_0001.HEIC"
    pillow_heif.from_pillow(stored).save(path, quality=95, exif=exif.tobytes())
    found = media.inspect_source(path)
    assert (found.kind, found.width, found.height) == ("image", 192, 144)
    assert_a_card(path)


def dng(path: Path) -> None:
    """A raw picture with a thumbnail of 160 pixels before the sensor's own."""
    info = TiffImagePlugin.ImageFileDirectory_v2()
    info[0x00FE] = 1
    info[0xC612] = b"\x01\x04\x00\x00"
    info.tagtype[0xC612] = 1
    card(160, 120).save(path, "TIFF", tiffinfo=info)


def nef(path: Path) -> None:
    info = TiffImagePlugin.ImageFileDirectory_v2()
    info[0x00FE] = 1
    info[0x010F] = "NIKON CORPORATION"
    info[0x014A] = 8
    info.tagtype[0x014A] = 4
    card(160, 120).save(path, "TIFF", tiffinfo=info)


def written(data: bytes) -> Callable[[Path], object]:
    return lambda path: path.write_bytes(data + bytes(5000))


REFUSED: dict[str, tuple[Callable[[Path], object], str]] = {
    "a.dng": (dng, "Raw pictures"),
    "a.nef": (nef, "Raw pictures"),
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
    "a.ppm": (written(b"P6\n16 16\n255\n"), "PNM"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_not_taken_is_refused_by_its_name(tmp_path: Path, name: str) -> None:
    make, told = REFUSED[name]
    path = tmp_path / name
    make(path)
    with pytest.raises(MediaError, match=told) as refused:
        media.inspect_source(path)
    assert "choose that" in str(refused.value)


# Row 13: large photographs


@pytest.mark.parametrize(
    ("kind", "width", "height"),
    [("JPEG", 8192, 6144), ("JPEG", 12000, 9000), ("PNG", 8192, 6144), ("WEBP", 8192, 6144)],
)
def test_a_large_photograph_is_scaled_down(
    tmp_path: Path, kind: str, width: int, height: int
) -> None:
    path = tmp_path / f"large.{kind.lower()}"
    card(width, height).save(path, kind, **({"method": 0} if kind == "WEBP" else {}))
    code = (
        "import resource, sys; from pathlib import Path; from kolbo_demo import media, sandbox;"
        "from tests.wild.test_wild_pictures import corners;"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss;"
        "small = media.upright_image(Path(sys.argv[1]), enough=1920 * 1088);"
        "used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before;"
        "print(small.width, small.height, used, *corners(small).ravel())"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, path], capture_output=True, text=True, check=True
    )
    small_width, small_height, kilobytes, *found = map(float, done.stdout.split())
    assert 1920 * 1088 <= small_width * small_height <= 4 * 1920 * 1088
    assert np.abs(np.array(found).reshape(4, 3) - COLOURS).max() <= 6
    assert kilobytes < 8 * width * height / 1024


def test_a_picture_of_every_kind_speaks(tmp_path: Path) -> None:
    """Through the command line: a wide PNG with texts, transparent, with a profile."""
    with Image.open(samples.PORTRAIT) as image:
        small = image.resize((256, 256)).convert("RGBA")
    source = tmp_path / "portrait.png"
    data = saved(small, "PNG", icc_profile=PROFILES["Adobe RGB"])
    source.write_bytes(data[:33] + TEXTS["one megabyte"][0] + data[33:])
    voice = samples.cut_wav(tmp_path / "voice.wav", samples.SPEECH, 1.0)
    out = tmp_path / "out.mp4"
    words = ["generate", "--local", "--source", source, "--audio", voice, "--output", out]
    done = subprocess.run(
        [sys.executable, "-m", "kolbo_demo", *words], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    shown = media.first_frame(out)
    wanted = media.upright_image(source)
    edges = np.s_[[20, 20, 128, 235], [20, 230, 20, 235]]
    error = np.subtract(np.asarray(shown)[edges], np.asarray(wanted)[edges], dtype=float)
    assert np.abs(error).max() < 20, error
