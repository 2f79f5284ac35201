"""Decode and encode: right picture, right place, right time, right colour, right sound."""

import subprocess
import sys
import time
from fractions import Fraction
from itertools import product
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from kolbo_demo.engine import audio_io, video_reader
from kolbo_demo.engine.audio_io import load_voice
from kolbo_demo.engine.video_reader import Clip
from kolbo_demo.engine.video_writer import VideoWriter, frames_for
from kolbo_demo.media import demux
from kolbo_demo.media.probe import MediaError, first_frame
from tests import samples


def psnr(a: np.ndarray, b: np.ndarray) -> float:
    error = np.mean((a.astype(float) - b) ** 2)
    return float(10 * np.log10(255**2 / max(error, 1e-9)))


def numbers(path: Path, count: int | None = None) -> list[int]:
    with Clip(path) as clip:
        return [samples.number_on(frame) for frame in clip.frames(count)]


def write(
    path: Path,
    frames: list[np.ndarray],
    fps: Fraction | int = 25,
    audio: Path = samples.SPEECH,
    seconds: float | None = None,
) -> Path:
    height, width = frames[0].shape[:2]
    duration = float(len(frames) / fps) if seconds is None else seconds
    with VideoWriter(path, width, height, fps, audio, duration) as writer:
        for frame in frames:
            writer.write(frame)
    return path


def lag_and_likeness(heard: np.ndarray, meant: np.ndarray) -> tuple[int, float]:
    """How many samples late, and the correlation at lag 0."""
    count = min(len(heard), len(meant))
    size = 2 * count
    spectrum = np.fft.rfft(heard[:count], size) * np.conj(np.fft.rfft(meant[:count], size))
    peak = int(np.argmax(np.fft.irfft(spectrum, size)))
    return peak - size * (peak >= count), float(np.corrcoef(heard[:count], meant[:count])[0, 1])


# Clips: time


@pytest.mark.parametrize("suffix", ["mp4", "mkv", "webm", "avi", "ts"])
@pytest.mark.parametrize("fps", ["24000/1001", "25", "30000/1001", "50", "60000/1001", "60"])
def test_a_clip_keeps_its_own_rate(tmp_path, suffix, fps):
    codec = {"webm": "libvpx", "avi": "mpeg4"}.get(suffix, "libx264")
    options = {"bf": "2"} if codec == "libx264" else None
    rate = Fraction(fps)
    path = samples.video(tmp_path / f"c.{suffix}", 40, rate, codec=codec, options=options)
    with Clip(path) as clip:
        assert clip.fps == rate
        assert clip.frame_count == 40
        assert clip.duration == pytest.approx(float(40 / rate))
        assert [samples.number_on(frame) for frame in clip.frames()] == list(range(40))


def test_uncommon_rates_are_kept(tmp_path):
    with Clip(samples.video(tmp_path / "c.mp4", 30, Fraction(22131, 1000))) as clip:
        assert float(clip.fps) == pytest.approx(22.131, abs=0.001)
        assert clip.frame_count == 30


def test_slow_and_very_fast_clips_get_a_rate_lips_can_use(tmp_path):
    with Clip(samples.video(tmp_path / "slow.mp4", 3, 5)) as clip:
        assert (clip.fps, clip.frame_count, clip.duration) == (15, 9, pytest.approx(0.6))
        seen = [samples.number_on(frame) for frame in clip.frames()]
        assert seen == [0, 0, 1, 1, 1, 2, 2, 2, 2]  # the nearest in time
    with Clip(samples.video(tmp_path / "fast.mp4", 48, 240)) as clip:
        assert (clip.fps, clip.frame_count) == (120, 24)


def test_variable_rate_is_repaired_by_time(tmp_path):
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


def test_a_long_uneven_clip_does_not_drift(tmp_path):
    rng = np.random.default_rng(5)
    times = np.cumsum(rng.choice([0.033, 0.034, 0.050], 900, p=[0.6, 0.3, 0.1])) - 0.033
    times[0] = 0
    path = samples.video(tmp_path / "c.mp4", width=64, height=48, times=times.tolist())
    with Clip(path) as clip:
        assert clip.duration == pytest.approx(times[-1], abs=0.06)
        last = [samples.number_on(frame) for frame in clip.frames()][-1]
    assert last == 899


