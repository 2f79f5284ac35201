"""The generator behind Generate, over HTTP as the page's browser hears it."""

import json
import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import requests
from pydantic import SecretStr

from kolbo_demo import ui
from kolbo_demo.settings import Settings
from tests import events
from tests.events import Browser
from tests.scripted import KEY, VIDEO, Reply, Scripted
from tests.ui.serving import serving
from tests.ui.test_ui_mount import file_data, upload


@pytest.fixture
def page(server: Scripted, tmp_path: Path) -> Iterator[str]:
    """A page whose local engine is the scripted API."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GRADIO_TEMP_DIR", str(tmp_path / "gradio"))
        server.on("GET /v1/models", Reply(json={"success": True, "models": []}))
        server.starts()
        settings = Settings(data_dir=tmp_path / "data", api_url=server.base_url)
        with serving(settings, ui.Local(server.base_url, SecretStr(KEY))) as url:
            yield url


def test_generate_yields_updates_and_ends_with_the_video(
    page: str, server: Scripted, portrait: Path, speech: Path
) -> None:
    state = {"success": True, "generation_id": "lip_1"}
    server.on_status(
        *[state | {"state": "pending", "progress": 0, "queue_position": 2}] * 6,
        *[state | {"state": "processing", "progress": 20, "frames_done": 5, "frames": 25}] * 6,
        *[state | {"state": "processing", "progress": 80, "frames_done": 20, "frames": 25}] * 6,
        server.completed(),
    )
    browser = Browser(page)
    event = events.event_of(browser.config, "generate", "click")
    assert event["types"]["generator"]
    browser.give(
        source_image=file_data(upload(page, portrait)), audio=file_data(upload(page, speech))
    )
    messages = list(browser.send("generate", "click"))
    assert len({json.dumps(message) for message in messages}) >= 5
    everything = json.dumps(messages)
    for words in ("2 ahead", "frame 5 of 25", "20 %", "80 %", "lip_1", "Your video is ready"):
        assert words in everything, words
    assert everything.index("2 ahead") < everything.index("80 %")
    assert "result.mp4" in json.dumps(messages[-4:])
    # The browser stores ticket and id, and no key.
    stored = json.dumps([message[browser.part("browserstate")] for message in messages])
    assert "lip_1" in stored
    assert KEY not in everything


def test_files_of_a_generation_need_its_ticket(
    page: str, server: Scripted, portrait: Path, speech: Path, tmp_path: Path
) -> None:
    server.on_status(server.completed())
    browser = Browser(page)
    browser.give(
        source_image=file_data(upload(page, portrait)), audio=file_data(upload(page, speech))
    )
    list(browser.send("generate", "click"))
    (folder,) = (tmp_path / "data" / "page").iterdir()

    def fetch(path: object, **headers: str) -> requests.Response:
        return requests.get(f"{page}/gradio_api/file={path}", headers=headers, timeout=10)

    whole = fetch(folder / "result.mp4")
    assert whole.content == VIDEO
    assert whole.headers["content-type"] == "video/mp4"
    assert "lip_1.mp4" in whole.headers["content-disposition"]
    part = fetch(folder / "result.mp4", Range="bytes=2-5")
    assert (part.status_code, part.content) == (206, VIDEO[2:6])
    for name in ("record.json", "source.png", ".owner", "", "../page", "thumbnail.jpg/.."):
        assert fetch(folder / name).status_code in {403, 404}, name
    for ticket in ("A" * 22, "..", folder.name[:-1], "*"):
        assert fetch(folder.parent / ticket / "result.mp4").status_code in {403, 404}
    (folder / "result.mp4").unlink()
    (folder / "result.mp4").symlink_to(folder / "record.json")
    assert fetch(folder / "result.mp4").status_code in {403, 404}


def test_an_error_is_one_sentence_and_no_message_of_gradio(page: str, server: Scripted) -> None:
    (message,) = {json.dumps(each) for each in Browser(page).send("generate", "click")}
    assert "No face yet" in message
    assert server.count("POST /v1/generate/lipsync") == 0


def test_a_view_ends_where_another_one_begins_and_the_work_goes_on(
    page: str, server: Scripted, portrait: Path, speech: Path
) -> None:
    working = {"success": True, "state": "processing", "progress": 5}
    server.on_status(working | {"generation_id": "lip_1"})
    browser = Browser(page)
    browser.give(
        source_image=file_data(upload(page, portrait)), audio=file_data(upload(page, speech))
    )
    first = browser.send("generate", "click")
    while "lip_1" not in json.dumps(next(first)):
        pass
    first.close()  # the browser leaves
    browser.session = None
    for message in browser.send("generate", "click"):
        if "lip_1" in json.dumps(message):
            break
    asked = server.count("GET /v1/generate/lip_1/status")
    wait_until(lambda: server.count("GET /v1/generate/lip_1/status") > asked + 4)
    server.on_status({"success": True, "state": "failed", "error": "Enough for this test."})


def test_a_click_on_a_row_opens_it_although_the_list_has_changed(
    page: str, server: Scripted, portrait: Path, speech: Path
) -> None:
    rows, entries = [], []
    for number in ("lip_1", "lip_2"):
        started = {"success": True, "generation_id": number, "poll_interval_hint": 0.2}
        server.on("POST /v1/generate/lipsync", Reply(json=started))
        server.on_status(server.completed(), generation=number)
        browser = Browser(page)
        browser.give(
            source_image=file_data(upload(page, portrait)), audio=file_data(upload(page, speech))
        )
        everything = json.dumps(list(browser.send("generate", "click")))
        ticket = re.findall(r'data-ticket=\\+"([\w-]+)', everything)[0]
        rows.append(["", f'<span data-ticket="{ticket}"></span>', "done"])
        entries.insert(0, {"ticket": ticket, "id": number, "backend": "local"})
    browser = Browser(page)
    browser.give(browserstate=entries)
    # The row was the first one when the table was drawn.
    clicked = {"index": [0, 1], "value": rows[0][1], "row_value": rows[0]}
    messages = browser.send("history-list", "select", clicked)
    shown = json.dumps([message[browser.part("status")] for message in messages])
    assert "lip_1" in shown
    assert "lip_2" not in shown


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)
