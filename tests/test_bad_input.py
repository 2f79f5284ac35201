"""What bad input gets, end to end: a sentence that says what is wrong and what to do.

Each row goes to the live service through every door: the client, the command line, and the API
itself where the client would not even send it. Odd input that is not bad has to work. What each
room says for itself is in its own tests; this is the whole way, in one table.
"""

import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import requests
from PIL import Image

from kolbo_demo.client import ApiError, GenerationFailedError, InputError, KolboClient, KolboError
from kolbo_demo.contract import PROCESSING
from kolbo_demo.engine.audio_io import load_voice
from kolbo_demo.options import Options
from kolbo_demo.service.app import LocalService
from tests import samples, scripted
from tests.engine.lip_measurements import measure_lips
from tests.scripted import HTML, Reply, Scripted
from tests.waiting import wait

no_settings, server = scripted.no_settings, scripted.server  # fixtures
Make = Callable[[Path], Path]
SECONDS = 0.4
"""Of the voices that work."""


# The doors


class Doors:
    """The ways to one service, and what all of them owe to a visitor."""

    def __init__(self, service: LocalService, service_folder: Path) -> None:
        self._service, self._folder = service, service_folder
        self.key = service.api_key.get_secret_value()

    def client(self, key: str | None = None) -> KolboClient:
        return KolboClient(key or self.key, self._service.base_url)

    def command(
        self,
        source: Path | str,
        audio: Path | str,
        output: Path,
        options: dict[str, Any] | None = None,
        key: str | None = None,
    ) -> subprocess.CompletedProcess[str]:
        """`python -m kolbo_demo generate`, as a person runs it."""
        words = ["--source", source, "--audio", audio, "--output", output]
        for name, value in (options or {}).items():
            words += [f"--{name}", ",".join(map(str, value)) if name == "face" else value]
        return subprocess.run(
            [sys.executable, "-m", "kolbo_demo", "generate", "--base-url", self._service.base_url]
            + [str(word) for word in words],
            capture_output=True,
            text=True,
            env=os.environ | {"KOLBO_API_KEY": key or self.key},
            timeout=120,
        )

    def raw(
        self,
        source: Path | str,
        audio: Path | str,
        options: dict[str, Any],
        more: dict[str, str] | None = None,
    ) -> tuple[str, str]:
        """A plain form for the API, whatever it holds: the code and the sentence of its no."""
        files, fields = {}, dict(more or {})
        for name, what in (("image", source), ("audio", audio)):
            if isinstance(what, Path):
                files[name] = (f"{name}.bin", what.read_bytes())
        if point := options.get("face"):
            fields["bounding_box_target"] = str(list(point))
        api, headers = f"{self._service.base_url}/v1/generate", {"X-API-Key": self.key}
        reply = requests.post(
            f"{api}/lipsync", data=fields, files=files, headers=headers, timeout=60
        )
        body = reply.json()
        if reply.status_code != 200:
            assert 400 <= reply.status_code < 500
            assert (body["success"], body["status"]) == (False, False)
            assert body["error"] == body["message"]
            return body["code"], body["error"]
        status_url = f"{api}/{body['generation_id']}/status"

        def ended() -> dict[str, Any] | None:
            status = requests.get(status_url, headers=headers, timeout=30).json()
            return None if status["state"] == PROCESSING else status

        status = wait(ended, interval=0.1)
        assert (status["success"], status["state"]) == (True, "failed")
        assert isinstance(status["error"], str)
        return status["failure"]["code"], status["error"]

    def check(self, sentence: str, says: str) -> None:
        """One line that a person understands, and that shows nothing of this machine."""
        assert re.search(says, sentence), sentence
        assert "\n" not in sentence
        assert 20 < len(sentence) < 300
        assert sentence[0].isupper() or sentence.startswith(("127.0.0.1 ", "bounding_box_target "))
        assert sentence.endswith(".")
        for hidden in (self.key, str(self._folder), "Traceback", "Error", "/tmp"):
            assert hidden not in sentence, sentence

    def left(self) -> set[str]:
        """What the service keeps of inputs and of work under way."""
        return {
            str(path.relative_to(self._folder))
            for room in ("inputs", "work")
            for path in (self._folder / room).iterdir()
        }


