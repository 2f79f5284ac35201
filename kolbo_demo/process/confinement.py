"""Limits for processes that decode other people's files: resources and access.

The operating system enforces them, in native code and in every process started afterwards. Limits
that a system does not have are left out: docs/security.md lists them.
"""

import contextlib
import ctypes
import math
import os
import signal
import struct
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from kolbo_demo.data_files import ASSETS
from kolbo_demo.process import landlock, seccomp

try:
    import resource
except ImportError:
    resource = None

MAX_OUTPUT_BYTES = 4 * 1024**3
"""Largest file that a process with results may write."""
MAX_STDERR_BYTES = 1024**2
"""The same for a process without: its standard error is a file."""
_MAX_DESCRIPTORS = 512
_NICENESS = 5
_MAX_THREADS = 512
"""Threads and processes in addition to those that already run on the machine."""

_PICTURE_CPU_SECONDS, _CPU_SECONDS_PER_PIXEL = 2.0, 1.2e-7
_PICTURE_MEMORY_BYTES, _MEMORY_BYTES_PER_PIXEL = 256 * 1024**2, 16
"""Several times the needs of sound pictures: 50 megapixels take about 2 s and 700 MB."""

_PR_SET_PDEATHSIG, _PR_SET_DUMPABLE, _PR_SET_NO_NEW_PRIVS = 1, 4, 38
_LINUX_CAPABILITY_VERSION_3 = 0x20080522
_RETAINED_CAPABILITIES = 0b110
"""CAP_DAC_OVERRIDE and CAP_DAC_READ_SEARCH: the program, or a file that it may open, may belong to
another user."""

_PACKAGE = Path(__file__).parents[1]
_LIBRARY_PATHS = (
    *("/lib", "/lib32", "/lib64", "/usr/lib", "/usr/lib32", "/usr/lib64", "/usr/local/lib"),
    *("/usr/local/lib64", "/nix/store", "/gnu/store", "/etc/ld.so.cache"),
)
_READABLE_PATHS = (
    *("/proc/self", "/proc/cpuinfo", "/proc/meminfo", "/proc/sys/vm/overcommit_memory"),
    *("/sys/devices/system/cpu", "/etc/localtime", "/usr/share/zoneinfo"),
)
_DEVICES = ("/dev/null", "/dev/zero", "/dev/urandom", "/dev/random")


@dataclass(frozen=True)
class AllowedFiles:
    """Paths that a child needs in addition to those of the program itself."""

    read: tuple[str, ...] = ()
    """Files, and folders with all in them."""
    write: tuple[str, ...] = ()
    """Existing folders for results."""


def lower_priority() -> None:
    """Let HTTP responses take precedence over renders and inspections."""
    if hasattr(os, "nice"):
        os.nice(_NICENESS)


def limit_resources(
    cpu_seconds: float,
    memory: int | None = None,
    file_bytes: int | None = None,
    max_cpu_seconds: float | None = None,
) -> None:
    """Limit this process to `cpu_seconds` from now on, `memory` bytes of address space more than it
    has, and files of `file_bytes`; disable core dumps, which would contain a visitor's picture.

    Beyond the first it is killed by SIGXCPU; beyond the others, allocations and writes fail. A
    later call can lower each limit, and raise only the first, to `max_cpu_seconds` of this call.
    """
    if resource is None:
        return
    _set_limit("RLIMIT_CORE", 0)
    usage = resource.getrusage(resource.RUSAGE_SELF)
    used = usage.ru_utime + usage.ru_stime
    max_seconds = max_cpu_seconds or cpu_seconds
    _set_limit("RLIMIT_CPU", int(used + cpu_seconds) + 1, int(used + max_seconds) + 2)
    if memory is not None and (size := _address_space()):
        _set_limit("RLIMIT_AS", size + memory)
    if file_bytes is not None:
        _set_limit("RLIMIT_FSIZE", file_bytes)
    _set_limit("RLIMIT_NOFILE", _MAX_DESCRIPTORS)


def limit_resources_for_picture(pixels: int) -> None:
    """The same for decoding a picture whose header promises so many pixels. One that contains far
    more is stopped early."""
    limit_resources(
        _PICTURE_CPU_SECONDS + _CPU_SECONDS_PER_PIXEL * pixels,
        _PICTURE_MEMORY_BYTES + _MEMORY_BYTES_PER_PIXEL * pixels,
    )


