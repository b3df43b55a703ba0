"""The Kubernetes source against a real API server, with a sink that records instead of an engine."""

from __future__ import annotations

import asyncio
import contextlib
import json
import ssl
import threading
import time
from collections.abc import AsyncIterator, Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from kubernetes.aio.config import incluster_config

from oarlock.api.accepted import Accepted
from oarlock.api.containerspec import FINALIZER
from oarlock.api.identity import KUBERNETES, Key
from oarlock.errors import ObjectGone, SourceUnavailable
from oarlock.sources.kubernetes import client
from oarlock.sources.kubernetes.source import KubernetesSource
from tests.cluster.control_plane import ControlPlane
from tests.cluster.faulty_proxy import FaultyProxy
from tests.cluster.serving import CRD, RBAC

NODE = "node-a"
COLLECTION = "/apis/oarlock.dev/v1alpha1/namespaces/default/containerspecs"


# ------------------------------------------------------------ what the tests stand on
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

    async def until(self, fact: Callable[[], bool], seconds: float = 10) -> None:
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
        for name in await self.names():
            await self.merge(name, {"metadata": {"finalizers": None}})
            await self.delete(name)

    async def delete_all(self) -> None:
        await self._do("DELETE", COLLECTION)

    async def names(self) -> list[str]:
        found = await self._do("GET", COLLECTION)
        return [item["metadata"]["name"] for item in found["items"]]

    async def until(self, name: str, fact: Callable[[dict[str, Any]], bool], seconds: float = 5) -> float:
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
        async with self._session.request(method, self.cluster.url + path, **more) as answer:
            if absent and answer.status == 404:
                return None
            text = await answer.text()
            assert answer.status < 300, text
            return json.loads(text)


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


@pytest.fixture(scope="module")
def least(cluster: ControlPlane) -> Iterator[ControlPlane]:
    """The cluster, with the user `oarlock` bound to the least rights that the operator needs."""
    cluster.kubectl("apply", "-f", "-", input=RBAC)
    yield cluster
    cluster.kubectl("delete", "-f", "-", input=RBAC)


@pytest.fixture
async def objects(least: ControlPlane) -> AsyncIterator[Objects]:
    headers = {"Authorization": f"Bearer {least.tokens['admin']}"}
    trust = ssl.create_default_context(cafile=str(least.ca_file))
    connector = aiohttp.TCPConnector(ssl=trust, limit=32)
    async with aiohttp.ClientSession(headers=headers, connector=connector) as session:
        made = Objects(least, session)
        yield made
        if not least.ready():
            await asyncio.to_thread(least.restart_api)
        await made.clear()


@contextlib.asynccontextmanager
async def running(
    cluster: ControlPlane,
    *,
    kubeconfig: Path | None = None,
    known: Collection[Key] = (),
    synced: bool = True,
) -> AsyncIterator[tuple[KubernetesSource, Recorder]]:
    """A source that runs, as the user with the least rights; stopped within two seconds at the end."""
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
        assert time.monotonic() - began < 2


async def watched(source: KubernetesSource, sink: Recorder, seconds: float = 10) -> None:
    """Wait until the watch is open and the list that follows kopf's own is complete."""
    async with asyncio.timeout(seconds):
        while not source.watched:
            watching = source._watching
            await (watching.open.wait() if watching else asyncio.sleep(0.02))
    await source._lister.listed()


async def eventually(fact: Callable[[], bool], seconds: float = 10) -> None:
    """Wait for a fact that nobody announces."""
    async with asyncio.timeout(seconds):
        while not fact():  # noqa: ASYNC110 (no event tells)
            await asyncio.sleep(0.02)


def threads() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name == "kopf"]


