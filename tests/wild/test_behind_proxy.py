"""The page under a path of another host: proxies as operators set them up, and frames."""

import contextlib
import functools
import os
import re
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import gradio_client
import pytest
import requests
import urllib3
from playwright.sync_api import Browser, BrowserContext, Frame, Page, expect

from benchmarks.browser import chromium
from benchmarks.media import make_voice
from tests.browser.desk import Desk
from tests.browser.site import FLAGS, KEY, ROOT, Site, _free_port, serve
from tests.scripted import serving_folder
from tests.wild.proxies import NAME, documented, nginx_with, proxied

TRUSTED = {"KOLBO_TRUSTED_PROXIES": "127.0.0.1,::1"}
HOSTS = f"MAP {NAME} 127.0.0.1, MAP portal.example.com 127.0.0.1, MAP other.example.com 127.0.0.1"


@dataclass(frozen=True)
class Public:
    """A page behind a proxy."""

    site: Site
    url: str
    """What a visitor types: no slash at the end."""


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    expect.set_options(timeout=20_000)
    with chromium([*FLAGS, f"--host-resolver-rules={HOSTS}"]) as found:
        yield found


@pytest.fixture
def context(browser: Browser) -> Iterator[BrowserContext]:
    """It fails where the page asks another origin than the one it was opened at, or logs errors."""
    context = browser.new_context(ignore_https_errors=True, viewport={"width": 1280, "height": 900})
    context.set_default_timeout(20_000)
    asked: list[str] = []
    wrong: list[str] = []
    context.on("request", lambda request: asked.append(request.url))
    context.on("console", lambda said: wrong.append(said.text) if said.type == "error" else None)
    context.on("weberror", lambda error: wrong.append(str(error.error)))
    yield context
    context.close()
    strange = [url for url in asked if not url.startswith((origin(asked[0]), "data:", "blob:"))]
    assert not strange
    # Without a slash at the end of its address the page begins anew with one. Gradio logs the
    # events that a reload breaks off.
    expected = ("404", "aborted without reason", "Connection errored out")
    assert not [text for text in wrong if not any(part in text for part in expected)]


