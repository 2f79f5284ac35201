"""Threads for the endpoints' blocking work, with bounds of their own.

The framework's forty threads are shared with the page: full, they would hold back every poll and
every result. A store that hangs holds back neither uploads nor the database.
"""

from collections.abc import Callable
from functools import partial
from typing import ParamSpec, TypeVar

import anyio
import anyio.to_thread

P = ParamSpec("P")
T = TypeVar("T")

DISK = anyio.CapacityLimiter(16)
"""Reads and writes on this machine."""
STORE = anyio.CapacityLimiter(16)
"""What may ask a store of objects."""
DATABASE = anyio.CapacityLimiter(16)


async def run(
    limiter: anyio.CapacityLimiter, work: Callable[P, T], *args: P.args, **named: P.kwargs
) -> T:
    """What `work` returns, done in a thread."""
    return await anyio.to_thread.run_sync(partial(work, *args, **named), limiter=limiter)