# ------------------------------------------------------------ what comes in
async def test_objects_arrive_change_and_go(objects: Objects) -> None:
    await objects.create("before", args=["a"])
    async with running(objects.cluster) as (source, sink):
        before = await sink.object("before")
        assert (before.generation, before.spec.args, before.deleted, before.finalizer) == (
            1,
            ["a"],
            False,
            False,
        )
        assert before.given["command"] == ["true"]
        assert source.available
        assert source.synced

        await objects.create("after", metadata={"labels": {"a": "b"}, "annotations": {"c": "d"}})
        after = await sink.object("after")
        assert (after.labels, dict(after.annotations)["c"]) == ({"a": "b"}, "d")
        assert after.created.endswith("Z")

        await objects.merge("after", {"spec": {"state": "Stopped"}})
        await sink.until(lambda: sink.objects["after"].generation == 2)
        assert sink.objects["after"].spec.state == "Stopped"

        await objects.merge("after", {"metadata": {"annotations": {"oarlock.dev/restartedAt": "now"}}})
        await sink.until(lambda: "oarlock.dev/restartedAt" in sink.objects["after"].annotations)

        await objects.delete("after")
        await sink.until(lambda: sink.lost == [after.key])
    await eventually(lambda: not threads())


async def test_objects_of_other_nodes_never_arrive(objects: Objects) -> None:
    async with running(objects.cluster) as (_, sink):
        calls = len(sink.calls)
        await asyncio.gather(*(objects.create(f"other-{number}", node="node-b") for number in range(1000)))
        await objects.create("ours")
        await sink.object("ours")
        assert sink.calls[calls:] == ["applied ours"]
    await objects.delete_all()


async def test_an_object_the_model_refuses_is_refused_and_told_why(objects: Objects) -> None:
    crd = json.loads(objects.cluster.kubectl("get", "crd", "containerspecs.oarlock.dev", "-o", "json"))
    schema = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
    version = crd["spec"]["versions"][0]
    version["schema"]["openAPIV3Schema"]["properties"]["spec"] = {
        **schema,
        "properties": {"nodeName": {"type": "string"}},
    }
    objects.cluster.kubectl("replace", "-f", "-", input=json.dumps(crd))
    try:
        async with running(objects.cluster) as (_, sink):
            made = None
            async with asyncio.timeout(10):
                while made is None:
                    with contextlib.suppress(AssertionError):
                        made = await objects.create("broken", terminationGracePeriodSeconds=-1)
            await sink.until(lambda: "broken" in sink.refusals)
            assert "spec.terminationGracePeriodSeconds" in sink.refusals["broken"]
            await objects.merge("broken", {"spec": {"terminationGracePeriodSeconds": 1}})
            assert (await sink.object("broken")).generation == 2
            await objects.delete("broken")
            await sink.until(lambda: len(sink.lost) == 1)
    finally:
        objects.cluster.apply_crd(CRD)


async def test_deleted_and_made_again_are_two_objects(objects: Objects) -> None:
    async with running(objects.cluster) as (source, sink):
        await objects.create("twice")
        first = (await sink.object("twice")).key
        source.report(first, status("Running"))
        await objects.until("twice", lambda obj: (obj.get("status") or {}).get("phase") == "Running")
        await objects.delete("twice")
        await objects.create("twice")
        await sink.until(lambda: first in sink.lost and "twice" in sink.objects)
        second = sink.objects["twice"].key
        assert second != first
        source.report(first, status("Failed"))
        source.report(second, status("Pending"))
        await objects.until("twice", lambda obj: (obj.get("status") or {}).get("phase") == "Pending")


# ------------------------------------------------------------ finalizers
async def test_the_finalizer_goes_on_and_off_and_leaves_the_others(objects: Objects) -> None:
    async with running(objects.cluster) as (source, sink):
        await objects.create("bare")
        await objects.create("theirs", metadata={"finalizers": ["example.com/theirs", "example.com/too"]})
        for name, others in {"bare": [], "theirs": ["example.com/theirs", "example.com/too"]}.items():
            key = (await sink.object(name)).key
            await source.hold(key)
            found = await objects.get(name)
            assert found is not None
            assert found["metadata"]["finalizers"] == [*others, FINALIZER]
            await sink.until(lambda name=name: sink.objects[name].finalizer)
            await source.hold(key)

            await objects.delete(name)
            await sink.until(lambda name=name: sink.objects[name].deleted)
            await source.release(key)
            if others:
                found = await objects.get(name)
                assert found is not None
                assert found["metadata"]["finalizers"] == others
                await objects.merge(name, {"metadata": {"finalizers": None}})
            await sink.until(lambda key=key: key in sink.lost)
            await source.release(key)