def test_a_clip_that_starts_late_starts_at_its_first_frame(tmp_path):
    times = [7.5 + number / 25 for number in range(10)]
    assert numbers(samples.video(tmp_path / "c.mkv", times=times)) == list(range(10))
    assert numbers(samples.video(tmp_path / "c.ts", times=times)) == list(range(10))


def test_a_clip_of_one_frame_is_a_still(tmp_path):
    assert numbers(samples.video(tmp_path / "c.mp4", 1), 5) == [0] * 5


# Clips: back and forth


def bounce(last: int, count: int) -> list[int]:
    period = list(range(last + 1)) + list(range(last - 1, 0, -1))
    return [period[place % len(period)] for place in range(count)]


@pytest.mark.parametrize("gop", [1, 7, 250])
@pytest.mark.parametrize("held", [1, 100_000, 10**9])
def test_more_frames_than_there_are_play_back_and_forth(tmp_path, monkeypatch, gop, held):
    monkeypatch.setattr(video_reader, "REVERSE_BUFFER_BYTES", held)
    options = {"g": str(gop), "bf": "2"}
    path = samples.video(tmp_path / "c.mp4", 23, options=options)
    assert numbers(path, 100) == bounce(22, 100)


@pytest.mark.parametrize("suffix", ["mkv", "avi", "ts", "mpg"])
def test_back_and_forth_in_other_containers(tmp_path, monkeypatch, suffix):
    monkeypatch.setattr(video_reader, "REVERSE_BUFFER_BYTES", 100_000)
    codec = {"avi": "mpeg4", "mpg": "mpeg1video"}.get(suffix, "libx264")
    path = samples.video(tmp_path / f"c.{suffix}", 23, codec=codec)
    with Clip(path) as clip:
        length = clip.frame_count
    assert length in (22, 23)  # .mpg does not tell how long its last frame is
    assert numbers(path, 70) == bounce(length - 1, 70)


def test_fewer_frames_are_cut(tmp_path):
    path = samples.video(tmp_path / "c.mp4", 20)
    assert numbers(path, 7) == list(range(7))
    assert numbers(path, 0) == []


@pytest.mark.parametrize("suffix", ["mp4", "mkv", "avi", "ts", "mpg"])
def test_frames_from_any_place_are_those_of_the_whole(tmp_path, monkeypatch, suffix):
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


def test_frames_far_apart_are_searched_not_decoded_through(tmp_path, monkeypatch):
    path = samples.video(tmp_path / "c.mp4", 200, options={"g": "10"})
    decoded = []

    def counted(*arguments):
        for frame in demux.decode_video(*arguments):
            decoded.append(frame.pts)
            yield frame

    with Clip(path) as clip:
        monkeypatch.setattr(video_reader, "decode_video", counted)
        some = [5, 60, 61, 113, 199]
        assert [samples.number_on(frame) for frame in clip.frames_at(some)] == some
        assert len(decoded) < 60
        decoded.clear()
        assert samples.number_on(next(clip.frames(1, 150))) == 150
        assert len(decoded) < 20


def test_a_file_that_cannot_be_searched_is_read_twice_at_most(tmp_path, monkeypatch):
    """Raw H.264 tells no times: what is wanted is counted from its beginning."""
    path = samples.video(tmp_path / "c.mp4", 90, options={"g": "10"})
    with Clip(path) as clip:
        clip._seekable = False
        some = list(range(0, 90, 7))
        decoded = []

        def counted(*arguments):
            for frame in demux.decode_video(*arguments):
                decoded.append(frame.pts)
                yield frame

        monkeypatch.setattr(video_reader, "decode_video", counted)
        assert [samples.number_on(frame) for frame in clip.frames_at(some)] == some
        assert len(decoded) <= 90


def moving(number: int) -> np.ndarray:
    """A bright bar on its way over a dark picture: 4 pixels a field."""
    rgb = np.full((240, 320, 3), 40, np.uint8)
    rgb[40:200, 20 + 4 * number : 60 + 4 * number] = 220
    return rgb


