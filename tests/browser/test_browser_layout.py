"""Source, voice and Generate are in view together until there is a result."""

import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import Page, ViewportSize, expect

from tests import samples
from tests.browser.desk import Desk
from tests.browser.site import Site

DESKTOP = ViewportSize(width=1280, height=800)
PHONE = ViewportSize(width=390, height=844)
LEAST_PREVIEW = 150
"""Pixels of the longer side of a picture whose faces can be clicked."""


@pytest.fixture
def desk(page: Page, site: Site) -> Desk:
    page.set_viewport_size(DESKTOP)
    return Desk.open(page, site.url)


def hidden_parts(page: Page, *selectors: str) -> dict[str, object]:
    """Boxes of the elements that are not wholly in view of the unscrolled page."""
    assert page.evaluate("scrollY") == 0
    size = page.viewport_size
    assert size
    found = {}
    for selector in selectors:
        box = page.locator(selector).bounding_box()
        if (
            not box
            or min(box["x"], box["y"]) < 0
            or box["x"] + box["width"] > size["width"]
            or box["y"] + box["height"] > size["height"]
        ):
            found[selector] = box
    return found


def assert_above_the_fold(page: Page) -> None:
    assert hidden_parts(page, "#source > .card", "#voice-tabs", "#generate") == {}


def preview_size(page: Page) -> tuple[float, float]:
    page.wait_for_function("document.querySelector('#face-preview img')?.complete")
    box = page.locator("#face-preview img").bounding_box()
    assert box
    return box["width"], box["height"]


def stacked(portrait: Path, path: Path, axis: int, count: int) -> Path:
    with Image.open(portrait) as one:
        face = np.asarray(one.convert("RGB"))
    Image.fromarray(np.concatenate([face] * count, axis)).save(path)
    return path


def test_first_visit(desk: Desk) -> None:
    assert_above_the_fold(desk.page)
    assert hidden_parts(desk.page, "#examples", "#stage") == {}


def test_the_examples_fill_their_rows(desk: Desk) -> None:
    ends = "boxes => boxes.map(box => box.getBoundingClientRect().right)"
    right = desk.page.locator("#examples ul").evaluate_all(ends)
    assert desk.page.locator("#examples li:last-child").evaluate_all(ends) == pytest.approx(right)


def test_words_that_were_listened_to(desk: Desk, portrait: Path) -> None:
    desk.give_image(portrait)
    desk.tab("voice", "Words")
    desk.write("words", "Hello there, how are you today?")
    assert_above_the_fold(desk.page)
    desk.page.click("#listen")
    expect(desk.page.locator("#spoken audio")).to_be_visible()
    assert_above_the_fold(desk.page)


@pytest.mark.parametrize(("axis", "count"), [(0, 1), (0, 2), (1, 2)])
def test_pictures_of_any_shape(
    desk: Desk, portrait: Path, speech: Path, tmp_path: Path, axis: int, count: int
) -> None:
    """Square, tall and wide; two faces in the last two."""
    desk.give_image(stacked(portrait, tmp_path / "source.png", axis, count))
    desk.give_audio(speech)
    expect(desk.page.locator("#face-preview .face")).to_have_count(count)
    expect(desk.page.locator("#preflight")).to_contain_text("as long as the voice")
    assert_above_the_fold(desk.page)
    assert hidden_parts(desk.page, "#preflight") == {}
    assert max(preview_size(desk.page)) >= 2 * LEAST_PREVIEW


def test_clips(desk: Desk, clip: Path, speech: Path) -> None:
    desk.give_video(clip)
    desk.give_audio(speech)
    expect(desk.page.locator("#face-preview .face")).to_have_count(1)
    expect(desk.page.locator("#insist")).to_be_visible()
    assert_above_the_fold(desk.page)
    assert max(preview_size(desk.page)) >= LEAST_PREVIEW


def test_warnings(desk: Desk, tmp_path: Path, speech: Path) -> None:
    """A clip without a face, then a tall one: as much as can be said below a source."""
    frames = [np.full((640, 360, 3), 90, np.uint8)] * 20
    desk.give_video(samples.video(tmp_path / "nobody.mp4", fps=10, pictures=frames))
    desk.give_audio(speech)
    expect(desk.page.locator("#face-point .bad")).to_be_visible()
    expect(desk.page.locator("#preflight")).to_contain_text("no face visible")
    assert_above_the_fold(desk.page)
    assert max(preview_size(desk.page)) >= LEAST_PREVIEW


def test_the_cloud_with_its_key(desk: Desk, portrait: Path) -> None:
    desk.page.locator("#backend").get_by_label("Kolbo cloud").check()
    expect(desk.page.locator("#api-key")).to_be_visible()
    desk.give_image(portrait)
    expect(desk.page.locator("#face-preview .face")).to_have_count(1)
    assert_above_the_fold(desk.page)


def test_generate_stays_in_view_on_a_phone(page: Page, site: Site, portrait: Path) -> None:
    page.set_viewport_size(PHONE)
    desk = Desk.open(page, site.url)
    desk.give_image(portrait)
    expect(page.locator("#face-preview .face")).to_have_count(1)
    height = page.evaluate("document.documentElement.scrollHeight")
    for top in range(0, height, 500):
        page.evaluate("top => scrollTo({ top, behavior: 'instant' })", top)
        expect(page.locator("#generate")).to_be_in_viewport(ratio=1)
    page.evaluate("scrollTo({ top: document.documentElement.scrollHeight, behavior: 'instant' })")
    last, button = (page.locator(one).bounding_box() for one in ("#verify", "#generate"))
    assert last
    assert button
    assert last["y"] + last["height"] <= button["y"]  # nothing is left below it


def test_generate_shows_the_result_panel_on_a_phone(page: Page, site: Site) -> None:
    page.set_viewport_size(PHONE)
    desk = Desk.open(page, site.url)
    desk.generate()
    expect(page.locator("#problem .reason")).to_be_in_viewport(ratio=1)


@pytest.mark.parametrize("language", ["en", "ar"])
def test_the_voice_ends_before_the_mark_of_its_list(page: Page, site: Site, language: str) -> None:
    page.set_viewport_size(PHONE)
    page.goto(f"{site.url}/?lang={language}")
    page.locator("#voice-tabs").get_by_role("tab").nth(2).click()
    Desk(page).write("words", "Hello there, how are you today?")
    voice = page.locator("#voice-name input")
    expect(voice).to_have_value(re.compile("English · Heart$"))
    assert voice.evaluate("""input => {
      const mark = input.parentElement.querySelector('.icon-wrap').getBoundingClientRect();
      const box = input.getBoundingClientRect(), style = getComputedStyle(input);
      const left = box.left + parseFloat(style.paddingLeft);
      const right = box.right - parseFloat(style.paddingRight);
      return input.scrollWidth <= input.clientWidth && (mark.right <= left || mark.left >= right);
    }""")
