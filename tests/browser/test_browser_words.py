"""Words that are spoken: their language, their voice, and what cannot be spoken."""

import re
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from tests.browser.desk import Desk
from tests.browser.site import Site

WORDS = {
    "en": ("My brother bought a map.", "English · Heart"),
    "es": ("Mi hermano compró un mapa.", "Español · Dora"),
    "fr": ("Mon père a acheté une pomme.", "Français · Siwis"),
    "de": ("Mein Bruder kaufte eine Mappe.", "Deutsch · Pico"),
    "pt": ("Meu irmão comprou um mapa.", "Português · Bia"),
    "zh": ("我爸爸买了一本书。", "中文 · 晓晓"),
}
VIDEOS = {"en", "de", "zh"}
"""One language of each speech engine: a render does not depend on the language."""
REFUSED = {"ar": "مرحبا بكم في هذا المكان", "he": "שלום לכולם ותודה רבה"}

NO_VOICE = {
    "ar": "لا يوجد صوت ينطق هذه اللغة بعد (العربية)",
    "he": "עדיין אין קול שדובר את השפה הזאת (עברית)",
}


def opened(page: Page, site: Site, code: str) -> Desk:
    page.goto(f"{site.url}/?lang={code}")
    expect(page.locator("#model-note details")).to_be_visible()  # it comes last
    page.locator("#voice-tabs").get_by_role("tab").nth(2).click()
    return Desk(page)


@pytest.mark.parametrize("code", WORDS)
def test_words_in_the_language_of_the_page(
    page: Page, site: Site, portrait: Path, code: str
) -> None:
    words, voice = WORDS[code]
    desk = opened(page, site, code)
    page.set_input_files("#source-image input[type=file]", portrait)
    desk.write("words", words)
    expect(page.locator("#voice-name input")).to_have_value(re.compile(f"{voice}$"))
    page.click("#listen")
    expect(page.locator("#spoken audio")).to_be_visible(timeout=60_000)
    if code in VIDEOS:
        desk.generate()
        desk.await_video()
        assert desk.play() > 0.5


@pytest.mark.parametrize("code", REFUSED)
def test_a_language_without_a_voice_is_told_before_the_click(
    page: Page, site: Site, code: str
) -> None:
    desk = opened(page, site, code)
    desk.write("words", REFUSED[code])
    expect(page.locator("#preflight")).to_contain_text(NO_VOICE[code])


def test_a_text_that_is_too_long_is_told_in_the_language_of_the_page(
    page: Page, site: Site
) -> None:
    desk = opened(page, site, "de")
    desk.write("words", "Das Wetter ist heute schön. " * 180)
    expect(page.locator("#preflight")).to_contain_text("Der Text ist zu lang (5039 Zeichen)")


def test_a_chosen_voice_tells_what_it_cannot_read(page: Page, site: Site) -> None:
    desk = opened(page, site, "en")
    desk.write("words", "你好")
    expect(page.locator("#voice-name input")).to_have_value("Automatic: 中文 · 晓晓")
    page.click("#voice-name input")
    page.locator("#voice-name [role=option]", has_text="English · Heart").click()
    expect(page.locator("#preflight")).to_contain_text("This voice cannot read: 你 好")
    desk.write("words", "Good morning.")
    expect(page.get_by_text("cannot read")).to_have_count(0)


def test_a_voice_is_heard_without_words_of_the_visitor(page: Page, site: Site) -> None:
    desk = opened(page, site, "en")
    page.click("#voice-name input")
    page.locator("#voice-name [role=option]", has_text="Español · Pico").click()
    page.click("#listen")
    expect(page.locator("#spoken audio")).to_be_visible(timeout=60_000)
    page.wait_for_function("document.querySelector('#spoken audio').currentTime > 0.1")
    expect(page.locator("#preflight")).to_be_hidden()  # a sample is no voice for the video
    page.click("#voice-name input")
    page.locator("#voice-name [role=option]", has_text="English · Heart").click()
    expect(page.locator("#spoken audio")).to_be_hidden()
    desk.write("words", "Good morning.")
    page.click("#listen")
    expect(page.locator("#spoken audio")).to_be_visible(timeout=60_000)
    expect(page.locator("#preflight")).to_contain_text("WAV")


def test_markup_and_control_characters_are_no_commands(
    page: Page, site: Site, tmp_path: Path
) -> None:
    target = tmp_path / "written.wav"
    desk = opened(page, site, "de")
    desk.write(
        "words", f"<genfile file='{target}'>Guten\x07 Morgen</genfile> <img src=x onerror=alert(1)>"
    )
    page.on("dialog", lambda dialog: pytest.fail(dialog.message))
    page.click("#listen")
    expect(page.locator("#spoken audio")).to_be_visible(timeout=60_000)
    assert not target.exists()


def test_five_thousand_characters_are_spoken_and_no_more(page: Page, site: Site) -> None:
    sentence = "My brother bought a map of the town. "
    text = (sentence * 200)[:4999].rstrip() + "."
    desk = opened(page, site, "en")
    desk.write("words", text + " And this is too much, as anybody can tell.")
    expect(page.locator("#preflight")).to_contain_text("The text is too long")
    desk.write("words", text)
    expect(page.get_by_text("too long")).to_have_count(0)
    page.click("#listen")
    expect(page.locator("#spoken audio")).to_be_visible(timeout=180_000)
