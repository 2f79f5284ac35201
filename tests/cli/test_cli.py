"""`python -m kolbo_demo` as a person runs it: what it prints, saves and exits with."""

import json
import os
import pty
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from kolbo_demo.media.probe import frame_at
from tests.marked import is_marked
from tests.scripted import KEY, VIDEO, Reply, Scripted, running

Run = Callable[..., subprocess.CompletedProcess[str]]
COMMAND = [sys.executable, "-m", "kolbo_demo"]


@pytest.fixture
def run(server: Scripted) -> Run:
    """Runs a command against the scripted server, with the key in the environment."""

    def run(*words: object, **environment: str) -> subprocess.CompletedProcess[str]:
        env = {**os.environ, "KOLBO_API_URL": server.base_url, "KOLBO_API_KEY": KEY, **environment}
        done = subprocess.run(
            [*COMMAND, *map(str, words)], capture_output=True, text=True, env=env, timeout=60
        )
        assert "Traceback" not in done.stdout + done.stderr
        assert KEY not in done.stdout + done.stderr
        return done

    return run


@pytest.fixture
def words(portrait: Path, speech: Path, tmp_path: Path) -> list[object]:
    return ["generate", "--source", portrait, "--audio", speech, "--output", tmp_path / "out.mp4"]


@pytest.mark.parametrize(("command", "name", "value"), [
    (["serve"], "KOLBO_MAX_DISK_GB", "much"),
    (["worker"], "KOLBO_LOG", "loud"),
    (["models", "--local"], "KOLBO_PUBLIC_URL", "ftp://x"),
    (["batch", "rows.csv", "--dry-run"], "KOLBO_PUBLIC_URL", "ftp://x"),
    (["generate", "--source", "a.jpg", "--audio", "a.wav", "--output", "a.mp4"],
     "KOLBO_RENDER", "perhaps"),
])  # fmt: skip
def test_an_invalid_setting_is_reported(
    command: list[str], name: str, value: str, tmp_path: Path
) -> None:
    (tmp_path / "rows.csv").write_text("source,words\nhttps://example.com/a.jpg,Hi.\n")
    environment = os.environ | {name: value, "PYTHONPATH": str(Path(__file__).parents[2])}
    done = subprocess.run(
        [*COMMAND, *command], capture_output=True, text=True, cwd=tmp_path, env=environment,
        timeout=60,
    )  # fmt: skip
    assert done.returncode == 2
    assert done.stderr.startswith(name)
    assert done.stderr.endswith(".\n")
    assert len(done.stderr.splitlines()) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["rows.csv"]


def test_generate(run: Run, server: Scripted, words: list[object], tmp_path: Path) -> None:
    server.starts()
    server.on_status(running(30), server.completed())
    done = run(*words, "--prompt", "smile", "--model", "a/b", "--face", "0.5,0.4")
    assert done.returncode == 0
    assert done.stdout == f"{tmp_path / 'out.mp4'}\n"
    assert done.stderr == "Generation lip_1 started.\n"
    assert (tmp_path / "out.mp4").read_bytes() == VIDEO
    parts = server.requests[0].parts
    assert {name: parts[name][2] for name in ("prompt", "model", "bounding_box_target")} == {
        "prompt": b"smile",
        "model": b"a/b",
        "bounding_box_target": b"[0.5, 0.4]",
    }


def test_a_result_is_watermarked_before_it_is_saved(
    run: Run, server: Scripted, words: list[object], tmp_path: Path, talking: Path
) -> None:
    """Kolbo's API has no such field, so the picture is marked here, and no plain one is left."""
    server.starts()
    server.on_status(server.completed())
    assert run(*words).returncode == 0
    assert "visible_mark" not in server.requests[0].parts
    server.on("GET /files/result.mp4", Reply(body=talking.read_bytes()))
    done = run(*words, "--mark")
    assert (done.returncode, done.stdout) == (0, f"{tmp_path / 'out.mp4'}\n")
    assert is_marked(frame_at(tmp_path / "out.mp4"))
    assert not is_marked(frame_at(talking))
    assert "visible_mark" not in server.requests[-1].parts
    assert [path.name for path in tmp_path.iterdir()] == ["out.mp4"]


