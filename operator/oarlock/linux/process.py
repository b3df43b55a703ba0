"""Processes by pidfd: identity without pid reuse, their end without polling, their wait status."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import errno
import fcntl
import os
import select
import signal
import socket
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from oarlock.linux.procfs import facts, start_time, threads

_INFO = struct.Struct("QQ11Ii")  # struct pidfd_info, its first version (linux/pidfd.h)
_PIDFD_GET_INFO = (3 << 30) | (_INFO.size << 16) | (0xFF << 8) | 11
_PIDFD_INFO_EXIT = 1 << 3
_PIDFD_GETFD = 438
_libc = ctypes.CDLL(None, use_errno=True)
_KERNEL = tuple(int(part) for part in os.uname().release.split("-")[0].split(".")[:2])
_TELLS_STATUS = _KERNEL >= (6, 15)
_DEAD = select.EPOLLIN | select.EPOLLONESHOT


def uninterruptible(pid: int) -> str | None:
    """`pid 7 (tar, in nfs_wait)` of a process in uninterruptible sleep; None of any other."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(errors="replace")
        if stat.rpartition(")")[2].split()[0] != "D":
            return None
        where = Path(f"/proc/{pid}/wchan").read_text().strip("0\n")
    except (FileNotFoundError, ProcessLookupError, PermissionError):
        return None
    name = stat.partition("(")[2].rpartition(")")[0]
    return f"pid {pid} ({name}{f', in {where}' if where else ''})"


@dataclass(frozen=True, slots=True)
class Process:
    """A live process, held by its pidfd; `start` makes it the same one after a restart of the operator."""

    pid: int
    start: int
    fd: int

    def signal(self, number: int) -> bool:
        """Send a signal; False when the process has ended."""
        try:
            signal.pidfd_send_signal(self.fd, number)
        except ProcessLookupError:
            return False
        return True

    def wait_status(self) -> int | None:
        """The raw wait status of an ended process, where the kernel tells it (≥ 6.15)."""
        buffer = bytearray(_INFO.pack(_PIDFD_INFO_EXIT, *(0,) * 13))
        try:
            fcntl.ioctl(self.fd, _PIDFD_GET_INFO, buffer)
        except OSError:
            return None
        fields = _INFO.unpack(buffer)
        return fields[-1] if fields[0] & _PIDFD_INFO_EXIT else None

    def has_ended(self) -> bool:
        """Whether it is dead, reaped or not."""
        poll = select.poll()
        poll.register(self.fd, select.POLLIN)
        return bool(poll.poll(0))

    def is_dying(self) -> bool:
        """Whether it is on its way out (PF_EXITING) or will be (KILL is pending): to free its memory takes a while."""
        told = facts(self.pid)
        if told is None or (int(told[6]) & 0x4 and threads(told) <= 1):
            return True
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            lines = Path(f"/proc/{self.pid}/status").read_bytes().splitlines()
            pending = (int(line.split()[1], 16) for line in lines if line.startswith((b"SigPnd:", b"ShdPnd:")))
            return any(each >> (signal.SIGKILL - 1) & 1 for each in pending)
        return True

    def is_fork(self) -> bool:
        """Whether it was forked and has executed no program since (PF_FORKNOEXEC of linux/sched.h)."""
        told = facts(self.pid)
        return told is not None and bool(int(told[6]) & 0x40)

    def sockets(self) -> Iterator[socket.socket]:
        """Each of its sockets, held here too (pidfd_getfd(2), from Linux 5.6 on): what is done to it counts there."""
        folder = Path(f"/proc/{self.pid}/fd")
        with contextlib.suppress(FileNotFoundError):
            for name in os.listdir(folder):
                found = self._socket(folder / name)
                if found is not None:
                    with found:
                        yield found

    def _socket(self, link: Path) -> socket.socket | None:
        """The socket at this link below /proc/PID/fd; None when there is none, or the kernel does not let us."""
        with contextlib.suppress(FileNotFoundError):
            if os.readlink(link).startswith("socket:"):
                held = _libc.syscall(_PIDFD_GETFD, self.fd, int(link.name), 0)
                return socket.socket(fileno=held) if held >= 0 else None
        return None

    async def end(self) -> None:
        """Wait until it is dead, reaped or not."""
        loop, ended = asyncio.get_running_loop(), asyncio.Event()
        loop.add_reader(self.fd, ended.set)
        try:
            await ended.wait()
        finally:
            loop.remove_reader(self.fd)

    def close(self) -> None:
        """Let go of the pidfd."""
        os.close(self.fd)


def hold(pid: int, start: int | None = None) -> Process | None:
    """The process with this pid, and with this start time when one is given; None when it is not there."""
    try:
        fd = os.pidfd_open(pid)
    except OSError as error:
        if error.errno in (errno.ESRCH, errno.EINVAL):
            return None
        raise
    with contextlib.ExitStack() as undo:
        undo.callback(os.close, fd)
        found = start_time(pid)
        if found is None or (start is not None and found != start):
            return None
        undo.pop_all()
        return Process(pid, found, fd)


class Endings:
    """Calls back once for each watched process that ends.

    A pidfd is readable while its process is a zombie, when its status is not there yet; where the kernel tells that, it
    hangs up once the process is reaped. So the fds sit in an epoll of their own, which waits for the one and then for
    the other, and that epoll is what the event loop watches.
    """

    def __init__(self) -> None:
        self._epoll = select.epoll()
        self._callbacks: dict[int, Callable[[], None]] = {}
        self._deaths: dict[int, Callable[[], None]] = {}

    def attach(self, loop: asyncio.AbstractEventLoop) -> None:
        """Call back from this loop from now on."""
        loop.add_reader(self._epoll.fileno(), self._ready)

    def watch(self, process: Process, ended: Callable[[], None], dead: Callable[[], None] | None = None) -> None:
        """Call `ended` when the process has ended.

        Args:
            dead: given for a process whose status is wanted. Where the kernel tells it, `ended` is not called before it
                is there, and this is when the process is dead and nobody has asked for it yet.
        """
        self._callbacks[process.fd] = ended
        if dead is not None and _TELLS_STATUS:
            self._deaths[process.fd] = dead
        self._epoll.register(process.fd, _DEAD)

    def forget(self, process: Process) -> None:
        """No call for this process any more."""
        self._deaths.pop(process.fd, None)
        if self._callbacks.pop(process.fd, None) is not None:
            with contextlib.suppress(FileNotFoundError):
                self._epoll.unregister(process.fd)

    def _ready(self) -> None:
        for fd, events in self._epoll.poll(0, max(1, len(self._callbacks))):
            dead = self._deaths.pop(fd, None)
            if dead is not None and not events & select.EPOLLHUP:
                self._epoll.modify(fd, 0)  # the hang-up is always told
                dead()
                continue
            self._epoll.unregister(fd)
            if callback := self._callbacks.pop(fd, None):
                callback()