@pytest.mark.parametrize("fps", [Fraction(25), Fraction(30000, 1001)])
def test_interlaced_clips_are_deinterlaced(tmp_path, fps):
    """Two moments a frame, as from a television camera: the comb goes, the first moment stays."""
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


def test_a_turned_interlaced_clip_stands_upright(tmp_path):
    path = samples.video(tmp_path / "c.mp4", 3, turn=90, interlaced=True)
    with Clip(path) as clip:
        assert (clip.width, clip.height) == (120, 160)
        expected = [samples.GREEN, samples.WHITE, samples.RED, samples.BLUE]
        assert all(samples.corners_of(frame) == expected for frame in clip.frames())


def test_frames_belong_to_the_caller(tmp_path):
    path = samples.video(tmp_path / "c.mp4", 1)
    with Clip(path) as clip:
        for frame in clip.frames(4):
            assert samples.number_on(frame) == 0
            assert frame.flags.c_contiguous
            frame[:] = 255


def test_frames_can_be_had_again(tmp_path):
    with Clip(samples.video(tmp_path / "c.mp4", 9)) as clip:
        next(clip.frames())
        assert [samples.number_on(frame) for frame in clip.frames()] == list(range(9))


MEMORY_TRIAL = """
import resource, sys
from pathlib import Path
from kolbo_demo.engine import video
video.HELD_BYTES = 16 * 1024 * 1024
with video.Clip(Path(sys.argv[1])) as clip:
    next(clip.frames())
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    shown = sum(1 for _ in clip.frames(2 * clip.frame_count))
    after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
print(shown, after - before)
"""


def test_memory_stays_the_same_for_any_length(tmp_path):
    """300 frames of 640x360 are 200 MB as RGB and 100 MB as they are decoded."""
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
def test_display_matrix_is_honoured(tmp_path, turn, hflip, vflip):
    """Against ffmpeg's own eye: what its player shows is what `frames` yield."""
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


@pytest.mark.parametrize("matrix", [1, 6, None])
@pytest.mark.parametrize("size", [(320, 240), (1280, 720)])
def test_colours_are_right(tmp_path, matrix, size):
    """BT.709 and BT.601 as tagged; what is not tagged is BT.709 from 720 rows on."""
    meant = matrix or (1 if size[1] >= 720 else 6)
    picture = samples.card(0, *size)
    path = samples.video(tmp_path / "c.mp4", 1, pictures=[picture], matrix=meant)
    if matrix is None:
        source, path = path, tmp_path / "untagged.mkv"
        with av.open(str(source)) as tagged, av.open(str(path), "w") as out:
            frames = list(tagged.decode(video=0))
            stream = out.add_stream("ffv1", rate=25)
            assert isinstance(stream, av.VideoStream)
            stream.width, stream.height, stream.pix_fmt = *size, "yuv420p"
            frames[0].colorspace = 2
            out.mux(stream.encode(frames[0]))
            out.mux(stream.encode(None))
    with Clip(path) as clip:
        frame = next(clip.frames())
    height, width = frame.shape[:2]
    y, x = height // 10, width // 10
    for seen, colour in zip(
        [frame[y, x], frame[y, -x], frame[-y, x], frame[-y, -x]], samples.UPRIGHT, strict=True
    ):
        assert np.abs(seen.astype(int) - colour).max() <= 4


@pytest.mark.parametrize("matrix", [1, 6])
def test_an_unchanged_frame_comes_out_unchanged(tmp_path, matrix):
    face = Image.open(samples.PORTRAIT)
    views = [face.crop((40 + 3 * i, 10 + i, 360 + 3 * i, 330 + i)) for i in range(12)]
    path = samples.video(
        tmp_path / "c.mp4", pictures=[np.asarray(view) for view in views], matrix=matrix
    )
    with Clip(path) as clip:
        before = list(clip.frames())
    with Clip(write(tmp_path / "out.mp4", before)) as clip:
        after = list(clip.frames())
    assert len(after) == len(before)
    quality = [psnr(a, b) for a, b in zip(before, after, strict=True)]
    assert np.mean(quality) > 40
    assert min(quality) > 38.5
    for old, new in zip(before, after, strict=True):
        assert np.abs(old.mean((0, 1)) - new.mean((0, 1))).max() < 1  # no tint creeps in


