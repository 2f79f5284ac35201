"""Other names and other websites, which a visitor's browser would lend its place to."""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import requests

from tests import events
from tests.browser.conftest import browser  # noqa: F401 - a fixture
from tests.browser.site import KEY, Site, serve
from tests.scripted import serving_folder

PATHS = (
    ("GET", "/"),
    ("GET", "/config"),
    ("GET", "/healthz"),
    ("GET", "/metrics"),
    ("GET", "/api/v1/models"),
    ("GET", "/gradio_api/info"),
    ("GET", "/gradio_api/file=/etc/hostname"),
    ("GET", "/gradio_api/queue/data?session_hash=x"),
    ("GET", "/gradio_api/mcp/schema"),
    ("POST", "/gradio_api/reset"),
    ("POST", "/api/v1/generate/lipsync"),
    ("POST", "/gradio_api/upload"),
    ("POST", "/gradio_api/queue/join"),
    ("POST", "/gradio_api/call/models"),
    ("POST", "/gradio_api/mcp/"),
    ("OPTIONS", "/gradio_api/queue/join"),
    ("OPTIONS", "/api/v1/generate/lipsync"),
    ("PUT", "/anything"),
)

RESET = {"event_id": "none"}
"""Body of a request that any page may send."""


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with serve(tmp_path_factory.mktemp("site")) as found:
        yield found


