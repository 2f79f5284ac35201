"""Before the click: what will happen, and which face speaks."""

import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import Browser, Page, expect

from kolbo_demo.engine.video_writer import VideoWriter
from kolbo_demo.media.probe import frame_at
from tests import samples
from tests.browser.desk import Desk
from tests.browser.site import Site
from tests.marked import is_marked

FACE = (0.44, 0.24)
"""The middle of the face in the bundled portrait, 0-1."""


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
    with VideoWriter(path, face.shape[1], face.shape[0], 25, speech, 4.0) as writer:
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


def test_a_late_answer_takes_no_step_back(desk: Desk, pair: Path) -> None:
    page = desk.page
    desk.give_image(pair)
    words = page.locator("#face-point")
    expect(words).to_contain_text("2 faces found")
    desk.slow_line()
    frame = page.locator("#face-preview .frame")
    for pause in [300, *[150] * 7, 300, *[150] * 2]:  # the first is told at once, and answered late
        frame.press("ArrowLeft")
        page.wait_for_timeout(pause)
    expect(words).to_contain_text("0.39, 0.50")
    assert float(page.locator("#face-preview .marker").evaluate("it => it.style.left.slice(0, -1)")
                 ) == pytest.approx(39)  # fmt: skip


def test_what_will_happen_is_told(desk: Desk, half_empty: Path, speech: Path) -> None:
    page = desk.page
    desk.give_video(half_empty)
    panel = page.locator("#preflight")
    expect(panel).to_contain_text("0:04.0")
    expect(panel).to_contain_text("25 frames per second")
    expect(panel).to_contain_text("no face visible")
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
    expect(page.locator("#consent")).to_contain_text("permission")
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


def test_parts_and_lengths_are_chosen(desk: Desk, clip: Path, speech: Path, tmp_path: Path) -> None:
    page = desk.page
    expect(page.locator("#length-mode")).to_be_hidden()
    desk.give_video(clip)
    desk.give_audio(speech)
    panel = page.locator("#preflight")
    expect(panel).to_contain_text("the clip is cut there")
    page.locator("#more summary").click()
    ways = page.locator("#length-mode label").filter(visible=True)
    expect(ways).to_have_count(4)  # neither repeated nor bounced: the clip is the longer one
    page.get_by_label("Silence after the voice").check()
    expect(panel).to_contain_text("0:05.6 · Silence after the voice")
    desk.slide("clip-to", "2.6")
    desk.slide("clip-from", "0.6")
    expect(panel).to_contain_text("0:00.6 to 0:02.6 of 0:05.6")
    expect(panel).to_contain_text("0:02.0 · Silence after the voice")
    desk.slide("voice-to", "1")
    expect(panel).to_contain_text("0:00.0 to 0:01.0 of 0:01.5")
    page.locator("#mark input").check()
    desk.generate()
    desk.await_video()
    made = desk.download(tmp_path)
    assert made.duration == pytest.approx(2.0, abs=0.05)
    assert made.sound == pytest.approx(2.0, abs=0.1)
    assert is_marked(frame_at(tmp_path / made.name, 0.5))
    desk.slide("clip-to", "2.5")
    expect(panel).to_contain_text("judging by the last ones here")
    desk.slide("clip-to", "0.3")
    expect(panel).to_contain_text("Nothing is left after trimming")
    desk.generate()
    assert "Nothing is left after trimming" in desk.await_error()

    # All of it as it was made, whatever stands there meanwhile.
    page.locator("#mark input").uncheck()
    page.get_by_label("Automatic").check()
    page.get_by_role("button", name="Reuse inputs").click()
    for slider, value in {
        "clip-from": "0.6", "clip-to": "2.6", "voice-from": "0", "voice-to": "1"
    }.items():  # fmt: skip
        expect(page.locator(f"#{slider} input[type=number]")).to_have_value(value)
    expect(page.get_by_label("Silence after the voice")).to_be_checked()
    expect(page.locator("#mark input")).to_be_checked()
    page.wait_for_timeout(1000)  # what the files' coming back sets off does not undo it
    expect(panel).to_contain_text("0:00.6 to 0:02.6 of 0:05.6")
    expect(panel).to_contain_text("0:02.0 · Silence after the voice")


