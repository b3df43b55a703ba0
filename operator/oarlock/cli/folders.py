"""Waiting for changes in folders, with a deadline and, beside them, for the end of a process."""

from __future__ import annotations

import math
import os
import select
import time
from pathlib import Path
from types import TracebackType

from oarlock.linux.inotify import Inotify, Mask

CHANGES = Mask.MODIFY | Mask.CLOSE_WRITE | Mask.MOVED_FROM | Mask.MOVED_TO | Mask.CREATE | Mask.DELETE


class Folders:
    """The folders that are watched. A context manager.

    Raises:
        ConfigurationError: no inotify instance or watch is left; says which limit to raise.
    """

    def __init__(self) -> None:
        self._inotify = Inotify()
        self._process: int | None = None

    def __enter__(self) -> Folders:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._inotify.close()
        self._forget_process()

    def add(self, folder: Path) -> bool:
        """Watch a folder; False when it does not exist (yet). Watching it twice is fine."""
        try:
            self._inotify.add(folder, CHANGES | Mask.ONLYDIR)
        except (FileNotFoundError, NotADirectoryError):
            return False
        return True

    def process(self, pid: int | None) -> None:
        """Also wake when this process ends, if it can be watched (it may be in another pid namespace)."""
        self._forget_process()
        if pid is not None:
            try:
                self._process = os.pidfd_open(pid)
            except OSError:
                self._process = None

    def wait(self, deadline: float | None = None) -> bool:
        """Wait for a change since the last wait; False when the deadline (time.monotonic) passed without one.

        The end of the process counts as a change, once.
        """
        poll = select.poll()
        poll.register(self._inotify.fileno(), select.POLLIN)
        if self._process is not None:
            poll.register(self._process, select.POLLIN)
        left = None if deadline is None else math.ceil(max(0.0, deadline - time.monotonic()) * 1000)
        ready = dict(poll.poll(left))
        if self._process in ready:
            self._forget_process()
        self._inotify.read()
        return bool(ready)

    def _forget_process(self) -> None:
        if self._process is not None:
            os.close(self._process)
            self._process = None
