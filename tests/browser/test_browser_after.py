"""While it runs and after: cards, reloads, links, history."""

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.browser.desk import MADE_MS, Desk, Video
from tests.browser.site import KEY, Site

MOVING = "+document.querySelector('#status [role=progressbar]')?.getAttribute('aria-valuenow') > 0"


@pytest.fixture
def stranger(browser: Browser) -> Iterator[Page]:
    """Somebody else's browser."""
    context = browser.new_context(viewport={"width": 390, "height": 844})
    yield context.new_page()
    context.close()


def test_reload_while_two_run(
    desk: Desk, site: Site, stranger: Page, portrait: Path, endless_speech: Path, speech: Path
) -> None:
    page = desk.page
    desk.give_image(portrait)
    desk.give_audio(endless_speech)
    desk.generate()
    page.wait_for_function(MOVING, timeout=60_000)
    first = desk.generation_id
    page.get_by_label("Clear", exact=True).or_(page.get_by_label("Remove Audio")).first.click()
    desk.give_audio(speech)
    desk.generate()
    expect(page.locator(".run")).to_have_count(2)  # each its own card
    expect(page.locator("#status .generation-id")).not_to_have_text(first)
    second = desk.generation_id

    page.reload()
    expect(page.locator(".run")).to_have_count(2)
    expect(page.locator("#status .generation-id")).to_have_text(second)
    other = page.locator(".run:not(.open)")
    expect(other.locator(".generation-id")).to_have_text(first)
    other.get_by_role("button", name="Cancel").click()
    question = page.get_by_role("dialog")
    question.get_by_role("button", name="No").click()
    assert site.status(first)["state"] == "processing"
    other.get_by_role("button", name="Cancel").click()
    question.get_by_role("button", name="Stop it").click()
    expect(other).to_have_count(0)  # what has ended stands in the history
    assert site.status(first)["state"] == "cancelled"
    desk.await_video()
    expect(page.locator(".run.open .live")).to_have_text("Your video is ready")

    page.reload()
    desk.await_video()
    assert desk.generation_id == second
    kept = page.evaluate("JSON.stringify({...localStorage})")
    assert second in kept
    assert KEY not in kept

    # Another browser sees nothing of it, unless it knows the id; and then no inputs.
    stranger.goto(site.url)
    expect(stranger.locator(".idle-card")).to_be_visible()
    expect(stranger.locator("#history .none")).to_be_attached()
    stranger.goto(f"{site.url}/?generation={second}")
    stranger.locator("#status .done").wait_for(timeout=MADE_MS)
    expect(stranger.locator("#result video")).to_be_visible()
    expect(stranger.locator("#stage")).not_to_contain_text("inputs again")
    stranger.goto(f"{site.url}/?generation=lip_{'0' * 20}")
    expect(stranger.locator("#problem .reason")).to_contain_text("knows no such generation")
    assert stranger.evaluate("document.documentElement.scrollWidth") <= 390


