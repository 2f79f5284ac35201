"""Recordings as phones, recorders, editors and messengers leave them."""

import struct
import subprocess
import sys
import zipfile
from collections.abc import Callable
from contextlib import suppress
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from kolbo_demo.batch import read_pairs
from kolbo_demo.engine.audio_io import aac_format, load_voice
from kolbo_demo.media import probe, sandbox
from kolbo_demo.media.duration_bound import longest_sound
from kolbo_demo.media.sniff import MediaError
from tests import samples
from tests.wild.sounds import RATE, ffmpeg, film, hum, lag, noise, silence, speech


@pytest.fixture
def voice(tmp_path: Path) -> Path:
    return samples.wav(tmp_path / "speech.wav", speech()[None], RATE)


def assert_says(path: Path, late: float = 0.0, seconds: float | None = None) -> np.ndarray:
    """That speech is heard `late` seconds after the beginning, in so many seconds."""
    heard = load_voice(path)
    found, alike = lag(heard, speech())
    assert alike > 0.9, (found, alike)
    assert found == pytest.approx(late, abs=0.05)
    look = probe.inspect_audio(path)
    assert not look.silent
    assert look.duration == pytest.approx(len(heard) / RATE, abs=0.15)
    if seconds is not None:
        assert len(heard) / RATE == pytest.approx(seconds, abs=0.1)
    return heard


# Row 6: channels and tracks

CHANNELS: dict[str, Callable[[], list[np.ndarray]]] = {
    "stereo": lambda: [speech(), speech()],
    "antiphase": lambda: [speech(), -speech()],
    "antiphase in part": lambda: [speech(), -0.8 * speech()],
    "antiphase and hiss": lambda: [speech() + noise(level=1e-3), noise(level=1e-3) - speech()],
    "left silent": lambda: [silence(), speech()],
    "right silent": lambda: [speech(), silence()],
    "quiet beside loud noise": lambda: [0.05 * speech(), noise(level=0.3)],
    "loud noise beside quiet": lambda: [noise(level=0.3), 0.05 * speech()],
    "hum beside speech": lambda: [hum(), 0.3 * speech()],
    "centre of 5.1": lambda: [silence(), silence(), speech(), *[silence()] * 3],
    "centre of 5.1 in noise": lambda: [
        noise(seed=2), noise(seed=3), 0.5 * speech(), silence(), noise(seed=4), noise(seed=5)
    ],
    "centre of 7.1": lambda: [silence(), silence(), speech(), *[silence()] * 5],
    "one of three": lambda: [silence(), silence(), speech()],
    "one of four": lambda: [silence(), silence(), silence(), speech()],
    "subwoofer": lambda: [*[silence()] * 3, speech(), silence(), silence()],
}  # fmt: skip


@pytest.mark.parametrize("name", CHANNELS)
def test_speech_survives_the_mix(tmp_path: Path, name: str) -> None:
    channels = np.stack(CHANNELS[name]())
    path = samples.wav(tmp_path / "voice.wav", channels, RATE)
    assert_says(path, seconds=3)
    layout = aac_format(path)[1]
    assert layout == ("stereo" if name == "stereo" or "silent" in name else layout)
    if "antiphase" in name or "noise" in name:
        assert layout == "mono"


@pytest.mark.parametrize("layout", ["mono", "FR", "LFE", "FC", "BC", "SL", "downmix", "1 channels"])
@pytest.mark.parametrize("suffix", ["caf", "mov"])
def test_one_channel_is_heard_wherever_it_is_to_be(
    tmp_path: Path, voice: Path, layout: str, suffix: str
) -> None:
    path = tmp_path / f"voice.{suffix}"
    if layout == "downmix":
        words = ["-af", "pan=downmix|c0=c0|c1=c0"]
    elif layout == "1 channels":
        words = []
    else:
        words = ["-af", f"aformat=channel_layouts=mono,pan={layout}|c0=c0"]
    ffmpeg("-i", voice, *words, "-c:a", "pcm_s16le", path)
    assert_says(path, seconds=3)


