"""The tests' own control plane: that it is the real thing, and that its faults are what they say."""

from __future__ import annotations

import json
import time
import urllib.error
from collections.abc import Callable, Iterator

import pytest

from tests.cluster.binaries import binary
from tests.cluster.control_plane import ControlPlane, KubectlFailed
from tests.cluster.faulty_proxy import FaultyProxy


@pytest.fixture(scope="module")
def plane() -> Iterator[ControlPlane]:
    """A control plane of this module's own: its tests stop it and take tokens away."""
    with ControlPlane() as control_plane:
        yield control_plane


def eventually(fact: Callable[[], bool], *, seconds: float = 10) -> None:
    deadline = time.monotonic() + seconds
    while not fact():
        assert time.monotonic() < deadline, "did not come true"
        time.sleep(0.02)


def test_it_is_the_kubernetes_that_the_module_names(plane: ControlPlane) -> None:
    versions = json.loads(plane.kubectl("version", "-o", "json"))
    assert versions["serverVersion"]["gitVersion"] == "v1.37.2"
    assert versions["clientVersion"]["gitVersion"] == "v1.37.2"
    assert binary("helm").exists()


def test_rbac_holds_for_all_but_the_admin(plane: ControlPlane) -> None:
    plane.kubectl("get", "namespaces")
    with pytest.raises(KubectlFailed, match='User "oarlock" cannot list resource "namespaces"'):
        plane.kubectl("get", "namespaces", user="oarlock")


def test_data_and_address_survive_a_restart(plane: ControlPlane) -> None:
    url = plane.url
    plane.kubectl("create", "configmap", "kept", "--from-literal=a=b")
    plane.stop_api()
    assert not plane.ready()
    plane.start_api()
    assert plane.url == url
    assert plane.kubectl("get", "configmap", "kept", "-o", "jsonpath={.data.a}") == "b"


def test_a_paused_api_server_answers_nothing_until_it_goes_on(plane: ControlPlane) -> None:
    plane.pause()
    try:
        with pytest.raises(OSError, match="timed out"):
            plane.get("/readyz", timeout=0.5)
    finally:
        plane.resume()
    eventually(plane.ready)


def test_requests_are_counted_by_verb(plane: ControlPlane) -> None:
    before = plane.request_count("configmaps", verb="POST")
    plane.kubectl("create", "configmap", "counted")
    assert plane.request_count("configmaps", verb="POST") == before + 1


def test_a_rotated_token_ends_the_old_one(plane: ControlPlane) -> None:
    old = plane.tokens["nobody"]
    plane.get("/api", user="nobody")
    plane.rotate_token("nobody")
    assert plane.token_file("nobody").read_text() == old
    plane.deliver_token("nobody")
    assert plane.token_file("nobody").read_text() == plane.tokens["nobody"] != old
    plane.get("/api", user="nobody")
    plane.tokens["nobody"], fresh = old, plane.tokens["nobody"]
    with pytest.raises(urllib.error.HTTPError, match="401"):
        plane.get("/api", user="nobody")
    plane.tokens["nobody"] = fresh


def test_a_service_account_gets_a_token(plane: ControlPlane) -> None:
    plane.kubectl("create", "serviceaccount", "somebody")
    plane.tokens["somebody"] = plane.service_account_token("default", "somebody")
    with pytest.raises(KubectlFailed, match="system:serviceaccount:default:somebody"):
        plane.kubectl("get", "nodes", user="somebody")


def test_after_a_compaction_the_past_is_gone(plane: ControlPlane) -> None:
    plane.kubectl("create", "configmap", "old")
    version = plane.kubectl("get", "configmap", "old", "-o", "jsonpath={.metadata.resourceVersion}")
    plane.kubectl("delete", "configmap", "old")
    plane.compact_etcd()
    plane.restart_api()
    path = f"/api/v1/namespaces/default/configmaps?watch=1&timeoutSeconds=5&resourceVersion={version}"
    assert json.loads(plane.get(path).splitlines()[0])["object"]["code"] == 410


def test_the_proxy_injects_failures_and_lets_all_else_pass(plane: ControlPlane) -> None:
    with FaultyProxy(plane) as proxy:
        through = ControlPlaneThrough(plane, proxy)
        assert "default" in through.kubectl("get", "namespaces", "-o", "name")
        with proxy.answering(503, path="/namespaces$") as fault:
            with pytest.raises(KubectlFailed, match="injected"):
                through.kubectl("get", "namespaces", "-o", "name")
            through.kubectl("get", "configmaps", "-n", "kube-system")
            assert fault.hits >= 1
        with (
            proxy.answering(401, token=plane.tokens["admin"]),
            pytest.raises(KubectlFailed, match="logged in"),
        ):
            through.kubectl("get", "namespaces")
        through.kubectl("get", "namespaces")
        assert any(passed.path == "/api/v1/namespaces" and passed.status == 200 for passed in proxy.requests)
        proxy.close_port()
        with pytest.raises(KubectlFailed, match="refused"):
            through.kubectl("get", "namespaces")
        proxy.open_port()
        through.kubectl("get", "namespaces")


def test_the_proxy_puts_an_error_event_into_a_watch(plane: ControlPlane) -> None:
    with FaultyProxy(plane) as proxy, ControlPlaneThrough(plane, proxy).watching("configmaps") as lines:
        eventually(lambda: proxy.open_watches == 1)
        assert proxy.send_error_event(500, "broken") == 1
        event = next(line for line in map(json.loads, lines) if line["type"] == "ERROR")
        assert (event["object"]["code"], event["object"]["message"]) == (500, "broken")


class ControlPlaneThrough:
    """The control plane as seen by a client of the proxy."""

    def __init__(self, plane: ControlPlane, proxy: FaultyProxy) -> None:
        self._plane, self._config = plane, str(plane.kubeconfig(url=proxy.url))
        self._url = proxy.url

    def kubectl(self, *arguments: str) -> str:
        return self._plane.kubectl(f"--kubeconfig={self._config}", *arguments)

    def watching(self, resource: str) -> Watching:
        return Watching(self._plane, f"{self._url}/api/v1/{resource}?watch=1&resourceVersion=0")


class Watching:
    """The lines of an open watch."""

    def __init__(self, plane: ControlPlane, url: str) -> None:
        self._answer = plane.open(url)

    def __enter__(self) -> Iterator[bytes]:
        return iter(self._answer)

    def __exit__(self, *exception: object) -> None:
        self._answer.close()
