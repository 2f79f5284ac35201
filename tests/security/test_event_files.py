"""Files and addresses that an event names: nothing but uploads of this page reaches Python."""

import json
import os
import secrets
import socket
from collections.abc import Callable, Iterator
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
import requests
from PIL import Image

from tests import events
from tests.browser.site import ROOT, Site, serve
from tests.scripted import Scripted, serving
from tests.waiting import wait

COLOUR = (13, 201, 77)
"""Of the secret picture, which no other has."""
MARK = b"a secret of this machine, for nobody"


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with serve(tmp_path_factory.mktemp("site")) as found:
        yield found


@pytest.fixture(scope="module")
def second_site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """With a rate limit that the many events of the other tests do not use up."""
    with serve(tmp_path_factory.mktemp("second")) as found:
        yield found


@pytest.fixture(scope="module")
def config(site: Site) -> dict[str, Any]:
    return events.config_of(site.url)


@pytest.fixture
def secret(tmp_path: Path) -> Path:
    """A picture that no visitor uploaded, with words in it."""
    path = tmp_path / "secret.png"
    Image.new("RGB", (64, 64), COLOUR).save(path)
    path.write_bytes(path.read_bytes() + MARK)
    return path


def stored_events(site: Site) -> bytes:
    """All that the page has written."""
    files = [path for path in site.home.rglob("*") if path.is_file() and not path.is_symlink()]
    return b"\n".join(path.read_bytes() for path in files)


def outcome(site: Site, session: str) -> str:
    """All that is said of an event."""
    return json.dumps(list(events.heard(site.url, session)), separators=(",", ":"))


def forms(path: str) -> list[Any]:
    """One path as components, handlers and Gradio itself take files."""
    meta = {"_type": "gradio.FileData"}
    return [
        {"path": path},
        {"path": path, "meta": meta},
        {"path": path, "meta": None},
        {"path": path, "meta": {"_type": "other"}},
        {"path": path, "url": "http://127.0.0.1:9/x.png", "orig_name": "x.png", "is_stream": True},
        {"video": {"path": path}, "subtitles": {"path": path, "meta": meta}},
        [{"path": path}, {"path": path, "meta": meta}],
        {"value": {"path": path, "meta": meta}},
    ]


def test_no_event_takes_a_file_that_was_not_uploaded(
    site: Site, config: dict[str, Any], secret: Path
) -> None:
    """Every event of the page, every form of a file, in each value and in the event's own data."""
    sessions = []
    for event in config["dependencies"]:
        if not event["backend_fn"]:
            continue
        for form in forms(str(secret)):
            data = [form] * len(event["inputs"])
            session, answer = events.join(
                site.url, event["id"], data, {"path": str(secret), "ticket": form}
            )
            assert answer.status_code in (200, 400, 422, 429), answer.text
            assert str(secret) not in answer.text
            if answer.ok:
                sessions.append(session)
            if len(sessions) == 8:  # a visitor has so many under way
                said = "".join(outcome(site, session) for session in sessions)
                sessions.clear()
                assert "data:image" not in said
                assert str(secret) not in said
    said = "".join(outcome(site, session) for session in sessions)
    assert "data:image" not in said
    assert MARK not in stored_events(site)


def source_event(config: dict[str, Any]) -> tuple[int, int]:
    """The event of `#source-image`, and how many values it takes."""
    event = events.event_of(config, "source-image", "change")
    return event["id"], len(event["inputs"])


