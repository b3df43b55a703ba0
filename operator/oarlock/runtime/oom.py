"""Being told at once that the OOM killer took a process: by conmon's file `oom`, and on cgroup v2 by the kernel.

conmon writes its file into the bundle. Not every version of it watches on cgroup v2, so memory.events is watched there.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from oarlock.cgroups.hierarchy import hierarchy
from oarlock.errors import ConfigurationError
from oarlock.linux.inotify import Event, Inotify, Mask
from oarlock.runtime.container import Container

logger = logging.getLogger(__name__)
FILE = "oom"
_PAUSE = 1.0
"""Seconds between two looks at the events of a container that keeps running into its limit."""


@dataclass(eq=False, slots=True)
class _Watched:
    """One container: where its OOM kills are counted, whom to tell, and its watches."""

    container: str
    cgroup: str
    killed: Callable[[], None]
    watches: set[int] = field(default_factory=set)


class OomWatch:
    """Calls back for the first OOM kill in a container, until that is forgotten."""

    def __init__(self) -> None:
        self._inotify = Inotify()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._containers: dict[str, _Watched] = {}
        self._watches: dict[int, _Watched] = {}

    def attach(self, loop: asyncio.AbstractEventLoop) -> None:
        """Call back from this loop from now on."""
        self._loop = loop
        self._inotify.attach(loop, self._happened)

    def watch(self, container: Container, killed: Callable[[], None]) -> None:
        """Call `killed` once or twice for the first OOM kill, also for one that was before.

        Where the kernel has no watch left, only what is looked at by itself tells of it: the exit.
        """
        self.forget(container)
        watched = self._containers[container.id] = _Watched(container.id, container.place.lasting, killed)
        try:
            self._add(watched, container.bundle, Mask.CREATE | Mask.ONLYDIR)
        except ConfigurationError as error:
            logger.warning("container %s: an OOM kill of a child is not told before its end: %s", container.id, error)
            return
        if (container.bundle / FILE).exists():
            killed()
        self._watch_count(watched)

    def forget(self, container: Container) -> None:
        """Watch it no longer; fine when it is not watched. The kernel keeps a watch when the cgroup is removed."""
        watched = self._containers.pop(container.id, None)
        for watch in watched.watches if watched is not None else ():
            del self._watches[watch]
            self._inotify.remove(watch)

    def _add(self, watched: _Watched, path: Path, mask: Mask) -> None:
        watch = self._inotify.add(path, mask)
        watched.watches.add(watch)
        self._watches[watch] = watched

    def _watch_count(self, watched: _Watched) -> None:
        events = hierarchy().oom_events(watched.cgroup)
        if events is None or self._containers.get(watched.container) is not watched:
            return
        try:
            self._add(watched, events, Mask.MODIFY | Mask.ONESHOT)
        except (FileNotFoundError, ConfigurationError):
            return
        if hierarchy().oom_kills(watched.cgroup):
            watched.killed()

    def _happened(self, events: list[Event]) -> None:
        assert self._loop is not None
        for event in events:
            watched = self._watches.get(event.wd)
            if watched is None:
                continue
            if event.mask & (Mask.MODIFY | Mask.IGNORED):  # it was for one change, or its folder is gone
                del self._watches[event.wd]
                watched.watches.discard(event.wd)
            counted = event.mask & Mask.MODIFY and hierarchy().oom_kills(watched.cgroup)
            if counted or event.name == FILE:
                watched.killed()
            elif event.mask & Mask.MODIFY:
                self._loop.call_later(_PAUSE, self._watch_count, watched)
