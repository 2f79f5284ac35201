"""Other people's links: what is fetched, what is refused, and that nothing private is reached."""

import io
import os
import time
from pathlib import Path

import pytest

from kolbo_demo.service import fetch
from kolbo_demo.service.errors import JobError
from tests.waiting import wait

MEGABYTE = 1024 * 1024
OPEN = fetch.Policy(allow_hosts=frozenset({"localhost"}))


def _fetched(link: str, policy: fetch.Policy = OPEN) -> bytes:
    file = io.BytesIO()
    fetch.fetch(link, "source", file, policy, lambda: True)
    return file.getvalue()


def _failure(link: str, policy: fetch.Policy = OPEN) -> tuple[str, str]:
    with pytest.raises(JobError) as caught:
        _fetched(link, policy)
    return caught.value.code, str(caught.value)


def test_linked_files_make_a_video(api, web, portrait, speech):
    source = web.serve("/portrait.jpg", portrait, "image/jpeg")
    audio = web.serve("/speech.wav", speech(0.4), "audio/wav")
    generation = api.start(json={"source_url": f"{source}?v=a.mp4", "audio_url": audio})
    status = api.finish(generation)
    assert status["state"] == "completed", status
    assert all("X-API-Key" not in headers for _, headers in web.requests)


def test_a_file_and_a_link_may_be_combined(api, web, portrait, files, speech):
    audio = web.serve("/speech.wav", speech(0.4))
    status = api.finish(api.start(files=files(audio=None), data={"audio_url": audio}))
    assert status["state"] == "completed", status


@pytest.mark.parametrize(
    ("link", "word"),
    [
        ("ftp://example.com/a.jpg", "http"),
        ("file:///etc/passwd", "http"),
        ("http://", "http"),
        ("//example.com/a.jpg", "http"),
        ("http://user:pass@example.com/a.jpg", "password"),
        ("http://example.com:22/a.jpg", "port"),
        ("http://[::1", "link"),
        ("http://exa\0mple.com/", "link"),
        ("http://example.com]/a.mp4", "link"),
        ("http://example.com/" + "x" * 5000, "long"),
        ("http://127.0.0.1/a.jpg", "private"),
        ("http://0177.0.0.1/a.jpg", "link"),
        ("http://10.1.2.3/a.jpg", "private"),
        ("http://[::1]/a.jpg", "private"),
        ("http://metadata.google.internal/", "private"),
        ("http://printer.local/a.jpg", "private"),
    ],
)
def test_an_invalid_link_is_refused_at_once(api, refused, files, link, word):
    body = {"source_url": link, "audio_url": "http://files.example.invalid/a.mp3"}
    assert word in refused(api.lipsync(json=body), 400, "INVALID_SOURCE_URL")
    form = {"audio_url": link}
    said = refused(api.lipsync(files=files(audio=None), data=form), 400, "INVALID_AUDIO_URL")
    assert word in said


def test_a_name_is_checked_by_its_addresses(web):
    link = web.serve("/a.jpg", b"secret")
    for policy in (fetch.Policy(), fetch.Policy(allow_hosts=frozenset({"localhost:1"}))):
        code, said = _failure(link, policy)
        assert code == "INVALID_SOURCE_URL"
        assert "private" in said
    assert web.requests == []
    named = fetch.Policy(allow_hosts=frozenset({f"localhost:{web.port}"}))
    assert _fetched(link, named) == b"secret"


def test_a_name_that_resolves_to_a_private_address_is_refused(monkeypatch, web):
    web.serve("/a.jpg", b"secret")

    async def everything_is_here(*_args, **_more):
        return [(2, 1, 6, "", ("127.0.0.1", web.port))]

    monkeypatch.setattr("asyncio.base_events.BaseEventLoop.getaddrinfo", everything_is_here)
    code, _ = _failure(f"http://innocent.example:{web.port}/a.jpg", fetch.Policy())
    assert code == "INVALID_SOURCE_URL"
    assert web.requests == []


@pytest.mark.parametrize("to", ["http://127.0.0.1:{}/a", "//127.0.0.1:{}/a", "http://[::1]:{}/a"])
def test_redirects_to_private_addresses_are_refused(web, to):
    web.serve("/a", b"secret")
    link = web.redirect("/b", to.format(web.port))
    assert _failure(link)[0] == "INVALID_SOURCE_URL"
    assert [path for path, _ in web.requests] == ["/b"]


@pytest.mark.parametrize("to", ["file:///etc/passwd", "ftp://localhost/a", "http://a:b@localhost/"])
def test_redirects_to_other_schemes_and_with_passwords_are_refused(web, to):
    assert _failure(web.redirect("/b", to))[0] == "INVALID_SOURCE_URL"


