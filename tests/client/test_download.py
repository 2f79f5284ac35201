"""Downloads: retries, resumption, refusals, and no partial file under the final name."""

import time
from pathlib import Path
from typing import Any

import pytest

from kolbo_demo.client import DownloadError, KolboClient, Timeouts
from kolbo_demo.client.session import PrivateAddressError, stateless_session
from tests.scripted import HTML, KEY, VIDEO, Reply, Scripted, serving

VERSION = {"ETag": '"one"'}


def save(
    server: Scripted, client: KolboClient, folder: Path, *replies: Reply, **result: Any
) -> Path:
    """Downloads a result that the server hands out so."""
    server.on_status(server.completed(**result))
    if replies:
        server.on("GET /files/result.mp4", *replies)
    return client.generation("lip_1").download(folder / "o.mp4")


def requested_ranges(server: Scripted) -> list[tuple[str | None, str | None]]:
    """`Range` and `If-Range` of the requests for the file."""
    files = [seen.headers for seen in server.requests if seen.path.startswith("/files")]
    return [(headers["Range"], headers["If-Range"]) for headers in files]


def test_a_download_carries_no_key_even_after_a_redirect(
    server: Scripted, client: KolboClient, tmp_path: Path
) -> None:
    server.on_status(server.completed(urls=[f"{server.url}/files/moved"]))
    server.on("GET /files/moved", Reply(302, headers={"Location": "/files/result.mp4"}))
    seen: list[tuple[int, int | None]] = []
    client.generation("lip_1").download(tmp_path / "o.mp4", lambda *at: seen.append(at))
    assert seen[-1] == (len(VIDEO), len(VIDEO))
    files = [request for request in server.requests if request.path.startswith("/files")]
    assert len(files) == 2
    assert not [name for file in files for name in file.headers if name.lower() == "x-api-key"]
    assert not [file for file in files if file.headers["Authorization"]]


FAILURES = {
    "not there yet": Reply(404),
    "busy": Reply(503, headers={"Retry-After": "0"}),
    "reset": Reply(drop=True),
    "cut short": Reply(body=VIDEO, cut=5000),
    "reset half-way": Reply(body=VIDEO, cut=5000, drop=True),
    "stalls half-way": Reply(body=VIDEO, cut=5000, hang=1),
    "another length": Reply(body=VIDEO, headers={"Content-Length": str(len(VIDEO) + 1)}),
    "no length, cut short": Reply(body=VIDEO, cut=5000, unsized=True),
    "empty": Reply(body=b""),
    "HTML": HTML,
}


@pytest.mark.parametrize("failure", FAILURES)
def test_a_temporary_failure_is_retried(
    server: Scripted, quick: KolboClient, impatient: KolboClient, tmp_path: Path, failure: str
) -> None:
    client = impatient if FAILURES[failure].hang else quick
    path = save(server, client, tmp_path, FAILURES[failure], Reply(body=VIDEO))
    assert path.read_bytes() == VIDEO
    assert list(tmp_path.iterdir()) == [path]
    assert len(requested_ranges(server)) == 2


@pytest.mark.parametrize("failure", FAILURES)
def test_a_permanent_failure_leaves_no_file(
    server: Scripted, quick: KolboClient, impatient: KolboClient, tmp_path: Path, failure: str
) -> None:
    client = impatient if FAILURES[failure].hang else quick
    with pytest.raises(DownloadError, match="could not be downloaded"):
        save(server, client, tmp_path, FAILURES[failure])
    assert list(tmp_path.iterdir()) == []
    assert 5 <= len(requested_ranges(server)) <= 6


def test_a_video_without_a_length_is_accepted_when_complete(
    server: Scripted, quick: KolboClient, tmp_path: Path, talking: Path
) -> None:
    whole = talking.read_bytes()
    replies = [Reply(body=whole, unsized=True, cut=len(whole) - missing) for missing in (900, 1, 0)]
    assert save(server, quick, tmp_path, *replies).read_bytes() == whole
    assert len(requested_ranges(server)) == 3