@pytest.fixture
def tricks(site: Site, secret: Path, tmp_path: Path) -> Iterator[list[str]]:
    """Names of that picture and of what is no file, by detours through the upload folder."""
    uploads = site.home / "gradio"
    folder = uploads / secrets.token_hex(32)
    folder.mkdir()
    (folder / "linked.png").symlink_to(secret)
    (folder / "below").symlink_to(secret.parent)
    os.mkfifo(folder / "pipe.png")
    with closing(socket.socket(socket.AF_UNIX)) as door, secret.open("rb") as file:
        here = os.open(folder, os.O_RDONLY)  # a whole path is too long for a socket
        door.bind(f"/proc/self/fd/{here}/door.png")
        os.close(here)
        yield [
            str(secret), f"file://{secret}", f"{uploads}/../{secret.parent.name}/{secret.name}",
            f"{folder}/linked.png", f"{folder}/below/{secret.name}", f"{folder}/pipe.png",
            f"{folder}/door.png", str(folder), str(uploads), "/proc/self/environ",
            f"/proc/{os.getpid()}/fd/{file.fileno()}", "/dev/zero", "/dev/stdin", "/etc/passwd",
            f"{folder}/linked.png\0.png", f"{uploads}//{os.path.relpath(secret, uploads)}",
            os.path.relpath(secret), "~/.bashrc", "secret.png", "." * 5000,
            f"{uploads}/{folder.name}/./linked.png", f"{uploads}\\..\\{secret.name}",
        ]  # fmt: skip
    for path in folder.iterdir():
        path.unlink()
    folder.rmdir()


def test_detours_to_a_file(
    site: Site, config: dict[str, Any], secret: Path, tricks: list[str]
) -> None:
    index, count = source_event(config)
    before = sum(path.stat().st_size for path in site.home.rglob("*") if path.is_file())
    for path in tricks:
        for form in forms(path)[:2]:
            session, answer = events.join(site.url, index, [form, *[None] * (count - 1)])
            assert answer.ok, answer.text
            said = outcome(site, session)
            assert "data:image" not in said, path
            assert '"success":false' in said, path
            assert "upload it again" in said, path
    assert MARK not in stored_events(site)
    after = sum(path.stat().st_size for path in site.home.rglob("*") if path.is_file())
    assert after - before < 1_000_000


def admitted(sent: Callable[[], Any]) -> Any:
    """Send an event and return its response; None if the limit of events a minute refused it."""
    found = sent()
    return None if found[1].status_code == 429 else found


def test_no_event_has_an_address_fetched(site: Site, config: dict[str, Any]) -> None:
    index, count = source_event(config)
    with serving(Scripted()) as listener:
        for scheme in ("http:", "HTTP:", " http:", "https:", "//", "ftp:", "data:", "http:/"):
            address = f"{listener.url}/x.png".replace("http:", scheme)
            for form in forms(address)[: None if scheme == "http:" else 2]:
                for data, event_data in (([form, *[None] * (count - 1)], None),
                                         ([None] * count, form)):  # fmt: skip
                    sent = partial(events.join, site.url, index, data, event_data)
                    session, answer = wait(partial(admitted, sent), 90)
                    assert answer.ok, answer.text
                    said = outcome(site, session)
                    assert "upload it again" in said, form
        body = {"data": [{"path": f"{listener.url}/x.png", "meta": {"_type": "gradio.FileData"}}]}
        for name in ("lipsync", "v2/lipsync", "sync_report"):
            url = f"{site.url}/gradio_api/call/{name}"
            assert requests.post(url, json=body, timeout=10).status_code == 400
        call = {
            "jsonrpc": "2.0", "id": 1, "method": "tools/call",
            "params": {"name": "Kolbo_Lipsync_sync_report",
                       "arguments": {"video": {"path": f"{listener.url}/x.png"}}},
        }  # fmt: skip
        answer = requests.post(
            f"{site.url}/gradio_api/mcp/",
            json=call,
            headers={"Accept": "application/json, text/event-stream"},
            timeout=30,
        )
        assert answer.status_code == 400
        assert listener.requests == []


def test_the_file_route_gives_uploads_only(site: Site, secret: Path, tricks: list[str]) -> None:
    with serving(Scripted()) as listener:
        tricks += [
            f"{ROOT}/assets/gallery/hopper.jpg", f"{listener.url}/x.png",
            "http://100.64.0.1/", "http:/100.64.0.1/", "//127.0.0.1/x",
            "https://127.0.0.1:1/", str(ROOT / "app.py"), str(ROOT / "assets" / "CREDITS.md"),
            str(site.home / "data" / "jobs.sqlite"), str(site.home / "app.log"),
        ]  # fmt: skip
        for path in tricks:
            for quoted in (path.replace("\0", "%00"), quote(path, safe="")):
                answer = requests.get(f"{site.url}/gradio_api/file={quoted}", timeout=10)
                assert answer.status_code in (400, 403, 404), path
                assert MARK not in answer.content
        assert listener.requests == []


