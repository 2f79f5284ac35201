"""Every way to give a face and a voice, each to a finished video."""

from pathlib import Path

import pytest
from playwright.sync_api import Browser, expect

from tests.browser.desk import Desk
from tests.browser.site import Site


def test_links(desk: Desk, links: str, tmp_path: Path) -> None:
    desk.tab("source", "Link")
    desk.write("source-url", f"{links}/portrait.jpg?size=large&x='\"><b>")
    desk.click_face(0.44, 0.24)
    expect(desk.page.locator("#face-point")).to_contain_text("nearest to 0.4")
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
    level = page.locator("#level [role=meter]")
    expect(level).to_be_visible()
    page.wait_for_function(
        "+document.querySelector('#level [role=meter]').getAttribute('aria-valuenow') > 20"
    )
    page.wait_for_timeout(1500)  # the recording itself
    desk.far_away(1500)
    page.locator("#audio").get_by_role("button", name="Stop", exact=True).first.click()
    expect(page.locator("#audio").get_by_label("Play", exact=True)).to_be_visible()
    expect(level).to_be_hidden()
    # It is on its way yet: it is waited for, as one who sees it there expects.
    desk.generate()
    expect(page.locator("#generate")).to_have_attribute("aria-busy", "true")
    desk.far_away(0)
    desk.await_video()
    expect(page.locator("#generate")).not_to_have_attribute("aria-busy", "true")
    assert 0.5 < desk.play() < 5


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