async def test_finalizers_that_changed_unseen_are_read_again(objects: Objects) -> None:
    async with running(objects.cluster) as (source, sink):
        await objects.create("raced")
        key = (await sink.object("raced")).key
        seen = source._inventory[key]
        assert seen is not None
        await objects.merge("raced", {"metadata": {"finalizers": ["example.com/a", "example.com/b"]}})
        seen.finalizers, seen.version = (), seen.version + 1000
        await source.hold(key)
        found = await objects.get("raced")
        assert found is not None
        assert found["metadata"]["finalizers"] == ["example.com/a", "example.com/b", FINALIZER]
        seen.finalizers = (FINALIZER,)
        await source.release(key)
        found = await objects.get("raced")
        assert found is not None
        assert found["metadata"]["finalizers"] == ["example.com/a", "example.com/b"]


async def test_what_is_gone_or_going_is_not_held(objects: Objects) -> None:
    async with running(objects.cluster) as (source, sink):
        await objects.create("going", metadata={"finalizers": ["example.com/theirs"]})
        key = (await sink.object("going")).key
        await objects.delete("going")
        with pytest.raises(ObjectGone):
            await source.hold(key)
        other = Key(KUBERNETES, "default", "going", "11111111-2222-3333-4444-555555555555")
        never = Key(KUBERNETES, "default", "never", "11111111-2222-3333-4444-555555555555")
        for absent in (other, never):
            with pytest.raises(ObjectGone):
                await source.hold(absent)
            await source.release(absent)


# ------------------------------------------------------------ statuses
async def test_each_report_is_one_patch_and_idle_is_silence(objects: Objects) -> None:
    with FaultyProxy(objects.cluster) as proxy:
        async with running(objects.cluster, kubeconfig=objects.cluster.kubeconfig("oarlock", url=proxy.url)) as (
            source,
            sink,
        ):
            await objects.create("said")
            key = (await sink.object("said")).key
            running_now = status("Running", pid=42, exitCode=None, conditions=[])
            proxy.requests.clear()
            source.report(key, running_now)
            await objects.until("said", lambda obj: (obj.get("status") or {}).get("pid") == 42)
            source.report(key, dict(running_now))
            source.report(key, {**running_now, "signal": None})
            source.report(key, status("Failed", exitCode=3))
            await objects.until("said", lambda obj: (obj.get("status") or {}).get("exitCode") == 3)
            found = await objects.get("said")
            assert found is not None
            assert found["status"] == status("Failed", exitCode=3)
            calls = len(sink.calls)
            await asyncio.sleep(4)  # silence is the fact that is waited for
            assert [request.method for request in proxy.requests] == ["PATCH", "PATCH"]
            assert len(sink.calls) == calls
            assert source.unsent == 0


async def test_the_latest_of_many_reports_wins(objects: Objects) -> None:
    async with running(objects.cluster) as (source, sink):
        await objects.create("busy")
        key = (await sink.object("busy")).key
        before = objects.cluster.request_count(verb="PATCH", subresource="status")
        for number in range(100):
            source.report(key, status("Running", restartCount=number))
        await objects.until("busy", lambda obj: (obj.get("status") or {}).get("restartCount") == 99)
        assert objects.cluster.request_count(verb="PATCH", subresource="status") - before <= 2


