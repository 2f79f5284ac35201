"""Before the click: what will happen, and which face speaks."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import Page, expect

from kolbo_demo.engine.video import Writer
from tests.browser.desk import Desk
from tests.browser.site import Site


@pytest.fixture(scope="module")
def pair(portrait: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same face twice, side by side."""
    path = tmp_path_factory.mktemp("pair") / "pair.jpg"
    with Image.open(portrait) as one:
        both = Image.new("RGB", (one.width * 2, one.height))
        both.paste(one, (0, 0))
        both.paste(one, (one.width, 0))
    both.save(path, quality=92)
    return path


@pytest.fixture(scope="module")
def half_empty(portrait: Path, speech: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four seconds of which the last two show nobody."""
    path = tmp_path_factory.mktemp("empty") / "half.mp4"
    with Image.open(portrait) as picture:
        face = np.asarray(picture.convert("RGB"))
    with Writer(path, face.shape[1], face.shape[0], 25, speech, 4.0) as writer:
        for number in range(100):
            writer.write(face if number < 50 else np.full_like(face, 90))
    return path


def test_a_face_is_chosen_by_its_box(desk: Desk, pair: Path) -> None:
    page = desk.page
    desk.give_image(pair)
    words = page.locator("#face-point")
    expect(words).to_contain_text("2 faces found")
    boxes = page.locator("#face-preview .face")
    expect(boxes).to_have_count(2)
    boxes.nth(1).press("Enter")
    expect(words).to_contain_text("face 2 of 2, at 0.7")
    expect(boxes.nth(1)).to_have_attribute("aria-pressed", "true")
    expect(boxes.nth(0)).to_have_attribute("aria-pressed", "false")
    boxes.nth(0).click()
    expect(words).to_contain_text("face 1 of 2, at 0.2")
    page.click("#face-clear")
    expect(words).to_contain_text("2 faces found")
    expect(page.locator("#face-preview [aria-pressed=true]")).to_have_count(0)


def test_what_will_happen_is_told(desk: Desk, half_empty: Path, speech: Path) -> None:
    page = desk.page
    desk.give_video(half_empty)
    panel = page.locator("#preflight")
    expect(panel).to_contain_text("0:04.0")
    expect(panel).to_contain_text("25 frames a second")
    expect(panel).to_contain_text("no face is seen")
    expect(panel.locator(".stretches img")).to_have_count(1)
    desk.give_audio(speech)
    expect(panel).to_contain_text("0:01.5, as long as the voice: the clip is cut there")
    expect(panel).to_contain_text("Free")
    expect(panel.locator(".warnings")).to_have_count(0)


def test_another_frame_is_shown(desk: Desk, half_empty: Path) -> None:
    page = desk.page
    desk.give_video(half_empty)
    expect(page.locator("#face-point")).to_contain_text("1 face found")
    page.locator("#face-frame input[type=number]").fill("3")
    page.locator("#face-frame input[type=number]").blur()
    expect(page.locator("#face-point")).to_contain_text("No face found here")


def test_consent_is_said_until_the_first_generation(
    page: Page, site: Site, portrait: Path, speech: Path
) -> None:
    desk = Desk.open(page, site.url)
    expect(page.locator("#consent")).to_contain_text("agreed")
    desk.give_image(portrait)
    desk.give_audio(speech)
    desk.generate()
    desk.await_video()
    page.reload()
    expect(page.locator("#generate")).to_be_enabled()
    expect(page.locator("#consent")).to_be_hidden()


@pytest.mark.parametrize("width", [1280, 390])
def test_the_panel_does_not_overflow(
    page: Page, site: Site, pair: Path, speech: Path, width: int
) -> None:
    page.set_viewport_size({"width": width, "height": 900})
    desk = Desk.open(page, site.url)
    desk.give_image(pair)
    desk.give_audio(speech)
    expect(page.locator("#preflight")).to_contain_text("as long as the voice")
    assert page.evaluate("document.documentElement.scrollWidth") <= width


def test_right_to_left(page: Page, site: Site, portrait: Path) -> None:
    page.goto(f"{site.url}/?lang=he")
    page.set_input_files("#source-image input[type=file]", portrait)
    for part in ("#title p", "#model-note p", "#preflight dt", "#backend label span"):
        expect(page.locator(part).first).to_have_css("direction", "rtl")
    label, fact = (page.locator(f"#preflight {s}").first.bounding_box() for s in ("dt", "dd"))
    assert label
    assert fact
    assert label["x"] > fact["x"]
