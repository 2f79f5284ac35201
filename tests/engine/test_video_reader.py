"""Clips: frame times, positions, orientation, colours, and damaged files."""

import subprocess
import sys
import time
from fractions import Fraction
from itertools import product
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from kolbo_demo.engine import video_reader
from kolbo_demo.engine.video_reader import Clip
from kolbo_demo.media import demux
from kolbo_demo.media.probe import MediaError, frame_at
from tests import samples
from tests.engine.videos import frame_numbers, psnr, write_video

# Clips: time


@pytest.mark.parametrize("suffix", ["mp4", "mkv", "webm", "avi", "ts"])
@pytest.mark.parametrize("fps", ["24000/1001", "25", "30000/1001", "50", "60000/1001", "60"])
def test_frame_rate_is_preserved(tmp_path, suffix, fps):
    codec = {"webm": "libvpx", "avi": "mpeg4"}.get(suffix, "libx264")
    options = {"bf": "2"} if codec == "libx264" else None
    rate = Fraction(fps)
    path = samples.video(tmp_path / f"c.{suffix}", 40, rate, codec=codec, options=options)
    with Clip(path) as clip:
        assert clip.fps == rate
        assert clip.frame_count == 40
        assert clip.duration == pytest.approx(float(40 / rate))
        assert [samples.number_on(frame) for frame in clip.frames()] == list(range(40))


def test_uncommon_rates_are_preserved(tmp_path):
    with Clip(samples.video(tmp_path / "c.mp4", 30, Fraction(22131, 1000))) as clip:
        assert float(clip.fps) == pytest.approx(22.131, abs=0.001)
        assert clip.frame_count == 30


def test_very_low_and_high_rates_are_limited(tmp_path):
    with Clip(samples.video(tmp_path / "slow.mp4", 3, 5)) as clip:
        assert (clip.fps, clip.frame_count, clip.duration) == (15, 9, pytest.approx(0.6))
        seen = [samples.number_on(frame) for frame in clip.frames()]
        assert seen == [0, 0, 1, 1, 1, 2, 2, 2, 2]  # the nearest in time
    with Clip(samples.video(tmp_path / "fast.mp4", 48, 240)) as clip:
        assert (clip.fps, clip.frame_count) == (120, 24)


def test_variable_rate_becomes_constant(tmp_path):
    """A camera's stutter: even steps, then a long one, then uneven ones."""
    steps = [1 / 30] * 20 + [0.4] + [1 / 30] * 10 + [0.07, 0.02] * 10 + [1 / 30] * 20
    times = np.concatenate([[0.0], np.cumsum(steps)])
    path = samples.video(tmp_path / "c.mp4", 1, 30, times=times.tolist())
    with Clip(path) as clip:
        assert clip.fps == 30
        seen = [samples.number_on(frame) for frame in clip.frames()]
        grid = np.arange(clip.frame_count) / 30
        assert clip.duration == pytest.approx(times[-1] + 1 / 30, abs=0.02)
    assert len(seen) == len(grid)
    away = np.abs(times[seen] - grid)
    nearest = np.abs(times[None, :] - grid[:, None]).min(1)
    assert np.allclose(away, nearest, atol=1e-3)


def test_long_variable_rate_clip_does_not_drift(tmp_path):
    rng = np.random.default_rng(5)
    times = np.cumsum(rng.choice([0.033, 0.034, 0.050], 900, p=[0.6, 0.3, 0.1])) - 0.033
    times[0] = 0
    path = samples.video(tmp_path / "c.mp4", width=64, height=48, times=times.tolist())
    with Clip(path) as clip:
        assert clip.duration == pytest.approx(times[-1], abs=0.06)
        last = [samples.number_on(frame) for frame in clip.frames()][-1]
    assert last == 899


def test_late_start_is_skipped(tmp_path):
    times = [7.5 + number / 25 for number in range(10)]
    assert frame_numbers(samples.video(tmp_path / "c.mkv", times=times)) == list(range(10))
    assert frame_numbers(samples.video(tmp_path / "c.ts", times=times)) == list(range(10))


def test_clip_of_one_frame(tmp_path):
    assert frame_numbers(samples.video(tmp_path / "c.mp4", 1), 5) == [0] * 5


# Clips: back and forth


def bounce(last: int, count: int) -> list[int]:
    period = list(range(last + 1)) + list(range(last - 1, 0, -1))
    return [period[place % len(period)] for place in range(count)]


