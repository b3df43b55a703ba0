"""The Kubernetes source against a real API server, with a sink that records instead of an engine."""

from __future__ import annotations

import asyncio
import contextlib
import json
from dataclasses import dataclass
from pathlib import Path

import pytest
from kubernetes.aio.config import incluster_config

from oarlock.api.containerspec import FINALIZER
from oarlock.api.identity import KUBERNETES, Key
from oarlock.errors import ObjectGone, SourceUnavailable
from oarlock.sources.kubernetes import client
from oarlock.sources.kubernetes.source import KubernetesSource
from tests.cluster.faulty_proxy import FaultyProxy
from tests.cluster.serving import CRD
from tests.cluster.source import (
    NODE,
    SOON,
    Objects,
    Recorder,
    eventually,
    running,
    status,
    threads,
    watched,
)


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
            async with asyncio.timeout(SOON):
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
    await objects.cached(lambda items: [(each.get("status") or {}).get("phase") for each in items] == ["Running"])
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
        await sink.until(lambda: "next" in sink.objects)
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
    stop = {"spec": {"state": "Stopped"}}
    await client.patch_object(admin, "default", "mine", uid, stop)
    found = await objects.get("mine")
    assert found is not None
    assert found["spec"]["state"] == "Stopped"
    await objects.merge("mine", {"metadata": {"annotations": {"kept": "yes"}}})
    await client.patch_object(admin, "default", "mine", uid, {"metadata": {"annotations": {"new": "too"}}})
    found = await objects.get("mine")
    assert found is not None
    assert found["metadata"]["annotations"] == {"kept": "yes", "new": "too"}
    other = "11111111-2222-3333-4444-555555555555"
    with pytest.raises(ObjectGone, match="default/mine was deleted and made again"):
        await client.patch_object(admin, "default", "mine", other, stop)
    with pytest.raises(ObjectGone, match="made again"):
        await client.delete_object(admin, "default", "mine", other)
    with pytest.raises(SourceUnavailable, match="state"):
        wrong = {"spec": {"state": "Sideways"}}
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
