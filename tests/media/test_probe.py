"""What files are taken, what is said about them, and what is seen of them."""

import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from kolbo_demo.media import probe
from kolbo_demo.media.probe import MediaError
from tests import samples

SOURCES = [
    ("clip.mp4", "video", "mp4"),
    ("clip.mov", "video", "mov"),
    ("clip.mkv", "video", "mkv"),
    ("clip.avi", "video", "avi"),
    ("clip.ts", "video", "ts"),
]
RECORDINGS = ["v.wav", "v.mp3", "v.m4a", "v.flac", "v.ogg", "v.aac", "v.aiff", "v.webm", "v.caf"]


@pytest.mark.parametrize(("name", "kind", "form"), SOURCES)
def test_video_is_measured(tmp_path, name, kind, form):
    path = samples.video(tmp_path / name, 10, sound=0.4)
    found = probe.inspect_source(path)
    assert (found.kind, found.format, found.width, found.height) == (kind, form, 160, 120)
    assert found.fps == 25
    assert found.duration == pytest.approx(0.4)
    assert found.has_audio
    assert found.bytes == path.stat().st_size
    assert probe.kind_of(path) == kind


@pytest.mark.parametrize("suffix", ["jpg", "png", "webp", "gif", "bmp", "tiff", "avif"])
def test_picture_is_measured(tmp_path, suffix):
    path = samples.portrait(tmp_path / f"p.{suffix}")
    found = probe.inspect_source(path)
    assert (found.kind, found.width, found.height) == ("image", 512, 512)
    assert found.duration is None
    assert not found.has_audio
    assert probe.kind_of(path) == "image"


@pytest.mark.parametrize("name", RECORDINGS)
def test_recording_is_measured(tmp_path, name):
    codec = "libopus" if name == "v.webm" else ""
    path = samples.recording(tmp_path / name, 1.0, codec=codec)
    found = probe.inspect_audio(path)
    assert (found.kind, found.format) == ("audio", Path(name).suffix[1:])
    assert found.duration == pytest.approx(1.0, abs=0.08)
    assert found.has_audio
    assert probe.kind_of(path) == "audio"


def test_sound_of_a_video_is_a_voice(tmp_path):
    path = samples.video(tmp_path / "clip.mp4", sound=0.4)
    assert probe.inspect_audio(path).duration == pytest.approx(0.4, abs=0.03)


@pytest.mark.parametrize(
    ("make", "seconds"),
    [(samples.silent_wav, 1.0), (samples.short_wav, 0.05), (samples.long_wav, 600.0)],
)
def test_silent_short_and_long_sound_is_measured_not_refused(tmp_path, make, seconds):
    assert probe.inspect_audio(make(tmp_path / "v.wav")).duration == pytest.approx(seconds)


def test_length_is_what_can_be_read_not_what_the_header_says(tmp_path):
    clip = samples.truncated_faststart_mp4(tmp_path / "clip.mp4")
    found = probe.inspect_source(clip)
    assert found.duration is not None
    assert 0.4 < found.duration < 1.8
    voice = samples.cut(tmp_path / "v.wav", samples.SPEECH, 0.5)
    assert probe.inspect_audio(voice).duration == pytest.approx(5.79775 / 2, abs=0.05)


def _missing(path: Path) -> Path:
    return path


