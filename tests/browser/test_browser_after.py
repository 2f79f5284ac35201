"""While it runs and after: reloads, links, history, comparison."""

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.browser.desk import MADE_MS, Desk, Video
from tests.browser.site import KEY, Site
from tests.browser.test_browser_layout import DESKTOP, hidden_parts

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
    page.wait_for_function(MOVING, timeout=MADE_MS)
    first = desk.generation_id
    page.get_by_label("Clear", exact=True).or_(page.get_by_label("Remove Audio")).first.click()
    desk.give_audio(speech)
    desk.generate()
    expect(page.locator("#status .generation-id")).not_to_have_text(first)  # the newest is shown
    second = desk.generation_id
    desk.unfold("history")
    expect(desk.rows).to_have_count(2)
    expect(desk.rows.nth(1)).to_contain_text("under way")

    page.reload()
    expect(page.locator("#status .generation-id")).to_have_text(second)
    desk.unfold("history")
    desk.bring_to_front(1)
    expect(page.locator("#status .generation-id")).to_have_text(first)
    page.click("#cancel")
    page.locator("#ask-stop").get_by_role("button", name="No", exact=True).click()
    expect(page.locator("#ask-stop")).to_be_hidden()
    assert site.status(first)["state"] == "processing"
    desk.cancel()
    expect(page.locator("#status .cancelled")).to_be_visible()
    assert site.status(first)["state"] == "cancelled"
    expect(desk.rows.nth(1)).to_contain_text("Cancelled")
    desk.bring_to_front(0)
    desk.await_video()
    expect(page.locator("#live")).to_have_text("Your video is ready")
    page.locator("#report .verdict").wait_for(timeout=MADE_MS)
    # Once all has ended and is measured, the page sends nothing.
    asked: list[str] = []
    expect(desk.rows.nth(0)).not_to_contain_text("Measuring")
    page.wait_for_timeout(2500)
    page.on("request", lambda request: asked.append(request.url))
    page.wait_for_timeout(3000)
    assert not [url for url in asked if "queue" in url]

    page.reload()
    desk.await_video()
    assert desk.generation_id == second
    stored = page.evaluate("JSON.stringify({...localStorage})")
    assert "kolbo-history" in stored
    assert KEY not in stored

    # Another browser sees nothing of it, unless it knows the id; and then no inputs.
    stranger.goto(site.url)
    expect(stranger.locator("#status .idle")).to_be_visible()
    expect(stranger.locator("#history-list")).to_have_count(0)
    stranger.goto(f"{site.url}/?generation={second}")
    stranger.locator("#status .done").wait_for(timeout=MADE_MS)
    expect(stranger.locator("#result video")).to_be_visible()
    expect(stranger.locator("#reuse")).to_have_count(0)
    stranger.goto(f"{site.url}/?generation=lip_{'0' * 20}")
    expect(stranger.locator("#problem .reason")).to_contain_text("has no such generation")
    assert stranger.evaluate("document.documentElement.scrollWidth") <= 390


def test_a_closed_tab_stops_nothing(
    desk: Desk, site: Site, portrait: Path, some_speech: Path
) -> None:
    page = desk.page
    desk.give_image(portrait)
    desk.give_audio(some_speech)
    desk.generate()
    # A frame is shown before there is a video.
    frame = page.get_by_alt_text("Preview of the video in progress")
    page.wait_for_function(
        "document.querySelector('#preview img')?.naturalWidth > 0", timeout=MADE_MS
    )
    expect(page.locator("#result video")).to_have_count(0)
    first = frame.get_attribute("src")
    expect(frame).not_to_have_attribute("src", first or "")
    running = desk.generation_id
    context = page.context
    page.close()
    later = Desk.open(context.new_page(), site.url)
    expect(later.page.locator("#status .generation-id")).to_have_text(running)
    later.await_video()
    assert later.generation_id == running
    expect(later.page.locator("#preview")).to_be_hidden()
    assert later.play() == pytest.approx(12, abs=0.1)


