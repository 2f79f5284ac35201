"""Kolbo's cloud, played by a server that answers as its API does."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import expect

from tests.browser.desk import MADE_MS, Desk
from tests.browser.site import Site, serve
from tests.scripted import KEY, Reply, Scripted

MODEL = {
    "identifier": "studio/alpha",
    "name": "Alpha",
    "types": ["lipsync-image"],
    "credit": 5,
    "summary": "Close-ups of one face.",
    "max_audio_duration": 60,
}
REFUSED = Reply(401, {"success": False, "error": "Invalid API key", "code": "INVALID_API_KEY"})
POOR = {"success": False, "error": "Insufficient credits", "code": "INSUFFICIENT_CREDITS"}


@pytest.fixture(scope="module")
def site(cloud: Scripted, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with serve(tmp_path_factory.mktemp("site"), KOLBO_API_URL=cloud.base_url) as found:
        yield found


@pytest.fixture
def account(cloud: Scripted, clip: Path) -> Scripted:
    """A cloud where all goes well: one model, 250 credits, a video after three looks."""
    purse = {"total": 250, "plan_credits": 200, "credit_pack": 50, "redemption": 0}
    cloud.requests.clear()
    cloud.on("GET /v1/models", Reply(json={"success": True, "models": [MODEL], "count": 1}))
    cloud.on("GET /v1/account/credits", Reply(json={"success": True, "credits": purse}))
    cloud.starts()
    cloud.on("GET /files/result.mp4", Reply(body=clip.read_bytes()))
    cloud.on_status(
        {"success": True, "state": "pending", "progress": 0},
        {"success": True, "state": "processing", "progress": 40},
        cloud.completed(model="studio/alpha", prompt_used="calm", aspect_ratio="1:1"),
    )
    return cloud


@pytest.fixture
def paid(desk: Desk, account: Scripted, portrait: Path, speech: Path) -> Desk:
    """The page with a key, a face and a voice."""
    desk.page.locator("#backend").get_by_label("Kolbo cloud").check()
    desk.write("api-key", KEY)
    desk.give_image(portrait)
    desk.give_audio(speech)
    return desk


def test_from_a_key_to_a_video(paid: Desk, account: Scripted, clip: Path, tmp_path: Path) -> None:
    page = paid.page
    page.click("#model input")
    page.locator("#model [role=option]", has_text="Alpha").click()
    expect(page.locator("#model-note")).to_contain_text("Close-ups of one face.")
    expect(page.locator("#preflight")).to_contain_text("credits")
    expect(page.locator("#preflight")).to_contain_text("250")
    paid.write("prompt", "calm")
    paid.generate()
    paid.await_video()
    paid.unfold("details")
    expect(page.locator("#details")).to_contain_text("studio/alpha")
    paid.unfold("history")
    expect(page.locator("#history-list")).to_contain_text("20 credits", timeout=MADE_MS)
    expect(page.locator("#report .verdict")).to_be_visible(timeout=MADE_MS)  # measured here
    with page.expect_download() as download:
        page.click("#download")
    assert download.value.suggested_filename == "lip_1.mp4"

    (start,) = [seen for seen in account.requests if seen.method == "POST"]
    assert start.parts["model"][2] == b"studio/alpha"
    assert start.parts["prompt"][2] == b"calm"
    of_api = [seen for seen in account.requests if seen.path.startswith("/api/")]
    assert {seen.headers["X-API-Key"] for seen in of_api} == {KEY}
    fetched = [seen for seen in account.requests if seen.path == "/files/result.mp4"]
    assert fetched
    assert not any("X-API-Key" in seen.headers for seen in fetched)
    kept = page.evaluate("({ ...localStorage, ...sessionStorage })")
    assert KEY not in json.dumps(kept) + page.content()


def test_a_key_that_is_refused(paid: Desk, account: Scripted) -> None:
    page = paid.page
    account.on("GET /v1/models", REFUSED)
    account.on("POST /v1/generate/lipsync", REFUSED)
    paid.write("api-key", "kolbo_live_" + "0" * 40)
    expect(page.locator("#model-note")).to_contain_text("does not accept this API key")
    paid.generate()
    assert "does not accept this API key" in paid.await_error()
    assert account.count("GET /v1/generate/lip_1/status") == 0


def test_no_credits_left(paid: Desk, account: Scripted) -> None:
    account.on("POST /v1/generate/lipsync", Reply(400, POOR))
    paid.generate()
    assert "credits" in paid.await_error()
    starts = [seen for seen in account.requests if seen.method == "POST"]
    assert len(starts) == 1  # what may have been charged is not sent again


def test_a_generation_that_fails_there(paid: Desk, account: Scripted) -> None:
    account.on_status({"success": True, "state": "failed", "error": "No face was found."})
    paid.generate()
    assert "No face was found." in paid.await_error()


def test_stopped_there_too(paid: Desk, account: Scripted) -> None:
    page = paid.page
    account.on_status({"success": True, "state": "processing", "progress": 10})
    ended = {"success": True, "generation_id": "lip_1", "state": "cancelled"}
    account.on("POST /v1/generate/lip_1/cancel", Reply(json=ended))
    paid.generate()
    expect(page.locator("#status .generation-id")).to_have_text("lip_1")
    paid.cancel()
    expect(page.locator("#status .cancelled")).to_be_visible()
    assert account.count("POST /v1/generate/lip_1/cancel") == 1
