"""`KolboClient`: requests on the wire, input checks, and what never leaves this machine."""

import logging
import shutil
import struct
import subprocess
import sys
from pathlib import Path

import pytest

from kolbo_demo.client import AuthError, InputError, KolboClient, KolboError
from kolbo_demo.contract import url_kind
from kolbo_demo.options import Options
from tests import samples
from tests.scripted import HTML, KEY, Reply, Scripted, sparse_wav

LINK, VOICE = "https://example.com/portrait.jpg", "https://example.com/speech.mp3"
MODELS = {"success": True, "count": 1, "models": [{"identifier": "a/b", "name": "B", "odd": [1]}]}


def test_models_are_not_cached(server: Scripted, client: KolboClient) -> None:
    server.on("GET /v1/models", Reply(json=MODELS), Reply(json={"models": []}))
    (model,) = client.models()
    assert (model.identifier, model.name) == ("a/b", "B")
    assert client.models() == []
    assert [seen.path for seen in server.requests] == ["/api/v1/models?type=lipsync"] * 2
    assert server.requests[0].headers["X-API-Key"] == KEY


def test_a_malformed_row_hides_no_other_model(server: Scripted, client: KolboClient) -> None:
    rows = [
        None,
        {"name": "nameless"},
        {"identifier": 5},
        {"identifier": "m", "types": "lipsync", "credit": "?"},
    ]
    server.on("GET /v1/models", Reply(json={"models": rows}))
    (model,) = client.models()
    assert (model.identifier, model.types, model.credit) == ("m", [], None)


def test_credits(server: Scripted, client: KolboClient) -> None:
    credits_ = {"total": 12.5, "plan_credits": 10, "credit_pack": 2.5, "redemption": 0}
    server.on("GET /v1/account/credits", Reply(json={"success": True, "credits": credits_}))
    assert client.credits().model_dump() == credits_


def test_two_links_go_as_json_without_absent_options(server: Scripted, client: KolboClient) -> None:
    server.starts(hint=3)
    generation = client.lipsync(LINK, VOICE)
    assert (generation.id, generation.poll_interval) == ("lip_1", 3)
    assert generation.started
    assert generation.started.credits_charged == 20
    (seen,) = server.requests
    assert seen.headers["Content-Type"] == "application/json"
    assert seen.headers["X-API-Key"] == KEY
    assert seen.json == {"source_url": LINK, "audio_url": VOICE}


@pytest.mark.parametrize(
    ("link", "kind"),
    [
        ("https://a.b/clip.mp4", "video"),
        ("https://a.b/CLIP.M4V?size=1.png#x.jpg", "video"),
        ("https://a.b/face.png?was=clip.mp4", "image"),
        ("https://a.b/face", "image"),
        ("https://a.mp4", "image"),
        ("https://a]/clip.mp4", "image"),
    ],
)
def test_the_kind_of_a_link_is_its_extension(link: str, kind: str) -> None:
    assert url_kind(link) == kind


def test_options_in_json(server: Scripted, client: KolboClient) -> None:
    server.starts()
    client.lipsync(
        f"{LINK}?x=a.mp4", VOICE, Options(prompt=" smile ", model="a/b", face=(0.5, 0.4))
    )
    assert server.requests[0].json == {
        "source_url": f"{LINK}?x=a.mp4",
        "audio_url": VOICE,
        "prompt": "smile",
        "model": "a/b",
        "bounding_box_target": [0.5, 0.4],
    }


def test_files_go_as_multipart(
    server: Scripted, client: KolboClient, portrait: Path, speech: Path
) -> None:
    server.starts()
    client.lipsync(portrait, str(speech), Options(prompt="smile ☺", face=(0.5, 0.4)))
    parts = server.requests[0].parts
    assert parts == {
        "image": ("source.png", "image/png", portrait.read_bytes()),
        "audio": ("audio.wav", "audio/wav", speech.read_bytes()),
        "prompt": (None, None, "smile ☺".encode()),
        "bounding_box_target": (None, None, b"[0.5, 0.4]"),
    }


def test_a_file_is_sent_as_its_detected_type(
    server: Scripted, client: KolboClient, clip: Path, speech: Path
) -> None:
    server.starts()
    client.lipsync(clip, speech)
    assert server.requests[0].parts["video"] == ("source.mp4", "video/mp4", clip.read_bytes())
    assert set(server.requests[0].parts) == {"video", "audio"}


def test_the_sound_of_a_video_is_a_voice(
    server: Scripted, client: KolboClient, portrait: Path, talking: Path
) -> None:
    server.starts()
    client.lipsync(portrait, talking)
    assert server.requests[0].parts["audio"][:2] == ("audio.mp4", "audio/mp4")