@pytest.fixture(scope="module")
def space(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    names = {
        "SPACE_ID": "Some.One/lip_sync",
        "SPACE_HOST": "some-one-lip-sync.hf.space",
        "GRADIO_SERVER_NAME": "0.0.0.0",
    }
    with serve(tmp_path_factory.mktemp("space"), **names) as found:
        yield found


def ask(
    site: Site, method: str, path: str, headers: dict[str, str] | None = None
) -> requests.Response:
    return requests.request(
        method,
        site.url + path,
        headers={"X-API-Key": KEY} | (headers or {}),
        json={} if method == "POST" else None,
        timeout=10,
        stream=True,
    )


def port(site: Site) -> int:
    found = urlsplit(site.url).port
    assert found
    return found


@pytest.mark.parametrize(
    "host",
    [
        "x.localhost:{port}", "localhost.:{port}", "127.0.0.1.:{port}", "rebound.example:{port}",
        "rebound.example", "127.0.0.1", "localhost", "127.0.0.1:{other}", "127.0.0.2:{port}",
        "127.1:{port}", "2130706433:{port}", "0x7f000001:{port}", "0177.0.0.1:{port}",
        "0.0.0.0:{port}", "[::]:{port}", "[::ffff:127.0.0.1]:{port}", "127.0.0.1:{port}.evil.org",
        "user@127.0.0.1:{port}", "127.0.0.1:{port}/", "127.0.0.1:0{port}x", "kolbo:{port}",
    ],
)  # fmt: skip
def test_a_name_that_is_not_served_is_refused_on_every_route(site: Site, host: str) -> None:
    value = host.format(port=port(site), other=port(site) + 1)
    for method, path in PATHS:
        assert ask(site, method, path, {"Host": value}).status_code in (400, 403), (method, path)


@pytest.mark.parametrize("host", ["127.0.0.1:{port}", "localhost:{port}", "LOCALHOST:{port}"])
def test_the_served_names_are_answered(site: Site, host: str) -> None:
    value = host.format(port=port(site))
    same = {"Host": value, "Origin": f"http://{value.lower()}"}
    assert ask(site, "GET", "/", {"Host": value}).status_code == 200
    assert ask(site, "GET", "/api/v1/models", same).status_code == 200
    assert requests.post(f"{site.url}/gradio_api/reset", json=RESET, headers=same, timeout=10).ok


@pytest.mark.parametrize(
    "origin",
    [
        "https://evil.example", "http://evil.example:{port}", "null", "http://127.0.0.1:{other}",
        "http://localhost:{port}", "http://x.localhost:{port}", "http://localhost.:{port}",
        "http://127.0.0.1", "http://127.0.0.1.evil.example:{port}", "file://", "",
        "http://127.0.0.1:{port}.evil.example", "http://user@evil.example", "ftp://127.0.0.1:{port}",
        "http://[::1]:{port}", "http://127.0.0.1:{port}/path", "chrome-extension://abcdef",
    ],
)  # fmt: skip
def test_another_origin_is_refused_on_every_route(site: Site, origin: str) -> None:
    value = origin.format(port=port(site), other=port(site) + 1)
    headers = {"Origin": value, "Access-Control-Request-Method": "POST"}
    for method, path in PATHS:
        answer = ask(site, method, path, headers)
        assert answer.status_code == 403, (method, path)
        assert not [name for name in answer.headers if name.lower().startswith("access-control")]


def test_fetch_metadata_of_other_sites_is_refused(site: Site) -> None:
    """Without an Origin: pictures, scripts and forms of another site."""
    for whose in ("cross-site", "same-site"):
        for method, path in PATHS:
            headers = {"Sec-Fetch-Site": whose, "Sec-Fetch-Mode": "no-cors"}
            assert ask(site, method, path, headers).status_code == 403, (method, path)
        link = {"Sec-Fetch-Site": whose, "Sec-Fetch-Mode": "navigate"}
        assert ask(site, "GET", "/?generation=lip_x", link).status_code == 200
        result = "/api/v1/results/0123.mp4"  # which its name opens for any website
        assert ask(site, "GET", result, {"Sec-Fetch-Site": whose}).status_code == 404


def test_responses_restrict_framing_and_reading(site: Site, space: Site) -> None:
    own = ask(site, "GET", "/").headers
    assert "frame-ancestors 'self';" in own["Content-Security-Policy"] + ";"
    assert own["Cross-Origin-Resource-Policy"] == "same-origin"
    policy = ask(space, "GET", "/").headers["Content-Security-Policy"]
    assert policy.endswith("frame-ancestors 'self' https://huggingface.co")


def test_a_space_serves_its_own_pages_only(space: Site) -> None:
    host = "some-one-lip-sync.hf.space"
    headers = {"Host": host, "Origin": f"https://{host}", "X-Forwarded-Proto": "https"}
    reset = f"{space.url}/gradio_api/reset"
    answer = requests.post(reset, json=RESET, headers=headers, timeout=10)
    assert answer.status_code == 200
    for name, origin in (
        (host, "https://huggingface.co"),
        (host, "https://other.hf.space"),
        (host, f"http://{host}"),
        (host, f"https://{host}:8443"),
        ("evil.example", "https://evil.example"),
        ("other.hf.space", "https://other.hf.space"),
    ):
        headers = {"Host": name, "Origin": origin, "X-Forwarded-Proto": "https"}
        answer = requests.post(reset, json=RESET, headers=headers, timeout=10)
        assert answer.status_code == 403, (name, origin)


def test_a_forwarded_host_does_not_become_the_page_s_address(site: Site) -> None:
    for header in ("X-Forwarded-Host", "X-Gradio-Server", "X-Original-Host", "Forwarded"):
        for value in ("evil.example", "http://evil.example", "host=evil.example"):
            for path in ("/", "/config", "/gradio_api/mcp/", "/gradio_api/info"):
                answer = ask(site, "GET", path, {header: value, "X-Forwarded-Proto": "https"})
                assert "evil.example" not in answer.text, (header, path)


def test_a_name_of_the_owner_s_choice_is_served(tmp_path: Path) -> None:
    with serve(tmp_path, KOLBO_ALLOWED_HOSTS="Lips.Example.com, other.example:8443") as site:
        for host in ("lips.example.com", "lips.example.com:444", "other.example:8443"):
            same = {"Host": host, "Origin": f"https://{host}"}
            assert ask(site, "GET", "/", same).status_code == 200
        for host in ("other.example", "www.lips.example.com", "lips.example.com.evil.org"):
            assert ask(site, "GET", "/", {"Host": host}).status_code == 403
        forwarded = {"X-Forwarded-Host": "lips.example.com"}
        config = ask(site, "GET", "/config", forwarded).json()
        assert config["root"] == "http://lips.example.com"


ATTACK = """
async (url) => {
  const outcomes = [];
  const tried = async (name, work) => {
    try { outcomes.push([name, await work()]); } catch (error) { outcomes.push([name, 'refused']); }
  };
  const body = JSON.stringify({ event_id: 'none' });
  const json = { 'Content-Type': 'application/json' };
  for (const path of ['/gradio_api/info', '/config', '/api/v1/models', '/gradio_api/mcp/schema']) {
    await tried(`read ${path}`, async () => (await fetch(url + path)).status);
    await tried(`keyed ${path}`, async () => (await fetch(url + path,
      { headers: { 'X-API-Key': 'KEY' } })).status);
  }
  await tried('json', async () => (await fetch(`${url}/gradio_api/reset`,
    { method: 'POST', headers: json, body })).status);
  await tried('text', async () => (await fetch(`${url}/gradio_api/reset`,
    { method: 'POST', body })).status);
  await tried('picture', () => new Promise((done, lost) => {
    const picture = new Image();
    picture.onload = () => done('shown');
    picture.onerror = lost;
    picture.src = `${url}/favicon.ico`;
  }));
  await new Promise((done) => {
    const frame = document.createElement('iframe');
    frame.onload = done;
    frame.src = url;
    document.body.append(frame);
  });
  await tried('events', () => new Promise((done, lost) => {
    const events = new EventSource(`${url}/gradio_api/heartbeat/abc`);
    events.onmessage = () => done('heard');
    events.onerror = lost;
  }));
  return outcomes;
}
"""


def test_a_page_of_another_origin_in_a_browser(
    browser,  # noqa: F811 - the fixture
    site: Site,
    tmp_path: Path,
) -> None:
    """It runs on this machine, too: a browser counts another port as the same site."""
    (tmp_path / "index.html").write_text("<title>Another site</title><body>")
    with serving_folder(tmp_path) as other, contextlib.closing(browser.new_context()) as context:
        for there in ("127.0.0.1", "localhost"):
            page = context.new_page()
            page.goto(f"http://{there}:{other}/")
            for name in ("127.0.0.1", "localhost", "x.localhost", "localhost."):
                outcomes = page.evaluate(ATTACK, f"http://{name}:{port(site)}")
                refused = {outcome for _, outcome in outcomes}
                assert refused == {"refused"}, (there, name, outcomes)
                framed = {frame.url for frame in page.frames[1:]}
                assert framed == {"chrome-error://chromewebdata/"}, (there, name)


def owner_is(site: Site, **headers: str) -> bool:
    """Whether the page counts a request as its owner's: what it says beside the switch."""
    event = events.event_of(events.config_of(site.url), "backend", "change")
    session, answer = events.join(site.url, event["id"], ["cloud"], headers=headers)
    answer.raise_for_status()
    return "token" not in str(events.outcome(site.url, session, headers)["output"])


@pytest.fixture(scope="module")
def owned(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Site, str]]:
    """A page with its owner's key, and the address that it printed."""
    home = tmp_path_factory.mktemp("owned")
    with serve(home, KOLBO_API_KEY="kolbo_live_" + "9b" * 20, KOLBO_PAGE_TOKEN="") as site:
        yield site, (home / "app.log").read_text().partition(" is at ")[2].strip()


