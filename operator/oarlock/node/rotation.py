"""Log rotation: told by inotify that a log grew, at most once a second; nothing while nobody writes.

conmon's own rotation loses lines, so the file is renamed and conmon told, through its control fifo, to open a new one.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import os
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

from oarlock.linux.inotify import Event, Inotify, Mask
from oarlock.reconcile.engine import Engine
from oarlock.reconcile.node import Node

logger = logging.getLogger(__name__)
_LONGEST, _SHORTEST = 1.0, 0.02
_ROOM = 16 << 20
_REOPEN = b"2 0 0\n"


@dataclass(slots=True)
class _Watched:
    """One log: what it may grow to, and how far it was at the last look (seconds of the loop, bytes)."""

    log: Path
    bundle: Path
    size: int
    count: int
    seen_at: float
    seen: int

    def pause(self, now: float, size: int) -> float:
        """Seconds to the next look: when half of what is left is written, at the present rate and within bounds."""
        rate = (size - self.seen) / max(now - self.seen_at, 0.001)
        self.seen_at, self.seen = now, size
        if rate <= 0:
            return _LONGEST
        return min(_LONGEST, max(_SHORTEST, (self.size - size) / rate / 2))


class LogKeeper:
    """Watches the logs of running containers and rotates those that have grown too large."""

    def __init__(self, node: Node, engine: Engine) -> None:
        self._node, self._engine = node, engine
        self._inotify = Inotify()
        self._watched: dict[int, _Watched] = {}
        self._loop: asyncio.AbstractEventLoop | None = None

    def __enter__(self) -> LogKeeper:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._inotify.close()

    def attach(self, loop: asyncio.AbstractEventLoop) -> None:
        """Be told in this loop."""
        self._loop = loop
        self._inotify.attach(loop, self._grown)

    def watch_all(self) -> None:
        """Watch the log of every container that runs already."""
        for log, bundle, size, count in self._engine.logs():
            self.watch(log, bundle, size, count)

    def watch(self, log: Path, bundle: Path, size: int, count: int) -> None:
        """Keep `log` at `count` files of `size` bytes; `bundle` holds the monitor's control fifo."""
        assert self._loop is not None
        self._look(_Watched(log, bundle, size, count, self._loop.time(), 0))

    def _grown(self, events: list[Event]) -> None:
        assert self._loop is not None
        for event in events:
            watched = self._watched.pop(event.wd, None)
            if watched is None or not event.mask & Mask.MODIFY:
                continue
            with contextlib.suppress(FileNotFoundError):
                pause = watched.pause(self._loop.time(), watched.log.stat().st_size)
                self._loop.call_later(pause, self._look, watched)

    def _look(self, watched: _Watched) -> None:
        """Rotate the log if it is time, and wait for its next growth."""
        try:
            if watched.log.stat().st_size >= watched.size:
                rotate(watched.log, watched.bundle / "ctl", watched.count)
        except FileNotFoundError:
            pass
        except OSError as error:
            logger.warning("log %s could not be rotated: %s", watched.log, error.strerror)
        self._wait_for_growth(watched)

    def _wait_for_growth(self, watched: _Watched) -> None:
        """Be told once when the log grows; conmon may be about to open it, as long as its control fifo is there."""
        assert self._loop is not None
        try:
            wd = self._inotify.add(watched.log, Mask.MODIFY | Mask.ONESHOT)
            watched.seen_at, watched.seen = self._loop.time(), watched.log.stat().st_size
        except FileNotFoundError:
            if (watched.bundle / "ctl").exists():
                self._loop.call_later(_SHORTEST, self._wait_for_growth, watched)
            return
        self._watched[wd] = watched


def rotate(log: Path, control: Path, count: int) -> None:
    """Rename `log` to `.1` (older ones further), and let conmon open a new one.

    A failed reopen ends conmon, so room for the new file is checked first.

    Raises:
        OSError: not rotated: no room, or nobody listens any more.
    """
    room = os.statvfs(log.parent)
    if room.f_bavail * room.f_frsize < _ROOM or (room.f_files and room.f_favail < 16):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    fd = os.open(control, os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        for number in range(count - 1, 0, -1):
            older = log.with_name(f"{log.name}.{number}")
            newer = log.with_name(f"{log.name}.{number - 1}") if number > 1 else log
            with contextlib.suppress(FileNotFoundError):
                newer.rename(older)
        os.write(fd, _REOPEN)
    finally:
        os.close(fd)