def test_three_at_once_in_two_tabs(
    desk: Desk, site: Site, portrait: Path, endless_speech: Path
) -> None:
    page = desk.page
    shown = page.locator("#status .generation-id")
    desk.give_image(portrait)
    desk.give_audio(endless_speech)
    desk.unfold("history")
    desk.generate()
    expect(desk.rows).to_have_count(1)
    expect(shown).to_be_visible()
    first = desk.generation_id
    desk.generate()
    expect(desk.rows).to_have_count(2)
    expect(shown).not_to_have_text(first)
    expect(shown).to_be_visible()
    second = desk.generation_id
    other = Desk.open(page.context.new_page(), site.url)
    expect(other.page.locator("#status .generation-id")).to_have_text(second)
    other.give_image(portrait)
    other.give_audio(endless_speech)
    other.generate()
    expect(desk.rows).to_have_count(3)  # the tabs share one list
    expect(shown).to_have_text(second)
    expect(desk.rows.filter(has_text="under way")).to_have_count(3)
    for row, known in ((2, first), (1, second)):
        desk.bring_to_front(row)
        expect(shown).to_have_text(known)
        desk.cancel()
        expect(page.locator("#status .cancelled")).to_be_visible()
    expect(desk.rows.filter(has_text="Cancelled")).to_have_count(2)
    other.cancel()
    expect(desk.rows.filter(has_text="Cancelled")).to_have_count(3)
    other.page.close()


def test_a_result_is_in_view(desk: Desk, portrait: Path, speech: Path) -> None:
    """The video and its verdict are in view together; secondary parts are folded."""
    page = desk.page
    page.set_viewport_size(DESKTOP)
    desk.give_image(portrait)
    desk.give_audio(speech)
    desk.generate()
    desk.await_video()
    expect(page.locator("#report .verdict")).to_be_visible(timeout=MADE_MS)
    page.evaluate("scrollTo(0, 0)")
    assert hidden_parts(page, "#stage", "#result", "#report .verdict", "#details") == {}
    expect(page.locator("#report svg")).to_be_hidden()
    page.locator("#report summary").click()
    expect(page.locator("#report svg")).to_be_visible()


def test_the_comparison_keeps_its_choice(desk: Desk, site: Site, portrait: Path, speech: Path):
    """While the result is measured, and while another tab makes one more."""
    page = desk.page
    shown = page.locator("#status .generation-id")
    desk.give_image(portrait)
    desk.give_audio(speech)
    desk.generate()
    desk.await_video()
    first = desk.generation_id
    desk.generate()
    expect(shown).not_to_have_text(first)
    desk.await_video()
    desk.unfold("compare")
    beside = page.locator("#beside input")
    beside.click()
    page.locator("#beside [role=option]", has_text=first).click()
    videos = page.locator("#in-step video")
    expect(videos).to_have_count(2)
    left = videos.first.get_attribute("src") or ""
    expect(page.locator("#report .verdict")).to_be_visible(timeout=MADE_MS)

    other = Desk.open(page.context.new_page(), site.url)
    other.give_image(portrait)
    other.give_audio(speech)
    other.generate()
    expect(other.page.locator("#status .running")).to_be_visible()
    other.await_video()
    desk.unfold("history")
    expect(desk.rows).to_have_count(3)
    expect(desk.rows.filter(has_text="Done")).to_have_count(3, timeout=MADE_MS)
    expect(beside).to_have_value(re.compile(first))
    expect(videos.first).to_have_attribute("src", left)
    expect(page.locator("#compare .label-wrap")).to_have_class(re.compile("open"))
    beside.click()
    third = other.generation_id
    expect(page.locator("#beside [role=option]", has_text=third)).to_be_visible()


