"""Watermark and metadata."""

from pathlib import Path

import av
import numpy as np
import pytest

from kolbo_demo.engine.audio_io import load_voice
from kolbo_demo.engine.video_reader import Clip
from kolbo_demo.engine.watermark import Watermark, add_watermark, tag_metadata
from kolbo_demo.media.probe import MediaError
from tests import samples


def luminance(level: float) -> float:
    """Relative luminance of a grey level, as WCAG 2.2 defines it."""
    share = level / 255
    return share / 12.92 if share <= 0.04045 else ((share + 0.055) / 1.055) ** 2.4


@pytest.mark.parametrize("size", [(64, 48), (256, 256), (1080, 1920), (1920, 1080)])
@pytest.mark.parametrize("level", [0, 128, 255])
def test_contrast_on_any_background(size: tuple[int, int], level: int) -> None:
    width, height = size
    plain = np.full((height, width, 3), level, np.uint8)
    marked = Watermark(width, height)(plain)
    assert (plain == level).all()
    changed = np.argwhere((marked != plain).any(axis=2))
    top, left = changed.min(axis=0)
    assert top > height / 2
    assert left > 0
    assert changed.max(axis=0)[0] < height
    corner = marked[top:, left:].astype(float).mean(axis=2)
    letters, plate = np.percentile(corner, 99.5), np.median(corner)
    contrast = (luminance(letters) + 0.05) / (luminance(plate) + 0.05)
    assert contrast > (4.5 if min(size) > 100 else 3)


def test_add_watermark_changes_the_plate_only(tmp_path: Path) -> None:
    plain = samples.video(tmp_path / "plain.mp4", width=320, height=240, sound=0.48)
    marked = tmp_path / "marked.mp4"
    add_watermark(plain, marked)
    with Clip(plain) as one, Clip(marked) as two:
        assert (two.frame_count, two.fps) == (one.frame_count, one.fps)
        for before, after in zip(one.frames(), two.frames(), strict=True):
            upper = (before[:180].astype(int), after[:180].astype(int))
            assert np.abs(upper[0] - upper[1]).mean() < 3
            assert np.abs(Watermark(320, 240)(before).astype(int) - after).mean() < 3
    lengths = [len(load_voice(path)) for path in (plain, marked)]
    assert lengths[1] == pytest.approx(lengths[0], abs=1700)
    with av.open(str(marked)) as file:
        assert "AI-generated" in file.metadata["comment"]


def test_tag_metadata_copies_streams(tmp_path: Path) -> None:
    plain = samples.video(tmp_path / "plain.mp4", sound=0.48)
    stamped = tmp_path / "stamped.mp4"
    tag_metadata(plain, stamped)
    packets = []
    for path in (plain, stamped):
        with av.open(str(path)) as file:
            packets.append([bytes(packet) for packet in file.demux() if packet.size])
            comment = file.metadata.get("comment", "")
    assert packets[0] == packets[1]
    assert "AI-generated" in comment


def test_invalid_video_leaves_no_file(tmp_path: Path) -> None:
    fake = tmp_path / "a.mp4"
    fake.write_bytes(b"\0\0\0\x18ftypmp42" + b"\xff" * 400)
    with pytest.raises(MediaError):
        add_watermark(fake, tmp_path / "out.mp4")
    assert [path.name for path in tmp_path.iterdir()] == ["a.mp4"]
