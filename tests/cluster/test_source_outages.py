"""The Kubernetes source while its API server is away, refuses, hangs or tells half of it."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Any

import pytest

from oarlock.api.identity import KUBERNETES, Key
from tests.cluster.faulty_proxy import FaultyProxy
from tests.cluster.serving import CRD
from tests.cluster.source import SOON, Objects, eventually, running, status, threads, watched


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
        async with asyncio.timeout(SOON):
            await holding
            for number in range(20):
                await objects.until(f"work-{number}", lambda obj: (obj.get("status") or {}).get("exitCode") == 3)
        await objects.create("new")
        await sink.until(lambda: "new" in sink.objects)
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
        await watched(source, sink)


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
            await sink.until(lambda: set(sink.lost) == lost)
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
            began = time.monotonic()
            with proxy.answering(code) as fault:
                proxy.drop_connections()
                source.report(key, status("Running"))
                holding = asyncio.create_task(source.hold(key))
                await objects.create("meanwhile")
                await eventually(lambda: fault.hits >= 15)
                assert time.monotonic() - began > 0.5, "without a pause"
                assert not holding.done()
            await objects.until("patient", lambda obj: (obj.get("status") or {}).get("phase") == "Running")
            await asyncio.wait_for(holding, SOON)
            await sink.until(lambda: "meanwhile" in sink.objects)
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
            await sink.until(lambda: "meanwhile" in sink.objects)
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
        await sink.until(lambda: "second" in sink.objects)
        source.report(sink.objects["second"].key, status("Running"))
        await objects.until("second", lambda obj: (obj.get("status") or {}).get("phase") == "Running")
        await watched(source, sink)


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
            await watched(source, sink)
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
                await sink.until(lambda code=code: f"after-{code}" in sink.objects)
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
            await sink.until(lambda number=number: f"next-{number}" in sink.objects)
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
        await sink.until(lambda: "late" in sink.objects)
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
            await eventually(lambda: source._api.answers is False)
            assert source.unsent == 1
        finally:
            objects.cluster.resume()
        await objects.until("frozen", lambda obj: (obj.get("status") or {}).get("exitCode") == 3)
