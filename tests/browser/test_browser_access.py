"""The page for everyone: without barriers, on a phone, by keyboard alone, in the dark.

The pictures of the page in `docs/` come from here: `KOLBO_PICTURES=1 bash script/test
tests/browser/test_browser_access.py`.
"""

import os
import shutil
from pathlib import Path

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page, expect

from kolbo_demo.gallery import GALLERY
from tests.browser.desk import MADE_MS, Desk
from tests.browser.site import ROOT, Site
from tests.browser.test_browser_layout import DESKTOP, assert_above_the_fold

VIEWS = (("light", 1280), ("dark", 390), ("dark", 1280), ("light", 390))
"""Colours, and the width of a desk or of a phone."""

UNNAMED = """
[...document.querySelectorAll('img:not([alt]), video:not([aria-label]):not([title])')]
  .map((each) => each.outerHTML.slice(0, 200))
"""
KEYS = """
[...document.querySelectorAll('[aria-label*=__i18n__], [title*=__i18n__], [alt*=__i18n__]')]
  .map((each) => each.outerHTML.slice(0, 200))
"""
FOCUSED = """
() => {
  const box = document.activeElement.getBoundingClientRect();
  return [box.x, box.y, box.width, box.height];
}
"""
STILL = """
const style = document.createElement('style');
style.className = 'still';
style.textContent = '* { transition: none !important; }';
document.head.append(style);
"""
AT = 0.86
"""Seconds into the result that the pictures show: on an open vowel."""


def turn(page: Page, colours: str, width: int) -> None:
    """Gradio marks the dark as a class of the body."""
    page.set_viewport_size({"width": width, "height": 844 if width < 500 else 960})
    page.evaluate("dark => document.body.classList.toggle('dark', dark)", colours == "dark")
    if page.locator("style.still").count() == 0:  # colours that fade are half way neither
        page.evaluate(STILL)


def picture(page: Page, name: str, *, whole: bool = True) -> None:
    """Saves what is seen as a picture of `docs/`, where that is asked for."""
    if os.environ.get("KOLBO_PICTURES"):
        page.wait_for_timeout(500)  # what has just come into view is not painted yet
        page.screenshot(path=ROOT / "docs" / f"{name}.png", full_page=whole)


def no_barrier(page: Page, state: str, views: int = 2, audited: int = 4) -> None:
    """Neither serious nor critical findings, nothing without a name, nothing beside the screen.

    `audited`: how many of the views axe audits, which takes a second or two for each.
    """
    found = []
    for number, (colours, width) in enumerate(VIEWS[:views]):
        turn(page, colours, width)
        where = f"{state}, {colours}, {width} pixels"
        if number < audited:
            answer = Axe().run(page, options={"resultTypes": ["violations"]}).response
            found += [
                f"{where}: {rule['id']}: {node['html'][:200]}"
                for rule in answer["violations"]
                if rule["impact"] in {"serious", "critical"}
                for node in rule["nodes"]
            ]
        found += [f"{where}: no text alternative: {each}" for each in page.evaluate(UNNAMED)]
        found += [f"{where}: not translated: {each}" for each in page.evaluate(KEYS)]
        wide = page.evaluate("document.documentElement.scrollWidth")
        if wide > width:
            found.append(f"{where}: {wide} pixels wide")
    turn(page, *VIEWS[0])
    assert not found, "\n".join(found)


