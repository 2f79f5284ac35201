"""Requests through networks and servers that fail: retries, typed errors and their messages."""

import socket
import ssl
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest
import requests
import trustme

from kolbo_demo.client import (
    ApiError,
    AuthError,
    KolboClient,
    KolboError,
    MaybeAcceptedError,
    NotFoundError,
    RateLimitError,
    UnreachableError,
)
from tests.scripted import (
    BROKEN_JSON,
    GATEWAY,
    HTML,
    KEY,
    TEMPORARY,
    Reply,
    Scripted,
    serving,
    sparse_wav,
)

LINK, VOICE = "https://example.com/portrait.jpg", "https://example.com/speech.mp3"
MODELS = Reply(json={"success": True, "models": [{"identifier": "m"}]})


@pytest.mark.parametrize("fault", TEMPORARY)
def test_a_get_is_retried(
    server: Scripted, quick: KolboClient, impatient: KolboClient, fault: str
) -> None:
    server.on("GET /v1/models", TEMPORARY[fault], MODELS)
    client = impatient if TEMPORARY[fault].hang else quick
    assert [model.identifier for model in client.models()] == ["m"]
    assert len(server.requests) == 2


def test_retry_after_is_respected(server: Scripted, client: KolboClient) -> None:
    server.on("GET /v1/models", Reply(429, {}, headers={"Retry-After": "1.2"}), MODELS)
    assert client.models()
    assert 1.2 <= server.requests[1].at - server.requests[0].at < 8


@pytest.mark.parametrize(
    ("reply", "kind"),
    [
        (Reply(401, {"success": False, "error": "No", "code": "INVALID_API_KEY"}), AuthError),
        (Reply(403, {"success": False, "error": "Read only", "code": "X"}), AuthError),
        (Reply(404, {"success": False, "error": "Gone", "code": "NOT_FOUND"}), NotFoundError),
        (Reply(400, {"success": False, "error": "Bad", "code": "X"}), ApiError),
        (Reply(200, {"success": False, "error": "Bad", "code": "X"}), ApiError),
        (Reply(200, {"status": False, "message": "Bad"}), ApiError),
        (Reply(418, body=b"teapot"), ApiError),
    ],
)
def test_a_refusal_is_not_retried(
    server: Scripted, client: KolboClient, reply: Reply, kind: type[ApiError]
) -> None:
    reply.headers["X-Request-Id"] = "req-7"
    server.on("GET /v1/account/credits", reply)
    with pytest.raises(kind) as caught:
        client.credits()
    assert caught.value.status == reply.status
    assert caught.value.request_id == "req-7"
    assert caught.value.code == (reply.json or {}).get("code")
    assert str(caught.value).endswith(".")
    assert len(server.requests) == 1


def test_an_unreachable_host_is_reported_at_once(portrait: Path, speech: Path) -> None:
    """Told at once, with the host and what to try: a start and a question alike."""
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    refused = KolboClient(KEY, f"http://127.0.0.1:{port}/api")
    unknown = KolboClient(KEY, "http://nowhere.invalid/api")
    started = time.monotonic()
    for files in ((LINK, VOICE), (portrait, speech)):
        with pytest.raises(
            UnreachableError,
            match=r"127\.0\.0\.1 .* refused the connection\. Nothing was started\. Check .* port",
        ):
            refused.lipsync(*files)
    with pytest.raises(UnreachableError, match=r"nowhere\.invalid .* name was not found"):
        unknown.lipsync(LINK, VOICE)
    for nobody in (refused, unknown):
        for ask in (nobody.models, nobody.credits, nobody.generation("lip_1").cancel):
            with pytest.raises(UnreachableError, match=r"could not be reached.*Check the base URL"):
                ask()
    assert time.monotonic() - started < 10


def test_an_untrusted_certificate_is_reported(portrait: Path, speech: Path) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority = trustme.CA()
    authority.issue_cert("127.0.0.1").configure_cert(context)
    with serving(Scripted(context)) as server, authority.cert_pem.tempfile() as known:
        server.on("GET /v1/models", MODELS)
        there = f"{server.base_url}/v1/models"
        assert requests.get(there, verify=known, timeout=9).json() == MODELS.json  # sound otherwise
        client = KolboClient(KEY, server.base_url)
        for ask in (
            client.models,
            lambda: client.lipsync(LINK, VOICE),
            lambda: client.lipsync(portrait, speech),
            client.generation("lip_1").wait,
        ):
            with pytest.raises(
                UnreachableError, match=r"127\.0\.0\.1 .* certificate was not .*Check.*clock"
            ):
                ask()
        assert len(server.requests) == 1


def test_https_to_an_http_port_is_reported(server: Scripted) -> None:
    client = KolboClient(KEY, server.base_url.replace("http:", "https:"))
    with pytest.raises(UnreachableError, match=r"does not speak TLS.*http://"):
        client.models()


def test_the_key_goes_to_no_other_host(server: Scripted, client: KolboClient) -> None:
    for method, path in (("GET", "models"), ("POST", "generate/lipsync")):
        location = {"Location": server.base_url.replace("127.0.0.1", "localhost") + "/elsewhere"}
        server.on(f"{method} /v1/{path}", Reply(307, headers=location))
    with pytest.raises(ApiError, match="redirect"):
        client.models()
    with pytest.raises(ApiError, match="redirect"):
        client.lipsync(LINK, VOICE)
    assert len(server.requests) == 2


LOST = {
    "reset": Reply(drop=True),
    "gateway": GATEWAY,
    "gateway timeout": Reply(504, {"message": "Endpoint request timed out"}),
    "524": Reply(524, body=b"<html>"),
    "HTML": HTML,
    "cut JSON": BROKEN_JSON,
    "cut short": Reply(json={"success": True, "generation_id": "lip_1"}, cut=9),
    "reset half-way": Reply(json={"success": True, "generation_id": "lip_1"}, cut=9, drop=True),
    "empty": Reply(body=b""),
    "no id": Reply(200, {"success": True}),
}


