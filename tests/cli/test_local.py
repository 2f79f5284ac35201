"""`--local`: no key, no server, the real engine."""

import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import av
import numpy as np
import pytest

from kolbo_demo.credentials.reading import read
from kolbo_demo.engine.voices import speak
from kolbo_demo.media.probe import frame_at, inspect_audio, inspect_source
from kolbo_demo.process import child
from tests import samples
from tests.engine.synthetic_people import talking
from tests.marked import is_marked

ASSETS = Path(__file__).resolve().parents[2] / "assets"
PORTRAIT, SPEECH = ASSETS / "portrait.jpg", ASSETS / "speech.wav"


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the command puts its temporary files."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setenv("TMPDIR", str(folder))
    monkeypatch.setattr(tempfile, "tempdir", None)
    return folder


def start(*words: object) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-m", "kolbo_demo", *map(str, words)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ,
    )


def test_a_portrait_speaks_words(tmp_path: Path, temporary: Path) -> None:
    out = tmp_path / "it's “me”.mp4"
    words = ("generate", "--local", "--source", PORTRAIT, "--say", "Hello.", "--output", out)
    process = start(*words, "--subtitles", tmp_path / "words.srt")
    stdout, stderr = process.communicate(timeout=120)
    assert process.returncode == 0, stderr
    assert stdout == f"{out}\n"
    assert "Traceback" not in stderr
    with av.open(str(out)) as video:
        assert len(video.streams.audio) == 1
        assert next(video.decode(video=0)).width == 512
    number, _, line = (tmp_path / "words.srt").read_text().splitlines()
    assert (number, line) == ("1", "Hello.")
    assert list(temporary.iterdir()) == []


def test_each_process_loads_only_what_it_needs(tmp_path: Path, temporary: Path) -> None:
    """Modules that are not needed would take most of the time of a short render."""
    voice = samples.cut_wav(tmp_path / "voice.wav", SPEECH, 0.4)
    out = tmp_path / "out.mp4"
    words = ("generate", "--local", "--source", PORTRAIT, "--audio", voice, "--output", out)
    command = subprocess.run(
        [sys.executable, "-m", "kolbo_demo", *map(str, words)],
        capture_output=True,
        text=True,
        timeout=120,
        env=os.environ | {"PYTHONPROFILEIMPORTTIME": "1"},
        check=True,
    )
    assert "dbos" in _imported(command.stderr)
    engine = {"ai_edge_litert", "av", "cv2", "hama", "numpy", "PIL"}
    unneeded = {"fsspec", "gradio", "httpx", "moviepy", "rich", "scipy"}
    assert not _imported(command.stderr) & (engine | unneeded)
    render = subprocess.run(
        child.module_command("kolbo_demo.service.render_worker"),
        stdin=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        timeout=120,
        env=os.environ | {"PYTHONPROFILEIMPORTTIME": "1"},
        process_group=0,  # without a task it ends with its group
        check=False,
    )
    assert engine <= _imported(render.stderr)
    assert not _imported(render.stderr) & {"dbos", "fastapi", "pydantic", "requests", "sqlalchemy"}


def _imported(told: str) -> set[str]:
    """The packages that Python's own report of imports names."""
    lines = (line for line in told.splitlines() if line.startswith("import time:"))
    return {line.rpartition("|")[2].strip().partition(".")[0] for line in lines}


def test_words_are_spoken_faster_and_the_picture_is_marked(tmp_path: Path, temporary: Path) -> None:
    out = tmp_path / "out.mp4"
    words = ("generate", "--local", "--source", PORTRAIT, "--say", "Hello.", "--output", out)
    stdout, stderr = start(*words, "--speed", 2, "--mark").communicate(timeout=120)
    assert stdout == f"{out}\n", stderr
    seconds = []
    for speed in (1.0, 2.0):
        speak("Hello.", tmp_path / "spoken.wav", speed=speed)
        seconds.append(inspect_audio(tmp_path / "spoken.wav").duration)
    assert seconds[1] < 0.8 * seconds[0]
    assert inspect_source(out).duration == pytest.approx(seconds[1], abs=0.06)
    assert is_marked(frame_at(out))
    assert list(temporary.iterdir()) == []
    found = read(out)
    assert (found.state, found.visible_mark) == ("intact", "AI-generated")
    assert found.comment == found.statement
    assert [each.role for each in found.ingredients] == ["source", "voice"]
    assert found.ingredients[0].sha256 == hashlib.sha256(PORTRAIT.read_bytes()).hexdigest()
    # Encoding the video again loses all but the visible mark.
    again = tmp_path / "again.mp4"
    encode_again(out, again)
    assert read(again).state == "none"
    assert is_marked(frame_at(again))


