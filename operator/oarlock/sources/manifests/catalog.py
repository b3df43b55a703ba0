"""What the whole directory asks for: which document speaks for which object, and what the engine is told.

One rule stands above all: what cannot be read removes nothing. An object goes only when its file, read
in full, does not name it any more, or when its file is gone.

- Two documents of the same name: the first one counts (file name order, then position).
- A file that is leaving (see `leave`) counts less than any other, so that an object that moves from one
  file to another is neither stopped nor started.
- An object's generation counts the versions of its spec; it goes on from the record.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from oarlock.api.accepted import Accepted
from oarlock.api.containerspec import given_spec
from oarlock.api.identity import MANIFESTS, Key, manifest_uid
from oarlock.linux.clock import rfc3339, wall
from oarlock.reconcile.ports import Sink
from oarlock.sources.manifests.claims import UNREAD, Claim, Name, Reading
from oarlock.sources.manifests.problems import Problem


class Recorded(Protocol):
    """What the engine remembers of an object of this source."""

    origin: str | None
    generation: int
    spec: dict[str, Any]
    created: str
    deleted: bool


@dataclass(slots=True)
class _Held:
    """An object that exists: its last good version.

    Attributes:
        file: the file that version stands in; None when only an old record of another form is known.
        told: what the sink was told last, to tell it nothing twice; None before the first time.
        refused: the problem that the sink was told of since.
    """

    key: Key
    generation: int
    given: Mapping[str, Any]
    created: str
    file: str | None
    told: tuple[object, ...] | None = None
    refused: str | None = None


class Catalog:
    """The directory's objects. Changes are gathered by `put`, `leave` and `drop`; `settle` acts on them.

    Args:
        directory: where the files are, for the objects' origins.
        known: what the engine has records of, by key.
    """

    def __init__(
        self, directory: Path, node_name: str, sink: Sink, known: Callable[[], Mapping[Key, Recorded]]
    ) -> None:
        self._directory, self._node, self._sink, self._known = directory, node_name, sink, known
        self._readings: dict[str, Reading] = {}
        self._claims: dict[Name, list[Claim]] = {}
        self._leaving: set[str] = set()
        self._troubled: set[str] = set()
        self._doubled: set[Name] = set()
        self._changed: set[Name] = set()
        self._held: dict[Name, _Held] = {}
        for key, record in known().items():
            if not record.deleted:
                name, file = (key.namespace, key.name), file_of(record.origin)
                self._held[name] = _Held(key, record.generation, record.spec, record.created, file)
        self._changed |= self._held.keys()

    @property
    def files(self) -> Collection[str]:
        """The files it has readings of."""
        return self._readings.keys()

    @property
    def alive(self) -> Collection[Key]:
        """Every object that exists."""
        return {held.key for held in self._held.values()}

    def assume_unread(self) -> None:
        """The directory cannot be looked into: the files of all objects known are taken to be there."""
        for file in {held.file for held in self._held.values() if held.file is not None}:
            self._readings.setdefault(file, UNREAD)

    def put(self, file: str, reading: Reading) -> None:
        """This is what the file holds now."""
        self.drop(file)
        self._readings[file] = reading
        for claim in reading.claims:
            self._claims.setdefault(claim.name, []).append(claim)
        self._note(file, reading)
        if reading.problems or any(claim.problems for claim in reading.claims):
            self._troubled.add(file)

    def drop(self, file: str) -> None:
        """The file is gone. Fine when it was not known."""
        self.stay(file)
        self._troubled.discard(file)
        if (reading := self._readings.pop(file, None)) is None:
            return
        for name in {claim.name for claim in reading.claims}:
            self._claims[name] = [claim for claim in self._claims[name] if claim.file != file]
        self._note(file, reading)

    def leave(self, file: str) -> None:
        """The file is not there any more, but may be back, or its documents elsewhere, in a moment."""
        if file in self._readings and file not in self._leaving:
            self._leaving.add(file)
            self._note(file, self._readings[file])

    def stay(self, file: str) -> None:
        """The file is there after all."""
        if file in self._leaving:
            self._leaving.discard(file)
            self._note(file, self._readings[file])

    def settle(self) -> None:
        """Tell the sink what the gathered changes come to."""
        changed, self._changed = sorted(self._changed), set()
        for name in changed:
            claims = sorted(self._claims.get(name, ()), key=self._rank)
            if not claims:
                self._claims.pop(name, None)
            if len(claims) > 1:
                self._doubled.add(name)
            else:
                self._doubled.discard(name)
            self._decide(name, claims[0] if claims else None)

    def problems(self) -> list[Problem]:
        """All that is wrong now, in reading order."""
        return sorted(self._problems(), key=lambda problem: problem.place)

    def _problems(self) -> Iterator[Problem]:
        for file in self._troubled:
            reading = self._readings[file]
            yield from reading.problems
            for claim in reading.claims:
                yield from claim.problems
        for name in self._doubled:
            first, *others = sorted(self._claims[name], key=self._rank)
            told = f"{'/'.join(name)} is already in {first.where}, which counts; rename or remove one of them"
            for claim in others:
                if claim.file not in self._leaving:
                    yield Problem(f"{claim.file}:{claim.name_line}", "metadata.name", told)

    def _rank(self, claim: Claim) -> tuple[bool, str, int]:
        return claim.file in self._leaving, claim.file, claim.index

    def _note(self, file: str, reading: Reading) -> None:
        """Whatever `reading` may have a say in is looked at again."""
        self._changed |= reading.names
        if reading.opaque:
            self._changed |= {name for name, held in self._held.items() if held.file == file}

    def _decide(self, name: Name, claim: Claim | None) -> None:
        held = self._held.get(name)
        if claim is not None and claim.spec is not None:
            self._apply(name, claim)
        elif claim is not None:
            self._refuse(name, held, claim.problems)
        elif held is not None and self._may_be_in(held.file, name):
            self._refuse(name, held, self._readings[held.file or ""].problems)
        elif held is not None:
            del self._held[name]
            self._sink.gone(held.key)

    def _may_be_in(self, file: str | None, name: Name) -> bool:
        """Whether the file may name the object in a way that could not be read."""
        reading = self._readings.get(file or "")
        return reading is not None and (reading.opaque or name in reading.mentions)

    def _refuse(self, name: Name, held: _Held | None, problems: Collection[Problem]) -> None:
        """The newest version cannot be used. An object without a good version has generation 0."""
        told = "; ".join(map(str, problems))
        if not told or (held is not None and held.refused == told):
            return
        if held is not None:
            held.refused = told
        self._sink.refused(self._key(name), held.generation if held is not None else 0, told)

    def _apply(self, name: Name, claim: Claim) -> None:
        assert claim.spec is not None
        mapping = claim.mapping
        metadata: Mapping[str, Any] = mapping["metadata"]
        labels, annotations = metadata.get("labels") or {}, metadata.get("annotations") or {}
        given = given_spec(mapping, self._node)
        held = self._held.get(name) or self._seen(name, given)
        if given != held.given:
            held.generation += 1
        held.given, held.file = given, claim.file
        told = (held.generation, given, labels, annotations, claim.file)
        if told == held.told and held.refused is None:
            return
        held.told, held.refused = told, None
        self._held[name] = held
        self._sink.applied(
            Accepted(
                key=held.key,
                generation=held.generation,
                spec=claim.spec,
                given=given,
                created=held.created,
                finalizer=True,
                origin=f"{self._directory / claim.where}",
                labels=labels,
                annotations=annotations,
            )
        )

    def _seen(self, name: Name, given: Mapping[str, Any]) -> _Held:
        """An object not held: new, or removed a moment ago and still recorded."""
        key = self._key(name)
        record = self._known().get(key)
        if record is None:
            return _Held(key, 1, given, rfc3339(wall()), None)
        return _Held(key, record.generation, record.spec, record.created, None)

    def _key(self, name: Name) -> Key:
        return Key(MANIFESTS, *name, manifest_uid(self._node, *name))


def file_of(origin: str | None) -> str | None:
    """The file's name in an origin such as `/etc/oarlock/manifests/web.yaml:12`."""
    return (origin or "").rpartition(":")[0].rpartition("/")[2] or None
