"""Our own list of the node's objects: the only way to know what vanished while nobody looked.

A watch that was away for long begins anew with a list, and says nothing of what is not in it (kopf 1.45: an
object deleted while the API server was down and etcd was compacted gives no event, ever). So we list at the
start, after each list of kopf's, when a patch finds no object, and every ten minutes.

Until one is complete the newest state is asked for: there is nothing yet to know an older one by. Later ones may
come from the API server's watch cache (`resourceVersion=0`), since that costs it the least, and may then be
behind. So an object that is not in it is gone only when a read of that very object says so. A failed list, or a
resource that is not served, says nothing of any object.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Collection
from http import HTTPStatus
from typing import Any

import aiohttp

from oarlock.api.identity import KUBERNETES, Key
from oarlock.errors import SourceUnavailable
from oarlock.reconcile.ports import Sink
from oarlock.sources.kubernetes.addresses import COLLECTION, of_node, path_of
from oarlock.sources.kubernetes.apiserver import ApiServer
from oarlock.sources.kubernetes.backoff import Backoff, jittered
from oarlock.sources.kubernetes.inventory import Inventory, alive

log = logging.getLogger("oarlock.sources.kubernetes")

INTERVAL = 600.0
_PAGE = "500"
_TIMEOUT = aiohttp.ClientTimeout(total=60, sock_connect=3)
_READS_AT_ONCE = 8


class Lister:
    """Lists when asked to and every ten minutes, each time until it has succeeded.

    `known` gives the objects that the engine has records of, also those not seen in this run.
    """

    def __init__(
        self,
        api: ApiServer,
        inventory: Inventory,
        sink: Sink,
        *,
        node_name: str,
        known: Callable[[], Collection[Key]],
        interval: float = INTERVAL,
    ) -> None:
        self._api, self._inventory, self._sink = api, inventory, sink
        self._node_name, self._known, self._interval = node_name, known, interval
        self._asked = asyncio.Event()
        self._waiting: list[asyncio.Future[None]] = []
        self._served = True
        self.complete = False

    def ask(self) -> None:
        """A list that begins after now is needed."""
        self._asked.set()

    async def listed(self) -> None:
        """Wait until a list that began after now is complete."""
        done = asyncio.get_running_loop().create_future()
        self._waiting.append(done)
        self.ask()
        await done

    async def run(self) -> None:
        """List until cancelled."""
        backoff = Backoff()
        while True:
            await self._due()
            waiting, self._waiting = self._waiting, []
            try:
                await self._list()
            except SourceUnavailable as error:
                log.debug("no list of the objects: %s", error)
                self._waiting = waiting + self._waiting
                self._asked.set()
                await self._api.pause(backoff.next())
            else:
                backoff.reset()
                for done in waiting:
                    if not done.done():
                        done.set_result(None)

    async def _due(self) -> None:
        try:
            async with asyncio.timeout(jittered(self._interval, share=0.2)):
                await self._asked.wait()
        except TimeoutError:
            pass
        self._asked.clear()

    async def _list(self) -> None:
        before = self._inventory.keys | set(self._known())
        listed: set[str] = set()
        for obj in await self._pages():
            listed.add(obj["metadata"]["uid"])
            self._inventory.applied(obj)
        await self._bury([key for key in before if key.uid not in listed])
        self._sink.listed(KUBERNETES, alive(self._inventory, self._known()))
        log.log(
            logging.DEBUG if self.complete else logging.INFO,
            "listed the ContainerSpecs of node %s: %d",
            self._node_name,
            len(listed),
        )
        self.complete = True

    async def _pages(self) -> list[dict[str, Any]]:
        """All objects of the node; only a list that is complete is a list.

        Raises:
            SourceUnavailable: there is none.
        """
        objects: list[dict[str, Any]] = []
        query = {"fieldSelector": of_node(self._node_name), "limit": _PAGE}
        if self.complete:
            query["resourceVersion"] = "0"
        while True:
            answer = await self._api.request("GET", COLLECTION, query=query, timeout=_TIMEOUT)
            if not answer.ok:
                self._not_served(answer.status == HTTPStatus.NOT_FOUND, str(answer))
                raise SourceUnavailable(f"the ContainerSpecs cannot be listed: {answer}")
            self._served = True
            document = answer.document()
            objects += document.get("items") or []
            token = (document.get("metadata") or {}).get("continue")
            if not token:
                return objects
            query = {"fieldSelector": query["fieldSelector"], "limit": _PAGE, "continue": token}

    def _not_served(self, absent: bool, answer: str) -> None:
        if self._served and absent:
            log.warning("the API server has no ContainerSpecs (is the CRD applied?); containers go on")
        elif self._served:
            log.warning("the ContainerSpecs cannot be listed: %s; containers go on", answer)
        self._served = False

    async def _bury(self, missing: Collection[Key]) -> None:
        """Ask for each object that the list does not have; what the API server denies is gone.

        Raises:
            SourceUnavailable: it could not be asked for all; those denied until then are gone.
        """
        turns = asyncio.Semaphore(_READS_AT_ONCE)

        async def ask(key: Key) -> None:
            async with turns:
                if not self._inventory.is_gone(key):
                    await self._read(key)

        answers = await asyncio.gather(*(ask(key) for key in missing), return_exceptions=True)
        for answer in answers:
            if isinstance(answer, BaseException):
                raise answer

    async def _read(self, key: Key) -> None:
        answer = await self._api.request("GET", path_of(key))
        if answer.not_found(key.name):
            self._inventory.gone(key)
            return
        if not answer.ok:
            raise SourceUnavailable(f"{key}: {answer}")
        obj = answer.document()
        if obj["metadata"]["uid"] != key.uid or (obj.get("spec") or {}).get("nodeName") != self._node_name:
            self._inventory.gone(key)
        else:
            self._inventory.applied(obj)
