"""The conditions OarlockRuntimeReady and OarlockNetworkReady on the Node: true, false, and nobody else's business."""

from __future__ import annotations

import json
import ssl
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

import oarlock
from tests.cluster import kubeconfig
from tests.cluster.control_plane import ControlPlane
from tests.cluster.faulty_proxy import FaultyProxy
from tests.cluster.serving import RBAC, operator_of
from tests.cluster.test_chart import CHART, NAMESPACE, Helm
from tests.node.test_health import ready
from tests.node_dirs import NodeDirs
from tests.operating import Operator, container, eventually

KUBELETS = {"type": "Ready", "status": "True", "reason": "KubeletReady", "message": "kubelet is posting ready status"}


class Nodes:
    """Node objects, as the kubelets of their nodes would have made them."""

    def __init__(self, cluster: ControlPlane) -> None:
        self.cluster = cluster

    def create(self, name: str) -> None:
        node = {"apiVersion": "v1", "kind": "Node", "metadata": {"name": name, "labels": {"zone": "quay"}}}
        self.cluster.kubectl("create", "-f", "-", input=json.dumps(node))
        assert self.patch(name, {"status": {"conditions": [KUBELETS], "capacity": {"cpu": "2"}}}) == ""

    def patch(self, name: str, change: dict[str, Any], token: str | None = None) -> str:
        """Patch a node's status, as the admin or with a token; what the API server has against it."""
        headers = {
            "Authorization": f"Bearer {token or self.cluster.tokens['admin']}",
            "Content-Type": "application/strategic-merge-patch+json",
        }
        url = f"{self.cluster.url}/api/v1/nodes/{name}/status"
        request = urllib.request.Request(url, json.dumps(change).encode(), headers, method="PATCH")
        trust = ssl.create_default_context(cafile=str(self.cluster.ca_file))
        try:
            with urllib.request.urlopen(request, timeout=10, context=trust):
                return ""
        except urllib.error.HTTPError as error:
            return str(json.loads(error.read())["message"])

    def conditions(self, name: str = "node-a") -> dict[str, dict[str, str]]:
        """By type."""
        node = json.loads(self.cluster.kubectl("get", "node", name, "-o", "json"))
        return {each["type"]: each for each in node["status"].get("conditions", ())}

    def wait(self, status: str, kind: str = "OarlockRuntimeReady", deadline: float = 30) -> dict[str, str]:
        """The condition of node-a once it has this status."""
        found: dict[str, dict[str, str]] = {}

        def reached() -> bool:
            found.clear()
            found.update(self.conditions())
            return found.get(kind, {}).get("status") == status

        try:
            eventually(reached, f"{kind} is {status}", deadline)
        except AssertionError as error:
            raise AssertionError(f"{error}; last: {found}") from None
        return found[kind]


@pytest.fixture
def nodes(cluster: ControlPlane) -> Iterator[Nodes]:
    """The Nodes node-a and node-b."""
    nodes = Nodes(cluster)
    for name in ("node-a", "node-b"):
        nodes.create(name)
    yield nodes
    cluster.kubectl("delete", "nodes", "--all")


@pytest.fixture
def operator(cluster: ControlPlane, node_dirs: NodeDirs) -> Iterator[Operator]:
    """An operator of node-a with the least rights, not started."""
    operator = operator_of(cluster, node_dirs)
    yield operator
    operator.kill()


def writes(cluster: ControlPlane) -> int:
    return cluster.request_count("nodes", verb="PATCH")


def test_the_node_says_that_containers_can_run_and_by_what(nodes: Nodes, operator: Operator) -> None:
    operator.start()
    runtime, network = nodes.wait("True"), nodes.wait("True", "OarlockNetworkReady")
    assert runtime["reason"] == "ChecksPassed"
    assert runtime["message"].startswith(f"oarlock {oarlock.__version__}, conmon ")
    assert "runc " in runtime["message"]
    assert "cgroup v" in runtime["message"]
    assert network["message"] == "own namespaces, loopback up"
    assert nodes.conditions()["Ready"].items() >= KUBELETS.items()
    assert "OarlockRuntimeReady" not in nodes.conditions("node-b")
    assert f"oarlock {oarlock.__version__}" in nodes.cluster.kubectl("describe", "node", "node-a")
    assert nodes.cluster.kubectl("wait", "--for=condition=OarlockRuntimeReady", "node/node-a")


