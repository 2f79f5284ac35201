"""Polls of a generation through failures: which of them end it."""

import time
from email.utils import formatdate

import pytest

from kolbo_demo.client import (
    AuthError,
    KolboClient,
    KolboError,
    NotFoundError,
    Retry,
    StillRunningError,
    UnreachableError,
)
from tests.scripted import KEY, TEMPORARY, Reply, Scripted, running


@pytest.mark.parametrize("fault", TEMPORARY)
def test_a_temporary_failure_does_not_end_polling(
    server: Scripted, quick: KolboClient, impatient: KolboClient, fault: str
) -> None:
    server.on_status(running(5), TEMPORARY[fault], server.completed())
    client = impatient if TEMPORARY[fault].hang else quick
    seen = [status.state for status in client.generation("lip_1", 0.2).events(20)]
    assert seen == ["processing", "completed"]
    assert len(server.requests) == 3


def test_thirty_failures_in_a_row_do_not_end_polling(server: Scripted, quick: KolboClient) -> None:
    kinds = [reply for name, reply in TEMPORARY.items() if name != "silent"]
    faults = [kinds[number % len(kinds)] for number in range(30)]
    server.on_status(running(5), *faults, server.completed())
    assert quick.generation("lip_1", 0.2).wait(30).state == "completed"
    assert len(server.requests) == 32


def test_pauses_between_failures_grow(server: Scripted) -> None:
    client = KolboClient(KEY, server.base_url, retry=Retry(first_pause=0.1))
    server.on_status(running(5), *[Reply(503, {})] * 3, server.completed())
    client.generation("lip_1", 0.2).wait(30)
    at = [seen.at for seen in server.requests]
    assert at[2] - at[1] >= 0.1
    assert at[3] - at[2] >= 0.15
    assert at[4] - at[3] >= 0.3


@pytest.mark.parametrize("clock", [0, 86_400])
def test_retry_after_as_a_date_is_respected_with_a_wrong_clock(
    server: Scripted, client: KolboClient, clock: float
) -> None:
    """The date counts from the server's own `Date`, not from this machine's clock."""
    there = time.time() + clock
    headers = {
        "Date": formatdate(there, usegmt=True),
        "Retry-After": formatdate(there + 1, usegmt=True),
    }
    server.on_status(running(5), Reply(429, {}, headers=headers), server.completed())
    client.generation("lip_1", 0.2).wait(30)
    at = [seen.at for seen in server.requests]
    assert 1 <= at[2] - at[1] < 10


def test_retry_after_is_bounded(server: Scripted, quick: KolboClient) -> None:
    busy = Reply(503, {}, headers={"Retry-After": "86400"})
    server.on_status(running(5), busy, server.completed())
    quick.generation("lip_1", 0.2).wait(30)
    at = [seen.at for seen in server.requests]
    assert 0.3 <= at[2] - at[1] < 10


@pytest.mark.parametrize(("status", "kind"), [(401, AuthError), (404, NotFoundError)])
def test_a_refusal_ends_polling(
    server: Scripted, client: KolboClient, status: int, kind: type[KolboError]
) -> None:
    server.on_status(running(5), Reply(status, body=b"<html>"))
    with pytest.raises(kind):
        client.generation("lip_1", 0.2).wait(20)
    assert len(server.requests) == 2


def test_unusual_statuses_do_not_end_polling(server: Scripted, quick: KolboClient) -> None:
    server.on_status(
        running(40, state="upscaling"),
        {"state": "processing"},
        {"success": False, "state": "processing", "progress": 12},
        running(55, queue={"position": [3]}, result="soon", error=7, credits_used="many"),
        running(20, generation_id=5),
        server.completed(extra=[1]),
    )
    seen = [(s.state, s.progress) for s in quick.generation("lip_1", 0.2).events(20)]
    assert seen == [
        ("upscaling", 40),
        ("processing", 40),
        ("processing", 40),
        ("processing", 55),
        ("processing", 55),
        ("completed", 100),
    ]


def test_a_host_that_never_responded_is_reported_at_once(
    server: Scripted, client: KolboClient
) -> None:
    server.shutdown()
    server.server_close()
    started = time.monotonic()
    with pytest.raises(UnreachableError, match=r"127\.0\.0\.1 .* refused the connection"):
        client.generation("lip_1").wait()
    assert time.monotonic() - started < 5


def test_a_restarting_service_is_retried_until_the_deadline(
    quick: KolboClient, server: Scripted
) -> None:
    """It answered before, so a refused connection may pass."""
    server.on_status(running(5))
    events = quick.generation("lip_1", 0.2).events(1.5)
    assert next(events).state == "processing"
    server.shutdown()
    server.server_close()
    with pytest.raises(StillRunningError, match="refused the connection"):
        next(events)


@pytest.mark.parametrize("jump", [-400 * 86_400, 400 * 86_400])
def test_deadlines_ignore_clock_jumps(
    server: Scripted, client: KolboClient, monkeypatch: pytest.MonkeyPatch, jump: float
) -> None:
    server.on_status(running(5))
    events = client.generation("lip_1", 0.2).events(timeout=1)
    started = time.monotonic()
    next(events)
    true = time.time
    monkeypatch.setattr("time.time", lambda: true() + jump)
    with pytest.raises(StillRunningError):
        list(events)
    assert 0.9 < time.monotonic() - started < 6
    assert len(server.requests) > 2


def test_eager_polls_are_more_frequent_than_the_hint(server: Scripted, quick: KolboClient) -> None:
    server.on_status(running(5), running(50), server.completed())
    seen = [status.state for status in quick.generation("lip_1", 60).events(20, eager=True)]
    assert seen == ["processing", "processing", "completed"]
