"""Events on ContainerSpecs: what people see of them, and that they never cost the API more than they are worth."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from oarlock.api.identity import KUBERNETES, Key
from oarlock.sources.kubernetes import events
from oarlock.sources.kubernetes.source import KubernetesSource
from tests.cluster.control_plane import ControlPlane
from tests.cluster.faulty_proxy import FaultyProxy
from tests.cluster.serving import RBAC
from tests.cluster.source import NODE, manifest, running
from tests.operating import eventually


class Told:
    """The cluster as its admin sees it: objects, and the events on them."""

    def __init__(self, cluster: ControlPlane) -> None:
        self.cluster = cluster

    def create(self, name: str) -> Key:
        text = self.cluster.kubectl("create", "-o", "json", "-f", "-", input=json.dumps(manifest(name)))
        return Key(KUBERNETES, "default", name, json.loads(text)["metadata"]["uid"])

    def of(self, key: Key) -> list[dict[str, Any]]:
        """The object's events, oldest first."""
        chosen = f"--field-selector=involvedObject.uid={key.uid}"
        found: list[dict[str, Any]] = json.loads(self.cluster.kubectl("get", "events", chosen, "-o", "json"))["items"]
        return sorted(found, key=lambda event: int(event["metadata"]["resourceVersion"]))

    async def until(self, key: Key, *counts: int) -> list[dict[str, Any]]:
        """The object's events once there are that many, with these counts."""
        found: list[dict[str, Any]] = []

        def counted() -> bool:
            found[:] = self.of(key)
            return [event["count"] for event in found] == list(counts)

        await happens(counted)
        return found


async def happens(look: Callable[[], bool]) -> None:
    """Wait for a fact while the source goes on."""
    await asyncio.to_thread(eventually, look, "what was told is in the API")


@pytest.fixture
def told(cluster: ControlPlane) -> Iterator[Told]:
    cluster.kubectl("apply", "-f", "-", input=RBAC)
    eventually(lambda: cluster.may("oarlock", "create", "events"), "these rights count")
    yield Told(cluster)
    cluster.kubectl("delete", "cspec", "--all", "--timeout=30s")
    cluster.kubectl("delete", "events", "--all")


def writes(cluster: ControlPlane) -> tuple[int, int]:
    """How many events were asked to be created, and how many to be patched."""
    return cluster.request_count("events", verb="POST"), cluster.request_count("events", verb="PATCH")


def oom(source: KubernetesSource, key: Key, child: int = 7) -> None:
    source.event(key, "Warning", "ChildOOMKilled", f"the OOM killer took process {child}; the container goes on")


async def test_describe_and_get_events_show_them(told: Told) -> None:
    web = told.create("web")
    async with running(told.cluster) as (source, _):
        oom(source, web)
        (event,) = await told.until(web, 1)
    assert (event["type"], event["reason"]) == ("Warning", "ChildOOMKilled")
    assert (event["reportingComponent"], event["reportingInstance"]) == ("oarlock", NODE)
    assert event["involvedObject"] == {
        "apiVersion": "oarlock.dev/v1alpha1",
        "kind": "ContainerSpec",
        "namespace": "default",
        "name": "web",
        "uid": web.uid,
    }
    described = told.cluster.kubectl("describe", "cspec", "web").partition("\nEvents:")[2]
    listed = told.cluster.kubectl("get", "events"), told.cluster.kubectl("events", "--for=cspec/web")
    for place in (described, *listed):
        assert "Warning" in place
        assert "the OOM killer took process 7; the container goes on" in place


async def test_a_repetition_raises_the_count_and_another_message_is_another_event(told: Told) -> None:
    web = told.create("web")
    async with running(told.cluster) as (source, _):
        for _ in range(3):
            oom(source, web)
        await told.until(web, 3)
        oom(source, web)
        oom(source, web, child=8)
        first, second = await told.until(web, 4, 1)
        assert first["message"] != second["message"]
        assert "x4 over" in told.cluster.kubectl("describe", "cspec", "web")
        told.cluster.kubectl("delete", "event", first["metadata"]["name"])
        oom(source, web)  # as when the API no longer keeps the first
        _, again = await told.until(web, 1, 1)
        assert again["message"] == first["message"]


async def test_one_object_in_circles_does_not_fill_the_api(told: Told) -> None:
    circling, quiet = told.create("circling"), told.create("quiet")
    async with running(told.cluster) as (source, _):
        before = writes(told.cluster)
        for number in range(200):
            oom(source, circling, child=number)
        oom(source, quiet)
        await told.until(quiet, 1)
        created, patched = writes(told.cluster)
        assert (created - before[0], patched - before[1]) == (events.BURST + 1, 0)
        for _ in range(200):
            oom(source, quiet)  # takes one token and no more, as long as it waits
        await told.until(quiet, 201)
        assert writes(told.cluster) == (created, patched + 1)


async def test_events_wait_while_the_api_is_away_and_a_status_does_not_wait_for_them(told: Told) -> None:
    web = told.create("web")
    with FaultyProxy(told.cluster) as proxy:
        kubeconfig = told.cluster.kubeconfig("oarlock", url=proxy.url)
        async with running(told.cluster, kubeconfig=kubeconfig) as (source, sink):
            await sink.object("web")
            with proxy.answering(503, path="/events") as fault:
                oom(source, web)
                await happens(lambda: fault.hits > 1)
                assert told.of(web) == []
                complete = {"observedGeneration": 1, "restartCount": 0, "ready": False, "started": False}
                source.report(web, {"phase": "Running", **complete})
                await happens(lambda: source.unsent == 0)
                oom(source, web)
            await told.until(web, 2)


async def test_a_creation_whose_answer_was_lost_makes_no_second_event(
    told: Told, monkeypatch: pytest.MonkeyPatch
) -> None:
    web = told.create("web")
    monkeypatch.setattr(events, "_name", lambda key: f"{key.name}.the-same")
    for count in (1, 2):
        async with running(told.cluster) as (source, _):
            for _ in range(count):
                oom(source, web)  # the second time the event is there already
            await told.until(web, count)


async def test_without_the_rights_it_is_said_once(told: Told, caplog: pytest.LogCaptureFixture) -> None:
    web = told.create("web")
    cluster_role = json.loads(told.cluster.kubectl("get", "clusterrole", "oarlock-least", "-o", "json"))
    cluster_role["rules"] = [rule for rule in cluster_role["rules"] if rule["resources"] != ["events"]]
    told.cluster.kubectl("replace", "-f", "-", input=json.dumps(cluster_role))
    await happens(lambda: not told.cluster.may("oarlock", "create", "events"))
    caplog.set_level(logging.DEBUG, "oarlock.sources.kubernetes")

    def said() -> list[logging.LogRecord]:
        return [record for record in caplog.records if "is not written" in record.message]

    async with running(told.cluster) as (source, _):
        oom(source, web)
        oom(source, web, child=8)
        await happens(lambda: len(said()) == 2)
    assert [record.levelname for record in said()] == ["INFO", "DEBUG"]
    assert "default/web: event ChildOOMKilled is not written: grant create and patch on events: 403" in caplog.text


async def test_a_long_message_is_cut_and_a_long_name_fits(told: Told) -> None:
    long = told.create("a" * 199 + "." + "b" * 53)
    async with running(told.cluster) as (source, _):
        source.event(long, "Normal", "Told", "ö" * 5000)
        (event,) = await told.until(long, 1)
    assert event["message"].endswith("ö…")
    assert len(event["message"].encode()) <= 1024
