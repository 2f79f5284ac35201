"""The page before the first click: numbered steps, and finished results that play."""

from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from kolbo_demo.gallery import items
from tests.browser.desk import Desk
from tests.browser.site import Site

PLAYS = "document.querySelector('#examples video')?.currentTime > 0.1"
STEPS = """() => ['#source > .card', '.card:has(> #voice-tabs)', '#generate'].map((part) => {
  const style = getComputedStyle(document.querySelector(part), '::before');
  const shown = style.display !== 'none' && style.content !== 'none';
  if (!shown) return null;
  const filled = style.backgroundColor === style.borderColor;
  return style.content.replaceAll('"', '') + (filled ? ' next' : '');
})"""


def playing(page: Page) -> tuple[int, bool, bool]:
    """How many results play, whether the first is silent, and whether it is said to be playing."""
    page.wait_for_function(PLAYS)
    videos = page.locator("#examples video")
    muted = videos.first.evaluate("video => video.muted")
    pressed = page.locator("#examples .play:has(video)").first.get_attribute("aria-pressed")
    return videos.count(), muted, pressed == "true"


def test_posters_play_silently_while_they_are_pointed_at(page: Page, site: Site) -> None:
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    Desk.open(page, site.url)
    posters = page.locator("#examples .play")
    expect(posters).to_have_count(len(items()))
    assert not [url for url in asked if url.endswith(".mp4")]
    posters.nth(1).hover()
    assert playing(page) == (1, True, False)
    assert [url.rpartition("/")[2] for url in asked if url.endswith(".mp4")] == [
        items()[1].result.name
    ]
    posters.nth(2).hover()
    expect(page.locator("#examples video")).to_have_attribute("src", "gallery/woman-result.mp4")
    page.mouse.move(0, 0)
    expect(page.locator("#examples video")).to_have_count(0)


def test_a_press_gives_sound_until_the_end(desk: Desk) -> None:
    page = desk.page
    posters = page.locator("#examples .play")
    posters.nth(0).click()
    assert playing(page) == (1, False, True)
    page.mouse.move(0, 0)
    assert playing(page) == (1, False, True)
    posters.nth(1).click()
    assert playing(page) == (1, False, True)
    posters.nth(1).click()
    expect(page.locator("#examples video")).to_have_count(0)
    posters.nth(1).click()
    page.wait_for_function("document.querySelector('#examples video')?.readyState >= 3")
    page.evaluate("v = document.querySelector('#examples video'); v.currentTime = v.duration - 0.2")
    expect(page.locator("#examples video")).to_have_count(0)


def test_by_keyboard(desk: Desk) -> None:
    page = desk.page
    page.locator("#examples summary").focus()
    page.keyboard.press("Tab")
    assert playing(page) == (1, True, False)
    page.keyboard.press("Enter")
    assert playing(page) == (1, False, True)
    first = page.get_by_role("button", name="Play: Photograph, English", pressed=True)
    expect(first).to_be_focused()
    page.keyboard.press("Tab")
    expect(page.get_by_role("button", name="Try this one: Photograph, English")).to_be_focused()


def test_no_motion_where_it_is_not_wanted(page: Page, site: Site) -> None:
    page.emulate_media(reduced_motion="reduce")
    Desk.open(page, site.url)
    page.locator("#examples .play").first.hover()
    expect(page.locator("#examples video")).to_have_count(0)
    page.locator("#examples .play").first.click()
    assert playing(page) == (1, False, True)


@pytest.mark.parametrize("example", ["hopper", "man"])
def test_try_this_one(desk: Desk, example: str) -> None:
    """A still and a clip. Even where the cloud is chosen they are made here, and cost nothing."""
    page = desk.page
    page.locator("#backend").get_by_label("Kolbo cloud").check()
    desk.tab("voice", "Words")
    desk.write("words", "These words are not those of the example.")
    page.click(f"#examples [data-item={example}]")
    desk.await_video()
    expect(page.locator("#backend").get_by_label("Local engine")).to_be_checked()
    prompt = next(item.prompt for item in items() if item.id == example)
    expect(page.locator("#prompt :is(input, textarea)")).to_have_value(prompt)
    assert desk.play() > 1
    gallery = page.locator("#examples details")
    expect(gallery).not_to_have_attribute("open", "")
    page.click("#examples summary")
    expect(page.locator("#examples .play").first).to_be_visible()
    desk.delete()
    expect(page.locator("#status .idle")).to_be_visible()


def test_folded_for_a_visitor_who_comes_back(desk: Desk, portrait: Path, speech: Path) -> None:
    desk.give_image(portrait)
    desk.give_audio(speech)
    desk.generate()
    desk.await_video()
    desk.page.reload()
    expect(desk.page.locator("#result video")).to_be_visible()
    expect(desk.page.locator("#examples .play").first).to_be_hidden()
    assert desk.page.evaluate(STEPS) == [None, None, None]
    desk.delete()
    expect(desk.page.locator("#examples .play").first).to_be_visible()


def test_steps_go_as_they_are_done(desk: Desk, portrait: Path, speech: Path) -> None:
    page = desk.page
    assert page.evaluate(STEPS) == ["1 next", "2", "3"]
    desk.give_image(portrait)
    expect(page.locator("#face-preview img")).to_be_visible()
    assert page.evaluate(STEPS) == [None, "2 next", "3"]
    desk.tab("voice", "Words")
    desk.write("words", "Hello.")
    assert page.evaluate(STEPS) == [None, None, "3 next"]
    desk.write("words", "")
    assert page.evaluate(STEPS) == [None, "2 next", "3"]
    desk.give_audio(speech)
    assert page.evaluate(STEPS) == [None, None, "3 next"]
    desk.generate()
    expect(page.locator("#status .idle")).to_have_count(0)
    assert page.evaluate(STEPS) == [None, None, None]
    desk.await_video()
    desk.delete()


def test_on_a_phone(browser: Browser, site: Site) -> None:
    context = browser.new_context(
        viewport={"width": 390, "height": 844}, has_touch=True, is_mobile=True
    )
    try:
        page = context.new_page()
        Desk.open(page, site.url)
        assert page.evaluate("document.documentElement.scrollWidth") == 390
        last = page.locator("#examples [data-item]").last
        last.scroll_into_view_if_needed()
        expect(last).to_be_in_viewport(ratio=1)
        button = page.locator("#generate").bounding_box()
        box = last.bounding_box()
        assert button
        assert box
        assert box["y"] + box["height"] <= button["y"]
        page.locator("#examples .play").last.tap()
        assert playing(page) == (1, False, True)
        last.tap()
        expect(page.locator("#examples video")).to_have_count(0)
        expect(page.locator("#status .state")).to_be_in_viewport()
        Desk(page).await_video()
    finally:
        context.close()