@pytest.mark.parametrize("layout", ["7.1", "FC+FL+FR", "FC+FL+FR+BL+BR+LFE"])
@pytest.mark.parametrize("suffix", ["caf", "mov"])
def test_channels_in_an_unusual_order(tmp_path: Path, layout: str, suffix: str) -> None:
    count = 8 if layout == "7.1" else layout.count("+") + 1
    for spoken in {0, 2, count - 1}:
        channels = [speech() if n == spoken else silence() for n in range(count)]
        voice = samples.wav(tmp_path / "voice.wav", np.stack(channels), RATE)
        given = "|".join(map(str, range(count)))
        path = tmp_path / f"{spoken}.{suffix}"
        ffmpeg("-i", voice, "-af", f"channelmap={given}:{layout}", "-c:a", "pcm_s16le", path)
        if spoken == 0:
            assert sandbox.inspect_audio(path).duration == pytest.approx(3, abs=0.05)
        assert_says(path, seconds=3)


def tracks(path: Path, *sounds: np.ndarray, words: tuple[str, ...] = ()) -> Path:
    inputs, maps = [], []
    for number, sound in enumerate(sounds):
        one = samples.wav(path.with_name(f"track{number}.wav"), sound[None], RATE)
        inputs += ["-i", one]
        maps += ["-map", number]
    ffmpeg(*inputs, *maps, *words, path)
    return path


@pytest.mark.parametrize("suffix", ["mp4", "mkv", "ts", "mka", "wma", "webm"])
@pytest.mark.parametrize("first", ["silent", "noise", "hum"])
def test_the_track_that_speaks_is_used_and_named(tmp_path: Path, suffix: str, first: str) -> None:
    other = {"silent": silence, "noise": noise, "hum": hum}[first]()
    words = ("-metadata:s:a:1", "language=deu", "-metadata:s:a:1", "title=Interview")
    path = tracks(tmp_path / f"voice.{suffix}", other, speech(), words=words)
    assert_says(path, late=0, seconds=3)
    (note,) = probe.inspect_audio(path).notes
    assert "track 2 of 2" in note
    assert suffix in ("ts", "wma") or "deu" in note


def test_of_languages_the_default_is_used(tmp_path: Path) -> None:
    other = load_voice(samples.SPEECH)[2 * RATE :][: 3 * RATE]
    flags = ("-disposition:a:0", "0", "-disposition:a:1", "default")
    assert_says(tracks(tmp_path / "a.mkv", other, speech(), words=flags))
    flags = ("-disposition:a:0", "default", "-disposition:a:1", "0")
    path = tracks(tmp_path / "b.mkv", speech(), other, words=flags)
    assert_says(path)
    assert probe.inspect_audio(path).notes == ()


def test_a_commentary_is_not_used(tmp_path: Path) -> None:
    other = load_voice(samples.SPEECH)[2 * RATE :][: 3 * RATE]
    flags = ("-disposition:a:0", "default+comment", "-disposition:a:1", "0")
    assert_says(tracks(tmp_path / "a.mkv", other, speech(), words=flags))


def test_a_track_that_cannot_be_decoded_costs_nothing(tmp_path: Path) -> None:
    path = tracks(
        tmp_path / "a.mkv", noise(), speech(), words=("-c:a:0", "dfpwm", "-c:a:1", "flac")
    )
    assert_says(path)


# Row 7: time stamps


@pytest.mark.parametrize("suffix", ["mp4", "mov", "mkv", "webm", "ts"])
@pytest.mark.parametrize("late", [0.3, 0.8])
def test_sound_that_begins_late_stays_late(
    tmp_path: Path, voice: Path, suffix: str, late: float
) -> None:
    words = ("-itsoffset", late, "-i", voice, "-map", 0, "-map", 1)
    path = film(tmp_path / f"film.{suffix}", *words)
    assert_says(path, late=late, seconds=3 + late)