def test_redirects_are_followed_up_to_a_limit(web):
    web.serve("/folder/end", b"here")
    web.redirect("/folder/next", "end")
    assert _fetched(web.redirect("/", "/folder/next")) == b"here"
    assert _failure(web.redirect("/loop", "/loop"))[0] == "LINK_REDIRECTS"
    assert _failure(web.redirect("/odd", "http://[odd"))[0] == "LINK_REDIRECTS"


def test_the_host_header_has_the_port(web):
    _fetched(web.serve("/a", b"x"))
    [(_, headers)] = web.requests
    assert headers["Host"] == f"localhost:{web.port}"


def test_links_without_a_file_fail_with_a_message(api, web, files, service_folder):
    links = {
        "LINK_NOT_A_FILE": web.serve("/page.jpg", b"<html></html>", "text/html; charset=utf-8"),
        "LINK_STATUS": web.url + "/nowhere.jpg",
        "INVALID_MEDIA": web.serve("/words.jpg", b"only some words\n" * 99, "image/jpeg"),
        "LINK_UNREACHABLE": "http://localhost:1/a.jpg",
    }
    web.paths["/nowhere.jpg"] = lambda request: request.send_error(404)
    ids = {
        code: api.start(files=files(image=None), data={"source_url": link})
        for code, link in links.items()
    }
    for code, generation in ids.items():
        status = api.finish(generation)
        assert status["state"] == "failed"
        assert status["failure"]["code"] == code, status
        assert status["error"]
        assert not (service_folder / "inputs" / generation).exists()


def test_received_and_announced_size_are_limited(web):
    small = fetch.Policy(allow_hosts=OPEN.allow_hosts, max_bytes=MEGABYTE)
    assert len(_fetched(web.serve("/fits", b"x" * MEGABYTE), small)) == MEGABYTE
    assert _failure(web.serve("/announced", b"x" * (MEGABYTE + 1)), small)[0] == "FILE_TOO_LARGE"

    def endless(request):
        request.send_response(200)
        request.end_headers()
        while True:
            request.wfile.write(b"x" * 65536)

    web.paths["/endless"] = endless
    assert _failure(web.url + "/endless", small)[0] == "FILE_TOO_LARGE"


def test_compressed_bodies_are_refused(web):
    def bomb(request):
        request.send_response(200)
        request.send_header("Content-Encoding", "gzip")
        request.end_headers()

    web.paths["/bomb"] = bomb
    assert _failure(web.url + "/bomb")[0] == "LINK_NOT_A_FILE"


def test_total_and_idle_time_are_limited(web):
    def dripping(request):
        request.send_response(200)
        request.end_headers()
        while True:
            request.wfile.write(b"x")
            request.wfile.flush()
            time.sleep(0.05)

    def silent(_request):
        time.sleep(2)

    web.paths |= {"/dripping": dripping, "/silent": silent}
    hasty = fetch.Policy(allow_hosts=OPEN.allow_hosts, seconds=0.6, idle_seconds=0.3)
    begun = time.monotonic()
    assert _failure(web.url + "/dripping", hasty)[0] == "LINK_TIMEOUT"
    assert _failure(web.url + "/silent", hasty)[0] == "LINK_TIMEOUT"
    assert time.monotonic() - begun < 2


def test_an_endless_link_can_be_cancelled(api, web, files, service_folder):
    def endless(request):
        request.send_response(200)
        request.end_headers()
        while True:
            request.wfile.write(b"x" * 10)
            time.sleep(0.05)

    web.paths["/endless.jpg"] = endless
    generation = api.start(files=files(image=None), data={"source_url": web.url + "/endless.jpg"})
    while not web.requests:
        time.sleep(0.02)
    assert api.cancel(generation).status_code == 200
    wait(lambda: not (service_folder / "inputs" / generation).exists())


def test_proxies_of_the_environment_are_ignored(web, monkeypatch):
    monkeypatch.setitem(os.environ, "HTTP_PROXY", "http://127.0.0.1:1")
    monkeypatch.setitem(os.environ, "ALL_PROXY", "http://127.0.0.1:1")
    assert _fetched(web.serve("/a", b"x")) == b"x"


def test_a_failed_fetch_leaves_no_file(tmp_path: Path, web):
    web.paths["/gone"] = lambda request: request.send_error(410)
    with (tmp_path / "file").open("wb") as file, pytest.raises(JobError):
        fetch.fetch(web.url + "/gone", "audio", file, OPEN, lambda: True)
    assert (tmp_path / "file").read_bytes() == b""