def test_lists_of_an_older_release_are_taken_over(page: Page, site: Site) -> None:
    stored = '[{"ticket": "AAAAAAAAAAAAAAAAAAAAAA", "id": "lip_1", "backend": "cloud"}, 5]'
    page.add_init_script(f"localStorage.setItem('kolbo-generations', '{stored}')")
    desk = Desk.open(page, site.url)
    desk.unfold("history")
    expect(desk.rows).to_have_count(1)
    expect(desk.rows).to_contain_text("lip_1")
    desk.bring_to_front(0)
    expect(page.locator("#problem .reason")).to_contain_text("has no such generation")


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
    page.locator("#report summary").click()
    expect(page.locator("#report svg path.aperture")).to_have_attribute("d", re.compile("^M"))
    desk.unfold("details")
    expect(page.locator("#details table")).to_contain_text("Face visible")
    with page.expect_download() as download:
        page.click("#report-file")
    report = json.loads(download.value.path().read_bytes())
    assert report["face"] > 0.9
    assert len(report["curves"]["aperture"]) == len(report["curves"]["width"]) > 10
    for button, first in (("#srt", "1\n00:00:00,"), ("#vtt", "WEBVTT\n\n00:00:00.")):
        with page.expect_download() as download:
            page.click(button)
        assert download.value.suggested_filename.endswith(f".{button[1:]}")
        subtitles = download.value.path().read_text()
        assert subtitles.startswith(first)
        assert subtitles.endswith("\nHello there.\n")
    page.locator("#report .plot svg").click(position={"x": 200, "y": 90})
    page.wait_for_function("document.querySelector('#result video').currentTime > 0.1")

    # Source and result play in step, and make one video.
    desk.unfold("compare")
    page.wait_for_function(
        "[...document.querySelectorAll('#in-step video')].filter(v => v.readyState > 2).length == 2"
    )
    page.get_by_role("button", name="Play both").click()
    page.wait_for_function(
        "(([one, two]) => one.currentTime > 0.2"
        " && Math.abs(one.currentTime - two.currentTime) < 0.2)"
        "([...document.querySelectorAll('#in-step video')])"
    )
    with page.expect_download(timeout=MADE_MS) as download:
        page.click("#save-beside")
    download.value.save_as(tmp_path / "beside.mp4")
    both = Video.read(tmp_path / "beside.mp4")
    assert both.width > both.height
    assert both.sound > 0.3

    page.reload()
    desk.unfold("history")
    expect(desk.rows).to_have_count(1)
    expect(desk.rows).to_contain_text("clip.mp4")
    expect(desk.rows).to_contain_text("Hello there.")
    page.wait_for_function(
        "document.querySelector('#history-list .virtual-body img').naturalWidth > 0"
    )
    page.click("#reuse")
    expect(page.locator("#source-video video")).to_be_visible()
    expect(page.locator("#words textarea")).to_have_value("Hello there.")
    expect(page.locator("#prompt textarea")).to_have_value("smiling")
    expect(page.locator("#speed input[type=number]")).to_have_value("1.5")
    expect(page.locator("#face-frame input[type=number]")).to_have_value("1")
    expect(chosen).to_have_text(point)
    expect(page.locator("#face-preview [aria-pressed=true]")).to_have_count(1)
    expect(page.locator("#face-preview .marker")).to_be_visible()
    page.click("#link")
    expect(page.locator("#address textarea, #address input")).to_have_value(
        re.compile(rf"\?generation={desk.generation_id}$")
    )
    desk.delete()
    expect(desk.rows).to_have_count(0)
    expect(page.locator("#status .idle")).to_be_visible()
    page.reload()
    expect(page.locator("#status .idle")).to_be_visible()
    expect(page.locator("#history-list")).to_have_count(0)


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
    page.click("#reuse")
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
    before = desk.generation_id
    desk.generate()
    expect(page.locator("#status .generation-id")).not_to_have_text(before)
    desk.await_video()
    assert desk.play() == pytest.approx(2.8, abs=0.05)