def test_no_state_has_a_barrier(
    desk: Desk, clip: Path, speech: Path, endless_speech: Path, links: str
) -> None:
    page = desk.page
    turn(page, *VIEWS[0])
    picture(page, "page-idle")
    no_barrier(page, "idle", 4)

    page.locator("#code > .label-wrap").click()
    desk.unfold("history")
    desk.generate()
    desk.await_error()
    no_barrier(page, "nothing given")
    page.locator("#code > .label-wrap").click()
    desk.unfold("history")

    desk.give_video(clip)
    expect(page.locator("#face-preview img")).to_be_visible()
    no_barrier(page, "clip given")
    page.locator("#source-video").get_by_label("Clear").or_(
        page.locator("#source-video").get_by_label("Remove Video")
    ).first.click()
    desk.give_image(GALLERY / "mona-lisa.jpg")
    desk.click_face(0.43, 0.36)
    desk.give_audio(endless_speech)
    desk.generate()
    page.wait_for_function(
        "+document.querySelector('#status [role=progressbar]')?.getAttribute('aria-valuenow') > 0",
        timeout=MADE_MS,
    )
    expect(page.locator("#preview img")).to_be_visible(timeout=MADE_MS)
    picture(page, "page-running")
    no_barrier(page, "running")
    page.click("#cancel")
    no_barrier(page, "asked whether to stop")
    page.locator("#ask-stop").get_by_role("button", name="Stop").click()
    expect(page.locator("#status .cancelled")).to_be_visible()
    no_barrier(page, "cancelled")

    page.locator("#audio").get_by_label("Clear").or_(
        page.get_by_label("Remove Audio")
    ).first.click()
    desk.give_audio(speech)
    desk.generate()
    desk.await_video()
    page.locator("#report .verdict").wait_for(timeout=MADE_MS)
    for fold in ("details", "compare", "history"):
        desk.unfold(fold)
    page.locator("#report summary").click()
    expect(page.locator("#before-after img").first).to_be_visible()
    no_barrier(page, "done, all unfolded", 4)

    page.get_by_label("Remove Image").click()
    desk.tab("source", "Link")
    desk.write("source-url", f"{links}/missing.jpg")
    page.locator("#backend").get_by_label("Kolbo cloud").check()
    no_barrier(page, "cloud, without a key")
    page.locator("#backend").get_by_label("Local engine").check()
    desk.generate()
    page.locator("#status .failed").wait_for(timeout=MADE_MS)
    no_barrier(page, "failed")


def test_the_folded_rooms_have_no_barrier(
    desk: Desk, portrait: Path, speech: Path, tmp_path: Path
) -> None:
    page = desk.page
    desk.give_image(portrait)
    page.get_by_role("button", name="Compare models").click()
    expect(page.locator("#versus-models")).to_contain_text("Local still")
    page.get_by_role("button", name="Many at once").click()
    rows = tmp_path / "rows.csv"
    rows.write_text("source,audio\nportrait.jpg,speech.wav\n/etc/passwd,speech.wav\n")
    page.set_input_files("#batch-files input[type=file]", [rows, portrait, speech])
    expect(page.locator("#batch-files")).to_contain_text("speech")
    page.click("#batch-check")
    expect(page.locator("#batch-rows .virtual-body [role=row]")).to_have_count(2)
    no_barrier(page, "models and batch unfolded", 4)


@pytest.mark.parametrize("language", ["ar", "he", "de", "es", "fr", "pt", "zh"])
def test_every_language(
    page: Page, site: Site, portrait: Path, speech: Path, language: str
) -> None:
    """No barrier; source, voice and Generate in view together; tabs and titles side by side."""
    page.goto(f"{site.url}/?lang={language}")
    expect(page.locator("#generate")).to_be_enabled()
    expect(page.locator("#model-note p").first).to_be_visible()
    direction = "rtl" if language in ("ar", "he") else "ltr"
    assert page.evaluate("getComputedStyle(document.body).direction") == direction
    no_barrier(page, language, audited=1)  # its words have the colours of any other
    if language == "ar":
        picture(page, "page-right-to-left")
    page.set_viewport_size(DESKTOP)
    page.set_input_files("#source-image input[type=file]", portrait)
    page.set_input_files("#audio input[type=file]", speech)
    expect(page.locator("#face-preview .face")).to_have_count(1)
    expect(page.locator("#preflight dt").nth(3)).to_be_visible()  # later, a fifth has the time
    expect(page.locator("#model-note p")).to_have_count(2)
    assert_above_the_fold(page)
    for group in ("source", "voice"):  # none in a menu of its own
        tabs = page.locator(f"#{group}-tabs [role=tab]")
        expect(tabs.filter(visible=True)).to_have_count(3)
        title = page.locator(f".card:has(> #{group}-tabs) h2").bounding_box()
        assert title
        for tab in tabs.filter(visible=True).all():
            box = tab.bounding_box()
            assert box
            assert box["x"] >= title["x"] + title["width"] or box["x"] + box["width"] <= title["x"]


