"""Bounds on this process, for those that decode other people's files: what it may use, and reach.

The operating system keeps them, so they hold inside native code too, and for every process that is
started from here on. Where it knows no such bounds nothing happens: docs/security.md says which
system keeps which.
"""

import contextlib
import ctypes
import os
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
"""The longest file that a render, or whatever else makes one, may write."""
MAX_STDERR_BYTES = 1024**2
"""The same where nothing is made: for what libraries write to standard error."""
_MAX_DESCRIPTORS = 512
_NICENESS = 5
_MAX_THREADS = 512
"""Threads and processes, beyond those that run on the machine already."""

_PICTURE_CPU_SECONDS, _CPU_SECONDS_PER_PIXEL = 2.0, 1.2e-7
_PICTURE_MEMORY_BYTES, _MEMORY_BYTES_PER_PIXEL = 256 * 1024**2, 16
"""Several times what honest pictures of all formats take: 50 megapixels about 2 s and 700 MB."""

_PR_SET_DUMPABLE, _PR_SET_NO_NEW_PRIVS = 4, 38
_LINUX_CAPABILITY_VERSION_3 = 0x20080522
_RETAINED_CAPABILITIES = 0b110
"""To open files of other users, among those that the rules for files allow: the program itself may
belong to one."""

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
    """Paths that a child needs for its task beside those of the program itself."""

    read: tuple[str, ...] = ()
    """Files, and folders whose files are meant."""
    write: tuple[str, ...] = ()
    """Folders in which it writes its results; they exist."""


def lower_priority() -> None:
    """Let renders and looks at files give way to answers, and to each other alike."""
    if hasattr(os, "nice"):
        os.nice(_NICENESS)


def limit_resources(
    cpu_seconds: float,
    memory: int | None = None,
    file_bytes: int | None = None,
    max_cpu_seconds: float | None = None,
) -> None:
    """Let this process take `seconds` of processor time from now on, `memory` bytes more of address
    space than it has, and write files of at most `output` bytes. Past the first it is killed; past
    the others, allocations and writes fail. A later call can lower each, and raise only the first,
    to at most `longest` seconds from now.

    It also leaves no memory dump behind, which would hold a visitor's picture.
    """
    if resource is None:
        return
    _set_limit("RLIMIT_CORE", 0)
    usage = resource.getrusage(resource.RUSAGE_SELF)
    used = usage.ru_utime + usage.ru_stime
    _set_limit(
        "RLIMIT_CPU", int(used + cpu_seconds) + 1, int(used + (max_cpu_seconds or cpu_seconds)) + 2
    )
    if memory is not None and (size := _address_space()):
        _set_limit("RLIMIT_AS", size + memory)
    if file_bytes is not None:
        _set_limit("RLIMIT_FSIZE", file_bytes)
    _set_limit("RLIMIT_NOFILE", _MAX_DESCRIPTORS)


def limit_resources_for_picture(pixels: int) -> None:
    """The same for decoding a picture that says to have so many pixels: one that holds far more
    than it says is ended early."""
    limit_resources(
        _PICTURE_CPU_SECONDS + _CPU_SECONDS_PER_PIXEL * pixels,
        _PICTURE_MEMORY_BYTES + _MEMORY_BYTES_PER_PIXEL * pixels,
    )


def restrict_access(files: AllowedFiles) -> None:
    """Let this process, and all that it starts, open `files` and what the program itself needs, and
    reach nothing else: no other file or folder, no network, no other process. For good.

    To be called before there is a second thread. On Linux as far as the kernel can, elsewhere
    nothing happens. Raises OSError.
    """
    if sys.platform != "linux":
        return
    if running := _running_threads():
        _set_limit("RLIMIT_NPROC", running + _MAX_THREADS)
    seccomp.libc().prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    _drop_capabilities()
    seccomp.install_filter()  # first: it looks for the processes above in /proc
    restricted = landlock.restrict(_landlock_rules(files))
    # Children of the same user that are kept apart so may be looked into by the user's own tools.
    seccomp.libc().prctl(_PR_SET_DUMPABLE, int(restricted), 0, 0, 0)
    if files.write:
        os.environ["TMPDIR"] = tempfile.tempdir = files.write[0]


def disable_dumping() -> None:
    """Keep this process's memory, environment and open files from others of the same user. On
    Linux; it lasts until another program is executed."""
    if sys.platform == "linux":
        seccomp.libc().prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)


def _landlock_rules(files: AllowedFiles) -> Iterator[tuple[str | Path, int]]:
    for prefix in {sys.prefix, sys.base_prefix, sys.exec_prefix, sys.base_exec_prefix}:
        for part in ("lib", "lib64", "bin", "pyvenv.cfg"):
            yield Path(prefix, part), landlock.EXECUTE
    # Where the package lies in a folder of its own that folder may hold anything: only the package.
    for place in {*sys.path} - {str(_PACKAGE.parent)}:
        yield place, landlock.EXECUTE
    for place in (
        _PACKAGE,
        ASSETS,
        os.path.realpath(sys.executable),
        *_library_paths(),
        *_LIBRARY_PATHS,
    ):
        yield place, landlock.EXECUTE
    for place in (*_READABLE_PATHS, *files.read):
        yield place, landlock.READ
    for place in _DEVICES:
        yield place, landlock.USE_DEVICE
    for place in files.write:
        yield place, landlock.WRITE


def _library_paths() -> list[str]:
    """Paths from the environment: library folders, and the program that moviepy starts."""
    named = [os.environ.get("IMAGEIO_FFMPEG_EXE"), os.environ.get("FFMPEG_BINARY")]
    named += os.environ.get("LD_LIBRARY_PATH", "").split(os.pathsep)
    return [path for path in named if path]


def _drop_capabilities() -> None:
    """Of an administrator, so that the bounds hold for one too."""
    header = struct.pack("=Ii", _LINUX_CAPABILITY_VERSION_3, 0)
    held = ctypes.create_string_buffer(24)
    if seccomp.libc().capget(header, held) == 0:
        effective, permitted, *_ = struct.unpack("=6I", held.raw)
        kept = (effective & _RETAINED_CAPABILITIES, permitted & _RETAINED_CAPABILITIES)
        seccomp.libc().capset(header, struct.pack("=6I", *kept, 0, 0, 0, 0))


def _set_limit(name: str, limit: int, max_limit: int | None = None) -> None:
    """A limit, as far as an earlier one allows; `most` is how far a later one may raise it."""
    assert resource
    which = getattr(resource, name, None)
    if which is None:  # not every system has every bound
        return
    hard = resource.getrlimit(which)[1]
    max_limit = limit if max_limit is None else max(max_limit, limit)
    if hard != resource.RLIM_INFINITY:
        limit, max_limit = min(limit, hard), min(max_limit, hard)
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(which, (limit, max_limit))


def _address_space() -> int | None:
    """Bytes that this process has mapped; None where that is not told."""
    try:
        pages = Path("/proc/self/statm").read_text().split()[0]
    except OSError:
        return None
    return int(pages) * os.sysconf("SC_PAGE_SIZE")


def _running_threads() -> int | None:
    """Threads that run on this machine; None where that is not told."""
    try:
        return int(Path("/proc/loadavg").read_text().split()[3].partition("/")[2])
    except (OSError, ValueError, IndexError):
        return None
