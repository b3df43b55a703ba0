"""Processes by pidfd: identity without pid reuse, their end without polling, their wait status."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import fcntl
import os
import select
import struct
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

_INFO = struct.Struct("QQ11Ii")  # struct pidfd_info, its first version (linux/pidfd.h)
_PIDFD_GET_INFO = (3 << 30) | (_INFO.size << 16) | (0xFF << 8) | 11
_PIDFD_INFO_EXIT = 1 << 3
_KERNEL = tuple(int(part) for part in os.uname().release.split("-")[0].split(".")[:2])
_TELLS_STATUS = _KERNEL >= (6, 15)
_DEAD = select.EPOLLIN | select.EPOLLONESHOT


def boot_id() -> str:
    """The id of this boot: what was recorded under another one does not run any more."""
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()


def facts(pid: int) -> list[bytes] | None:
    """The fields of /proc/pid/stat from the third on, which is the state (proc(5)); None when the process is gone.

    The second is a name that the process gives to itself: any bytes, brackets and spaces too.
    """
    try:
        return Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return None


def parent(pid: int) -> int | None:
    """The pid of the process's parent; None when it is gone."""
    told = facts(pid)
    if told is None:
        return None
    found = int(told[1])
    return found if found or os.path.exists(f"/proc/{pid}") else None  # 0 also of one reaped while it was read


def has_ended(pid: int) -> bool:
    """Whether the process is dead, reaped or not."""
    told = facts(pid)
    return told is None or told[0] in (b"Z", b"X")


def start_time(pid: int) -> int | None:
    """When the process started, in clock ticks since boot; None when it is gone."""
    told = facts(pid)
    return None if told is None else int(told[19])


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
        import signal

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

    def is_fork(self) -> bool:
        """Whether it was forked and has executed no program since (PF_FORKNOEXEC of linux/sched.h)."""
        told = facts(self.pid)
        return told is not None and bool(int(told[6]) & 0x40)

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

    A pidfd is readable while its process is a zombie, when its status is not there yet; it hangs up once
    the process is reaped. So the fds sit in an epoll of their own, which waits for the hang-up alone where
    the kernel has it, and that epoll is what the event loop watches.
    """

    def __init__(self) -> None:
        self._epoll = select.epoll()
        self._callbacks: dict[int, Callable[[], None]] = {}
        self._mask = 0 if _TELLS_STATUS else _DEAD

    def attach(self, loop: asyncio.AbstractEventLoop) -> None:
        """Call back from this loop from now on."""
        loop.add_reader(self._epoll.fileno(), self._ready)

    def watch(self, process: Process, ended: Callable[[], None], *, reaped: bool = True) -> None:
        """Call `ended` when the process has ended and, where the kernel then tells its status, is `reaped`."""
        self._callbacks[process.fd] = ended
        self._epoll.register(process.fd, self._mask if reaped else _DEAD)

    def forget(self, process: Process) -> None:
        """No call for this process any more."""
        if self._callbacks.pop(process.fd, None) is not None:
            with contextlib.suppress(FileNotFoundError):
                self._epoll.unregister(process.fd)

    def _ready(self) -> None:
        for fd, _ in self._epoll.poll(0, max(1, len(self._callbacks))):
            self._epoll.unregister(fd)
            if callback := self._callbacks.pop(fd, None):
                callback()