@pytest.mark.parametrize("gop", [1, 7, 250])
@pytest.mark.parametrize("held", [1, 100_000, 10**9])
def test_short_clip_plays_back_and_forth(tmp_path, monkeypatch, gop, held):
    monkeypatch.setattr(video_reader, "REVERSE_BUFFER_BYTES", held)
    options = {"g": str(gop), "bf": "2"}
    path = samples.video(tmp_path / "c.mp4", 23, options=options)
    assert frame_numbers(path, 100) == bounce(22, 100)


@pytest.mark.parametrize("suffix", ["mkv", "avi", "ts", "mpg"])
def test_back_and_forth_in_other_containers(tmp_path, monkeypatch, suffix):
    monkeypatch.setattr(video_reader, "REVERSE_BUFFER_BYTES", 100_000)
    codec = {"avi": "mpeg4", "mpg": "mpeg1video"}.get(suffix, "libx264")
    path = samples.video(tmp_path / f"c.{suffix}", 23, codec=codec)
    with Clip(path) as clip:
        length = clip.frame_count
    assert length in (22, 23)  # .mpg does not tell how long its last frame is
    assert frame_numbers(path, 70) == bounce(length - 1, 70)


def test_long_clip_is_cut(tmp_path):
    path = samples.video(tmp_path / "c.mp4", 20)
    assert frame_numbers(path, 7) == list(range(7))
    assert frame_numbers(path, 0) == []


@pytest.mark.parametrize("suffix", ["mp4", "mkv", "avi", "ts", "mpg"])
def test_frames_from_any_position(tmp_path, monkeypatch, suffix):
    monkeypatch.setattr(video_reader, "REVERSE_BUFFER_BYTES", 100_000)
    codec = {"avi": "mpeg4", "mpg": "mpeg1video"}.get(suffix, "libx264")
    options = {"g": "7", "bf": "2"} if codec == "libx264" else None
    path = samples.video(tmp_path / f"c.{suffix}", 23, codec=codec, options=options)
    with Clip(path) as clip:
        shown = [samples.number_on(frame) for frame in clip.frames(70)]
        assert [clip.source_frame(place) for place in range(70)] == shown
        for first in (0, 1, 6, 7, 20, 22, 23, 30, 43, 44, 45, 60):
            part = clip.frames(70 - first, first)
            assert [samples.number_on(frame) for frame in part] == shown[first:]
        for some in ([0, 3, 7, 8, 14, clip.frame_count - 1], list(range(clip.frame_count))):
            assert [samples.number_on(frame) for frame in clip.frames_at(some)] == some


@pytest.fixture
def decoded(monkeypatch) -> list[int | None]:
    """The time stamps of all frames that are decoded."""
    stamps: list[int | None] = []

    def counted(*arguments):
        for frame in demux.decode_video(*arguments):
            stamps.append(frame.pts)
            yield frame

    monkeypatch.setattr(video_reader, "decode_video", counted)
    return stamps


def test_distant_frames_are_reached_by_seeking(tmp_path, decoded):
    with Clip(samples.video(tmp_path / "c.mp4", 200, options={"g": "10"})) as clip:
        some = [5, 60, 61, 113, 199]
        assert [samples.number_on(frame) for frame in clip.frames_at(some)] == some
        assert len(decoded) < 60
        decoded.clear()
        assert samples.number_on(next(clip.frames(1, 150))) == 150
        assert len(decoded) < 20


def test_file_without_seeking_is_read_twice_at_most(tmp_path, decoded):
    """Raw H.264 has no time stamps: frames are counted from the beginning."""
    with Clip(samples.video(tmp_path / "c.mp4", 90, options={"g": "10"})) as clip:
        clip._seekable = False
        decoded.clear()
        some = list(range(0, 90, 7))
        assert [samples.number_on(frame) for frame in clip.frames_at(some)] == some
        assert len(decoded) <= 90


def moving(number: int) -> np.ndarray:
    """A bright bar on its way over a dark picture: 4 pixels a field."""
    rgb = np.full((240, 320, 3), 40, np.uint8)
    rgb[40:200, 20 + 4 * number : 60 + 4 * number] = 220
    return rgb