def test_the_gallery_gives_its_own_files_only(site: Site) -> None:
    example = requests.get(f"{site.url}/gallery/hopper.jpg", timeout=10)
    assert example.headers["Content-Type"] == "image/jpeg"
    for name in ("", "no.jpg", "%2e%2e/CREDITS.md", "..%2fCREDITS.md", f"/{ROOT}/app.py"):
        assert requests.get(f"{site.url}/gallery/{name}", timeout=10).status_code == 404, name


def test_the_file_route_answers_ranges_and_repeats_no_header(site: Site) -> None:
    portrait = (ROOT / "assets/gallery/hopper.jpg").read_bytes()
    files = {"files": ("hopper.jpg", portrait)}
    [there] = requests.post(f"{site.url}/gradio_api/upload", files=files, timeout=10).json()
    path = f"{site.url}/gradio_api/file={there}"
    key = "kolbo_live_" + "4d" * 20
    for byte_range, status in (
        ("bytes=0-5", 206), ("bytes=5-", 206), ("bytes=-7", 206), ("bytes=0-0,5-9", 206),
        ("bytes=0-5-9", 400), ("bytes=a-b", 400), ("bytes=", 400), ("bytes=9-5", 400),
        (f"bytes={len(portrait)}-", 416), ("bytes=0-99999999999999999999", 206), ("lines=1-2", 400),
    ):  # fmt: skip
        headers = {"Range": byte_range, "X-API-Key": key, "Cookie": f"key={key}", "X-Odd": key}
        answer = requests.get(path, headers=headers, timeout=10)
        assert answer.status_code == status, byte_range
        assert key not in str(answer.headers)
    part = requests.get(path, headers={"Range": "bytes=5-14"}, timeout=10)
    assert part.content == portrait[5:15]
    assert part.headers["Content-Range"] == f"bytes 5-14/{len(portrait)}"


def test_markup_that_was_uploaded_is_not_shown(site: Site, tmp_path: Path) -> None:
    for name in ("page.html", "page.svg", "page.xml", "page.xhtml", "page.js", "page.pdf", "page"):
        path = tmp_path / name
        path.write_text("<svg xmlns='http://www.w3.org/2000/svg'><script>alert(1)</script></svg>")
        with path.open("rb") as file:
            there = requests.post(
                f"{site.url}/gradio_api/upload", files={"files": file}, timeout=10
            ).json()[0]
        answer = requests.get(f"{site.url}/gradio_api/file={there}", timeout=10)
        assert answer.headers["Content-Type"] == "application/octet-stream"
        assert answer.headers["Content-Disposition"].startswith("attachment")
        assert answer.headers["X-Content-Type-Options"] == "nosniff"


SHUT = [
    ("GET", "deep_link?session_hash=x"), ("POST", "process_recording"), ("GET", "dev/reload"),
    ("GET", "custom_component/x/client/y/z.js"), ("GET", "proxy=http://127.0.0.1:9/"),
    ("GET", "startup-events"), ("POST", "component_server"), ("GET", "queue/status"),
    ("POST", "run/predict"), ("POST", "api/predict"), ("GET", "runs"), ("GET", "vibe-code"),
    ("POST", "vibe-code"), ("POST", "vibe-edit"), ("POST", "undo-vibe-edit"), ("GET", "app_id"),
    ("GET", "user"), ("GET", "token"), ("GET", "login_check"), ("POST", "stream/abc"),
    ("GET", "stream/a/b/1/playlist.m3u8"), ("GET", "file//etc/passwd"), ("GET", "profiling/traces"),
    ("POST", "run-history/connect"), ("GET", "run-history/buckets"), ("GET", "mcp/other"),
    ("GET", "../login"), ("GET", "tomorrow"), ("POST", "tomorrow"), ("DELETE", "upload"),
]  # fmt: skip


