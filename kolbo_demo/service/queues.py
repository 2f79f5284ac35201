"""The dbos queues of generations and segments: concurrency and polling intervals."""

import os

from dbos import DBOS

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


def register(concurrency: int, spare_slots: int, *, shared: bool) -> None:
    """Poll the queues from now on. `shared`: other processes work on them as well."""
    upload_poll = LINK_POLL_SECONDS if shared else UPLOAD_POLL_SECONDS
    # Other processes cannot use files that this one has fetched, so it fetches few ahead.
    fetches = concurrency + 1 if shared else MAX_FETCHES
    per_caller = 1 if shared else MAX_FETCHES_PER_CALLER
    _register(context.GENERATIONS, concurrency, upload_poll)
    _register(fair_queue.SPARE_QUEUE, spare_slots, LINK_POLL_SECONDS)
    _register(FETCHES, fetches, LINK_POLL_SECONDS, per_caller)
    _register(LINKS, 1, LEGACY_POLL_SECONDS)
    if shared:
        _register(segments.QUEUE, concurrency, upload_poll)


def unregister() -> None:
    """Stop polling all queues. Raises SQLAlchemyError."""
    for queue in DBOS.list_queues():
        DBOS.delete_queue(queue.name)


def _register(
    queue: str, concurrency: int, poll_seconds: float, per_partition: int | None = None
) -> None:
    DBOS.register_queue(
        queue,
        worker_concurrency=concurrency,
        partition_worker_concurrency=per_partition,
        polling_interval_sec=poll_seconds,
    )