BAD_SOURCES = [
    ("gone.png", _missing, "no such file"),
    ("empty.png", samples.empty, "empty"),
    ("text.png", samples.text, "no picture or video that can be read"),
    ("text.mp4", samples.text, "no picture or video that can be read"),
    ("noise.jpg", samples.noise, "no picture or video that can be read"),
    ("cut.jpg", samples.truncated_jpeg, "damaged or cut short"),
    ("cut.png", samples.truncated_png, "damaged or cut short"),
    ("hurt.avif", samples.itemless_avif, "damaged or cut short"),
    ("cut.mp4", samples.truncated_mp4, "cut short"),
    ("one.png", samples.tiny_png, "only 1x1 pixels"),
    ("huge.png", samples.huge_png, "110 megapixels"),
    ("heavy.jpg", samples.too_heavy, "101 MB"),
    ("voice.wav", samples.silent_wav, "sound recording"),
    ("voice.jpg", samples.silent_wav, "sound recording"),
    ("film.mp4", samples.silent_film, "no picture"),
    ("list.mp4", lambda path: samples.playlist(path, "/etc/hostname"), "no picture or video"),
    ("clip.png", lambda path: samples.video(path.with_suffix(".mp4")).rename(path), "is a video"),
    ("photo.mp4", lambda path: samples.cmyk_jpeg(path), "is a picture"),
    ("small.mp4", lambda path: samples.video(path, width=30, height=40), "only 30x40 pixels"),
]


@pytest.mark.parametrize(("name", "make", "says"), BAD_SOURCES)
def test_bad_source_gets_one_sentence(tmp_path, name, make, says):
    path = make(tmp_path / name)
    with pytest.raises(MediaError, match=says) as raised:
        probe.inspect_source(path)
    _is_a_sentence(raised.value, tmp_path)


BAD_VOICES = [
    ("gone.mp3", _missing, "no such file"),
    ("empty.mp3", samples.empty, "empty"),
    ("text.mp3", samples.text, "no sound recording"),
    ("utf16.mp3", lambda p: (p.write_text("hello" * 99, "utf-16"), p)[1], "no sound recording"),
    ("noise.wav", samples.noise, "no sound recording"),
    ("cut.mp3", samples.shredded_mp3, "cannot be read"),
    ("heavy.wav", samples.too_heavy, "101 MB"),
    ("photo.mp3", samples.cmyk_jpeg, "is a picture"),
    ("film.mp4", samples.video, "no sound"),
    ("cut.mp4", samples.truncated_mp4, "cut short"),
    ("list.mp3", lambda path: samples.playlist(path, "/etc/hostname"), "no sound recording"),
]


@pytest.mark.parametrize(("name", "make", "says"), BAD_VOICES)
def test_bad_voice_gets_one_sentence(tmp_path, name, make, says):
    path = make(tmp_path / name)
    with pytest.raises(MediaError, match=says) as raised:
        probe.inspect_audio(path)
    _is_a_sentence(raised.value, tmp_path)


def _is_a_sentence(error: MediaError, folder: Path) -> None:
    message = str(error)
    assert message[0].isupper()
    assert message.endswith(".")
    assert "\n" not in message
    assert str(folder) not in message
    assert "Error" not in message


def test_huge_picture_is_refused_undecoded(tmp_path):
    path = samples.blank_png(tmp_path / "big.png", 12000, 9500)  # under Pillow's own limit
    path.write_bytes(path.read_bytes()[:2000])  # had it been decoded, it would be called damaged
    with pytest.raises(MediaError, match="12000x9500 pixels"):
        probe.upright_image(path)


def test_a_large_picture_is_looked_at_in_little_memory(tmp_path):
    path = samples.blank_png(tmp_path / "large.png", 7000, 7000)
    program = (
        "import resource, sys; from pathlib import Path; from kolbo_demo.media import probe;"
        "from tests import samples; probe.inspect_source(samples.PORTRAIT);"
        "peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss;"
        "before = peak(); probe.inspect_source(Path(sys.argv[1])); print(peak() - before)"
    )
    ran = subprocess.run(
        [sys.executable, "-c", program, str(path)],
        capture_output=True, text=True, check=True, cwd=samples.ASSETS.parent,
    )  # fmt: skip
    assert int(ran.stdout) < 16 * 1024, "kilobytes"
    with pytest.raises(MediaError, match="damaged or cut short"):
        probe.inspect_source(samples.cut(tmp_path / "cut.png", path))


def test_truncated_mp3_is_used_as_far_as_it_goes(tmp_path):
    path = samples.truncated_mp3(tmp_path / "v.mp3")
    assert probe.inspect_audio(path).duration == pytest.approx(0.55, abs=0.1)


