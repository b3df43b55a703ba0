"""The manifest directory as a source: a file's documents are objects, and a file removed is its objects removed.

One rule holds for everything unreadable: the last good version goes on. A broken file, a broken document or a
directory that is not there never stops a container; only a file that is gone does.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from oarlock.api.accepted import Accepted
from oarlock.api.containerspec import given_spec, problems, validate
from oarlock.api.identity import MANIFESTS, Key, manifest_uid
from oarlock.linux.clock import rfc3339, wall
from oarlock.linux.inotify import Event, Inotify, Mask
from oarlock.reconcile.ports import Sink
from oarlock.sources.manifests.documents import Content, Document
from oarlock.sources.manifests.problems import Problem, ProblemList
from oarlock.sources.manifests.reader import is_manifest, read_file

logger = logging.getLogger(__name__)

_CHANGES = Mask.CLOSE_WRITE | Mask.MOVED_TO | Mask.MOVED_FROM | Mask.DELETE | Mask.DELETE_SELF | Mask.MOVE_SELF
_LINKS = Mask.CREATE


class Recorded(Protocol):
    """What the engine remembers of an object of this source."""

    origin: str | None
    generation: int
    spec: dict[str, Any]
    created: str
    annotations: dict[str, str]


@dataclass(frozen=True, slots=True)
class _Version:
    """An object as its document has it now; `problem` when that cannot be used."""

    key: Key
    document: Document
    origin: str


class ManifestSource:
    """Feeds a `Sink` from a directory of `.yaml`, `.yml` and `.json` files, and is the `Reporter` for them.

    Args:
        directory: may be absent; it is then waited for.
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
        self._directory, self._node, self._sink, self._known = directory, node_name, sink, known
        self._problems = ProblemList(problems_file)
        self._files: dict[str, tuple[tuple[int, int, int], Content]] = {}
        self._told: set[Key] = set()

    def report(self, key: Key, status: Mapping[str, Any]) -> None:
        """The status of a manifest's object stands in its record."""

    async def hold(self, key: Key) -> None:
        """A file cannot be held."""

    async def release(self, key: Key) -> None:
        """A file need not be released."""

    async def run(self) -> None:
        """Follow the directory until cancelled."""
        with Inotify() as inotify:
            changed = asyncio.Event()
            events: list[Event] = []

            def happened(batch: list[Event]) -> None:
                events.extend(batch)
                changed.set()

            inotify.attach(asyncio.get_running_loop(), happened)
            while True:
                changed.clear()
                watched = self._watch(inotify)
                self._scan(present=watched)
                await changed.wait()
                await self._quiet(events)

    async def _quiet(self, events: list[Event]) -> None:
        """Let both halves of a rename arrive together: one turn of the loop."""
        await asyncio.sleep(0)
        events.clear()

    def _watch(self, inotify: Inotify) -> bool:
        """Watch the directory, or the nearest one above it that exists; False when it does not exist."""
        try:
            inotify.add(self._directory, _CHANGES | _LINKS | Mask.ONLYDIR)
            return True
        except (FileNotFoundError, NotADirectoryError):
            for parent in self._directory.parents:
                if parent.is_dir():
                    inotify.add(parent, Mask.CREATE | Mask.MOVED_TO | Mask.ONLYDIR)
                    break
            return self._directory.is_dir()

    def _scan(self, *, present: bool) -> None:
        """Read what changed, tell the sink of every object, then which there are in all."""
        if not present:
            self._problems.replace([Problem(str(self._directory), "", "the directory does not exist; containers go on")])
            return
        known = self._known()
        found: list[Problem] = []
        names: dict[tuple[str, str], _Version] = {}
        broken_files = set()
        for path, content in self._read(found):
            if content.problems:
                broken_files.add(path.name)
                found += content.problems
            for document in content.documents:
                self._take(path, document, names, found)
        alive = {version.key for version in names.values()}
        alive |= {key for key, record in known.items() if _file_of(record.origin) in broken_files}
        for version in names.values():
            self._tell(version, known.get(version.key), found)
        self._sink.listed(MANIFESTS, alive)
        self._problems.replace(found)

    def _read(self, found: list[Problem]) -> Iterator[tuple[Path, Content]]:
        """Every manifest file in name order; unchanged ones are not read again."""
        entries = {}
        try:
            entries = {entry.name: entry for entry in os.scandir(self._directory) if is_manifest(entry.name)}
        except OSError as error:
            found.append(Problem(str(self._directory), "", f"cannot be read: {error.strerror}"))
        for name in self._files.keys() - entries.keys():
            del self._files[name]
        for name in sorted(entries):
            path = self._directory / name
            try:
                status = path.stat()
                stamp = (status.st_ino, status.st_mtime_ns, status.st_size)
                if self._files.get(name, (None,))[0] != stamp:
                    self._files[name] = (stamp, read_file(path))
            except FileNotFoundError:
                self._files[name] = ((0, 0, 0), read_file(path) if path.is_symlink() else Content())
            yield path, self._files[name][1]

    def _take(
        self, path: Path, document: Document, names: dict[tuple[str, str], _Version], found: list[Problem]
    ) -> None:
        """One document: its name is taken by the first that has it."""
        where = f"{path.name}:{document.line}"
        if document.foreign or document.problems:
            found += document.problems or (Problem(where, "kind", "is not a ContainerSpec; move it out of here"),)
        name = document.name
        if name is None:
            if not document.problems and not document.foreign:
                found += self._all_problems(path, document)
            return
        if document.foreign:
            return
        if name in names:
            first = names[name].origin.rpartition("/")[2]
            told = f"{'/'.join(name)} is already in {first}; give one of them another name"
            found.append(Problem(where, "metadata.name", told))
            return
        uid = manifest_uid(self._node, *name)
        names[name] = _Version(Key(MANIFESTS, *name, uid), document, f"{path}:{document.line}")

    def _tell(self, version: _Version, before: Recorded | None, found: list[Problem]) -> None:
        """Hand one object to the sink; an invalid one leaves its last good version alone."""
        document = version.document
        wrong = list(document.problems) or self._all_problems(Path(_file_of(version.origin)), document)
        if wrong:
            found += [problem for problem in wrong if problem not in found]
            if before is not None:
                self._sink.refused(version.key, before.generation, "; ".join(map(str, wrong)))
            return
        mapping = document.mapping
        metadata = mapping["metadata"]
        given = given_spec(mapping, self._node)
        generation = 1 if before is None else before.generation + (before.spec != given)
        self._sink.applied(
            Accepted(
                key=version.key,
                generation=generation,
                spec=validate(mapping, where=version.origin, node_name=self._node),
                given=given,
                created=before.created if before is not None else rfc3339(wall()),
                finalizer=True,
                origin=version.origin,
                labels=metadata.get("labels") or {},
                annotations=metadata.get("annotations") or {},
            )
        )

    def _all_problems(self, path: Path, document: Document) -> list[Problem]:
        return [
            Problem(f"{path.name}:{document.line_of(problem.field)}", problem.field, problem.problem)
            for problem in problems(document.mapping, where=path.name, node_name=self._node)
        ]


def _file_of(origin: str | None) -> str:
    """The file's name in an origin `/dir/web.yaml:12`."""
    return (origin or "").rpartition(":")[0].rpartition("/")[2]
