"""The retry policy: pauses, limits and `Retry-After`."""

import time
from email.utils import formatdate

import pytest

from kolbo_demo.client.retry import Backoff, Retry, parse_retry_after


def test_pauses_double_within_bounds() -> None:
    retry = Retry()
    bounds = [(0.5, 0.5), (0.75, 1), (1.5, 2), (3, 4), (6, 8), (6, 8)]
    for attempt, (low, high) in enumerate(bounds):
        pauses = {retry.pause(attempt) for _ in range(50)}
        assert all(low <= pause <= high for pause in pauses)
        assert len(pauses) > 1 or attempt == 0
    assert retry.pause(500) <= 8
    assert retry.pause(0, 3) == 3
    assert retry.pause(0, 0) == 0.5
    assert retry.pause(0, 9999) == 60


def test_retry_after_is_parsed_in_seconds_or_as_a_date() -> None:
    def parsed(value: str, **more: str) -> float | None:
        return parse_retry_after({"Retry-After": value, **more})

    def date(seconds: float) -> str:
        return formatdate(time.time() + seconds, usegmt=True)

    assert parsed("5") == 5
    assert 28 < (parsed(date(30)) or 0) <= 30
    assert parsed(date(3600), Date=date(3590)) == pytest.approx(10, abs=1)
    assert 28 < (parsed(date(30), Date="yesterday") or 0) <= 30
    assert parsed("Wed, 21 Oct 2015 07:28:00 GMT") == 0
    assert parse_retry_after({}) is None
    for nothing in ("", " ", "soon", "-5", "nan", "12 monkeys"):
        assert parsed(nothing) is None


def test_attempts_are_counted_from_the_last_progress() -> None:
    backoff = Backoff(Retry(attempts=3, first_pause=1))
    assert backoff.next_pause() == 1
    assert backoff.next_pause(progress=True) == 1
    assert backoff.next_pause() == 1
    assert (backoff.next_pause(7), backoff.next_pause()) == (7, None)


def test_the_last_pause_ends_at_the_deadline() -> None:
    deadline = time.monotonic() + 60
    backoff = Backoff(Retry(attempts=1, max_retry_after=600), deadline, limit_attempts=False)
    assert 0 < (backoff.next_pause(600) or 0) <= 60
    assert Backoff(Retry(), time.monotonic()).next_pause() is None
