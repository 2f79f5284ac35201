"""A seccomp filter that denies system calls that no decoder or encoder needs.

It covers what Landlock leaves open: sockets of every family, inspection of other processes, file
watches, modes, owners and times of files that cannot be opened, and leaving the process group that
the parent kills. A denied call fails with EPERM.
"""

import ctypes
import errno
import os
import platform
import struct
import sys
from collections.abc import Iterable, Iterator
from functools import cache
from itertools import islice
from pathlib import Path

_ARCHITECTURES = {"x86_64": (0xC000003E, 0), "aarch64": (0xC00000B7, 1)}
"""`AUDIT_ARCH_*` of a machine, and its column in the tables below."""

_CallNumbers = tuple[int, int]
_DENIED: dict[str, tuple[int | None, int | None]] = {
    # Sockets; io_uring creates them too.
    **{"socket": (41, 198), "socketpair": (53, 199), "io_uring_setup": (425, 425)},
    # Other processes: their memory, descriptors, limits and priorities.
    **{"ptrace": (101, 117), "process_vm_readv": (310, 270), "process_vm_writev": (311, 271)},
    **{"process_madvise": (440, 440), "process_mrelease": (448, 448), "kcmp": (312, 272)},
    **{"pidfd_open": (434, 434), "pidfd_getfd": (438, 438), "pidfd_send_signal": (424, 424)},
    **{"tkill": (200, 130), "rt_sigqueueinfo": (129, 138), "rt_tgsigqueueinfo": (297, 240)},
    **{"move_pages": (279, 239), "migrate_pages": (256, 238), "perf_event_open": (298, 241)},
    **{"setpriority": (141, 140), "ioprio_set": (251, 30), "sched_setscheduler": (144, 119)},
    **{"sched_setparam": (142, 118), "sched_setattr": (314, 274)},
    # Leaving the process group that the parent kills.
    **{"setsid": (112, 157), "setpgid": (109, 154)},
    # Memory, queues and semaphores of the same user.
    **{"shmget": (29, 194), "shmat": (30, 196), "shmctl": (31, 195)},
    **{"msgget": (68, 186), "msgsnd": (69, 189), "msgrcv": (70, 188), "msgctl": (71, 187)},
    **{"semget": (64, 190), "semop": (65, 193), "semctl": (66, 191), "semtimedop": (220, 192)},
    **{"mq_open": (240, 180), "mq_unlink": (241, 181)},
    # Keys of the same user.
    **{"add_key": (248, 217), "request_key": (249, 218), "keyctl": (250, 219)},
    # Names of others' files: Landlock does not restrict watches.
    **{"inotify_init": (253, None), "inotify_init1": (294, 26), "fanotify_init": (300, 262)},
    # Changes to files by path that Landlock does not restrict.
    **{"chmod": (90, None), "fchmod": (91, 52), "fchmodat": (268, 53), "fchmodat2": (452, 452)},
    **{"chown": (92, None), "fchown": (93, 55), "lchown": (94, None), "fchownat": (260, 54)},
    **{"setxattr": (188, 5), "lsetxattr": (189, 6), "fsetxattr": (190, 7)},
    **{"removexattr": (197, 14), "lremovexattr": (198, 15), "fremovexattr": (199, 16)},
    **{"utime": (132, None), "utimes": (235, None), "futimesat": (261, None)},
    **{"utimensat": (280, 88), "truncate": (76, 45), "open_by_handle_at": (304, 265)},
    # Namespaces, in which a process is root, and code for the kernel.
    **{"unshare": (272, 97), "setns": (308, 268), "mount": (165, 40), "umount2": (166, 39)},
    **{"pivot_root": (155, 41), "chroot": (161, 51), "open_tree": (428, 428)},
    **{"move_mount": (429, 429), "fsopen": (430, 430), "mount_setattr": (442, 442)},
    **{"bpf": (321, 280), "userfaultfd": (323, 282), "personality": (135, 92)},
}
_CLONE, _CLONE3, _KILL, _TGKILL = (56, 220), (435, 435), (62, 129), (234, 131)
_IOCTL, _FCNTL, _PRLIMIT, _SCHED_SETAFFINITY = (16, 29), (72, 25), (302, 261), (203, 122)
_NEWEST_KNOWN = 462
"""`mseal`, of Linux 6.10: later calls fail with ENOSYS, as on an older kernel."""

_NEW_NAMESPACES = 0x7E020000
_TERMINAL_INPUT = (0x5412, 0x541C)
"""`TIOCSTI` and `TIOCLINUX`."""
_IOCTL_SET_OWNER, _FCNTL_SET_OWNER = (0x8901, 0x8902), (8, 10, 15)
"""`FIOSETOWN` and `SIOCSPGRP`; `F_SETOWN`, `F_SETSIG` and `F_SETOWN_EX`: they let the kernel
signal another process when a file or pipe is ready."""

