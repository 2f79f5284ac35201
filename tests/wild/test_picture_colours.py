"""Colours of pictures are shown as browsers show them."""

import struct
from pathlib import Path
from typing import Any

import numpy as np
import pillow_heif
import pytest
from PIL import Image, ImageCms

from kolbo_demo.media import probe
from tests.wild.pictures import (
    COLOURS,
    P3,
    PROFILES,
    assert_a_card,
    card,
    chunk,
    corners,
    grey_profile,
    in_profile,
    matrix_profile,
    png_with,
    profile,
    saved,
)


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
    assert np.abs(corners(probe.upright_image(path)) - level).max() <= 3


@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA", "CMYK"])
def test_a_profile_for_other_colours_costs_nothing(tmp_path: Path, mode: str) -> None:
    other = grey_profile(1.0) if mode != "L" else PROFILES["Display P3"]
    path = tmp_path / "card.tif"
    image = card().convert(mode)
    image.save(path, icc_profile=other)
    found = corners(probe.upright_image(path))
    assert np.abs(found - corners(image.convert("RGB"))).max() <= 4


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "P", "L"])
def test_gamma_and_primaries_of_a_png_count(tmp_path: Path, mode: str) -> None:
    """As in browsers."""
    level = 128
    light = ((level / 255 + 0.055) / 1.055) ** 2.4
    grey = Image.new("L", (96, 72), round(255 * light ** (1 / 1.5)))
    stored = grey if mode == "L" else in_profile(matrix_profile(P3, 1.5))
    if mode != "L":
        stored = stored.convert(mode, palette=Image.Palette.ADAPTIVE)
    points = (0.3127, 0.3290, *np.ravel(P3))
    chrm = struct.pack(">8I", *(round(value * 100_000) for value in points))
    data = saved(stored, "PNG")
    told = [chunk(b"gAMA", struct.pack(">I", round(100_000 / 1.5)))]
    if mode != "L":
        told += [chunk(b"cHRM", chrm)]
    path = tmp_path / "card.png"
    path.write_bytes(data[:33] + b"".join(told) + data[33:])
    found = corners(probe.upright_image(path))
    assert np.abs(found - (level if mode == "L" else COLOURS)).max() <= 5, found
    path.write_bytes(data[:33] + b"".join([*told, chunk(b"sRGB", b"\0")]) + data[33:])
    assert np.abs(corners(probe.upright_image(path)) - corners(stored)).max() <= 1


NONSENSE = {
    "zeros": (45455, bytes(32)),
    "one point": (100_000, struct.pack(">8I", *[33333] * 8)),
    "infinite": (45455, b"\xff" * 32),
    "no gamma": (0, bytes(32)),
    "vast gamma": (2**32 - 1, struct.pack(">8I", *[33333] * 8)),
}


@pytest.mark.parametrize("told", NONSENSE)
def test_nonsense_about_colours_costs_no_picture(tmp_path: Path, told: str) -> None:
    gamma, points = NONSENSE[told]
    path = tmp_path / "card.png"
    path.write_bytes(png_with(chunk(b"gAMA", struct.pack(">I", gamma)), chunk(b"cHRM", points)))
    assert_a_card(path, within=1)


@pytest.mark.parametrize("before", [0, 2**20], ids=["", "after a megabyte of text"])
@pytest.mark.parametrize("transfer", [13, 4])
def test_numbers_for_colours_of_a_png_count(tmp_path: Path, transfer: int, before: int) -> None:
    """cICP, which stands above a profile."""
    image = in_profile(matrix_profile(P3, 2.2))
    data = saved(image, "PNG", icc_profile=grey_profile(1.0))
    text, told = chunk(b"tEXt", b"k\0" + b"x" * before), chunk(b"cICP", bytes([12, transfer, 0, 1]))
    path = tmp_path / "card.png"
    path.write_bytes(data[:33] + text + told + data[33:])
    assert_a_card(path, within=5)


@pytest.mark.parametrize("kind", ["avif", "heic"])
def test_wide_colours_of_telephones_count(tmp_path: Path, kind: str) -> None:
    """Display P3, once as a profile and once by its numbers."""
    image = in_profile(PROFILES["Display P3"], card(192, 144))
    path = tmp_path / f"card.{kind}"
    told: list[dict[str, Any]] = [{"icc_profile": PROFILES["Display P3"]}, {}]
    for more in told:
        image.info.clear()
        if kind == "avif":
            image.save(path, quality=95, subsampling="4:4:4", **more)
        else:
            pillow_heif.from_pillow(image).save(path, quality=95, chroma=444, **more)
        if not more:
            data = path.read_bytes()
            place = data.index(b"colrnclx") + 8
            path.write_bytes(data[:place] + struct.pack(">HH", 12, 13) + data[place + 4 :])
        assert_a_card(path)


def test_a_profile_for_print_counts(tmp_path: Path) -> None:
    """One whose inks print otherwise than Pillow guesses."""
    path = tmp_path / "card.tif"
    image = Image.new("CMYK", (96, 72), (0, 255, 0, 0))
    image.save(path, icc_profile=ink_profile())
    found = corners(probe.upright_image(path))
    assert np.abs(found - (200, 60, 50)).max() <= 12, found


def ink_profile() -> bytes:
    """Magenta prints as the red of the card: a table of 2 points for each of 4 inks."""
    red = (46, 54, 38)
    lab = bytes([round(red[0] * 2.55), red[1] + 128, red[2] + 128])
    white, black = bytes([255, 128, 128]), bytes([0, 128, 128])
    inks = ((n >> 2 & 1, n & 1) for n in range(16))  # magenta and black of each point
    points = b"".join(black if k else lab if m else white for m, k in inks)
    line = bytes(range(256))
    unit = struct.pack(">9i", *(65536 * (n % 4 == 0) for n in range(9)))
    table = b"mft1" + bytes(4) + bytes([4, 3, 2, 0]) + unit
    table += line * 4 + points + line * 3
    data = bytearray(profile(b"CMYK", [(b"A2B0", table)]))
    data[12:16], data[20:24] = b"prtr", b"Lab "
    return bytes(data)


def test_colours_of_lab_are_shown(tmp_path: Path) -> None:
    lab = ImageCms.createProfile("LAB")
    stored = ImageCms.profileToProfile(
        card(), ImageCms.createProfile("sRGB"), lab, outputMode="LAB"
    )
    assert stored
    path = tmp_path / "card.tif"
    path.write_bytes(saved(stored, "TIFF"))
    assert_a_card(path, within=12)


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
    found = corners(probe.upright_image(path))
    wanted = 255 * np.clip(0.7 ** (1 / 2.2), 0, 1) * np.array(COLOURS) / 255
    assert np.abs(found - wanted).max() < 30, found
    saturation = (found.max(1) - found.min(1)) / found.max(1)
    assert (saturation > 0.3).all(), found