def test_received_bytes_are_not_requested_again(
    server: Scripted, quick: KolboClient, tmp_path: Path
) -> None:
    """More breaks than the policy has attempts: each brought something new."""
    part = {"body": VIDEO, "headers": VERSION, "ranges": True}
    breaks = [Reply(**part, cut=10_000, drop=bool(number % 2)) for number in range(9)]
    server.on_status(server.completed())
    server.on("GET /files/result.mp4", *breaks, Reply(**part))
    seen: list[int] = []
    path = tmp_path / "o.mp4"
    quick.generation("lip_1").download(path, lambda done, _: seen.append(done))
    assert path.read_bytes() == VIDEO
    wanted = [(f"bytes={10_000 * number}-", '"one"') for number in range(1, 10)]
    assert requested_ranges(server) == [(None, None), *wanted]
    assert seen == sorted(seen)


def test_a_changed_file_restarts_the_download(
    server: Scripted, quick: KolboClient, tmp_path: Path
) -> None:
    old = Reply(body=VIDEO[:-100] + bytes(100), headers=VERSION, ranges=True, cut=60_000)
    new = Reply(body=VIDEO, headers={"ETag": '"two"'}, ranges=True)
    assert save(server, quick, tmp_path, old, new).read_bytes() == VIDEO
    assert requested_ranges(server) == [(None, None), ("bytes=60000-", '"one"')]


@pytest.mark.parametrize(
    "headers",
    [
        {"Content-Range": f"bytes 0-9/{len(VIDEO)}"},
        {"Content-Range": f"bytes 60000-60009/{len(VIDEO) - 1}"},
        {"Content-Range": "nonsense"},
        {"Content-Range": f"bytes 60000-60009/{len(VIDEO)}", "ETag": '"two"'},
    ],
)
def test_a_wrong_range_is_discarded(
    server: Scripted, quick: KolboClient, tmp_path: Path, headers: dict[str, str]
) -> None:
    cut = Reply(body=VIDEO, headers=VERSION, cut=60_000)
    wrong = Reply(206, body=bytes(10), headers=headers)
    path = save(server, quick, tmp_path, cut, wrong, Reply(body=VIDEO, headers=VERSION))
    assert path.read_bytes() == VIDEO
    assert [range_ for range_, _ in requested_ranges(server)] == [None, "bytes=60000-", None]


def test_an_unsatisfiable_range_restarts_the_download(
    server: Scripted, quick: KolboClient, tmp_path: Path
) -> None:
    cut = Reply(body=VIDEO, headers=VERSION, cut=60_000)
    path = save(server, quick, tmp_path, cut, Reply(416), Reply(body=VIDEO))
    assert path.read_bytes() == VIDEO
    assert [range_ for range_, _ in requested_ranges(server)] == [None, "bytes=60000-", None]


@pytest.mark.parametrize("headers", [{}, {"ETag": 'W/"weak"'}])
def test_a_file_without_a_validator_restarts_the_download(
    server: Scripted, quick: KolboClient, tmp_path: Path, headers: dict[str, str]
) -> None:
    cut = Reply(body=VIDEO, headers=headers, ranges=True, cut=60_000)
    assert save(server, quick, tmp_path, cut, Reply(body=VIDEO)).read_bytes() == VIDEO
    assert requested_ranges(server) == [(None, None), (None, None)]


def test_a_slow_download_ends_at_the_deadline(server: Scripted, tmp_path: Path) -> None:
    """However often something new comes."""
    patient = KolboClient(KEY, server.base_url, timeouts=Timeouts(download=0.7))
    drop = Reply(body=VIDEO, headers=VERSION, ranges=True, cut=10)
    started = time.monotonic()
    with pytest.raises(DownloadError):
        save(server, patient, tmp_path, drop)
    assert time.monotonic() - started < 10
    assert list(tmp_path.iterdir()) == []


def test_a_redirect_to_another_host_is_followed_without_the_key(
    server: Scripted, client: KolboClient, tmp_path: Path
) -> None:
    with serving(Scripted()) as cdn:
        cdn.on("GET /cdn/video", Reply(body=VIDEO))
        there = cdn.url.replace("127.0.0.1", "localhost") + "/cdn/video"
        moved = Reply(302, headers={"Location": there, "Set-Cookie": "a=b"})
        assert save(server, client, tmp_path, moved).read_bytes() == VIDEO
        for request in (*server.requests[1:], *cdn.requests):
            names = {name.lower() for name in request.headers}
            assert not names & {"x-api-key", "authorization", "cookie", "referer"}
        assert len(cdn.requests) == 1


