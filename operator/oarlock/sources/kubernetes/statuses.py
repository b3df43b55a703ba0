"""What the engine observes, written to the objects' status: the latest wins, and nothing is written twice.

For each object at most one patch is in flight; what is reported meanwhile waits, and only its latest state is
sent. Nothing is sent before the object was seen in the API, and nothing that the API already has (compared
with the object as last seen, so after a restart of the operator too). A status that someone else overwrote is
written again. While the API server is away, each of the few workers knocks with a growing pause, and all go
on at once when any request is answered.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

from oarlock.api.identity import Key
from oarlock.errors import SourceUnavailable
from oarlock.sources.kubernetes import patches
from oarlock.sources.kubernetes.addresses import path_of
from oarlock.sources.kubernetes.apiserver import JSON_PATCH, Answer, ApiServer
from oarlock.sources.kubernetes.backoff import Backoff, jittered

log = logging.getLogger("oarlock.sources.kubernetes")

_WORKERS = 8
_QUICK_REFUSALS = 20
"""So many times in a row an object's patch is tried again within 4 s; after that each minute."""


@dataclass(slots=True)
class _Object:
    """One object's status on both sides.

    Attributes:
        latest: the status reported last, and `wanted` its digest.
        stored: a digest of the status in the API, as of resource version `version`; None: never seen.
        stored_for: the digest of the report that the API stored as `stored` (it may drop fields).
        refused: the digest of a report that the API server holds invalid: sent no second time.
        queued, sending, refusals: where it is on its way out.
    """

    key: Key
    latest: Mapping[str, Any] | None = None
    wanted: bytes | None = None
    stored: bytes | None = None
    stored_for: bytes | None = None
    version: int = 0
    refused: bytes | None = None
    queued: bool = False
    sending: bool = False
    refusals: int = 0

    @property
    def to_send(self) -> bool:
        return (
            self.wanted is not None
            and self.stored is not None
            and self.wanted not in (self.stored, self.stored_for, self.refused)
        )


class Statuses:
    """Writes statuses. All of it runs in the engine's loop.

    `on_missing` is called for an object whose patch says that it is not the one we know.
    """

    def __init__(self, api: ApiServer, *, on_missing: Callable[[], None]) -> None:
        self._api = api
        self._on_missing = on_missing
        self._objects: dict[str, _Object] = {}
        self._queue: asyncio.Queue[str] = asyncio.Queue()

    def report(self, key: Key, status: Mapping[str, Any]) -> None:
        """The object's status now; the mapping must not be changed afterwards."""
        obj = self._objects.setdefault(key.uid, _Object(key))
        obj.latest, obj.wanted = status, _digest(status)
        self._enqueue(obj)

    def observed(self, key: Key, version: int, status: Mapping[str, Any]) -> None:
        """The status that the API has in a version of the object."""
        obj = self._objects.setdefault(key.uid, _Object(key))
        if version < obj.version:
            return
        found = _digest(status)
        if found != obj.stored:
            obj.stored, obj.stored_for = found, None
        obj.version = version
        self._enqueue(obj)

    def forget(self, key: Key) -> None:
        """The object is gone, or let go: nothing is written to it any more."""
        self._objects.pop(key.uid, None)

    @property
    def unsent(self) -> int:
        """How many objects have a status that the API does not have yet."""
        return sum(obj.to_send or obj.sending for obj in self._objects.values())

    async def run(self) -> None:
        """Write until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            for number in range(_WORKERS):
                tasks.create_task(self._work(), name=f"status writer {number}")

    def _enqueue(self, obj: _Object) -> None:
        if obj.to_send and not obj.queued and not obj.sending:
            obj.queued = True
            self._queue.put_nowait(obj.key.uid)

    async def _work(self) -> None:
        backoff = Backoff()
        while True:
            obj = self._objects.get(await self._queue.get())
            if obj is None:
                continue
            obj.queued = False
            if not obj.to_send or obj.sending:
                continue
            obj.sending = True
            try:
                answered = await self._send(obj)
            finally:
                obj.sending = False
            if answered:
                backoff.reset()
            else:
                await self._api.pause(backoff.next())
            if obj.refusals == 0 and self._objects.get(obj.key.uid) is obj:
                self._enqueue(obj)

    async def _send(self, obj: _Object) -> bool:
        """Send the latest status once; False when the API server is away."""
        assert obj.latest is not None
        sent, patch = obj.wanted, patches.status(obj.key.uid, without_nulls(obj.latest))
        try:
            answer = await self._api.request("PATCH", path_of(obj.key) + "/status", body=patch, content_type=JSON_PATCH)
        except SourceUnavailable:
            return False
        if answer.away:
            return False
        if answer.ok:
            self._written(obj, sent, answer)
        elif self._objects.get(obj.key.uid) is obj:
            self._not_written(obj, sent, answer)
        return True

    def _written(self, obj: _Object, sent: bytes | None, answer: Answer) -> None:
        document = answer.document()
        version = int(document["metadata"]["resourceVersion"])
        obj.refusals = 0
        if version >= obj.version:
            obj.version = version
            obj.stored, obj.stored_for = _digest(document.get("status") or {}), sent

    def _not_written(self, obj: _Object, sent: bytes | None, answer: Answer) -> None:
        if answer.status == HTTPStatus.NOT_FOUND or _is_another(answer):
            # Seen again (the next list says), its status is compared and sent anew.
            obj.stored = obj.stored_for = None
            self._on_missing()
        elif answer.status == HTTPStatus.UNPROCESSABLE_ENTITY:
            log.error("%s: the API server refuses its status: %s", obj.key, answer)
            obj.refused = sent
        else:
            if obj.refusals == 0:
                log.warning("%s: its status cannot be written: %s; trying again", obj.key, answer)
            obj.refusals += 1
            seconds = 60.0 if obj.refusals > _QUICK_REFUSALS else min(0.2 * 2**obj.refusals, 4.0)
            asyncio.get_running_loop().call_later(jittered(seconds), self._again, obj)

    def _again(self, obj: _Object) -> None:
        if self._objects.get(obj.key.uid) is obj:
            self._enqueue(obj)


def without_nulls(value: Any) -> Any:
    """A JSON value without the null members of its objects: to the API, null and absent are the same."""
    if isinstance(value, Mapping):
        return {name: without_nulls(member) for name, member in value.items() if member is not None}
    if isinstance(value, list | tuple):
        return [without_nulls(member) for member in value]
    return value


def _digest(status: Mapping[str, Any]) -> bytes:
    canonical = json.dumps(without_nulls(status), sort_keys=True, separators=(",", ":"))
    return hashlib.blake2b(canonical.encode(), digest_size=16).digest()


def _is_another(answer: Answer) -> bool:
    """Whether a 422 is the patch's `test` of the uid that failed, not a status that is invalid: that has causes."""
    details = answer.document().get("details") or {}
    return answer.status == HTTPStatus.UNPROCESSABLE_ENTITY and not details.get("causes")
