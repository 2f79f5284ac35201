"""`python -m kolbo_demo batch`: of many rows none stops another and none is paid for twice."""

import csv
import io
import json
import os
import shutil
import signal
import subprocess
import sys
import time
import wave
import zipfile
from pathlib import Path
from typing import Any

import pytest

from kolbo_demo.batch import (
    Batch,
    check_rows,
    folder_resolver,
    read_csv,
    read_pairs,
    upload_resolver,
)
from kolbo_demo.client import InputError, KolboClient
from kolbo_demo.credentials.reading import read
from kolbo_demo.media.probe import frame_at
from kolbo_demo.service.app import LocalService
from kolbo_demo.subtitles import FORMATS
from tests.marked import is_marked
from tests.scripted import KEY, VIDEO, Reply, Scripted

ASSETS = Path(__file__).resolve().parents[2] / "assets"
COMMAND = [sys.executable, "-m", "kolbo_demo", "batch"]
LINK, VOICE = "https://example.com/face.jpg", "https://example.com/voice.mp3"


def run(server: Scripted, *words: object, **more: str) -> "subprocess.CompletedProcess[str]":
    env = {**os.environ, "KOLBO_API_URL": server.base_url, "KOLBO_API_KEY": KEY, **more}
    done = subprocess.run(
        [*COMMAND, *map(str, words)], capture_output=True, text=True, env=env, timeout=60
    )
    assert "Traceback" not in done.stderr
    assert KEY not in done.stdout + done.stderr
    return done


def sheet(folder: Path, *rows: dict[str, Any], comma: str = ",") -> Path:
    path = folder / "rows.csv"
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(
            file,
            ["source", "audio", "words", "prompt", "model", "face", "speed", "mark", "insist"],
            delimiter=comma,
        )
        writer.writeheader()
        writer.writerows(rows)
    return path


def zipped(folder: Path) -> tuple[list[str], list[dict[str, Any]], list[dict[str, str]]]:
    """The names in the ZIP, and its report as JSON and as CSV."""
    with zipfile.ZipFile(folder / "batch.zip") as archive:
        assert archive.testzip() is None
        table = io.StringIO(archive.read("report.csv").decode("utf-8-sig"), newline="")
        report = json.loads(archive.read("report.json"))
        return archive.namelist(), report, list(csv.DictReader(table))


@pytest.fixture
def folder(tmp_path: Path, portrait: Path, speech: Path) -> Path:
    """With a picture and a recording whose names are not plain."""
    shutil.copy(portrait, tmp_path / "=HYPERLINK(1).png")
    shutil.copy(speech, tmp_path / "my voice ☺.wav")
    return tmp_path


def test_rows_fail_independently_and_completed_rows_are_skipped(
    server: Scripted, folder: Path
) -> None:
    server.starts()
    server.on_status({"success": True, "state": "processing"}, server.completed())
    good = {"source": "=HYPERLINK(1).png", "audio": "my voice ☺.wav", "face": "0.5 0.4"}
    rows = sheet(
        folder,
        {"source": "nothing.png", "audio": VOICE},
        {**good, "prompt": "smile"},
        {"source": LINK, "words": "Hello there."},
        {"source": LINK, "audio": VOICE, "words": "both"},
        comma=";",
    )
    out = folder / "out"
    done = run(server, rows, "--output", out)
    assert done.returncode == 1, done.stderr
    assert "2 of 4 rows are done" in done.stderr
    names, report, table = zipped(out)
    videos = ["0002--HYPERLINK-1-.mp4", "0003-face.mp4"]
    spoken = ["0003-face.vtt", "0003-face.srt"]
    assert names == ["report.csv", "report.json", *videos, *spoken]
    assert [row["state"] for row in report] == ["failed", "completed", "completed", "failed"]
    assert report[1]["credits"] == 20
    assert "no such file" in report[0]["message"]
    assert table[1]["name"] == "'=HYPERLINK(1).png"  # no formula for a spreadsheet
    assert all((out / name).read_bytes() == VIDEO for name in videos)
    forms = [seen.parts for seen in server.requests if seen.method == "POST"]
    assert sorted("prompt" in form for form in forms) == [False, True]

    again = run(server, rows, "--output", out)
    assert again.returncode == 1
    assert server.count("POST /v1/generate") == 2
    assert zipped(out)[0] == names
    sheet(folder, {"source": LINK, "audio": VOICE}, good)  # other rows under the same numbers
    assert run(server, rows, "--output", out).returncode == 0
    assert server.count("POST /v1/generate") == 4


