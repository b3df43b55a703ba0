"""Reading one file of the manifest directory, whatever it turns out to be.

Nothing but regular files is ever opened: a FIFO would block for ever, and opening a device acts.
"""

from __future__ import annotations

import errno
import fcntl
import os
import signal
import stat
from pathlib import Path

from oarlock.linux.clock import wall
from oarlock.sources.manifests.documents import LIMIT, Content, parse
from oarlock.sources.manifests.problems import Problem

YOUNG = 10.0
"""Seconds since its last change after which a file is no longer taken to be half written."""
SUFFIXES = (".yaml", ".yml", ".json")


class BeingWritten(Exception):
    """Somebody has the file open for writing; it is complete when they close it."""


def is_manifest(name: str) -> bool:
    """Whether a file of this name is read: not hidden, no editor's temporary file, one of `SUFFIXES`."""
    return name.endswith(SUFFIXES) and not name.startswith((".", "#", "~"))


def shown(name: str) -> str:
    """A file's name as it can be printed on one line."""
    return name if name.isprintable() else name.encode("unicode_escape").decode()


def read_file(path: str | os.PathLike[str]) -> Content:
    """The documents of the file at `path`; whatever is wrong with it is in the answer's problems.

    Raises:
        FileNotFoundError: there is no such file.
    """
    name = shown(os.path.basename(path))
    data = read_bytes(path)
    return Content(problems=(data,)) if isinstance(data, Problem) else parse(data or b"", name)


def read_bytes(path: str | os.PathLike[str], *, complete: bool = True) -> bytes | Problem | None:
    """The file's content, at most a byte more than `LIMIT`; or why it cannot be had.

    Args:
        complete: it is known that nobody is writing to the file; else it is asked for, and None
            returned when somebody is.

    Raises:
        FileNotFoundError: there is no such file, or it is a directory (a link that leads nowhere is a
            problem instead).
    """
    name = shown(os.path.basename(path))
    try:
        return _content(Path(path), complete)
    except IsADirectoryError:
        raise FileNotFoundError(errno.ENOENT, "a directory is no manifest", os.fspath(path)) from None
    except FileNotFoundError:
        if not os.path.islink(path):
            raise
        return Problem(name, "", f"a link to {shown(os.readlink(path))}, which does not exist")
    except BeingWritten:
        return None
    except _Irregular as irregular:
        return Problem(name, "", f"{irregular}, not a file; it is not opened")
    except OSError as error:
        return Problem(name, "", f"cannot be read: {error.strerror}")


class _Irregular(Exception):
    """Something else than a regular file."""


def _content(path: Path, complete: bool) -> bytes:
    """Raises OSError, _Irregular, BeingWritten."""
    place = os.open(path, os.O_PATH | os.O_CLOEXEC)
    try:
        mode = os.fstat(place).st_mode
        if stat.S_ISDIR(mode):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
        if not stat.S_ISREG(mode):
            raise _Irregular(_what(mode))
        with open(f"/proc/self/fd/{place}", "rb", buffering=0) as file:  # the very file just looked at
            if not complete and _is_young(file.fileno()) and _has_writers(file.fileno()):
                raise BeingWritten
            parts, left = [], LIMIT + 1
            while left > 0 and (part := file.read(left)):
                parts.append(part)
                left -= len(part)
            return b"".join(parts)
    finally:
        os.close(place)


def _is_young(fd: int) -> bool:
    """Whether the file changed lately; an older one is complete, whoever still has it open."""
    return abs(wall().timestamp() - os.fstat(fd).st_mtime) < YOUNG


def _has_writers(fd: int) -> bool:
    """Whether some process has the file open for writing: the kernel then grants no read lease."""
    try:
        # Should a writer come meanwhile, the kernel signals us; SIGIO, the default, would end the process.
        fcntl.fcntl(fd, fcntl.F_SETSIG, signal.SIGURG)
        fcntl.fcntl(fd, fcntl.F_SETLEASE, fcntl.F_RDLCK)
    except BlockingIOError:
        return True
    except OSError:  # a file system without leases, or another user's file: cannot be told
        return False
    fcntl.fcntl(fd, fcntl.F_SETLEASE, fcntl.F_UNLCK)
    return False


def _what(mode: int) -> str:
    kinds = {
        stat.S_IFIFO: "a FIFO",
        stat.S_IFSOCK: "a socket",
        stat.S_IFCHR: "a character device",
        stat.S_IFBLK: "a block device",
    }
    return kinds.get(stat.S_IFMT(mode), "something unknown")
