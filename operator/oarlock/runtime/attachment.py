"""A client of conmon's attach socket: a container's own input and output, beside its log.

conmon listens in the bundle (`attach`, a seqpacket socket) and takes any number of clients. What it sends begins with a
byte that names the stream; what it is sent goes to the container's standard input. Sizes of the terminal go through the
fifo `ctl`. The paths may be of any length: the folder is held open, and named as /proc/self/fd/N.
"""

from __future__ import annotations

import array
import fcntl
import os
import socket
import termios
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType

from oarlock.errors import RuntimeFailure

STDOUT, STDERR = 2, 3
PACKET = 8192
"""conmon sends this much at a time, and the byte before it (conmon: `STDIO_BUF_SIZE`); it takes 32,767."""


class Attachment:
    """One client. A context manager; leaving it detaches, and the container goes on."""

    def __init__(self, bundle: Path) -> None:
        """Connect.

        Raises:
            RuntimeFailure: nobody listens: the container has ended, or its conmon.
        """
        self._size_due: tuple[int, int] | None = None
        with ExitStack() as held:
            self._socket = held.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET))
            try:
                self._folder = os.open(bundle, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
                held.callback(os.close, self._folder)
                self._socket.connect(f"/proc/self/fd/{self._folder}/attach")
            except (FileNotFoundError, ConnectionRefusedError):
                raise RuntimeFailure("nobody listens at its attach socket: it has just ended, or its conmon") from None
            self._held = held.pop_all()

    def __enter__(self) -> Attachment:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._held.close()

    def fileno(self) -> int:
        """The descriptor, for poll: readable when there is output, or when conmon has ended."""
        return self._socket.fileno()

    def read(self) -> bytes:
        """The next packet: a byte STDOUT or STDERR, then what was written; b"" when conmon has ended."""
        if self._size_due is not None:  # conmon goes on, so it may have taken the last size
            self.resize(*self._size_due)
        try:
            return self._socket.recv(PACKET + 1)
        except ConnectionResetError:
            return b""

    def send(self, data: bytes) -> int:
        """Give the container an input of PACKET bytes at most; how many were taken.

        Raises:
            BlockingIOError: conmon takes none now.
            BrokenPipeError: it takes none any more.
        """
        return self._socket.send(data, socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL)

    def end_input(self) -> None:
        """Say that no more input comes from here. With stdinOnce it is then at its end for the container too."""
        self._socket.shutdown(socket.SHUT_WR)

    def resize(self, rows: int, columns: int) -> None:
        """Tell the container's terminal its size.

        conmon 2.1 takes the first of two messages that it reads at once for both, so each is written to an empty fifo
        alone. Where it is not empty, the size is told with the next output.
        """
        self._size_due = (rows, columns)
        try:
            fd = os.open("ctl", os.O_WRONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=self._folder)
        except OSError:  # conmon ends just now
            return
        try:
            waiting = array.array("i", [0])
            fcntl.ioctl(fd, termios.FIONREAD, waiting)
            if not waiting[0]:
                os.write(fd, f"1 {rows} {columns}\n".encode())
                self._size_due = None
        finally:
            os.close(fd)
