"""The endpoints for other programs, through gradio_client and through MCP."""

import io
import time
import wave
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests
from gradio_client import Client, handle_file
from gradio_client.exceptions import AppError
from pydantic import SecretStr

from kolbo_demo import ui
from kolbo_demo.media.probe import frame_at
from kolbo_demo.settings import Settings
from tests.marked import is_marked
from tests.scripted import KEY, Reply, Scripted
from tests.ui.serving import serving

LOCAL_KEY = "kolbo_live_" + "1" * 40
OWN_KEY = "kolbo_live_" + "e" * 40
NAMES = {"lipsync", "models", "status", "sync_report", "voices"}


@pytest.fixture
def page(server: Scripted, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A page whose engine and cloud are the scripted server."""
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path / "gradio"))
    settings = Settings(
        api_key=SecretStr(OWN_KEY), api_url=server.base_url, data_dir=tmp_path / "data"
    )
    local = ui.Local(server.base_url, SecretStr(LOCAL_KEY))
    with serving(settings, local) as url:
        yield url


def client(page: str, **headers: str) -> Client:
    return Client(page, verbose=False, headers=headers)


def test_a_generation_from_code(page: str, server: Scripted, portrait: Path, speech: Path) -> None:
    server.starts()
    server.on_status(server.completed())
    made = client(page)
    started = made.predict(
        handle_file(str(portrait)),
        voice=handle_file(str(speech)),
        face_x=0.5,
        face_y=0.25,
        api_name="/lipsync",
    )
    assert started["generation_id"] == "lip_1"
    sent = next(seen for seen in server.requests if seen.method == "POST")
    assert sent.headers["X-API-Key"] == LOCAL_KEY
    assert sent.parts["bounding_box_target"][2] == b"[0.5, 0.25]"
    status = made.predict("lip_1", api_name="/status")
    assert status["state"] == "completed"
    assert status["result"]["urls"] == [f"{page}/files/result.mp4"]  # where the caller can reach it

    # The cloud needs the caller's own key, in a header; the page's is not theirs to spend.
    server.on("GET /v1/models", Reply(json={"models": [{"identifier": "a/b", "credit": 5}]}))
    with pytest.raises(AppError, match="X-API-Key"):
        made.predict(where="cloud", api_name="/models")
    keyed = client(page, **{"X-API-Key": KEY})
    found = keyed.predict(where="cloud", api_name="/models")
    assert [model["identifier"] for model in found] == ["a/b"]
    assert server.requests[-1].headers["X-API-Key"] == KEY
    assert OWN_KEY not in {seen.headers["X-API-Key"] for seen in server.requests}


def test_speed_and_mark(
    page: str, server: Scripted, portrait: Path, speech: Path, talking: Path, tmp_path: Path
) -> None:
    server.starts()
    server.on_status(server.completed())
    server.on("GET /files/result.mp4", Reply(body=talking.read_bytes()))
    made = client(page, **{"X-API-Key": KEY})
    face = handle_file(str(portrait))
    seconds = []
    for more in ({}, {"speed": 2, "mark": True}):
        started = made.predict(face, words="Hello there.", **more, api_name="/lipsync")
        assert set(started) == {"generation_id", "poll_interval_hint", "credits_charged"}
        sent = [seen for seen in server.requests if seen.method == "POST"][-1]
        assert ("visible_mark" in sent.parts) == bool(more)
        with wave.open(io.BytesIO(sent.parts["audio"][2])) as voice:
            seconds.append(voice.getnframes() / voice.getframerate())
    assert seconds[1] < 0.8 * seconds[0]

    # Kolbo's API has no such field: its links lead to the plain video, the page's to the marked.
    voice = handle_file(str(speech))
    started = made.predict(face, voice=voice, where="cloud", mark=True, api_name="/lipsync")
    assert (
        "visible_mark" not in [seen for seen in server.requests if seen.method == "POST"][-1].parts
    )
    deadline = time.monotonic() + 20
    while (reply := requests.get(started["marked_url"], timeout=20)).status_code != 200:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    (tmp_path / "marked.mp4").write_bytes(reply.content)
    assert is_marked(frame_at(tmp_path / "marked.mp4"))

    posts = server.count("POST /v1/generate/lipsync")
    with pytest.raises(AppError, match=r"from 0\.5 to 2"):
        made.predict(face, words="Hello.", speed=3, api_name="/lipsync")
    with pytest.raises(AppError, match="leave it at 1"):
        made.predict(face, voice=voice, speed=1.5, api_name="/lipsync")
    assert server.count("POST /v1/generate/lipsync") == posts


def test_what_a_caller_may_not_name(page: str, server: Scripted, portrait: Path) -> None:
    made = client(page)
    for path in (str(portrait), {"path": str(portrait)}, "/etc/passwd", "file:///etc/passwd"):
        with pytest.raises(AppError, match="upload"):
            made.predict(path, words="Hello.", api_name="/lipsync")
        with pytest.raises(AppError, match="upload"):
            made.predict(video=path, api_name="/sync_report")
    with pytest.raises(AppError, match="Give either"):
        made.predict(api_name="/sync_report")
    assert server.requests == []


def test_a_video_is_measured(page: str) -> None:
    clip = Path(__file__).parents[2] / "assets" / "clip.mp4"
    report = client(page).predict(video=handle_file(str(clip)), api_name="/sync_report")
    assert report["face"] == 1
    assert len(report["curves"]["aperture"]) == len(report["curves"]["width"]) > 10


def test_the_tools(page: str) -> None:
    said = requests.post(
        f"{page}/gradio_api/mcp/",
        json={"jsonrpc": "2.0", "id": 1, "method": "tools/list", "params": {}},
        headers={"Accept": "application/json, text/event-stream"},
        timeout=20,
    )
    schema = requests.get(f"{page}/gradio_api/mcp/schema", timeout=20).json()
    names = {tool["name"].removeprefix("Kolbo_Lipsync_") for tool in schema}
    assert names == NAMES
    for tool in schema:
        assert len(tool["description"]) > 60
        assert f'"{tool["name"]}"' in said.text
