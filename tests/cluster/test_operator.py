"""The main job, end to end: `kubectl apply` to a real API server, conmon and runc on the node, the status back."""

from __future__ import annotations

import json
import os
import re
import signal
import time
from pathlib import Path
from typing import Any

import pytest

from tests import node_cgroups
from tests.cluster.control_plane import ControlPlane, KubectlFailed
from tests.cluster.serving import Served, operator_of, serve
from tests.node_dirs import NodeDirs, end_boot
from tests.operating import SLEEPER, census, container, eventually, traps
from tests.running import arguments

KILLED_AT = Path(__file__).parents[1] / "node" / "killed_at.py"


def test_applied_running_and_seen_with_kubectl(served: Served, busybox_rootfs: Path) -> None:
    served.apply(container("web", busybox_rootfs, "sleep", "1000", terminationGracePeriodSeconds=0))
    served.cluster.kubectl("wait", "--for=condition=Ready", "cspec/web", "--timeout=30s")
    status = served.object("web")["status"]
    eventually(lambda: arguments(status["pid"]) == b"sleep\x001000\x00", "it is that process")
    table = served.cluster.kubectl("get", "cspec").splitlines()
    assert re.split(r"\s\s+", table[0].strip()) == [
        *("NAME", "NODE", "STATE", "PHASE", "PID", "EXIT", "OOM", "RESTARTS", "AGE"),
    ]
    assert "node-a" in table[1]
    assert "Running" in table[1]
    assert served.object("web")["metadata"]["finalizers"] == ["oarlock.dev/container"]
    explained = served.cluster.kubectl("explain", "cspec.spec")
    assert "terminationGracePeriodSeconds" in explained
    assert "Seconds between the stop signal (TERM) and KILL" in explained


def test_exits_reach_the_status(served: Served, busybox_rootfs: Path) -> None:
    never = {"restartPolicy": "Never"}
    served.apply(
        container("three", busybox_rootfs, "sh", "-c", "exit 3", **never),
        container("missing", busybox_rootfs, "nosuch", **never),
        container("hungry", busybox_rootfs, "tail", "/dev/zero", resources={"limits": {"memory": "16Mi"}}, **never),
    )
    ended = {
        name: served.wait(name, lambda s: s["phase"] in ("Failed", "Succeeded"))
        for name in ("three", "missing", "hungry")
    }
    facts = {name: (s["exitCode"], s["oomKilled"], s["reason"], s.get("signal")) for name, s in ended.items()}
    assert facts == {
        "three": (3, False, "Error", None),
        "missing": (127, False, "ContainerCannotRun", None),
        "hungry": (137, True, "OOMKilled", 9),
    }


def test_stop_replace_delete_and_make_again(served: Served, busybox_rootfs: Path) -> None:
    served.apply(container("web", busybox_rootfs, *SLEEPER))
    first = served.wait("web", lambda s: s["phase"] == "Running")
    traps(first["pid"])
    served.apply(container("web", busybox_rootfs, *SLEEPER, state="Stopped"))
    assert served.wait("web", lambda s: s["phase"] == "Stopped")["exitCode"] == 7
    served.apply(container("web", busybox_rootfs, *SLEEPER))
    second = served.wait("web", lambda s: s["phase"] == "Running")
    assert second["pid"] != first["pid"]
    traps(second["pid"])
    uid = served.object("web")["metadata"]["uid"]
    served.cluster.kubectl("delete", "cspec", "web", "--timeout=30s")
    served.apply(container("web", busybox_rootfs, *SLEEPER))
    third = served.wait("web", lambda s: s["phase"] == "Running")
    assert third["pid"] != second["pid"]
    assert served.object("web")["metadata"]["uid"] != uid


