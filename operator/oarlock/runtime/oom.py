"""Being told at once that the OOM killer took a process: by conmon's file `oom`, and on cgroup v2 by the kernel.

conmon writes its file into the bundle. Not every version of it watches on cgroup v2, so memory.events is watched there.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from oarlock.cgroups.hierarchy import hierarchy
from oarlock.linux.inotify import Event, Inotify, Mask
from oarlock.runtime.container import Container

FILE = "oom"
_PAUSE = 1.0
"""Seconds between two looks at the events of a container that keeps running into its limit."""


class OomWatch:
    """Calls back for the first OOM kill in a container. The watches end with the bundle and with the cgroup."""

    def __init__(self) -> None:
        self._inotify = Inotify()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._bundles: dict[int, Callable[[], None]] = {}
        self._counts: dict[int, tuple[str, Callable[[], None]]] = {}

    def attach(self, loop: asyncio.AbstractEventLoop) -> None:
        """Call back from this loop from now on."""
        self._loop = loop
        self._inotify.attach(loop, self._happened)

    def watch(self, container: Container, killed: Callable[[], None]) -> None:
        """Call `killed` once or twice for the first OOM kill, also for one that was before."""
        self._bundles[self._inotify.add(container.bundle, Mask.CREATE | Mask.ONLYDIR)] = killed
        if (container.bundle / FILE).exists():
            killed()
        self._watch_count(container.place.lasting, killed)

    def _watch_count(self, cgroup: str, killed: Callable[[], None]) -> None:
        events = hierarchy().oom_events(cgroup)
        if events is None:
            return
        try:
            wd = self._inotify.add(events, Mask.MODIFY | Mask.ONESHOT)
        except FileNotFoundError:
            return
        if hierarchy().oom_kills(cgroup):
            killed()
        self._counts[wd] = cgroup, killed

    def _happened(self, events: list[Event]) -> None:
        assert self._loop is not None
        for event in events:
            watched = self._counts.pop(event.wd, None)
            if watched is not None and event.mask & Mask.MODIFY:
                cgroup, killed = watched
                if hierarchy().oom_kills(cgroup):
                    killed()
                else:
                    self._loop.call_later(_PAUSE, self._watch_count, cgroup, killed)
            elif event.mask & Mask.IGNORED:
                self._bundles.pop(event.wd, None)
            elif event.name == FILE and event.wd in self._bundles:
                self._bundles[event.wd]()
