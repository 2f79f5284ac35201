"""Takes the picture of the page for the README: `python -m tests.browser.picture docs/page.png`."""

import io
import sys
import tempfile
from pathlib import Path

from PIL import Image
from playwright.sync_api import expect

from tests.browser.desk import Desk
from tests.browser.site import chromium, serve


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
        taken = io.BytesIO(page.screenshot(full_page=True))
    Image.open(taken).quantize(256).save(target, optimize=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
