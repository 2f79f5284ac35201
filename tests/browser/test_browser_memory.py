"""Browsers that keep nothing, for good or at all, and the page in a frame of another site."""

import re
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.browser.desk import Desk
from tests.browser.secure import over_https
from tests.browser.site import Site, serve

REFUSED = """
  for (const name of %s) {
    const get = () => { throw new DOMException(name, 'SecurityError'); };
    Object.defineProperty(window, name, { get });
  }
"""
FRAME = '<iframe src="{url}" style="width: 100%; height: 860px"></iframe>'


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """A page behind a proxy, whose owner lets those of other names frame it, on any port."""
    names = {"KOLBO_ALLOWED_HOSTS": "localhost,127.0.0.1", "KOLBO_TRUSTED_PROXIES": "127.0.0.1"}
    with serve(tmp_path_factory.mktemp("site"), **names) as found:
        yield found


class _Around(BaseHTTPRequestHandler):
    """A page of its own with what its query names in a frame."""

    def do_GET(self) -> None:
        body = FRAME.format(url=self.path.partition("?")[2]).encode()
        self.send_response(200)
        self.send_header("Content-Type", "text/html")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - http.server's name
        pass


@pytest.fixture
def around() -> Iterator[str]:
    """Address, up to what it is to hold in its frame, of another site than `localhost`."""
    with ThreadingHTTPServer(("127.0.0.1", 0), _Around) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/?"
        server.shutdown()


@pytest.fixture
def framed(browser: Browser) -> Iterator[Page]:
    """A browser that takes any certificate."""
    context = browser.new_context(
        viewport={"width": 1280, "height": 900}, locale="en-GB", ignore_https_errors=True
    )
    yield context.new_page()
    context.close()


@pytest.mark.parametrize(
    ("refused", "in_the_address"),
    [(["localStorage"], False), (["localStorage", "sessionStorage"], True)],
    ids=["kept by the tab", "kept by the address"],
)
def test_a_reload_finds_what_runs_where_the_browser_keeps_nothing(
    page: Page,
    site: Site,
    refused: list[str],
    in_the_address: bool,
    portrait: Path,
    endless_speech: Path,
) -> None:
    failed: list[str] = []
    page.on("pageerror", lambda error: failed.append(str(error)))
    page.add_init_script(REFUSED % refused)
    desk = Desk.open(page, site.url)
    desk.give_image(portrait)
    desk.give_audio(endless_speech)
    desk.generate()
    expect(page.locator("#status .generation-id")).to_be_visible()
    running = desk.generation_id
    if in_the_address:
        expect(page).to_have_url(re.compile(f"generation={running}"))
    page.reload()
    expect(page.locator("#status .generation-id")).to_have_text(running)
    assert (f"generation={running}" in page.url) == in_the_address
    desk.cancel()
    expect(page.locator("#status .cancelled")).to_be_visible()
    desk.unfold("history")
    expect(desk.rows).to_have_count(1)
    desk.delete()
    expect(desk.rows).to_have_count(0)
    page.reload()
    expect(page.locator("#status .idle")).to_be_visible()
    assert "generation=" not in page.url
    assert not failed


def test_a_language_is_chosen_and_kept_in_a_frame_of_another_site(
    framed: Page, site: Site, around: str
) -> None:
    frame = framed.frame_locator("iframe")
    with over_https(site.url) as inside:
        framed.goto(around + inside)
        expect(frame.locator("#generate")).to_be_enabled()
        expect(frame.locator("html")).to_have_attribute("lang", "en")
        frame.locator("#title select").select_option("fr")
        expect(frame.locator("html")).to_have_attribute("lang", "fr")
        framed.goto(around + inside)
        expect(frame.locator("html")).to_have_attribute("lang", "fr")
        expect(frame.locator("#generate")).to_be_enabled()


def test_an_address_s_language_stays_in_a_frame_of_another_site(
    framed: Page, site: Site, around: str
) -> None:
    with over_https(site.url) as inside:
        for url in (f"{inside}/?lang=de", inside):
            framed.goto(around + url)
            frame = framed.frame_locator("iframe")
            expect(frame.locator("html")).to_have_attribute("lang", "de")
            expect(frame.locator("#generate")).to_be_enabled()
