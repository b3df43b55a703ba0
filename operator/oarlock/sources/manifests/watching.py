"""What happens in a directory that may come and go, and behind the symbolic links in it.

GitOps tools change manifests by turning a symbolic link (`..data`, `current`) to another folder. The
names in the directory then see no event at all. So every folder is watched in which one entry can
change what a path means: that of each link on its way, and that of its end.
"""

from __future__ import annotations

import logging
import os
import stat
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from oarlock.errors import ConfigurationError
from oarlock.linux.inotify import Event, Inotify, Mask
from oarlock.sources.manifests.reader import is_manifest

logger = logging.getLogger(__name__)

_ENTRIES = Mask.CREATE | Mask.MOVED_TO | Mask.MOVED_FROM | Mask.DELETE | Mask.DELETE_SELF | Mask.MOVE_SELF
_ENTRIES |= Mask.ONLYDIR | Mask.MASK_ADD  # one folder may be watched for several reasons
_FILES = _ENTRIES | Mask.CLOSE_WRITE
_STEPS = 256  # links may lead in a circle
_OVER = Mask.DELETE_SELF | Mask.MOVE_SELF | Mask.UNMOUNT | Mask.IGNORED


@dataclass(slots=True)
class Changes:
    """What a batch of events comes to.

    Attributes:
        written: manifest files whose content is new and complete.
        appeared: files that were made, perhaps by somebody who still writes to them, and links.
        vanished: files that are not there any more.
        moved: the directory itself came, went or was changed for another.
        everything: events were lost.
    """

    written: set[str] = field(default_factory=set)
    appeared: set[str] = field(default_factory=set)
    vanished: set[str] = field(default_factory=set)
    moved: bool = False
    everything: bool = False


class DirectoryWatch:
    """The watches on one directory, on the way to it and on the ways that links in it take."""

    def __init__(self, inotify: Inotify, directory: Path) -> None:
        self._inotify, self._directory = inotify, directory
        self._wd = -1
        self._way: dict[int, set[str]] = {}
        self._links: dict[str, set[tuple[int, str]]] = {}

    def establish(self) -> bool:
        """Watch the directory as it is now; False when there is none (its appearance is then watched for).

        Links are followed no longer: they are looked at anew, like all files.

        Raises:
            ConfigurationError: no watch is left.
        """
        before = self._watches()
        self._wd, self._way, self._links = -1, {}, {}
        way: list[tuple[Path, str]] | None = None
        while way != (now := list(trail(self._directory))):  # it may change while the watches are set
            way = now
            for wd, name in self._add(way):
                self._way.setdefault(wd, set()).add(name)
        try:
            self._wd = self._inotify.add(self._directory, _FILES)
        except OSError as error:
            logger.debug("%s: %s", self._directory, error.strerror)
        self._forget(before)
        return self._wd >= 0

    def follow(self, name: str) -> None:
        """Watch what the link `name` leads to."""
        before = self._watches()
        try:
            self._links[name] = set(self._add(trail(self._directory / name), _FILES))
        except ConfigurationError as error:
            self._links[name] = set()
            logger.warning("%s: changes behind this link will not be seen: %s", name, error)
        self._forget(before)

    def unfollow(self, name: str) -> None:
        """`name` is no link any more."""
        if name in self._links:
            before = self._watches()
            del self._links[name]
            self._forget(before)

    def interpret(self, events: Iterable[Event]) -> Changes:
        """What has to be looked at after these events."""
        changes = Changes()
        for event in events:
            if event.mask & Mask.Q_OVERFLOW:
                changes.everything = True
            if event.wd == self._wd:
                self._inside(event, changes)
            if event.wd in self._way and (event.mask & _OVER or event.name in self._way[event.wd]):
                changes.moved = True
            for link, ends in self._links.items():
                if (event.wd, event.name) in ends:
                    changes.appeared.add(link)
                    if event.mask & (Mask.CLOSE_WRITE | Mask.MOVED_TO):
                        changes.written.add(link)
        return changes

    def _inside(self, event: Event, changes: Changes) -> None:
        """An event of the directory. The last one on a name counts; looking tells how things stand."""
        if event.mask & _OVER:
            changes.moved = True
        elif not is_manifest(event.name):
            return
        elif event.mask & (Mask.CLOSE_WRITE | Mask.MOVED_TO):
            changes.written.add(event.name)
        elif event.mask & Mask.CREATE:
            changes.appeared.add(event.name)
        else:
            changes.vanished.add(event.name)

    def _add(self, ends: Iterable[tuple[Path, str]], mask: Mask = _ENTRIES) -> Iterator[tuple[int, str]]:
        for folder, name in ends:
            try:
                yield self._inotify.add(folder, mask), name
            except OSError as error:  # gone again, or not ours to read: nothing to hear from it
                logger.debug("%s: %s", folder, error.strerror)

    def _watches(self) -> set[int]:
        return {self._wd, *self._way, *(wd for ends in self._links.values() for wd, _ in ends)} - {-1}

    def _forget(self, before: set[int]) -> None:
        """End the watches that served `before` and serve no longer."""
        for wd in before - self._watches():
            self._inotify.remove(wd)


def trail(path: Path) -> Iterator[tuple[Path, str]]:
    """Each (folder, entry) that decides where the absolute `path` leads.

    These are the links on the way, and its end: the file, or the first name that does not exist.
    """
    at, rest = Path("/"), [part for part in reversed(path.parts) if part != "/"]
    for _ in range(_STEPS):
        if not rest:
            return
        name = rest.pop()
        if name == "..":
            at = at.parent
            continue
        try:
            is_link = stat.S_ISLNK(os.lstat(at / name).st_mode)
            target = Path(os.readlink(at / name)) if is_link else None
        except OSError:
            yield at, name
            return
        if target is not None:
            yield at, name
            at = Path("/") if target.is_absolute() else at
            rest += [part for part in reversed(target.parts) if part != "/"]
            continue
        if not rest:
            yield at, name
        at = at / name
