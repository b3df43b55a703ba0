"""Removing a tree that somebody hostile may have filled.

`shutil.rmtree` keeps one descriptor and one Python frame for each level of a tree; a container can make
a tree of 100,000 levels in a second. This one needs a handful of descriptors whatever the tree,
follows no link, leaves no mount point's content touched, and takes away what makes a file immutable.
What somebody puts into the tree meanwhile goes too: an `oarlock exec` may make its folder in a bundle that is going.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import stat
import struct
from collections.abc import Callable
from functools import partial
from pathlib import Path

from oarlock.linux import openat

_DEEPEST = 32
_TRIES = 10
_FS_IOC_GETFLAGS, _FS_IOC_SETFLAGS = 0x80086601, 0x40086602
_IMMUTABLE, _APPEND_ONLY = 0x10, 0x20


def remove_tree(top: Path) -> None:
    """Remove the directory `top` and all in it; fine when it does not exist.

    Raises:
        OSError: something cannot be removed (EXDEV: a filesystem is mounted in it); the rest may be gone.
    """
    for tries_left in reversed(range(_TRIES)):
        try:
            return _remove(top)
        except OSError as error:
            if error.errno != errno.ENOTEMPTY or not tries_left:
                raise


def _remove(top: Path) -> None:
    try:
        parent = os.open(top.parent, os.O_RDONLY | os.O_DIRECTORY)
    except (FileNotFoundError, NotADirectoryError):
        return
    try:
        try:
            fd = _open_directory(top.name, parent)
        except FileNotFoundError:
            return
        except NotADirectoryError:
            os.unlink(top.name, dir_fd=parent)
            return
        try:
            while _empty(fd, fd, 0):
                pass
        finally:
            os.close(fd)
        _insist(partial(os.rmdir, top.name, dir_fd=parent), top.name, parent)
    finally:
        os.close(parent)


def _empty(directory: int, top: int, depth: int) -> bool:
    """Empty `directory`. Subtrees deeper than a limit are moved up to `top`: true when there were any."""
    with os.scandir(directory) as listing:
        entries = [(entry.name, entry.is_dir(follow_symlinks=False)) for entry in listing]
    moved = False
    for name, is_directory in entries:
        if not is_directory:
            _insist(partial(os.unlink, name, dir_fd=directory), name, directory)
        elif depth >= _DEEPEST:
            _insist(partial(_move_up, name, directory, top), name, directory)
            moved = True
        else:
            try:
                fd = _open_directory(name, directory)
            except FileNotFoundError:  # somebody else removed it meanwhile
                continue
            try:
                moved |= _empty(fd, top, depth + 1)
            finally:
                os.close(fd)
            _insist(partial(os.rmdir, name, dir_fd=directory), name, directory)
    return moved


def _move_up(name: str, directory: int, top: int) -> None:
    os.rename(name, f"deep-{os.urandom(8).hex()}", src_dir_fd=directory, dst_dir_fd=top)


def _open_directory(name: str, directory: int) -> int:
    flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW
    try:
        return openat.openat2(name, flags, resolve=openat.NO_XDEV | openat.NO_SYMLINKS, dir_fd=directory)
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise NotADirectoryError(error.errno, error.strerror, name) from None
        if error.errno != errno.ENOSYS:
            raise
    return os.open(name, flags | os.O_CLOEXEC, dir_fd=directory)


def _insist(step: Callable[[], None], name: str, directory: int) -> None:
    """Do `step`; when the kernel forbids it, clear the immutable and append-only flags and try again."""
    try:
        step()
    except FileNotFoundError:
        return
    except PermissionError:
        _make_mutable(directory)
        kind = os.stat(name, dir_fd=directory, follow_symlinks=False).st_mode
        if stat.S_ISREG(kind) or stat.S_ISDIR(kind):
            fd = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=directory)
            try:
                _make_mutable(fd)
            finally:
                os.close(fd)
        step()


def _make_mutable(fd: int) -> None:
    with contextlib.suppress(OSError):  # a filesystem without such flags; the next try tells
        (flags,) = struct.unpack("l", fcntl.ioctl(fd, _FS_IOC_GETFLAGS, struct.pack("l", 0)))
        if flags & (_IMMUTABLE | _APPEND_ONLY):
            fcntl.ioctl(fd, _FS_IOC_SETFLAGS, struct.pack("l", flags & ~(_IMMUTABLE | _APPEND_ONLY)))