def test_a_result_without_its_watermark_is_not_saved(
    run: Run, server: Scripted, words: list[object], tmp_path: Path
) -> None:
    server.starts()
    server.on_status(server.completed())
    done = run(*words, "--mark")
    assert (done.returncode, done.stdout) == (1, "")
    assert "Generation lip_1 is done, but not saved: it cannot be marked." in done.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("speed", ["0.4", "2.1", "nan", "fast"])
def test_a_speed_out_of_range_is_refused(
    run: Run, server: Scripted, words: list[object], tmp_path: Path, speed: str
) -> None:
    said = [*words[:3], "--say", "Hello.", *words[5:]]
    assert run(*said, "--speed", speed).returncode == 2
    done = run(*words, "--speed", "1.5")
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "--speed goes with --say" in done.stderr
    assert server.requests == []


@pytest.mark.parametrize(
    ("text", "options", "says"),
    [
        ("Hello 你好", ("--language", "en"), "cannot read: 你 好"),
        ("Hola", ("--voice", "nobody"), "There is no voice"),
        ("Hola", ("--voice", "dora", "--language", "de"), "speaks es"),
        ("أين المحطة؟", (), "No voice speaks Arabic"),
    ],
)
def test_words_that_no_voice_can_speak_are_refused_before_anything_is_sent(
    run: Run, server: Scripted, words: list[object], text: str, options: tuple, says: str
) -> None:
    done = run(*words[:3], "--say", text, *words[5:], *options)
    assert done.returncode == 2
    assert says in done.stderr
    assert server.requests == []


def test_voices_are_listed_by_language(run: Run) -> None:
    done = run("voices", "--language", "es")
    names = [line.split()[1] for line in done.stdout.splitlines()]
    assert (done.returncode, names) == (0, ["dora", "alex", "pico-es"])


def test_links_and_json(run: Run, server: Scripted, tmp_path: Path) -> None:
    server.starts()
    server.on_status(server.completed(novelty=7))
    source, audio = "https://example.com/a.mp4?x", "https://example.com/b.mp3"
    done = run(
        "generate", "--source", source, "--audio", audio, "--output", tmp_path / "ö ☺.mp4",
        "--base-url", server.base_url, "--json", KOLBO_API_URL="http://127.0.0.1:9",
    )  # fmt: skip
    assert done.returncode == 0
    document = json.loads(done.stdout)
    assert (document["state"], document["result"]["novelty"]) == ("completed", 7)
    assert (tmp_path / "ö ☺.mp4").read_bytes() == VIDEO
    assert server.requests[0].json == {"source_url": source, "audio_url": audio}


def test_the_key_from_the_command_line(run: Run, server: Scripted) -> None:
    server.on("GET /v1/models", Reply(json={"models": []}))
    assert run("models", "--api-key", "other", KOLBO_API_KEY="").returncode == 0
    assert server.requests[0].headers["X-API-Key"] == "other"


def test_a_progress_bar_on_a_terminal(
    server: Scripted, words: list[object], tmp_path: Path
) -> None:
    server.starts()
    server.on_status(running(30), running(60), server.completed())
    ours, theirs = pty.openpty()
    env = {**os.environ, "KOLBO_API_URL": server.base_url, "KOLBO_API_KEY": KEY, "TERM": "xterm"}
    process = subprocess.Popen(
        [*COMMAND, *map(str, words)], stdout=subprocess.PIPE, stderr=theirs, env=env
    )
    os.close(theirs)
    shown = b""
    while True:
        try:
            shown += os.read(ours, 65536)
        except OSError:  # how Linux says that nobody holds the other side any more
            break
    os.close(ours)
    assert process.communicate(timeout=30)[0].decode() == f"{tmp_path / 'out.mp4'}\n"
    assert process.returncode == 0
    for text in ("Sending", "Making", "Saving", "100%"):
        assert text in shown.decode()