@pytest.mark.parametrize("fps", [Fraction(25), Fraction(30000, 1001)])
def test_interlaced_clips_are_deinterlaced(tmp_path, fps):
    """Two fields of different times: the comb disappears, the first field remains."""
    woven = []
    for number in range(24):
        frame = moving(2 * number)
        frame[1::2] = moving(2 * number + 1)[1::2]
        woven.append(frame)
    path = samples.video(tmp_path / "c.mp4", 1, fps, pictures=woven, interlaced=True)
    with Clip(path) as clip:
        assert (clip.fps, clip.frame_count) == (fps, 24)
        frames = list(clip.frames())
        assert len(frames) == 24
        for number, frame in enumerate(frames):
            middle = frame[100:140].mean(2)
            assert np.abs(middle[::2].mean(0) - middle[1::2].mean(0)).max() < 40, "no comb"
            where = np.flatnonzero(middle.mean(0) > 130).mean()
            assert abs(where - (39.5 + 8 * number)) < 5, "nor a jump in time: a field is 4 pixels"
        for first in (5, 12, 20, 30, 40):
            for place, frame in enumerate(clip.frames(4, first), first):
                assert psnr(frame, frames[clip.source_frame(place)]) > 60, "from any place on"
    plain = samples.video(tmp_path / "p.mp4", 1, fps, pictures=woven)
    with Clip(plain) as clip:
        middle = next(clip.frames(1, 12))[100:140].mean(2)
    assert np.abs(middle[::2].mean(0) - middle[1::2].mean(0)).max() > 100, "what is not told stays"


def test_rotated_interlaced_clip_is_upright(tmp_path):
    path = samples.video(tmp_path / "c.mp4", 3, turn=90, interlaced=True)
    with Clip(path) as clip:
        assert (clip.width, clip.height) == (120, 160)
        expected = [samples.GREEN, samples.WHITE, samples.RED, samples.BLUE]
        assert all(samples.corners_of(frame) == expected for frame in clip.frames())


def test_frames_are_owned_by_the_caller(tmp_path):
    path = samples.video(tmp_path / "c.mp4", 1)
    with Clip(path) as clip:
        for frame in clip.frames(4):
            assert samples.number_on(frame) == 0
            assert frame.flags.c_contiguous
            frame[:] = 255


def test_clip_can_be_read_again(tmp_path):
    with Clip(samples.video(tmp_path / "c.mp4", 9)) as clip:
        next(clip.frames())
        assert [samples.number_on(frame) for frame in clip.frames()] == list(range(9))


MEMORY_TRIAL = """
import resource, sys
from pathlib import Path
from kolbo_demo.engine import video_reader
video_reader.REVERSE_BUFFER_BYTES = 16 * 1024 * 1024
with video_reader.Clip(Path(sys.argv[1])) as clip:
    next(clip.frames())
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    shown = sum(1 for _ in clip.frames(2 * clip.frame_count))
    after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
print(shown, after - before)
"""


def test_memory_is_constant_for_any_length(tmp_path):
    """300 frames of 640x360 take 200 MB as RGB and 100 MB as decoded."""
    still = samples.card(3, 640, 360)
    path = samples.video(tmp_path / "c.mp4", pictures=[still] * 300)
    trial = [sys.executable, "-c", MEMORY_TRIAL, str(path)]
    root = Path(__file__).parents[2]
    done = subprocess.run(trial, cwd=root, capture_output=True, text=True, check=True)
    shown, kilobytes = map(int, done.stdout.split())
    assert shown == 600
    assert kilobytes < 50 * 1024


# Clips: place


@pytest.mark.parametrize("turn", [0, 90, 180, 270])
@pytest.mark.parametrize(("hflip", "vflip"), list(product([False, True], repeat=2)))
def test_display_matrix_is_applied(tmp_path, turn, hflip, vflip):
    """`frames` yields what ffmpeg's own rotation shows."""
    path = samples.video(tmp_path / "c.mp4", 2, turn=turn, hflip=hflip, vflip=vflip)
    from moviepy import VideoFileClip

    with VideoFileClip(str(path), audio=False) as shown:
        expected = samples.corners_of(np.asarray(shown.get_frame(0)))
    with Clip(path) as clip:
        frame = next(clip.frames())
    assert frame.shape == ((160, 120, 3) if turn % 180 else (120, 160, 3))
    assert (clip.width, clip.height) == (frame.shape[1], frame.shape[0])
    assert samples.corners_of(frame) == expected
    if turn == 90 and not hflip and not vflip:  # counter-clockwise: top right comes to top left
        assert expected == [samples.GREEN, samples.WHITE, samples.RED, samples.BLUE]


def test_pixels_are_made_square(tmp_path):
    with Clip(samples.video(tmp_path / "w.mp4", 2, aspect=Fraction(16, 11))) as clip:
        assert (clip.width, clip.height) == (232, 120)  # 232.7 pixels wide, made even
        assert samples.corners_of(next(clip.frames())) == samples.UPRIGHT
    with Clip(samples.video(tmp_path / "t.mp4", 2, aspect=Fraction(1, 2))) as clip:
        assert (clip.width, clip.height) == (160, 240)
    with Clip(samples.video(tmp_path / "r.mp4", 2, aspect=Fraction(2), turn=90)) as clip:
        assert (clip.width, clip.height) == (120, 320)


