"""An operator that serves the cluster with the least rights, and what kubectl says of its objects."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.cluster.control_plane import ControlPlane
from tests.node_dirs import NodeDirs
from tests.operating import Operator, eventually

CRD = Path(__file__).parents[2] / "crds" / "oarlock.dev_containerspecs.yaml"
RBAC = """
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata: {name: oarlock-least}
rules:
- {apiGroups: [oarlock.dev], resources: [containerspecs], verbs: [get, list, watch, patch]}
- {apiGroups: [oarlock.dev], resources: [containerspecs/status], verbs: [patch]}
- {apiGroups: [""], resources: [events], verbs: [create, patch]}
- {apiGroups: [""], resources: [nodes/status], verbs: [patch]}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata: {name: oarlock-least}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: oarlock-least}
subjects: [{apiGroup: rbac.authorization.k8s.io, kind: User, name: oarlock}]
"""


class Served:
    """An operator that serves the cluster with the least rights, and what kubectl says of its objects."""

    def __init__(self, cluster: ControlPlane, node: Operator) -> None:
        self.cluster, self.node = cluster, node

    def apply(self, *objects: dict[str, Any]) -> None:
        for each in objects:
            each["spec"].setdefault("nodeName", "node-a")
        documents = json.dumps({"apiVersion": "v1", "kind": "List", "items": list(objects)})
        self.cluster.kubectl("apply", "-f", "-", input=documents, timeout=300)

    def object(self, name: str) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.cluster.kubectl("get", "cspec", name, "-o", "json"))
        return found

    def wait(self, name: str, until: Callable[[dict[str, Any]], Any], deadline: float = 30) -> dict[str, Any]:
        last: dict[str, Any] = {}

        def reached() -> bool:
            nonlocal last
            last = self.object(name).get("status", {})
            return bool(last) and bool(until(last))

        try:
            eventually(reached, f"status of {name}", deadline)
        except AssertionError as error:
            raise AssertionError(f"{error}; last: {last}\n{self.node.log()[-4000:]}") from None
        return last

    def names(self) -> set[str]:
        return set(self.cluster.kubectl("get", "cspec", "-o", "name").split())


def operator_of(cluster: ControlPlane, dirs: NodeDirs, *options: str, url: str | None = None, **how: Any) -> Operator:
    """An operator that serves the cluster with the least rights, not yet started."""
    cluster.kubectl("apply", "-f", "-", input=RBAC)
    return Operator(dirs, "--kubeconfig", str(cluster.kubeconfig("oarlock", url=url)), *options, **how)


def serve(cluster: ControlPlane, dirs: NodeDirs, *, url: str | None = None) -> Served:
    node = operator_of(cluster, dirs, url=url)
    node.start()
    node.wait_ready()
    return Served(cluster, node)
