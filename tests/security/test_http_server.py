"""Connections that try to exhaust the server, and requests with ambiguous framing."""

import contextlib
import re
import socket
import time
from collections.abc import Callable, Iterator

import pytest

from tests.security.raw_connections import (
    DESCRIPTORS,
    HALF,
    HEAD_SECONDS,
    HEALTH,
    IDLE_SECONDS,
    KEY,
    PAGE,
    PENDING,
    PER_ADDRESS,
    ROOT,
    SERVICE,
    Attacked,
    attacked,
    closed,
    descriptors,
    free_port,
    read,
)
from tests.waiting import wait

FLOOD = 1100
MARGIN = 3.0
"""Seconds for a busy machine, beyond a limit."""
START = b"POST /api/v1/generate/lipsync HTTP/1.1\r\nHost: a\r\nX-API-Key: " + KEY.encode() + b"\r\n"
CHUNKED = START + b"Content-Type: multipart/form-data; boundary=b\r\nTransfer-Encoding: chunked\r\n"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Attacked]:
    with attacked(SERVICE, tmp_path_factory.mktemp("attacked")) as found:
        yield found


@pytest.fixture
def opened(server: Attacked) -> Iterator[Callable[..., list[socket.socket]]]:
    """Open connections that have sent some bytes; they are closed after the test."""
    with contextlib.ExitStack() as stack:

        def connections(number: int, data: bytes, address: str = "127.0.0.1"):
            made = [server.connect(address=address) for _ in range(number)]
            for each in made:
                stack.enter_context(each)
                with contextlib.suppress(ConnectionError):
                    each.sendall(data)
            return made

        yield connections


def drips(made: socket.socket, data: bytes, longest: float) -> float:
    """Seconds until a connection is closed on which a little comes all the time."""
    begun = time.monotonic()
    while not closed([made]):
        assert time.monotonic() - begun < longest
        with contextlib.suppress(ConnectionError):
            made.sendall(data)
        time.sleep(0.05)
    return time.monotonic() - begun


