"""Copies bytes between descriptors, each in its own time, until something has ended. One poll(2), no thread.

Nothing here blocks on a reader that is slow: what it does not take yet is kept, up to a limit, and then its source is
left alone.
"""

from __future__ import annotations

import errno
import os
import select
from collections.abc import Callable

_GONE = frozenset({errno.EPIPE, errno.EIO, errno.ECONNRESET, errno.EBADF})
_BLOCK = 1 << 16
_PIECE = 4096
"""What a descriptor that is ready to be written to takes without blocking (PIPE_BUF)."""


class Sink:
    """Where bytes go. Its descriptor is the caller's: it stays blocking, since others may share it."""

    def __init__(self, fd: int, write: Callable[[int, bytes], int] = os.write, piece: int = _PIECE) -> None:
        self.fd = fd
        self.pending = bytearray()
        self.broken = False
        self._write, self._piece = write, piece
        self._then: Callable[[], object] | None = None

    def push(self, data: bytes) -> None:
        """Write this when it can be; whoever does not read any more gets nothing."""
        if not self.broken:
            self.pending += data

    def finish(self, then: Callable[[], object]) -> None:
        """Do `then` once all is written."""
        self._then = then
        self._settle()

    def ready(self) -> None:
        """Write a piece.

        Raises:
            BrokenPipeError: nobody reads any more.
        """
        try:
            del self.pending[: self._write(self.fd, bytes(self.pending[: self._piece]))]
        except BlockingIOError:
            return
        except OSError as error:
            if error.errno not in _GONE:
                raise
            self.broken = True
            self.pending.clear()
            raise BrokenPipeError(error.errno, "nobody reads any more") from None
        finally:
            self._settle()

    def _settle(self) -> None:
        if self._then is not None and not self.pending:
            then, self._then = self._then, None
            then()


class Source:
    """Where bytes come from: read when there are some and when `sinks` have room.

    Args:
        take: is called with each block, and with b"" at the end.
    """

    def __init__(
        self,
        fd: int,
        take: Callable[[bytes], object],
        *sinks: Sink,
        limit: int = _BLOCK,
        read: Callable[[int, int], bytes] = os.read,
    ) -> None:
        self.fd, self._take, self._sinks, self._limit, self._read = fd, take, sinks, limit, read
        self.ended = False

    @property
    def wanted(self) -> bool:
        """Whether to read it now."""
        return not self.ended and all(len(sink.pending) < self._limit for sink in self._sinks)

    def ready(self) -> None:
        """Read a block. A terminal that nobody holds any more is at its end (EIO)."""
        try:
            block = self._read(self.fd, _BLOCK)
        except BlockingIOError:
            return
        except OSError as error:
            if error.errno not in _GONE:
                raise
            block = b""
        self.ended = not block
        self._take(block)

    def drain(self, limit: int) -> None:
        """Read what is there now, `limit` bytes at most, whether there is room or not."""
        for _ in range(limit // _BLOCK):
            if self.ended or not _readable(self.fd):
                return
            self.ready()


def _readable(fd: int) -> bool:
    poll = select.poll()
    poll.register(fd, select.POLLIN)
    return bool(poll.poll(0))


def relay(sources: list[Source], sinks: list[Sink], end: int | None, on_broken: Callable[[Sink], object]) -> None:
    """Copy until descriptor `end` is readable, or until no source is left to be read.

    Args:
        on_broken: is told of a sink that nobody reads any more.
    """
    while True:
        poll = select.poll()
        reading = {source.fd: source for source in sources if source.wanted}
        writing = {sink.fd: sink for sink in sinks if sink.pending}
        for fd in reading.keys() | writing.keys():
            poll.register(fd, (fd in reading and select.POLLIN) | (fd in writing and select.POLLOUT))
        if end is not None:
            poll.register(end, select.POLLIN)
        elif not writing and all(source.ended for source in sources):
            return
        ready = dict(poll.poll())
        if end in ready:
            return
        for fd, event in ready.items():
            if fd in writing and event & (select.POLLOUT | select.POLLERR | select.POLLHUP | select.POLLNVAL):
                try:
                    writing[fd].ready()
                except BrokenPipeError:
                    on_broken(writing[fd])
            if fd in reading and event & ~select.POLLOUT:
                reading[fd].ready()