def test_endless_redirects_end(server: Scripted, quick: KolboClient, tmp_path: Path) -> None:
    with pytest.raises(DownloadError, match="from one redirect to the next"):
        save(server, quick, tmp_path, Reply(302, headers={"Location": "/files/result.mp4"}))
    assert len(requested_ranges(server)) == 6


PRIVATE = ["http://127.0.0.1:{port}/x", "http://2130706433:{port}/x", "http://localhost:{port}/x",
           "http://[::ffff:127.0.0.1]:{port}/x", "http://0x7f.1:{port}/x",
           "http://169.254.169.254/latest", "http://10.0.0.1/x"]  # fmt: skip


@pytest.mark.parametrize("target", PRIVATE)
@pytest.mark.parametrize("way", ["link", "redirect"])
def test_a_public_api_leads_to_no_private_address(
    server: Scripted, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, target: str, way: str
) -> None:
    """The proxy stands for the internet, in which the API and its files have public addresses."""
    monkeypatch.setenv("http_proxy", server.url)
    port = server.server_address[1]
    target = target.format(port=port)
    link = "http://93.184.215.14/files/moved"
    status = server.completed(urls=[target if way == "link" else link])
    server.on("GET http://93.184.215.14/api/v1/generate/lip_1/status", Reply(json=status))
    server.on(f"GET {link}", Reply(302, headers={"Location": target}))
    server.on("GET /x", Reply(body=VIDEO))
    server.on(f"GET {target}", Reply(body=VIDEO))
    client = KolboClient(KEY, "http://93.184.215.14/api")
    with pytest.raises(DownloadError, match="private address"):
        client.generation("lip_1").download(tmp_path / "o.mp4")
    assert len(server.requests) == (1 if way == "link" else 2)
    assert list(tmp_path.iterdir()) == []


def test_a_public_result_is_fetched(
    server: Scripted, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same way with a public target, so that the refusals above are for the address."""
    monkeypatch.setenv("http_proxy", server.url)
    link = "http://93.184.215.14/files/moved"
    status = server.completed(urls=[link])
    server.on("GET http://93.184.215.14/api/v1/generate/lip_1/status", Reply(json=status))
    server.on(f"GET {link}", Reply(302, headers={"Location": "http://93.184.215.15/x"}))
    server.on("GET http://93.184.215.15/x", Reply(body=VIDEO))
    client = KolboClient(KEY, "http://93.184.215.14/api")
    path = client.generation("lip_1").download(tmp_path / "o.mp4")
    assert path.read_bytes() == VIDEO


def test_a_name_that_resolves_to_a_private_address_is_refused_before_a_request(
    server: Scripted,
) -> None:
    """A resolver may answer differently the second time: the connection itself is judged."""
    with (
        stateless_session(server.url, public_only=True) as session,
        pytest.raises(PrivateAddressError),
    ):
        session.get(f"{server.url}/files/result.mp4", timeout=5)
    assert server.requests == []


@pytest.mark.parametrize(
    ("reply", "message"),
    [
        (Reply(410), "HTTP 410"),
        (Reply(body=b"x" * 5000), "not a video"),
        (Reply(body=b"\x89PNG\r\n\x1a\n" + bytes(500)), "not a video"),
    ],
)
def test_a_download_that_is_no_video_leaves_no_file(
    server: Scripted, client: KolboClient, tmp_path: Path, reply: Reply, message: str
) -> None:
    server.on_status(server.completed())
    server.on("GET /files/result.mp4", reply)
    old = tmp_path / "old.mp4"
    old.write_bytes(b"precious")
    with pytest.raises(DownloadError, match=message):
        client.generation("lip_1").download(old)
    assert [path.name for path in tmp_path.iterdir()] == ["old.mp4"]
    assert old.read_bytes() == b"precious"


@pytest.mark.parametrize("url", ["file:///etc/passwd", "nonsense", "http://[", "http://"])
def test_a_result_link_that_cannot_be_opened(
    server: Scripted, client: KolboClient, tmp_path: Path, url: str
) -> None:
    server.on_status(server.completed(urls=[url]))
    with pytest.raises(DownloadError, match="cannot be opened"):
        client.generation("lip_1").download(tmp_path / "o.mp4")
    assert list(tmp_path.iterdir()) == []
