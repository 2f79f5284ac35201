"""The page's languages: whole, and the visitor's own."""

import re
import string
from pathlib import Path

import pytest
import requests
from starlette.requests import HTTPConnection

from kolbo_demo.ui.i18n import texts

UI = Path(texts.__file__).parents[1]


def placeholders(text: str) -> set[str]:
    return {name for _, name, _, _ in string.Formatter().parse(text) if name is not None}


@pytest.mark.parametrize("code", texts.languages())
def test_every_language_has_every_text(code: str) -> None:
    english, other = (
        texts.written(UI / "i18n" / "languages" / f"{name}.toml") for name in ("en", code)
    )
    assert english.keys() == other.keys()
    for key, text in english.items():
        assert placeholders(other[key]) == placeholders(text), key
        assert other[key].strip()
        assert "<" not in other[key], "texts are words, not HTML"


def test_every_text_is_used() -> None:
    code = "".join(file.read_text("utf-8") for file in UI.rglob("*.py"))
    asked = set(re.findall(r"""["']([a-z_]+\.[a-z_]+)["']""", code))
    made = set(re.findall(r"""f["']([a-z_]+)\.\{""", code))  # such as f"result.{name}"
    for key in texts.languages()["en"].keys() - {"name"}:
        assert key in asked or key.partition(".")[0] in made, f"nobody says {key}"


@pytest.mark.parametrize(
    ("query", "cookie", "accepted", "code"),
    [
        ("", None, "", "en"),
        ("", None, "xx, nonsense;q=high, en-GB;q=0.4", "en"),
        ("lang=../../etc", "<b>", "en", "en"),
        ("lang=en", None, "xx", "en"),
    ],
)
def test_whose_language(query: str, cookie: str | None, accepted: str, code: str) -> None:
    headers = [(b"accept-language", accepted.encode())]
    if cookie:
        headers.append((b"cookie", f"{texts.COOKIE}={cookie}".encode()))
    scope = {"type": "http", "query_string": query.encode(), "headers": headers}
    assert texts.language_of(HTTPConnection(scope)) == code


def test_enumerations() -> None:
    assert [texts.enumeration("abc"[:count]) for count in (1, 2, 3)] == [
        "a",
        "a and b",
        "a, b and c",
    ]


def test_what_the_address_asks_for_holds_for_what_the_page_asks_later(page_url: str) -> None:
    visitor = requests.Session()
    visitor.headers["Accept-Language"] = "en"
    visitor.get(f"{page_url}?lang=fr", timeout=10)
    visitor.get(page_url, timeout=10)  # which asks for nothing
    assert visitor.cookies.get_dict() == {texts.COOKIE: "fr"}
    answer = visitor.get(page_url, timeout=10)
    assert answer.headers["Content-Language"] == "fr"
    visitor.get(f"{page_url}?lang=<b>", timeout=10)
    assert visitor.cookies[texts.COOKIE] in texts.languages()


@pytest.mark.parametrize(
    ("proto", "kind"), [("https", "SameSite=None; Secure; Partitioned"), ("http", "SameSite=Lax")]
)
def test_a_page_within_another_site_s_keeps_its_language(
    page_url: str, proto: str, kind: str
) -> None:
    """As a Space is shown; over plain HTTP a browser would not keep such a cookie."""
    answer = requests.get(f"{page_url}?lang=fr", headers={"X-Forwarded-Proto": proto}, timeout=10)
    assert answer.headers["Set-Cookie"] == f"{texts.COOKIE}=fr; Path=/; {kind}"


def test_the_page_says_its_language(page_url: str) -> None:
    answer = requests.get(page_url, headers={"Accept-Language": "en-GB"}, timeout=10)
    assert answer.headers["Content-Language"] == "en"
    assert '<html lang="en" dir="ltr"' in re.sub(r"\s+", " ", answer.text)
    assert "Accept-Language" in answer.headers["Vary"]
