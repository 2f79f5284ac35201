"""What a visitor sees and does, on one portrait and one recording."""

import re
from pathlib import Path

import pytest
import requests
from playwright.sync_api import Page, expect

from tests.browser.desk import Desk
from tests.browser.site import KEY, Site

FACE = (0.45, 0.27)
"""Where the face is in `sideways`, seen upright: x and y in 0-1."""

WATCH_PROGRESS = """
window.progress = [];
new MutationObserver(() => {
  const now = document.querySelector('#status [role=progressbar]')?.getAttribute('aria-valuenow');
  if (now !== null && now !== undefined && now != progress.at(-1)) progress.push(+now);
}).observe(document.querySelector('#stage'), { subtree: true, attributes: true, childList: true });
"""


def test_portrait_and_recording(
    desk: Desk, site: Site, sideways: Path, long_speech: Path, tmp_path: Path
) -> None:
    page = desk.page
    desk.give_image(sideways)
    desk.click_face(*FACE)

    words = page.locator("#face-point")
    expect(words).to_contain_text(re.compile(r"face 1 of 1, at 0\.4[45], 0\.2[67]"))
    marker = page.locator("#face-preview .marker").bounding_box()
    picture = page.locator("#face-preview img").bounding_box()
    assert marker
    assert picture
    assert picture["height"] > picture["width"]  # upright, though the file lies on its side
    for side, length, part in (("x", "width", FACE[0]), ("y", "height", FACE[1])):
        middle = marker[side] + marker[length] / 2 - picture[side]
        assert middle == pytest.approx(part * picture[length], abs=2)

    desk.give_audio(long_speech)
    page.evaluate(WATCH_PROGRESS)
    desk.generate()
    expect(page.locator("#cancel")).to_be_enabled()
    desk.await_video()

    seen = page.evaluate("progress")
    assert seen == sorted(seen)
    assert any(0 < value < 100 for value in seen), seen
    assert desk.play() == pytest.approx(40, abs=0.1)
    video = desk.download(tmp_path)
    assert (video.width, video.height) == (360, 480)
    assert video.frames == pytest.approx(40 * 25, abs=1)
    assert video.sound == pytest.approx(40, abs=0.05)
    assert video.name == f"{desk.generation_id}.mp4"
    assert site.status(desk.generation_id)["state"] == "completed"
    desk.unfold("details")
    expect(page.locator("#details")).to_contain_text(desk.generation_id)
    expect(page.locator("#cancel")).to_have_count(0)


def test_face_point_is_cleared(desk: Desk, sideways: Path) -> None:
    page = desk.page
    desk.give_image(sideways)
    desk.click_face(0.55, 0.35)
    expect(page.locator("#face-point")).to_contain_text(re.compile(r"at 0\.5\d, 0\.3"))
    page.click("#face-clear")
    expect(page.locator("#face-point")).not_to_contain_text("Speaking:")
    expect(page.locator("#face-preview .marker")).to_be_hidden()

    page.locator("#face-preview .frame").press("ArrowRight")  # the keyboard reaches it too
    expect(page.locator("#face-point")).to_contain_text("nearest to 0.51, 0.50")
    page.get_by_label("Remove Image").click()
    expect(page.locator("#face-preview")).to_be_hidden()
    expect(page.locator("#face-point")).not_to_contain_text("Speaking:")


def test_cancel_stops_the_work(desk: Desk, site: Site, portrait: Path, long_speech: Path) -> None:
    page = desk.page
    desk.give_image(portrait)
    desk.give_audio(long_speech)
    desk.generate()
    page.wait_for_function(
        "+document.querySelector('#status [role=progressbar]')?.getAttribute('aria-valuenow') > 0"
    )
    running = desk.generation_id
    assert site.status(running)["state"] == "processing"
    expect(page.locator("#status")).to_contain_text("Making your video")
    desk.cancel()
    expect(page.locator("#status .cancelled")).to_be_visible()
    assert site.status(running)["state"] == "cancelled"
    expect(page.locator("#generate")).to_be_enabled()
    expect(page.locator("#result video")).to_have_count(0)
    # What was filled in is still there.
    expect(page.locator("#source-image .image-frame img")).to_be_visible()
    expect(page.locator("#audio").get_by_label("Play", exact=True)).to_be_visible()