def test_pictures_of_a_result(desk: Desk, site: Site) -> None:
    """On the example, whose voice is long enough for a report worth a look."""
    page = desk.page
    turn(page, *VIEWS[0])
    page.click("#examples [data-item=hopper]")
    desk.click_face(0.52, 0.39)
    desk.await_video()
    page.locator("#report .verdict").wait_for(timeout=MADE_MS)
    page.locator("#report summary").click()
    desk.play()
    page.evaluate(f"v = document.querySelector('#result video'); v.pause(); v.currentTime = {AT}")
    page.wait_for_function("!document.querySelector('#result video').seeking")
    for name, view in (("page", 0), ("page-dark", 2)):
        turn(page, *VIEWS[view])
        picture(page, name)
    turn(page, *VIEWS[3])
    page.locator("#status").scroll_into_view_if_needed()
    page.evaluate("document.querySelector('#stage').scrollIntoView()")
    picture(page, "page-phone", whole=False)
    no_barrier(page, "done, with a report")


class Keyboard:
    """Nothing but keys."""

    def __init__(self, page: Page) -> None:
        self._page = page
        # Heard from the start: a chooser that comes before the browser knows of a listener is lost.
        page.on("filechooser", lambda _: None)

    def tab_to(self, selector: str) -> None:
        """Presses Tab until it has the focus, and sees to it that the focus is seen."""
        for _ in range(80):
            self._page.keyboard.press("Tab")
            if self._page.evaluate("what => document.activeElement.matches(what)", selector):
                break
        else:
            raise AssertionError(f"Tab never comes to {selector}")
        assert self.focus_is_seen(), f"the focus on {selector} is not seen"

    def press(self, key: str) -> None:
        self._page.keyboard.press(key)

    def choose_file(self, path: Path) -> None:
        with self._page.expect_file_chooser() as chooser:
            self.press("Enter")
        chooser.value.set_files(path)

    def focus_is_seen(self) -> bool:
        """Whether pixels in and around what has the focus change without it."""
        self._page.evaluate("document.activeElement.scrollIntoView({ block: 'nearest' })")
        x, y, width, height = self._page.evaluate(FOCUSED)
        around = {
            "x": max(x - 6, 0),
            "y": max(y - 6, 0),
            "width": width + 12,
            "height": height + 12,
        }

        def look() -> bytes:
            return self._page.screenshot(clip=around, animations="disabled")  # pyright: ignore

        with_focus = look()
        self._page.evaluate("window.held = document.activeElement; held.blur()")
        without = look()
        self._page.evaluate("held.focus()")
        return with_focus != without


def test_by_keyboard_from_the_first_input_to_the_download(
    desk: Desk, portrait: Path, some_speech: Path, tmp_path: Path
) -> None:
    page, keys = desk.page, Keyboard(desk.page)
    keys.tab_to("#source-image button")
    keys.choose_file(portrait)
    expect(page.locator("#face-preview img")).to_be_visible()
    keys.tab_to("#face-preview .frame")
    for _ in range(6):
        keys.press("ArrowLeft")
    keys.press("Shift+ArrowUp")
    expect(page.locator("#face-point")).to_contain_text("0.44, 0.45")
    keys.tab_to("#audio button")
    keys.choose_file(some_speech)
    expect(page.locator("#audio").get_by_label("Play", exact=True)).to_be_visible()
    keys.tab_to("#generate")
    keys.press("Enter")
    expect(page.locator("#cancel")).to_be_visible()  # before that Tab goes past where it will be
    keys.tab_to("#cancel")
    keys.press("Enter")
    expect(page.locator("#ask-stop")).to_be_visible()
    keys.tab_to("#ask-stop button")  # the answer that harms nothing comes first
    keys.press("Enter")
    expect(page.locator("#ask-stop")).to_be_hidden()
    desk.await_video()
    expect(page.locator("#live [role=status], #live[role=status]")).to_have_text(
        "Your video is ready"
    )
    keys.tab_to("#download")
    with page.expect_download() as download:
        keys.press("Enter")
    download.value.save_as(tmp_path / "talking.mp4")
    assert (tmp_path / "talking.mp4").stat().st_size > 10_000

    keys.tab_to("#compare > button")
    keys.press("Enter")
    expect(page.locator("#before-after img").first).to_be_visible()
    keys.tab_to("#save-beside")
    with page.expect_download(timeout=MADE_MS) as download:
        keys.press("Enter")
    download.value.save_as(tmp_path / "beside.mp4")
    assert (tmp_path / "beside.mp4").stat().st_size > 10_000

    keys.tab_to("#history > button")
    keys.press("Enter")
    keys.tab_to("#history-list [role=gridcell]")
    keys.press("ArrowRight")
    desk.await_video()