@pytest.fixture
def doors(live_service: LocalService, service_folder: Path) -> Iterator[Doors]:
    """The doors; afterwards nothing of what came through them is left in the service's folder."""
    doors = Doors(live_service, service_folder)
    before = doors.left()
    yield doors
    wait(lambda: doors.left() <= before)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Where inputs lie and outputs go."""
    return tmp_path


# What is given


def portrait() -> Image.Image:
    with Image.open(samples.PORTRAIT) as image:
        return image.convert("RGB").crop((96, 0, 352, 256))


def face(path: Path) -> Path:
    portrait().save(path)
    return path


def cmyk_face(path: Path) -> Path:
    portrait().convert("CMYK").save(path)
    return path


def sixteen_bit_face(path: Path) -> Path:
    grey = np.asarray(portrait().convert("L"), np.uint16) * 257
    Image.fromarray(grey).save(path)
    return path


def face_on_nothing(path: Path) -> Path:
    """PNG with alpha, whatever the name: the lower edge fades away."""
    picture = portrait()
    fade = np.full((256, 256), 255, np.uint8)
    fade[192:] = np.linspace(255, 0, 64, dtype=np.uint8)[:, None]
    picture.putalpha(Image.fromarray(fade))
    picture.save(path, "PNG")
    return path


def moving_face(path: Path) -> Path:
    """Animated: the face first, then nothing but grey."""
    grey = Image.new("RGB", (256, 256), "grey")
    portrait().save(path, save_all=True, append_images=[grey] * 2, duration=100, loop=0)
    return path


def two_faces(path: Path) -> Path:
    """A face at the left, a smaller one at the right."""
    picture = Image.new("RGB", (512, 256), "grey")
    picture.paste(portrait(), (0, 0))
    picture.paste(portrait().resize((200, 200)), (300, 20))
    picture.save(path)
    return path


def odd_clip(path: Path) -> Path:
    """255 x 253 pixels."""
    picture = np.asarray(portrait())[:253, :255]
    return samples.video(path, pictures=[picture] * 6, pix_fmt="yuv444p")


def clip_cut_short(path: Path) -> Path:
    """Its index is in front, so its first half can be seen."""
    whole = samples.video(
        path.with_name("whole-clip.mp4"),
        pictures=[np.asarray(portrait())] * 30,
        options={"g": "1"},
        container_options={"movflags": "+faststart"},
    )
    return samples.cut(path, whole)


def no_face(path: Path) -> Path:
    Image.fromarray(samples.card(3)).save(path)
    return path


def voice(path: Path) -> Path:
    return samples.recording(path, SECONDS, 16_000)


def sound(rate: int, channels: int) -> Make:
    return lambda path: samples.recording(path, SECONDS, rate, channels)


def silence(seconds: float) -> Make:
    return lambda path: samples.wav(path, np.zeros((1, round(seconds * 8000))), 8000)


def made(make: Make, path: Path) -> Path:
    """The file alone, without what it was made from."""
    make(path)
    for whole in path.parent.glob("whole-*"):
        whole.unlink()
    return path


def given(what: "tuple[str, Make] | str", folder: Path, web: Scripted) -> Path | str:
    """A file made in the folder, a link, or nothing. A link that starts with / is to `web`."""
    if isinstance(what, tuple):
        name, make = what
        return made(make, folder / name)
    port = web.server_address[1]
    return f"http://localhost:{port}{what}" if what[:1] == "/" else what.replace("PORT", str(port))


FACE, VOICE = ("face.jpg", face), ("voice.wav", voice)


# What cannot work


@dataclass(frozen=True)
class Bad:
    """`says`: what is wrong and what to do, as a pattern that holds at each door. `code`: what the
    API calls it, None where only its own tests send so much."""

    says: str
    code: str | None
    source: tuple[str, Make] | str = FACE
    audio: tuple[str, Make] | str = VOICE
    options: dict[str, Any] = field(default_factory=dict)
    key: str | None = None


BAD = {
    "no source": Bad("no source|source is missing.*give", "MISSING_FIELDS", source=""),
    "no audio": Bad("no audio|audio is missing.*give", "MISSING_FIELDS", audio=""),
    "empty picture": Bad("empty.*choose", "INVALID_SOURCE", ("a.png", samples.empty)),
    "empty voice": Bad("empty.*choose", "INVALID_AUDIO", audio=("a.mp3", samples.empty)),
    "text as .png": Bad("no picture or video.*(choose|give)", "INVALID_SOURCE",
                        ("a.png", samples.text)),
    "text as .mp3": Bad("(no sound|not a sound).*(choose|give)", "INVALID_AUDIO",
                        audio=("a.mp3", samples.text)),
    "JPEG cut short": Bad("cut short.*save it again", "INVALID_MEDIA",
                          ("a.jpg", samples.truncated_jpeg)),
    "MP4 cut short": Bad("cut short.*Save it again", "INVALID_MEDIA",
                         ("a.mp4", samples.truncated_mp4)),
    "MP3 cut to nothing": Bad("cut short.*Save it again", "INVALID_MEDIA",
                              audio=("a.mp3", samples.shredded_mp3)),
    "no face": Bad("No face.*Use a clear", "INVALID_MEDIA", ("a.png", no_face)),
    "1x1": Bad("1x1 pixels.*at least 32", "INVALID_MEDIA", ("a.png", samples.tiny_png)),
    "20000x20000": Bad("too large.*scale it down", "INVALID_MEDIA", ("a.png", samples.huge_png)),
    "video without video": Bad("no picture.*choose", "INVALID_MEDIA",
                               ("a.mp4", samples.silent_film)),
    "0.05 s": Bad("0.05 s long.*at least 0.1 s", "INVALID_AUDIO_DURATION",
                  audio=("a.wav", samples.short_wav)),
    "over 10 minutes": Bad("601 s long.*at most 600 s", "INVALID_AUDIO_DURATION",
                           audio=("a.wav", silence(601))),
    "101 MB of picture": Bad("101 MB.*compress", None, ("a.jpg", samples.too_heavy)),
    "101 MB of voice": Bad("101 MB.*shorten", None, audio=("a.wav", samples.too_heavy)),
    "face outside": Bad("from 0 to 1", "INVALID_BOUNDING_BOX_TARGET",
                        options={"face": (0.5, 1.5)}),
    "unknown model": Bad("Model not found.*[Cc]hoose one", "MODEL_NOT_FOUND",
                         options={"model": "nobody/nothing"}),
    "wrong key": Bad("does not accept this API key. Check", "INVALID_API_KEY",
                     key="kolbo_live_" + "0" * 40),
    "link to a private address": Bad("private.*give a public", "INVALID_SOURCE_URL",
                                     "http://127.0.0.1:PORT/face.jpg"),
    "link to HTML": Bad("web page.*upload", "LINK_NOT_A_FILE", "/page.html"),
    "link to a 404": Bad("status 404.*upload", "LINK_STATUS", audio="/missing.mp3"),
    "link that never ends": Bad("more than 100 MB.*smaller", "FILE_TOO_LARGE", "/endless.mp4"),
}  # fmt: skip


@pytest.mark.parametrize("row", BAD)
def test_bad_input_gets_a_sentence(row: str, doors: Doors, server: Scripted, folder: Path) -> None:
    server.on("GET /page.html", HTML)
    server.on("GET /endless.mp4", Reply(endless=True))
    bad = BAD[row]
    source, audio = given(bad.source, folder, server), given(bad.audio, folder, server)
    before = sorted(folder.iterdir())

    with pytest.raises(KolboError) as caught:
        doors.client(bad.key).lipsync(source, audio, Options(**bad.options)).wait(60)
    doors.check(str(caught.value), bad.says)
    code = _code(caught.value)
    if code is None and bad.code is not None:
        code, sentence = doors.raw(source, audio, bad.options)
        doors.check(sentence, bad.says)
    assert code == bad.code

    done = doors.command(source, audio, folder / "out.mp4", bad.options, bad.key)
    assert (done.returncode, done.stdout) == (2, "")
    *started, sentence = done.stderr.splitlines()
    told = r"Generation lip_\w+ started\.|The recording is silent: .*"
    assert all(re.fullmatch(told, line) for line in started)
    doors.check(sentence, bad.says)

    assert sorted(folder.iterdir()) == before
    if row == "link to a private address":
        assert server.requests == []


def test_a_file_and_a_link_at_once_are_refused(doors: Doors, folder: Path) -> None:
    picture, words = face(folder / "face.jpg"), voice(folder / "voice.wav")
    for more, code in (
        ({"source_url": "http://example.com/a.jpg"}, "CONFLICTING_SOURCE"),
        ({"audio_url": "http://example.com/a.mp3"}, "CONFLICTING_AUDIO"),
    ):
        found, sentence = doors.raw(picture, words, {}, more)
        assert found == code
        doors.check(sentence, "Give only one")
    done = doors.command(picture, words, folder / "out.mp4", {"say": "Hello."})
    assert (done.returncode, done.stdout) == (2, "")
    doors.check(done.stderr.strip(), "Give either --audio or --say")
    assert not (folder / "out.mp4").exists()


def _code(error: KolboError) -> str | None:
    """What the API called it; None where it was not asked."""
    if isinstance(error, GenerationFailedError):
        assert error.status
        assert error.status.failure
        assert isinstance(error.status.error, str)
        return error.status.failure.code
    assert isinstance(error, ApiError | InputError)
    return error.code if isinstance(error, ApiError) else None


# What is odd, and works


@dataclass(frozen=True)
class Odd:
    """`name` is that of the source; the other files are called after it."""

    name: str
    source: Make
    voice: str
    audio: Make
    channels: int
    size: tuple[int, int] = (256, 256)


ODD = {
    "animated GIF, 8 kHz": Odd("two words 😀.gif", moving_face, "a.wav", sound(8_000, 1), 1),
    "animated WebP, 5.1": Odd("it's “a” \"b\".webp", moving_face, "b.wav", sound(48_000, 6), 6),
    "CMYK, 96 kHz": Odd("портрет.jpg", cmyk_face, "c.flac", sound(96_000, 2), 2),
    "16 bits, MP3 cut short": Odd("肖像.png", sixteen_bit_face, "d.mp3", samples.truncated_mp3, 2),
    "alpha, no extension": Odd("100% #1 & more; $HOME", face_on_nothing, "e.ogg",
                               sound(48_000, 2), 2),
    "odd-sized clip": Odd("-i.mp4", odd_clip, "f.m4a", sound(44_100, 1), 1, (254, 252)),
    "clip cut short": Odd("صورة.mp4", clip_cut_short, "g.wav", sound(22_050, 1), 1),
}  # fmt: skip


@pytest.mark.parametrize(("row", "by_command"), [(row, i % 2) for i, row in enumerate(ODD)])
def test_odd_input_works(row: str, by_command: int, doors: Doors, folder: Path) -> None:
    odd = ODD[row]
    source = made(odd.source, folder / odd.name)
    audio = made(odd.audio, folder / f"{odd.name} {odd.voice}")
    out = folder / f"{odd.name} out.mp4"
    if by_command:
        done = doors.command(source, audio, out)
        assert (done.returncode, done.stdout) == (0, f"{out}\n"), done.stderr
    else:
        generation = doors.client().lipsync(source, audio)
        generation.wait(60)
        generation.download(out)
    assert set(folder.iterdir()) == {source, audio, out}
    with av.open(str(out)) as video:
        picture = video.streams.video[0]
        assert (picture.width, picture.height) == odd.size
        assert video.streams.audio[0].channels == odd.channels
        frames = sum(1 for _ in video.decode(video=0))
    meant, heard = load_voice(audio), load_voice(out)
    assert frames == -(-len(meant) // (16_000 // 25))
    assert len(heard) >= len(meant) - 16, "the voice is whole"
    end = slice(len(meant) - 1600, len(meant))
    assert np.std(heard[end]) > 0.5 * np.std(meant[end]) > 0.01


def test_silence_works_and_lips_rest(doors: Doors, folder: Path) -> None:
    out = folder / "out.mp4"
    done = doors.command(face(folder / "a.jpg"), silence(SECONDS)(folder / "a.wav"), out)
    assert done.returncode == 0, done.stderr
    assert np.ptp(measure_lips(out).aperture) < 0.02


def test_a_face_point_on_no_face_means_the_nearest(doors: Doors, folder: Path) -> None:
    """In the grey beside the smaller face."""
    words = samples.cut(folder / "words.wav", samples.SPEECH, 0.15)
    generation = doors.client().lipsync(
        two_faces(folder / "two.png"), words, Options(face=(0.98, 0.95))
    )
    generation.wait(60)
    out = generation.download(folder / "out.mp4")
    left, right = (np.ptp(measure_lips(out, at).aperture) for at in ((0.25, 0.4), (0.78, 0.45)))
    assert right > 0.04
    assert left < 0.5 * right


def test_ten_minutes_are_taken_and_can_be_cancelled(doors: Doors, folder: Path) -> None:
    generation = doors.client().lipsync(face(folder / "a.jpg"), silence(600)(folder / "a.wav"))
    for status in generation.events(60):
        assert status.state == PROCESSING
        if status.progress:
            break  # frames are being made
    assert generation.cancel().state == "cancelled"