def test_routes_of_gradio_that_the_page_does_not_use_are_shut(site: Site) -> None:
    for method, path in SHUT:
        url = f"{site.url}/gradio_api/{path}"
        answer = requests.request(method, url, json={} if method == "POST" else None, timeout=10)
        assert answer.status_code == 404, path
    for path in ("login", "logout", "monitoring", "monitoring/summary", "pwa_icon", "nothing"):
        assert requests.get(f"{site.url}/{path}", timeout=10).status_code == 404, path
    log = (site.home / "app.log").read_text()
    assert "custom_component" not in log
    assert "environment=" not in log


def test_events_that_there_are_not(second_site: Site, config: dict[str, Any]) -> None:
    index, count = source_event(config)
    for bad in (-1, 10**9, 1.5, "0", None, True, [index]):
        assert events.join(second_site.url, bad, [None] * count)[1].status_code == 404  # type: ignore[arg-type]
    assert events.join(second_site.url, index, [None] * (count + 1))[1].status_code == 422
    url = f"{second_site.url}/gradio_api/queue/join"
    for session in ("", "a" * 65, "a/b", "a\n", 5, ["a"], {"a": 1}):
        body = {"data": [None] * count, "fn_index": index, "session_hash": session}
        assert requests.post(url, json=body, timeout=10).status_code == 400
    for raw, kind, status in (
        (b"{", "application/json", 400),
        (b"[]", "application/json", 400),
        (b'{"data": []}', "text/plain", 415),
        (b'{"data": []}', "multipart/form-data; boundary=x", 415),
        (b"\xff\xfe{\x00}\x00", "application/json", 400),
    ):
        answer = requests.post(url, data=raw, headers={"Content-Type": kind}, timeout=10)
        assert answer.status_code == status, raw
    twice = json.dumps({"data": [None] * count, "fn_index": index, "session_hash": "twice"})[:-1]
    twice += ', "data": [{"path": "http://127.0.0.1:9/"}]}'
    headers = {"Content-Type": "application/json"}
    assert requests.post(url, data=twice, headers=headers, timeout=10).ok
    assert "upload it again" in outcome(second_site, "twice")


def test_calls_that_there_are_not(second_site: Site, config: dict[str, Any]) -> None:
    """By name, as `curl` calls endpoints: none is answered 500, none logs a traceback."""
    private = [each["api_name"] for each in config["dependencies"]
               if each["api_visibility"] == "private" and each["api_name"]]  # fmt: skip
    for name, body, status in (
        ("nosuch", {"data": []}, 404),
        ("v2/nosuch", {}, 404),
        ("v2/models", {"odd": 1}, 422),
        ("v2/status", {}, 422),
        ("status", {"data": "x"}, 422),
        ("models", {"path": "", "data": ["local"]}, 200),
        ("models", {"url": "http://127.0.0.1:9/", "data": ["local"]}, 200),
        *((name, {"data": []}, 404) for name in private[:3]),
    ):
        answer = requests.post(f"{second_site.url}/gradio_api/call/{name}", json=body, timeout=10)
        assert answer.status_code == status, (name, body, answer.text)


def test_a_session_is_its_visitor_s(tmp_path: Path, config: dict[str, Any]) -> None:
    index, count = source_event(config)
    with serve(tmp_path, KOLBO_TRUSTED_PROXIES="127.0.0.1") as behind:
        mine, other = ({"X-Forwarded-For": address} for address in ("203.0.113.7", "198.51.100.20"))
        body = {"data": [None] * count, "fn_index": index, "session_hash": "mine"}
        joined = f"{behind.url}/gradio_api/queue/join"
        assert requests.post(joined, json=body, headers=mine, timeout=10).ok
        assert requests.post(joined, json=body, headers=other, timeout=10).status_code == 404
        stream_url = f"{behind.url}/gradio_api/queue/data?session_hash=mine"
        assert requests.get(stream_url, headers=other, timeout=10).status_code == 404
        with requests.get(stream_url, headers=mine, stream=True, timeout=10) as stream:
            assert stream.ok
