"""Overlaps pipeline stages: decoding, warping and encoding each keep one core busy."""

from collections.abc import Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from queue import Full, Queue
from threading import Event
from typing import TypeVar

Item = TypeVar("Item")

PREFETCH_ITEMS = 4
"""Buffer size: evens out slow frames without holding many in memory."""
PREFETCH_BYTES = 32 * 1024 * 1024
"""Most bytes of buffered frames."""


def prefetch_depth(frame_bytes: int) -> int:
    """How many frames of `frame_bytes` to buffer, 1 to PREFETCH_ITEMS."""
    return max(1, min(PREFETCH_ITEMS, PREFETCH_BYTES // frame_bytes))


_END = object()


def prefetch(items: Iterator[Item], max_items: int = PREFETCH_ITEMS) -> Generator[Item]:
    """Yield `items`, computed in a thread up to `max_items` ahead of the consumer.

    An error in the thread is raised at its place; closing the generator stops the thread.
    """
    ready: Queue = Queue(max_items)
    stopped = Event()

    def put(item: object) -> bool:
        while not stopped.is_set():
            try:
                ready.put(item, timeout=0.1)
            except Full:
                continue
            return True
        return False

    def produce() -> None:
        try:
            for item in items:
                if not put(item):
                    break
        finally:
            put(_END)
            if hasattr(items, "close"):
                items.close()  # type: ignore[attr-defined]

    with ThreadPoolExecutor(1, "prefetch") as pool:
        producer = pool.submit(produce)
        try:
            while (item := ready.get()) is not _END:
                yield item
            producer.result()
        finally:
            stopped.set()