@pytest.mark.parametrize("suffix", ["m4a", "mp4", "mka", "webm"])
def test_sound_alone_that_begins_late(tmp_path: Path, voice: Path, suffix: str) -> None:
    path = tmp_path / f"voice.{suffix}"
    ffmpeg("-itsoffset", 0.8, "-i", voice, path)
    assert_says(path, late=0.8, seconds=3.8)


@pytest.mark.parametrize("suffix", ["mp4", "mkv", "ts"])
def test_sound_before_the_picture_is_kept(tmp_path: Path, voice: Path, suffix: str) -> None:
    path = tmp_path / f"film.{suffix}"
    card = ("-itsoffset", 0.7, "-f", "lavfi", "-i", "testsrc=s=64x64:r=25:d=3")
    ffmpeg(*card, "-i", voice, "-map", 0, "-map", 1, path)
    assert_says(path, late=0, seconds=3)


def stamped(path: Path, *pieces: tuple[float, np.ndarray]) -> Path:
    """Pieces of sound where they begin, in packets of 50 ms."""
    with av.open(str(path), "w") as out:
        stream = out.add_stream("pcm_s16le", rate=RATE, layout="mono")
        for start, sound in pieces:
            for at in range(0, len(sound), 800):
                content = (sound[at : at + 800] * 32767).astype("<i2").tobytes()
                packet = av.Packet(content)
                packet.stream, packet.time_base = stream, Fraction(1, RATE)
                packet.pts = packet.dts = round(start * RATE) + at
                packet.duration = len(content) // 2
                out.mux(packet)
    return path


def test_a_gap_in_the_time_stamps_is_silence(tmp_path: Path) -> None:
    half = RATE + RATE // 2
    path = stamped(tmp_path / "voice.mka", (0, speech()[:half]), (3.5, speech()[half:]))
    heard = load_voice(path)
    assert len(heard) / RATE == pytest.approx(5, abs=0.01)
    assert lag(heard, speech()[:half])[0] == pytest.approx(0, abs=0.01)
    assert lag(heard, speech()[half:])[0] == pytest.approx(3.5, abs=0.01)
    assert np.abs(heard[round(1.7 * RATE) : round(3.3 * RATE)]).max() == 0
    assert probe.inspect_audio(path).duration == pytest.approx(5, abs=0.01)


@pytest.mark.parametrize("jump", [100, 3600, 86400 * 3, 1e6])
def test_mad_time_stamps_are_not_followed(tmp_path: Path, jump: float) -> None:
    half = RATE + RATE // 2
    path = stamped(tmp_path / "voice.mka", (0, speech()[:half]), (1.5 + jump, speech()[half:]))
    assert_says(path, seconds=3)
    assert longest_sound(path, 1e9) >= 3


def test_many_gaps_end_at_an_hour(tmp_path: Path) -> None:
    pieces = [(50.0 * n, speech()[RATE : RATE + 800]) for n in range(80)]
    path = stamped(tmp_path / "voice.mka", *pieces)
    assert sandbox.longest_sound(path, 1e9) == pytest.approx(50 * 79, abs=1)
    with pytest.raises(MediaError, match="longer than an hour"):
        load_voice(path)


def broadcast(path: Path, *pieces: tuple[float, np.ndarray]) -> Path:
    """Pieces of sound one after another, whatever their time stamps say."""
    content = b""
    for start, sound in pieces:
        ffmpeg("-i", samples.wav(path.with_suffix(".wav"), sound[None], RATE), "-c:a", "mp2",
               "-output_ts_offset", 100 + start, path)  # fmt: skip
        content += path.read_bytes()
    path.write_bytes(content)
    return path


