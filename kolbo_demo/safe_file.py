"""Files of visitors on this machine, reached without following a link.

A name that comes from outside may be a symbolic link, a device or a pipe, and may be exchanged
between a check and its use. Each function therefore judges the file that it has opened or linked,
never a name.
"""

import os
import stat
import uuid
from pathlib import Path

MAX_PATH_LENGTH = 4096
"""Characters; longer names are refused before the operating system sees them."""
_CHUNK_BYTES = 1 << 20
_BY_DESCRIPTOR = os.open in os.supports_dir_fd and hasattr(os, "O_NOFOLLOW")
"""Whether folders can be walked by descriptor. Windows cannot."""
_READ_FLAGS = (
    os.O_RDONLY
    | getattr(os, "O_NOFOLLOW", 0)
    | getattr(os, "O_NONBLOCK", 0)
    | getattr(os, "O_NOCTTY", 0)
    | getattr(os, "O_CLOEXEC", 0)
    | getattr(os, "O_BINARY", 0)
)
_CREATE_FLAGS = (
    os.O_WRONLY
    | os.O_CREAT
    | os.O_EXCL
    | getattr(os, "O_NOFOLLOW", 0)
    | getattr(os, "O_CLOEXEC", 0)
    | getattr(os, "O_BINARY", 0)
)


class UnsafeFileError(ValueError):
    """A name that leads out of its folder, or to something that is no regular file."""


def resolve_regular_file(path: str | Path, folder: Path) -> Path:
    """The path of a regular file inside `folder`, with no symbolic link below `folder`.

    `folder` itself may be reached through links; the result names it resolved. Raises
    `UnsafeFileError`.
    """
    names, root = _split_path(os.fspath(path), folder)
    try:
        mode = _mode_by_descriptor(root, names) if _BY_DESCRIPTOR else _mode_by_path(root, names)
    except OSError:
        raise UnsafeFileError("There is no such file here; upload it again.") from None
    if not stat.S_ISREG(mode):
        raise UnsafeFileError("This is no regular file; upload a file.")
    return root.joinpath(*names)


def link_or_copy(source: Path, target: Path, limit: int) -> None:
    """Has the file `source` at `target` too: a hard link, or a copy on another file system.

    `target` is replaced, whole or not at all. Raises `UnsafeFileError` for a link, for what is no
    regular file, and for more than `limit` bytes; OSError where it cannot be read or written.
    """
    part = target.with_name(f".{uuid.uuid4().hex}.part")
    try:
        if not _hard_link(source, part):
            _copy(source, part, limit)
        found = os.lstat(part)
        if not stat.S_ISREG(found.st_mode):
            raise UnsafeFileError("This is no regular file; upload a file.")
        if found.st_size > limit:
            raise _too_large(limit)
        part.replace(target)
    finally:
        # Two names of one file stay two names when one is renamed to the other.
        part.unlink(missing_ok=True)


def _split_path(path: str, folder: Path) -> tuple[tuple[str, ...], Path]:
    """The names below the folder that lead to the file, and the folder, resolved."""
    try:
        root = folder.resolve(strict=True)
        os.fsencode(path)
    except (OSError, RuntimeError, UnicodeError):  # a loop of links; a lone surrogate
        raise UnsafeFileError("There is no such file here; upload it again.") from None
    given = Path(path)
    bad = not path or "\0" in path or len(path) > MAX_PATH_LENGTH or ".." in given.parts
    if bad or not given.is_absolute():
        raise UnsafeFileError("This is no name of a file here; upload it again.")
    for base in (root, folder.absolute()):
        if given.is_relative_to(base) and given != base:
            names = given.relative_to(base).parts
            if os.name == "nt" and any(":" in name for name in names):  # streams of a file
                break
            return names, root
    raise UnsafeFileError("This file is not one of this folder; upload it again.")


def _mode_by_descriptor(root: Path, names: tuple[str, ...]) -> int:
    """The mode of a file that is reached by opening one folder after the other."""
    flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
    here = os.open(root, flags)
    try:
        for name in names[:-1]:
            below = os.open(name, flags, dir_fd=here)
            os.close(here)
            here = below
        file = os.open(names[-1], _READ_FLAGS, dir_fd=here)
        try:
            return os.fstat(file).st_mode
        finally:
            os.close(file)
    finally:
        os.close(here)


def _mode_by_path(root: Path, names: tuple[str, ...]) -> int:
    """The same by names, where folders cannot be opened."""
    mode = 0
    for depth in range(1, len(names) + 1):
        found = root.joinpath(*names[:depth]).lstat()
        if getattr(found, "st_reparse_tag", 0):  # junctions too, which are no symbolic links
            raise UnsafeFileError("This is no regular file; upload a file.")
        mode = found.st_mode
        if depth < len(names) and not stat.S_ISDIR(mode):
            raise NotADirectoryError
    return mode


def _hard_link(source: Path, part: Path) -> bool:
    """A hard link to whatever `source` names, a symbolic link too; whether there could be one."""
    plain = os.link not in os.supports_follow_symlinks  # as on Windows, which never follows
    try:
        if plain:
            os.link(source, part)
        else:
            os.link(source, part, follow_symlinks=False)
    except OSError:  # another file system, no links on this one, or nothing there
        return False
    return True


def _copy(source: Path, part: Path, limit: int) -> None:
    """The bytes of a regular file, as many as it had when it was opened."""
    before = os.lstat(source)
    if not stat.S_ISREG(before.st_mode):
        raise UnsafeFileError("This is no regular file; upload a file.")
    reader = os.open(source, _READ_FLAGS)
    with os.fdopen(reader, "rb") as file:
        found = os.fstat(reader)
        if not (stat.S_ISREG(found.st_mode) and os.path.samestat(before, found)):
            raise UnsafeFileError("This file changed while it was opened; upload it again.")
        if found.st_size > limit:
            raise _too_large(limit)
        with os.fdopen(os.open(part, _CREATE_FLAGS, 0o600), "wb") as copy:
            left = found.st_size
            while piece := file.read(min(_CHUNK_BYTES, left + 1)):
                left -= len(piece)
                if left < 0:  # it grows, or is made up as it is read, as those of /proc are
                    raise UnsafeFileError("This file changed while it was read; upload it again.")
                copy.write(piece)


def _too_large(limit: int) -> UnsafeFileError:
    return UnsafeFileError(
        f"This file is larger than {limit / 2**20:.0f} MB; choose a smaller one."
    )
