"""Visitors of one page on the local engine: each has limits of his own."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import requests
from gradio_client import Client
from gradio_client.exceptions import AppError

from tests.browser.site import Site, serve

VISITOR, OTHER = "203.0.113.7", "198.51.100.20"
A_MINUTE = 10


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    with serve(tmp_path, KOLBO_TRUSTED_PROXIES="127.0.0.1") as found:
        yield found


def start(site: Site, visitor: str) -> str:
    """A generation's id, started by a visitor as the proxy tells him. Its links lead nowhere."""
    page = Client(site.url, verbose=False, headers={"X-Forwarded-For": visitor})
    link = "http://files.example.invalid/a"
    return page.predict(f"{link}.jpg", voice=f"{link}.mp3", api_name="/lipsync")["generation_id"]


def test_one_visitor_uses_up_nobody_else_s_minute(site: Site) -> None:
    ids = [start(site, VISITOR) for _ in range(A_MINUTE)]
    with pytest.raises(AppError, match=r"[Tt]oo many"):
        start(site, VISITOR)
    ids += [start(site, OTHER) for _ in range(A_MINUTE)]
    assert len(set(ids)) == 2 * A_MINUTE
    assert site.status(ids[0])["state"] in ("processing", "failed")


def test_nothing_lists_what_others_made(site: Site) -> None:
    """An id gives access to a result, a ticket to its files; the page lists neither."""
    mine = start(site, VISITOR)
    told = [
        requests.get(f"{site.url}/{path}", headers={"X-API-Key": key}, timeout=10)
        for path in ("api/v1/generate", "api/v1/generate/lipsync", "api/v1/results",
                     "api/v1/results/", "api/v1/models", "api/openapi.json",
                     "config", "gradio_api/info", "metrics", "healthz", "")
        for key in ("", "kolbo_live_" + "5a" * 20)
    ]  # fmt: skip
    for answer in told:
        assert mine not in answer.text, answer.url
