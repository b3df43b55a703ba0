"""The person's terminal: its size, and its raw mode, which always ends."""

from __future__ import annotations

import contextlib
import fcntl
import os
import struct
import termios
import tty
from collections.abc import Iterator

_SIZE = struct.Struct("HHHH")  # struct winsize


def size(*descriptors: int) -> tuple[int, int] | None:
    """Rows and columns of the first descriptor that is a terminal; None when there is none, or none that knows."""
    for fd in descriptors:
        with contextlib.suppress(OSError):
            rows, columns, _, _ = _SIZE.unpack(fcntl.ioctl(fd, termios.TIOCGWINSZ, bytes(_SIZE.size)))
            if rows and columns:
                return rows, columns
    return None


def set_size(fd: int, rows: int, columns: int) -> None:
    """Tell a terminal, and thereby whoever runs in it, its size; fine when it is gone."""
    with contextlib.suppress(OSError):
        fcntl.ioctl(fd, termios.TIOCSWINSZ, _SIZE.pack(rows, columns, 0, 0))


@contextlib.contextmanager
def raw(fd: int) -> Iterator[None]:
    """A terminal that hands on every key as it is, Ctrl-C too; afterwards as it was before, whatever happened."""
    before = termios.tcgetattr(fd)
    try:
        tty.setraw(fd, termios.TCSADRAIN)  # what was typed already is not thrown away
        yield
    finally:
        with contextlib.suppress(termios.error):  # it was closed meanwhile
            termios.tcsetattr(fd, termios.TCSADRAIN, before)


def is_ours(fd: int) -> bool:
    """Whether this process is in the terminal's foreground: it is not another's to change."""
    try:
        return os.tcgetpgrp(fd) == os.getpgrp()
    except OSError:  # nobody's: it is not the one that controls this session
        return True


def is_terminal(fd: int) -> bool:
    """Whether a descriptor is a terminal; one that is closed is none."""
    try:
        return os.isatty(fd)
    except OSError:
        return False
