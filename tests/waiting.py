"""Waiting for conditions."""

import time
from collections.abc import Callable
from typing import Any


def wait(done: Callable[[], Any], seconds: float = 60.0, interval: float = 0.05) -> Any:
    """The first true result of `done`."""
    deadline = time.monotonic() + seconds
    while not (found := done()):
        assert time.monotonic() < deadline, "not in time"
        time.sleep(interval)
    return found
