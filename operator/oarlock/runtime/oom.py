"""Being told that the kernel's OOM killer took a process: conmon writes a file `oom` into the bundle."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

from oarlock.linux.inotify import Event, Inotify, Mask

FILE = "oom"


class OomWatch:
    """Calls back when conmon tells of an OOM kill in a bundle. The watch ends with the bundle's folder."""

    def __init__(self) -> None:
        self._inotify = Inotify()
        self._callbacks: dict[int, Callable[[], None]] = {}

    def attach(self, loop: asyncio.AbstractEventLoop) -> None:
        """Call back from this loop from now on."""
        self._inotify.attach(loop, self._happened)

    def watch(self, bundle: Path, killed: Callable[[], None]) -> None:
        """Call `killed` for the first OOM kill in this bundle, also for one that was before."""
        self._callbacks[self._inotify.add(bundle, Mask.CREATE | Mask.ONLYDIR)] = killed
        if (bundle / FILE).exists():
            killed()

    def _happened(self, events: list[Event]) -> None:
        for event in events:
            if event.mask & Mask.IGNORED:
                self._callbacks.pop(event.wd, None)
            elif event.name == FILE and (killed := self._callbacks.get(event.wd)):
                killed()
