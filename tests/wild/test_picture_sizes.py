"""Large pictures are scaled down."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from kolbo_demo.media import probe
from tests import samples
from tests.wild.pictures import (
    COLOURS,
    PROFILES,
    card,
    chunk,
    saved,
)


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
        "import resource, sys; from pathlib import Path; from kolbo_demo.media import probe;"
        "from tests.wild.pictures import corners;"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss;"
        "small = probe.upright_image(Path(sys.argv[1]), min_pixels=1920 * 1088);"
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
    source.write_bytes(data[:33] + chunk(b"tEXt", b"parameters\0" + b"a" * 2**20) + data[33:])
    voice = samples.cut_wav(tmp_path / "voice.wav", samples.SPEECH, 1.0)
    out = tmp_path / "out.mp4"
    words = ["generate", "--local", "--source", source, "--audio", voice, "--output", out]
    done = subprocess.run(
        [sys.executable, "-m", "kolbo_demo", *words], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    shown = probe.frame_at(out)
    wanted = probe.upright_image(source)
    edges = np.s_[[20, 20, 128, 235], [20, 230, 20, 235]]
    error = np.subtract(np.asarray(shown)[edges], np.asarray(wanted)[edges], dtype=float)
    assert np.abs(error).max() < 20, error
