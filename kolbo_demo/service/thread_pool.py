"""Threads for the endpoints' blocking work, with limits of their own.

The framework's default pool of 40 threads is shared with the page; if that is exhausted, polls and
results still answer. A hanging object store delays neither uploads nor the database.
"""

from collections.abc import Callable
from functools import partial
from typing import ParamSpec, TypeVar

import anyio
import anyio.to_thread

P = ParamSpec("P")
T = TypeVar("T")

DISK = anyio.CapacityLimiter(16)
"""Reads and writes of local files."""
STORE = anyio.CapacityLimiter(16)
"""Calls that may reach an object store."""
DATABASE = anyio.CapacityLimiter(16)


async def run(
    limiter: anyio.CapacityLimiter, work: Callable[P, T], *args: P.args, **named: P.kwargs
) -> T:
    """Run `work` in a thread of `limiter` and return its result."""
    return await anyio.to_thread.run_sync(partial(work, *args, **named), limiter=limiter)