def exit_after(seconds: float) -> None:
    """Let the system kill this process after `seconds`, and on Linux when its parent exits.

    Unlike a thread that watches the parent, this works while native code holds Python's lock.
    """
    if sys.platform == "linux":
        seccomp.libc().prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if hasattr(signal, "alarm"):
        signal.alarm(math.ceil(seconds))


def restrict_access(files: AllowedFiles) -> None:
    """Restrict this process and its descendants, irrevocably, to `files` and what the program
    itself needs: no other file or folder, no network, no other process.

    Call it before there is a second thread. Linux only, as far as the kernel supports it. Raises
    OSError.
    """
    if sys.platform != "linux":
        return
    if running := _running_threads():
        _set_limit("RLIMIT_NPROC", running + _MAX_THREADS)
    seccomp.libc().prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    _drop_capabilities()
    seccomp.install_filter()  # before Landlock: it reads the ancestors in /proc
    restricted = landlock.restrict(_landlock_rules(files))
    # Landlock already keeps these children apart, so the user's debuggers may attach.
    seccomp.libc().prctl(_PR_SET_DUMPABLE, int(restricted), 0, 0, 0)
    if files.write:
        os.environ["TMPDIR"] = tempfile.tempdir = files.write[0]


def disable_dumping() -> None:
    """Deny other processes of the same user this one's memory, environment and open files. Linux
    only, until the next exec."""
    if sys.platform == "linux":
        seccomp.libc().prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)


def _landlock_rules(files: AllowedFiles) -> Iterator[tuple[str | Path, int]]:
    for prefix in {sys.prefix, sys.base_prefix, sys.exec_prefix, sys.base_exec_prefix}:
        for part in ("lib", "lib64", "bin", "pyvenv.cfg"):
            yield Path(prefix, part), landlock.EXECUTE
    # The folder that contains the package may contain anything: allow only the package.
    for path in {*sys.path} - {str(_PACKAGE.parent)}:
        yield path, landlock.EXECUTE
    for path in (
        _PACKAGE,
        ASSETS,
        os.path.realpath(sys.executable),
        *_library_paths(),
        *_LIBRARY_PATHS,
    ):
        yield path, landlock.EXECUTE
    for path in (*_READABLE_PATHS, *files.read):
        yield path, landlock.READ
    for path in _DEVICES:
        yield path, landlock.USE_DEVICE
    for path in files.write:
        yield path, landlock.WRITE


def _library_paths() -> list[str]:
    """Paths from the environment: library folders, and moviepy's ffmpeg."""
    paths = [os.environ.get("IMAGEIO_FFMPEG_EXE"), os.environ.get("FFMPEG_BINARY")]
    paths += os.environ.get("LD_LIBRARY_PATH", "").split(os.pathsep)
    return [path for path in paths if path]


def _drop_capabilities() -> None:
    """Drop root's capabilities, so that the limits apply to root too."""
    header = struct.pack("=Ii", _LINUX_CAPABILITY_VERSION_3, 0)
    buffer = ctypes.create_string_buffer(24)
    if seccomp.libc().capget(header, buffer) == 0:
        effective, permitted, *_ = struct.unpack("=6I", buffer.raw)
        retained = (effective & _RETAINED_CAPABILITIES, permitted & _RETAINED_CAPABILITIES)
        seccomp.libc().capset(header, struct.pack("=6I", *retained, 0, 0, 0, 0))


def _set_limit(name: str, limit: int, max_limit: int | None = None) -> None:
    """Set a soft and a hard limit, within the present hard one."""
    assert resource
    kind = getattr(resource, name, None)
    if kind is None:  # not every system has every limit
        return
    hard = resource.getrlimit(kind)[1]
    max_limit = limit if max_limit is None else max(max_limit, limit)
    if hard != resource.RLIM_INFINITY:
        limit, max_limit = min(limit, hard), min(max_limit, hard)
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(kind, (limit, max_limit))


def _address_space() -> int | None:
    """Bytes of address space in use; None if unknown."""
    try:
        pages = Path("/proc/self/statm").read_text().split()[0]
    except OSError:
        return None
    return int(pages) * os.sysconf("SC_PAGE_SIZE")


def _running_threads() -> int | None:
    """Threads on this machine; None if unknown."""
    try:
        return int(Path("/proc/loadavg").read_text().split()[3].partition("/")[2])
    except (OSError, ValueError, IndexError):
        return None