def test_a_dry_run_reports_problems_and_sends_nothing(server: Scripted, folder: Path) -> None:
    server.on("GET /v1/models", Reply(json={"models": [{"identifier": "m"}]}))
    rows = sheet(
        folder,
        {"source": LINK, "audio": VOICE, "model": "m"},
        {"source": LINK, "audio": VOICE, "model": "other"},
        {"source": LINK, "audio": "rows.csv"},
        {"source": LINK, "audio": VOICE, "face": "left"},
        {"source": LINK, "audio": VOICE, "face": "0.5,1.5"},
        {"source": LINK, "words": "…"},
        {"source": LINK, "words": "Hello.", "speed": "2.5"},
        {"source": LINK, "words": "Hello.", "speed": "fast"},
        {"source": LINK, "audio": VOICE, "speed": "1.5"},
        {"source": LINK, "audio": VOICE, "mark": "perhaps"},
        {"source": LINK, "audio": VOICE, "speed": "1", "mark": "no"},
    )
    done = run(server, rows, "--dry-run", "--output", folder / "out")
    assert done.returncode == 2
    lines = done.stdout.splitlines()
    assert [line.split()[1] for line in lines] == ["ready", *["problem"] * 9, "ready"]
    for line, words in zip(
        lines[1:-1],
        (
            "no model “other”",
            "no sound",
            "two numbers",
            "0 to 1",
            "no words",
            "from 0.5 to 2",
            "must be a number",
            "for words to speak",
            "write yes or no",
        ),
        strict=True,
    ):
        assert words in line
    assert "9 of 11 rows cannot work" in done.stderr
    assert [seen.method for seen in server.requests] == ["GET"]
    assert not (folder / "out").exists()
    sheet(folder, {"source": LINK, "audio": VOICE})
    assert run(server, rows, "--dry-run", KOLBO_API_KEY="").returncode == 0


def test_insist_applies_to_a_row_or_a_run(server: Scripted, folder: Path) -> None:
    server.starts()
    server.on_status(server.completed())
    rows = sheet(
        folder,
        {"source": LINK, "audio": VOICE, "insist": "Yes"},
        {"source": LINK, "audio": VOICE, "insist": "no"},
        {"source": LINK, "audio": VOICE},
    )
    field = "occlusion_detection_enabled"

    def insisted(name: str, *more: str) -> list[bool]:
        server.requests.clear()
        done = run(server, rows, "--output", folder / name, "--at-once", "1", *more)
        assert done.returncode == 0, done.stderr
        starts = [seen.json for seen in server.requests if seen.method == "POST"]
        return [start.get(field) is False for start in starts]

    assert insisted("one") == [True, False, False]
    assert insisted("all", "--insist") == [True, True, True]


def test_speed_and_mark_of_each_row(server: Scripted, tmp_path: Path, talking: Path) -> None:
    server.starts()
    server.on_status(server.completed())
    server.on("GET /files/result.mp4", Reply(body=talking.read_bytes()))
    rows = sheet(
        tmp_path,
        {"source": LINK, "words": "Hello there."},
        {"source": LINK, "words": "Hello there.", "speed": "2,0", "mark": "Yes"},
        comma=";",
    )
    out = tmp_path / "out"
    assert run(server, rows, "--output", out, "--at-once", 1).returncode == 0
    seconds = []
    for seen in (seen for seen in server.requests if seen.method == "POST"):
        assert "visible_mark" not in seen.parts
        with wave.open(io.BytesIO(seen.parts["audio"][2])) as voice:
            seconds.append(voice.getnframes() / voice.getframerate())
    assert seconds[1] < 0.8 * seconds[0]
    marked = [is_marked(frame_at(out / f"000{number}-face.mp4")) for number in (1, 2)]
    assert marked == [False, True]
    assert not list(out.glob(".*"))


def test_words_of_a_row_become_subtitles_beside_its_video(
    server: Scripted, tmp_path: Path, talking: Path
) -> None:
    server.starts()
    server.on_status(server.completed())
    server.on("GET /files/result.mp4", Reply(body=talking.read_bytes()))
    rows = sheet(
        tmp_path, {"source": LINK, "words": "Hello there."}, {"source": LINK, "audio": VOICE}
    )
    out = tmp_path / "out"
    assert run(server, rows, "--output", out, "--at-once", 1).returncode == 0
    names = {"0001-face.mp4", "0001-face.srt", "0001-face.vtt", "0002-face.mp4"}
    assert {path.name for path in out.glob("000*")} == names
    assert "Hello there." in (out / "0001-face.srt").read_text("utf-8")
    with zipfile.ZipFile(out / "batch.zip") as archive:
        assert names < set(archive.namelist())


