"""Process trees: memory and CPU time from Linux's /proc, and commands that end with their caller.
Also used by tests."""

import contextlib
import os
import shutil
from pathlib import Path


def bound_to_caller(*command: str | Path) -> list[str | Path]:
    """The command, with a prefix by which Linux ends it (SIGTERM) with the calling thread.

    A test run that is killed leaves no server behind then.
    """
    setpriv = shutil.which("setpriv")
    return [setpriv, "--pdeathsig", "TERM", "--", *command] if setpriv else [*command]


def children(pid: int) -> list[int]:
    """Ids of the processes that one has started; none once it has ended."""
    try:
        tasks = list(Path(f"/proc/{pid}/task").iterdir())
        return [int(child) for task in tasks for child in (task / "children").read_text().split()]
    except OSError:
        return []


def process_tree(pid: int) -> list[int]:
    """Ids of a process and its descendants."""
    return [pid, *(each for child in children(pid) for each in process_tree(child))]


def command_line(pid: int) -> bytes:
    """Words of the command, each ended by NUL; empty once it has ended."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""


def memory_mb(pid: int) -> float:
    """Proportional set size of a process tree."""
    total = 0.0
    for each in process_tree(pid):
        with contextlib.suppress(OSError):  # it has just ended
            rollup = Path(f"/proc/{each}/smaps_rollup").read_text()
            kilobytes = next(line.split()[1] for line in rollup.splitlines() if "Pss:" in line)
            total += int(kilobytes) / 1024
    return total


def cpu_seconds(pid: int) -> float:
    """CPU time of a process tree, ended descendants included."""
    ticks = 0
    for each in process_tree(pid):
        with contextlib.suppress(OSError):  # it has just ended
            fields = Path(f"/proc/{each}/stat").read_text().rpartition(")")[2].split()
            ticks += sum(map(int, fields[11:15]))
    return ticks / os.sysconf("SC_CLK_TCK")