def test_words_are_listened_to_first(desk: Desk, portrait: Path, tmp_path: Path) -> None:
    page = desk.page
    desk.give_image(portrait)
    desk.tab("voice", "Words")
    desk.write("words", "Hello there, how are you?")
    desk.slide("speed", "2")
    page.click("#listen")
    player = page.locator("#spoken")
    expect(player.locator("audio")).to_be_visible()
    told = page.locator("#preflight dd", has_text="WAV")
    expect(told).to_be_visible()
    seconds = float(told.inner_text().split(" · ")[1].removeprefix("0:"))
    desk.generate()
    desk.await_video()
    assert desk.download(tmp_path).sound == pytest.approx(seconds, abs=0.1)
    desk.write("words", "Something else.")
    expect(player).to_be_hidden()
    expect(told).to_have_count(0)


def test_a_voice_without_speech_is_told(desk: Desk, tmp_path: Path) -> None:
    desk.give_audio(samples.wav(tmp_path / "hum.wav", samples.chirps(2, 16000), 16000))
    expect(desk.page.locator("#preflight .warnings")).to_contain_text("No speech found")


def test_limits_of_the_chosen_model_stand_there_first(desk: Desk) -> None:
    desk.page.click("#model input")
    desk.page.locator("#model [role=option]").filter(has_text="picture").first.click()
    expect(desk.page.locator("#model-note")).to_contain_text("a voice of 0.1 to 600 s")
    expect(desk.page.locator("#model-note")).to_contain_text("up to 100 MB per file")


def test_a_tap_is_right_on_any_shape_at_any_zoom(
    browser: Browser, site: Site, portrait: Path, tmp_path: Path
) -> None:
    """A phone: a film that says how it is to be turned, a wide picture, a tall one."""
    face = np.asarray(Image.open(portrait).convert("RGB").resize((256, 256)))
    lying = np.ascontiguousarray(np.rot90(face, -1))
    film = samples.video(tmp_path / "phone.mp4", pictures=[lying] * 10, turn=90)
    wide, tall = tmp_path / "wide.png", tmp_path / "tall.png"
    blank = np.full_like(face, 120)
    Image.fromarray(np.hstack([blank, blank, face])).save(wide)
    Image.fromarray(np.vstack([blank, face, blank])).save(tall)
    x, y = FACE
    expected = {film: (x, y), wide: ((2 + x) / 3, y), tall: (x, (1 + y) / 3)}
    context = browser.new_context(
        viewport={"width": 390, "height": 844}, device_scale_factor=3, has_touch=True
    )
    try:
        for zoom, (source, (across, down)) in zip((1, 1.5, 0.7), expected.items(), strict=True):
            page = context.new_page()
            desk = Desk.open(page, site.url)
            page.evaluate(f"document.documentElement.style.zoom = {zoom}")
            (desk.give_video if source == film else desk.give_image)(source)
            expect(page.locator("#face-preview .face")).to_have_count(1)
            frame = page.locator("#face-preview .frame")
            frame.scroll_into_view_if_needed()
            box = page.locator("#face-preview img").bounding_box()
            assert box
            page.touchscreen.tap(box["x"] + box["width"] * across, box["y"] + box["height"] * down)
            words = page.locator("#face-point")
            expect(words).to_contain_text("face 1 of 1")
            told = [float(text) for text in re.findall(r"0\.\d\d", words.inner_text())]
            assert told == pytest.approx([across, down], abs=0.02), source.name
            marker = page.locator("#face-preview .marker").bounding_box()
            assert marker
            middle = marker["x"] + marker["width"] / 2, marker["y"] + marker["height"] / 2
            there = box["x"] + box["width"] * across, box["y"] + box["height"] * down
            assert middle == pytest.approx(there, abs=4), source.name
            page.close()
    finally:
        context.close()
