"""Log events and Prometheus metrics of the generations.

Metrics are of this process, and have no key, prompt, file name or address.
"""

import contextlib
import logging
import time
from collections.abc import Iterator

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    disable_created_metrics,
)
from prometheus_client.process_collector import ProcessCollector

from kolbo_demo import logs

_log = logging.getLogger(__name__)

disable_created_metrics()
REGISTRY = CollectorRegistry()
ProcessCollector(registry=REGISTRY)

_SECONDS = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600, 1800, 3600)

_ended = Counter(
    "kolbo_generations_ended",
    "Generations that came to their end in this process.",
    ["state"],
    registry=REGISTRY,
)
_accepted = Counter(
    "kolbo_generations_accepted", "Generations accepted by this process.", registry=REGISTRY
)
_stages = Histogram(
    "kolbo_stage_seconds",
    "Seconds a generation spent in a stage: queue, fetch, render, listen, segment, join, store.",
    ["stage"],
    buckets=_SECONDS,
    registry=REGISTRY,
)
_bytes = Counter(
    "kolbo_bytes",
    "Bytes of media: received in uploads, fetched from links, made, sent as results.",
    ["way"],
    registry=REGISTRY,
)
_refused = Counter(
    "kolbo_requests_refused", "Requests answered with an error.", ["code"], registry=REGISTRY
)

_gauges = {
    name: Gauge(f"kolbo_{name}", text, registry=REGISTRY)
    for name, text in {
        "ready": "1 where a generation can be started, else 0.",
        "queue": "Generations that wait for their turn.",
        "running": "Generations under way.",
        "workers": "Renders side by side that there is room for.",
        "disk_bytes": "UploadReservation that all files take.",
    }.items()
}

# Shown from the start, so that a rate over them has no gap.
for _state in ("completed", "failed", "cancelled"):
    _ended.labels(_state)
for _way in ("received", "fetched", "made", "sent"):
    _bytes.labels(_way)
for _stage in ("queue", "fetch", "render", "sign", "store"):
    _stages.labels(_stage)


def accepted(generation: str) -> None:
    _accepted.inc()
    with logs.generation_context(generation):
        logs.event(_log, "accepted")


def begun(waited: float) -> None:
    """Record the start of a generation after so many seconds in the queue."""
    _stages.labels("queue").observe(waited)
    logs.event(_log, "begun", waited_seconds=round(waited, 3))


@contextlib.contextmanager
def stage(name: str) -> Iterator[None]:
    """Time a stage of the current generation."""
    start = time.monotonic()
    try:
        yield
    finally:
        seconds = time.monotonic() - start
        _stages.labels(name).observe(seconds)
        logs.event(_log, "stage", stage=name, seconds=round(seconds, 3))


def count_bytes(way: str, size: int) -> None:
    """Count bytes of media that were received, fetched, made or sent."""
    _bytes.labels(way).inc(size)


def ended(generation: str, state: str, code: str | None = None) -> None:
    """Record a generation that is completed, failed (with the code of its failure) or cancelled."""
    _ended.labels(state).inc()
    with logs.generation_context(generation):
        if code:
            logs.event(_log, state, code=code)
        else:
            logs.event(_log, state)


def set_gauge(name: str, value: float) -> None:
    _gauges[name].set(value)


def refused(code: str, status: int) -> None:
    """Record an error response."""
    _refused.labels(code).inc()
    if status >= 500:
        logs.event(_log, "refused", logging.WARNING, code=code, status=status)