async def test_a_status_that_the_api_has_is_not_written_again(objects: Objects) -> None:
    await objects.create("kept")
    await objects.merge("kept", {"status": status("Running")}, "/status")
    found = await objects.get("kept")
    assert found is not None
    key = Key(KUBERNETES, "default", "kept", found["metadata"]["uid"])
    with FaultyProxy(objects.cluster) as proxy:
        kubeconfig = objects.cluster.kubeconfig("oarlock", url=proxy.url)
        async with running(objects.cluster, kubeconfig=kubeconfig, known=[key], synced=False) as (
            source,
            sink,
        ):
            source.report(key, status("Running"))
            await watched(source, sink)
            assert not [request for request in proxy.requests if request.method == "PATCH"]
            await objects.merge("kept", {"status": status("Unknown")}, "/status")
            await objects.until("kept", lambda obj: obj["status"]["phase"] == "Running")


async def test_a_refused_status_is_told_once_and_harms_no_other(
    objects: Objects, caplog: pytest.LogCaptureFixture
) -> None:
    async with running(objects.cluster) as (source, sink):
        await objects.create("wrong")
        await objects.create("right")
        wrong, right = (await sink.object("wrong")).key, (await sink.object("right")).key
        source.report(wrong, status("NoSuchPhase"))
        source.report(right, status("Running"))
        await objects.until("right", lambda obj: (obj.get("status") or {}).get("phase") == "Running")
        await eventually(lambda: "refuses its status" in caplog.text)
        source.report(wrong, status("Running"))
        await objects.until("wrong", lambda obj: (obj.get("status") or {}).get("phase") == "Running")
        assert caplog.text.count("refuses its status") == 1


# ------------------------------------------------------------ the API server away
async def test_the_api_server_restarts_in_mid_work(objects: Objects) -> None:
    async with running(objects.cluster) as (source, sink):
        for number in range(20):
            await objects.create(f"work-{number}")
        await sink.until(lambda: len(sink.objects) == 20)
        keys = [obj.key for obj in sink.objects.values()]
        for key in keys:
            source.report(key, status("Running"))
        await asyncio.to_thread(objects.cluster.stop_api)
        for key in keys:
            source.report(key, status("Failed", exitCode=3))
        holding = asyncio.create_task(source.hold(keys[0]))
        await eventually(lambda: not source.available)
        assert not holding.done()
        await asyncio.to_thread(objects.cluster.start_api)
        async with asyncio.timeout(5):
            await holding
            for number in range(20):
                await objects.until(f"work-{number}", lambda obj: (obj.get("status") or {}).get("exitCode") == 3)
        await objects.create("new")
        await sink.until(lambda: "new" in sink.objects, seconds=15)
        assert not sink.lost


async def test_started_with_the_api_server_away(objects: Objects) -> None:
    await objects.create("waiting")
    found = await objects.get("waiting")
    assert found is not None
    key = Key(KUBERNETES, "default", "waiting", found["metadata"]["uid"])
    await asyncio.to_thread(objects.cluster.stop_api)
    async with running(objects.cluster, known=[key], synced=False) as (source, sink):
        source.report(key, status("Running"))
        await eventually(lambda: source._api.answers is False)
        assert not sink.calls
        await asyncio.to_thread(objects.cluster.start_api)
        await objects.until("waiting", lambda obj: (obj.get("status") or {}).get("phase") == "Running")
        assert set(sink.alive) == {key}
        await watched(source, sink, seconds=5)


async def test_an_object_that_vanished_while_nobody_watched_is_gone(objects: Objects) -> None:
    with FaultyProxy(objects.cluster) as proxy:
        kubeconfig = objects.cluster.kubeconfig("oarlock", url=proxy.url)
        async with running(objects.cluster, kubeconfig=kubeconfig) as (source, sink):
            await objects.create("vanishes")
            await objects.create("stays")
            await objects.create("again")
            lost = {(await sink.object(name)).key for name in ("vanishes", "again")}
            kept = (await sink.object("stays")).key
            await asyncio.to_thread(proxy.close_port)
            for name in ("vanishes", "again"):
                await objects.delete(name)
            again = await objects.create("again")
            await asyncio.to_thread(objects.cluster.compact_etcd)
            await asyncio.to_thread(objects.cluster.restart_api)
            await asyncio.to_thread(proxy.open_port)
            await sink.until(lambda: set(sink.lost) == lost, seconds=30)
            await sink.until(
                lambda: "again" in sink.objects and sink.objects["again"].key.uid == again["metadata"]["uid"]
            )
            await source._lister.listed()
            assert kept in sink.alive
            assert not lost & set(sink.alive)


