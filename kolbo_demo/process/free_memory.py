"""Memory that nothing uses any more, given back to the system."""

import ctypes
import gc
from collections.abc import Callable
from contextlib import suppress
from functools import cache


def release_memory() -> None:
    """Give back what nothing uses any more. Frames and plans that are held in circles wait long for
    Python to look, and glibc keeps what lies between small things still in use: over a long voice
    both add up to tens of megabytes in each process. Takes up to 0.1 s: for long work only."""
    gc.collect()
    if trim := _malloc_trim():
        trim(0)


@cache
def _malloc_trim() -> Callable[[int], object] | None:
    with suppress(AttributeError, OSError, TypeError):  # another C library
        return ctypes.CDLL(None).malloc_trim
    return None
