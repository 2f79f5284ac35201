"""Chromium without a window. Tests use it too."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from playwright.sync_api import Browser, sync_playwright

_DEBIAN_BROWSERS = [Path("/usr/bin/chromium-headless-shell"), Path("/usr/bin/chromium")]
"""The headless shell uses a third less CPU, as it draws no windows."""


@contextmanager
def chromium(flags: Sequence[str]) -> Iterator[Browser]:
    """Debian's if installed, else Playwright's own, with extra `flags`."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=next((path for path in _DEBIAN_BROWSERS if path.exists()), None),
            args=["--no-sandbox", "--disable-gpu", *flags],
        )
        yield browser
        browser.close()