async def test_a_record_whose_object_is_gone_is_found_at_the_start(objects: Objects) -> None:
    await objects.create("there")
    found = await objects.get("there")
    assert found is not None
    there = Key(KUBERNETES, "default", "there", found["metadata"]["uid"])
    gone = Key(KUBERNETES, "default", "gone", "11111111-2222-3333-4444-555555555555")
    async with running(objects.cluster, known=[there, gone]) as (_, sink):
        assert sink.lost == [gone]
        assert set(sink.alive) == {there}


async def test_a_list_that_misses_an_object_takes_nothing_away(objects: Objects) -> None:
    async with running(objects.cluster) as (source, sink):
        await objects.create("new")
        key = (await sink.object("new")).key

        async def stale() -> list[dict[str, Any]]:
            return []

        source._lister._pages = stale
        await source._lister.listed()
        assert not sink.lost
        assert key in sink.alive


@pytest.mark.parametrize("code", [401, 403, 429, 500, 503])
async def test_refusals_are_waited_out(objects: Objects, code: int) -> None:
    with FaultyProxy(objects.cluster) as proxy:
        kubeconfig = objects.cluster.kubeconfig("oarlock", url=proxy.url)
        async with running(objects.cluster, kubeconfig=kubeconfig) as (source, sink):
            await objects.create("patient")
            key = (await sink.object("patient")).key
            with proxy.answering(code) as fault:
                proxy.drop_connections()
                source.report(key, status("Running"))
                holding = asyncio.create_task(source.hold(key))
                await objects.create("meanwhile")
                began = time.monotonic()
                await eventually(lambda: fault.hits >= 15)
                assert time.monotonic() - began > 0.5, "without a pause"
                assert not holding.done()
            await objects.until("patient", lambda obj: (obj.get("status") or {}).get("phase") == "Running")
            await asyncio.wait_for(holding, 5)
            await sink.until(lambda: "meanwhile" in sink.objects, seconds=15)
            assert not sink.lost


async def test_an_expired_token_is_replaced_when_the_file_changes(objects: Objects) -> None:
    cluster = objects.cluster
    with FaultyProxy(cluster) as proxy:
        kubeconfig = cluster.kubeconfig_with_token_file("oarlock", url=proxy.url)
        async with running(cluster, kubeconfig=kubeconfig) as (source, sink):
            await objects.create("expires")
            key = (await sink.object("expires")).key
            await asyncio.to_thread(cluster.rotate_token, "oarlock")
            source.report(key, status("Running"))
            await objects.create("meanwhile")
            await eventually(lambda: not source.available)
            await eventually(lambda: sum(request.status == 401 for request in proxy.requests) >= 6)
            assert "meanwhile" not in sink.objects
            cluster.deliver_token("oarlock")
            await objects.until("expires", lambda obj: (obj.get("status") or {}).get("phase") == "Running")
            await sink.until(lambda: "meanwhile" in sink.objects, seconds=15)
            assert not sink.lost


async def test_the_crd_deleted_and_made_again(objects: Objects) -> None:
    cluster = objects.cluster
    async with running(cluster) as (source, sink):
        await objects.create("first")
        first = (await sink.object("first")).key
        try:
            await asyncio.to_thread(cluster.kubectl, "delete", "-f", str(CRD))
            await sink.until(lambda: sink.lost == [first])
            source.report(first, status("Failed"))
        finally:
            await asyncio.to_thread(cluster.apply_crd, CRD)
        await objects.create("second")
        await sink.until(lambda: "second" in sink.objects, seconds=15)
        source.report(sink.objects["second"].key, status("Running"))
        await objects.until("second", lambda obj: (obj.get("status") or {}).get("phase") == "Running")
        await watched(source, sink, seconds=5)