def test_a_dry_run_checks_links_for_the_local_service_only(
    server: Scripted, tmp_path: Path
) -> None:
    """The local service's rules hold for what it makes itself, and for nothing else."""
    rows = sheet(
        tmp_path,
        {"source": "http://127.0.0.1/face.jpg", "audio": VOICE},
        {"source": "http://files.internal/face.jpg", "audio": VOICE},
        {"source": LINK, "audio": VOICE},
    )
    done = run(server, rows, "--dry-run")
    assert done.returncode == 0
    for line in done.stdout.splitlines():
        assert line.split()[1] == "ready"
        assert "A link was not checked: Kolbo fetches it itself." in line
    allowed = {"KOLBO_API_KEY": "", "KOLBO_FETCH_ALLOW_HOSTS": "files.internal"}
    done = run(server, rows, "--dry-run", "--local", **allowed)
    assert done.returncode == 2, done.stderr
    first, *others = done.stdout.splitlines()
    assert "problem" in first
    assert "private or local address" in first
    assert [line.split()[1:] for line in others] == [["ready", "face.jpg"]] * 2
    assert server.requests == []


def test_a_key_from_a_file(server: Scripted, tmp_path: Path) -> None:
    server.starts()
    server.on_status(server.completed())
    rows, key = sheet(tmp_path, {"source": LINK, "audio": VOICE}), tmp_path / "key"
    words = (rows, "--output", tmp_path / "out", "--api-key-file")
    for content in (None, "", "two words"):
        if content is not None:
            key.write_text(content)
        done = run(server, *words, key, KOLBO_API_KEY="")
        assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert run(server, *words, KEY, KOLBO_API_KEY="").returncode == 2  # `run` looks for the key
    assert run(server, *words, key, "--api-key", "other").returncode == 2
    assert server.requests == []
    key.write_text(f"{KEY}\n")
    assert run(server, *words, key, KOLBO_API_KEY="").returncode == 0
    assert {seen.headers["X-API-Key"] for seen in server.requests if "/v1/" in seen.path} == {KEY}


def test_rate_limited_starts_are_retried(server: Scripted, tmp_path: Path) -> None:
    server.starts()
    accepted = server.script["POST /api/v1/generate/lipsync"]
    busy = Reply(429, {"status": False, "message": "Too many"}, headers={"Retry-After": "1"})
    server.on("POST /v1/generate/lipsync", busy, *accepted)
    server.on_status(server.completed())
    rows = sheet(tmp_path, *[{"source": LINK, "audio": VOICE}] * 3)
    assert run(server, rows, "--output", tmp_path / "out", "--at-once", 1).returncode == 0
    posts = [seen.at for seen in server.requests if seen.method == "POST"]
    assert len(posts) == 4
    assert posts[1] - posts[0] >= 1


def test_ten_starts_a_minute(server: Scripted, tmp_path: Path) -> None:
    server.starts()
    server.on_status(server.completed())
    rows = read_csv(
        sheet(tmp_path, *[{"source": LINK, "audio": VOICE}] * 12), folder_resolver(tmp_path)
    )
    work = Batch(KolboClient(KEY, server.base_url), rows, tmp_path / "out", concurrency=6)
    done = 0
    for line in work.run():
        done += line.state == "completed"
        if done == 10:
            time.sleep(0.5)  # so that an eleventh would have been sent
            work.stop()
    assert server.count("POST /v1/generate") == 10
    assert [line.state for line in work.statuses].count("waiting") == 2


def test_an_unclear_start_is_resent_only_on_request(server: Scripted, tmp_path: Path) -> None:
    server.on("POST /v1/generate/lipsync", Reply(drop=True))
    rows, out = sheet(tmp_path, {"source": LINK, "audio": VOICE}), tmp_path / "out"
    for _ in range(2):
        assert run(server, rows, "--output", out).returncode == 1
        assert zipped(out)[1][0]["state"] == "unclear"
    assert server.count("POST /v1/generate") == 1
    server.starts()
    server.on_status(server.completed())
    assert run(server, rows, "--output", out, "--again").returncode == 0
    assert server.count("POST /v1/generate") == 2


