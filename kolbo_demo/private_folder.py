"""File modes of the data folder, which holds visitors' faces and voices."""

import contextlib
import os
import stat
from pathlib import Path

UMASK = 0o077
"""For commands that write data, so that files of libraries are private too."""


def create(folder: Path) -> None:
    """Create a folder with mode 0700, or restrict an existing one to it. Raises OSError.

    Another user's folder, a home, a mount point and a sticky folder such as /tmp retain their mode.
    """
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    if os.name != "posix":
        return
    with contextlib.suppress(OSError):
        found = folder.stat()
        shared = found.st_mode & stat.S_ISVTX or folder.is_mount()
        others = found.st_mode & UMASK
        if others and not shared and found.st_uid == os.getuid() and not _is_home(folder):
            folder.chmod(stat.S_IMODE(found.st_mode) & ~UMASK)


def try_create(folder: Path) -> None:
    """`create`, but ignore errors: the first write reports them."""
    with contextlib.suppress(OSError):
        create(folder)


def _is_home(folder: Path) -> bool:
    try:
        return folder.samefile(Path.home())
    except (OSError, RuntimeError):  # no home
        return False