def test_a_restart_changes_nothing_on_the_node(nodes: Nodes, operator: Operator) -> None:
    operator.start()
    before = [nodes.wait("True"), nodes.wait("True", "OarlockNetworkReady")]
    assert operator.stop() == 0
    time.sleep(1.1)  # times are whole seconds: a new one would be seen
    asked = writes(nodes.cluster)
    operator.start()
    eventually(lambda: writes(nodes.cluster) > asked, "the node is looked at again")
    after = nodes.conditions()
    assert [after[each["type"]] for each in before] == before


def test_an_unusable_runtime_is_false_with_its_reason_and_true_again_when_repaired(
    nodes: Nodes, cluster: ControlPlane, node_dirs: NodeDirs, busybox_rootfs: Path, tmp_path: Path
) -> None:
    runtime = tmp_path / "runtime"
    whole, broken = '#!/bin/sh\nexec runc "$@"\n', "#!/bin/sh\necho out of order\nexit 3\n"

    def have(text: str) -> None:
        runtime.with_suffix(".new").write_text(text)
        runtime.with_suffix(".new").chmod(0o755)
        runtime.with_suffix(".new").rename(runtime)

    have(whole)
    health = f"unix:{tmp_path}/health"
    operator = operator_of(cluster, node_dirs, "--runtime-trusted", str(runtime), "--health-address", health)
    operator.start()
    try:
        was = nodes.wait("True")
        have(broken)
        operator.apply(container("web", busybox_rootfs, "sleep", "1000", terminationGracePeriodSeconds=0))
        now = nodes.wait("False", deadline=60)  # nobody asked: the creation that failed makes it look
        assert now["reason"] == "RuntimeTrustedFailed"
        assert now["message"] == f"runtime-trusted: {runtime} --version ended with 3: out of order"
        assert now["lastTransitionTime"] > was["lastTransitionTime"]
        assert nodes.conditions()["OarlockNetworkReady"]["status"] == "True"
        have(whole)
        assert nodes.wait("True", deadline=90)["lastTransitionTime"] > now["lastTransitionTime"]
        operator.wait("web", lambda s: s["phase"] == "Running", 90)
        (node_dirs.manifests / "objects.yaml").unlink()
        eventually(lambda: not operator.records(), "nothing is left")
    finally:
        operator.kill()


def test_conditions_wait_while_the_api_is_away(nodes: Nodes, cluster: ControlPlane, operator: Operator) -> None:
    cluster.stop_api()
    operator.start()
    operator.wait_ready()
    cluster.start_api()
    assert nodes.wait("True", deadline=60)


def test_without_a_node_or_the_right_it_is_said_once(cluster: ControlPlane, operator: Operator) -> None:
    operator.start()
    eventually(lambda: "there is no Node node-a" in operator.log(), "it says so")
    operator.kill()
    role = next(yaml.safe_load_all(RBAC))
    role["rules"] = [rule for rule in role["rules"] if rule["resources"] != ["nodes/status"]]
    cluster.kubectl("replace", "-f", "-", input=json.dumps(role))
    right = ("patch", "nodes", "--subresource=status")
    eventually(lambda: not cluster.may("oarlock", *right), "the right is gone")
    operator.start()
    told = "grant patch on nodes/status, or turn --node-conditions off"
    eventually(lambda: told in operator.log(), "it says so")
    assert operator.log().count(told) == 1
    of_the_node = [line for line in operator.log().splitlines() if "node-a" in line or "nodes/status" in line]
    assert of_the_node
    assert not [line for line in of_the_node if " WARNING " in line]


def test_turned_off_nothing_is_asked(nodes: Nodes, cluster: ControlPlane, node_dirs: NodeDirs) -> None:
    before = writes(cluster)
    operator = operator_of(cluster, node_dirs, "--no-node-conditions")
    operator.start()
    try:
        operator.wait_ready()
        operator.apply(container("job", Path("/nonexistent"), "true"))
        operator.wait("job", lambda s: s["reason"] == "CreateContainerConfigError")
        (node_dirs.manifests / "objects.yaml").unlink()
        eventually(lambda: not operator.records(), "nothing is left")
    finally:
        operator.kill()
    assert writes(cluster) == before
    assert "OarlockRuntimeReady" not in nodes.conditions()


