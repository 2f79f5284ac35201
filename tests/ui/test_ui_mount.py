"""What the page's server gives away, and to whom it opens."""

import asyncio
import os
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import requests
from pydantic import SecretStr

from kolbo_demo import ui
from kolbo_demo.settings import Settings
from kolbo_demo.ui.gate import idle
from kolbo_demo.ui.storage import uploads
from tests import events
from tests.browser.site import serve
from tests.ui.conftest import ENVIRONMENT_KEY, LOCAL_KEY
from tests.ui.serving import serving


def send(url: str, inputs: list[Any], target: str) -> dict[str, Any]:
    """Sends an event as the browser does; gives what came of it."""
    return events.outcome(url, join(url, inputs, target))


def join(url: str, inputs: list[Any], target: str) -> str:
    """Sends an event; gives the session's name."""
    event = events.event_of(events.config_of(url), target)
    session, answer = events.join(url, event["id"], inputs)
    answer.raise_for_status()
    return session


def upload(url: str, path: Path) -> str:
    with path.open("rb") as file:
        answer = requests.post(f"{url}/gradio_api/upload", files={"files": file}, timeout=30)
    return answer.json()[0]


def test_a_page_that_leaves_is_no_error(
    page_url: str, secret_picture: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """As one does that is loaded again: what it had listened to is left all at once."""
    picture = file_data(upload(page_url, secret_picture))
    session = join(page_url, [picture, None, "", None], "source-image")
    listening = [events.events(page_url, session) for _ in range(3)]
    time.sleep(0.5)
    for stream in listening:
        stream.close()
    time.sleep(1.5)
    assert [record.getMessage() for record in caplog.records if record.levelname == "ERROR"] == []


def test_gradio_looks_for_events_rarely_while_nobody_asks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(idle, "QUIET_SECONDS", 0.5)
    pauses: list[float] = []
    sleep = asyncio.sleep

    async def noted(seconds: float, *more: Any) -> None:
        pauses.append(seconds)
        await sleep(seconds, *more)

    monkeypatch.setattr(asyncio, "sleep", noted)

    def looks_every(seconds: float) -> None:
        pauses.clear()
        deadline = time.monotonic() + 30
        while seconds not in pauses:
            assert time.monotonic() < deadline
            time.sleep(0.05)

    settings = Settings(data_dir=tmp_path)
    with serving(settings, ui.Local("http://127.0.0.1:9/api", SecretStr(LOCAL_KEY))) as url:
        requests.get(f"{url}/config", timeout=30)
        looks_every(idle.POLL_SECONDS)
        looks_every(idle.IDLE_POLL_SECONDS)
        requests.get(f"{url}/config", timeout=30)
        looks_every(idle.POLL_SECONDS)


def file_data(path: object) -> dict[str, Any]:
    return {"path": str(path), "meta": {"_type": "gradio.FileData"}}


def test_an_uploaded_picture_is_shown(page_url: str, secret_picture: Path) -> None:
    path = upload(page_url, secret_picture)
    answer = send(page_url, [file_data(path), None, "", None], "source-image")
    assert answer["success"]
    assert "data:image/jpeg" in str(answer["output"])


def test_a_forged_path_shows_nothing(page_url: str, secret_picture: Path) -> None:
    answer = send(page_url, [file_data(secret_picture), None, "", None], "source-image")
    assert not answer["success"]
    assert "data:image" not in str(answer["output"])
    assert str(secret_picture) not in str(answer["output"])


def test_a_path_typed_as_a_link_is_refused(page_url: str, secret_picture: Path) -> None:
    for typed in (str(secret_picture), f"file://{secret_picture}", "javascript:alert(1)"):
        answer = send(page_url, [None, None, typed, None], "source-url")
        assert "<img" not in str(answer["output"])
        assert "starts with http" in str(answer["output"])


def test_keys_stay_on_the_server(page_url: str) -> None:
    for path in ("", "config", "gradio_api/info", "theme.css", "gradio_api/startup-events"):
        said = requests.get(f"{page_url}/{path}", timeout=10).text
        assert ENVIRONMENT_KEY not in said
        assert LOCAL_KEY not in said


def test_public_endpoints_are_these(page_url: str) -> None:
    info = requests.get(f"{page_url}/gradio_api/info", timeout=10).json()
    assert set(info["named_endpoints"]) == {
        *("/lipsync", "/models", "/status", "/sync_report", "/voices")
    }
    assert info["unnamed_endpoints"] == {}
    assert "api_key" not in str(info)  # it is a header, no input


def test_doors_that_are_shut(page_url: str) -> None:
    assert (
        requests.get(
            f"{page_url}/gradio_api/deep_link", params={"session_hash": "x"}, timeout=10
        ).status_code
        == 404
    )
    assert requests.post(f"{page_url}/gradio_api/process_recording", timeout=10).status_code == 404
    for path in ("app.py", "kolbo_demo/settings.py", "assets/CREDITS.md"):
        file = Path(__file__).parents[2] / path
        assert requests.get(f"{page_url}/gradio_api/file={file}", timeout=10).status_code == 403


def test_the_page_loads_nothing_from_elsewhere(page_url: str) -> None:
    policy = requests.get(page_url, timeout=10).headers["Content-Security-Policy"]
    rules = dict(rule.split(" ", 1) for rule in policy.split("; "))
    for kind in ("default-src", "script-src", "style-src"):
        assert "http" not in rules[kind]


def test_a_file_over_the_limit_is_refused(page_url: str, tmp_path: Path) -> None:
    path = tmp_path / "big.mp4"
    with path.open("wb") as file:
        file.truncate(101 * 1024 * 1024)
    with path.open("rb") as file:
        answer = requests.post(f"{page_url}/gradio_api/upload", files={"files": file}, timeout=60)
    assert answer.status_code == 413


def test_a_visitor_s_uploads_are_cleaned(
    tmp_path: Path, portrait: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those that grew old while it runs, and all when it stops."""
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path / "gradio"))
    monkeypatch.setattr(uploads, "POLL_SECONDS", 1)
    monkeypatch.setattr(uploads, "KEEP_SECONDS", 3)
    local = ui.Local("http://127.0.0.1:9/api", SecretStr(LOCAL_KEY))
    with serving(Settings(data_dir=tmp_path / "data"), local) as url:
        old = Path(upload(url, portrait))
        assert old.is_file()
        deadline = time.monotonic() + 30
        while old.exists():
            assert time.monotonic() < deadline
            time.sleep(0.1)
        left = Path(upload(url, portrait))
        assert left.is_file()
    assert not left.exists()


def test_uploads_that_a_killed_page_left_are_cleaned(tmp_path: Path, portrait: Path) -> None:
    folder = tmp_path / "data" / "gradio" / "0123456789abcdef"
    folder.mkdir(parents=True)
    old, fresh = folder / "old.jpg", folder / "fresh.jpg"
    for path in (old, fresh):
        path.write_bytes(portrait.read_bytes())
    long_ago = time.time() - uploads.KEEP_SECONDS - 60
    os.utime(old, (long_ago, long_ago))
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    with serve(tmp_path, GRADIO_TEMP_DIR="", TMPDIR=str(temporary)) as site:
        deadline = time.monotonic() + 30
        while old.exists():
            assert time.monotonic() < deadline
            time.sleep(0.1)
        given = Path(upload(site.url, portrait))
        assert given.is_relative_to(tmp_path / "data" / "gradio")
    assert fresh.exists()
    assert not given.exists()
    assert not list(temporary.iterdir())  # else each start would leave something


def test_no_two_listeners_keep_each_other_going(page_url: str) -> None:
    """Gradio tells all listeners of an event anew once one that was busy is free again: of those
    that are put off while they are busy there may be one."""
    config = requests.get(f"{page_url}/config", timeout=10).json()
    kinds = {part["id"]: part["type"] for part in config["components"]}
    put_off = Counter(
        (target, event)
        for each in config["dependencies"]
        if each["trigger_mode"] == "always_last" and each["backend_fn"]
        for target, event in each["targets"]
        if kinds.get(target) != "state"  # whose listeners are told one by one
    )
    assert put_off
    assert [found for found in put_off.most_common() if found[1] > 1] == []
