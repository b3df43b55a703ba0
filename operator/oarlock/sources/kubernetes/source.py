"""The Kubernetes API as a source of desired state: the watch, the lists, the statuses and the finalizers."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any

from oarlock.api.identity import Key
from oarlock.reconcile.ports import EventKind, Sink
from oarlock.sources.kubernetes.apiserver import ApiServer
from oarlock.sources.kubernetes.backoff import Backoff
from oarlock.sources.kubernetes.credentials import Place
from oarlock.sources.kubernetes.events import Events
from oarlock.sources.kubernetes.finalizers import Finalizers
from oarlock.sources.kubernetes.inventory import Inventory, key_of
from oarlock.sources.kubernetes.listing import INTERVAL, Lister
from oarlock.sources.kubernetes.nodeconditions import Conditions, NodeConditions
from oarlock.sources.kubernetes.statuses import Statuses
from oarlock.sources.kubernetes.watching import Watching

log = logging.getLogger("oarlock.sources.kubernetes")

_TO_OPEN = 10.0
"""Seconds kopf has to open its watch: it sits idle for ever when the resource is not served at its start."""

_STEADY = 30.0
"""Seconds after which a run of kopf counts as a good one."""


class KubernetesSource:
    """Feeds a `Sink` with the ContainerSpecs of one node, and is the `Reporter` for them.

    `report`, `event`, `hold` and `release` may be called at any time, also before `run`: they take effect once the API
    server answers and the object was seen.

    Args:
        kubeconfig: the file to read credentials from, or None for the pod's service account (`in_cluster`).
        known: gives the keys of this source that the engine has records of.
    """

    def __init__(
        self,
        node_name: str,
        kubeconfig: Path | None,
        in_cluster: bool,
        sink: Sink,
        known: Callable[[], Collection[Key]] = tuple,
        *,
        list_interval: float = INTERVAL,
    ) -> None:
        self._node_name = node_name
        self._place = Place(kubeconfig, in_cluster)
        self._api = ApiServer(self._place)
        self._statuses = Statuses(self._api, on_missing=self._ask)
        self._inventory = Inventory(sink, on_status=self._statuses.observed, on_gone=self._statuses.forget)
        self._events = Events(self._api, node_name)
        self._node_conditions = NodeConditions(self._api, node_name)
        self._finalizers = Finalizers(self._api, self._inventory)
        self._lister = Lister(
            self._api, self._inventory, sink, node_name=node_name, known=known, interval=list_interval
        )
        self._watching: Watching | None = None

    # ------------------------------------------------------------ what the node shows of it
    @property
    def available(self) -> bool:
        """Whether the API server answered the latest request."""
        return self._api.answers is True

    @property
    def synced(self) -> bool:
        """Whether a list has been complete since the start: all objects are known to the engine."""
        return self._lister.complete

    @property
    def watched(self) -> bool:
        """Whether the watch is open now."""
        return self._watching is not None and self._watching.open.is_set()

    @property
    def unsent(self) -> int:
        """How many objects have a status that the API does not have yet."""
        return self._statuses.unsent

    def state(self) -> dict[str, Any]:
        """What it says of itself for the node's health."""
        return {"reachable": self.available and self.watched, "synced": self.synced, "unsentStatuses": self.unsent}

    def show_node(self, conditions: Conditions) -> None:
        """Show the node's conditions (Kubernetes' shape) on its Node object. Never blocks; the latest wins."""
        self._node_conditions.tell(conditions)

    # ------------------------------------------------------------ Reporter
    def report(self, key: Key, status: Mapping[str, Any]) -> None:
        """The object's status now; the mapping must not be changed afterwards, and an empty one says nothing."""
        if status and not self._inventory.is_gone(key):
            self._statuses.report(key, status)

    def event(self, key: Key, kind: EventKind, reason: str, message: str) -> None:
        """Make it an event on the object; see `Reporter.event`."""
        self._events.event(key, kind, reason, message)

    async def hold(self, key: Key) -> None:
        """Put the finalizer on; see `Reporter.hold`."""
        await self._finalizers.hold(key)

    async def release(self, key: Key) -> None:
        """Take the finalizer off; see `Reporter.release`."""
        await self._finalizers.release(key)
        self._statuses.forget(key)

    # ------------------------------------------------------------ life
    async def run(self) -> None:
        """List, watch and write until cancelled; ends within about a second then."""
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._lister.run(), name="kubernetes lists")
                tasks.create_task(self._statuses.run(), name="kubernetes statuses")
                tasks.create_task(self._events.run(), name="kubernetes events")
                tasks.create_task(self._node_conditions.run(), name="kubernetes node")
                tasks.create_task(self._watch(), name="kubernetes watch")
        finally:
            await self._api.close()

    async def _watch(self) -> None:
        """Have kopf run, always: begun after a list that succeeded, and again after each end."""
        clock = asyncio.get_running_loop().time
        backoff = Backoff(0.1, 5.0)
        while True:
            await self._lister.listed()
            began = clock()
            self._watching = Watching(self._place, self._node_name, on_event=self._seen, on_listed=self._ask)
            why = await self._run(self._watching)
            self._watching = None
            if clock() - began > _STEADY:
                backoff.reset()
            log.info("the watch ended (%s) and is begun anew", why)
            await asyncio.sleep(backoff.next())

    async def _run(self, watching: Watching) -> str:
        running = asyncio.create_task(watching.run(), name="kopf")
        opening = asyncio.create_task(watching.open.wait(), name="kopf opens its watch")
        try:
            await asyncio.wait({running, opening}, timeout=_TO_OPEN, return_when=asyncio.FIRST_COMPLETED)
            if not running.done() and not watching.open.is_set():
                return f"it was not open within {_TO_OPEN:g} s"
            return await running
        finally:
            opening.cancel()
            running.cancel()
            await asyncio.wait({running, opening})

    def _ask(self) -> None:
        self._lister.ask()

    def _seen(self, kind: str | None, obj: Mapping[str, Any]) -> None:
        if kind == "DELETED":
            self._inventory.gone(key_of(obj))
        else:
            self._inventory.applied(obj)