@pytest.fixture(autouse=True)
def _resolved(monkeypatch: pytest.MonkeyPatch) -> None:
    """Programs find the proxy under its name, and take its certificate."""
    inner = socket.getaddrinfo

    def found(host: object, *rest: object, **more: object) -> object:
        return inner("127.0.0.1" if host in {NAME, NAME.encode()} else host, *rest, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(socket, "getaddrinfo", found)
    urllib3.disable_warnings()


@pytest.fixture
def portrait() -> Path:
    return ROOT / "assets" / "portrait.jpg"


@pytest.fixture
def speech(tmp_path: Path) -> Path:
    """1.2 seconds of speech."""
    return make_voice(tmp_path / "speech.wav", 1.2)


def origin(url: str) -> str:
    return "{0.scheme}://{0.netloc}/".format(urlsplit(url))


def port_of(site: Site) -> int:
    return urlsplit(site.url).port or 0


@pytest.fixture(scope="module")
def nginx(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Public]:
    """As docs/operations.md has it, on a port that is not the usual one."""
    port = _free_port()
    url = f"https://{NAME}:{port}/lipsync"
    told = {"KOLBO_PUBLIC_URL": url, "KOLBO_FRAME_ANCESTORS": "http://portal.example.com:*"}
    with (
        serve(tmp_path_factory.mktemp("nginx"), **TRUSTED, **told) as site,
        proxied("nginx", documented("nginx"), port, port_of(site)),
    ):
        yield Public(site, url)


def get(url: str, **headers: str) -> requests.Response:
    return requests.get(url, headers={"X-API-Key": KEY} | headers, verify=False, timeout=30)


def test_everything_works_behind_nginx(
    context: BrowserContext,
    nginx: Public,
    portrait: Path,
    speech: Path,
    tmp_path: Path,
) -> None:
    desk = Desk.open(context.new_page(), nginx.url)
    assert desk.page.url == f"{nginx.url}/"
    desk.give_image(portrait)
    desk.give_audio(speech)
    desk.generate()
    desk.await_video()
    assert desk.play() > 1
    assert desk.download(tmp_path).frames > 20
    made = desk.generation_id
    context.grant_permissions(["clipboard-read", "clipboard-write"])
    desk.page.click("#link")
    expect(desk.page.locator("#address :is(input, textarea)")).to_have_value(re.compile(made))
    link = desk.page.evaluate("navigator.clipboard.readText()")
    assert link == f"{nginx.url}/?generation={made}"
    desk.page.reload()
    expect(desk.page.locator("#result video")).to_be_visible()
    # Somebody else, who was given the link.
    other = Desk(context.browser.new_context(ignore_https_errors=True).new_page())  # type: ignore[union-attr]
    other.page.goto(link)
    expect(other.page.locator("#result video")).to_be_visible()
    assert other.play() > 1
    other.page.context.close()

    status = get(f"{nginx.url}/api/v1/generate/{made}/status").json()
    video = status["result"]["urls"][0]
    assert video.startswith(f"{nginx.url}/api/v1/results/")
    assert get(video).headers["content-type"] == "video/mp4"
    assert get(status["result"]["thumbnail_url"]).headers["content-type"] == "image/jpeg"

    client = gradio_client.Client(nginx.url, ssl_verify=False, verbose=False)
    told = client.predict(made, api_name="/status")
    assert told["result"]["urls"] == [video]
    assert video in tool(nginx.url, "status", {"generation_id": made})


def tool(url: str, name: str, arguments: dict) -> str:
    """A tool's answer to an assistant."""
    schema = get(f"{url}/gradio_api/mcp/schema").json()
    name = next(each["name"] for each in schema if each["name"].endswith(name))
    answer = requests.post(
        f"{url}/gradio_api/mcp/",
        json={"jsonrpc": "2.0", "id": 1, "method": "tools/call",
              "params": {"name": name, "arguments": arguments}},
        headers={"Accept": "application/json, text/event-stream"},
        verify=False, timeout=60,
    )  # fmt: skip
    return answer.text


BARE = "proxy_pass http://127.0.0.1:7860"
KEPT = "proxy_set_header Host $http_host; proxy_set_header X-Forwarded-Proto $scheme;"
PREFIX = {"GRADIO_ROOT_PATH": "/lipsync"}
NAMED = {"KOLBO_ALLOWED_HOSTS": NAME}
PROXIES: dict[str, tuple[Callable[[], str], dict[str, str]]] = {
    "caddy": (lambda: documented("caddy"), {"KOLBO_PUBLIC_URL": "{url}"} | TRUSTED),
    "prefix passed through, no headers, Host changed": (
        lambda: nginx_with(f"    location /lipsync {{ {BARE}; }}\n"), PREFIX | NAMED,
    ),
    "prefix stripped, no headers, Host changed": (
        lambda: nginx_with(f"    location /lipsync/ {{ {BARE}/; }}\n"), PREFIX | NAMED,
    ),
    "prefix told by the proxy, stripped without a redirect": (
        lambda: nginx_with(
            "    location /lipsync { rewrite ^/lipsync/?(.*)$ /$1 break; " + BARE + ";"
            + KEPT + "proxy_set_header X-Forwarded-Prefix /lipsync; }\n"
        ),
        NAMED | TRUSTED,
    ),
    "port dropped, host told by X-Forwarded-Host": (
        lambda: nginx_with(
            f"    location /lipsync {{ {BARE}; proxy_set_header X-Forwarded-Host $host; }}\n"
        ),
        {"KOLBO_PUBLIC_URL": "{url}"} | TRUSTED,
    ),
    "port dropped from Host, no prefix": (
        lambda: nginx_with(f"    location / {{ {BARE}; proxy_set_header Host $host; }}\n"), NAMED,
    ),
}  # fmt: skip


@pytest.fixture(scope="module")
def site_with(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., Site]]:
    """Start a page with some environment, once for all tests that ask for the same."""
    with contextlib.ExitStack() as stack:

        @functools.cache
        def start(**environment: str) -> Site:
            return stack.enter_context(serve(tmp_path_factory.mktemp("site"), **environment))

        yield start


