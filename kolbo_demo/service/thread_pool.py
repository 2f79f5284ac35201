"""Threads for the endpoints' blocking work, with limits of their own.

The framework's default pool of 40 threads is shared with the page; if that is exhausted, polls and
results still answer. A hanging object store delays neither uploads nor the database.
"""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")

DISK = ThreadPoolExecutor(16, "disk")
"""Reads and writes of local files."""
STORE = ThreadPoolExecutor(16, "store")
"""Calls that may reach an object store."""
DATABASE = ThreadPoolExecutor(16, "database")


def run(
    pool: ThreadPoolExecutor, work: Callable[P, T], *args: P.args, **named: P.kwargs
) -> asyncio.Future[T]:
    """Run `work` in a thread of `pool`."""
    return asyncio.get_running_loop().run_in_executor(pool, partial(work, *args, **named))