def test_file_and_link_mixed(
    server: Scripted, client: KolboClient, portrait: Path, speech: Path
) -> None:
    server.starts()
    client.lipsync(portrait, VOICE)
    client.lipsync(LINK, speech)
    assert set(server.requests[0].parts) == {"image", "audio_url"}
    assert server.requests[0].parts["audio_url"] == (None, None, VOICE.encode())
    assert set(server.requests[1].parts) == {"source_url", "audio"}


@pytest.mark.parametrize(
    "name", ["my face.png", "a\"b'c.png", "☺ émoji.png", "肖像.png", "-x;y=z.png"]
)
def test_any_file_name_is_accepted(
    server: Scripted, client: KolboClient, portrait: Path, speech: Path, tmp_path: Path, name: str
) -> None:
    server.starts()
    shutil.copy(portrait, tmp_path / name)
    client.lipsync(tmp_path / name, speech)
    assert server.requests[0].parts["image"] == ("source.png", "image/png", portrait.read_bytes())


def test_upload_progress_rises_to_the_end(
    server: Scripted, client: KolboClient, portrait: Path, tmp_path: Path
) -> None:
    server.starts()
    speech = sparse_wav(tmp_path / "long.wav", 1)
    calls: list[tuple[int, int]] = []
    client.lipsync(portrait, speech, on_upload=lambda sent, total: calls.append((sent, total)))
    sent = [call[0] for call in calls]
    assert sent == sorted(sent)
    assert sent[0] == 0
    assert calls[-1] == (server.requests[0].length, server.requests[0].length)
    assert len(calls) > 2