def test_the_health_page_says_that_an_idle_operators_api_is_away(
    cluster: ControlPlane, node_dirs: NodeDirs, tmp_path: Path
) -> None:
    address = f"unix:{tmp_path}/health"
    with FaultyProxy(cluster) as proxy:
        operator = operator_of(cluster, node_dirs, "--health-address", address, url=proxy.url)
        operator.start()

        def state() -> dict[str, Any]:
            told: dict[str, Any] = ready(address)[1].get("sources", {}).get("kubernetes", {})
            return told

        try:
            eventually(lambda: state() == {"reachable": True, "synced": True, "unsentStatuses": 0}, "all is well")
            proxy.close_port()
            eventually(lambda: state()["reachable"] is False, "nothing but the watch could tell it")
            assert ready(address)[0] == 200, "containers go on"
            proxy.open_port()
            eventually(lambda: state()["reachable"] is True, "reachable again")
        finally:
            operator.kill()


# ------------------------------------------------------------ the chart's rights
@pytest.fixture
def charted(cluster: ControlPlane, nodes: Nodes, tmp_path: Path) -> Iterator[str]:
    """The token that the chart's pod on node-a has."""
    labels = {"pod-security.kubernetes.io/enforce": "privileged"}
    namespace = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE, "labels": labels}}
    cluster.kubectl("apply", "-f", "-", input=json.dumps(namespace))
    helm = Helm(cluster, tmp_path / "values.yaml")
    helm.run("install", "oarlock", str(CHART), "--skip-crds")
    try:
        pod = helm.template()["DaemonSet"]["spec"]["template"]
        pod["spec"]["nodeName"] = "node-a"
        made = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "oarlock-a", **pod["metadata"]}}
        cluster.kubectl("create", "-n", NAMESPACE, "-f", "-", input=json.dumps({**made, "spec": pod["spec"]}))
        bound = ("--bound-object-kind=Pod", "--bound-object-name=oarlock-a")
        yield cluster.kubectl("create", "token", "oarlock", "-n", NAMESPACE, *bound).strip()
    finally:
        cluster.kubectl("delete", "pod", "oarlock-a", "-n", NAMESPACE, "--grace-period=0", "--force")
        helm.run("uninstall", "oarlock", "--wait=hookOnly")


def test_with_the_charts_rights_the_node_shows_them(nodes: Nodes, charted: str, node_dirs: NodeDirs) -> None:
    cluster, file = nodes.cluster, node_dirs.root / "kubeconfig"
    access = kubeconfig.write(file, server=cluster.url, ca_file=cluster.ca_file, token=charted)
    operator = Operator(node_dirs, "--kubeconfig", str(access))
    operator.start()
    try:
        assert nodes.wait("True")["message"].startswith("oarlock ")
        assert nodes.wait("True", "OarlockNetworkReady")
    finally:
        operator.kill()


def test_the_charts_token_writes_its_own_conditions_and_nothing_else(nodes: Nodes, charted: str) -> None:
    ours = {"type": "OarlockRuntimeReady", "status": "False", "reason": "Told", "message": ""}

    def refused(name: str, change: dict[str, Any], told: str) -> None:
        # The API server takes a moment to enforce a new policy.
        eventually(lambda: told in nodes.patch(name, change, charted), told)

    refused("node-b", {"status": {"conditions": [ours]}}, "may write the status of its own Node alone")
    refused("node-a", {"status": {"conditions": [{**KUBELETS, "status": "False"}]}}, "Of the conditions, an operator")
    gone = [{"$patch": "delete", "type": "Ready"}]
    refused("node-a", {"status": {"conditions": gone}}, "Of the conditions, an operator")
    refused("node-a", {"status": {"capacity": {"cpu": "64"}}}, "Of the status, an operator may write conditions alone")
    refused("node-a", {"status": {"phase": "Running"}}, "Of the status, an operator may write conditions alone")
    refused("node-a", {"status": {"capacity": None}}, "Of the status, an operator may write conditions alone")
    refused("node-a", {"metadata": {"labels": {"zone": "deck"}}}, "may not change metadata")
    refused("node-a", {"metadata": {"annotations": {"a": "b"}}}, "may not change metadata")
    assert nodes.patch("node-a", {"status": {"conditions": [ours]}}, charted) == ""
    assert nodes.conditions()["OarlockRuntimeReady"]["reason"] == "Told"
    assert nodes.patch("node-a", {"status": {"capacity": {"cpu": "4"}}}) == "", "nobody else is held to anything"
