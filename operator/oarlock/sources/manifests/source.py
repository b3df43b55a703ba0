"""The manifest directory as a source: documents are objects; a file removed is its objects removed.

Files are read as soon as their writer has closed them or renamed them into place. A file that vanishes is
given a moment to come back, since editors, git and configuration tools change a file by removing it first.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import os
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from oarlock.api.identity import MANIFESTS, Key
from oarlock.linux.inotify import Event, Inotify
from oarlock.reconcile.ports import EventKind, Sink
from oarlock.sources.manifests.catalog import Catalog, Recorded
from oarlock.sources.manifests.claims import UNREAD, Reading, judge
from oarlock.sources.manifests.documents import parse
from oarlock.sources.manifests.problems import Problem, ProblemList
from oarlock.sources.manifests.reader import is_manifest, read_bytes, shown
from oarlock.sources.manifests.watching import Changes, DirectoryWatch

logger = logging.getLogger(__name__)

MOMENT = 0.2
"""Seconds after which a file that vanished is gone."""
_LONG = 64 * 1024
"""Bytes from which on a file is parsed in a thread: YAML takes some 2 µs a byte."""


class ManifestSource:
    """Feeds a `Sink` from a directory of `.yaml`, `.yml` and `.json` files, and is the `Reporter` for them.

    Args:
        directory: may be absent; it is then waited for. Relative to the working directory of now.
        problems_file: where the present problems are kept for the command.
        known: what the engine has records of, by key.
    """

    def __init__(
        self,
        directory: Path,
        node_name: str,
        sink: Sink,
        problems_file: Path,
        *,
        known: Callable[[], Mapping[Key, Recorded]],
    ) -> None:
        self._directory, self._node, self._sink, self._known = directory.absolute(), node_name, sink, known
        self._problems = ProblemList(problems_file)
        self._present = False
        self._digests: dict[str, bytes] = {}
        self._missing: dict[str, asyncio.TimerHandle] = {}
        self._happened: asyncio.Queue[list[Event] | str] = asyncio.Queue()

    # The Reporter.

    def report(self, key: Key, status: Mapping[str, Any]) -> None:
        """Nothing to do: a manifest object's status stands in its record."""

    def event(self, key: Key, kind: EventKind, reason: str, message: str) -> None:
        """Told in the operator's log."""
        logger.log(logging.WARNING if kind == "Warning" else logging.INFO, "%s: %s: %s", key, reason, message)

    async def hold(self, key: Key) -> None:
        """Nothing to do: a file cannot be held."""

    async def release(self, key: Key) -> None:
        """Nothing to do: a file was never held."""

    # The source.

    def state(self) -> dict[str, Any]:
        """What it says of itself for the node's health."""
        return {"present": self._present, "problems": self._problems.count}

    async def run(self) -> None:
        """Follow the directory until cancelled.

        Raises:
            ConfigurationError: inotify's limits are reached; the message says which one to raise.
        """
        with Inotify() as inotify:
            self._watch = DirectoryWatch(inotify, self._directory)
            self._catalog = Catalog(self._directory, self._node, self._sink, self._known)
            inotify.attach(asyncio.get_running_loop(), self._happened.put_nowait)
            await self._begin()
            while True:
                events: list[Event] = []
                ended: list[str] = []
                batch: list[Event] | str | None = await self._happened.get()
                while batch is not None:
                    ended.append(batch) if isinstance(batch, str) else events.extend(batch)
                    batch = None if self._happened.empty() else self._happened.get_nowait()
                await self._follow(self._watch.interpret(events), ended)

    async def _begin(self) -> None:
        """The first look. What is on record but not in the directory is gone at once."""
        self._present = self._watch.establish()
        if self._present:
            await self._look_at_all()
            self._settle()
        else:
            self._catalog.assume_unread()
            self._settle()
        self._sink.listed(MANIFESTS, self._catalog.alive)
        state = "watching" if self._present else "waiting for"
        logger.info("%s %s: %d objects", state, self._directory, len(self._catalog.alive))

    async def _follow(self, changes: Changes, ended: Iterable[str]) -> None:
        """Bring the catalog up to date with what happened.

        Args:
            ended: files whose moment to come back is over.
        """
        if changes.moved:
            self._present = self._watch.establish()
        if self._present and (changes.moved or changes.everything):
            await self._look_at_all()
        elif changes == Changes() and not ended:
            return
        for name in changes.vanished | changes.appeared | changes.written:
            await self._look(name, complete=name in changes.written)
        for name in ended:
            self._end(name)
        self._settle()

    def _settle(self) -> None:
        self._catalog.settle()
        problems = self._catalog.problems()
        if not self._present and self._catalog.alive:
            told = "is not there, or no directory; the containers of its manifests go on until it is back"
            problems.insert(0, Problem(str(self._directory), "", told))
        self._problems.replace(problems)

    async def _look_at_all(self) -> None:
        """Look at each file, and at each that was there before."""
        try:
            names = {name for name in os.listdir(self._directory) if is_manifest(name)}
        except OSError as error:
            logger.warning("%s cannot be listed: %s", self._directory, error.strerror)
            self._present = False
            self._catalog.assume_unread()
            return
        for number, name in enumerate(sorted(names)):
            await self._look(name, complete=False)
            if number % 16 == 15:
                await asyncio.sleep(0)  # whoever waits in this loop has a turn
        here = {shown(name) for name in names}
        known = {shown(name): name for name in self._digests}
        for file in [file for file in self._catalog.files if file not in here]:
            self._vanish(known.get(file, file))

    async def _look(self, name: str, *, complete: bool) -> None:
        """Read one file, if its content is new.

        Args:
            complete: an event said that its content is complete; else a file being written is left for
                later: when its writer closes it there is another event.
        """
        path = self._directory / name
        if path.is_symlink():
            self._watch.follow(name)
        else:
            self._watch.unfollow(name)
        try:
            data = read_bytes(path, complete=complete)
        except FileNotFoundError:
            self._vanish(name)
            return
        self._stay(name)
        file = shown(name)
        if data is None:
            logger.debug("%s is being written", file)
            if file not in self._catalog.files:
                self._catalog.put(file, UNREAD)
        elif isinstance(data, Problem):
            self._digests.pop(name, None)
            self._catalog.put(file, Reading(problems=(data,), opaque=True))
        elif (digest := hashlib.blake2b(data, digest_size=16).digest()) != self._digests.get(name):
            long = len(data) > _LONG
            reading = await asyncio.to_thread(self._read, data, file) if long else self._read(data, file)
            self._digests[name] = digest
            self._catalog.put(file, reading)

    def _read(self, data: bytes, file: str) -> Reading:
        return judge(parse(data, file), file, self._node)

    def _vanish(self, name: str) -> None:
        """The file is not there: so be it, if it is not back in a moment and the directory is still there."""
        if shown(name) in self._catalog.files and name not in self._missing:
            self._catalog.leave(shown(name))
            loop = asyncio.get_running_loop()
            self._missing[name] = loop.call_later(MOMENT, self._happened.put_nowait, name)

    def _stay(self, name: str) -> None:
        """The file is there, or the directory is not."""
        if (timer := self._missing.pop(name, None)) is not None:
            timer.cancel()
            self._catalog.stay(shown(name))

    def _end(self, name: str) -> None:
        """The file's moment is over."""
        if not self._present:
            self._stay(name)
        elif self._missing.pop(name, None) is not None:
            self._digests.pop(name, None)
            self._catalog.drop(shown(name))
