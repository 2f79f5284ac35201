"""Return freed memory to the system."""

import ctypes
import gc
from collections.abc import Callable
from contextlib import suppress
from functools import cache


def release_memory() -> None:
    """Collect garbage and trim glibc's heap, which takes up to 0.1 s.

    Reference cycles with frames in them wait long for a collection, and glibc retains freed pages
    between small blocks in use: tens of megabytes a process over a long voice.
    """
    gc.collect()
    if trim := _malloc_trim():
        trim(0)


@cache
def _malloc_trim() -> Callable[[int], object] | None:
    with suppress(AttributeError, OSError, TypeError):  # another C library
        return ctypes.CDLL(None).malloc_trim
    return None
