"""Linux's Landlock: rules for files, TCP, abstract sockets and signals that a process takes on.

They hold for everything that the process starts later, and nothing lifts them. Kernels know them
since 5.13 and have learnt more of them since (`version`): a rule that a kernel does not know is
left out. https://docs.kernel.org/userspace-api/landlock.html
"""

import contextlib
import ctypes
import os
import stat
import struct
import sys
from collections.abc import Iterable
from pathlib import Path

from kolbo_demo.process.seccomp import libc

_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446
"""Numbers of the system calls, the same on every processor."""
_ASK_VERSION = 1
_PATH_BENEATH = 1

_EXECUTE, _WRITE_FILE, _READ_FILE, _READ_DIR, _REMOVE_DIR, _REMOVE_FILE = (1 << n for n in range(6))
_MAKE_DIR, _MAKE_REG, _REFER, _TRUNCATE = 1 << 7, 1 << 8, 1 << 13, 1 << 14
_OF_FILES = _EXECUTE | _WRITE_FILE | _READ_FILE | _TRUNCATE
"""Rights that a rule for a single file may name."""
_KNOWN = {1: 13, 2: 14, 3: 15, 5: 16}
"""Number of file rights, by the first Landlock version that has them."""
_ALL_TCP, _ALL_SCOPES = 0b11, 0b11

RUN = _EXECUTE | _READ_FILE | _READ_DIR
"""Libraries and programs."""
READ = _READ_FILE | _READ_DIR
USE = _READ_FILE | _WRITE_FILE
"""Devices."""
# Neither links nor sockets nor devices: the parent opens what it finds there.
MAKE = READ | _WRITE_FILE | _REMOVE_DIR | _REMOVE_FILE | _MAKE_DIR | _MAKE_REG | _REFER | _TRUNCATE
"""A folder for results."""


def version() -> int:
    """The version that this kernel has; 0 for none."""
    if sys.platform != "linux":
        return 0
    return max(0, _call(_CREATE_RULESET, None, 0, _ASK_VERSION))


def restrict(rules: Iterable[tuple[str | Path, int]]) -> bool:
    """Let the calling thread, and what it starts, open the paths of `rules` as they say, no other
    file, no TCP connection and no abstract socket, and signal nothing but itself and what it has
    started. Threads that run already are not restricted. A path that is not there is left out.

    Returns whether the kernel has Landlock; nothing happens where it has none. Raises OSError.
    """
    known = version()
    if not known:
        return False
    files = (1 << max(bits for since, bits in _KNOWN.items() if since <= known)) - 1
    handled = struct.pack(
        "=QQQ", files, _ALL_TCP if known >= 4 else 0, _ALL_SCOPES if known >= 6 else 0
    )[: 24 if known >= 6 else 16 if known >= 4 else 8]
    ruleset = _checked(_call(_CREATE_RULESET, handled, len(handled), 0))
    try:
        for path, rights in rules:
            with contextlib.suppress(FileNotFoundError, NotADirectoryError, PermissionError):
                _allow(ruleset, path, rights & files)
        _checked(_call(_RESTRICT_SELF, ruleset, 0))
    finally:
        os.close(ruleset)
    return True


def _allow(ruleset: int, path: str | Path, rights: int) -> None:
    place = os.open(path, os.O_PATH | os.O_CLOEXEC)
    try:
        if not stat.S_ISDIR(os.fstat(place).st_mode):
            rights &= _OF_FILES
        rule = struct.pack("=Qi", rights, place)
        _checked(_call(_ADD_RULE, ruleset, _PATH_BENEATH, rule, 0))
    finally:
        os.close(place)


def _call(number: int, *arguments: bytes | int | None) -> int:
    given = [ctypes.c_long(each) if isinstance(each, int) else each for each in arguments]
    return libc().syscall(ctypes.c_long(number), *given)


def _checked(answer: int) -> int:
    if answer < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"Landlock: {os.strerror(number)}")
    return answer