@pytest.mark.parametrize("name", samples.ODD_NAMES)
def test_odd_names_work(tmp_path, name):
    picture = samples.portrait(tmp_path / name)
    assert probe.inspect_source(picture).width == 512
    clip = samples.video(tmp_path / "plain.mp4").rename(tmp_path / f"{name}.mp4")
    assert probe.inspect_source(clip).width == 160
    assert samples.number_on(np.asarray(probe.frame_at(clip))) == 0
    voice = samples.silent_wav(tmp_path / f"{name}.wav")
    assert probe.inspect_audio(voice).duration == 1


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_rotation_is_honoured(tmp_path, orientation):
    path = samples.exif_rotated(tmp_path / "p.jpg", orientation)
    found = probe.inspect_source(path)
    assert (found.width, found.height) == (160, 120)
    rgb = np.asarray(probe.upright_image(path))
    assert rgb.shape == (120, 160, 3)
    assert samples.corners_of(rgb) == samples.UPRIGHT
    assert samples.number_on(rgb) == 9


@pytest.mark.parametrize("make", [samples.rgb16_png, samples.grey16_png])
def test_sixteen_bits_are_scaled_not_clipped(tmp_path, make):
    path = make(tmp_path / "p.png")
    rgb = np.asarray(probe.upright_image(path)).astype(int)
    if make is samples.rgb16_png:
        assert np.abs(rgb - samples.card(0)).max() <= 1
    else:
        assert abs(rgb[32, 8] - 50).max() <= 1
        assert abs(rgb[32, 56] - 199).max() <= 1


def test_float_picture_is_scaled(tmp_path):
    rgb = np.asarray(probe.upright_image(samples.float_tiff(tmp_path / "p.tif")))
    assert rgb[0, 0].max() == 0
    assert rgb[0, -1].min() == 255
    assert abs(int(rgb[0, 32, 0]) - 129) <= 1


@pytest.mark.parametrize("make", [samples.alpha_png, samples.palette_gif])
def test_transparent_becomes_white(tmp_path, make):
    image = probe.upright_image(make(tmp_path / f"p.{make.__name__[-3:]}"))
    assert image.mode == "RGB"
    assert image.getpixel((2, 2)) == (255, 255, 255)
    assert image.getpixel((32, 32)) == samples.RED


def test_first_frame_is_upright_and_on_time(tmp_path):
    path = samples.video(tmp_path / "clip.mp4", 25, turn=90)
    found = probe.inspect_source(path)
    assert (found.width, found.height) == (120, 160)
    assert probe.frame_at(path).size == (120, 160)
    flat = samples.video(tmp_path / "flat.mp4", 25)
    for at, number in ((0.0, 0), (0.52, 13), (99.0, 24), (-1.0, 0)):
        assert samples.number_on(np.asarray(probe.frame_at(flat, at))) == number


def test_a_browsers_recording_without_duration_is_seen(tmp_path):
    path = samples.video(tmp_path / "c.webm", 50, codec="libvpx", container_options={"live": "1"})
    assert probe.inspect_source(path).duration == pytest.approx(2.0)
    assert samples.number_on(np.asarray(probe.frame_at(path, 1.0))) == 25


def test_first_frame_has_square_pixels(tmp_path):
    path = samples.video(tmp_path / "clip.mp4", aspect=Fraction(2))
    assert probe.frame_at(path).size == (320, 120)
    assert probe.inspect_source(path).width == 320


def test_first_frame_of_a_picture_is_the_picture(tmp_path):
    path = samples.exif_rotated(tmp_path / "p.jpg", 6)
    assert probe.frame_at(path).size == (160, 120)


def test_first_frame_of_sound_is_refused(tmp_path):
    with pytest.raises(MediaError, match="no picture"):
        probe.frame_at(samples.silent_wav(tmp_path / "v.wav"))


def test_cover_art_is_not_a_clip(tmp_path):
    path = samples.silent_film(tmp_path / "film.mp4")
    with pytest.raises(MediaError, match="no picture"):
        probe.frame_at(path)
