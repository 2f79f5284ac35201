"""Clips in colours that screens do not have: HDR, matrices of ITU-T H.273, transparency."""

import json
import os
import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from av.bitstream import BitStreamFilterContext
from av.video.frame import VideoFrame
from PIL import Image

from kolbo_demo.engine.video_reader import Clip
from kolbo_demo.media.probe import MediaError, frame_at, inspect_source
from tests import samples
from tests.wild.clips import (
    BT709,
    BT2020,
    COLOURS,
    CONSTANT,
    DERIVED,
    HLG,
    ICTCP,
    P3,
    PQ,
    TO_P3,
    WEIGHTS,
    WIDER,
    YCGCO,
    bt709,
    clip,
    constant,
    hlg,
    ictcp,
    light_of,
    mixed,
    patches,
    pq,
    scene_of,
    shown,
    written,
    ycgco,
)

HDR = {"pq": (PQ, pq), "hlg": (HLG, hlg)}


@pytest.mark.parametrize(
    ("codec", "pix_fmt", "full"),
    [
        ("ffv1", "yuv420p10le", False),
        ("ffv1", "yuv422p12le", True),
        ("ffv1", "yuv420p", False),
        ("libx265", "yuv420p10le", False),
        ("libsvtav1", "yuv420p10le", False),
        ("prores_ks", "yuv422p10le", False),
    ],
)
@pytest.mark.parametrize("curve", HDR)
def test_hdr_looks_like_the_same_picture_in_sdr(curve, codec, pix_fmt, full, tmp_path):
    transfer, signal = HDR[curve]
    planes = mixed(signal(light_of(patches(COLOURS)) @ WIDER.T), 0.2627, 0.0593)
    suffix = "mov" if codec == "prores_ks" else "mkv"
    path = clip(tmp_path / f"c.{suffix}", planes, 9, transfer, BT2020, codec, pix_fmt, full)
    assert np.abs(shown(path) - COLOURS).mean() < 4
    assert np.abs(np.asarray(frame_at(path))[32, 8::16] - shown(path)).max() <= 1


@pytest.mark.parametrize("curve", HDR)
def test_highlights_of_hdr_keep_their_order_and_hue(curve, tmp_path):
    transfer, signal = HDR[curve]
    lights = np.array(
        [(1, 1, 1), (2, 2, 2), (4, 4, 4), (3, 1.2, 0.5), (0.3, 0.4, 3), (0.25, 0.25, 0.25)]
    )
    planes = mixed(signal(patches(lights) @ WIDER.T), 0.2627, 0.0593)
    seen = shown(clip(tmp_path / "c.mkv", planes, 9, transfer, BT2020))
    white, brighter, brightest, orange, blue, grey = seen
    assert 240 <= white.min() <= brighter.min() <= brightest.min()
    assert np.ptp(seen[[0, 1, 2, 5]], axis=1).max() <= 2
    assert grey.mean() == pytest.approx(255 * 0.25 ** (1 / 2.4), abs=4)
    for colour, meant in ((orange, lights[3]), (blue, lights[4])):
        ratio = light_of(colour) / light_of(colour).max()
        assert ratio == pytest.approx(meant / meant.max(), abs=0.06)


@pytest.mark.parametrize(("primaries", "matrix"), [(BT709, BT709), (2, 2), (BT709, 2), (BT2020, 2)])
def test_hdr_with_missing_or_unusual_tags(primaries, matrix, tmp_path):
    wide = primaries != BT709
    light = light_of(patches(COLOURS))
    weights = (0.2126, 0.0722) if matrix == BT709 else (0.2627, 0.0593)
    planes = mixed(pq(light @ WIDER.T if wide else light), *weights)
    path = clip(tmp_path / "c.mkv", planes, matrix, PQ, primaries)
    assert np.abs(shown(path) - COLOURS).mean() < 4


@pytest.mark.parametrize("matrix", [0, 1, 3, 4, 5, 6, 7, YCGCO, DERIVED, 18, 99])
def test_matrices(matrix, tmp_path):
    """Of small clips; those that nothing is known of are BT.601, as untagged ones are."""
    signal = patches(COLOURS) / 255
    weights = WEIGHTS[{DERIVED: 1, BT709: 1, 4: 4, 7: 7}.get(matrix, 5)]
    planes = ycgco(signal) if matrix == YCGCO else mixed(signal, *weights)
    path = clip(tmp_path / "c.mp4", planes, matrix, codec="libx264", pix_fmt="yuv420p")
    assert np.abs(shown(path) - COLOURS).mean() < 4
    assert inspect_source(path).kind == "video"


@pytest.mark.parametrize(("scale", "weights"), [(1, WEIGHTS[5]), (12, WEIGHTS[1])])
def test_untagged_clips_are_bt709_from_720_rows_on(scale, weights, tmp_path):
    planes = mixed(patches(COLOURS).repeat(scale, 0) / 255, *weights)
    path = clip(tmp_path / "c.mkv", planes, 2, 2, 2, pix_fmt="yuv420p")
    assert np.abs(shown(path) - COLOURS).mean() < 4


