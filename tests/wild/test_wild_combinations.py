"""Kinds of pictures combined at random. A failure names its seed: KOLBO_WILD_SEED=N runs that one,
KOLBO_WILD_CASES=N runs more."""

import io
import os
from pathlib import Path
from typing import Any

import numpy as np
import pillow_heif
import pytest
from PIL import Image, ImageCms

from kolbo_demo import media
from tests.wild.test_wild_pictures import COLOURS, PROFILES, TEXTS, card, corners, ifd, saved

CASES = int(os.environ.get("KOLBO_WILD_CASES") or 200)
SEED = os.environ.get("KOLBO_WILD_SEED")
SEEDS = [int(SEED)] if SEED else range(CASES)

TURNS = {
    1: None,
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_90,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_270,
}
"""EXIF's orientation, and how a picture lies in a file that has it."""
MODES = {
    "JPEG": ("RGB", "L", "CMYK"),
    "PNG": ("RGB", "RGBA", "P", "L", "LA", "I;16"),
    "WEBP": ("RGB", "RGBA"),
    "TIFF": ("RGB", "RGBA", "L", "P"),
    "AVIF": ("RGB", "RGBA"),
    "HEIF": ("RGB", "RGBA"),
}


def in_mode(image: Image.Image, mode: str) -> Image.Image:
    if mode == "P":
        return image.convert("P", palette=Image.Palette.ADAPTIVE)
    if mode == "I;16":
        return Image.fromarray(np.asarray(image.convert("L"), np.uint16) * 257)
    return image.convert(mode)


@pytest.mark.parametrize("seed", SEEDS)
def test_pictures_of_any_kind_look_like_their_source(tmp_path: Path, seed: int) -> None:
    chance = np.random.default_rng(seed)
    kind = str(chance.choice(list(MODES)))
    mode = str(chance.choice(MODES[kind]))
    turned = int(chance.integers(1, 9))
    width, height = (int(side) * 2 for side in chance.integers(40, 260, 2))
    shown = card(width, height)
    wanted = np.array(COLOURS)
    if grey := mode in ("L", "LA", "I;16"):
        wanted = corners(shown.convert("L"))
    profile = None
    if not grey and mode != "CMYK" and chance.random() < 0.6:
        profile = PROFILES[str(chance.choice(list(PROFILES)))]
        srgb = ImageCms.createProfile("sRGB")
        other = ImageCms.getOpenProfile(io.BytesIO(profile))
        shown = ImageCms.profileToProfile(shown, srgb, other, outputMode="RGB") or shown
    turn = TURNS[turned]
    lying = in_mode(shown.transpose(turn) if turn is not None else shown, mode)
    exif = ifd((0x0112, 3, 1, turned), order="<>"[int(chance.integers(2))])
    path = tmp_path / f"card.{kind.lower()}"
    more: dict[str, Any] = {"icc_profile": profile} if profile else {}
    if kind in ("JPEG", "AVIF"):
        more |= {"quality": 96, "subsampling": "4:4:4"}
    if kind == "HEIF":
        heif = pillow_heif.from_pillow(lying)
        heif.save(path, quality=98, chroma=444, exif=b"Exif\0\0" + exif, **more)
    elif kind == "TIFF":
        lying.save(path, kind, tiffinfo={0x0112: turned}, **more)
    else:
        more |= {"lossless": True} if kind == "WEBP" else {}
        data = saved(lying, kind, exif=b"Exif\0\0" + exif, **more)
        if kind == "PNG" and chance.random() < 0.5:
            data = data[:33] + TEXTS["one megabyte"][0] + data[33:]
        path.write_bytes(data)
    found = media.inspect_source(path)
    assert (found.width, found.height) == (width, height)
    seen = corners(media.upright_image(path))
    assert np.abs(seen - wanted).max() <= 12, (kind, mode, turned, seen)
