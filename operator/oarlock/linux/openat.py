"""openat2(2): opening a path without letting it lead out of where it should stay.

A container's root filesystem holds whatever its author put there: symbolic links to /etc/shadow,
FIFOs, devices. Whoever reads a file in it names here how far the path may lead.
"""

from __future__ import annotations

import ctypes
import errno
import os
import stat

NO_XDEV = 0x01
"""Do not cross a mount point."""
NO_MAGICLINKS = 0x02
"""Do not follow links such as /proc/<pid>/root."""
NO_SYMLINKS = 0x04
BENEATH = 0x08
IN_ROOT = 0x10
"""Treat the directory as `/`, for `..` and for absolute links too."""

_SYS_OPENAT2 = 437  # the same number on every architecture
_libc = ctypes.CDLL(None, use_errno=True)


class _OpenHow(ctypes.Structure):
    _fields_ = (("flags", ctypes.c_uint64), ("mode", ctypes.c_uint64), ("resolve", ctypes.c_uint64))


def openat2(path: str | os.PathLike[str], flags: int, *, resolve: int, dir_fd: int = -100) -> int:
    """Open `path` seen from `dir_fd`, under the rules `resolve`; the new descriptor closes on exec.

    Raises:
        OSError: as open(2); ELOOP or EXDEV when the path leads where `resolve` forbids.
    """
    how = _OpenHow(flags | os.O_CLOEXEC, 0, resolve)
    name = os.fsencode(path)
    while True:
        fd = _libc.syscall(_SYS_OPENAT2, dir_fd, name, ctypes.byref(how), ctypes.sizeof(how))
        if fd >= 0:
            return int(fd)
        code = ctypes.get_errno()
        if code not in (errno.EINTR, errno.EAGAIN):  # EAGAIN: a rename raced with `..`
            raise OSError(code, os.strerror(code), os.fspath(path))


def read_inside(root: int, path: str, limit: int) -> bytes | None:
    """The content of the regular file `path` inside the tree `root` (a descriptor of its top).

    Returns:
        None when there is no such file.

    Raises:
        ValueError: it is longer than `limit` bytes, or not a regular file (a FIFO would block for ever).
        OSError: it cannot be read.
    """
    try:
        place = openat2(path.lstrip("/"), os.O_PATH, resolve=IN_ROOT | NO_MAGICLINKS, dir_fd=root)
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ENAMETOOLONG):
            return None
        raise
    try:
        if not stat.S_ISREG(os.fstat(place).st_mode):  # known before it is opened: opening a device acts
            raise ValueError(f"{path} is no regular file")
        with open(f"/proc/self/fd/{place}", "rb") as file:
            content = file.read(limit + 1)
    finally:
        os.close(place)
    if len(content) > limit:
        raise ValueError(f"{path} is longer than {limit} bytes")
    return content