def test_hdr_becomes_a_sane_picture(tmp_path):
    """PQ: diffuse white (203 cd/m2 by ITU-R BT.2408) is white, black is black, greys between."""

    def level(nits: float) -> int:
        y = (nits / 10000) ** (2610 / 16384)
        return round(64 + 876 * ((3424 + 2413 * 32 * y) / (4096 + 2392 * 32 * y)) ** (2523 / 32))

    frame = av.VideoFrame(128, 64, "yuv420p10le")
    luma = np.repeat([level(nits) for nits in (0, 20, 203, 1000)], 32).astype("<u2")
    stride = frame.planes[0].line_size // 2
    rows = np.zeros((64, stride), "<u2")
    rows[:, :128] = luma
    frame.planes[0].update(rows.tobytes())
    for plane in frame.planes[1:]:
        plane.update(np.full(plane.buffer_size // 2, 512, "<u2").tobytes())
    frame.colorspace, frame.color_range, frame.color_trc, frame.color_primaries = 9, 1, 16, 9
    path = tmp_path / "c.mkv"
    with av.open(str(path), "w") as out:
        stream = out.add_stream("ffv1", rate=25)
        assert isinstance(stream, av.VideoStream)
        stream.width, stream.height, stream.pix_fmt = 128, 64, "yuv420p10le"
        context = stream.codec_context
        context.colorspace, context.color_trc, context.color_primaries = 9, 16, 9
        context.color_range = 1
        out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
    with Clip(path) as clip:
        row = next(clip.frames())[32, 16::32].astype(int)
    assert np.ptp(row, axis=1).max() <= 3  # grey stays grey
    black, grey, white, highlight = row.mean(1)
    assert black <= 2
    assert 70 < grey < 130
    assert white >= 245
    assert highlight >= white


P3, BT2020 = 12, 9
TO_BT709 = {
    P3: [[1.2249, -0.2247, 0], [-0.0420, 1.0419, 0], [-0.0197, -0.0786, 1.0979]],
    BT2020: [[1.6605, -0.5876, -0.0728], [-0.1246, 1.1329, -0.0083], [-0.0182, -0.1006, 1.1187]],
}
"""Linear light of SMPTE EG 432-1 and ITU-R BT.2087 in that of BT.709."""
COLOURS = (
    (170, 110, 100),
    (110, 150, 115),
    (100, 115, 160),
    (224, 172, 140),
    (90, 60, 45),
    (128,) * 3,
)


@pytest.mark.parametrize("primaries", [P3, BT2020])
def test_wide_colours_are_shown_as_a_browser_shows_them(primaries: int, tmp_path):
    """With half the colours' resolution, as every phone has them; skin among them. What BT.709
    cannot show is left out: swscale maps it, where a browser may clip."""
    patches = np.repeat(np.array(COLOURS, np.uint8)[None], 64, 0).repeat(32, 1)
    frame = av.VideoFrame.from_ndarray(patches, "rgb24").reformat(
        format="yuv420p", dst_colorspace=1, dst_color_range=1
    )
    frame.color_primaries, frame.color_trc = primaries, 1
    path = tmp_path / "c.mkv"
    with av.open(str(path), "w") as out:
        stream = out.add_stream("ffv1", rate=25)
        assert isinstance(stream, av.VideoStream)
        stream.width, stream.height, stream.pix_fmt = frame.width, frame.height, "yuv420p"
        context = stream.codec_context
        context.colorspace, context.color_trc, context.color_primaries = 1, 1, primaries
        context.color_range = 1
        out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
    light = np.array(COLOURS) / 255
    light = np.where(light < 0.081, light / 4.5, ((light + 0.099) / 1.099) ** (1 / 0.45))
    light = np.clip(light @ np.array(TO_BT709[primaries]).T, 0, 1)
    expected = 255 * np.where(light < 0.018, 4.5 * light, 1.099 * light**0.45 - 0.099)
    with Clip(path) as clip:
        shown = next(clip.frames())[32, 16::32].astype(float)
    assert np.abs(shown - expected).mean() < 3
    assert np.abs(shown - expected).max() < 10


def test_ten_bits_without_hdr(tmp_path):
    path = samples.video(tmp_path / "c.mkv", 2, codec="ffv1", pix_fmt="yuv420p10le", matrix=1)
    with Clip(path) as clip:
        assert samples.corners_of(next(clip.frames())) == samples.UPRIGHT


# Clips: damage and malice


def test_a_clip_cut_short_is_used_as_far_as_it_goes(tmp_path):
    seen = numbers(samples.truncated_faststart_mp4(tmp_path / "c.mp4"))
    assert 10 < len(seen) < 45
    assert seen[:-2] == list(range(len(seen)))[:-2]


def test_damaged_frames_are_skipped(tmp_path):
    whole = samples.video(tmp_path / "whole.mkv", 60, options={"g": "5"})
    seen = numbers(samples.scratched(tmp_path / "c.mkv", whole, 0.4, 0.6))
    assert seen[:15] == list(range(15))
    assert seen[-10:] == list(range(50, 60))
    assert len(seen) == 60


def test_a_damaged_time_stamp_does_not_make_a_clip_of_hours(tmp_path):
    times = [number / 25 for number in range(30)] + [40_000.0]
    path = samples.video(tmp_path / "c.mkv", times=times)
    with Clip(path) as clip:
        assert clip.duration == pytest.approx(1.2)
        assert [samples.number_on(frame) for frame in clip.frames()] == list(range(30))
    began = time.monotonic()
    assert samples.number_on(np.asarray(first_frame(path, 0.4))) == 10
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
def test_what_is_no_clip_is_refused(tmp_path, make):
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


def test_a_giant_is_refused_before_it_is_decoded(tmp_path, monkeypatch):
    monkeypatch.setattr(demux, "MAX_VIDEO_PIXELS", 160 * 100)
    with pytest.raises(MediaError, match="160x120 pixels"):
        Clip(samples.video(tmp_path / "c.mp4"))


@pytest.mark.parametrize("name", samples.ODD_NAMES)
def test_odd_names(tmp_path, name):
    source = samples.video(tmp_path / "c.mp4", 3).rename(tmp_path / f"{name}.mp4")
    voice = samples.silent_wav(tmp_path / f"{name}.wav", 0.12)
    result = write(tmp_path / f"{name} out.mp4", [samples.card(4)] * 3, audio=voice)
    assert numbers(source) == [0, 1, 2]
    assert numbers(result) == [4, 4, 4]


# Results


def test_a_result_plays_anywhere(tmp_path):
    fps = Fraction(30000, 1001)
    path = write(tmp_path / "out.mp4", [samples.card(n) for n in range(31)], fps, seconds=1.03)
    content = path.read_bytes()
    assert content[4:8] == b"ftyp"
    assert content.index(b"moov") < content.index(b"mdat")
    with av.open(str(path)) as out:
        stream = out.streams.video[0]
        context = stream.codec_context
        assert (context.name, context.pix_fmt) == ("h264", "yuv420p")
        assert (context.width, context.height) == (160, 120)
        assert (context.colorspace, context.color_range) == (1, 1)
        assert (context.color_primaries, context.color_trc) == (1, 1)
        assert out.streams.audio[0].codec_context.name == "aac"
        assert stream.average_rate == stream.base_rate == fps
        assert stream.time_base is not None
        stamps = [(frame.pts or 0) * stream.time_base for frame in out.decode(stream)]
    assert stamps == [number / fps for number in range(31)]
    assert numbers(path) == list(range(31))


def test_the_last_frame_covers_the_voice(tmp_path):
    voice = samples.recording(tmp_path / "v.wav", 0.5, 16000)
    path = write(tmp_path / "out.mp4", [samples.card(n) for n in range(5)], 25, voice, 0.5)
    assert numbers(path) == [0, 1, 2, 3, *[4] * 9]
    with av.open(str(path)) as out:
        assert out.duration == pytest.approx(0.52e6, abs=2000)


@pytest.mark.parametrize(
    ("seconds", "fps", "count"),
    [(0.05, 25, 2), (4.0, 25, 100), (4.001, 25, 101), (0.0, 25, 1), (1.001, Fraction("29.97"), 30)],
)
def test_frames_for(seconds, fps, count):
    assert frames_for(seconds, Fraction(fps)) == count


VOICES = [
    ("v.wav", 8000, 1, 8000),
    ("v.wav", 11025, 2, 11025),
    ("v.wav", 16000, 1, 16000),
    ("v.wav", 37800, 1, 44100),
    ("v.wav", 44100, 2, 44100),
    ("v.wav", 48000, 6, 48000),
    ("v.flac", 48000, 6, 48000),
    ("v.wav", 96000, 1, 96000),
    ("v.flac", 96000, 2, 96000),
    ("v.wav", 192000, 2, 96000),
]


@pytest.mark.parametrize(("name", "rate", "channels", "kept"), VOICES)
def test_the_voice_comes_out_whole_in_step_and_undegraded(tmp_path, name, rate, channels, kept):
    seconds = 1.037
    voice = samples.recording(tmp_path / name, seconds, rate, channels)
    path = write(tmp_path / "out.mp4", [samples.card(0, 64, 64)], 25, voice, seconds)
    with av.open(str(path)) as out:
        context = out.streams.audio[0].codec_context
        assert (context.sample_rate, context.layout.nb_channels) == (kept, channels)
        heard = np.concatenate([frame.to_ndarray() for frame in out.decode(audio=0)], axis=1)
    meant = samples.chirps(seconds, rate, channels)
    assert 0 <= heard.shape[1] - round(seconds * kept) < 2048  # whole, and no priming in front
    if kept != rate:
        return  # in step: see below
    for channel in range(channels):
        lag, likeness = lag_and_likeness(heard[channel], meant[channel])
        if channels == 6 and channel == 3:
            assert abs(lag) <= 20  # the low-frequency channel loses its highs by design
        else:
            assert lag == 0
            assert likeness > 0.99


@pytest.mark.parametrize(
    ("name", "rate"),
    [
        *product(["v.mp3", "v.m4a", "v.flac", "v.wav"], [44100, 48000]),
        *product(["v.wav"], [8000, 37800, 192000]),
        ("v.ogg", 48000),
        ("v.mp4", 44100),
    ],
)
def test_engine_and_result_hear_the_same(tmp_path, name, rate):
    """The samples that drive the lips are in step with those in the result to 1/16 ms."""
    if name == "v.mp4":
        voice = samples.video(tmp_path / name, sound=1.0)
    else:
        codec = "libopus" if name == "v.ogg" else ""
        voice = samples.recording(tmp_path / name, 1.0, rate, 2, codec)
    driven = load_voice(voice)
    path = write(tmp_path / "out.mp4", [samples.card(0, 64, 64)], 25, voice, len(driven) / 16000)
    lag, likeness = lag_and_likeness(load_voice(path), driven)
    assert abs(lag) <= 1
    assert likeness > 0.95


def test_a_voice_longer_than_the_picture_is_cut_with_it(tmp_path):
    path = write(tmp_path / "out.mp4", [samples.card(0, 64, 64)] * 25)
    assert len(load_voice(path)) == pytest.approx(16000, abs=1024)


def fail_midway(path: Path) -> None:
    with VideoWriter(path, 160, 120, 25, samples.SPEECH, 1.0) as writer:
        writer.write(samples.card(0))
        assert path.read_text() == "an older result"
        raise RuntimeError("engine")


def test_nothing_is_seen_before_it_is_whole_and_nothing_left_after_an_error(tmp_path):
    path = tmp_path / "out.mp4"
    path.write_text("an older result")
    with pytest.raises(RuntimeError, match="engine"):
        fail_midway(path)
    assert [file.name for file in tmp_path.iterdir()] == ["out.mp4"]
    assert path.read_text() == "an older result"
    write(path, [samples.card(1)])
    assert [file.name for file in tmp_path.iterdir()] == ["out.mp4"]
    assert numbers(path) == [1]


@pytest.mark.parametrize("make", [samples.text, samples.video, samples.shredded_mp3])
def test_a_voice_that_cannot_be_read_leaves_nothing(tmp_path, make):
    voice = make(tmp_path / ("v.mp4" if make is samples.video else "v.mp3"))
    folder = tmp_path / "out"
    folder.mkdir()
    with pytest.raises(MediaError):
        VideoWriter(folder / "out.mp4", 160, 120, 25, voice, 1.0)
    assert list(folder.iterdir()) == []


def test_no_frame_is_an_error_and_leaves_nothing(tmp_path):
    with (
        pytest.raises(ValueError, match="no frame"),
        VideoWriter(tmp_path / "out.mp4", 160, 120, 25, samples.SPEECH, 1.0),
    ):
        pass
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_is_an_oserror_and_leaves_nothing(tmp_path):
    resource = pytest.importorskip("resource")
    noise = np.random.default_rng(1).integers(0, 255, (240, 320, 3), np.uint8)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, limits[1]))
    try:
        with pytest.raises(OSError, match="free some disk space"):
            write(tmp_path / "out.mp4", [noise] * 40)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(OSError, match="missing"):
        VideoWriter(tmp_path / "missing" / "out.mp4", 160, 120, 25, samples.SPEECH, 1.0)


