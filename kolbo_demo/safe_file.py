"""Access visitors' files without following links.

A path from outside may be a symbolic link, a device or a pipe, and may be replaced between check
and use. Each function therefore checks the file that it has opened or linked, not the path.
"""

import os
import stat
import uuid
from pathlib import Path

MAX_PATH_LENGTH = 4096
"""Characters; longer paths are refused."""
_CHUNK_BYTES = 1 << 20
_BY_DESCRIPTOR = os.open in os.supports_dir_fd and hasattr(os, "O_NOFOLLOW")
"""Whether folders can be opened by descriptor. On Windows they cannot."""


def _flags(*names: str) -> int:
    """Flags of `os.open`, without those that this system lacks."""
    return sum(getattr(os, f"O_{name}", 0) for name in ("NOFOLLOW", "CLOEXEC", "BINARY", *names))


_READ_FLAGS = _flags("RDONLY", "NONBLOCK", "NOCTTY")
_CREATE_FLAGS = _flags("WRONLY", "CREAT", "EXCL")


class UnsafeFileError(ValueError):
    """A path that leads out of its folder or is not a regular file."""


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


def read_regular_file(path: Path, limit: int) -> bytes:
    """Content of a file that another process may replace at any time.

    Raises `UnsafeFileError` for a link, for anything but a regular file, and for more than `limit`
    bytes; OSError.
    """
    descriptor = os.open(path, _READ_FLAGS)
    with os.fdopen(descriptor, "rb") as file:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise UnsafeFileError("This is no regular file.")
        content = file.read(limit + 1)
    if len(content) > limit:
        raise _too_large(limit)
    return content


def link_or_copy(source: Path, target: Path, limit: int) -> None:
    """Hard-link `source` to `target`, or copy it to another file system. Replaces `target`
    atomically.

    Raises `UnsafeFileError` for a link, for anything but a regular file, and for more than `limit`
    bytes; OSError.
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
        # Renaming one link of a file to another link of it leaves both.
        part.unlink(missing_ok=True)


def _split_path(path: str, folder: Path) -> tuple[tuple[str, ...], Path]:
    """The parts of `path` below `folder`, and `folder` resolved."""
    try:
        root = folder.resolve(strict=True)
        os.fsencode(path)
    except (OSError, RuntimeError, UnicodeError):  # a loop of links; a lone surrogate
        raise UnsafeFileError("There is no such file here; upload it again.") from None
    absolute = Path(path)
    bad = not path or "\0" in path or len(path) > MAX_PATH_LENGTH or ".." in absolute.parts
    if bad or not absolute.is_absolute():
        raise UnsafeFileError("This is no name of a file here; upload it again.")
    for base in (root, folder.absolute()):
        if absolute.is_relative_to(base) and absolute != base:
            names = absolute.relative_to(base).parts
            if os.name == "nt" and any(":" in name for name in names):  # NTFS streams
                break
            return names, root
    raise UnsafeFileError("This file is not one of this folder; upload it again.")


def _mode_by_descriptor(root: Path, names: tuple[str, ...]) -> int:
    """Mode of a file, by opening each folder on its path in turn."""
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
    """The same by paths, where folders cannot be opened."""
    mode = 0
    for depth in range(1, len(names) + 1):
        found = root.joinpath(*names[:depth]).lstat()
        if getattr(found, "st_reparse_tag", 0):  # also junctions, which `is_symlink` misses
            raise UnsafeFileError("This is no regular file; upload a file.")
        mode = found.st_mode
        if depth < len(names) and not stat.S_ISDIR(mode):
            raise NotADirectoryError
    return mode


def _hard_link(source: Path, part: Path) -> bool:
    """Hard-link `source`, without following a symbolic link. Returns whether that succeeded."""
    never_follows = os.link not in os.supports_follow_symlinks  # Windows
    try:
        if never_follows:
            os.link(source, part)
        else:
            os.link(source, part, follow_symlinks=False)
    except OSError:  # another file system, no support, or no such file
        return False
    return True


def _copy(source: Path, part: Path, limit: int) -> None:
    """Copy a regular file at its size when it was opened."""
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
            remaining = found.st_size
            while chunk := file.read(min(_CHUNK_BYTES, remaining + 1)):
                remaining -= len(chunk)
                if remaining < 0:  # it grows, or is generated like those of /proc
                    raise UnsafeFileError("This file changed while it was read; upload it again.")
                copy.write(chunk)


def _too_large(limit: int) -> UnsafeFileError:
    return UnsafeFileError(
        f"This file is larger than {limit / 2**20:.0f} MB; choose a smaller one."
    )