def test_the_owner_s_key_wants_the_token_of_the_address(owned: tuple[Site, str]) -> None:
    site, address = owned
    assert address.startswith(f"{site.url}/?token=")
    assert not owner_is(site)
    opened = requests.Session()
    page = opened.get(address, timeout=10)
    assert page.status_code == 200
    assert "token=" not in page.url
    assert "token=" not in page.text
    cookie = f"kolbo-owner-{port(site)}={opened.cookies[f'kolbo-owner-{port(site)}']}"
    assert owner_is(site, Cookie=cookie)
    wrong = requests.get(f"{site.url}/?token=wrong&lang=de", timeout=10)
    assert wrong.url.endswith("?lang=de")
    assert not wrong.history[0].cookies
    assert not owner_is(site, Cookie=f"{cookie}x")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("X-Forwarded-For", "203.0.113.7"), ("X-Forwarded-For", "127.0.0.1"),
        ("X-Forwarded-Host", "demo.example.com"), ("X-Forwarded-Proto", "https"),
        ("Forwarded", "for=203.0.113.7"), ("X-Real-IP", "203.0.113.7"), ("Via", "1.1 tunnel"),
        ("CF-Connecting-IP", "203.0.113.7"), ("True-Client-IP", "203.0.113.7"),
        ("X-Forwarded-Anything", "new"),
    ],
)  # fmt: skip
def test_what_came_through_a_proxy_is_not_the_owner_s(
    owned: tuple[Site, str], name: str, value: str
) -> None:
    site, address = owned
    opened = requests.Session()
    opened.get(address, timeout=10)
    cookie = "; ".join(f"{each.name}={each.value}" for each in opened.cookies)
    assert not owner_is(site, Cookie=cookie, **{name: value})


def test_the_token_can_be_switched_off(tmp_path: Path) -> None:
    environment = {"KOLBO_API_KEY": "kolbo_live_" + "9b" * 20, "KOLBO_PAGE_TOKEN": "off"}
    with serve(tmp_path, **environment) as site:
        assert owner_is(site)
        assert "token" not in (tmp_path / "app.log").read_text()
        assert not owner_is(site, **{"X-Forwarded-For": "127.0.0.1"})