def test_tab_reaches_everything_and_is_seen(desk: Desk) -> None:
    page, keys = desk.page, Keyboard(desk.page)
    unseen, reached = [], set()
    for _ in range(80):
        keys.press("Tab")
        here = page.evaluate("document.activeElement.closest('[id]:not([id^=html-])')?.id || ''")
        if page.evaluate("document.activeElement === document.body"):
            break
        reached.add(here)
        if not keys.focus_is_seen():
            unseen.append(page.evaluate("document.activeElement.outerHTML.slice(0, 150)"))
    assert not unseen
    assert {"generate", "examples", "history"} <= reached


def test_programs_are_chosen_by_key(desk: Desk) -> None:
    page, keys = desk.page, Keyboard(desk.page)
    keys.tab_to("#code > .label-wrap")
    keys.press("Enter")
    keys.tab_to("#code [role=tab]:last-of-type")
    keys.press("Enter")
    expect(page.locator("#code .cm-content:visible")).to_contain_text("#!/bin/sh")


def test_models_compared_and_a_batch_have_no_barrier(
    page: Page, site: Site, speech: Path, endless_speech: Path, tmp_path: Path
) -> None:
    """From right to left: what is right there is rarely wrong the other way round.

    The last one here, as the row that is under way goes on when the batch is stopped.
    """
    portrait = tmp_path / "portrait.jpg"
    shutil.copy(ROOT / "assets" / "portrait.jpg", portrait)
    page.goto(f"{site.url}/?lang=he")
    expect(page.locator("#model-note p").first).to_be_visible()
    page.set_input_files("#source-image input[type=file]", portrait)
    expect(page.locator("#face-preview img")).to_be_visible()
    page.set_input_files("#audio input[type=file]", speech)
    expect(page.locator("#preflight dd").first).to_be_visible()
    page.locator("#versus > button").click()
    for at in range(2):
        page.locator("#versus-models input").nth(at).check()
    page.click("#versus-generate")
    expect(page.locator("#models-panes video")).to_have_count(2, timeout=MADE_MS)
    desk = Desk(page)
    desk.await_video()
    desk.unfold("compare")
    page.click("#beside input")
    page.locator("#beside [role=option]").nth(1).click()
    play = page.locator("#in-step [data-do=play]")
    play.click()
    expect(play).to_have_attribute("aria-pressed", "true")
    no_barrier(page, "models and results compared", 4)

    page.locator("#batch > button").click()
    rows = tmp_path / "rows.csv"
    rows.write_text("source,audio\nportrait.jpg,speech.wav\nportrait.jpg,endless.wav\n")
    page.set_input_files("#batch-files input[type=file]", [rows, portrait, speech, endless_speech])
    expect(page.locator("#batch-files")).to_contain_text("endless")
    page.click("#batch-check")
    page.click("#batch-start")
    states = page.locator("#batch-rows .virtual-body")
    expect(states.locator(".is-completed")).to_have_count(1, timeout=MADE_MS)
    expect(states.locator(".is-running")).to_have_count(1)
    no_barrier(page, "a batch runs", 4)
    page.click("#batch-stop")
    no_barrier(page, "asked whether to stop a batch")
    page.locator("#ask-batch-stop").locator("button").last.click()
    expect(page.locator("#batch-delete")).to_be_visible(timeout=MADE_MS)
    no_barrier(page, "a batch has ended", 4)
