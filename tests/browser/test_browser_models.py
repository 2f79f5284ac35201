"""The same inputs through several models, on the local engine and on a stand-in for the cloud.

With `KOLBO_PICTURES=1` the picture in `docs/` is taken anew.
"""

import csv
import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from kolbo_demo.gallery import GALLERY
from tests.browser.desk import MADE_MS, Desk
from tests.browser.site import ROOT, Site, serve
from tests.browser.test_browser_access import no_barrier, picture
from tests.scripted import KEY, Reply, Scripted

MODELS = [
    {
        "identifier": "alpha/face",
        "name": "Alpha",
        "types": ["lipsync-image"],
        "credit": 5,
        "estimated_duration_seconds": 75,
    },
    {"identifier": "beta/clip", "name": "Beta", "types": ["lipsync-video"], "credit": 7},
    {"identifier": "gamma/any", "name": "=Gamma", "types": ["lipsync"], "credit": 9},
]


@pytest.fixture(scope="module")
def site(cloud: Scripted, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with serve(tmp_path_factory.mktemp("site"), KOLBO_API_URL=cloud.base_url) as found:
        yield found


def unfold(page: Page) -> None:
    page.get_by_role("button", name="Compare models").click()
    expect(page.locator("#versus-note")).to_contain_text("at its own price")


def tick(page: Page, *names: str) -> None:
    for name in names:
        page.locator("#versus-models").get_by_label(name).check()


def test_models_of_the_local_engine(desk: Desk) -> None:
    page = desk.page
    desk.give_image(GALLERY / "woman.jpg")
    desk.give_audio(ROOT / "assets" / "speech.wav")  # long enough for a verdict
    unfold(page)
    expect(page.locator("#versus-models")).not_to_contain_text("Local clip")  # takes no portrait
    tick(page, "Smart Select")
    page.click("#versus-generate")
    expect(page.locator("#problem .reason")).to_contain_text("Tick 2 to 6 models")
    tick(page, "Local still")
    page.click("#versus-generate")
    rows = page.locator("#models-table .virtual-body [role=row]")
    expect(rows).to_have_count(2)
    videos = page.locator("#models-panes video")
    expect(videos).to_have_count(2, timeout=MADE_MS)
    expect(rows.filter(has_text=" ms")).to_have_count(2, timeout=MADE_MS)
    expect(rows.nth(0)).to_contain_text("Smart Select (Local still)")
    expect(rows.nth(1)).to_contain_text("Local still")
    page.get_by_role("button", name="Play all").click()
    page.wait_for_function(
        "(videos => videos.length == 2 && videos.every(v => v.currentTime > 0.2))"
        "([...document.querySelectorAll('#models-panes video')])"
    )
    no_barrier(page, "models compared")
    page.evaluate("""
      for (const video of document.querySelectorAll('#models-panes video')) {
        video.pause();
        video.currentTime = 0.86;
      }
      scrollTo(0, 0);
    """)
    picture(page, "page-models", whole=False)

    page.reload()
    expect(rows).to_have_count(2)
    first = desk.generation_id
    rows.nth(1).locator("[role=gridcell]").first.click()
    expect(page.locator("#status .generation-id")).not_to_have_text(first)
    expect(rows).to_have_count(2)

    # One result beside the other.
    desk.unfold("compare")
    page.click("#beside input")
    options = page.locator("#beside [role=option]")
    expect(options).to_have_count(2)
    options.nth(1).click()
    videos = page.locator("#in-step video")
    expect(videos).to_have_count(2)
    assert len({videos.nth(at).get_attribute("src") for at in range(2)}) == 2


def test_a_late_list_leaves_ticks_alone(desk: Desk, portrait: Path) -> None:
    page = desk.page
    desk.give_image(portrait)
    unfold(page)
    expect(page.locator("#versus-models")).not_to_contain_text("Local clip")
    desk.slow_line()
    page.get_by_role("button", name="Remove Image").click()
    page.wait_for_timeout(200)  # asked for, and not answered yet
    tick(page, "Local still")
    expect(page.locator("#versus-models")).to_contain_text("Local clip")
    expect(page.locator("#versus-models").get_by_label("Local still")).to_be_checked()


def test_models_of_the_cloud(
    desk: Desk, cloud: Scripted, site: Site, portrait: Path, speech: Path, clip: Path
) -> None:
    cloud.on("GET /v1/models", Reply(json={"success": True, "models": MODELS, "count": 3}))
    started = {"success": True, "poll_interval_hint": 0.2, "type": "lipsync"}
    cloud.on(
        "POST /v1/generate/lipsync",
        Reply(json={**started, "generation_id": "lip_1", "credits_charged": 20}),
        Reply(json={**started, "generation_id": "lip_2", "credits_charged": 36}),
    )
    cloud.on("GET /files/result.mp4", Reply(body=clip.read_bytes()))
    working = {"success": True, "state": "processing", "generation_id": "lip_1"}
    cloud.on_status(*[working] * 20, cloud.completed(model="alpha/face"), generation="lip_1")
    failed = {"success": True, "state": "failed", "error": "The model is busy."}
    cloud.on_status({**failed, "generation_id": "lip_2"}, generation="lip_2")

    page = desk.page
    page.locator("#backend").get_by_label("Kolbo cloud").check()
    page.locator("#api-key input").fill(KEY)
    page.locator("#api-key input").blur()
    desk.give_image(portrait)
    desk.give_audio(speech)
    unfold(page)
    expect(page.locator("#versus-models")).to_contain_text("Gamma")
    expect(page.locator("#versus-models")).not_to_contain_text("Beta")  # takes clips only
    tick(page, "Alpha", "Gamma")
    page.click("#versus-generate")
    expect(page.locator("#status")).to_contain_text("takes about 1:15")
    rows = page.locator("#models-table .virtual-body [role=row]")
    # Whichever comes first is the first generation.
    bad, good = rows.filter(has_text="failed"), rows.filter(has_not_text="failed")
    expect(bad).to_have_count(1, timeout=MADE_MS)
    assert {row.inner_text().split()[0] for row in rows.all()} == {"Alpha", "=Gamma"}
    expect(page.locator("#models-panes video")).to_have_count(1, timeout=MADE_MS)
    waiting = re.compile("under way|Measuring")
    expect(good).not_to_contain_text(waiting, timeout=MADE_MS)  # measured here, too
    charged = [row.locator("[role=gridcell]").last.inner_text().strip() for row in rows.all()]
    assert sorted(charged) == ["20", "36"]

    # The table for other programs, in which no text from outside is a formula.
    with page.expect_download() as download:
        page.click("#models-csv")
    with download.value.path().open(encoding="utf-8-sig", newline="") as file:
        sheet = {row["generation_id"]: row for row in csv.DictReader(file)}
    with page.expect_download() as download:
        page.click("#models-json")
    table = {row["generation_id"]: row for row in json.loads(download.value.path().read_bytes())}
    assert set(sheet) == set(table) == {"lip_1", "lip_2"}
    assert "busy" in table["lip_2"]["error"]
    assert (table["lip_1"]["credits"], table["lip_2"]["credits"]) == (20, 36)
    assert table["lip_1"]["verdict"]
    names = {row["model"]: row["name"] for row in table.values()}
    assert names == {"alpha/face": "Alpha", "gamma/any": "=Gamma"}
    assert {row["name"] for row in sheet.values()} == {"Alpha", "'=Gamma"}
    sent = [seen.parts["model"][2] for seen in cloud.requests if seen.method == "POST"]
    assert sorted(sent) == [b"alpha/face", b"gamma/any"]
    assert KEY not in json.dumps(page.evaluate("({...localStorage})"))
