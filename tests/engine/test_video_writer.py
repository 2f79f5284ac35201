"""Results: format, sound, and errors while writing."""

from fractions import Fraction
from itertools import product
from pathlib import Path

import av
import numpy as np
import pytest

from kolbo_demo.engine.audio_io import load_voice
from kolbo_demo.engine.video_writer import VideoWriter, frames_for
from kolbo_demo.media.probe import MediaError
from tests import samples
from tests.engine.videos import frame_numbers, write_video


def lag_and_correlation(heard: np.ndarray, meant: np.ndarray) -> tuple[int, float]:
    """Lag in samples, and the correlation at lag 0."""
    count = min(len(heard), len(meant))
    size = 2 * count
    spectrum = np.fft.rfft(heard[:count], size) * np.conj(np.fft.rfft(meant[:count], size))
    peak = int(np.argmax(np.fft.irfft(spectrum, size)))
    return peak - size * (peak >= count), float(np.corrcoef(heard[:count], meant[:count])[0, 1])


def test_result_has_a_widely_supported_format(tmp_path):
    fps = Fraction(30000, 1001)
    path = write_video(
        tmp_path / "out.mp4", [samples.card(n) for n in range(31)], fps, seconds=1.03
    )
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
    assert frame_numbers(path) == list(range(31))


def test_last_frame_is_repeated_to_cover_the_voice(tmp_path):
    voice = samples.recording(tmp_path / "v.wav", 0.5, 16000)
    path = write_video(tmp_path / "out.mp4", [samples.card(n) for n in range(5)], 25, voice, 0.5)
    assert frame_numbers(path) == [0, 1, 2, 3, *[4] * 9]
    with av.open(str(path)) as out:
        assert out.duration == pytest.approx(0.52e6, abs=2000)