def test_wrong_frames_are_refused(tmp_path):
    with pytest.raises(ValueError, match="even"):
        VideoWriter(tmp_path / "out.mp4", 161, 120, 25, samples.SPEECH, 1.0)
    with VideoWriter(tmp_path / "out.mp4", 160, 120, 25, samples.SPEECH, 0.04) as writer:
        with pytest.raises(ValueError, match="shape"):
            writer.write(samples.card(0, 120, 160))
        writer.write(samples.card(0))
        with pytest.raises(ValueError, match="too many"):
            writer.write(samples.card(1))


# Voices


@pytest.mark.parametrize("rate", [8000, 44100, 96000])
@pytest.mark.parametrize("channels", [1, 2, 6])
def test_voices_become_mono_at_the_rate_asked_for(tmp_path, rate, channels):
    voice = load_voice(samples.recording(tmp_path / "v.wav", 0.8, rate, channels))
    assert voice.dtype == np.float32
    assert voice.ndim == 1
    assert len(voice) == pytest.approx(12800, abs=16)
    assert 0.02 < voice.std() < 0.5
    assert np.abs(voice).max() <= 1


def test_both_sides_of_stereo_are_heard(tmp_path):
    sounds = samples.chirps(0.5, 16000, 2)
    mono = load_voice(samples.wav(tmp_path / "v.wav", sounds, 16000))
    assert np.corrcoef(mono, sounds.sum(0))[0, 1] > 0.999
    loud = samples.wav(tmp_path / "loud.wav", np.full((2, 8000), 0.9), 16000)
    assert load_voice(loud).max() == pytest.approx(0.9, abs=0.01)


