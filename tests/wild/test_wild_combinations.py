"""Kinds of pictures combined at random. A failure names its seed: KOLBO_WILD_SEED=N runs that one,
KOLBO_WILD_CASES=N runs more."""

import io
from pathlib import Path
from typing import Any

import numpy as np
import pillow_heif
import pytest
from PIL import Image

from kolbo_demo.media import probe
from tests.wild import cases
from tests.wild.pictures import (
    PROFILES,
    UNTURNED,
    as_lab,
    card,
    chunk,
    corners,
    exif_turned,
    ifd,
    in_profile,
    saved,
    segment,
    tiff_with,
)

KINDS = {
    "jpeg": ("L", "RGB", "CMYK"),
    "png": ("1", "L", "LA", "P", "RGB", "RGBA", "I;16"),
    "webp": ("RGB", "RGBA"),
    "tiff": ("1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "I;16", "LAB"),
    "avif": ("RGB", "RGBA", "L"),
    "heic": ("RGB", "RGBA", "L"),
    "gif": ("P",),
    "bmp": ("1", "L", "P", "RGB"),
}


TWO_LEVELS = [0] * 111 + [255] * 145


def mixture(folder: Path, rng: np.random.Generator) -> tuple[Path, np.ndarray, float]:
    """A file, the colours of its corners, and how far off they may be."""
    kind = str(rng.choice(list(KINDS)))
    mode = str(rng.choice(KINDS[kind]))
    width, height = (int(side) * 16 for side in rng.integers(4, 40, 2))
    upright = card(width, height)
    if mode in ("1", "L", "LA", "I;16"):
        upright = upright.convert("L").convert("RGB")
    turned = int(rng.integers(1, 9)) if kind not in ("gif", "bmp") else 1
    stored = upright.transpose(UNTURNED[turned]) if turned > 1 else upright
    within = 8.0
    more: dict[str, Any] = {}
    if mode in ("RGB", "RGBA", "P") and kind not in ("gif", "bmp") and rng.random() < 0.7:
        more["icc_profile"] = PROFILES[str(rng.choice(["Display P3", "Adobe RGB"]))]
        stored = in_profile(more["icc_profile"], stored)
        stored.info.clear()
    if mode == "1":
        stored = stored.convert("L").point(TWO_LEVELS).convert("1")
        upright = upright.point(TWO_LEVELS * 3)
    elif mode == "I;16":
        stored = Image.fromarray(np.asarray(stored.convert("L")).astype(np.uint16) * 257)
    elif mode == "LAB":
        stored, within = as_lab(stored), 14.0
    elif mode == "P":
        stored = stored.convert("P", palette=Image.Palette.ADAPTIVE)
    else:
        stored = stored.convert(mode)
    if mode in ("LA", "RGBA"):
        stored.putpixel((0, 0), (0,) * (len(mode) - 1) + (0,))
    path = folder / f"mixture.{kind}"
    if kind == "tiff":
        order = ["tiff_lzw", "tiff_adobe_deflate", "packbits", None]
        packed = order[int(rng.integers(4))] if mode != "LAB" else None
        path.write_bytes(tiff_with(stored, {0x0112: (3, turned)}, compression=packed, **more))
        return path, corners(upright), within
    exif = ifd((0x010F, 2, 2**31, 2**31), (0x0112, 3, 1, turned), (0x8769, 4, 1, 8))
    sound = exif_turned(turned)
    match kind:
        case "jpeg":
            if mode != "CMYK":
                more["progressive"] = bool(rng.random() < 0.3)
            data = saved(stored, "JPEG", quality=95, subsampling=0, **more)
            data = data[:2] + segment(0xE1, b"Exif\0\0" + exif) + data[2:] + bytes(99)
        case "png":
            data = saved(stored, "PNG", **more)
            texts = chunk(b"tEXt", b"k\0" + b"x" * int(rng.integers(0, 2**21)))
            data = data[:33] + texts + chunk(b"eXIf", exif) + data[33:]
        case "webp":
            data = saved(
                stored, "WEBP", lossless=bool(rng.random() < 0.5), quality=95, exif=exif, **more
            )
        case "avif":
            data = saved(
                stored, "AVIF", quality=95, subsampling="4:4:4", speed=10, exif=sound, **more
            )
        case "heic":
            out = io.BytesIO()
            pillow_heif.from_pillow(stored).save(out, quality=95, chroma=444, exif=sound, **more)
            data = out.getvalue()
        case _:
            data = saved(stored, kind.upper())
    path.write_bytes(data)
    return path, corners(upright), within


@pytest.mark.parametrize("seed", cases.seeds(200))
def test_pictures_of_any_kind_look_like_their_source(tmp_path: Path, seed: int) -> None:
    path, wanted, within = mixture(tmp_path, np.random.default_rng(seed))
    found = probe.inspect_source(path)
    whole = probe.upright_image(path)
    assert (found.width, found.height) == whole.size
    for image in (whole, probe.upright_image(path, enough=1000)):
        assert np.abs(corners(image) - wanted).max() <= within, corners(image) - wanted