async def test_a_resource_that_is_not_served_says_nothing_of_its_objects(objects: Objects) -> None:
    cluster = objects.cluster
    with FaultyProxy(cluster) as proxy:
        kubeconfig = cluster.kubeconfig("oarlock", url=proxy.url)
        async with running(cluster, kubeconfig=kubeconfig) as (source, sink):
            await objects.create("kept")
            key = (await sink.object("kept")).key
            with proxy.answering(404) as fault:
                proxy.drop_connections()
                source._ask()
                source.report(key, status("Running"))
                await eventually(lambda: fault.hits >= 8)
            await watched(source, sink, seconds=10)
            await objects.until("kept", lambda obj: (obj.get("status") or {}).get("phase") == "Running")
            assert not sink.lost
            await objects.create("next")
            await sink.object("next")


async def test_an_error_event_in_the_watch_ends_nothing_but_the_watch(objects: Objects) -> None:
    with FaultyProxy(objects.cluster) as proxy:
        kubeconfig = objects.cluster.kubeconfig("oarlock", url=proxy.url)
        async with running(objects.cluster, kubeconfig=kubeconfig) as (source, sink):
            for code in (500, 410, 504):
                await eventually(lambda: proxy.open_watches == 1)
                assert proxy.send_error_event(code) == 1
                await objects.create(f"after-{code}")
                await sink.until(lambda code=code: f"after-{code}" in sink.objects, seconds=15)
                await watched(source, sink)
            assert len(threads()) == 1


async def test_a_watch_thread_that_ends_is_begun_anew(objects: Objects) -> None:
    async with running(objects.cluster) as (source, sink):
        for number in range(3):
            watching = source._watching
            assert watching is not None
            assert watching._kopf is not None
            watching._kopf.call_soon_threadsafe(_cancel_all, watching._kopf)
            await objects.create(f"next-{number}")
            await sink.until(lambda number=number: f"next-{number}" in sink.objects, seconds=15)
            await watched(source, sink)
            assert source._watching is not watching
        assert len(threads()) == 1


def _cancel_all(loop: asyncio.AbstractEventLoop) -> None:
    for task in asyncio.all_tasks(loop):
        task.cancel()