def test_silence_and_a_moment_are_voices(tmp_path):
    assert not load_voice(samples.silent_wav(tmp_path / "v.wav")).any()
    assert len(load_voice(samples.short_wav(tmp_path / "s.wav"))) == 800


def test_numbers_that_are_none_do_no_harm(tmp_path):
    voice = samples.nan_wav(tmp_path / "v.wav")
    assert np.isfinite(load_voice(voice)).all()
    path = write(tmp_path / "out.mp4", [samples.card(0, 64, 64)], 25, voice, 0.5)
    assert np.isfinite(load_voice(path)).all()


def test_an_endless_voice_is_refused_before_it_fills_the_memory(tmp_path, monkeypatch):
    monkeypatch.setattr(audio_io, "MAX_VOICE_SECONDS", 1)
    with pytest.raises(MediaError, match="longer than"):
        load_voice(samples.SPEECH)


def test_what_holds_no_sound_is_refused(tmp_path):
    for path in (samples.text(tmp_path / "v.mp3"), samples.video(tmp_path / "v.mp4")):
        with pytest.raises(MediaError, match=r"\.$"):
            load_voice(path)


def test_a_result_says_that_ai_made_it(tmp_path):
    path = tmp_path / "result.mp4"
    with VideoWriter(path, 160, 120, 25, samples.SPEECH, 0.4) as writer:
        writer.write(np.zeros((120, 160, 3), np.uint8))
    with av.open(str(path)) as made:
        assert made.metadata["comment"].startswith("AI-generated")