def test_incomplete_heads_block_no_other_and_are_closed(server: Attacked, opened) -> None:
    said = len(server.log())
    waited = []
    with descriptors(FLOOD + 200):
        begun = time.monotonic()
        flood = []
        for _ in range(FLOOD // 100):
            flood += opened(100, HALF)
            waited.append(server.healthy_within())
        wait(lambda: len(closed(flood)) == FLOOD, HEAD_SECONDS + MARGIN)
        assert time.monotonic() - begun < 2 * (HEAD_SECONDS + MARGIN)
    assert max(waited) < 1.0, waited
    assert len(server.log()) - said < 5000


@pytest.mark.parametrize("data", [b"", b"G", HALF, b"\r", b"GET / HTTP/1.1\r\nHost: a\r\n\r"])
def test_a_head_has_a_time_limit_whatever_came_of_it(opened, data: bytes) -> None:
    [made] = opened(1, data)
    begun = time.monotonic()
    assert b"200" not in read(made, HEAD_SECONDS + MARGIN)
    assert time.monotonic() - begun < HEAD_SECONDS + MARGIN


@pytest.mark.parametrize("before", [b"", HEALTH])
def test_a_slow_head_is_closed(server: Attacked, before: bytes) -> None:
    with server.connect(before) as made:
        if before:
            assert made.recv(4096)
        assert drips(made, b"G", HEAD_SECONDS + MARGIN) > HEAD_SECONDS / 2


def test_connections_of_one_address_are_limited(server: Attacked, opened) -> None:
    """Requests whose bodies are incomplete, so none of them is a half-sent head."""
    body = START + b"Content-Length: 5000\r\n\r\n{"
    flood = opened(PER_ADDRESS + 30, body, "127.0.0.9")
    wait(lambda: len(closed(flood)) >= 30, IDLE_SECONDS)
    assert server.healthy_within() < 1.0


def test_incomplete_heads_of_one_address_are_limited(opened) -> None:
    flood = opened(PENDING + 20, HALF)
    wait(lambda: len(closed(flood)) >= 20, MARGIN)
    assert closed(flood)[:20] == flood[:20], "those that wait longest"


def test_many_addresses_together_block_no_other(server: Attacked, opened) -> None:
    waited = []
    for address in range(20, 40):
        opened(PENDING - 1, HALF, f"127.0.0.{address}")
        waited.append(server.healthy_within())
    assert max(waited) < 1.0, waited
    assert "out of system resource" not in server.log()


def test_a_descriptor_is_left_for_the_service_itself(server: Attacked, opened) -> None:
    for address in range(40, 52):
        opened(PER_ADDRESS, START + b"Content-Length: 5000\r\n\r\n{", f"127.0.0.{address}")
        assert server.descriptors() < DESCRIPTORS * 3 // 4
    server.healthy_within()


def test_bodies_that_never_come_give_way_behind_a_proxy_too(server: Attacked, opened) -> None:
    """127.0.0.1 is a trusted proxy, which has no bound of its own."""
    for visitor in range(10):
        forwarded = b"X-Forwarded-For: 203.0.113.%d\r\n" % visitor
        opened(PER_ADDRESS, START + forwarded + b"Content-Length: 5000\r\n\r\n{")
    server.healthy_within()


def test_a_slow_body_is_closed(server: Attacked) -> None:
    with server.connect(START + b"Content-Length: 100000\r\n\r\n") as made:
        assert drips(made, b"{", IDLE_SECONDS + MARGIN) > IDLE_SECONDS / 2


def test_a_discarded_body_is_not_read_for_ever(server: Attacked) -> None:
    """The answer comes first, then as much of the body as the client likes."""
    with server.connect(
        b"POST /no HTTP/1.1\r\nHost: a\r\nContent-Length: 999999999999\r\n\r\n"
    ) as made:
        begun = time.monotonic()
        while not closed([made]):
            assert time.monotonic() - begun < IDLE_SECONDS + 3 * MARGIN
            with contextlib.suppress(ConnectionError):
                made.sendall(b"x" * 1_000_000)


def test_a_slow_and_steady_upload_is_taken(server: Attacked) -> None:
    assets = ROOT / "assets"
    picture, sound = ((assets / name).read_bytes() for name in ("portrait.jpg", "speech.wav"))
    parts = b"".join(
        b'--b\r\nContent-Disposition: form-data; name="%b"; filename="a"\r\n\r\n%b\r\n' % part
        for part in ((b"image", picture), (b"audio", sound))
    )
    body = parts + b"--b--\r\n"
    head = b"Content-Type: multipart/form-data; boundary=b\r\nContent-Length: %d\r\n\r\n"
    with server.connect(START + head % len(body)) as made:
        begun = time.monotonic()
        step = len(body) // 40
        for place in range(0, len(body), step):
            made.sendall(body[place : place + step])
            time.sleep(2 * IDLE_SECONDS / 40)
        assert made.recv(4096).startswith(b"HTTP/1.1 200")
        assert time.monotonic() - begun > IDLE_SECONDS


def metrics(server: Attacked, number: int) -> socket.socket:
    """A client that asks for so much and has a small window."""
    made = socket.socket()
    made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    made.settimeout(10)
    made.connect(("127.0.0.1", server.port))
    made.sendall(b"GET /metrics HTTP/1.1\r\nHost: a\r\n\r\n" * number)
    return made


def test_a_response_that_is_not_read_is_closed(server: Attacked) -> None:
    with metrics(server, 1000) as made:
        wait(lambda: closed([made]), IDLE_SECONDS + 4 * MARGIN)
        assert read(made).count(b"HTTP/1.1 200") < 1000


def test_a_response_that_is_read_slowly_comes_whole(server: Attacked) -> None:
    with metrics(server, 40) as made:
        begun = time.monotonic()
        answer = b""
        while answer.count(b"HTTP/1.1 200") < 40:
            data = made.recv(8192)
            assert data, "closed"
            answer += data
            time.sleep(0.04)
        assert time.monotonic() - begun > IDLE_SECONDS


def test_valid_requests_are_answered_in_turn_on_one_connection(server: Attacked) -> None:
    chunks = b"5\r\nhello\r\n1;a=b\r\n!\r\n0\r\n\r\n"
    valid = [
        HEALTH,
        HEALTH.replace(b"\r\n\r\n", b"\r\nContent-Length: 3\r\n\r\nabc"),
        HEALTH.replace(b"\r\n\r\n", b"\r\nTransfer-Encoding: Chunked\r\n\r\n" + chunks),
        HEALTH.replace(b"\r\n\r\n", b"\r\nX-Long: " + b"x" * 14_000 + b"\r\n\r\n"),
    ]
    with server.connect() as made:
        for _ in range(3):  # longer than a head may take
            made.sendall(b"".join(valid))
            answer = b""
            while answer.count(b'"ready"') < len(valid):
                data = made.recv(65536)
                assert data, answer
                answer += data
            assert answer.count(b"HTTP/1.1 200") == len(valid)
            time.sleep(HEAD_SECONDS / 2 + 0.1)


HEAD = b"POST /healthz HTTP/1.1\r\nHost: a\r\n"
BOTH = b"Transfer-Encoding: chunked\r\nContent-Length: 4\r\n\r\n0\r\n\r\n"
HEADS = {
    "both lengths": HEAD + BOTH,
    "both lengths, the other way round": HEAD
    + b"Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "both lengths in capitals": HEAD + BOTH.upper().replace(b"0\r\n\r\n", b"0\r\n\r\n"),
    "two lengths": HEAD + b"Content-Length: 5\r\nContent-Length: 6\r\n\r\nabcdef",
    "a list of lengths": HEAD + b"Content-Length: 5, 6\r\n\r\nabcdef",
    **{
        f"length {value!r}": HEAD + b"Content-Length:" + value + b"\r\n\r\nabcde"
        for value in (b"+5", b"-5", b" 5 5", b"0x5", b"5_0", b"", b" 5\x0b", b"9" * 21)
    },
    **{
        f"coding {value!r}": HEAD + b"Transfer-Encoding:" + value + b"\r\n\r\n0\r\n\r\n"
        for value in (
            *(b"identity", b"chunked, identity", b"identity, chunked", b"xchunked", b"\x0bchunked"),
            *(b"chunked, chunked", b'"chunked"', b"chunked;a=b", b"", b"\r\n chunked"),
        )
    },
    "two codings": HEAD + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: x\r\n\r\n0\r\n\r\n",
    "space before the colon": HEAD + b"Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n",
    "coding in 1.0": HEAD.replace(b"1.1", b"1.0") + b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "folded line": HEAD + b"X-A: b\r\n\tTransfer-Encoding: chunked\r\n\r\n",
    "folded first line": b"POST /healthz HTTP/1.1\r\n Host: a\r\nHost: a\r\n\r\n",
    "lines without CR": HEALTH.replace(b"\r\n", b"\n"),
    "one line without CR": HEAD + b"X-A: b\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "a head that ends without CR": HEALTH.replace(b"\r\n\r\n", b"\r\n\n"),
    "a bare CR": HEAD + b"X-A: b\rTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "a NUL": HEAD + b"X-A: b\0\r\n\r\n",
    "no host": b"GET /healthz HTTP/1.1\r\n\r\n",
    "two hosts": b"GET /healthz HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
    "another host in the target": HEALTH.replace(b"/healthz", b"http://b/healthz"),
    "authority": HEALTH.replace(b"GET /healthz", b"CONNECT b:443"),
    "CONNECT with a path": HEALTH.replace(b"GET", b"CONNECT"),
    "an asterisk": HEALTH.replace(b"/healthz", b"*"),
    "a name": HEALTH.replace(b"/healthz", b"healthz"),
    "a space in the target": HEALTH.replace(b"/healthz", b"/healthz /"),
    "no version": HEALTH.replace(b" HTTP/1.1", b""),
    "version 1.2": HEALTH.replace(b"1.1", b"1.2"),
    "the preface of HTTP/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "version 2.0": HEALTH.replace(b"1.1", b"2.0"),
    "an empty line first": b"\r\n" + HEALTH,
    "a long target": HEALTH.replace(b"/healthz", b"/" + b"a" * 20_000),
    "a long field": HEALTH.replace(b"\r\n\r\n", b"\r\nX-A: " + b"a" * 20_000 + b"\r\n\r\n"),
    "many fields": HEALTH.replace(b"\r\n\r\n", b"\r\nX-A: a" * 3000 + b"\r\n\r\n"),
    "many short fields": HEALTH.replace(b"\r\n\r\n", b"\r\na:" * 200 + b"\r\n\r\n"),
    "TLS": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(500),
}
BODIES = {
    **{
        f"chunk size {size!r}": size + b"hello\r\n0\r\n\r\n"
        for size in (
            *(b"x\r\n", b"-5\r\n", b"+5\r\n", b"0x5\r\n", b" 5\r\n", b"\r\n", b"5\n", b"5 ;a\r\n"),
            *(b"5;\n", b"5\r", b"5,\r\n", b"5_0\r\n", b"0" * 21 + b"5\r\n"),
        )
    },
    "a chunk that is longer": b"4\r\nhello\r\n0\r\n\r\n",
    "a chunk without its end": b"5\r\nhello0\r\n\r\n",
    "a chunk that ends without CR": b"5\r\nhello\n0\r\n\r\n",
    "a trailer": b"0\r\nContent-Length: 5\r\n\r\n",
    "a trailer that ends without CR": b"0\r\nX-A: b\n\n",
    "twenty thousand chunks": b"1\r\nx\r\n" * 20_000 + b"0\r\n\r\n",
}


@pytest.mark.parametrize("data", HEADS.values(), ids=list(HEADS))
def test_an_ambiguous_head_is_refused_and_nothing_after_it_is_read(server, data: bytes) -> None:
    answer = server.ask(data + HEALTH)
    # Where more was sent than read, the system may drop the answer with the connection.
    assert answer.startswith(b"HTTP/1.1 400") or (not answer and len(data) > 10_000)
    assert answer.count(b"HTTP/1.1 ") <= 1
    assert b'"ready"' not in answer


@pytest.mark.parametrize("head", [CHUNKED, HEAD + b"Transfer-Encoding: chunked\r\n"])
@pytest.mark.parametrize("data", BODIES.values(), ids=list(BODIES))
def test_nothing_is_read_after_an_ambiguous_body(server, head: bytes, data: bytes) -> None:
    """Whether the body is awaited or was answered before it came."""
    answer = server.ask(head + b"\r\n" + data + HEALTH)
    assert answer.count(b"HTTP/1.1 ") <= 1
    assert b'"ready"' not in answer


def test_a_body_that_turns_bad_after_the_answer_closes_quietly(server: Attacked) -> None:
    chunk = b"200000\r\n" + bytes(0x200000) + b"\r\n"
    with server.connect(HEAD + b"Transfer-Encoding: chunked\r\n\r\n") as made:
        for _ in range(20):  # more than is read before the answer
            made.sendall(chunk)
        answer = made.recv(4096)
        made.sendall(b"nothing\r\n")
        assert (answer + read(made)).count(b"HTTP/1.1 ") == 1


def test_small_chunks_do_not_hold_up_others(server: Attacked) -> None:
    with contextlib.ExitStack() as stack:
        waited = []
        for _ in range(10):
            made = stack.enter_context(server.connect(CHUNKED + b"\r\n"))
            made.settimeout(1)
            with contextlib.suppress(OSError):
                made.sendall(b"1\r\nx\r\n" * 40_000)
            waited.append(server.healthy_within())
    assert max(waited) < 0.5, waited


def test_no_attack_fills_the_log(server: Attacked) -> None:
    upgrade = HEALTH.replace(b"\r\n\r\n", b"\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
    for _ in range(300):
        server.ask(b"nothing\r\n\r\n")
    server.ask(upgrade * 300 + b"nothing\r\n\r\n")
    time.sleep(1.1)  # a line a second
    server.ask(b"nothing\r\n\r\n")
    said = server.log()
    assert "Traceback" not in said
    assert re.search(r"Invalid HTTP request received. suppressed=\d{2,}$", said, re.MULTILINE), said
    assert len(said) < 20_000, said[:5000]


def test_the_page_keeps_its_streams_and_stops_under_attack(tmp_path) -> None:
    port = free_port()
    with attacked(PAGE, tmp_path, GRADIO_SERVER_PORT=str(port)) as page:
        stream = page.connect(b"GET /gradio_api/heartbeat/abcdef HTTP/1.1\r\nHost: a\r\n\r\n")
        assert b"event-stream" in stream.recv(4096)
        deaf = metrics(page, 1000)
        time.sleep(2 * max(HEAD_SECONDS, IDLE_SECONDS) + 1)
        assert not closed([stream])
        deaf.close()
        with metrics(page, 1000), descriptors(800), contextlib.ExitStack() as stack:
            for number in range(300):
                address = f"127.0.0.{number // (PENDING - 5) + 10}"
                stack.enter_context(page.connect(HALF, address))
            assert page.healthy_within() < 1.0
            assert page.stop() < 10
        stream.close()
    assert "Traceback" not in page.log()
