"""Turns by caller."""

import threading
import time
from collections.abc import Callable

from kolbo_demo.fair_lock import CALLER, Rotation


def until(done: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 10
    while not done():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def test_a_caller_waits_for_one_turn_of_every_other():
    rotation, order = Rotation(), list[str]()
    go = threading.Event()

    def work(caller: str) -> None:
        CALLER.set(caller)
        with rotation.turn() as held:
            assert held
            order.append(caller)
            go.wait(10)

    threads = []
    for position, caller in enumerate("aaaabbc"):
        threads.append(threading.Thread(target=work, args=(caller,)))
        threads[-1].start()
        until(lambda n=position: bool(order) and sum(map(len, rotation._waiting.values())) == n)
    go.set()
    for thread in threads:
        thread.join(10)
    assert "".join(order) == "aabcaba"[: len(order)]
    assert len(order) == 7


def test_a_turn_that_is_not_wanted_is_given_up():
    rotation = Rotation()
    with rotation.turn(), rotation.turn(lambda: False) as held:
        assert not held
    with rotation.turn() as held:
        assert held


def test_two_places():
    rotation = Rotation(2)
    with rotation.turn(), rotation.turn(), rotation.turn(lambda: False) as third:
        assert not third
