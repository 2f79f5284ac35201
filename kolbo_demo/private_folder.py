"""The data folder: other people's faces and voices, for its owner's eyes only."""

import contextlib
import os
import stat
from pathlib import Path

UMASK = 0o077
"""For commands that write data: what any library makes there is its owner's alone."""


def prepare(folder: Path) -> None:
    """Make a folder that only its owner can enter, or make an existing one so.

    Where it belongs to another user, or is plainly for more than this project (a home, the root of
    a disk, a folder such as /tmp), it stays as it is; so it does where it cannot be used, which
    whoever writes there reports.
    """
    with contextlib.suppress(OSError):
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if os.name != "posix":
            return
        found = folder.stat()
        shared = found.st_mode & stat.S_ISVTX or folder.is_mount()
        others = found.st_mode & UMASK
        if others and not shared and found.st_uid == os.getuid() and not _is_home(folder):
            folder.chmod(stat.S_IMODE(found.st_mode) & ~UMASK)


def _is_home(folder: Path) -> bool:
    try:
        return folder.samefile(Path.home())
    except (OSError, RuntimeError):  # there is none
        return False