def test_errors_are_sentences_and_pass(
    desk: Desk, portrait: Path, speech: Path, tmp_path: Path
) -> None:
    page = desk.page
    desk.generate()
    assert "picture" in desk.await_error()

    fake = tmp_path / "<img src=x onerror=alert(1)>.png"
    fake.write_text("this is no picture")
    desk.tab("source", "Image")
    page.set_input_files("#source-image input[type=file]", fake)
    expect(page.locator("#face-point .bad")).not_to_be_empty()
    desk.give_audio(speech)
    desk.generate()
    page.wait_for_function(
        "!document.querySelector('#problem .reason')?.textContent.includes('No face yet')"
    )
    assert desk.await_error().count(".") >= 1
    assert page.locator("#status img, #problem img").count() == 0

    page.get_by_label("Remove Image").click()
    desk.give_image(portrait)
    desk.tab("voice", "Words")
    desk.write("words", "Hello.")
    desk.generate()
    expect(page.locator("#problem .reason")).to_contain_text("keep one")
    desk.write("words", "")
    desk.generate()
    desk.await_video()
    expect(page.locator("#status .failed")).to_be_hidden()


def test_elements_keep_their_names(desk: Desk) -> None:
    expected = {
        *("backend", "api-key", "source-image", "source-video", "source-url", "face-preview"),
        *("face-point", "audio", "audio-url", "words", "prompt", "model", "generate", "stage"),
        *("history", "examples"),
    }
    found = set()
    for group, tab in [
        ("source", "Video"),
        ("source", "Link"),
        ("voice", "Link"),
        ("voice", "Words"),
    ]:
        found |= _names(desk, expected)
        desk.tab(group, tab)
    assert expected - found - _names(desk, expected) == set()


def _names(desk: Desk, expected: set[str]) -> set[str]:
    return {name for name in expected if desk.page.locator(f"[id='{name}']").count() == 1}


@pytest.mark.parametrize("width", [1280, 390])
def test_nothing_overflows(page: Page, site: Site, width: int) -> None:
    page.set_viewport_size({"width": width, "height": 844})
    Desk.open(page, site.url)
    assert page.evaluate("document.documentElement.scrollWidth") <= width


def test_key_is_used_and_never_kept(desk: Desk, site: Site, portrait: Path, speech: Path) -> None:
    page = desk.page
    expect(page.locator("#api-key")).to_be_hidden()
    page.locator("#backend").get_by_label("Kolbo cloud").check()
    expect(page.locator("#api-key")).to_be_visible()
    desk.give_image(portrait)
    desk.give_audio(speech)
    desk.generate()
    expect(page.locator("#problem .reason")).to_contain_text("needs a key")

    desk.write("api-key", "kolbo_live_" + "0" * 40)
    expect(page.locator("#model-note")).to_contain_text("does not accept this API key")
    desk.write("api-key", KEY)
    expect(page.locator("#model-note")).to_contain_text("Recommended")
    page.click("#model input")
    options = page.locator("#model [role=option]")
    expect(options.first).to_contain_text("Smart Select")
    assert options.count() >= 3
    options.filter(has_text="picture").first.click()
    expect(page.locator("#model-note")).not_to_contain_text("Recommended")
    desk.generate()
    desk.await_video()
    desk.unfold("details")
    expect(page.locator("#details a")).to_have_attribute("href", re.compile(r"^http://"))

    kept = page.evaluate(
        "JSON.stringify([{...localStorage}, {...sessionStorage}, document.cookie])"
    )
    assert KEY not in kept
    assert KEY not in page.content()
    for path in ("", "config", "gradio_api/info", "gradio_api/openapi.json"):
        assert KEY not in requests.get(f"{site.url}/{path}", timeout=10).text
    session = page.evaluate("performance.getEntriesByType('resource').map(entry => entry.name)")
    assert KEY not in str(session)
    holding = [
        path
        for path in site.home.rglob("*")
        if path.is_file() and KEY.encode() in path.read_bytes()
    ]
    assert holding == []
