"""Linux's Landlock: a process restricts its own access to files, TCP, sockets and signals.

Restrictions are inherited and cannot be lifted. Kernels have Landlock since 5.13, newer ones more
of it (`abi_version`); rights that a kernel does not know are left out.
https://docs.kernel.org/userspace-api/landlock.html
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
"""System call numbers, the same on every architecture."""
_CREATE_RULESET_VERSION = 1
_RULE_PATH_BENEATH = 1

_EXECUTE, _WRITE_FILE, _READ_FILE, _READ_DIR, _REMOVE_DIR, _REMOVE_FILE = (1 << n for n in range(6))
_MAKE_DIR, _MAKE_REG, _REFER, _TRUNCATE = 1 << 7, 1 << 8, 1 << 13, 1 << 14
_FILE_RIGHTS = _EXECUTE | _WRITE_FILE | _READ_FILE | _TRUNCATE
"""Rights that apply to single files."""
_RIGHTS_BY_ABI = {1: 13, 2: 14, 3: 15, 5: 16}
"""Number of file rights, by the first ABI version that has them."""
_ALL_TCP, _ALL_SCOPES = 0b11, 0b11

EXECUTE = _EXECUTE | _READ_FILE | _READ_DIR
"""Libraries and programs."""
READ = _READ_FILE | _READ_DIR
USE_DEVICE = _READ_FILE | _WRITE_FILE
"""Devices."""
# No links, sockets or devices: the parent opens the results.
WRITE = READ | _WRITE_FILE | _REMOVE_DIR | _REMOVE_FILE | _MAKE_DIR | _MAKE_REG | _REFER | _TRUNCATE
"""Folders for results."""


def abi_version() -> int:
    """This kernel's Landlock ABI version; 0 if it has none."""
    if sys.platform != "linux":
        return 0
    return max(0, _syscall(_CREATE_RULESET, None, 0, _CREATE_RULESET_VERSION))


def restrict(rules: Iterable[tuple[str | Path, int]]) -> bool:
    """Restrict the calling thread and its descendants to the paths of `rules`, with their rights:
    no other file, no TCP connection, no abstract socket, no signal to a process outside.

    Other threads are not restricted. Missing paths are left out. Returns whether the kernel has
    Landlock; without it nothing happens. Raises OSError.
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
    descriptor = os.open(path, os.O_PATH | os.O_CLOEXEC)
    try:
        if not stat.S_ISDIR(os.fstat(descriptor).st_mode):
            rights &= _FILE_RIGHTS
        rule = struct.pack("=Qi", rights, descriptor)
        _check(_syscall(_ADD_RULE, ruleset, _RULE_PATH_BENEATH, rule, 0))
    finally:
        os.close(descriptor)


def _syscall(number: int, *arguments: bytes | int | None) -> int:
    converted = [ctypes.c_long(each) if isinstance(each, int) else each for each in arguments]
    return libc().syscall(ctypes.c_long(number), *converted)


def _check(result: int) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"Landlock: {os.strerror(number)}")
    return result