@pytest.mark.parametrize(
    ("status", "message"),
    [
        ({"state": "failed", "error": "No face was found."}, "No face was found."),
        ({"state": "cancelled"}, "was cancelled."),
        ({"state": "completed", "result": {"urls": []}}, "finished without a video."),
    ],
)
def test_a_generation_that_fails(
    run: Run, server: Scripted, words: list[object], tmp_path: Path, status: dict, message: str
) -> None:
    server.starts()
    server.on_status(status)
    done = run(*words)
    assert (done.returncode, done.stdout) == (1, "")
    assert message in done.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("category", "retryable", "code"),
    [("input", False, 2), ("link", False, 2), ("link", True, 1), ("engine", True, 1)],
)
def test_a_permanent_failure_has_its_own_exit_code(
    run: Run, server: Scripted, words: list[object], category: str, retryable: bool, code: int
) -> None:
    server.starts()
    failure = {"category": category, "retryable": retryable}
    server.on_status({"state": "failed", "error": "It failed.", "failure": failure})
    assert run(*words).returncode == code


def test_a_failed_generation_as_json(run: Run, server: Scripted, words: list[object]) -> None:
    server.starts()
    server.on_status({"state": "failed", "error": "No face was found."})
    done = run(*words, "--json")
    assert done.returncode == 1
    assert json.loads(done.stdout)["error"] == "No face was found."


def test_a_result_that_cannot_be_fetched(
    run: Run, server: Scripted, words: list[object], tmp_path: Path
) -> None:
    server.starts()
    server.on_status(server.completed())
    server.on("GET /files/result.mp4", Reply(410))
    (tmp_path / "out.mp4").write_bytes(b"precious")
    done = run(*words)
    assert done.returncode == 1
    assert "could not be downloaded" in done.stderr
    assert [path.read_bytes() for path in tmp_path.iterdir()] == [b"precious"]