@pytest.mark.parametrize(("primaries", "wide"), [(P3, TO_P3), (BT2020, WIDER)])
def test_wide_gamuts(primaries, wide, tmp_path):
    planes = mixed(bt709(scene_of(patches(COLOURS)) @ wide.T), *WEIGHTS[1])
    path = clip(tmp_path / "c.mkv", planes, 1, 1, primaries, pix_fmt="yuv420p")
    assert np.abs(shown(path) - COLOURS).mean() < 3


def test_constant_luminance(tmp_path):
    planes = constant(scene_of(patches(COLOURS)) @ WIDER.T)
    path = clip(tmp_path / "c.mkv", planes, CONSTANT, 14, BT2020)
    assert np.abs(shown(path) - COLOURS).mean() < 4


@pytest.mark.parametrize("transfer", [PQ, HLG])
def test_ictcp(transfer, tmp_path):
    planes = ictcp(light_of(patches(COLOURS)) @ WIDER.T, transfer)
    path = clip(tmp_path / "c.mkv", planes, ICTCP, transfer, BT2020)
    assert np.abs(shown(path) - COLOURS).mean() < 4


@pytest.mark.parametrize("tag", [0, 3, 4, 5, 6, 7, 8, 10, 13, 17, 22, 99])
def test_other_primaries_and_transfers_change_nothing(tag, tmp_path):
    planes = mixed(patches(COLOURS) / 255, *WEIGHTS[1])
    path = clip(tmp_path / "c.mp4", planes, 1, tag, tag, "libx264", "yuv420p")
    assert np.abs(shown(path) - COLOURS).mean() < 4


@pytest.mark.parametrize("matrix", [11, 15, 16, 17])
def test_matrices_that_are_refused(matrix, tmp_path):
    planes = mixed(patches(COLOURS) / 255, *WEIGHTS[1])
    path = clip(tmp_path / "c.mp4", planes, matrix, codec="libx264", pix_fmt="yuv420p")
    for look in (inspect_source, Clip, frame_at):
        with pytest.raises(MediaError, match=r"colours are coded in a way .* export it in SDR"):
            look(path)


def test_dolby_vision_without_a_picture_for_others(tmp_path):
    planes = mixed(patches(COLOURS) / 255, *WEIGHTS[1])
    path = clip(tmp_path / "c.mp4", planes, 2, 2, 2, "libx265", "yuv420p10le")
    content = path.read_bytes()
    assert content.count(b"hev1") == 1
    path.write_bytes(content.replace(b"hev1", b"dvh1"))
    with pytest.raises(MediaError, match="Dolby Vision"):
        inspect_source(path)


def test_tags_that_change_on_the_way(tmp_path):
    """Each frame as its own tags say."""
    signal = patches(COLOURS) / 255
    parts = [
        clip(tmp_path / "a.h264", ycgco(signal), YCGCO, codec="libx264", pix_fmt="yuv420p"),
        clip(
            tmp_path / "b.h264",
            mixed(pq(light_of(patches(COLOURS)) @ WIDER.T), 0.2627, 0.0593),
            9, PQ, BT2020, "libx264", "yuv420p10le",
        ),
        clip(
            tmp_path / "c.h264", mixed(signal, *WEIGHTS[1]), 1, codec="libx264", pix_fmt="yuv420p"
        ),
    ]  # fmt: skip
    path = joined(tmp_path / "c.ts", parts)
    with Clip(path) as seen:
        frames = [frame[32, 8::16].astype(float) for frame in seen.frames(9)]
    assert len(frames) == 9
    for frame in frames:
        assert np.abs(frame - COLOURS).mean() < 4


def test_tags_that_change_to_what_is_refused(tmp_path):
    planes = mixed(patches(COLOURS) / 255, *WEIGHTS[1])
    plain = clip(tmp_path / "a.h264", planes, 1, codec="libx264", pix_fmt="yuv420p")
    with av.open(str(plain), format="h264") as given:
        tags = BitStreamFilterContext(
            "h264_metadata=matrix_coefficients=15", given.streams.video[0]
        )
        packets = [kept for packet in given.demux(video=0) for kept in tags.filter(packet)]
    other = tmp_path / "b.h264"
    other.write_bytes(b"".join(bytes(packet) for packet in packets))
    path = joined(tmp_path / "c.ts", [plain, other])
    with Clip(path) as seen, pytest.raises(MediaError, match="colours are coded"):
        list(seen.frames(6))


