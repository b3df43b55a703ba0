"""The CustomResourceDefinition on a real API server: what it refuses, shows and explains."""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings

from oarlock.api.changes import replaced_fields
from oarlock.api.spec import Spec
from tests.cluster.control_plane import ControlPlane, KubectlFailed
from tests.unit.api.invalid import INVALID, VALID, changed
from tests.unit.api.valid import specs

EXAMPLES = Path(__file__).parents[2] / "examples"
NAME = "containerspecs.oarlock.dev"
NAMED_OTHERWISE = {
    "another API version": 'no matches for kind "ContainerSpec" in version "oarlock.dev/v1"',
    "a namespace with a dot": 'namespaces "a.b" not found',
    "the same variable twice": 'spec.env[2]: Duplicate value: {"name":"A"}',
    "the same disk twice": 'spec.resources.io.devices[1]: Duplicate value: {"path":"/dev/sda"}',
}
"""Refused too, but in words of kubectl or of the server that name the field in another way."""


@pytest.fixture
def served(cluster: ControlPlane) -> Iterator[ControlPlane]:
    """The cluster; at the end no object is left."""
    yield cluster
    cluster.kubectl("delete", "cspec", "--all", "--wait=false")


def dry_run(cluster: ControlPlane, document: Any) -> dict[str, Any]:
    """What the server would store."""
    arguments = ("create", "--validate=strict", "--dry-run=server", "-o", "json", "-f", "-")
    stored: dict[str, Any] = json.loads(cluster.kubectl(*arguments, input=json.dumps(document)))
    return stored


def apply(cluster: ControlPlane, document: dict[str, Any], *arguments: str) -> None:
    cluster.kubectl("apply", *arguments, "-f", "-", input=json.dumps(document))


def named(name: str, **spec: Any) -> dict[str, Any]:
    """A valid document with this name and these fields."""
    document = changed("metadata.name", name)
    document["spec"] |= spec
    return document


