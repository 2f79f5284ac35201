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
_CREATE_RULESET_VERSION = 1
_RULE_PATH_BENEATH = 1

_EXECUTE, _WRITE_FILE, _READ_FILE, _READ_DIR, _REMOVE_DIR, _REMOVE_FILE = (1 << n for n in range(6))
_MAKE_DIR, _MAKE_REG, _REFER, _TRUNCATE = 1 << 7, 1 << 8, 1 << 13, 1 << 14
_FILE_RIGHTS = _EXECUTE | _WRITE_FILE | _READ_FILE | _TRUNCATE
"""Rights that a rule for a single file may name."""
_RIGHTS_BY_ABI = {1: 13, 2: 14, 3: 15, 5: 16}
"""Number of file rights, by the first Landlock version that has them."""
_ALL_TCP, _ALL_SCOPES = 0b11, 0b11

EXECUTE = _EXECUTE | _READ_FILE | _READ_DIR
"""Libraries and programs."""
READ = _READ_FILE | _READ_DIR
USE_DEVICE = _READ_FILE | _WRITE_FILE
"""Devices."""
# Neither links nor sockets nor devices: the parent opens what it finds there.
WRITE = READ | _WRITE_FILE | _REMOVE_DIR | _REMOVE_FILE | _MAKE_DIR | _MAKE_REG | _REFER | _TRUNCATE
"""A folder for results."""


def abi_version() -> int:
    """The version that this kernel has; 0 for none."""
    if sys.platform != "linux":
        return 0
    return max(0, _syscall(_CREATE_RULESET, None, 0, _CREATE_RULESET_VERSION))


def restrict(rules: Iterable[tuple[str | Path, int]]) -> bool:
    """Let the calling thread, and what it starts, open the paths of `rules` as they say, no other
    file, no TCP connection and no abstract socket, and signal nothing but itself and what it has
    started. Threads that run already are not restricted. A path that is not there is left out.

    Returns whether the kernel has Landlock; nothing happens where it has none. Raises OSError.
    """
    abi = abi_version()
    if not abi:
        return False
    files = (1 << max(bits for since, bits in _RIGHTS_BY_ABI.items() if since <= abi)) - 1
    handled = struct.pack(
        "=QQQ", files, _ALL_TCP if abi >= 4 else 0, _ALL_SCOPES if abi >= 6 else 0
    )[: 24 if abi >= 6 else 16 if abi >= 4 else 8]
    ruleset = _check(_syscall(_CREATE_RULESET, handled, len(handled), 0))
    try:
        for path, rights in rules:
            with contextlib.suppress(FileNotFoundError, NotADirectoryError, PermissionError):
                _add_rule(ruleset, path, rights & files)
        _check(_syscall(_RESTRICT_SELF, ruleset, 0))
    finally:
        os.close(ruleset)
    return True


def _add_rule(ruleset: int, path: str | Path, rights: int) -> None:
    place = os.open(path, os.O_PATH | os.O_CLOEXEC)
    try:
        if not stat.S_ISDIR(os.fstat(place).st_mode):
            rights &= _FILE_RIGHTS
        rule = struct.pack("=Qi", rights, place)
        _check(_syscall(_ADD_RULE, ruleset, _RULE_PATH_BENEATH, rule, 0))
    finally:
        os.close(place)


def _syscall(number: int, *arguments: bytes | int | None) -> int:
    given = [ctypes.c_long(each) if isinstance(each, int) else each for each in arguments]
    return libc().syscall(ctypes.c_long(number), *given)


def _check(answer: int) -> int:
    if answer < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"Landlock: {os.strerror(number)}")
    return answer
