"""The node's conditions: what oarlock finds of its node, on the Node object that `kubectl describe node` shows.

They are written when they change, and not as a heartbeat: the DaemonSet's pods, or whatever runs the operator, say
whether it runs. The right to patch `nodes/status` is all that this takes: a patch that changes nothing reads what is
there, so that a condition keeps since when it is as it is.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any

from oarlock.errors import SourceUnavailable
from oarlock.linux import clock
from oarlock.sources.kubernetes.addresses import node_status
from oarlock.sources.kubernetes.apiserver import Answer, ApiServer
from oarlock.sources.kubernetes.backoff import Backoff

log = logging.getLogger("oarlock.sources.kubernetes")

PREFIX = "Oarlock"
"""Goes before a condition's type, since others write theirs to the same list: OarlockRuntimeReady."""
_MERGE = "application/strategic-merge-patch+json"

_TRIES = 5
"""So often a refusal is heard before it is believed: an API server that has just started knows no rights yet."""

Conditions = Sequence[Mapping[str, str]]


class NodeConditions:
    """Writes the conditions of one node. All of it runs in the engine's loop."""

    def __init__(self, api: ApiServer, node_name: str) -> None:
        self._api, self._node_name = api, node_name
        self._wanted: Conditions = ()
        self._changed = asyncio.Event()
        self._refusals = 0

    def tell(self, conditions: Conditions) -> None:
        """The node's conditions now (Kubernetes' shape); the latest are written. Never blocks."""
        wanted = [_essence(each) for each in conditions]
        if wanted != self._wanted:
            self._wanted = wanted
            self._changed.set()

    async def run(self) -> None:
        """Write until cancelled."""
        while True:
            await self._changed.wait()
            self._changed.clear()
            backoff = Backoff(0.5, 30.0)
            while not await self._send():
                await self._api.pause(backoff.next())

    async def _send(self) -> bool:
        """Bring the Node up to date; False when that is to be tried again."""
        wanted = self._wanted
        try:
            answer = await self._patch({})
            if answer.ok and (changed := _changed(wanted, _found(answer))):
                answer = await self._patch({"status": {"conditions": changed}})
        except SourceUnavailable:
            return False
        if answer.away or answer.status >= HTTPStatus.INTERNAL_SERVER_ERROR:
            return False
        if answer.ok:
            self._refusals = 0
            return True
        self._refusals += 1
        if self._refusals == _TRIES:
            self._explain(answer)
        return self._refusals >= _TRIES

    async def _patch(self, change: Mapping[str, Any]) -> Answer:
        return await self._api.request("PATCH", node_status(self._node_name), body=change, content_type=_MERGE)

    def _explain(self, answer: Answer) -> None:
        """Say why the Node does not show the conditions: nothing hangs on it."""
        if answer.not_found(self._node_name):
            log.info("there is no Node %s in the API to show conditions on", self._node_name)
        else:
            what = "grant patch on nodes/status, or turn --node-conditions off"
            log.info("conditions of Node %s are not written: %s (%s)", self._node_name, answer, what)


def _essence(condition: Mapping[str, str]) -> dict[str, str]:
    told = {field: condition[field] for field in ("status", "reason", "message")}
    return {"type": PREFIX + condition["type"], **told}


def _found(answer: Answer) -> dict[str, Mapping[str, Any]]:
    """The conditions that the Node has, by type."""
    conditions = (answer.document().get("status") or {}).get("conditions") or ()
    return {each["type"]: each for each in conditions}


def _changed(wanted: Conditions, found: Mapping[str, Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Those to be written, with the times that Kubernetes gives them."""
    now = clock.rfc3339(clock.wall())
    changed = []
    for condition in wanted:
        there = found.get(condition["type"], {})
        if any(there.get(field) != value for field, value in condition.items()):
            same = there.get("status") == condition["status"]
            since = there.get("lastTransitionTime") or now if same else now
            changed.append({**condition, "lastTransitionTime": since, "lastHeartbeatTime": now})
    return changed