@pytest.mark.parametrize(
    ("fault", "upload"),
    [*((fault, False) for fault in LOST), ("reset", True), ("gateway", True)],
)
def test_a_start_that_may_have_been_accepted_is_sent_once(
    server: Scripted, quick: KolboClient, fault: str, upload: bool, portrait: Path, speech: Path
) -> None:
    server.on("POST /v1/generate/lipsync", LOST[fault])
    with pytest.raises(MaybeAcceptedError, match="check your history"):
        quick.lipsync(*((portrait, speech) if upload else (LINK, VOICE)))
    time.sleep(0.2)  # longer than the first pause of this policy
    assert server.count("POST /v1/generate") == 1


@pytest.mark.parametrize("upload", [False, True])
def test_a_start_without_a_response_in_time(
    server: Scripted, impatient: KolboClient, portrait: Path, speech: Path, upload: bool
) -> None:
    server.on("POST /v1/generate/lipsync", Reply(hang=2))
    with pytest.raises(MaybeAcceptedError, match=r"did not answer in time.*check your history"):
        impatient.lipsync(*((portrait, speech) if upload else (LINK, VOICE)))
    server.wait_for("POST /v1/generate")
    time.sleep(0.2)  # longer than the first pause of this policy
    assert server.count("POST /v1/generate") == 1


UNSENT = {
    "reset": (
        Reply(drop=True, read=1000),
        UnreachableError,
        "connection broke. Nothing was started",
    ),
    "stall": (Reply(hang=3, read=1000), UnreachableError, "in time. Nothing was started"),
    "gateway": (replace(GATEWAY, read=1000), ApiError, "Nothing was started"),
    "413 page": (Reply(413, body=b"<html>", read=1000), ApiError, "too large for 127.0.0.1"),
}


@pytest.mark.parametrize("fault", UNSENT)
def test_an_upload_that_breaks_off_starts_nothing(
    server: Scripted, quick: KolboClient, impatient: KolboClient, portrait: Path, tmp_path: Path,
    fault: str,
) -> None:  # fmt: skip
    reply, kind, message = UNSENT[fault]
    server.on("POST /v1/generate/lipsync", reply)
    client = impatient if reply.hang else quick
    with pytest.raises(kind, match=message):
        client.lipsync(portrait, sparse_wav(tmp_path / "long.wav", 30))
    server.wait_for("POST /v1/generate")
    time.sleep(0.2)  # longer than the first pause of this policy
    assert server.count("POST /v1/generate") == 1


@pytest.mark.parametrize(
    ("status", "code", "said", "message"),
    [
        (400, "MODEL_NOT_FOUND", "Model not found", "Model not found. Choose one of the models"),
        (400, "INSUFFICIENT_CREDITS", "Insufficient credits", "credits. Add credits"),
        (413, "FILE_TOO_LARGE", "Too big. Send less.", "Too big. Send less."),
        (500, "GENERATION_ERROR", "Could not start", "Could not start."),
        (402, "X", {"message": "Pay"}, "Pay."),
    ],
)
def test_a_refused_start_raises_an_api_error(
    server: Scripted, client: KolboClient, status: int, code: str, said: object, message: str
) -> None:
    refusal = {"success": False, "error": said, "code": code}
    server.on("POST /v1/generate/lipsync", Reply(status, refusal))
    with pytest.raises(ApiError, match=message) as caught:
        client.lipsync(LINK, VOICE)
    assert (caught.value.status, caught.value.code) == (status, code)
    assert server.count("POST /v1/generate") == 1


def test_a_rate_limited_start_raises_a_rate_limit_error(
    server: Scripted, client: KolboClient
) -> None:
    """With the body that Kolbo's docs print, which is unlike all their others."""
    body = {"status": False, "message": "Too many requests, please try again later"}
    server.on("POST /v1/generate/lipsync", Reply(429, body, headers={"Retry-After": "17"}))
    with pytest.raises(RateLimitError, match="17 seconds") as caught:
        client.lipsync(LINK, VOICE)
    assert caught.value.retry_after == 17
    assert server.count("POST /v1/generate") == 1


def test_a_refusal_during_an_upload_is_read(
    client: KolboClient, portrait: Path, tmp_path: Path
) -> None:
    """A server may answer and stop reading. What it said counts, not that it stopped."""
    body = b'{"success": false, "error": "Too large", "code": "FILE_TOO_LARGE"}'
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def refuse() -> None:
            connection, _ = listener.accept()
            with connection:
                connection.recv(4096)
                connection.sendall(
                    b"HTTP/1.1 413 Too Large\r\nContent-Type: application/json\r\n"
                    b"Connection: close\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body)
                )
                connection.shutdown(socket.SHUT_WR)
                connection.settimeout(5)
                while connection.recv(1 << 20):
                    pass

        thread = threading.Thread(target=refuse)
        thread.start()
        here = KolboClient(KEY, f"http://127.0.0.1:{listener.getsockname()[1]}/api")
        with pytest.raises(ApiError, match="Too large") as caught:
            here.lipsync(portrait, sparse_wav(tmp_path / "long.wav", 20))
        thread.join()
    assert caught.value.status == 413


def test_a_slow_response_does_not_block_a_poll(server: Scripted, client: KolboClient) -> None:
    server.on_status(Reply(json={"state": "processing", "pad": "x" * 200}, drip=0.1))
    started = time.monotonic()
    with pytest.raises(KolboError):
        list(client.generation("lip_1", 0.2).events(timeout=1))
    assert time.monotonic() - started < 10
