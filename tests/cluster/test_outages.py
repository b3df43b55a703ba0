"""The API away, broken, refusing or forgetful: containers and policies go on, and the status is right soon after."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import pytest

from tests.cluster.control_plane import ControlPlane
from tests.cluster.faulty_proxy import FaultyProxy
from tests.cluster.serving import CRD, RBAC, Served, serve
from tests.node_dirs import NodeDirs
from tests.operating import SLEEPER, Operator, census, container, eventually, traps

GO = "while [ ! -e /go ]; do sleep 0.05; done; exit 5"
SOON = 60.0
"""Seconds in which all is told, on a busy machine too: a pause of up to 2.5 s, a list, a patch.

The list of every 10 minutes comes later.
"""


def test_containers_and_policy_go_on_while_the_api_is_away(
    cluster: ControlPlane, served: Served, busybox_rootfs: Path
) -> None:
    served.apply(
        container("web", busybox_rootfs, "sleep", "1000", terminationGracePeriodSeconds=0),
        container("job", busybox_rootfs, "sh", "-c", GO, terminationGracePeriodSeconds=0),
    )
    web = served.wait("web", lambda s: s["phase"] == "Running")["pid"]
    job = served.wait("job", lambda s: s["phase"] == "Running")["pid"]
    cluster.stop_api()
    away_until = time.monotonic() + 60
    try:
        Path(f"/proc/{job}/root/go").write_text("")
        eventually(
            lambda: (
                served.node.status("job").get("restartCount") == 1 and served.node.status("job")["phase"] == "Running"
            ),
            "restarted with the API away",
        )
        served.node.kill()
        served.node.start()
        served.node.wait_ready(2)
        time.sleep(max(0, away_until - time.monotonic()))  # away for a minute in all
    finally:
        cluster.start_api()
    status = served.wait("job", lambda s: s["phase"] == "Running" and s["restartCount"] == 1, SOON)
    assert status["lastState"]["terminated"]["exitCode"] == 5
    assert served.object("web")["status"]["pid"] == web


def test_90_seconds_of_503_end_nothing(cluster: ControlPlane, node_dirs: NodeDirs, busybox_rootfs: Path) -> None:
    with FaultyProxy(cluster) as proxy:
        served = serve(cluster, node_dirs, url=proxy.url)
        try:
            served.apply(container("web", busybox_rootfs, *SLEEPER))
            traps(served.wait("web", lambda s: s["phase"] == "Running")["pid"])
            with proxy.answering(503):
                proxy.drop_connections()
                served.apply(container("web", busybox_rootfs, *SLEEPER, state="Stopped"))
                time.sleep(90)  # longer than the retries of any client
            status = served.wait("web", lambda s: s["phase"] == "Stopped", SOON)
            assert status["exitCode"] == 7
            cluster.kubectl("delete", "cspec", "web", "--timeout=30s")
        finally:
            served.node.kill()


def test_the_definition_deleted_and_made_again(served: Served, busybox_rootfs: Path) -> None:
    served.apply(container("web", busybox_rootfs, *SLEEPER))
    traps(served.wait("web", lambda s: s["phase"] == "Running")["pid"])
    served.cluster.kubectl("delete", "crd", "containerspecs.oarlock.dev", "--timeout=60s")
    eventually(lambda: not served.node.records(), "the objects went with their definition")
    served.cluster.apply_crd(CRD)
    served.apply(container("web", busybox_rootfs, *SLEEPER))
    served.wait("web", lambda s: s["phase"] == "Running")


def test_an_object_that_vanished_while_the_watch_was_down_is_stopped(
    cluster: ControlPlane, node_dirs: NodeDirs, busybox_rootfs: Path
) -> None:
    with FaultyProxy(cluster) as proxy:
        served = serve(cluster, node_dirs, url=proxy.url)
        try:
            served.apply(container("web", busybox_rootfs, *SLEEPER))
            traps(served.wait("web", lambda s: s["phase"] == "Running")["pid"])
            proxy.close_port()
            proxy.drop_connections()
            off = '[{"op": "remove", "path": "/metadata/finalizers"}]'
            cluster.kubectl("patch", "cspec", "web", "--type=json", "-p", off)
            cluster.kubectl("delete", "cspec", "web")
            cluster.compact_etcd()
            assert served.node.status("web")["phase"] == "Running"
            proxy.open_port()
            eventually(lambda: not served.node.records(), "the container is stopped and forgotten")
            assert census(node_dirs) == {kind: set() for kind in census(node_dirs)}
        finally:
            served.node.kill()


def test_started_with_the_api_away(cluster: ControlPlane, node_dirs: NodeDirs, busybox_rootfs: Path) -> None:
    with FaultyProxy(cluster) as proxy:
        served = serve(cluster, node_dirs, url=proxy.url)
        try:
            served.apply(container("web", busybox_rootfs, *SLEEPER), container("job", busybox_rootfs, *SLEEPER))
            web = served.wait("web", lambda s: s["phase"] == "Running")["pid"]
            job = served.wait("job", lambda s: s["phase"] == "Running")["pid"]
            served.node.kill()
            proxy.close_port()
            proxy.drop_connections()
            traps(job)
            os.kill(job, signal.SIGTERM)
            served.node.start()
            restarted = served.node.wait("job", lambda s: s["phase"] == "Running" and s["restartCount"] == 1)
            assert served.node.status("web")["pid"] == web
            assert served.object("job")["status"]["pid"] == job
            proxy.open_port()
            status = served.wait("job", lambda s: s["restartCount"] == 1 and s["phase"] == "Running", SOON)
            assert status["pid"] == restarted["pid"]
            for pid in (web, restarted["pid"]):
                traps(pid)
            assert status["lastState"]["terminated"]["exitCode"] == 7
            cluster.kubectl("delete", "cspec", "--all", "--timeout=30s")
        finally:
            served.node.kill()


def test_refused_until_the_token_file_changes(cluster: ControlPlane, node_dirs: NodeDirs, busybox_rootfs: Path) -> None:
    cluster.kubectl("apply", "-f", "-", input=RBAC)
    node = Operator(node_dirs, "--kubeconfig", str(cluster.kubeconfig_with_token_file("oarlock")))
    served = Served(cluster, node)
    node.start()
    try:
        served.apply(container("web", busybox_rootfs, *SLEEPER), container("job", busybox_rootfs, *SLEEPER))
        web = served.wait("web", lambda s: s["phase"] == "Running")["pid"]
        job = served.wait("job", lambda s: s["phase"] == "Running")["pid"]
        cluster.rotate_token("oarlock")
        cluster.restart_api()
        for pid in (web, job):
            traps(pid)
        os.kill(job, signal.SIGTERM)
        restarted = node.wait("job", lambda s: s["phase"] == "Running" and s["restartCount"] == 1)
        served.apply(container("web", busybox_rootfs, *SLEEPER, state="Stopped"))
        assert served.object("job")["status"]["pid"] == job
        assert node.status("web")["pid"] == web
        cluster.deliver_token("oarlock")
        assert served.wait("job", lambda s: s["restartCount"] == 1, SOON)["lastState"]["terminated"]["exitCode"] == 7
        assert served.wait("web", lambda s: s["phase"] == "Stopped", SOON)["exitCode"] == 7
        traps(restarted["pid"])
        cluster.kubectl("delete", "cspec", "--all", "--timeout=30s")
    finally:
        node.kill()


@pytest.mark.parametrize("code", [410, 500])
def test_an_error_event_inside_a_watch(
    cluster: ControlPlane, node_dirs: NodeDirs, busybox_rootfs: Path, code: int
) -> None:
    with FaultyProxy(cluster) as proxy:
        served = serve(cluster, node_dirs, url=proxy.url)
        try:
            served.apply(container("web", busybox_rootfs, *SLEEPER))
            pid = served.wait("web", lambda s: s["phase"] == "Running")["pid"]
            eventually(lambda: proxy.open_watches == 1, "the watch is open")
            assert proxy.send_error_event(code) == 1
            served.apply(container("next", busybox_rootfs, *SLEEPER))
            for each in (pid, served.wait("next", lambda s: s["phase"] == "Running", SOON)["pid"]):
                traps(each)
            assert served.object("web")["status"]["pid"] == pid
            cluster.kubectl("delete", "cspec", "--all", "--timeout=30s")
            eventually(lambda: not served.node.records(), "every record is gone")
        finally:
            served.node.kill()


def test_a_thousand_objects_of_another_node_cost_no_cpu(served: Served, busybox_rootfs: Path) -> None:
    served.apply(container("ours", busybox_rootfs, *SLEEPER))
    served.wait("ours", lambda s: s["phase"] == "Running")

    def rests() -> bool:
        used = served.node.cpu_seconds()
        time.sleep(0.5)
        return served.node.cpu_seconds() - used <= 0.01

    eventually(rests, "its start is over")
    before, began = served.node.cpu_seconds(), time.monotonic()
    served.apply(*[container(f"theirs-{number}", busybox_rootfs, "true", nodeName="node-b") for number in range(1000)])
    assert len(served.names()) == 1001
    assert served.node.cpu_seconds() - before < 0.1 + 0.002 * (time.monotonic() - began)  # its own timers
    assert set(served.node.records()) == {"ours"}
    collection = "/apis/oarlock.dev/v1alpha1/namespaces/default/containerspecs?fieldSelector=spec.nodeName%3Dnode-b"
    served.cluster.kubectl("delete", "--raw", collection, timeout=300)