@pytest.mark.parametrize("kind", PROXIES)
def test_other_proxies(
    context: BrowserContext, kind: str, portrait: Path, site_with: Callable[..., Site]
) -> None:
    config, environment = PROXIES[kind]
    port = _free_port()
    prefix = "" if "no prefix" in kind else "/lipsync"
    url = f"https://{NAME}:{port}{prefix}"
    environment = {name: text.format(url=url) for name, text in environment.items()}
    site = site_with(**environment)
    with proxied("caddy" if kind == "caddy" else "nginx", config(), port, port_of(site)):
        page = context.new_page()
        Desk.open(page, f"{url}?lang=en")
        assert page.url == f"{url}/?lang=en"
        works(page, portrait)
        page.close()  # before its proxy


def works(page: Page | Frame, picture: Path) -> None:
    """An upload, and an event that tells the page of it."""
    page.set_input_files("#source-image input[type=file]", picture)
    for shown in ("#source-image .image-frame img", "#face-preview img"):
        expect(page.locator(shown)).to_be_visible()
        page.wait_for_function(f"document.querySelector('{shown}').naturalWidth > 0")
    # Thumbnails of the examples come with the page itself.
    page.wait_for_function(
        "[...document.querySelectorAll('button img')].every((each) => each.naturalWidth > 0)"
    )


def test_ipv6(context: BrowserContext, portrait: Path, tmp_path: Path) -> None:
    port = _free_port()
    url = f"https://[::1]:{port}/lipsync"
    with (
        serve(tmp_path, KOLBO_PUBLIC_URL=url, **TRUSTED) as site,
        proxied("nginx", documented("nginx"), port, port_of(site)),
    ):
        page = context.new_page()
        Desk.open(page, url)
        works(page, portrait)
        page.close()


@pytest.fixture
def portal(nginx: Public, tmp_path: Path) -> Iterator[int]:
    """The port of pages that frame the page."""
    frame = f'<iframe src="{nginx.url}/" width="1200" height="800"></iframe>'
    (tmp_path / "index.html").write_text(f"<!doctype html><title>Portal</title>{frame}")
    (tmp_path / "favicon.ico").write_bytes(b"")
    with serving_folder(tmp_path) as port:
        yield port


def test_in_a_frame(browser: Browser, nginx: Public, portal: int, portrait: Path) -> None:
    context = browser.new_context(ignore_https_errors=True)
    try:
        page = context.new_page()
        page.goto(f"http://portal.example.com:{portal}/")
        frame = page.frames[1]
        expect(frame.locator("#generate")).to_be_enabled()
        works(frame, portrait)
        page.goto(f"http://other.example.com:{portal}/")
        page.wait_for_function("document.readyState == 'complete'")
        assert [frame.url for frame in page.frames[1:]] == ["chrome-error://chromewebdata/"]
    finally:
        context.close()


def test_events_are_not_held_back(nginx: Public) -> None:
    """nginx buffers answers that do not ask it not to."""
    with requests.get(
        f"{nginx.url}/gradio_api/heartbeat/abcdef", verify=False, stream=True, timeout=30
    ) as answer:
        assert next(answer.iter_content(16))


@pytest.fixture(scope="module")
def trusting(site_with: Callable[..., Site]) -> Site:
    return site_with(**TRUSTED)


def root(site: Site, path: str = "", **headers: str) -> str:
    return get(f"{site.url}{path}/config", **headers).json()["root"]