def joined(path: Path, parts: list[Path]) -> Path:
    """Raw streams of H.264, one after another."""
    raw = path.with_suffix(".h264")
    raw.write_bytes(b"".join(part.read_bytes() for part in parts))
    with av.open(str(raw), format="h264") as given, av.open(str(path), "w") as out:
        stream = out.add_stream_from_template(given.streams.video[0])
        for number, packet in enumerate(p for p in given.demux(video=0) if p.size):
            packet.pts = packet.dts = number * 3600
            packet.time_base, packet.stream = Fraction(1, 90000), stream
            out.mux(packet)
    return path


# Transparency


def cut_out(width: int = 128) -> np.ndarray:
    """RGBA: left opaque, right transparent above and half so below, with colours behind."""
    rgba = np.full((width, width, 4), (200, 60, 40, 255), np.uint8)
    half = width // 2
    rgba[:half, half:, 3], rgba[half:, half:, 3] = 0, 128
    return rgba


ALPHA = {
    "prores_ks": ("mov", "yuva444p10le", {"profile": "4444"}),
    "libvpx": ("webm", "yuva420p", {"auto-alt-ref": "0", "b": "1000000"}),
    "libvpx-vp9": ("webm", "yuva420p", {"auto-alt-ref": "0", "crf": "10", "cpu-used": "8"}),
    "png": ("mov", "rgba", {}),
    "ffv1": ("mkv", "yuva444p10le", {}),
}


def alpha_clip(path: Path, codec: str, rgba: np.ndarray, count: int = 3) -> Path:
    suffix, pix_fmt, options = ALPHA[codec]
    frames = [VideoFrame.from_ndarray(rgba, "rgba").reformat(format=pix_fmt) for _ in range(count)]
    return written(path.with_suffix(f".{suffix}"), frames, codec, options=options)


@pytest.mark.parametrize("codec", ALPHA)
def test_transparent_parts_of_clips_are_white(codec, tmp_path):
    path = alpha_clip(tmp_path / "c", codec, cut_out())
    with Clip(path) as seen:
        frames = list(seen.frames(5))  # there and back
    for frame in (*frames, np.asarray(frame_at(path))):
        (opaque, clear), (_, half) = frame[32::64, 32::64].astype(int)
        assert np.abs(opaque - (200, 60, 40)).max() < 6
        assert clear.min() >= 253
        assert np.abs(half - (227, 157, 147)).max() < 6


# The whole way


def portrait(pixels: int = 256) -> np.ndarray:
    return np.asarray(Image.open(samples.PORTRAIT).convert("RGB").resize((pixels, pixels)))


def generated(source: Path, tmp_path: Path) -> tuple[int, str, str, Path]:
    """Exit code, standard output and error, and the video, of the command line."""
    voice = samples.cut_wav(tmp_path / "voice.wav", samples.SPEECH, 0.6)
    out = tmp_path / "out.mp4"
    words = ("generate", "--local", "--source", source, "--audio", voice, "--output", out, "--json")
    process = subprocess.run(
        [sys.executable, "-m", "kolbo_demo", *map(str, words)],
        capture_output=True,
        text=True,
        env=os.environ,
        timeout=120,
    )
    return process.returncode, process.stdout, process.stderr, out


def test_an_hdr_clip_speaks_and_its_tone_mapping_is_told(tmp_path):
    rgb = portrait()
    planes = mixed(hlg(light_of(rgb.astype(float)) @ WIDER.T), 0.2627, 0.0593)
    source = clip(tmp_path / "c.mp4", planes, 9, HLG, BT2020, "libx265", "yuv420p10le", count=15)
    code, stdout, stderr, out = generated(source, tmp_path)
    assert code == 0, stderr
    assert json.loads(stdout)["result"]["notes"] == ["HDR was tone-mapped to SDR"]
    assert "HDR was tone-mapped to SDR.\n" in stderr
    with Clip(out) as seen:
        frame = next(seen.frames(1)).astype(int)
    assert np.abs(frame - rgb)[:100].mean() < 6  # above the mouth


def test_a_transparent_clip_speaks_on_white(tmp_path):
    alpha = np.full((256, 256, 1), 255, np.uint8)
    alpha[:, :30] = 0
    rgba = np.concatenate([portrait(), alpha], -1)
    source = alpha_clip(tmp_path / "c", "libvpx-vp9", rgba, 15)
    code, stdout, stderr, out = generated(source, tmp_path)
    assert code == 0, stderr
    assert json.loads(stdout)["result"]["notes"] == ["transparent parts were laid on white"]
    with Clip(out) as seen:
        assert next(seen.frames(1))[:, :24].mean() > 250


def test_unreadable_colours_are_told_before_anything_is_rendered(tmp_path):
    planes = mixed(patches(COLOURS) / 255, *WEIGHTS[1])
    source = clip(tmp_path / "c.mp4", planes, 15, codec="libx264", pix_fmt="yuv420p", count=15)
    code, _, stderr, out = generated(source, tmp_path)
    assert code == 2
    assert "IPT-C2" in stderr
    assert "Traceback" not in stderr
    assert not out.exists()