def test_no_version_is_told_as_reached_or_failed_before_it_is(served: Served, busybox_rootfs: Path) -> None:
    """Whoever waits by kstatus (Flux, Argo CD, `kubectl wait`) takes Ready and Stalled for the newest version's."""
    other = (*SLEEPER[:-1], SLEEPER[-1] + " # other")
    served.apply(
        container("web", busybox_rootfs, *SLEEPER),
        container("job", busybox_rootfs, "sh", "-c", "exit 3", restartPolicy="Never"),
    )
    first = served.wait("web", lambda s: s["phase"] == "Running")["pid"]
    traps(first)
    served.wait("job", lambda s: s["phase"] == "Failed")
    since = served.object("job")["metadata"]["resourceVersion"]
    served.apply(
        container("web", busybox_rootfs, *other),
        container("job", busybox_rootfs, "sh", "-c", "exit 0", restartPolicy="Never"),
    )
    second = served.wait("web", lambda s: s["phase"] == "Running" and s["pid"] != first)["pid"]
    traps(second)
    served.wait("job", lambda s: s["phase"] == "Succeeded")
    served.apply(container("web", busybox_rootfs, *other, state="Stopped"))
    served.wait("web", lambda s: s["phase"] == "Stopped")
    served.apply(container("web", busybox_rootfs, *other))
    third = served.wait("web", lambda s: s["phase"] == "Running")["pid"]
    path = f"/apis/oarlock.dev/v1alpha1/containerspecs?watch=true&timeoutSeconds=60&resourceVersion={since}"
    last, told = ("web", 4, "Ready", "Running", third), set()
    changes = served.cluster.open(served.cluster.url + path, timeout=60)
    while last not in told and (line := changes.readline()):
        each = json.loads(line)["object"]
        generation, status = each["metadata"]["generation"], each["status"]
        runs = each["metadata"]["name"] == "job" and status["phase"] == "Running"  # not told when it is over at once
        if status["observedGeneration"] == generation > 1 and not runs:
            held = {one["type"] for one in status["conditions"] if one["status"] == "True"} & {"Ready", "Stalled"}
            told.update((each["metadata"]["name"], generation, *held, status["phase"], status.get("pid")) for _ in held)
    changes.close()
    assert told == {
        ("web", 2, "Ready", "Running", second),
        ("web", 3, "Ready", "Stopped", None),
        last,
        ("job", 2, "Ready", "Succeeded", None),
    }


def test_bad_objects_are_refused_by_the_server(served: Served, busybox_rootfs: Path) -> None:
    good = container("bad", busybox_rootfs, "true", nodeName="node-a")
    for field, value, told in (
        ("comand", ["x"], 'unknown field "comand"'),
        ("state", "Sleeping", "Unsupported value"),
        ("env", [{"name": "A"}, {"name": "A"}], "Duplicate value"),
        ("rootfs", {"path": "relative"}, "spec.rootfs.path"),
        ("terminationGracePeriodSeconds", -1, "spec.terminationGracePeriodSeconds"),
        ("command", [], "give the program to run in command"),
    ):
        with pytest.raises(KubectlFailed, match=re.escape(told)):
            served.apply({**good, "spec": {**good["spec"], field: value}})
    served.apply(container("moving", busybox_rootfs, "sleep", "1000", state="Stopped"))
    with pytest.raises(KubectlFailed, match="nodeName cannot be changed"):
        served.apply(container("moving", busybox_rootfs, "sleep", "1000", state="Stopped", nodeName="node-b"))


def test_the_command_patches_the_spec_of_an_api_object(served: Served, busybox_rootfs: Path) -> None:
    served.apply(container("web", busybox_rootfs, *SLEEPER))
    traps(served.wait("web", lambda s: s["phase"] == "Running")["pid"])
    kubeconfig = str(served.cluster.kubeconfig("admin"))
    served.node.command("stop", "web", "--kubeconfig", kubeconfig)
    assert served.object("web")["spec"]["state"] == "Stopped"
    served.wait("web", lambda s: s["phase"] == "Stopped")  # written once the command has seen the record