def _write(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


BAD_SOURCES = {
    "none": lambda tmp: None,
    "blank": lambda tmp: "  ",
    "missing": lambda tmp: tmp / "nothing.png",
    "folder": lambda tmp: tmp,
    "empty": lambda tmp: _write(tmp / "empty.png", b""),
    "text": lambda tmp: _write(tmp / "text.png", b"I am a picture, honestly. " * 40),
    "other scheme": lambda tmp: "ftp://example.com/a.png",
    "no host": lambda tmp: "http:///a.png",
    "space in link": lambda tmp: "https://example.com/a b.png",
    "endless name": lambda tmp: "x" * 5000,
}


@pytest.mark.parametrize("bad", BAD_SOURCES)
def test_an_unusable_source_is_refused_before_sending(
    server: Scripted, client: KolboClient, tmp_path: Path, speech: Path, bad: str
) -> None:
    with pytest.raises(InputError) as caught:
        client.lipsync(BAD_SOURCES[bad](tmp_path), speech)  # type: ignore[arg-type]
    assert _is_a_sentence(caught.value)
    assert isinstance(caught.value, ValueError)
    assert server.requests == []


def test_a_picture_is_no_voice(client: KolboClient, portrait: Path) -> None:
    with pytest.raises(InputError):
        client.lipsync(portrait, portrait)


@pytest.mark.parametrize("face", [(-0.1, 0.5), (0.5, 1.01), (float("nan"), 0.5), (0.5,), "ab", 3])
def test_face_point_must_be_in_the_picture(
    server: Scripted, client: KolboClient, face: object
) -> None:
    with pytest.raises(InputError, match="0 to 1"):
        client.lipsync(LINK, VOICE, Options(face=face))  # type: ignore[arg-type]
    assert server.requests == []


def test_key_and_base_come_from_the_environment_when_constructed(
    server: Scripted, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KOLBO_API_KEY", f" {KEY}\n")
    monkeypatch.setenv("KOLBO_API_URL", f"{server.base_url}/")
    server.on("GET /v1/models", Reply(json=MODELS))
    assert KolboClient().models()
    assert server.requests[0].headers["X-API-Key"] == KEY
    assert KolboClient("another", "http://127.0.0.1:9/x/").base_url == "http://127.0.0.1:9/x"
    monkeypatch.delenv("KOLBO_API_URL")
    assert KolboClient().base_url == "https://api.kolbo.ai/api"


@pytest.mark.parametrize("key", [None, "", " ", "kolbo live", "kolbo\nlive", "ключ"])
def test_a_malformed_key_is_refused(key: str | None) -> None:
    with pytest.raises(AuthError) as caught:
        KolboClient(key, "http://127.0.0.1:9")
    assert _is_a_sentence(caught.value)
    assert not key or not key.strip() or key not in str(caught.value)


@pytest.mark.parametrize(
    "base", ["api.kolbo.ai", "ftp://x/api", "http://", "http://[", "http://u:p@x"]
)
def test_a_malformed_base_url_is_refused(base: str) -> None:
    with pytest.raises(InputError, match="base URL"):
        KolboClient(KEY, base)


def test_the_key_is_never_shown(
    server: Scripted, quick: KolboClient, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    caplog.set_level(logging.DEBUG)
    echo = {"success": False, "error": f"Wrong key {KEY}", "code": "BAD"}
    server.on("GET /v1/account/credits", Reply(400, json=echo))
    server.on("POST /v1/generate/lipsync", Reply(drop=True))
    server.on("GET /v1/models", Reply(302, headers={"Location": "http://127.0.0.1:9/"}))
    server.on_status(server.completed())
    server.on("GET /files/result.mp4", HTML)
    generation = quick.generation("lip_1")
    shown = [
        repr(quick),
        str(quick),
        repr(generation),
        repr(vars(quick)),
        repr(vars(generation)),
    ]
    for attempt in (
        quick.credits,
        quick.models,
        lambda: quick.lipsync(LINK, VOICE),
        lambda: generation.download(tmp_path / "x.mp4"),
        lambda: KolboClient(f"{KEY} {KEY}", server.base_url),
    ):
        with pytest.raises(KolboError) as caught:
            attempt()
        shown += [repr(vars(error)) + repr(error) + str(error) for error in _chain(caught.value)]
        assert not any(hasattr(error, "request") for error in _chain(caught.value))
    assert caplog.records
    shown += [record.getMessage() for record in caplog.records]
    assert not [text for text in shown if KEY in text]


def test_netrc_is_not_sent(
    server: Scripted, client: KolboClient, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    _write(tmp_path / "netrc", b"machine 127.0.0.1 login me password secret\n").chmod(0o600)
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    server.on("GET /v1/models", Reply(json=MODELS))
    assert client.models()
    assert server.requests[0].headers["Authorization"] is None
    assert server.requests[0].headers["X-API-Key"] == KEY


def test_a_proxy_is_used_for_others_but_not_for_this_machine(
    server: Scripted, client: KolboClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTP_PROXY", server.url)
    monkeypatch.setenv("http_proxy", server.url)
    server.on("GET /v1/models", Reply(json=MODELS))
    assert client.models()
    assert server.requests[-1].path.startswith("/api/")
    server.script["GET http://kolbo.test/api/v1/models"] = [Reply(json=MODELS)]
    assert KolboClient(KEY, "http://kolbo.test/api").models()
    assert server.requests[-1].path.startswith("http://kolbo.test/api/")


@pytest.mark.parametrize("kind", ["voice", "clip"])
def test_a_100_mb_upload_adds_little_memory(
    server: Scripted, portrait: Path, speech: Path, tmp_path: Path, kind: str
) -> None:
    """The highest resident memory while a long file is looked at and sent, over what the process
    held after the same with a short one."""
    server.starts()
    short, long = (portrait, speech), (portrait, sparse_wav(tmp_path / "long.wav", 99))
    if kind == "clip":
        heavy = samples.video(tmp_path / "clip.mp4", 3, width=1920, height=1080)
        with heavy.open("ab") as file:  # an MP4 may end in free space
            file.write(struct.pack(">I4s", 99 * 2**20, b"free"))
            file.truncate(file.tell() + 99 * 2**20 - 8)
        long = (heavy, speech)
    script = """
import re, sys
from pathlib import Path
from kolbo_demo.client import KolboClient
def memory(line):
    return int(re.search(rf"{line}:\\s+(\\d+) kB", Path("/proc/self/status").read_text())[1]) * 1024
key, base, *files = sys.argv[1:]
client = KolboClient(key, base)
client.lipsync(*files[:2], on_upload=lambda *_: None)
Path("/proc/self/clear_refs").write_text("5")  # forget the highest so far
before = memory("VmRSS")
client.lipsync(*files[2:], on_upload=lambda *_: None)
print(memory("VmHWM") - before)
"""
    run = subprocess.run(
        [sys.executable, "-c", script, KEY, server.base_url, *short, *long],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    assert server.requests[-1].length > 99 * 2**20
    added = int(run.stdout)
    print(f"a 99 MB upload added {added / 2**20:.1f} MB")
    assert added < 32 * 2**20


def _chain(error: BaseException | None) -> list[BaseException]:
    """The error and all that stands behind it."""
    return [] if error is None else [error, *_chain(error.__cause__), *_chain(error.__context__)]


def _is_a_sentence(error: Exception) -> bool:
    text = str(error)
    starts_well = text[0].isupper() or text[0] in "“'0123456789"
    return starts_well and text.endswith(".") and len(text) < 400
