"""Rates: exactly so many, then a refusal that says when."""

import pytest
from pydantic import SecretStr

from kolbo_demo.service.errors import ApiError
from kolbo_demo.service.rate_limit import ApiKeys, SlidingWindow, TooManyRequestsError


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


def test_what_is_given_back_counts_no_more():
    window = SlidingWindow(1, 60, Clock())
    window.release("a", window.acquire("a"))
    window.acquire("a")
    with pytest.raises(TooManyRequestsError):
        window.acquire("a")


def test_names_that_went_quiet_are_forgotten():
    clock = Clock()
    window = SlidingWindow(1, 60, clock)
    for number in range(100):
        window.acquire(str(number))
    clock.now += 61
    window.acquire("new")
    assert set(window._requests) == {"new"}


def test_a_visitor_s_key_is_his_and_cannot_be_made_up():
    keys = ApiKeys(SecretStr("given, other"))
    given = {
        visitor: keys.visitor_key(visitor).get_secret_value() for visitor in ("a", "b", "é", "")
    }
    named = {visitor: keys.authenticate(key) for visitor, key in given.items()}
    assert len({*named.values(), keys.authenticate("given"), keys.authenticate("other")}) == 6
    assert keys.visitor_key("a").get_secret_value() == given["a"]
    assert not [key for key in given.values() if any(key in name for name in named.values())]
    key = given["a"]
    forged = [
        key[:place] + ("0" if key[place] != "0" else "1") + key[place + 1 :]
        for place in range(len(key))
    ]
    another = ApiKeys(SecretStr("given")).visitor_key("a").get_secret_value()
    for wrong in (*forged, another, key[:-1], key + "0", "kolbo_live_", "", "é", None):
        with pytest.raises(ApiError):
            keys.authenticate(wrong)


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