def test_nothing_a_visitor_wrote_is_in_the_result(tmp_path: Path, temporary: Path) -> None:
    source, out = tmp_path / "marguerite.jpg", tmp_path / "timbuktu.mp4"
    shutil.copy(PORTRAIT, source)
    words = ("generate", "--local", "--source", source, "--say", "Zanzibar.", "--output", out)
    _, stderr = start(*words, "--prompt", "smiling zeppelin").communicate(timeout=120)
    assert read(out).state == "intact", stderr
    content = out.read_bytes().lower()
    for word in (b"marguerite", b"timbuktu", b"zanzibar", b"smiling", b"zeppelin", b"lip_"):
        assert word not in content
    assert str(tmp_path).encode() not in content


def encode_again(video: Path, target: Path) -> None:
    with av.open(str(video)) as source, av.open(str(target), "w") as out:
        stream = out.add_stream("libx264", rate=25, options={"crf": "30"})
        shape = source.streams.video[0]
        stream.width, stream.height = shape.width, shape.height
        for frame in source.decode(video=0):
            frame.pts = None
            out.mux(stream.encode(frame))
        out.mux(stream.encode(None))


def test_unsynced_spans_are_reported(tmp_path: Path, temporary: Path) -> None:
    """By the service in the result, by the command line in a sentence."""
    pictures = [shot.rgb for shot in talking(20)]
    pictures[6:13] = [np.full_like(pictures[0], 90)] * 7
    source = samples.video(tmp_path / "clip.mp4", pictures=pictures, matrix=1)
    voice = samples.cut_wav(tmp_path / "voice.wav", SPEECH, 0.8)
    out = tmp_path / "out.mp4"
    words = ("generate", "--local", "--source", source, "--audio", voice, "--output", out, "--json")
    process = start(*words)
    stdout, stderr = process.communicate(timeout=120)
    told = {"start": 0.24, "end": 0.52, "reason": "the face is not seen"}
    assert process.returncode == 0
    assert json.loads(stdout)["result"]["unsynced"] == [told]
    assert "0:00.2-0:00.5 left as it was: the face is not seen\n" in stderr
    assert list(temporary.iterdir()) == []


def test_a_picture_without_a_face(tmp_path: Path, temporary: Path, portrait: Path) -> None:
    out = tmp_path / "out.mp4"
    process = start("generate", "--local", "--source", portrait, "--audio", SPEECH, "--output", out)
    stdout, stderr = process.communicate(timeout=120)
    assert (process.returncode, stdout) == (2, "")
    assert "face" in stderr
    assert "Traceback" not in stderr
    assert not out.exists()
    assert list(temporary.iterdir()) == []


def test_an_interruption_ends_the_work(tmp_path: Path, temporary: Path) -> None:
    out = tmp_path / "out.mp4"
    process = start("generate", "--local", "--source", PORTRAIT, "--audio", SPEECH, "--output", out)
    assert process.stderr
    assert "started." in process.stderr.readline()
    process.send_signal(signal.SIGINT)
    stdout, stderr = process.communicate(timeout=30)
    assert (process.returncode, stdout) == (130, "")
    assert "is cancelled.\n" in stderr
    assert "Traceback" not in stderr
    assert not out.exists()
    assert list(temporary.iterdir()) == []


def test_models_of_this_machine() -> None:
    stdout, stderr = start("models", "--local").communicate(timeout=60)
    assert "lipsync-image" in stdout
    assert "lipsync-video" in stdout
    assert stderr == ""


def test_serve(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import requests

    monkeypatch.setenv("KOLBO_DATA_DIR", str(tmp_path))
    process = start("serve", "--port", "0")
    try:
        assert process.stderr
        url = process.stderr.readline().split(": ", 1)[1].strip()
        key = process.stderr.readline().removeprefix("X-API-Key: ").strip()
        assert requests.get(f"{url}/v1/models", timeout=10).status_code == 401
        reply = requests.get(f"{url}/v1/models", headers={"X-API-Key": key}, timeout=10)
        assert reply.json()["success"] is True
        port = url.split(":")[2].split("/")[0]
        second = start("serve", "--port", port)
        stderr = second.communicate(timeout=60)[1]
        assert second.returncode == 2
        assert "choose another port" in stderr
    finally:
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=30) == 0
        process.communicate()
