"""Giving a log another name, and having conmon open a new file under the old one.

conmon's reopen makes an empty file and renames it over the log: a second one would throw away what was written
after the first. So conmon is told again only when it is certain that it has not been told. (conmon: reopen_k8s_file)
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import stat
import struct
import termios
from collections.abc import Iterator
from pathlib import Path

from oarlock.node.logfiles import rotated

_ROOM_BYTES, _ROOM_INODES = 16 << 20, 16
_REOPEN = b"2 0 0\n"


def rotate(log: Path, bundle: Path) -> None:
    """Give `log` the next number, and let conmon open a new one.

    A failed reopen ends conmon, so room for the new file is checked first.

    Raises:
        FileNotFoundError: there is no such log, or no monitor any more.
        OSError: not rotated: no room (ENOSPC), nobody listens any more (ENXIO, EPIPE), conmon reads nothing (EAGAIN).
    """
    _check_room(log.parent)
    with _control(bundle) as fifo:
        older = put_aside(log)
        try:
            os.write(fifo, _REOPEN)
        except OSError:
            older.rename(log)  # conmon was not told: it goes on in this file
            raise


def put_aside(log: Path) -> Path:
    """Give `log` the next number; its new path. conmon goes on writing to it."""
    files = rotated(log)
    return log.rename(log.with_name(f"{log.name}.{files[-1].number + 1 if files else 1}"))


def reopen(log: Path, bundle: Path) -> None:
    """Where there is no `log`: tell conmon to open one, unless it has been told already.

    Raises:
        FileNotFoundError: there is no monitor any more.
        OSError: as `rotate`.
    """
    with _control(bundle) as fifo:
        if _unread(fifo) or not _writes_elsewhere(log, bundle):
            return
        log.parent.mkdir(parents=True, exist_ok=True)
        _check_room(log.parent)
        if not log.exists():
            os.write(fifo, _REOPEN)


@contextlib.contextmanager
def _control(bundle: Path) -> Iterator[int]:
    fifo = os.open(bundle / "ctl", os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOFOLLOW)
    try:
        yield fifo
    finally:
        os.close(fifo)


def _check_room(folder: Path) -> None:
    disk = os.statvfs(folder)
    if disk.f_bavail * disk.f_frsize < _ROOM_BYTES or (disk.f_files and disk.f_favail < _ROOM_INODES):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def _unread(fifo: int) -> int:
    """Bytes that conmon has not read yet."""
    (count,) = struct.unpack("i", fcntl.ioctl(fifo, termios.FIONREAD, b"\0\0\0\0"))
    return int(count)


def _writes_elsewhere(log: Path, bundle: Path) -> bool:
    """Whether conmon has the newest rotated file open, or one that was removed."""
    files = rotated(log)
    newest = None
    if files:
        facts = files[-1].path.stat()
        newest = facts.st_dev, facts.st_ino
    pid = int((bundle / "conmon.pid").read_text())
    for entry in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):
            facts = entry.stat()
            if stat.S_ISREG(facts.st_mode) and (facts.st_nlink == 0 or (facts.st_dev, facts.st_ino) == newest):
                return True
    return False
