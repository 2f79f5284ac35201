"""Rate limits, and the Retry-After of their refusals."""

import pytest

from kolbo_demo.service.rate_limit import SlidingWindow, TooManyRequestsError


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


def test_a_window_slides():
    clock = Clock()
    window = SlidingWindow(2, 60, clock)
    window.acquire("a")
    clock.now += 20
    window.acquire("a")
    clock.now += 39.5
    with pytest.raises(TooManyRequestsError) as caught:
        window.acquire("a")
    assert caught.value.headers == {"Retry-After": "1"}
    window.acquire("b")
    clock.now += 0.5
    window.acquire("a")
    with pytest.raises(TooManyRequestsError) as caught:
        window.acquire("a")
    assert caught.value.headers == {"Retry-After": "20"}


def test_a_released_request_does_not_count():
    window = SlidingWindow(1, 60, Clock())
    window.release("a", window.acquire("a"))
    window.acquire("a")
    with pytest.raises(TooManyRequestsError):
        window.acquire("a")


def test_idle_names_are_evicted():
    clock = Clock()
    window = SlidingWindow(1, 60, clock)
    for number in range(100):
        window.acquire(str(number))
    clock.now += 61
    window.acquire("new")
    assert set(window._requests) == {"new"}


def test_ten_generations_and_three_hundred_polls_a_minute(other_process, tmp_path, refused):
    api = other_process(tmp_path).caller()
    body = {
        "source_url": "http://files.example.invalid/a.jpg",
        "audio_url": "http://files.example.invalid/a.mp3",
    }
    refused(api.lipsync(json={}), 400, "MISSING_FIELDS")
    ids = [api.start(json=body) for _ in range(10)]
    reply = api.lipsync(json=body)
    said = refused(reply, 429, "RATE_LIMITED")
    assert said == "Too many requests, please try again later"
    assert 1 <= int(reply.headers["Retry-After"]) <= 60
    for number in range(300):
        assert api.get(f"/v1/generate/{ids[0]}/status").status_code == 200, number
    reply = api.get(f"/v1/generate/{ids[0]}/status")
    refused(reply, 429, "RATE_LIMITED")
    assert 1 <= int(reply.headers["Retry-After"]) <= 60
    assert api.get("/v1/models").status_code == 200
