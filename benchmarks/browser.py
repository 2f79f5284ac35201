"""Chromium without a window. Tests use it too."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from playwright.sync_api import Browser, sync_playwright

_DEBIANS = [Path("/usr/bin/chromium-headless-shell"), Path("/usr/bin/chromium")]
"""Without windows to draw, a page takes the first a third less of the processor."""


@contextmanager
def chromium(flags: Sequence[str]) -> Iterator[Browser]:
    """Debian's where it is installed, else Playwright's own. `flags` are added to its command."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=next((path for path in _DEBIANS if path.exists()), None),
            args=["--no-sandbox", "--disable-gpu", *flags],
        )
        yield browser
        browser.close()
