"""Tools for assistants: Gradio's MCP server asks the page over loopback, for whoever calls it."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import requests

from tests.browser.site import Site, serve

ASSISTANT, OTHER = "203.0.113.7", "198.51.100.20"
A_MINUTE = 10


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with serve(tmp_path_factory.mktemp("site"), KOLBO_TRUSTED_PROXIES="127.0.0.1") as found:
        yield found


def call(site: Site, tool: str, arguments: dict, **headers: str) -> str:
    """A tool's answer. On a Space its name has a prefix."""
    schema = requests.get(f"{site.url}/gradio_api/mcp/schema", timeout=20).json()
    name = next(each["name"] for each in schema if each["name"].endswith(tool))
    answer = requests.post(
        f"{site.url}/gradio_api/mcp/",
        json={
            "jsonrpc": "2.0",
            "id": 1,
            "method": "tools/call",
            "params": {"name": name, "arguments": arguments},
        },
        headers={"Accept": "application/json, text/event-stream"} | headers,
        timeout=60,
    )
    assert answer.status_code == 200, answer.text
    return answer.text


def start(site: Site, visitor: str, **headers: str) -> str:
    link = "http://files.example.invalid/a"
    arguments = {"source": f"{link}.jpg", "voice": f"{link}.mp3"}
    return call(site, "lipsync", arguments, **{"X-Forwarded-For": visitor} | headers)


def test_an_assistant_has_the_limits_of_its_own_visitor(site: Site) -> None:
    for _ in range(A_MINUTE):
        assert "lip_" in start(site, ASSISTANT)
    for forged in ("", "x.y", "WyIxOTguNTEuMTAwLjIwIiwgdHJ1ZV0=." + "0" * 64):
        assert "oo many" in start(site, ASSISTANT, **{"X-Kolbo-Caller": forged})
    assert "lip_" in start(site, OTHER)


def test_the_first_caller_does_not_choose_where_tools_are_asked(tmp_path: Path) -> None:
    """Gradio takes the address from the first call, and keeps it."""
    with serve(tmp_path, SPACE_ID="a/b", GRADIO_SERVER_NAME="0.0.0.0") as site:
        for host in ("192.0.2.1:81", "a-b.hf.space", "10.1.2.3"):
            assert "identifier" in call(site, "models", {}, Host=host)