@pytest.mark.parametrize("signal_", [signal.SIGINT, signal.SIGTERM])
def test_an_interruption_cancels_the_generation(
    server: Scripted, words: list[object], tmp_path: Path, signal_: signal.Signals
) -> None:
    server.starts(hint=5)
    server.on_status(running(30))
    server.on("POST /v1/generate/lip_1/cancel", Reply(json={"success": True, "state": "cancelled"}))
    env = {**os.environ, "KOLBO_API_URL": server.base_url, "KOLBO_API_KEY": KEY}
    with subprocess.Popen(
        [*COMMAND, *map(str, words)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=env,
    ) as process:
        assert process.stderr
        assert process.stderr.readline() == "Generation lip_1 started.\n"
        process.send_signal(signal_)
        out, err = process.communicate(timeout=30)
    assert process.returncode == 130
    assert (out, err) == ("", "Interrupted. Generation lip_1 is cancelled.\n")
    assert server.count("POST /v1/generate/lip_1/cancel") == 1
    assert list(tmp_path.iterdir()) == []


MISTAKES = {
    "no source": (["--source"], [], "Missing option"),
    "no voice": (["--audio"], [], "--audio or --say"),
    "unknown option": ([], ["--colour", "red"], "No such option"),
    "both voices": ([], ["--say", "Hello"], "--audio or --say"),
    "subtitles of a recording": ([], ["--subtitles", "a.srt"], "goes with --say"),
    "subtitles of no format": (
        *(["--audio"], ["--say", "Hello", "--subtitles", "a.txt"]),
        "end in .srt or .vtt",
    ),
    "face of words": ([], ["--face", "left"], "two numbers"),
    "face outside": ([], ["--face", "0.5,1.5"], "0 to 1"),
    "no folder": (["--output"], ["--output", "{folder}/missing/out.mp4"], "does not exist"),
    "output is a folder": (["--output"], ["--output", "{folder}"], "is a folder"),
    "output is the source": (["--output"], ["--output", "{portrait}"], "one of the inputs"),
    "output nowhere": (["--output"], ["--output", "/proc/out.mp4"], "Nothing can be saved"),
    "prompt of stray bytes": ([], ["--prompt", "\udcff"], "prompt holds characters"),
    "model of stray bytes": ([], ["--model", "\udcff"], "model holds characters"),
    "local with a key": ([], ["--local", "--api-key", "x"], "drop one or the other"),
    "no such file": (["--source"], ["--source", "{folder}/nothing.png"], "no such file"),
    "text as a picture": (
        *(["--source"], ["--source", "{folder}/text.png"]),
        "no picture or video that can be read",
    ),
    "bad base": ([], ["--base-url", "nonsense"], "base URL"),
}
"""Options that are left out, options that are added, and the message."""


@pytest.mark.parametrize("mistake", MISTAKES)
def test_unusable_input_is_refused(
    run: Run, server: Scripted, words: list[object], tmp_path: Path, portrait: Path, mistake: str
) -> None:
    (tmp_path / "text.png").write_text("I am a picture.")
    removed, added, message = MISTAKES[mistake]
    for option in removed:
        at = words.index(option)
        del words[at : at + 2]
    before = sorted(tmp_path.iterdir())
    done = run(*words, *(word.format(folder=tmp_path, portrait=portrait) for word in added))
    assert (done.returncode, done.stdout) == (2, "")
    assert message in done.stderr
    assert sorted(tmp_path.iterdir()) == before
    assert server.requests == []


def test_without_a_key_it_says_what_to_do(run: Run, words: list[object]) -> None:
    done = run(*words, KOLBO_API_KEY="")
    assert (done.returncode, done.stdout) == (2, "")
    assert "--local" in done.stderr
    assert "KOLBO_API_KEY" in done.stderr
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize(
    ("reply", "code", "message"),
    [
        (Reply(401, {"success": False, "error": "No", "code": "INVALID_API_KEY"}), 2, "Check the"),
        (Reply(400, {"success": False, "error": "Model not found", "code": "MODEL_NOT_FOUND"}), 2,
         "Model not found. Choose one"),
        (Reply(429, {"status": False, "message": "Too many"}), 1, "Try again in"),
        (Reply(500, {"success": False, "error": "Could not start", "code": "X"}), 1, "Could not"),
        (Reply(drop=True), 1, "check your history"),
    ],
)  # fmt: skip
def test_a_start_that_is_refused_or_lost(
    run: Run, server: Scripted, words: list[object], reply: Reply, code: int, message: str
) -> None:
    server.on("POST /v1/generate/lipsync", reply)
    done = run(*words)
    assert (done.returncode, done.stdout) == (code, "")
    assert message in done.stderr
    assert server.count("POST /v1/generate") == 1


def test_models(run: Run, server: Scripted) -> None:
    rows = [
        {"identifier": "still/one", "name": "Still", "types": ["lipsync-image"], "x": 1},
        {"identifier": "clip", "summary": "For clips"},
    ]
    server.on("GET /v1/models", Reply(json={"success": True, "models": rows}))
    assert json.loads(run("models", "--json").stdout)[0]["x"] == 1
    assert run("models").stdout == ("still/one  Still · lipsync-image\nclip       For clips\n")


def test_help_is_quick_and_warns_of_keys_on_command_lines(run: Run) -> None:
    """Nothing heavy is imported to print it."""
    heavy = "('av', 'numpy', 'requests', 'pydantic', 'dbos')"
    script = f"import sys, kolbo_demo.cli; print([m for m in {heavy} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.stdout == "[]\n"
    text = run("generate", "--help").stdout
    options = (
        "source audio say output prompt model face speed subtitles mark local api-key base-url json"
    )
    for option in options.split():
        assert f"--{option} " in text
    assert "KOLBO_API_KEY" in text


def test_an_unexpected_error_is_a_sentence() -> None:
    script = (
        "import kolbo_demo.client as c\n"
        "def models(self): raise RuntimeError('secret thing')\n"
        "c.KolboClient.models = models\n"
        "import sys; sys.argv = ['x', 'models', '--api-key', 'k']\n"
        "from kolbo_demo.cli import main; main()\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (1, "")
    assert "did not expect (RuntimeError" in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert "secret thing" not in done.stderr