_BPF_LOAD, _BPF_EQUAL, _BPF_GREATER, _BPF_BITS, _BPF_RETURN = 0x20, 0x15, 0x25, 0x45, 0x06
"""Operations of classic BPF; the jumps compare the loaded value with a constant."""
_NUMBER_OFFSET, _ARCHITECTURE_OFFSET, _ARGUMENTS_OFFSET = 0, 4, 16
_ALLOW, _FAIL = 0x7FFF0000, 0x00050000
_SET_MODE_FILTER, _SPEC_ALLOW = 1, 4
_SECCOMP_CALL = {"x86_64": 317, "aarch64": 277}

_Instruction = tuple[int, int, int, int]
"""Operation, instructions to skip if it is true and if it is false, constant."""


@cache
def libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)


def install_filter() -> None:
    """Deny those calls to the calling thread and its descendants, irrevocably.

    Requires `PR_SET_NO_NEW_PRIVS`. Does nothing except on Linux on x86-64 and ARM64, or where the
    kernel accepts no filter.
    """
    machine = platform.machine()
    if sys.platform != "linux" or machine not in _ARCHITECTURES:
        return
    steps = [struct.pack("=HBBI", *step) for step in _filter(*_ARCHITECTURES[machine])]
    code = ctypes.create_string_buffer(b"".join(steps))
    program = struct.pack("@HP", len(steps), ctypes.addressof(code))
    # Before 5.16 a filter enabled a slow mitigation for secrets, of which this process has none.
    libc().syscall(
        ctypes.c_long(_SECCOMP_CALL[machine]), ctypes.c_long(_SET_MODE_FILTER),
        ctypes.c_long(_SPEC_ALLOW), program,
    )  # fmt: skip


def _filter(architecture: int, column: int) -> Iterator[_Instruction]:
    unknown = (_BPF_RETURN, 0, 0, _FAIL | errno.ENOSYS)
    denied = (_BPF_RETURN, 0, 0, _FAIL | errno.EPERM)
    allowed = (_BPF_RETURN, 0, 0, _ALLOW)
    yield _BPF_LOAD, 0, 0, _ARCHITECTURE_OFFSET
    yield _BPF_EQUAL, 1, 0, architecture
    yield unknown
    yield _BPF_LOAD, 0, 0, _NUMBER_OFFSET
    yield _BPF_GREATER, 0, 1, _NEWEST_KNOWN
    yield unknown

    def deny_if(
        call: _CallNumbers, argument: int, tests: Iterable[tuple[int, int]]
    ) -> list[_Instruction]:
        """Deny a call if one test, an operation and a constant, is true for an argument."""
        steps: list[_Instruction] = [(_BPF_LOAD, 0, 0, _ARGUMENTS_OFFSET + 8 * argument)]
        for operation, constant in tests:
            steps += [(operation, 0, 1, constant), denied]
        return [(_BPF_EQUAL, 0, len(steps) + 1, call[column]), *steps, allowed]

    for numbers in _DENIED.values():
        if (number := numbers[column]) is not None:
            yield _BPF_EQUAL, 0, 1, number
            yield denied
    # A filter cannot read its flags, which are in memory: libraries fall back to `clone`.
    yield _BPF_EQUAL, 0, 1, _CLONE3[column]
    yield unknown
    yield from deny_if(_CLONE, 0, [(_BPF_BITS, _NEW_NAMESPACES)])
    requests = (*_TERMINAL_INPUT, *_IOCTL_SET_OWNER)
    yield from deny_if(_IOCTL, 1, [(_BPF_EQUAL, request) for request in requests])
    yield from deny_if(_FCNTL, 1, [(_BPF_EQUAL, command) for command in _FCNTL_SET_OWNER])
    for call in (_PRLIMIT, _SCHED_SETAFFINITY):  # only of this process, which is number 0
        yield from deny_if(call, 0, [(_BPF_GREATER, 0)])
    # Signals to ancestors; from Linux 6.12 on, Landlock covers more.
    ancestors = [(_BPF_EQUAL, process) for process in islice(_ancestors(), 50)]
    yield from deny_if(_KILL, 0, [(_BPF_BITS, 1 << 31), *ancestors])
    yield from deny_if(_TGKILL, 0, ancestors)
    yield allowed


def _ancestors() -> Iterator[int]:
    process = os.getppid()
    while process > 0:
        yield process
        try:
            stat = Path(f"/proc/{process}/stat").read_text()
        except OSError:
            return
        process = int(stat.rpartition(")")[2].split()[1])
