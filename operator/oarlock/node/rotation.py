"""Log rotation: told by inotify that a log grew, at most once a second; nothing while nobody writes.

conmon's own rotation loses lines, so the file is renamed and conmon told, through its control fifo, to open a new one.
Whatever happens to operator, conmon or files in between, the next look starts from what lies there.
"""

from __future__ import annotations

import asyncio
import errno
import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

from oarlock.errors import ConfigurationError
from oarlock.linux.inotify import Event, Inotify, Mask
from oarlock.node.compression import Compressor
from oarlock.node.logfiles import rotated
from oarlock.node.reopening import reopen, rotate
from oarlock.reconcile.engine import Engine
from oarlock.reconcile.node import Retention

logger = logging.getLogger(__name__)
_LONGEST, _SHORTEST = 1.0, 0.02
"""Bounds of the seconds between a growth and the look at it."""
_FIRST_ANSWER, _LAST_ANSWER = 1.0, 60.0
"""Seconds that conmon has to open a new file until it is looked at again, doubling."""
_RETRY = 10.0
"""Seconds after which a rotation is tried again that the disk refused."""


@dataclass(slots=True, eq=False)
class _Watched:
    """One log: what is to be kept of it, and how far it was at the last look (seconds of the loop, bytes).

    Attributes:
        answer: seconds that conmon has to open a new file from its last order on; `answer_by` is that moment.
        trouble: what went wrong at the last try, told once.
        timer: the next look, if it has a time.
    """

    kept: Retention
    seen_at: float = 0.0
    seen: int = 0
    answer: float = _FIRST_ANSWER
    answer_by: float = 0.0
    trouble: str = ""
    timer: asyncio.TimerHandle | None = None

    def pause(self, now: float, size: int) -> float:
        """Seconds to the next look: when half of what is left is written, at the present rate and within bounds."""
        rate = (size - self.seen) / max(now - self.seen_at, 0.001)
        self.seen_at, self.seen = now, size
        if size >= self.kept.max_size:
            return 0.0
        if rate <= 0:
            return _LONGEST
        return min(_LONGEST, max(_SHORTEST, (self.kept.max_size - size) / rate / 2))


class LogKeeper:
    """Watches the logs of running containers and rotates those that have grown too large."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._inotify = Inotify()
        self._compressor = Compressor()
        self._logs: dict[Path, _Watched] = {}
        self._waiting: dict[int, set[_Watched]] = {}
        self._loop: asyncio.AbstractEventLoop | None = None

    def __enter__(self) -> LogKeeper:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._inotify.close()
        self._compressor.close()

    def attach(self, loop: asyncio.AbstractEventLoop) -> None:
        """Be told in this loop."""
        self._loop = loop
        self._inotify.attach(loop, self._told)

    def watch_all(self) -> None:
        """Watch the log of every container that runs already."""
        for kept in self._engine.logs():
            self.watch(kept)

    def watch(self, kept: Retention) -> None:
        """Keep this log so, from now on; a log that is watched already is kept differently."""
        watched = self._logs.setdefault(kept.log, _Watched(kept))
        watched.kept = kept
        self._look(watched)
        self._tidy(watched)

    def _told(self, events: list[Event]) -> None:
        for event in events:
            if event.mask & Mask.Q_OVERFLOW:
                for watched in list(self._logs.values()):
                    self._look(watched)
            for watched in self._waiting.pop(event.wd, ()):
                if event.mask & Mask.MODIFY:
                    self._pause(watched)
                    self._later(_SHORTEST, self._measure, watched)
                else:
                    self._later(0.0, self._look, watched)

    def _measure(self, watched: _Watched) -> None:
        """A moment after a growth: how fast it is now, since before it there was silence of any length."""
        self._later(self._pause(watched), self._look, watched)

    def _pause(self, watched: _Watched) -> float:
        assert self._loop is not None
        try:
            return watched.pause(self._loop.time(), watched.kept.log.stat().st_size)
        except OSError:
            return 0.0

    def _later(self, seconds: float, step: Callable[[_Watched], None], watched: _Watched) -> None:
        assert self._loop is not None
        if watched.timer is not None:
            watched.timer.cancel()
        watched.timer = self._loop.call_later(seconds, step, watched)

    def _look(self, watched: _Watched) -> None:
        """Rotate the log if it is time, and wait for its next growth."""
        if watched.timer is not None:
            watched.timer.cancel()
            watched.timer = None
        assert self._loop is not None
        kept = watched.kept
        try:
            if kept.log.stat().st_size >= kept.max_size:
                rotate(kept.log, kept.bundle)
                watched.answer_by = self._loop.time() + watched.answer
                self._tidy(watched)
            self._wait_for_growth(watched)
        except FileNotFoundError:
            self._wait_for_file(watched)
        except (OSError, ConfigurationError) as error:
            self._trouble(watched, error)

    def _wait_for_growth(self, watched: _Watched) -> None:
        assert self._loop is not None
        log = watched.kept.log
        wd = self._inotify.add(log, Mask.MODIFY | Mask.ONESHOT)
        self._waiting.setdefault(wd, set()).add(watched)
        watched.seen_at, watched.seen = self._loop.time(), log.stat().st_size
        watched.answer, watched.trouble = _FIRST_ANSWER, ""

    def _wait_for_file(self, watched: _Watched) -> None:
        """conmon is opening a new file, or has to be told: an operator may have been killed before it could."""
        assert self._loop is not None
        log, now = watched.kept.log, self._loop.time()
        if log.exists() and not watched.kept.bundle.exists():
            self._logs.pop(log, None)  # the container has ended
            return
        try:
            if now >= watched.answer_by:
                if watched.answer > _FIRST_ANSWER:
                    logger.warning("log %s: its conmon has not opened a new file for %g s", log, watched.answer / 2)
                reopen(log, watched.kept.bundle)
                watched.answer_by = now + watched.answer
                watched.answer = min(2 * watched.answer, _LAST_ANSWER)
            wd = self._inotify.add(log.parent, Mask.MOVED_TO | Mask.ONESHOT)
        except FileNotFoundError:
            if now < watched.answer_by and watched.kept.bundle.exists():  # somebody removed the folder
                self._later(watched.answer_by - now, self._look, watched)
            else:
                self._logs.pop(log, None)  # the container has ended
            return
        except (OSError, ConfigurationError) as error:
            self._trouble(watched, error)
            return
        self._waiting.setdefault(wd, set()).add(watched)
        self._later(0.0 if log.exists() else watched.answer_by - now, self._look, watched)

    def _trouble(self, watched: _Watched, error: OSError | ConfigurationError) -> None:
        if isinstance(error, OSError) and error.errno in (errno.ENXIO, errno.EPIPE):
            self._logs.pop(watched.kept.log, None)  # conmon has ended: nobody writes any more
            return
        told = (error.strerror if isinstance(error, OSError) else None) or str(error)
        if told != watched.trouble:
            logger.warning("log %s could not be rotated: %s; tried again every %g s", watched.kept.log, told, _RETRY)
        watched.trouble = told
        self._later(_RETRY, self._look, watched)

    def _tidy(self, watched: _Watched) -> None:
        """Remove what is more than should be kept; compress all but the newest, which may still be followed."""
        kept = watched.kept
        files = rotated(kept.log)
        beyond = max(0, len(files) - (kept.max_files - 1))
        try:
            for each in files[:beyond]:
                each.remove()
        except OSError as error:
            logger.warning("log %s: an old file could not be removed: %s", kept.log, error)
        if kept.compress:
            for each in files[beyond:-1]:
                if not each.packed:
                    self._compressor.compress(each.path)
