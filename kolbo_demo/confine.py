"""Bounds on what this process may use, for those that decode other people's files.

The operating system keeps them, so they hold inside native code too, and for every process that is
started from here on. Where it knows no such bounds (Windows) nothing happens.
"""

import contextlib
import os
from pathlib import Path

try:
    import resource
except ImportError:
    resource = None


def confine(seconds: float, memory: int | None = None) -> None:
    """Let this process take `seconds` of processor time from now on, and `memory` bytes more of
    address space than it has. Past the first it is killed; past the second, allocations fail.

    It also leaves no memory dump behind, which would hold a visitor's picture.
    """
    if resource is None:
        return
    _bound("RLIMIT_CORE", 0)
    used = resource.getrusage(resource.RUSAGE_SELF)
    _bound("RLIMIT_CPU", int(used.ru_utime + used.ru_stime + seconds) + 1)
    if memory is not None and (size := _address_space()):
        _bound("RLIMIT_AS", size + memory)


def _bound(name: str, limit: int) -> None:
    """The soft limit, as far as the hard one allows, which stays for a later, wider bound."""
    assert resource
    which = getattr(resource, name)
    hard = resource.getrlimit(which)[1]
    if hard != resource.RLIM_INFINITY:
        limit = min(limit, hard)
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(which, (limit, hard))


def _address_space() -> int | None:
    """Bytes that this process has mapped; None where that is not told."""
    try:
        pages = Path("/proc/self/statm").read_text().split()[0]
    except OSError:
        return None
    return int(pages) * os.sysconf("SC_PAGE_SIZE")