def test_odd_sizes_lose_their_last_row_and_column(tmp_path):
    picture = samples.card(2, 161, 121)
    path = samples.video(tmp_path / "c.mkv", pictures=[picture] * 2, codec="ffv1", pix_fmt="bgr0")
    with Clip(path) as clip:
        assert (clip.width, clip.height) == (160, 120)
        frame = next(clip.frames())
    assert np.array_equal(frame, picture[:120, :160])


# Clips: colour


@pytest.mark.parametrize("matrix", [1, 6])
def test_unchanged_frames_survive_encoding(tmp_path, matrix):
    face = Image.open(samples.PORTRAIT)
    views = [face.crop((40 + 3 * i, 10 + i, 360 + 3 * i, 330 + i)) for i in range(12)]
    path = samples.video(
        tmp_path / "c.mp4", pictures=[np.asarray(view) for view in views], matrix=matrix
    )
    with Clip(path) as clip:
        before = list(clip.frames())
    with Clip(write_video(tmp_path / "out.mp4", before)) as clip:
        after = list(clip.frames())
    assert len(after) == len(before)
    quality = [psnr(a, b) for a, b in zip(before, after, strict=True)]
    assert np.mean(quality) > 40
    assert min(quality) > 38.5
    for old, new in zip(before, after, strict=True):
        assert np.abs(old.mean((0, 1)) - new.mean((0, 1))).max() < 1  # no tint creeps in


def test_ten_bits_without_hdr(tmp_path):
    path = samples.video(tmp_path / "c.mkv", 2, codec="ffv1", pix_fmt="yuv420p10le", matrix=1)
    with Clip(path) as clip:
        assert samples.corners_of(next(clip.frames())) == samples.UPRIGHT


# Clips: damage and malice


def test_truncated_clip_is_read_as_far_as_possible(tmp_path):
    seen = frame_numbers(samples.truncated_faststart_mp4(tmp_path / "c.mp4"))
    assert 10 < len(seen) < 45
    assert seen[:-2] == list(range(len(seen)))[:-2]


def test_damaged_frames_are_skipped(tmp_path):
    whole = samples.video(tmp_path / "whole.mkv", 60, options={"g": "5"})
    seen = frame_numbers(samples.scratched(tmp_path / "c.mkv", whole, 0.4, 0.6))
    assert seen[:15] == list(range(15))
    assert seen[-10:] == list(range(50, 60))
    assert len(seen) == 60


def test_damaged_time_stamp_does_not_extend_the_clip(tmp_path):
    times = [number / 25 for number in range(30)] + [40_000.0]
    path = samples.video(tmp_path / "c.mkv", times=times)
    with Clip(path) as clip:
        assert clip.duration == pytest.approx(1.2)
        assert [samples.number_on(frame) for frame in clip.frames()] == list(range(30))
    began = time.monotonic()
    assert samples.number_on(np.asarray(frame_at(path, 0.4))) == 10
    assert time.monotonic() - began < 5


@pytest.mark.parametrize(
    "make",
    [
        samples.empty,
        samples.text,
        samples.noise,
        samples.truncated_mp4,
        samples.silent_film,
        lambda path: path,
        lambda path: samples.video(path, width=16, height=16),
    ],
)
def test_invalid_clip_is_refused(tmp_path, make):
    with pytest.raises(MediaError, match=r"\.$"):
        Clip(make(tmp_path / "c.mp4"))


@pytest.mark.parametrize("suffix", ["mp4", "m3u8", "txt"])
def test_a_playlist_opens_nothing_else(tmp_path, suffix):
    samples.video(tmp_path / "private.ts")
    path = samples.playlist(tmp_path / f"c.{suffix}", "private.ts")
    with pytest.raises(MediaError):
        Clip(path)
    path.write_text("ffconcat version 1.0\nfile private.ts\n")
    with pytest.raises(MediaError):
        Clip(path)


def test_too_large_clip_is_refused_before_decoding(tmp_path, monkeypatch):
    monkeypatch.setattr(demux, "MAX_VIDEO_PIXELS", 160 * 100)
    with pytest.raises(MediaError, match="160x120 pixels"):
        Clip(samples.video(tmp_path / "c.mp4"))


@pytest.mark.parametrize("name", samples.ODD_NAMES)
def test_unusual_file_names(tmp_path, name):
    source = samples.video(tmp_path / "c.mp4", 3).rename(tmp_path / f"{name}.mp4")
    voice = samples.silent_wav(tmp_path / f"{name}.wav", 0.12)
    result = write_video(tmp_path / f"{name} out.mp4", [samples.card(4)] * 3, audio=voice)
    assert frame_numbers(source) == [0, 1, 2]
    assert frame_numbers(result) == [4, 4, 4]