@pytest.mark.parametrize("height", [144, 146])
def test_planes_of_any_even_height_are_written(tmp_path, height):
    rows = np.linspace(40, 200, height).astype(np.uint8)
    planes = np.full((height * 3 // 2, 160), 128, np.uint8)
    planes[:height] = rows[:, None]
    with VideoWriter(tmp_path / "out.mp4", 160, height, 25, samples.SPEECH, 0.2) as writer:
        writer.write(planes)
    with av.open(str(tmp_path / "out.mp4")) as video:
        shown = next(video.decode(video=0)).to_ndarray()
    assert shown.shape == planes.shape
    assert np.abs(shown.astype(int) - planes).max() < 8


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
def test_voice_is_complete_in_sync_and_undegraded(tmp_path, name, rate, channels, kept):
    seconds = 1.037
    voice = samples.recording(tmp_path / name, seconds, rate, channels)
    path = write_video(tmp_path / "out.mp4", [samples.card(0, 64, 64)], 25, voice, seconds)
    with av.open(str(path)) as out:
        context = out.streams.audio[0].codec_context
        assert (context.sample_rate, context.layout.nb_channels) == (kept, channels)
        heard = np.concatenate([frame.to_ndarray() for frame in out.decode(audio=0)], axis=1)
    meant = samples.chirps(seconds, rate, channels)
    assert 0 <= heard.shape[1] - round(seconds * kept) < 2048  # whole, and no priming in front
    if kept != rate:
        return  # in step: see below
    for channel in range(channels):
        lag, correlation = lag_and_correlation(heard[channel], meant[channel])
        if channels == 6 and channel == 3:
            assert abs(lag) <= 20  # the low-frequency channel loses its highs by design
        else:
            assert lag == 0
            assert correlation > 0.99


@pytest.mark.parametrize(
    ("name", "rate"),
    [
        *product(["v.mp3", "v.m4a", "v.flac", "v.wav"], [44100, 48000]),
        *product(["v.wav"], [8000, 37800, 192000]),
        ("v.ogg", 48000),
        ("v.mp4", 44100),
    ],
)
def test_engine_samples_match_the_result(tmp_path, name, rate):
    """The samples that drive the lips are in sync with the result's to 1/16 ms."""
    if name == "v.mp4":
        voice = samples.video(tmp_path / name, sound=1.0)
    else:
        codec = "libopus" if name == "v.ogg" else ""
        voice = samples.recording(tmp_path / name, 1.0, rate, 2, codec)
    driven = load_voice(voice)
    path = write_video(
        tmp_path / "out.mp4", [samples.card(0, 64, 64)], 25, voice, len(driven) / 16000
    )
    lag, correlation = lag_and_correlation(load_voice(path), driven)
    assert abs(lag) <= 1
    assert correlation > 0.95


def test_voice_is_cut_to_the_picture(tmp_path):
    path = write_video(tmp_path / "out.mp4", [samples.card(0, 64, 64)] * 25)
    assert len(load_voice(path)) == pytest.approx(16000, abs=1024)


def fail_midway(path: Path) -> None:
    with VideoWriter(path, 160, 120, 25, samples.SPEECH, 1.0) as writer:
        writer.write(samples.card(0))
        assert path.read_text() == "an older result"
        raise RuntimeError("engine")


def test_output_appears_only_when_complete(tmp_path):
    path = tmp_path / "out.mp4"
    path.write_text("an older result")
    with pytest.raises(RuntimeError, match="engine"):
        fail_midway(path)
    assert [file.name for file in tmp_path.iterdir()] == ["out.mp4"]
    assert path.read_text() == "an older result"
    write_video(path, [samples.card(1)])
    assert [file.name for file in tmp_path.iterdir()] == ["out.mp4"]
    assert frame_numbers(path) == [1]


@pytest.mark.parametrize("make", [samples.text, samples.video, samples.shredded_mp3])
def test_unreadable_voice_leaves_no_file(tmp_path, make):
    voice = make(tmp_path / ("v.mp4" if make is samples.video else "v.mp3"))
    folder = tmp_path / "out"
    folder.mkdir()
    with pytest.raises(MediaError):
        VideoWriter(folder / "out.mp4", 160, 120, 25, voice, 1.0)
    assert list(folder.iterdir()) == []


def test_no_frames_is_an_error(tmp_path):
    with (
        pytest.raises(ValueError, match="no frame"),
        VideoWriter(tmp_path / "out.mp4", 160, 120, 25, samples.SPEECH, 1.0),
    ):
        pass
    assert list(tmp_path.iterdir()) == []


def test_full_disk_is_an_oserror(tmp_path):
    resource = pytest.importorskip("resource")
    noise = np.random.default_rng(1).integers(0, 255, (240, 320, 3), np.uint8)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, limits[1]))
    try:
        with pytest.raises(OSError, match="free some disk space"):
            write_video(tmp_path / "out.mp4", [noise] * 40)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(OSError, match="missing"):
        VideoWriter(tmp_path / "missing" / "out.mp4", 160, 120, 25, samples.SPEECH, 1.0)


def test_invalid_frames_are_refused(tmp_path):
    with pytest.raises(ValueError, match="even"):
        VideoWriter(tmp_path / "out.mp4", 161, 120, 25, samples.SPEECH, 1.0)
    with VideoWriter(tmp_path / "out.mp4", 160, 120, 25, samples.SPEECH, 0.04) as writer:
        with pytest.raises(ValueError, match="shape"):
            writer.write(samples.card(0, 120, 160))
        writer.write(samples.card(0))
        with pytest.raises(ValueError, match="too many"):
            writer.write(samples.card(1))


def test_result_metadata_discloses_ai(tmp_path):
    path = tmp_path / "result.mp4"
    with VideoWriter(path, 160, 120, 25, samples.SPEECH, 0.4) as writer:
        writer.write(np.zeros((120, 160, 3), np.uint8))
    with av.open(str(path)) as made:
        assert made.metadata["comment"].startswith("AI-generated")