async def test_a_kubeconfig_that_cannot_be_used_is_tried_again(
    objects: Objects, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    good = objects.cluster.kubeconfig("oarlock").read_text()
    path = tmp_path / "kubeconfig"
    path.write_text(good.replace('"current-context"', '"current"'))
    await objects.create("late")
    async with running(objects.cluster, kubeconfig=path, synced=False) as (source, sink):
        await eventually(lambda: source._api.answers is False)
        path.write_text(good)
        await sink.until(lambda: "late" in sink.objects, seconds=15)
    assert "cannot be used" in caplog.text
    assert objects.cluster.tokens["oarlock"] not in caplog.text


async def test_a_frozen_api_server_is_waited_for(objects: Objects) -> None:
    async with running(objects.cluster) as (source, sink):
        await objects.create("frozen")
        key = (await sink.object("frozen")).key
        objects.cluster.pause()
        try:
            source.report(key, status("Running"))
            source.report(key, status("Failed", exitCode=3))
            await eventually(lambda: source._api.answers is False, seconds=15)
            assert source.unsent == 1
        finally:
            objects.cluster.resume()
        await objects.until("frozen", lambda obj: (obj.get("status") or {}).get("exitCode") == 3)


async def test_an_invalid_object_can_still_be_deleted(objects: Objects) -> None:
    async with running(objects.cluster) as (source, sink):
        await objects.create("spoilt")
        key = (await sink.object("spoilt")).key
        await source.hold(key)
        await sink.until(lambda: sink.objects["spoilt"].finalizer)
        await objects.delete("spoilt")
        await sink.until(lambda: sink.objects["spoilt"].deleted)
        found = await objects.get("spoilt")
        assert found is not None
        found["spec"]["command"] = 7
        found["metadata"]["generation"] += 1
        source._seen("MODIFIED", found)
        assert sink.lost == [key]
        await source.release(key)
        assert await objects.get("spoilt") is None


# ------------------------------------------------------------ credentials
async def test_a_service_account_and_its_changed_token(
    objects: Objects, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cluster = objects.cluster
    token = tmp_path / "token"
    token.write_text(cluster.tokens["oarlock"] + "\n")
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "127.0.0.1")
    monkeypatch.setenv("KUBERNETES_SERVICE_PORT", str(cluster.port))
    monkeypatch.setattr(incluster_config, "SERVICE_TOKEN_FILENAME", str(token))
    monkeypatch.setattr(incluster_config, "SERVICE_CERT_FILENAME", str(cluster.ca_file))
    sink = Recorder()
    source = KubernetesSource(NODE, None, True, sink)
    task = asyncio.create_task(source.run())
    try:
        await watched(source, sink)
        await objects.create("inside")
        key = (await sink.object("inside")).key
        await asyncio.to_thread(cluster.rotate_token, "oarlock")
        token.write_text(cluster.tokens["oarlock"])
        source.report(key, status("Running"))
        await objects.until("inside", lambda obj: (obj.get("status") or {}).get("phase") == "Running")
        await objects.create("next")
        await sink.until(lambda: "next" in sink.objects, seconds=15)
    finally:
        task.cancel()
        await asyncio.wait({task})


async def test_the_servers_certificate_and_name_are_checked(objects: Objects, tmp_path: Path) -> None:
    good = json.loads(objects.cluster.kubeconfig().read_text())

    async def version(**changes: str) -> str:
        path = tmp_path / "kubeconfig"
        cluster = {**good["clusters"][0]["cluster"], **changes}
        cluster = {name: value for name, value in cluster.items() if value}
        path.write_text(json.dumps({**good, "clusters": [{"name": "test", "cluster": cluster}]}))
        return await client.server_version(Config(path))

    assert await version(**{"tls-server-name": "localhost"}) == "v1.37.2"
    with pytest.raises(SourceUnavailable, match="certificate is not trusted"):
        await version(**{"tls-server-name": "another"})
    with pytest.raises(SourceUnavailable, match="certificate is not trusted"):
        await version(**{"certificate-authority": ""})


# ------------------------------------------------------------ the command line's requests
@dataclass(frozen=True)
class Config:
    kubeconfig: Path | None
    in_cluster: bool = False


async def test_the_command_line_patches_and_deletes_the_very_object(objects: Objects, tmp_path: Path) -> None:
    admin = Config(objects.cluster.kubeconfig())
    uid = (await objects.create("mine"))["metadata"]["uid"]
    stop = [{"op": "add", "path": "/spec/state", "value": "Stopped"}]
    await client.patch_object(admin, "default", "mine", uid, stop)
    found = await objects.get("mine")
    assert found is not None
    assert found["spec"]["state"] == "Stopped"
    other = "11111111-2222-3333-4444-555555555555"
    with pytest.raises(ObjectGone, match="default/mine was deleted and made again"):
        await client.patch_object(admin, "default", "mine", other, stop)
    with pytest.raises(ObjectGone, match="made again"):
        await client.delete_object(admin, "default", "mine", other)
    with pytest.raises(SourceUnavailable, match="state"):
        wrong = [{"op": "add", "path": "/spec/state", "value": "Sideways"}]
        await client.patch_object(admin, "default", "mine", uid, wrong)
    with pytest.raises(SourceUnavailable, match='User "nobody" cannot delete'):
        await client.delete_object(Config(objects.cluster.kubeconfig("nobody")), "default", "mine", uid)
    await client.delete_object(admin, "default", "mine", uid, 3)
    assert await objects.get("mine") is None
    with pytest.raises(ObjectGone, match="does not exist any more"):
        await client.delete_object(admin, "default", "mine", uid)
    with pytest.raises(ObjectGone, match="does not exist any more"):
        await client.patch_object(admin, "default", "mine", uid, stop)
    assert await client.server_version(admin) == "v1.37.2"
    with pytest.raises(SourceUnavailable, match="no such kubeconfig"):
        await client.server_version(Config(tmp_path / "absent"))
