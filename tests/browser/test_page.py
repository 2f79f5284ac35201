"""What a visitor sees and does."""

import re
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.browser.conftest import Site
from tests.browser.desk import Desk

FACE = (0.45, 0.27)
"""Where the face is in `sideways`, seen upright: x and y in 0-1."""

WATCH_PROGRESS = """
window.progress = [];
new MutationObserver(() => {
  const now = document.querySelector('#status [role=progressbar]')?.getAttribute('aria-valuenow');
  if (now !== null && now !== undefined && now != progress.at(-1)) progress.push(+now);
}).observe(document.querySelector('#status'), { subtree: true, attributes: true, childList: true });
"""


def test_portrait_and_recording(
    desk: Desk, site: Site, sideways: Path, speech: Path, tmp_path: Path
) -> None:
    page = desk.page
    desk.give_image(sideways)
    desk.click_face(*FACE)

    words = page.locator("#face-point")
    expect(words).to_contain_text(re.compile(r"\(0\.4[45]\d, 0\.2[67]\d\)"))
    marker = page.locator("#face-preview .marker").bounding_box()
    picture = page.locator("#face-preview img").bounding_box()
    assert marker
    assert picture
    assert picture["height"] > picture["width"]  # upright, though the file lies on its side
    for side, length, part in (("x", "width", FACE[0]), ("y", "height", FACE[1])):
        middle = marker[side] + marker[length] / 2 - picture[side]
        assert middle == pytest.approx(part * picture[length], abs=2)

    desk.give_audio(speech)
    page.evaluate(WATCH_PROGRESS)
    desk.generate()
    expect(page.locator("#cancel")).to_be_enabled()
    expect(page.locator("#generate")).to_be_disabled()
    desk.await_video()

    seen = page.evaluate("progress")
    assert seen == sorted(seen)
    assert any(0 < value < 100 for value in seen), seen
    assert desk.play() == pytest.approx(1.5, abs=0.1)
    video = desk.download(tmp_path)
    assert (video.width, video.height) == (360, 480)
    assert video.frames == pytest.approx(1.5 * 25, abs=1)
    assert video.sound == pytest.approx(1.5, abs=0.05)
    assert video.name == f"{desk.generation_id}.mp4"
    assert site.status(desk.generation_id)["state"] == "completed"
    expect(page.locator("#details")).to_contain_text(desk.generation_id)
    expect(page.locator("#cancel")).to_be_disabled()


def test_face_point_is_cleared(desk: Desk, sideways: Path) -> None:
    page = desk.page
    desk.give_image(sideways)
    desk.click_face(0.55, 0.35)
    expect(page.locator("#face-point")).to_contain_text(re.compile(r"\(0\.5\d\d, 0\.3"))
    page.click("#face-clear")
    expect(page.locator("#face-point")).not_to_contain_text("(")
    expect(page.locator("#face-preview .marker")).to_be_hidden()

    page.locator("#face-preview .frame").press("ArrowRight")  # the keyboard reaches it too
    expect(page.locator("#face-point")).to_contain_text("(0.510, 0.500)")
    page.get_by_label("Remove Image").click()
    expect(page.locator("#face-preview")).to_be_hidden()
    expect(page.locator("#face-point")).not_to_contain_text("(")


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
    page.click("#cancel")
    expect(page.locator("#status .cancelled")).to_be_visible()
    assert site.status(running)["state"] == "cancelled"
    expect(page.locator("#generate")).to_be_enabled()
    expect(page.locator("#result video")).to_be_hidden()
    # What was filled in is still there.
    expect(page.locator("#source-image .image-frame img")).to_be_visible()
    expect(page.locator("#audio").get_by_label("Play", exact=True)).to_be_visible()


def test_links(desk: Desk, links: str, tmp_path: Path) -> None:
    desk.tab("source", "Link")
    desk.write("source-url", f"{links}/portrait.jpg?size=large&x='\"><b>")
    desk.click_face(0.44, 0.24)
    expect(desk.page.locator("#face-point")).to_contain_text("(0.4")
    desk.tab("voice", "Link")
    desk.write("audio-url", f"{links}/speech.wav")
    desk.generate()
    desk.await_video()
    assert desk.download(tmp_path).duration == pytest.approx(1.5, abs=0.05)


def test_clip_and_words(desk: Desk, clip: Path, tmp_path: Path) -> None:
    desk.give_video(clip)
    expect(desk.page.locator("#face-preview img")).to_be_visible()
    desk.tab("voice", "Words")
    desk.write("words", "Hello there!")
    desk.generate()
    desk.await_video()
    desk.play()
    video = desk.download(tmp_path)
    assert 0.4 < video.sound < 3
    assert video.duration == pytest.approx(video.sound, abs=0.06)
    # A new input keeps what stands on the other tabs.
    desk.tab("voice", "Audio")
    desk.tab("voice", "Words")
    expect(desk.page.locator("#words textarea")).to_have_value("Hello there!")


def test_microphone(desk: Desk, portrait: Path) -> None:
    page = desk.page
    desk.give_image(portrait)
    page.locator("#audio").get_by_label("Record audio").click()
    page.locator("#audio").get_by_role("button", name="Record", exact=True).click()
    page.wait_for_timeout(1500)  # the recording itself
    page.locator("#audio").get_by_role("button", name="Stop", exact=True).first.click()
    expect(page.locator("#audio").get_by_label("Play", exact=True)).to_be_visible()
    desk.generate()
    desk.await_video()
    assert 0.5 < desk.play() < 5


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
        "!document.querySelector('#status .reason')?.textContent.includes('Nobody to speak')"
    )
    assert desk.await_error().count(".") >= 1
    assert page.locator("#status img").count() == 0

    page.get_by_label("Remove Image").click()
    desk.give_image(portrait)
    desk.tab("voice", "Words")
    desk.write("words", "Hello.")
    desk.generate()
    expect(page.locator("#status .reason")).to_contain_text("keep one")
    desk.write("words", "")
    desk.generate()
    desk.await_video()
    expect(page.locator("#status .failed")).to_be_hidden()


def test_visitors_do_not_see_each_other(
    desk: Desk, browser: Browser, site: Site, portrait: Path, speech: Path, tmp_path: Path
) -> None:
    other_context = browser.new_context()
    try:
        other = Desk.open(other_context.new_page(), site.url)
        for each in (desk, other):
            each.give_image(portrait)
        desk.give_audio(speech)
        other.tab("voice", "Words")
        other.write("words", "Nice to see you here again today.")
        desk.generate()
        other.generate()
        desk.await_video()
        other.await_video()
        assert desk.generation_id != other.generation_id
        mine, theirs = (each.download(tmp_path) for each in (desk, other))
        assert mine.duration == pytest.approx(1.5, abs=0.05)
        assert theirs.duration > mine.duration
        assert mine.name != theirs.name
    finally:
        other_context.close()


@pytest.mark.parametrize("example", ["image", "video"])
def test_example_runs_with_one_click(desk: Desk, example: str) -> None:
    desk.page.click(f"#example-{example}")
    desk.await_video()
    assert desk.play() > 1


def test_elements_keep_their_names(desk: Desk) -> None:
    expected = {
        *("backend", "api-key", "source-image", "source-video", "source-url", "face-preview"),
        *("face-point", "audio", "audio-url", "words", "prompt", "model", "generate", "cancel"),
        *("status", "result", "details"),
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
