"""Turns by caller."""

import threading

from kolbo_demo.fair_lock import CURRENT_CALLER, FairSemaphore
from tests.waiting import wait


def test_a_caller_waits_for_one_turn_of_every_other():
    rotation, order = FairSemaphore(), list[str]()
    go = threading.Event()

    def work(caller: str) -> None:
        CURRENT_CALLER.set(caller)
        with rotation.acquire() as held:
            assert held
            order.append(caller)
            go.wait(10)

    threads = []
    for position, caller in enumerate("aaaabbc"):
        threads.append(threading.Thread(target=work, args=(caller,)))
        threads[-1].start()
        wait(lambda n=position: bool(order) and sum(map(len, rotation._waiting.values())) == n)
    go.set()
    for thread in threads:
        thread.join(10)
    assert "".join(order) == "aabcaba"[: len(order)]
    assert len(order) == 7


def test_a_turn_that_is_not_wanted_is_given_up():
    rotation = FairSemaphore()
    with rotation.acquire(), rotation.acquire(lambda: False) as held:
        assert not held
    with rotation.acquire() as held:
        assert held


def test_two_places():
    rotation = FairSemaphore(2)
    with rotation.acquire(), rotation.acquire(), rotation.acquire(lambda: False) as third:
        assert not third
