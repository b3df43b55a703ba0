"""Log rotation: told by inotify that a log grew, at most once a second; nothing while nobody writes.

conmon's own rotation loses lines, so the file is renamed and conmon told, through its control fifo, to open a new one.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import os
from pathlib import Path
from types import TracebackType

from oarlock.linux.inotify import Event, Inotify, Mask
from oarlock.reconcile.engine import Engine
from oarlock.reconcile.node import Node

logger = logging.getLogger(__name__)
_PAUSE = 1.0
_ROOM = 16 << 20
_REOPEN = b"2 0 0\n"


class LogKeeper:
    """Watches the logs of running containers and rotates those that have grown too large."""

    def __init__(self, node: Node, engine: Engine) -> None:
        self._node, self._engine = node, engine
        self._inotify = Inotify()
        self._watched: dict[int, tuple[Path, Path, int, int]] = {}
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
        with contextlib.suppress(FileNotFoundError):
            wd = self._inotify.add(log, Mask.MODIFY | Mask.ONESHOT)
            self._watched[wd] = (log, bundle, size, count)
            if log.stat().st_size >= size and self._loop is not None:
                self._loop.call_later(_PAUSE, self._look, log, bundle, size, count)

    def _grown(self, events: list[Event]) -> None:
        for event in events:
            if event.mask & Mask.MODIFY and (watched := self._watched.pop(event.wd, None)):
                assert self._loop is not None
                self._loop.call_later(self._pause(watched), self._look, *watched)
            elif event.mask & Mask.IGNORED:
                self._watched.pop(event.wd, None)

    def _pause(self, watched: tuple[Path, Path, int, int]) -> float:
        """A log that is half full is looked at sooner."""
        with contextlib.suppress(FileNotFoundError):
            return _PAUSE if watched[0].stat().st_size < watched[2] // 2 else _PAUSE / 20
        return 0.0

    def _look(self, log: Path, bundle: Path, size: int, count: int) -> None:
        try:
            if log.stat().st_size >= size:
                rotate(log, bundle / "ctl", count)
        except FileNotFoundError:
            return
        except OSError as error:
            logger.warning("log %s could not be rotated: %s", log, error.strerror)
        with contextlib.suppress(FileNotFoundError):
            wd = self._inotify.add(log, Mask.MODIFY | Mask.ONESHOT)
            self._watched[wd] = (log, bundle, size, count)


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