def get(cluster: ControlPlane, name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(cluster.kubectl("get", "cspec", name, "-o", "json"))
    return found


def schema(cluster: ControlPlane) -> dict[str, Any]:
    """The schema as the server has it."""
    definition = json.loads(cluster.kubectl("get", "crd", NAME, "-o", "json"))
    served: dict[str, Any] = definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    return served


def leaves(node: dict[str, Any], depth: int = 0) -> Iterator[tuple[int, str]]:
    """Depth and name of every field below a node, as `kubectl explain --recursive` indents them."""
    for name, child in node.get("properties", {}).items():
        yield depth, name
        yield from leaves(child.get("items", child), depth + 1)


def test_the_server_has_nothing_against_the_definition(cluster: ControlPlane) -> None:
    status = json.loads(cluster.kubectl("get", "crd", NAME, "-o", "json"))["status"]
    conditions = {each["type"]: each["status"] for each in status["conditions"]}
    assert conditions == {"NamesAccepted": "True", "Established": "True"}
    assert status["storedVersions"] == ["v1alpha1"]
    assert status["acceptedNames"]["shortNames"] == ["cspec"]


def test_the_valid_document_is_accepted(cluster: ControlPlane) -> None:
    assert dry_run(cluster, VALID)["spec"]["command"] == VALID["spec"]["command"]


@pytest.mark.parametrize("name", INVALID)
def test_what_the_model_refuses_the_server_refuses(cluster: ControlPlane, name: str) -> None:
    case = INVALID[name]
    with pytest.raises(KubectlFailed) as refused:
        dry_run(cluster, case.document)
    assert NAMED_OTHERWISE.get(name, case.named) in refused.value.error


@pytest.mark.parametrize("name", [name for name in INVALID if "contradicts" in INVALID[name].phrase])
def test_contradictions_are_told_in_the_same_words(cluster: ControlPlane, name: str) -> None:
    case = INVALID[name]
    with pytest.raises(KubectlFailed, match=f"{re.escape(case.named)}: .*{re.escape(case.phrase)}.*; "):
        dry_run(cluster, case.document)


@pytest.mark.parametrize("file", sorted(EXAMPLES.glob("*.yaml")), ids=lambda file: file.name)
def test_examples_are_accepted(cluster: ControlPlane, file: Path) -> None:
    documents = list(yaml.safe_load_all(file.read_text()))
    assert documents
    for document in documents:
        document["spec"]["nodeName"] = "node-a"
        dry_run(cluster, document)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(specs())
def test_what_the_model_accepts_the_server_accepts(cluster: ControlPlane, spec: dict[str, Any]) -> None:
    stored = dry_run(cluster, VALID | {"spec": spec})["spec"]
    assert Spec.model_validate(stored) == Spec.model_validate(spec)
    assert replaced_fields(spec, stored) == ()


FULL = {
    "state": "Paused",
    "rootfs": {"path": "/", "readOnly": True},
    "command": ["sh", ""],
    "args": ["-c", "echo $(A) $$ \n ü"],
    "workingDir": "/srv/data",
    "env": [{"name": "A", "value": "1"}, {"name": "a.b-c d", "value": ""}, {"name": "C"}],
    "resources": {
        "limits": {"cpu": 2, "memory": "1.5Gi", "swap": 0, "hugepages-2Mi": "4Mi", "hugepages-1Gi": 0, "pids": 4194304},
        "requests": {"cpu": "2000m", "memory": 0},
        "cpuset": {"cpus": "0-3,5,0007", "mems": "0"},
        "io": {
            "weight": 10,
            "devices": [
                {"path": "/dev/sda", "readBps": "1Mi", "writeBps": 1, "readIops": 4294967295, "writeIops": 1},
                {"path": "/dev/sdb", "writeIops": 5},
            ],
        },
    },
    "securityContext": {
        "runAsUser": 2147483647,
        "runAsGroup": 0,
        "runAsNonRoot": True,
        "readOnlyRootFilesystem": True,
        "allowPrivilegeEscalation": False,
        "privileged": False,
        "capabilities": {"add": ["NET_ADMIN", "CAP_SYS_TIME"], "drop": ["ALL"]},
        "seccompProfile": {"type": "Unconfined"},
    },
    "tty": True,
    "stdin": True,
    "stdinOnce": True,
    "restartPolicy": "OnFailure",
    "terminationGracePeriodSeconds": 0,
    "lifecycle": {"stopSignal": "SIGRTMIN+3"},
    "hostNetwork": True,
    "network": {"mode": "Host"},
    "hostPID": True,
    "hostname": "a",
    "trusted": False,
    "runtimeHandler": "kata-fc",
    "logRotation": {"maxSize": "4Ki", "maxFiles": 2, "compress": True},
}


def test_every_field_is_stored_as_written(cluster: ControlPlane) -> None:
    assert set(schema(cluster)["properties"]["spec"]["properties"]) == {*FULL, "nodeName"}
    stored = dry_run(cluster, named("full", **FULL))["spec"]
    stored["env"][2].pop("value")
    assert stored == FULL | {"nodeName": "node-a"}


@pytest.mark.parametrize(
    "amount",
    ["1", "+1", "0", "1.", ".5", "100n", "1u", "500m", "1k", "1M", "1Ki", "1Ei", "1E", "1e3", "1E-3", 0, 1 << 60],
)
def test_amounts_may_be_written_in_every_way(cluster: ControlPlane, amount: str | int) -> None:
    stored = dry_run(cluster, changed("spec.resources.limits.memory", amount))
    assert stored["spec"]["resources"]["limits"]["memory"] == amount


def test_defaults_are_filled_in_and_null_is_absent(cluster: ControlPlane) -> None:
    stored = dry_run(cluster, named("web", tty=None, hostname=None, env=[{"name": "A"}]))["spec"]
    assert stored == VALID["spec"] | {
        "env": [{"name": "A", "value": ""}],
        "hostNetwork": False,
        "hostPID": False,
        "restartPolicy": "Always",
        "rootfs": {"path": "/srv/rootfs", "readOnly": False},
        "state": "Running",
        "terminationGracePeriodSeconds": 30,
        "trusted": True,
        "tty": False,
        "stdin": False,
        "stdinOnce": False,
    }


def test_the_node_cannot_be_changed(served: ControlPlane) -> None:
    apply(served, VALID)
    moved = changed("spec.nodeName", "node-b")
    with pytest.raises(KubectlFailed, match=r"spec\.nodeName: .*nodeName cannot be changed; delete the object"):
        apply(served, moved)
    patch = json.dumps({"spec": {"nodeName": "node-b"}})
    with pytest.raises(KubectlFailed, match="nodeName cannot be changed"):
        served.kubectl("patch", "cspec", "web", "--type=merge", "-p", patch)
    with pytest.raises(KubectlFailed, match=r"spec\.nodeName: Required value"):
        served.kubectl("patch", "cspec", "web", "--type=merge", "-p", json.dumps({"spec": {"nodeName": None}}))
    apply(served, changed("spec.tty", True))
    assert get(served, "web")["metadata"]["generation"] == 2


def test_objects_are_selected_by_node(served: ControlPlane) -> None:
    for name, node in (("one", "node-a"), ("two", "node-b"), ("three", "node-a")):
        apply(served, named(name, nodeName=node))
    names = served.kubectl("get", "cspec", "--field-selector", "spec.nodeName=node-a", "-o", "name").split()
    assert {name.partition("/")[2] for name in names} == {"one", "three"}
    assert not served.kubectl("get", "cspec", "--field-selector", "spec.nodeName=node-c", "-o", "name")
    with pytest.raises(KubectlFailed, match="field label not supported"):
        served.kubectl("get", "cspec", "--field-selector", "spec.state=Running")


@pytest.mark.parametrize("word", ["cspec", "containerspec", "containerspecs", NAME, "oarlock"])
def test_it_is_found_by_all_its_names(served: ControlPlane, word: str) -> None:
    apply(served, VALID)
    assert served.kubectl("get", word, "-o", "name").split() == ["containerspec.oarlock.dev/web"]


STATUS = {
    "phase": "Failed",
    "reason": "OOMKilled",
    "pid": 4711,
    "exitCode": 137,
    "signal": 9,
    "oomKilled": True,
    "restartCount": 3,
    "conditions": [
        {"type": "Ready", "status": "False", "reason": "OOMKilled", "lastTransitionTime": "2026-01-02T03:04:05Z"},
        {"type": "Stalled", "status": "True", "reason": "OOMKilled", "lastTransitionTime": "2026-01-02T03:04:05Z"},
    ],
}


def write_status(cluster: ControlPlane, status: Any) -> None:
    patch = json.dumps({"status": status})
    cluster.kubectl("patch", "cspec", "web", "--subresource=status", "--type=merge", "-p", patch)


def cells(table: str) -> list[list[str]]:
    return [re.split(r"\s\s+", line.strip()) for line in table.splitlines()]


def test_columns_show_the_life_at_a_glance(served: ControlPlane) -> None:
    apply(served, VALID)
    write_status(served, STATUS)
    head, row = cells(served.kubectl("get", "cspec"))
    assert head == ["NAME", "NODE", "STATE", "PHASE", "PID", "EXIT", "OOM", "RESTARTS", "AGE"]
    assert row[:-1] == ["web", "node-a", "Running", "Failed", "4711", "137", "true", "3"]
    head, row = cells(served.kubectl("get", "cspec", "-o", "wide"))
    wide = dict(zip(head, row, strict=True))
    assert (wide["READY"], wide["REASON"], wide["SIGNAL"]) == ("False", "OOMKilled", "9")
    assert re.fullmatch(r"\d+s", wide["AGE"])


@pytest.mark.parametrize("part", ["spec", "status"])
def test_every_field_is_explained(cluster: ControlPlane, part: str) -> None:
    text = cluster.kubectl("explain", f"cspec.{part}", "--recursive").partition("FIELDS:\n")[2]
    found = re.findall(r"^( *)([\w-]+)\t<", text, re.MULTILINE)
    told = sorted((len(indent) // 2 - 1, name) for indent, name in found)
    assert told == sorted(leaves(schema(cluster)["properties"][part]))


def test_explanations_have_words(cluster: ControlPlane) -> None:
    for path, words in (
        ("spec.terminationGracePeriodSeconds", "Seconds between the stop signal (TERM) and KILL"),
        ("spec.env.value", "$(NAME) is replaced"),
        ("spec.resources.limits.memory", "OOM killer"),
        ("status.oomKilled", "OOM killer took a process"),
    ):
        text = " ".join(cluster.kubectl("explain", f"cspec.{path}").split())
        assert words in text
        assert "<no description>" not in text


@pytest.mark.parametrize("arguments", [(), ("--server-side",)], ids=["client", "server"])
def test_apply_refuses_unknown_fields(served: ControlPlane, arguments: tuple[str, ...]) -> None:
    with pytest.raises(KubectlFailed, match=r"comand"):
        apply(served, named("web", comand=["x"]), *arguments)
    assert not served.kubectl("get", "cspec", "-o", "name")


def test_variables_merge_by_name_when_applied_by_several(served: ControlPlane) -> None:
    apply(served, named("web", env=[{"name": "A", "value": "1"}]), "--server-side", "--field-manager=one")
    other = {**copy.deepcopy(VALID), "spec": {"env": [{"name": "B", "value": "2"}]}}
    other["spec"] |= VALID["spec"]
    apply(served, other, "--server-side", "--field-manager=two")
    assert [variable["name"] for variable in get(served, "web")["spec"]["env"]] == ["A", "B"]


def test_spec_and_status_are_written_apart(served: ControlPlane) -> None:
    apply(served, VALID | {"status": {"phase": "Running"}})
    fresh = get(served, "web")
    assert "status" not in fresh
    write_status(served, STATUS)
    patch = json.dumps({"spec": {"tty": True}, "status": {"phase": "Paused"}})
    served.kubectl("patch", "cspec", "web", "--subresource=status", "--type=merge", "-p", patch)
    written = get(served, "web")
    assert written["spec"]["tty"] is False
    assert written["status"]["phase"] == "Paused"
    assert written["metadata"]["generation"] == fresh["metadata"]["generation"] == 1
    served.kubectl("patch", "cspec", "web", "--type=merge", "-p", patch.replace("Paused", "Running"))
    written = get(served, "web")
    assert (written["spec"]["tty"], written["status"]["phase"]) == (True, "Paused")
    assert written["metadata"]["generation"] == 2


@pytest.mark.parametrize(
    ("status", "told"),
    [
        ({"phase": "Sleeping"}, "status.phase: Unsupported value"),
        ({"pid": "4711"}, "status.pid: Invalid value"),
        ({"startedAt": "yesterday"}, "status.startedAt: Invalid value"),
        ({"conditions": [{"type": "Ready"}]}, "status.conditions[0].status: Required value"),
        ({"conditions": [STATUS["conditions"][0]] * 2}, "Duplicate value"),  # type: ignore[index]
    ],
)
def test_a_status_of_another_shape_is_refused(served: ControlPlane, status: Any, told: str) -> None:
    apply(served, VALID)
    with pytest.raises(KubectlFailed, match=re.escape(told)):
        write_status(served, status)
