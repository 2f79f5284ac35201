"""The dbos queues of generations and segments: concurrency and polling intervals."""

import os
from collections.abc import Callable

from dbos import Queue

from kolbo_demo.service import fair_queue
from kolbo_demo.service.workflows import context, segments

FETCHES = "fetches"
"""Queue of generations with links to fetch, partitioned by caller: a slow link delays no render."""
LINKS = "links"
"""Its unpartitioned predecessor, drained after an upgrade."""
MAX_FETCHES = 16
"""Generations that fetch, or wait for their render after it."""
MAX_FETCHES_PER_CALLER = 4
UPLOAD_POLL_SECONDS = 0.25
"""For generations without links. A poll takes about 4 ms of a core."""
LINK_POLL_SECONDS = 0.5
"""For generations with links, whose fetch takes longer; for all where many processes poll one
server."""
LEGACY_POLL_SECONDS = 5.0
"""For `LINKS`."""


def default_concurrency() -> int:
    """Concurrent renders of one process: one for every two cores."""
    return max(1, (os.cpu_count() or 2) // 2)


def register(
    register_queue: Callable[..., Queue], concurrency: int, spare_slots: int, *, shared: bool
) -> None:
    """Register the queues by dbos's `register_queue`. `shared`: other processes work on them."""

    def add(name: str, limit: int, poll_seconds: float, per_partition: int | None = None) -> None:
        register_queue(
            name,
            worker_concurrency=limit,
            partition_worker_concurrency=per_partition,
            polling_interval_sec=poll_seconds,
        )

    upload_poll = LINK_POLL_SECONDS if shared else UPLOAD_POLL_SECONDS
    # Other processes cannot use files that this one has fetched, so it fetches few ahead.
    fetches = concurrency + 1 if shared else MAX_FETCHES
    per_caller = 1 if shared else MAX_FETCHES_PER_CALLER
    add(context.GENERATIONS, concurrency, upload_poll)
    add(fair_queue.SPARE_QUEUE, spare_slots, LINK_POLL_SECONDS)
    add(FETCHES, fetches, LINK_POLL_SECONDS, per_caller)
    add(LINKS, 1, LEGACY_POLL_SECONDS)
    if shared:
        add(segments.QUEUE, concurrency, upload_poll)
