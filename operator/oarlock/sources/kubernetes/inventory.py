"""The newest version of each of the node's objects, whichever way it came: the one door to the engine.

Events of the watch and our own lists overtake each other, so a version older than the one seen is dropped
(resource versions are ordered numbers, KEP-5504), and a uid that is gone stays gone. Our own status patches
come back as events: what did not change but in its status reaches the engine no second time.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any

from oarlock.api.accepted import Accepted
from oarlock.api.containerspec import FINALIZER, validate
from oarlock.api.identity import KUBERNETES, Key
from oarlock.errors import InvalidSpec
from oarlock.reconcile.ports import Sink

log = logging.getLogger("oarlock.sources.kubernetes")

_GRAVES = 10_000
"""How many uids that are gone are remembered; only those of the last list can come up again."""


@dataclass(slots=True)
class Seen:
    """What is kept of an object.

    Attributes:
        version: its resourceVersion.
        told: a digest of what the engine was told; None when that is to be told again.
        finalizers: all of them, in order, as of that version.
        deleted: a deletion timestamp is set.
    """

    key: Key
    version: int
    told: bytes | None
    finalizers: tuple[str, ...]
    deleted: bool


class Inventory:
    """Objects seen, by uid. All of it runs in the engine's loop."""

    def __init__(
        self,
        sink: Sink,
        *,
        on_status: Callable[[Key, int, Mapping[str, Any]], None],
        on_gone: Callable[[Key], None],
    ) -> None:
        self._sink = sink
        self._on_status, self._on_gone = on_status, on_gone
        self._objects: dict[str, Seen] = {}
        self._gone: dict[str, None] = {}

    def __len__(self) -> int:
        return len(self._objects)

    def __getitem__(self, key: Key) -> Seen | None:
        return self._objects.get(key.uid)

    @property
    def keys(self) -> set[Key]:
        return {seen.key for seen in self._objects.values()}

    def is_gone(self, key: Key) -> bool:
        return key.uid in self._gone

    def applied(self, obj: Mapping[str, Any]) -> None:
        """An object as the API served it: pass it on if the engine does not know this version."""
        meta = obj["metadata"]
        key = key_of(obj)
        version = _version(meta)
        known = self._objects.get(key.uid)
        if key.uid in self._gone or (known is not None and version < known.version):
            return
        told = _digest(meta)
        seen = Seen(
            key=known.key if known is not None else key,
            version=version,
            told=told,
            finalizers=tuple(meta.get("finalizers") or ()),
            deleted="deletionTimestamp" in meta,
        )
        self._objects[key.uid] = seen
        self._on_status(seen.key, version, obj.get("status") or {})
        if known is None or known.told != told:
            self._tell(seen.key, obj)

    def gone(self, key: Key) -> None:
        """The object does not exist any more; its uid never will again."""
        first = key.uid not in self._gone
        self._objects.pop(key.uid, None)
        self._gone[key.uid] = None
        while len(self._gone) > _GRAVES:
            del self._gone[next(iter(self._gone))]
        self._on_gone(key)
        if first:
            self._sink.gone(key)

    def patched(self, key: Key, obj: Mapping[str, Any]) -> None:
        """The API server's answer to a patch of ours: the finalizers as they are now.

        The event of this version is still to come, and is what the engine is told.
        """
        known = self._objects.get(key.uid)
        meta = obj.get("metadata") or {}
        if known is not None and meta.get("uid") == key.uid and _version(meta) > known.version:
            known.version = _version(meta)
            known.finalizers = tuple(meta.get("finalizers") or ())
            known.deleted = "deletionTimestamp" in meta

    def _tell(self, key: Key, obj: Mapping[str, Any]) -> None:
        meta = obj["metadata"]
        generation = int(meta.get("generation") or 0)
        try:
            spec = validate(obj, where=str(key), node_name=None)
        except InvalidSpec as error:
            if "deletionTimestamp" in meta:
                # There is no spec to tell it with, and it must not keep the object from going.
                self._sink.gone(key)
            else:
                self._sink.refused(key, generation, f"{error.field}: {error.problem}")
            return
        self._sink.applied(
            Accepted(
                key=key,
                generation=generation,
                spec=spec,
                given=obj["spec"],
                created=str(meta.get("creationTimestamp") or ""),
                deleted="deletionTimestamp" in meta,
                finalizer=FINALIZER in (meta.get("finalizers") or ()),
                labels=meta.get("labels") or {},
                annotations=meta.get("annotations") or {},
            )
        )


def key_of(obj: Mapping[str, Any]) -> Key:
    meta = obj["metadata"]
    return Key(KUBERNETES, meta.get("namespace") or "", meta["name"], meta["uid"])


def alive(inventory: Inventory, others: Collection[Key]) -> set[Key]:
    """The objects seen, and those of `others` that nobody said are gone."""
    return inventory.keys | {key for key in others if not inventory.is_gone(key)}


def _version(meta: Mapping[str, Any]) -> int:
    return int(meta["resourceVersion"])


def _digest(meta: Mapping[str, Any]) -> bytes:
    """A digest of what the engine is told of an object; the generation stands for its spec."""
    names = ("generation", "deletionTimestamp", "finalizers", "labels", "annotations")
    told = json.dumps([meta.get(name) for name in names], sort_keys=True)
    return hashlib.blake2b(told.encode(), digest_size=16).digest()