def test_the_command_pauses_and_unpauses_an_api_object(served: Served, busybox_rootfs: Path) -> None:
    served.apply(container("web", busybox_rootfs, *SLEEPER))
    pid = served.wait("web", lambda s: s["phase"] == "Running")["pid"]
    kubeconfig = str(served.cluster.kubeconfig("admin"))
    for verb, state in (("pause", "Paused"), ("unpause", "Running")):
        served.node.command(verb, "web", "--kubeconfig", kubeconfig)
        assert served.object("web")["spec"]["state"] == state
        assert node_cgroups.frozen(pid) == (state == "Paused")
        served.wait("web", lambda s, state=state: (s["phase"], s["pid"]) == (state, pid))
        # What somebody else did to it is mended, though there is nothing to change in the API.
        (node_cgroups.thaw if state == "Paused" else node_cgroups.freeze)(pid)
        served.node.command(verb, "web", "--kubeconfig", kubeconfig, check=False)  # the operator may have looked first
        eventually(lambda state=state: node_cgroups.frozen(pid) == (state == "Paused"), verb)


def test_a_killed_monitor_is_an_event_and_a_condition(served: Served, busybox_rootfs: Path) -> None:
    served.apply(container("web", busybox_rootfs, *SLEEPER))
    status = served.wait("web", lambda s: s["phase"] == "Running")
    os.kill(status["monitorPID"], signal.SIGKILL)
    served.cluster.kubectl("wait", "--for=condition=Degraded", "cspec/web", "--timeout=30s")
    assert conditions(served.object("web")["status"])["Degraded"]["reason"] == "MonitorLost"
    eventually(lambda: "MonitorLost" in {each["reason"] for each in events(served, "web")}, "the event is there")


def test_an_untrusted_privileged_container_that_is_let_pass_is_an_event_and_a_condition(
    served: Served, busybox_rootfs: Path
) -> None:
    fields = {"trusted": False, "securityContext": {"privileged": True}, "terminationGracePeriodSeconds": 0}
    served.apply(container("web", busybox_rootfs, "sleep", "1000", **fields))
    served.wait("web", lambda s: s["reason"] == "Refused")
    assert served.node.stop() == 0
    served.node.start(OARLOCK_ALLOW_PRIVILEGED="true", OARLOCK_ALLOW_UNTRUSTED_PRIVILEGED="true")
    status = served.wait("web", lambda s: s["phase"] == "Running" and "Degraded" in conditions(s))
    degraded = conditions(status)["Degraded"]
    said = "it is untrusted and privileged: it runs under the trusted runtime with all rights on the node"
    assert (degraded["status"], degraded["reason"], degraded["message"]) == ("True", "UntrustedPrivileged", said)

    def told() -> list[tuple[str, str, int]]:
        found = (each for each in events(served, "web") if each["reason"] == "UntrustedPrivileged")
        return [(each["type"], each["message"], each["count"]) for each in found]

    assert eventually(told, "the event is there") == [("Warning", said, 1)]