def test_a_prefix_counts_from_a_trusted_proxy_only(
    nginx: Public, trusting: Site, site_with: Callable[..., Site]
) -> None:
    told = {"X-Forwarded-Prefix": "/elsewhere"}
    assert root(trusting, **told) == f"{trusting.url}/elsewhere"
    assert root(trusting, "/elsewhere", **told) == f"{trusting.url}/elsewhere"
    # The configured one is not for a header to change.
    assert root(nginx.site, **told) == f"{nginx.site.url}/lipsync"
    site = site_with(**NAMED)
    assert root(site, **told) == site.url


@pytest.mark.parametrize(
    "told", ["//evil.example", "/../x", "https://evil.example", "/a b", "/a?b", "/a\\b", "/api",
             "/cards/x", "/%2e%2e", "a", "/<script>"],
)  # fmt: skip
def test_a_prefix_that_is_none_is_left_out(trusting: Site, told: str) -> None:
    assert root(trusting, **{"X-Forwarded-Prefix": told}) == trusting.url


def test_a_public_name_admits_no_other(nginx: Public) -> None:
    port = urlsplit(nginx.url).port
    assert port
    for host in (f"{NAME}:{port}", NAME, NAME.upper()):
        assert get(nginx.site.url, Host=host).status_code == 200
    for host in (f"{NAME}:{port + 1}", f"x.{NAME}", f"{NAME}.evil.example", "evil.example"):
        assert get(nginx.site.url, Host=host).status_code == 403
        told = get(nginx.site.url, **{"X-Forwarded-Host": host})
        assert host not in told.text.lower().replace(nginx.url, "")
    for origin, status in (
        (f"https://{NAME}:{port}", 200), (f"https://{NAME}", 403),
        ("http://portal.example.com:1", 403),
    ):  # fmt: skip
        answer = requests.post(
            f"{nginx.url}/gradio_api/upload", files={"files": b"x"}, headers={"Origin": origin},
            verify=False, timeout=30,
        )  # fmt: skip
        assert answer.status_code == status, origin


def test_the_owner_s_cookie_keeps_to_the_page(tmp_path: Path) -> None:
    port = _free_port()
    public = f"https://localhost:{port}/lipsync"
    token = {"KOLBO_API_KEY": "kolbo_live_" + "9b" * 20, "KOLBO_PAGE_TOKEN": "of-a-test"}
    with serve(tmp_path, KOLBO_PUBLIC_URL=public, **token) as site:
        headers = {"Host": f"localhost:{port}"}
        asked = f"{site.url}/lipsync?token=of-a-test&lang=de"
        answer = requests.get(asked, headers=headers, allow_redirects=False, timeout=30)
        assert answer.headers["location"] == "/lipsync/?lang=de"
        cookie = answer.headers["set-cookie"]
        assert "; Path=/lipsync;" in cookie
        assert "Secure" in cookie
        plain = requests.get(asked, allow_redirects=False, timeout=30).headers["set-cookie"]
        assert "Secure" not in plain


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("KOLBO_PUBLIC_URL", "lips.example.com"),
        ("KOLBO_PUBLIC_URL", "https://user:word@lips.example.com"),
        ("KOLBO_PUBLIC_URL", "https://lips.example.com/api"),
        ("GRADIO_ROOT_PATH", "/a b"),
        ("KOLBO_FRAME_ANCESTORS", "https://portal.example.com; script-src *"),
        ("KOLBO_TRUSTED_PROXIES", "127.0.0.1, my-proxy"),
        ("KOLBO_RETENTION_HOURS", "a day"),
        ("KOLBO_DATA_DIR", "/dev/null"),
        ("GRADIO_TEMP_DIR", "/dev/null/uploads"),
        ("GRADIO_SERVER_PORT", "http"),
    ],
)
def test_settings_that_cannot_be_are_told_in_a_sentence(
    tmp_path: Path, name: str, value: str
) -> None:
    folder = str(tmp_path / "data")
    environment = os.environ | {"KOLBO_DATA_DIR": folder, name: value}
    told = subprocess.run(
        [sys.executable, ROOT / "app.py"],
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert told.returncode == 2
    assert told.stderr.strip().endswith(".")
    assert len(told.stderr.splitlines()) == 1
    assert not told.stdout
