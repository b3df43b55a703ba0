"""inotify(7): being told what happens in directories, by one instance with any number of watches.

In an event loop `attach` calls back for each event; without one, `wait` and `read` do. Nothing here
interprets events: what a lost queue (`Mask.Q_OVERFLOW`) means is known only to whoever watches.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import enum
import errno
import os
import select
import struct
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from types import TracebackType

from oarlock.errors import ConfigurationError

_libc = ctypes.CDLL(None, use_errno=True)
_libc.inotify_add_watch.argtypes = (ctypes.c_int, ctypes.c_char_p, ctypes.c_uint32)

_HEADER = struct.Struct("iIII")  # struct inotify_event: wd, mask, cookie, len
_BUFFER = 64 * 1024


class Mask(enum.IntFlag):
    """What to watch for, and what an event says (linux/inotify.h)."""

    ACCESS = 0x1
    MODIFY = 0x2
    ATTRIB = 0x4
    CLOSE_WRITE = 0x8
    CLOSE_NOWRITE = 0x10
    OPEN = 0x20
    MOVED_FROM = 0x40
    MOVED_TO = 0x80
    CREATE = 0x100
    DELETE = 0x200
    DELETE_SELF = 0x400
    MOVE_SELF = 0x800

    UNMOUNT = 0x2000
    """Event: the file system of the watched path was unmounted; the watch is gone."""
    Q_OVERFLOW = 0x4000
    """Event with wd −1: events were lost, in any of the watches; look at everything anew."""
    IGNORED = 0x8000
    """Event: the watch is gone (removed, or what it watched is gone)."""

    ONLYDIR = 0x1000000
    DONT_FOLLOW = 0x2000000
    EXCL_UNLINK = 0x4000000
    MASK_ADD = 0x20000000
    ISDIR = 0x40000000
    ONESHOT = 0x80000000


@dataclass(frozen=True, slots=True)
class Event:
    """One thing that happened.

    Attributes:
        wd: the watch it belongs to, as `add` returned it; −1 for `Mask.Q_OVERFLOW`.
        mask: what happened.
        cookie: the same for the two halves (MOVED_FROM, MOVED_TO) of one rename, else 0.
        name: the entry of the watched directory, "" for the directory or file itself.
    """

    wd: int
    mask: Mask
    cookie: int
    name: str


class Inotify:
    """One inotify instance. A context manager; `close` ends all its watches.

    Raises:
        ConfigurationError: the user has no instance (or the process no descriptor) left.
    """

    def __init__(self) -> None:
        self._loop: asyncio.AbstractEventLoop | None = None
        self._fd: int = _libc.inotify_init1(os.O_CLOEXEC | os.O_NONBLOCK)
        if self._fd < 0:
            raise _told(ctypes.get_errno(), "inotify")

    def __enter__(self) -> Inotify:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End all watches; idempotent."""
        self.detach()
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def fileno(self) -> int:
        """The descriptor, for select and poll: readable while there are events."""
        return self._fd

    def add(self, path: str | os.PathLike[str], mask: Mask) -> int:
        """Watch `path` and return the watch descriptor; the same path again changes its mask (same wd).

        Raises:
            ConfigurationError: the user has no watch left.
            OSError: as inotify_add_watch(2): no such path, not a directory under ONLYDIR, …
        """
        wd: int = _libc.inotify_add_watch(self._fd, os.fsencode(path), mask)
        if wd < 0:
            raise _told(ctypes.get_errno(), os.fspath(path))
        return wd

    def remove(self, wd: int) -> None:
        """End one watch; an `IGNORED` event follows. Fine when the watch is gone already."""
        if _libc.inotify_rm_watch(self._fd, wd) < 0 and ctypes.get_errno() != errno.EINVAL:
            code = ctypes.get_errno()
            raise OSError(code, os.strerror(code), f"watch {wd}")

    def read(self) -> list[Event]:
        """All events that are there, oldest first; empty when there are none. Never blocks."""
        events: list[Event] = []
        while True:
            try:
                data = os.read(self._fd, _BUFFER)
            except BlockingIOError:
                return events
            events += parse(data)
            if len(data) < _BUFFER // 2:  # the queue was emptied: saves a read that says so
                return events

    def wait(self, timeout: float | None = None) -> list[Event]:
        """As `read`, waiting up to `timeout` seconds (None: for ever) for the first event."""
        poll = select.poll()
        poll.register(self._fd, select.POLLIN)
        poll.poll(None if timeout is None else max(0, round(timeout * 1000)))
        return self.read()

    def attach(self, loop: asyncio.AbstractEventLoop, callback: Callable[[list[Event]], None]) -> None:
        """Call `callback` in `loop` with each batch of events, until `detach` or `close`."""
        self.detach()

        def readable() -> None:
            if events := self.read():
                callback(events)

        loop.add_reader(self._fd, readable)
        self._loop = loop

    def detach(self) -> None:
        """Stop calling back; events queue up in the kernel again. Idempotent."""
        if self._loop is not None:
            self._loop.remove_reader(self._fd)
            self._loop = None

    async def events(self) -> AsyncIterator[Event]:
        """Every event, for ever, in the running loop. One such iteration (or `attach`) at a time."""
        batches: asyncio.Queue[list[Event]] = asyncio.Queue()
        self.attach(asyncio.get_running_loop(), batches.put_nowait)
        with contextlib.ExitStack() as stack:
            stack.callback(self.detach)
            while True:
                for event in await batches.get():
                    yield event


def parse(data: bytes) -> list[Event]:
    """The events in what read(2) returned: each a header, then its name padded with NULs."""
    events: list[Event] = []
    offset = 0
    while offset < len(data):
        wd, mask, cookie, length = _HEADER.unpack_from(data, offset)
        offset += _HEADER.size
        name = data[offset : offset + length].split(b"\0", 1)[0]
        offset += length
        events.append(Event(wd, Mask(mask), cookie, os.fsdecode(name)))
    return events


def _told(code: int, path: str) -> OSError | ConfigurationError:
    """The error for `code`; an exhausted limit is the administrator's to raise, so it says which."""
    match code:
        case errno.ENOSPC:
            raised = "raise fs.inotify.max_user_watches: sysctl fs.inotify.max_user_watches=65536"
            return ConfigurationError(f"{path}: no inotify watch left; {raised}")
        case errno.EMFILE:
            raised = "raise fs.inotify.max_user_instances: sysctl fs.inotify.max_user_instances=8192"
            return ConfigurationError(
                f"{path}: no inotify instance left; {raised} (or this process's limit of open files)"
            )
        case _:
            return OSError(code, os.strerror(code), path)
