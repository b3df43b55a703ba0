"""What the tests of the Kubernetes source stand on: objects in a real API, and a sink that records what it is told."""

from __future__ import annotations

import asyncio
import contextlib
import json
import threading
import time
from collections.abc import AsyncIterator, Callable, Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp

from oarlock.api.accepted import Accepted
from oarlock.api.identity import KUBERNETES, Key
from oarlock.sources.kubernetes.source import KubernetesSource
from tests.cluster.control_plane import ControlPlane

NODE = "node-a"
SOON = 60.0
"""Seconds in which all is told, on a busy machine too; the list of every 10 minutes comes later."""
COLLECTION = "/apis/oarlock.dev/v1alpha1/namespaces/default/containerspecs"


@dataclass
class Recorder:
    """A sink that remembers all it was told."""

    objects: dict[str, Accepted] = field(default_factory=dict)
    refusals: dict[str, str] = field(default_factory=dict)
    lost: list[Key] = field(default_factory=list)
    alive: Collection[Key] = ()
    calls: list[str] = field(default_factory=list)
    changed: asyncio.Event = field(default_factory=asyncio.Event)

    def applied(self, obj: Accepted) -> None:
        self.objects[obj.key.name] = obj
        self._note(f"applied {obj.key.name}")

    def refused(self, key: Key, generation: int, problem: str) -> None:
        self.refusals[key.name] = f"{generation}: {problem}"
        self._note(f"refused {key.name}")

    def gone(self, key: Key) -> None:
        self.lost.append(key)
        if key.name in self.objects and self.objects[key.name].key == key:
            del self.objects[key.name]
        self._note(f"gone {key.name}")

    def listed(self, source: str, alive: Collection[Key]) -> None:
        assert source == KUBERNETES
        self.alive = alive
        self._note("listed")

    def _note(self, call: str) -> None:
        self.calls.append(call)
        self.changed.set()

    async def until(self, fact: Callable[[], bool], seconds: float = SOON) -> None:
        """Wait until a fact about what was told holds."""
        async with asyncio.timeout(seconds):
            while not fact():
                self.changed.clear()
                await self.changed.wait()

    async def object(self, name: str) -> Accepted:
        await self.until(lambda: name in self.objects)
        return self.objects[name]


class Objects:
    """ContainerSpecs of the default namespace as the cluster's admin writes them."""

    def __init__(self, cluster: ControlPlane, session: aiohttp.ClientSession) -> None:
        self.cluster, self._session = cluster, session

    async def create(self, name: str, *, node: str = NODE, **more: Any) -> dict[str, Any]:
        return await self._do("POST", COLLECTION, json=manifest(name, node=node, **more))

    async def get(self, name: str) -> dict[str, Any] | None:
        return await self._do("GET", f"{COLLECTION}/{name}", absent=True)

    async def merge(self, name: str, change: Mapping[str, Any], subresource: str = "") -> dict[str, Any]:
        return await self._do(
            "PATCH",
            f"{COLLECTION}/{name}{subresource}",
            json=change,
            headers={"Content-Type": "application/merge-patch+json"},
        )

    async def delete(self, name: str) -> None:
        await self._do("DELETE", f"{COLLECTION}/{name}", absent=True)

    async def clear(self) -> None:
        """Delete all, and wait until the API server's watch cache knows: the next source may list from there."""
        for name in await self.names():
            await self.merge(name, {"metadata": {"finalizers": None}})
            await self.delete(name)
        await self.cached(lambda items: not items)

    async def cached(self, fact: Callable[[list[dict[str, Any]]], bool]) -> None:
        """Wait for a fact about what a source would list: from the watch cache, or etcd while that is not ready."""
        query = {"resourceVersion": "0", "limit": "500"}
        async with asyncio.timeout(SOON):
            while not fact((await self._do("GET", COLLECTION, params=query))["items"]):  # noqa: ASYNC110 (no event tells)
                await asyncio.sleep(0.02)

    async def delete_all(self) -> None:
        await self._do("DELETE", COLLECTION)

    async def names(self) -> list[str]:
        found = await self._do("GET", COLLECTION)
        return [item["metadata"]["name"] for item in found["items"]]

    async def until(self, name: str, fact: Callable[[dict[str, Any]], bool], seconds: float = SOON) -> float:
        """Wait for a fact about an object, through watches of it; returns the seconds that took."""
        began = time.monotonic()
        async with asyncio.timeout(seconds):
            while True:
                now = await self.get(name)
                assert now is not None
                if fact(now):
                    return time.monotonic() - began
                query = {
                    "watch": "1",
                    "fieldSelector": f"metadata.name={name}",
                    "resourceVersion": now["metadata"]["resourceVersion"],
                }
                async with self._session.get(self.cluster.url + COLLECTION, params=query) as answer:
                    async for line in answer.content:
                        event = json.loads(line)
                        if event.get("type", "ERROR") == "ERROR":
                            break  # the server only just started, or no longer knows this version
                        if fact(event["object"]):
                            return time.monotonic() - began

    async def _do(self, method: str, path: str, *, absent: bool = False, **more: Any) -> Any:
        async with asyncio.timeout(SOON):
            while True:
                async with self._session.request(method, self.cluster.url + path, **more) as answer:
                    if absent and answer.status == 404:
                        return None
                    text = await answer.text()
                    if answer.status != 429:  # it takes up its work: nothing was done
                        assert answer.status < 300, text
                        return json.loads(text)
                await asyncio.sleep(0.1)


def manifest(name: str, *, node: str = NODE, metadata: Any = None, **spec: Any) -> dict[str, Any]:
    return {
        "apiVersion": "oarlock.dev/v1alpha1",
        "kind": "ContainerSpec",
        "metadata": {"name": name, **(metadata or {})},
        "spec": {"nodeName": node, "rootfs": {"path": "/rootfs"}, "command": ["true"], **spec},
    }


def status(phase: str, **more: Any) -> dict[str, Any]:
    complete = {"observedGeneration": 1, "restartCount": 0, "ready": False, "started": False}
    return {"phase": phase, **complete, **more}


@contextlib.asynccontextmanager
async def running(
    cluster: ControlPlane,
    *,
    kubeconfig: Path | None = None,
    known: Collection[Key] = (),
    synced: bool = True,
) -> AsyncIterator[tuple[KubernetesSource, Recorder]]:
    """A source that runs, as the user with the least rights; stopped within seconds at the end."""
    sink = Recorder()
    source = KubernetesSource(NODE, kubeconfig or cluster.kubeconfig("oarlock"), False, sink, known=lambda: known)
    task = asyncio.create_task(source.run())
    try:
        if synced:
            await watched(source, sink)
        yield source, sink
        assert not task.done(), task
    finally:
        began = time.monotonic()
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
        assert time.monotonic() - began < 30


async def watched(source: KubernetesSource, sink: Recorder, seconds: float = SOON) -> None:
    """Wait until the watch is open and the list that follows kopf's own is complete."""
    async with asyncio.timeout(seconds):
        while not source.watched:
            watching = source._watching
            await (watching.open.wait() if watching else asyncio.sleep(0.02))
    await source._lister.listed()


async def eventually(fact: Callable[[], bool], seconds: float = SOON) -> None:
    """Wait for a fact that nobody announces."""
    async with asyncio.timeout(seconds):
        while not fact():  # noqa: ASYNC110 (no event tells)
            await asyncio.sleep(0.02)


def threads() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name == "kopf"]
