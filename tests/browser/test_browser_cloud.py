"""What only the cloud has, against a stand-in that speaks its contract: prices, limits, what could
not be synced; and results that are marked on this side."""

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from kolbo_demo.media import first_frame
from tests.browser.desk import Desk
from tests.browser.marked import is_marked
from tests.browser.site import KEY, Site, serve
from tests.scripted import Reply, Scripted

MODELS = [
    {
        "identifier": "studio/a",
        "name": "Studio A",
        "types": ["lipsync-image", "lipsync-video"],
        "credit": 8,
        "min_audio_duration": 2,
        "max_audio_duration": 60,
        "max_file_size": 50 * 2**20,
    },
    {"identifier": "studio/b", "name": "Studio B", "types": ["lipsync-image"], "credit": 20},
]


@pytest.fixture(scope="module")
def cloud(clip: Path) -> Iterator[Scripted]:
    with Scripted() as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        server.on("GET /v1/models", Reply(json={"success": True, "models": MODELS}))
        balance = {"total": 9, "plan_credits": 9, "credit_pack": 0, "redemption": 0}
        server.on("GET /v1/account/credits", Reply(json={"success": True, "credits": balance}))
        server.on("GET /files/result.mp4", Reply(body=clip.read_bytes()))
        server.starts()
        hidden = {"start": 2.0, "end": 3.1, "reason": "the mouth is hidden"}
        server.on_status(server.completed(unsynced=[hidden]))
        yield server
        server.shutdown()


@pytest.fixture(scope="module")
def site(cloud: Scripted, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    home = tmp_path_factory.mktemp("site")
    with serve(home, KOLBO_API_URL=cloud.base_url, KOLBO_API_KEY=KEY) as found:
        yield found


def test_a_paid_generation(
    page: Page, site: Site, portrait: Path, speech: Path, tmp_path: Path
) -> None:
    desk = Desk.open(page, site.url)
    page.click("#model input")
    page.locator("#model [role=option]").filter(has_text="Studio A").click()
    note = page.locator("#model-note")
    expect(note).to_contain_text("a voice of 2 to 60 s; up to 50 MB a file")
    panel = page.locator("#preflight")
    expect(panel).to_be_hidden()  # nothing is known yet
    desk.give_image(portrait)
    desk.give_audio(speech)
    expect(panel).to_contain_text("about 12 credits · you have 9")
    expect(panel.locator(".warnings")).to_contain_text("Your credits may not be enough")
    expect(panel.locator(".warnings")).to_contain_text("at least 0:02.0 are needed")
    expect(panel.locator("dt", has_text="Time")).to_have_count(0)
    page.click("#model input")
    page.locator("#model [role=option]").filter(has_text="Smart Select").click()
    expect(panel).to_contain_text("about 12-30 credits")

    page.locator("#more summary").click()
    page.locator("#mark input").check()
    desk.generate()
    desk.await_video()
    expect(page.locator("#status")).to_contain_text("Not synced 2.0-3.1 s: the mouth is hidden")
    video = desk.download(tmp_path)
    assert is_marked(first_frame(tmp_path / video.name, 0.5))
    assert video.sound > 5