@pytest.mark.parametrize("end", [signal.SIGKILL, signal.SIGINT])
def test_a_killed_run_resumes_without_paying_twice(
    server: Scripted, tmp_path: Path, end: signal.Signals
) -> None:
    server.starts()
    server.on_status({"success": True, "state": "processing"})
    rows, out = sheet(tmp_path, {"source": LINK, "audio": VOICE}), tmp_path / "out"
    env = {**os.environ, "KOLBO_API_URL": server.base_url, "KOLBO_API_KEY": KEY}
    words = [*COMMAND, str(rows), "--output", str(out)]
    with subprocess.Popen(words, env=env, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr
        while "running" not in process.stderr.readline():
            pass
        process.send_signal(end)
        rest = process.communicate(timeout=30)[1]
    if end == signal.SIGINT:
        assert process.returncode == 130
        assert "goes on from here" in rest
    server.on_status(server.completed())
    assert run(server, rows, "--output", out).returncode == 0
    assert server.count("POST /v1/generate") == 1
    assert zipped(out)[1][0]["generation_id"] == "lip_1"


def test_a_result_that_was_not_downloaded_is_downloaded_by_the_next_run(
    server: Scripted, tmp_path: Path
) -> None:
    server.starts()
    server.on_status(server.completed())
    server.on("GET /files/result.mp4", Reply(410))
    rows, out = sheet(tmp_path, {"source": LINK, "audio": VOICE}), tmp_path / "out"
    assert run(server, rows, "--output", out).returncode == 1
    server.on("GET /files/result.mp4", Reply(body=VIDEO))
    assert run(server, rows, "--output", out).returncode == 0
    assert server.count("POST /v1/generate") == 1


LISTS = {
    "no such file": None,
    "empty": b"",
    "heading alone": b"source,audio\n",
    "no columns": b"a.png,b.wav\n",
    "misspelt": b"source,audio,promt\na,b,c\n",
    "twice": b"source,audio,audio\na,b,c\n",
    "a picture": bytes(range(256)),
    "open quote": b'source,audio\n"a,b\n',
}


@pytest.mark.parametrize("kind", LISTS)
def test_a_malformed_list_is_refused(server: Scripted, tmp_path: Path, kind: str) -> None:
    path = tmp_path / "list.csv"
    content = LISTS[kind]
    if content is not None:
        path.write_bytes(content)
    done = run(server, path, "--output", tmp_path / "out")
    assert (done.returncode, done.stdout) == (2, "")
    assert len(done.stderr.splitlines()) == 1
    assert server.requests == []


def test_an_untrusted_list_names_uploaded_files_only(tmp_path: Path, speech: Path) -> None:
    cells = ["speech.wav", str(speech), "../speech.wav", "/etc/passwd", "file:///etc/passwd",
             "~/x", "a\0b"]  # fmt: skip
    path = sheet(tmp_path, *[{"source": LINK, "audio": cell} for cell in cells])
    rows = check_rows(read_csv(path, upload_resolver({"speech.wav": speech})), None)
    assert [row.problem is None for row in rows] == [True, *[False] * 6]
    assert rows[0].audio == speech


def test_a_folder_of_pairs_is_read(
    tmp_path: Path, portrait: Path, clip: Path, speech: Path
) -> None:
    for name, file in (
        ("a.png", portrait), ("a.wav", speech), ("b.mp4", clip), ("c.png", portrait),
        ("c.mp4", clip), ("c.wav", speech),
    ):  # fmt: skip
        shutil.copy(file, tmp_path / name)
    (tmp_path / "b.txt").write_text("Hello.")
    (tmp_path / "notes.md").write_text("Not a pair.")
    first, second, third = check_rows(read_pairs(tmp_path), None)
    assert (first.source, first.audio) == (tmp_path / "a.png", tmp_path / "a.wav")
    assert (second.source, second.words) == (tmp_path / "b.mp4", "Hello.")
    assert "it has 2 and 1" in (third.problem or "")
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="nothing to do"):
        read_pairs(tmp_path / "empty")


def test_the_local_service_runs_a_batch(live_service: LocalService, tmp_path: Path) -> None:
    rows = sheet(
        tmp_path,
        {"source": ASSETS / "portrait.jpg", "words": "Hello."},
        {"source": ASSETS / "speech.wav", "words": "Hello."},
        {"source": ASSETS / "portrait.jpg", "words": "Good bye.", "mark": "yes"},
    )
    client = KolboClient(live_service.api_key, live_service.base_url)
    found = check_rows(read_csv(rows, folder_resolver(tmp_path)), client)
    work = Batch(client, found, tmp_path / "out", local=True)
    for _ in work.run():
        pass
    assert [line.state for line in work.statuses] == ["completed", "failed", "completed"]
    names, _, _ = zipped(tmp_path / "out")
    videos = ["0001-portrait.mp4", "0003-portrait.mp4"]
    beside = [Path(name).stem + suffix for name in videos for suffix in FORMATS]
    assert sorted(names[2:]) == sorted([*videos, *beside])
    assert all((tmp_path / "out" / name).stat().st_size > 10_000 for name in videos)
    marked = [is_marked(frame_at(tmp_path / "out" / name)) for name in videos]
    assert marked == [False, True]
    with zipfile.ZipFile(tmp_path / "out" / "batch.zip") as archive:
        archive.extractall(tmp_path / "zip", videos)
    copies = [read(tmp_path / "zip" / name) for name in videos]
    assert [copy.state for copy in copies] == ["intact", "intact"]
    assert [copy.visible_mark for copy in copies] == ["", "AI-generated"]
    assert all(copy.comment == copy.statement != "" for copy in copies)