def test_history_gives_inputs_again_and_forgets(desk: Desk, clip: Path, tmp_path: Path) -> None:
    page = desk.page
    desk.give_video(clip)
    desk.tab("voice", "Words")
    desk.write("words", "Hello there.")
    desk.write("prompt", "smiling")
    desk.slide("speed", "1.5")
    first = page.locator("#face-preview img").get_attribute("src")
    desk.slide("face-frame", "1")
    expect(page.locator("#face-preview img")).not_to_have_attribute("src", first or "")
    page.locator("#face-preview .face").click()
    chosen = page.locator("#face-point")
    expect(chosen).to_contain_text("face 1 of 1, at 0.")
    point = chosen.inner_text()
    desk.generate()
    desk.await_video()
    # The words are its subtitles, and what was measured stands under it.
    page.wait_for_function(
        "document.querySelector('#result video').textTracks[0]?.cues?.length > 0"
    )
    expect(page.locator("#report .verdict")).to_be_visible(timeout=MADE_MS)
    expect(page.locator("#report svg path.aperture")).to_have_attribute("d", re.compile("^M"))
    with page.expect_download() as download:
        page.get_by_role("link", name="Report as JSON").click()
    report = json.loads(download.value.path().read_bytes())
    assert report["face"] > 0.9
    assert len(report["curves"]["aperture"]) == len(report["curves"]["width"]) > 10
    page.locator("#report .plot svg").click(position={"x": 200, "y": 90})
    page.wait_for_function("document.querySelector('#result video').currentTime > 0.1")

    # Source and result play in step, and make one video.
    page.locator("details.compare summary").click()
    page.wait_for_function(
        "[...document.querySelectorAll('.panes video')].filter(v => v.readyState > 2).length == 2"
    )
    page.get_by_role("button", name="Play both").click()
    page.wait_for_function(
        "(([one, two]) => one.currentTime > 0.2"
        " && Math.abs(one.currentTime - two.currentTime) < 0.2)"
        "([...document.querySelectorAll('.panes video')])"
    )
    with page.expect_download(timeout=MADE_MS) as download:
        page.get_by_role("button", name="Save side by side").click()
    download.value.save_as(tmp_path / "beside.mp4")
    both = Video.read(tmp_path / "beside.mp4")
    assert both.width > both.height
    assert both.sound > 0.3

    page.reload()
    page.click("#history summary")
    row = page.locator("#history li")
    expect(row).to_contain_text("clip.mp4")
    expect(row).to_contain_text("Hello there.")
    page.wait_for_function("document.querySelector('#history li img').naturalWidth > 0")
    row.get_by_role("button", name="Use again").click()
    expect(page.locator("#source-video video")).to_be_visible()
    expect(page.locator("#words textarea")).to_have_value("Hello there.")
    expect(page.locator("#prompt textarea")).to_have_value("smiling")
    expect(page.locator("#speed input[type=number]")).to_have_value("1.5")
    expect(page.locator("#face-frame input[type=number]")).to_have_value("1")
    expect(chosen).to_have_text(point)
    expect(page.locator("#face-preview [aria-pressed=true]")).to_have_count(1)
    expect(page.locator("#face-preview .marker")).to_be_visible()
    row.get_by_role("button", name="Delete").click()
    page.get_by_role("dialog").get_by_role("button", name="Delete").click()
    expect(row).to_have_count(0)
    expect(page.locator(".idle-card")).to_be_visible()
    page.reload()
    expect(page.locator("#history .none")).to_be_attached()
    expect(row).to_have_count(0)


def test_spoken_words_with_parts_and_lengths_are_used_again(
    desk: Desk, clip: Path, speech: Path
) -> None:
    page = desk.page
    desk.give_video(clip)
    desk.tab("voice", "Words")
    desk.write("words", "Hello there, how are you?")
    desk.slide("speed", "1.5")
    page.click("#listen")
    expect(page.locator("#spoken audio")).to_be_visible()
    page.locator("#more summary").click()
    desk.slide("clip-to", "3.2")
    desk.slide("clip-from", "0.4")
    page.get_by_label("Silence after the voice").check()
    page.locator("#mark input").check()
    panel = page.locator("#preflight")
    expect(panel).to_contain_text("0:02.8 · Silence after the voice")
    desk.generate()
    desk.await_video()
    assert desk.play() == pytest.approx(2.8, abs=0.05)

    page.reload()  # and something else is on the page by then
    expect(page.locator("#model-note")).to_contain_text("Recommended")
    desk.give_audio(speech)
    expect(panel).to_contain_text("0:01.5")
    page.locator("#more summary").click()
    page.get_by_role("button", name="Use these inputs again").click()
    expect(page.locator("#words textarea")).to_have_value("Hello there, how are you?")
    page.wait_for_timeout(1500)  # what the fields' filling sets off does not undo it
    expect(page.locator("#speed input[type=number]")).to_have_value("1.5")
    for slider, value in {"clip-from": "0.4", "clip-to": "3.2"}.items():
        expect(page.locator(f"#{slider} input[type=number]")).to_have_value(value)
    expect(page.locator("#voice-to")).to_be_hidden()
    expect(page.get_by_label("Silence after the voice")).to_be_checked()
    expect(page.locator("#mark input")).to_be_checked()
    expect(panel).to_contain_text("0:00.4 to 0:03.2")
    expect(panel).to_contain_text("0:02.8 · Silence after the voice")
    page.locator("#result video").evaluate("video => video.remove()")
    desk.generate()
    desk.await_video()
    assert desk.play() == pytest.approx(2.8, abs=0.05)