def conditions(status: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """The conditions of an object, by type."""
    return {each["type"]: each for each in status["conditions"]}


def events(served: Served, name: str) -> list[dict[str, Any]]:
    """The events on an object."""
    chosen = f"--field-selector=involvedObject.uid={served.object(name)['metadata']['uid']}"
    found: list[dict[str, Any]] = json.loads(served.cluster.kubectl("get", "events", chosen, "-o", "json"))["items"]
    return found


def test_after_a_reboot_each_restarts_as_its_policy_says(served: Served, busybox_rootfs: Path) -> None:
    served.apply(
        container("always", busybox_rootfs, *SLEEPER),
        container("once", busybox_rootfs, *SLEEPER, restartPolicy="Never"),
        container("stopped", busybox_rootfs, *SLEEPER, state="Stopped"),
        container("deleted", busybox_rootfs, *SLEEPER),
    )
    for name, phase in (("always", "Running"), ("once", "Running"), ("stopped", "Stopped"), ("deleted", "Running")):
        served.wait(name, lambda s, phase=phase: s["phase"] == phase)
    served.node.kill()
    end_boot(served.node.dirs)
    for path in (served.node.dirs.state / "records").glob("[!.]*.json"):
        path.write_text(json.dumps(json.loads(path.read_text()) | {"bootID": "the boot before"}))
    served.cluster.kubectl("delete", "cspec", "deleted", "--wait=false")
    served.node.start()
    served.node.wait_ready(2)
    served.cluster.kubectl("wait", "--for=condition=Ready", "cspec/always", "--timeout=30s")
    status = served.wait("always", lambda s: s["restartCount"] == 1 and s["phase"] == "Running")
    assert status["lastState"]["terminated"]["reason"] == "NodeRebooted"
    status = served.wait("once", lambda s: s["phase"] == "Failed")
    assert (status["reason"], status["exitCode"]) == ("NodeRebooted", -1)
    kept = {"always", "once", "stopped"}
    eventually(lambda: served.names() == {f"containerspec.oarlock.dev/{name}" for name in kept}, "gone")
    eventually(lambda: set(served.node.records()) == kept, "its record too")
    attempts = {name: record["attempt"] for name, record in served.node.records().items()}
    assert attempts == {"always": 2, "once": 1, "stopped": 0}


def test_an_idle_operator_asks_the_api_nothing_and_an_exit_costs_one_patch(
    served: Served, busybox_rootfs: Path
) -> None:
    go = "while [ ! -e /go ]; do sleep 0.05; done; exit 5"
    served.apply(container("job", busybox_rootfs, "sh", "-c", go, restartPolicy="Never"))
    pid = served.wait("job", lambda s: s["phase"] == "Running")["pid"]
    before = requests(served.cluster)
    lists = served.cluster.request_count("containerspecs", verb="LIST")
    idle_until = time.monotonic() + 60
    eventually(lambda: "there is no Node" in served.node.log(), "the last that its start does")
    cpu = served.node.cpu_seconds()
    time.sleep(max(30, idle_until - time.monotonic()))  # the fact waited for is that nothing happens
    assert requests(served.cluster) == before
    assert served.cluster.request_count("containerspecs", verb="LIST") == lists
    assert served.node.cpu_seconds() - cpu < 0.3
    Path(f"/proc/{pid}/root/go").write_text("")
    eventually(lambda: served.node.status("job")["phase"] == "Failed", "the exit is recorded")
    served.wait("job", lambda s: s["phase"] == "Failed")
    assert requests(served.cluster) - before == 1


def requests(cluster: ControlPlane) -> int:
    """How many patches the API server has had: nobody but the operator patches these objects here."""
    return cluster.request_count("containerspecs", verb="PATCH")


def test_objects_of_another_node_are_left_alone(served: Served, busybox_rootfs: Path) -> None:
    served.apply(container("theirs", busybox_rootfs, "sleep", "1000", nodeName="node-b"))
    served.apply(container("ours", busybox_rootfs, "sleep", "1000", terminationGracePeriodSeconds=0))
    served.wait("ours", lambda s: s["phase"] == "Running")
    assert "status" not in served.object("theirs")
    assert set(served.node.records()) == {"ours"}


def test_a_finalizer_that_somebody_took_off_is_put_back(served: Served, busybox_rootfs: Path) -> None:
    """As `kubectl replace` does, which writes the whole object; without it the object goes before its container."""
    web = container("web", busybox_rootfs, *SLEEPER)
    served.apply(web)
    pid = served.wait("web", lambda s: s["phase"] == "Running")["pid"]
    served.cluster.kubectl("replace", "-f", "-", input=json.dumps(web))
    eventually(lambda: served.object("web")["metadata"].get("finalizers") == ["oarlock.dev/container"], "it is back")
    served.node.kill()
    served.cluster.kubectl("replace", "-f", "-", input=json.dumps(web))
    assert "finalizers" not in served.object("web")["metadata"]
    served.node.start()
    eventually(lambda: served.object("web")["metadata"].get("finalizers") == ["oarlock.dev/container"], "it is back")
    assert served.object("web")["status"]["pid"] == pid


def test_deleted_while_in_back_off_and_while_being_created(served: Served, busybox_rootfs: Path) -> None:
    served.apply(container("flaky", busybox_rootfs, "sh", "-c", "exit 1"))
    served.wait("flaky", lambda s: s["phase"] == "BackOff")
    served.cluster.kubectl("delete", "cspec", "flaky", "--timeout=60s")
    served.apply(container("hasty", busybox_rootfs, "sleep", "1000", terminationGracePeriodSeconds=0))
    served.cluster.kubectl("delete", "cspec", "hasty", "--timeout=60s")
    eventually(lambda: not served.node.records(), "nothing is left")


def test_deleted_while_it_is_being_stopped(served: Served, busybox_rootfs: Path) -> None:
    stubborn = ("sh", "-c", "trap '' TERM; while :; do sleep 0.2; done")
    served.apply(container("web", busybox_rootfs, *stubborn, terminationGracePeriodSeconds=4))
    served.wait("web", lambda s: s["phase"] == "Running")
    began = time.monotonic()
    served.cluster.kubectl("patch", "cspec", "web", "--type=merge", "-p", '{"spec": {"state": "Stopped"}}')
    status = served.wait("web", lambda s: s["phase"] == "Stopping")
    served.cluster.kubectl("delete", "cspec", "web", "--timeout=60s")
    assert 3 < time.monotonic() - began < 60, "the grace period that had begun is kept"
    assert not Path(f"/proc/{status['pid']}").exists()
    assert served.node.log().count("TERM sent") == 1


@pytest.mark.parametrize("point", ["before the patch", "after the patch", "finalizer on", "finalizer off"])
def test_a_kill_around_a_patch_is_repaired(
    cluster: ControlPlane, node_dirs: NodeDirs, busybox_rootfs: Path, point: str
) -> None:
    killed = operator_of(cluster, node_dirs, entry=(str(KILLED_AT), point))
    served = Served(cluster, killed)
    try:
        if point == "finalizer off":
            served = serve(cluster, node_dirs)
        served.apply(container("job", busybox_rootfs, "sh", "-c", "exit 3", restartPolicy="Never"))
        if point == "finalizer off":
            served.wait("job", lambda s: s["phase"] == "Failed")
            served.node.kill()
            cluster.kubectl("delete", "cspec", "job", "--wait=false")
        killed.start()
        assert killed.process is not None
        assert killed.process.wait(timeout=30) == -9, killed.log()
        served = serve(cluster, node_dirs)
        if point != "finalizer off":
            assert served.wait("job", lambda s: s["phase"] == "Failed")["exitCode"] == 3
            assert [each["exitCode"] for each in served.node.records()["job"]["exits"]] == [3]
            cluster.kubectl("delete", "cspec", "job", "--timeout=30s")
        eventually(lambda: not served.node.records(), "every record is gone")
        assert served.names() == set()
        assert census(node_dirs) == {kind: set() for kind in census(node_dirs)}
    finally:
        served.node.kill()
        killed.kill()


def test_a_name_belongs_to_the_source_that_had_it_first(served: Served, busybox_rootfs: Path) -> None:
    manifest = container("web", busybox_rootfs, *SLEEPER)
    served.node.apply(manifest)
    traps(served.node.wait("web", lambda s: s["phase"] == "Running")["pid"])
    served.apply(container("web", busybox_rootfs, *SLEEPER))
    status = served.wait("web", lambda s: s["reason"] == "NameTaken")
    assert {c["type"]: c["status"] for c in status["conditions"]}["Stalled"] == "True"
    served.node.kill()
    served.node.start()
    served.node.wait_ready(2)
    time.sleep(1)  # for what should not happen
    assert served.object("web")["status"]["reason"] == "NameTaken"
    (served.node.dirs.manifests / "objects.yaml").unlink()
    assert served.wait("web", lambda s: s["phase"] == "Running")["pid"]
