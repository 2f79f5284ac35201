"""The page as strangers reach it, and where the local service cannot work."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import requests
from playwright.sync_api import Page, expect

from tests.browser.desk import Desk
from tests.browser.site import Site, serve

SECRET = "kolbo_live_" + "7e" * 20


@pytest.fixture(scope="module")
def space(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """Started as a Hugging Face Space starts it, with the owner's key in its environment and a data
    folder that is none."""
    home = tmp_path_factory.mktemp("space")
    (home / "data").write_text("a file where a folder should be")
    names = {
        "SPACE_ID": "someone/lipsync",
        "GRADIO_SERVER_NAME": "0.0.0.0",
        "KOLBO_API_KEY": SECRET,
    }
    with serve(home, **names) as site:
        yield site


def fill_in(page: Page) -> None:
    page.locator("#source-tabs").get_by_role("tab", name="Link").click()
    page.locator("#source-url input, #source-url textarea").fill("http://localhost:9/a.jpg")
    page.locator("#voice-tabs").get_by_role("tab", name="Link").click()
    page.locator("#audio-url input, #audio-url textarea").fill("http://localhost:9/a.mp3")


def test_the_owner_s_key_is_neither_spent_nor_shown(page: Page, space: Site) -> None:
    page.goto(space.url)
    expect(page.get_by_role("radio", name="Local engine")).to_be_checked()
    expect(page.get_by_role("button", name="Duplicate this Space")).to_be_visible()
    page.get_by_role("radio", name="Kolbo cloud").check()
    expect(page.locator("#about-backend")).to_contain_text("does not use the key")
    fill_in(page)
    page.click("#generate")
    expect(page.locator("#problem .reason")).to_contain_text("needs a key")
    assert SECRET not in page.content()
    for path in ("", "config", "gradio_api/info"):
        assert SECRET not in requests.get(f"{space.url}/{path}", timeout=10).text


def test_an_open_page_does_not_keep_it_from_stopping(page: Page, tmp_path: Path) -> None:
    with serve(tmp_path) as site:
        Desk.open(page, site.url)  # and it stays open while the server is told to stop


def test_without_a_service_the_page_says_so(page: Page, space: Site) -> None:
    page.goto(space.url)
    expect(page.locator("#about-backend .bad")).to_contain_text("data")
    problem = page.locator("#about-backend .bad").inner_text()
    fill_in(page)
    page.click("#generate")
    expect(page.locator("#problem .reason")).to_have_text(problem)
    page.get_by_role("radio", name="Kolbo cloud").check()
    expect(page.locator("#about-backend .bad")).to_be_hidden()
