"""Work of one stage beside the next: decoding, warping and encoding each hold a core at a time."""

from collections.abc import Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from queue import Full, Queue
from threading import Event
from typing import TypeVar

Item = TypeVar("Item")

DEPTH = 4
"""Items made ahead: enough to even out slow frames, few enough to hold in memory."""
AHEAD_BYTES = 32 * 1024 * 1024
"""Large pictures are made ahead by fewer."""


def depth(frame_bytes: int) -> int:
    """How many pictures of so many bytes to make ahead: DEPTH, but for large ones."""
    return max(1, min(DEPTH, AHEAD_BYTES // frame_bytes))


_END = object()


def ahead(items: Iterator[Item], most: int = DEPTH) -> Generator[Item]:
    """The same items, made in a thread up to `most` before they are asked for.

    An error in the thread is raised at its place; when the consumer leaves, the thread stops.
    """
    made: Queue = Queue(most)
    left = Event()

    def put(item: object) -> bool:
        while not left.is_set():
            try:
                made.put(item, timeout=0.1)
            except Full:
                continue
            return True
        return False

    def work() -> None:
        try:
            for item in items:
                if not put(item):
                    break
        finally:
            put(_END)
            if hasattr(items, "close"):
                items.close()  # type: ignore[attr-defined]

    with ThreadPoolExecutor(1, "ahead") as pool:
        done = pool.submit(work)
        try:
            while (item := made.get()) is not _END:
                yield item
            done.result()
        finally:
            left.set()
