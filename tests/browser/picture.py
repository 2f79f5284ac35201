"""Takes the picture of the page for the README: `python -m tests.browser.picture docs/page.png`."""

import sys
import tempfile
from pathlib import Path

from playwright.sync_api import expect

from tests.browser.desk import Desk
from tests.browser.site import chromium, serve

AT = 0.86
"""Seconds into the result: on an open vowel."""


def main(target: str) -> None:
    """Runs the first example and saves what the page shows then."""
    with tempfile.TemporaryDirectory() as home, serve(Path(home)) as site, chromium() as browser:
        page = browser.new_page(viewport={"width": 1280, "height": 960})
        expect.set_options(timeout=20_000)
        desk = Desk.open(page, site.url)
        page.click("#example-image")
        desk.click_face(0.44, 0.24)
        desk.await_video()
        desk.play()
        page.evaluate(
            f"v = document.querySelector('#result video'); v.pause(); v.currentTime = {AT}"
        )
        page.wait_for_function("!document.querySelector('#result video').seeking")
        page.screenshot(path=target, full_page=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
