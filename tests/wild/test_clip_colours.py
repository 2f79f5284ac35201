"""Clips in colours that screens do not have: HDR, matrices of ITU-T H.273, transparency.

Signals are made by the forward equations of ITU-R BT.2020 and BT.2100 from colours of BT.709, which
are to come out again.
"""

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
from av.video.stream import VideoStream
from PIL import Image

from kolbo_demo.engine.video_reader import Clip
from kolbo_demo.media.probe import MediaError, frame_at, inspect_source
from tests import samples

BT709, BT2020, PQ, HLG = 1, 9, 16, 18
YCGCO, CONSTANT, DERIVED, ICTCP = 8, 10, 12, 14
WIDER = np.array([[0.6274, 0.3293, 0.0433], [0.0691, 0.9195, 0.0114], [0.0164, 0.0880, 0.8956]])
"""BT.709's light in BT.2020's (ITU-R BT.2087)."""
CONES = np.array([[1688, 2146, 262], [683, 2951, 462], [99, 309, 3688]]) / 4096
WEIGHTS = {1: (0.2126, 0.0722), 4: (0.30, 0.11), 5: (0.299, 0.114), 7: (0.212, 0.087)}
WHITE = 203
"""cd/m2 (ITU-R BT.2408)."""
COLOURS = np.array(
    [(224, 172, 140), (141, 85, 60), (60, 38, 30), (40, 60, 150), (50, 130, 60), (128, 128, 128)]
)
"""Skin first."""


def pq(light: np.ndarray) -> np.ndarray:
    """The signal for so many times diffuse white."""
    y = np.clip(light * WHITE / 10000, 0, 1) ** (2610 / 16384)
    return ((3424 + 2413 * 32 * y) / (4096 + 2392 * 32 * y)) ** (2523 / 32)


def hlg(light: np.ndarray) -> np.ndarray:
    """The signal with which a display of 1000 cd/m2 shows light of BT.2020."""
    return hlg_of(scene(light))


def scene(light: np.ndarray) -> np.ndarray:
    shown = light * WHITE / 1000
    luminance = (shown @ [0.2627, 0.6780, 0.0593])[..., None]
    return shown * np.maximum(luminance, 1e-9) ** (1 / 1.2 - 1)


def hlg_of(light: np.ndarray) -> np.ndarray:
    bright = 0.17883277 * np.log(np.maximum(12 * light - 0.28466892, 1e-9)) + 0.55991073
    return np.where(light <= 1 / 12, np.sqrt(3 * np.maximum(light, 0)), bright)


def bt709(light: np.ndarray) -> np.ndarray:
    return np.where(light < 0.018, 4.5 * light, 1.099 * np.maximum(light, 0) ** 0.45 - 0.099)


def mixed(signal: np.ndarray, red: float, blue: float) -> np.ndarray:
    """Y, Cb and Cr of a signal."""
    y = signal @ [red, 1 - red - blue, blue]
    cb, cr = (signal[..., 2] - y) / (2 - 2 * blue), (signal[..., 0] - y) / (2 - 2 * red)
    return np.stack([y, cb, cr], -1)


def ycgco(signal: np.ndarray) -> np.ndarray:
    return signal @ np.array([[0.25, 0.5, 0.25], [-0.25, 0.5, -0.25], [0.5, 0, -0.5]]).T


def ictcp(light: np.ndarray, transfer: int) -> np.ndarray:
    if transfer == PQ:
        cones = pq(light @ CONES.T)
        colour = [[6610, -13613, 7003], [17933, -17390, -543]]
    else:
        cones = hlg_of(scene(light) @ CONES.T)
        colour = [[3625, -7465, 3840], [9500, -9212, -288]]
    return cones @ (np.array([[2048, 2048, 0], *colour]) / 4096).T


def constant(light: np.ndarray) -> np.ndarray:
    """Luma of light, not of signals (ITU-R BT.2020, table 4)."""
    y = bt709(light @ [0.2627, 0.6780, 0.0593])
    cb, cr = bt709(light[..., 2]) - y, bt709(light[..., 0]) - y
    cb = np.where(cb < 0, cb / 1.9404, cb / 1.5816)
    cr = np.where(cr < 0, cr / 1.7184, cr / 0.9936)
    return np.stack([y, cb, cr], -1)


def patches(colours: np.ndarray) -> np.ndarray:
    return np.repeat(np.repeat(colours[None], 64, 0), 16, 1).astype(float)


def light_of(rgb: np.ndarray) -> np.ndarray:
    """Of a screen (ITU-R BT.1886)."""
    return (rgb / 255) ** 2.4


def scene_of(rgb: np.ndarray) -> np.ndarray:
    signal = rgb / 255
    return np.where(signal < 0.081, signal / 4.5, ((signal + 0.099) / 1.099) ** (1 / 0.45))


def clip(
    path: Path,
    planes: np.ndarray,
    matrix: int,
    transfer: int = BT709,
    primaries: int = BT709,
    codec: str = "ffv1",
    pix_fmt: str = "yuv444p16le",
    full: bool = False,
    count: int = 3,
) -> Path:
    """Frames of Y 0-1 and two colours from -0.5 to 0.5."""
    scale, offset = ([65280] * 3, [0, 32768, 32768]) if full else (
        np.array([219, 224, 224]) * 256, np.array([16, 128, 128]) * 256
    )  # fmt: skip
    deep = np.clip(np.round(planes * scale + offset), 0, 65535).astype(np.uint16)
    frame = VideoFrame.from_ndarray(deep, "yuv444p16le")
    frame.color_range = 2 if full else 1
    frame = frame.reformat(format=pix_fmt, dst_color_range=frame.color_range)
    return written(path, [frame] * count, codec, matrix, transfer, primaries, 2 if full else 1)


def written(
    path: Path,
    frames: list[VideoFrame],
    codec: str,
    matrix: int = 2,
    transfer: int = 2,
    primaries: int = 2,
    full: int = 0,
    options: dict[str, str] | None = None,
) -> Path:
    with av.open(str(path), "w") as out:
        stream = out.add_stream(codec, rate=25, options=options)
        assert isinstance(stream, VideoStream)
        stream.width, stream.height = frames[0].width, frames[0].height
        stream.pix_fmt = frames[0].format.name
        context = stream.codec_context
        context.colorspace, context.color_primaries, context.color_trc = matrix, primaries, transfer
        context.color_range = full
        for number, frame in enumerate(frames):
            frame.colorspace, frame.color_primaries, frame.color_trc = matrix, primaries, transfer
            frame.pts, frame.time_base = number, Fraction(1, 25)
            out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
    return path


def shown(path: Path) -> np.ndarray:
    """The second frame's patches, (n, 3)."""
    with Clip(path) as seen:
        return list(seen.frames(3))[1][32, 8::16].astype(float)


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
