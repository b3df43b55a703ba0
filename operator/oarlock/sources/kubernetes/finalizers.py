"""oarlock's finalizer on an object, put on and taken off with care for everybody else's.

kopf's own finalizer handling would strip it at the first event, so it works under another name there. The
verb `patch` on the objects themselves is what this takes; `containerspecs/finalizers` allows no such change.
"""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

from oarlock.api.containerspec import FINALIZER
from oarlock.api.identity import Key
from oarlock.errors import ObjectGone, SourceUnavailable
from oarlock.sources.kubernetes import patches
from oarlock.sources.kubernetes.addresses import path_of
from oarlock.sources.kubernetes.apiserver import JSON_PATCH, Answer, ApiServer
from oarlock.sources.kubernetes.backoff import Backoff
from oarlock.sources.kubernetes.inventory import Inventory

log = logging.getLogger("oarlock.sources.kubernetes")

_AT_ONCE = 8


@dataclass(frozen=True, slots=True)
class _Now:
    """An object's finalizers now, and whether it is being deleted."""

    finalizers: tuple[str, ...]
    deleted: bool


class Finalizers:
    """Puts the finalizer on and takes it off; both go on through any absence of the API server."""

    def __init__(self, api: ApiServer, inventory: Inventory) -> None:
        self._api, self._inventory = api, inventory
        self._turns = asyncio.Semaphore(_AT_ONCE)
        self._explained: dict[Key, int] = {}

    async def hold(self, key: Key) -> None:
        """Put it on, acknowledged; at once when it is on already.

        Raises:
            ObjectGone: the object does not exist any more, or is being deleted: it takes no finalizer then.
        """
        now = self._seen(key)
        backoff = Backoff()
        while True:
            try:
                now = now or await self._look(key)
                if now is None or self._inventory.is_gone(key):
                    raise ObjectGone(f"{key} does not exist any more")
                if FINALIZER in now.finalizers:
                    return
                if now.deleted:
                    raise ObjectGone(f"{key} is being deleted")
                answer = await self._patch(key, patches.add_finalizer(key.uid, FINALIZER, now.finalizers))
                if answer.ok:
                    now = self._seen(key)
                    if now is None or FINALIZER in now.finalizers:
                        return  # else somebody has taken it off again
                else:
                    self._explain(key, "put on", answer)
            except SourceUnavailable:
                pass
            now = None
            await self._api.pause(backoff.next())

    async def release(self, key: Key) -> None:
        """Take it off, acknowledged; fine when it is off, or the object gone, already."""
        now = self._seen(key)
        backoff = Backoff()
        while not self._inventory.is_gone(key):
            try:
                now = now or await self._look(key)
                if now is None or FINALIZER not in now.finalizers:
                    return
                answer = await self._patch(key, patches.remove_finalizer(key.uid, FINALIZER, now.finalizers))
                if answer.ok:
                    return
                self._explain(key, "taken off", answer)
            except SourceUnavailable:
                pass
            now = None
            await self._api.pause(backoff.next())

    def _seen(self, key: Key) -> _Now | None:
        seen = self._inventory[key]
        return None if seen is None else _Now(seen.finalizers, seen.deleted)

    async def _patch(self, key: Key, patch: list[dict[str, Any]]) -> Answer:
        async with self._turns:
            answer = await self._api.request("PATCH", path_of(key), body=patch, content_type=JSON_PATCH)
        if answer.ok:
            self._explained.pop(key, None)
            self._inventory.patched(key, answer.document())
        return answer

    async def _look(self, key: Key) -> _Now | None:
        """The object as the API has it; None when it, this very one, does not exist.

        Raises:
            SourceUnavailable: no answer that says so; a resource that is not served says nothing of objects.
        """
        async with self._turns:
            answer = await self._api.request("GET", path_of(key))
        if answer.not_found(key.name):
            return None
        if not answer.ok:
            raise SourceUnavailable(f"{key}: {answer}")
        meta = answer.document()["metadata"]
        if meta["uid"] != key.uid:
            return None
        return _Now(tuple(meta.get("finalizers") or ()), "deletionTimestamp" in meta)

    def _explain(self, key: Key, done: str, answer: Answer) -> None:
        """Say why a patch failed unless that is the usual: the object changed, or went, meanwhile."""
        usual = (HTTPStatus.NOT_FOUND, HTTPStatus.CONFLICT, HTTPStatus.UNPROCESSABLE_ENTITY)
        if answer.status not in usual and not answer.away and self._explained.get(key) != answer.status:
            self._explained[key] = answer.status
            log.warning("%s: its finalizer cannot be %s: %s; trying again", key, done, answer)