def test_stamps_that_jump_to_and_fro_cost_what_they_last(tmp_path: Path) -> None:
    pieces = [(50.0 * (n % 2), speech()[RATE : RATE + RATE // 4]) for n in range(8)]
    path = broadcast(tmp_path / "voice.ts", *pieces)
    assert sandbox.longest_sound(path, 1e9) >= len(load_voice(path)) / RATE - 0.01


def test_an_overlap_is_heard_once(tmp_path: Path) -> None:
    half = RATE + RATE // 2
    path = broadcast(tmp_path / "voice.ts", (0, speech()[:half]), (1.0, speech()[RATE:]))
    assert_says(path, seconds=3)


@pytest.mark.parametrize("suffix", ["ts", "mp3", "aac", "mpg"])
def test_joined_recordings_are_heard_whole(tmp_path: Path, voice: Path, suffix: str) -> None:
    one = tmp_path / f"one.{suffix}"
    ffmpeg("-i", voice, *(["-ar", 48000] if suffix == "mpg" else []), one)
    path = tmp_path / f"both.{suffix}"
    path.write_bytes(2 * one.read_bytes())
    assert len(load_voice(path)) / RATE == pytest.approx(6, abs=0.3)


# Row 8: kinds of recordings

KINDS: dict[str, tuple[object, ...]] = {
    "a.webm": (), "a.mp4": (), "a.mov": (), "a.m4a": (), "a.m4b": (), "a.m4r": ("-f", "ipod"),
    "a.3gp": ("-ar", 8000, "-c:a", "libopencore_amrnb"),
    "a.3g2": ("-ar", 8000, "-c:a", "libopencore_amrnb"),
    "a.amr": ("-ar", 8000, "-c:a", "libopencore_amrnb"),
    "a.caf": (), "alac.caf": ("-c:a", "alac"),
    "a.opus": (), "whatsapp.ogg": ("-c:a", "libopus", "-f", "ogg"), "a.oga": (), "a.aac": (),
    "a.latm": ("-c:a", "aac", "-f", "latm"),
    "a.wma": (), "b.wma": ("-c:a", "wmav1"), "a.au": (), "a.snd": ("-f", "au"), "a.aiff": (),
    "a.aifc": (), "a.wv": (), "a.tta": (), "a.dts": ("-c:a", "dca", "-strict", -2, "-ar", 48000),
    "a.ac3": (), "a.eac3": (), "a.thd": ("-c:a", "truehd", "-strict", -2, "-ar", 48000),
    "a.mlp": ("-strict", -2, "-ar", 48000), "a.mka": (), "a.mkv": (), "a.ts": (), "a.m2ts": (),
    "a.avi": (), "a.mp2": (),
    "a.mp3": (), "a.flac": (), "a.mpg": ("-ar", 48000), "a.w64": (), "a.voc": (),
    "a.flv": ("-c:a", "nellymoser", "-ar", 22050), "b.flv": ("-c:a", "adpcm_swf", "-ar", 22050),
    "s302m.ts": ("-c:a", "s302m", "-strict", -2, "-ar", 48000, "-ac", 2),
    "rf64.wav": ("-rf64", "always"),
    **{f"{codec}.wav": ("-c:a", codec) for codec in (
        "adpcm_ima_wav", "adpcm_ms", "adpcm_yamaha", "pcm_mulaw", "pcm_alaw", "pcm_u8",
        "pcm_s24le", "pcm_s32le", "pcm_f32le", "pcm_f64le", "libmp3lame", "g722")},
    "g726.wav": ("-c:a", "g726", "-ar", 8000), "g723.wav": ("-c:a", "g723_1", "-ar", 8000),
    "8k.wav": ("-ar", 8000), "192k.wav": ("-ar", 192000), "11k.wav": ("-ar", 11025),
}  # fmt: skip


@pytest.mark.parametrize("named", ["as it is", "another"])
@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_is_heard_whatever_its_name(
    tmp_path: Path, voice: Path, kind: str, named: str
) -> None:
    path = tmp_path / kind
    ffmpeg("-i", voice, "-ac", 1, *KINDS[kind], path)
    if named == "another":
        if kind in ("g726.wav", "g723.wav"):
            pytest.skip("once is enough")
        path = path.rename(tmp_path / "voice.dat")
    heard = load_voice(path)
    assert probe.inspect_audio(path).duration == pytest.approx(3, abs=0.35)
    found, alike = lag(heard, speech())
    assert alike > 0.5, alike
    assert abs(found) < 0.15


def written(data: bytes) -> Callable[[Path], object]:
    return lambda path: path.write_bytes(data + bytes(5000))


def protected(path: Path) -> None:
    """As far as its header tells."""
    ffmpeg("-f", "lavfi", "-i", "sine", "-t", 1, "-f", "mp4", path)
    path.write_bytes(path.read_bytes().replace(b"mp4a", b"drms"))


def noise_bytes() -> bytes:
    return np.random.default_rng(5).bytes(50_000)


def word(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("[Content_Types].xml", "x" * 9000)
        archive.writestr("word/document.xml", "x" * 9000)


REFUSED: dict[str, tuple[Callable[[Path], object], str]] = {
    "a.mid": (written(b"MThd\0\0\0\6\0\1\0\1"), "MIDI"),
    "a.rmi": (written(b"RIFF\0\1\0\0RMIDdata"), "MIDI"),
    "a.txt": (lambda path: path.write_text("Say this, please. " * 50), "a text"),
    "b.txt": (lambda path: path.write_text("Bitte sehr: äöü " * 999), "a text"),
    "c.txt": (lambda path: path.write_text("hello" * 99, "utf-16"), "a text"),
    "a.srt": (lambda path: path.write_text("1\n00:00:01,000 --> 00:00:02,000\nHi\n"), "subtitles"),
    "a.vtt": (lambda path: path.write_text("WEBVTT\n\n00:01.000 --> 00:02.000\nHi"), "subtitles"),
    "a.m3u": (lambda path: path.write_text("#EXTM3U\nfile.mp3\n"), "a playlist"),
    "a.html": (lambda path: path.write_text("<!DOCTYPE html><p>404"), "a web page"),
    "a.zip": (written(b"PK\x03\x04"), "an archive"),
    "a.rar": (written(b"Rar!\x1a\7\0"), "an archive"),
    "a.gz": (written(b"\x1f\x8b\x08\0"), "an archive"),
    "a.docx": (written(b"PK\x03\x04" + bytes(26) + b"word/document.xml"), "a Word document"),
    "b.docx": (word, "a Word document"),
    "a.doc": (written(b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"), "a document"),
    "a.pdf": (written(b"%PDF-1.7\n"), "a document"),
    "a.aax": (written(b"\0\0\0\x20ftypaax \0\0\0\1"), "copy protection"),
    "a.m4p": (protected, "copy protection"),
    "a.ra": (written(b".ra\xfd\0\3"), "RealMedia"),
    "a.exe": (written(b"MZ" + bytes(100)), "a program"),
    "a.jpg": (samples.cmyk_jpeg, "a picture"),
    "noise.mp3": (samples.noise, "no sound"),
    **{
        f"noise after a head.{suffix}": (written(head + noise_bytes()), "recording cannot be read")
        for suffix, head in (
            ("wav", b"RIFF\xff\xff\0\0WAVE"), ("flac", b"fLaC"), ("ogg", b"OggS"),
            ("m4a", b"\0\0\0\x18ftypM4A \0\0\0\0M4A mp42"),
        )
    },
    "zeros.wav": (lambda path: path.write_bytes(bytes(100_000)), "no sound"),
    "ones.mp3": (lambda path: path.write_bytes(b"\xff" * 100_000), "no sound|cannot be read"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_no_sound_is_named(tmp_path: Path, name: str) -> None:
    make, told = REFUSED[name]
    path = tmp_path / name
    make(path)
    with pytest.raises(MediaError, match=told) as refused:
        sandbox.inspect_audio(path)
    assert "MP4" not in str(refused.value)
    assert "WAV or MP3" in str(refused.value) or "a picture" in told


# Row 9: what lies before and beside the sound


def id3(size: int, body: bytes = b"") -> bytes:
    length = bytes((size >> shift) & 0x7F for shift in (21, 14, 7, 0))
    return b"ID3\3\0\0" + length + body + bytes(size - len(body))


def ape_tag() -> bytes:
    item = struct.pack("<II", 5, 0) + b"Title\0Hello"
    foot = struct.pack("<8sIIII8x", b"APETAGEX", 2000, len(item) + 32, 1, 0)
    return item + foot


BEFORE: dict[str, bytes] = {
    "a zero byte": b"\0",
    "garbage": bytes(np.random.default_rng(9).integers(0, 250, 1500, np.uint8)),
    "much garbage": bytes(np.random.default_rng(9).integers(0, 250, 30_000, np.uint8)),
    "zeros": bytes(5000),
    "an answer's head": b"HTTP/1.1 200 OK\r\nContent-Type: audio/mpeg\r\n\r\n",
    "a line": b"\r\n",
    "ID3 of megabytes": id3(3 * 2**20),
    "ID3 of 20 MB": id3(20 * 2**20),
    "two ID3": id3(5000) + id3(3000),
    "a zero byte and ID3": b"\0" + id3(5000),
    "album art": id3(
        300_000, b"APIC" + struct.pack(">IH", 200_000, 0) + b"\0image/jpeg\0\3\0\xff\xd8\xff"
    ),
    "an APE tag": ape_tag(),
}


@pytest.mark.parametrize("name", ["voice.mp3", "photo.jpg"])
@pytest.mark.parametrize("before", BEFORE)
def test_an_mp3_after_anything(tmp_path: Path, voice: Path, before: str, name: str) -> None:
    plain = tmp_path / "plain.mp3"
    ffmpeg("-i", voice, "-id3v2_version", 0, "-write_xing", 0, plain)
    path = tmp_path / name
    path.write_bytes(BEFORE[before] + plain.read_bytes() + ape_tag() + b"TAG" + bytes(125))
    assert probe.inspect_audio(path).duration == pytest.approx(3, abs=0.15)
    assert lag(load_voice(path), speech())[1] > 0.9


@pytest.mark.parametrize("kind", ["aac", "flac", "wav", "ogg"])
@pytest.mark.parametrize("before", ["ID3 of megabytes", "two ID3", "a zero byte"])
def test_others_after_a_tag(tmp_path: Path, voice: Path, kind: str, before: str) -> None:
    plain = tmp_path / f"plain.{kind}"
    ffmpeg("-i", voice, plain)
    path = tmp_path / f"voice.{kind}"
    path.write_bytes(BEFORE[before] + plain.read_bytes())
    if kind in ("wav", "ogg"):  # no player reads these
        with suppress(MediaError):
            probe.inspect_audio(path)
    else:
        assert probe.inspect_audio(path).duration == pytest.approx(3, abs=0.2)


@pytest.mark.parametrize("kind", ["mp3", "m4a", "flac", "ogg", "wv", "mka"])
def test_album_art_is_no_video(tmp_path: Path, voice: Path, kind: str) -> None:
    art = samples.portrait(tmp_path / "art.jpg")
    path = tmp_path / f"voice.{kind}"
    if kind in ("ogg", "wv", "mka"):
        ffmpeg(
            "-i",
            voice,
            *(["-attach", art, "-metadata:s:t", "mimetype=image/jpeg"] * (kind == "mka")),
            path,
        )
    else:
        words = ("-map", 0, "-map", 1, "-c:v", "copy", "-disposition:v", "attached_pic")
        ffmpeg("-i", voice, "-i", art, *words, path)
    assert_says(path, seconds=3)
    with pytest.raises(MediaError, match="sound recording"):
        probe.inspect_source(path)


@pytest.mark.parametrize("kind", ["webm", "mkv"])
@pytest.mark.parametrize("pad", [0, 6000])
def test_a_clip_whose_sound_comes_first_is_a_clip(
    tmp_path: Path, voice: Path, kind: str, pad: int
) -> None:
    path = tmp_path / f"clip.{kind}"
    title = ("-metadata:s:a:0", "title=" + "x" * pad)
    film(path, "-i", voice, "-map", 1, "-map", 0, *title)
    found = probe.inspect_source(path)
    assert (found.kind, found.width, found.has_audio) == ("video", 64, True)
    assert sandbox.inspect_source(path, decode=False).kind == "video"
    assert_says(path)


@pytest.mark.parametrize("lost", [1, 100, 187])
def test_a_ts_that_begins_within_a_packet(tmp_path: Path, voice: Path, lost: int) -> None:
    whole = film(tmp_path / "whole.ts", "-i", voice, "-map", 0, "-map", 1)
    path = tmp_path / "clip.ts"
    path.write_bytes(whole.read_bytes()[lost:])
    assert probe.inspect_source(path).kind == "video"
    assert probe.inspect_audio(path).duration == pytest.approx(3, abs=0.3)


# Through the command line


def generate(source: Path, audio: Path, out: Path) -> "subprocess.CompletedProcess[str]":
    words = ["generate", "--local", "--source", source, "--audio", audio, "--output", out]
    return subprocess.run(
        [sys.executable, "-m", "kolbo_demo", *words], capture_output=True, text=True, check=False
    )


def small_portrait(path: Path) -> Path:
    probe.upright_image(samples.PORTRAIT).resize((256, 256)).save(path)
    return path


def test_the_second_track_speaks_after_its_silence(tmp_path: Path) -> None:
    sounds = [samples.wav(tmp_path / f"{n}.wav", s[None], RATE) for n, s in enumerate(
        (silence(1.5), speech()[: 3 * RATE // 2])
    )]  # fmt: skip
    path, out = tmp_path / "voice.mka", tmp_path / "out.mp4"
    ffmpeg(
        "-i", sounds[0], "-itsoffset", 0.8, "-i", sounds[1], "-map", 0, "-map", 1, "-ac", 2, path
    )
    done = generate(small_portrait(tmp_path / "p.png"), path, out)
    assert done.returncode == 0, done.stderr
    assert "sound track 2 of 2" in done.stderr
    heard = load_voice(out)
    assert len(heard) / RATE == pytest.approx(2.3, abs=0.1)
    assert lag(heard, speech()[: 3 * RATE // 2])[0] == pytest.approx(0.8, abs=0.05)


def test_a_silent_recording_is_told_before_anything_is_rendered(tmp_path: Path) -> None:
    voice = samples.silent_wav(tmp_path / "voice.wav", 0.5)
    done = generate(small_portrait(tmp_path / "p.png"), voice, tmp_path / "out.mp4")
    assert done.returncode == 0, done.stderr
    told = done.stderr.splitlines()
    silent = next(n for n, line in enumerate(told) if "recording is silent" in line)
    started = next(n for n, line in enumerate(told) if "started" in line)
    assert silent < started


def test_a_folder_s_recordings_are_known_by_their_content(tmp_path: Path, voice: Path) -> None:
    for name in ("film.mp4", "late.mp3", "phone.3gp"):
        small_portrait(tmp_path / f"{Path(name).stem}.png")
    ffmpeg("-i", voice, tmp_path / "film.mp4")
    ffmpeg("-i", voice, *KINDS["a.3gp"], tmp_path / "phone.3gp")
    plain = tmp_path / "plain.tmp"
    ffmpeg("-i", voice, "-f", "mp3", "-id3v2_version", 0, plain)
    (tmp_path / "late.mp3").write_bytes(BEFORE["garbage"] + plain.read_bytes())
    plain.unlink()
    voice.unlink()
    rows = read_pairs(tmp_path)
    assert [(row.name, row.problem) for row in rows] == [
        ("film.png", None), ("late.png", None), ("phone.png", None)
    ]  # fmt: skip
