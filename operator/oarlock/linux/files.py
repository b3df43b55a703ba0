"""Files that must last: written whole or not at all."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

_PATH_MAX = 4096
"""Of linux/limits.h: with the NUL at the end."""


def unusable_name(program: str) -> str | None:
    """Why no kernel executes a program of this name; None when one may. (A runtime's words for it can fill a pipe that
    conmon does not read before the runtime has ended: neither would.)"""
    length = len(os.fsencode(program))
    return f'exec: "{program[:40]}…": file name too long, {length} bytes' if length >= _PATH_MAX else None


def write_atomic(path: Path, data: bytes, *, durable: bool) -> None:
    """Replace `path` with `data`, mode 0600.

    Args:
        durable: also survive a power loss (fsync of the file and of its folder, 0.7 ms on a quiet disk).

    Raises:
        OSError: nothing was changed.
    """
    temporary = path.with_name(f".{path.name}.new")
    fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        view = memoryview(data)
        while view:
            view = view[os.write(fd, view) :]
        if durable:
            os.fsync(fd)
    except OSError:
        os.unlink(temporary)
        raise
    finally:
        os.close(fd)
    os.rename(temporary, path)
    if durable:
        sync_folder(path.parent)


def is_locked(path: Path) -> bool:
    """Whether somebody holds an flock on a file; nobody does when there is none."""
    try:
        fd = os.open(path, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(fd)
    return False


def sync_folder(folder: Path) -> None:
    """Make renames and removals in a folder last."""
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
