"""In the guest: what becomes of containers when the node loses its power. `test_guest.py` has it run at each boot."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any

import yaml

from tests.busybox import make_rootfs
from tests.node_dirs import NodeDirs, mounts_below
from tests.operating import Operator, census, container, eventually

LASTING = Path("/var/lib/oar-reboot")
DIRS = NodeDirs(LASTING, LASTING / "state", Path("/run/oar-reboot"), LASTING / "manifests")
ROOTFS, BEFORE = Path("/var/lib/oar-rootfs"), Path("/var/lib/before.json")
NAMES = ("always", "ended", "once", "late", "stopped", "paused", "again", "retried", "of-the-api")
LATE = container("late", ROOTFS, "sleep", "100000", restartPolicy="Never")
DEAD_API = """
apiVersion: v1
kind: Config
current-context: dead
clusters: [{name: dead, cluster: {server: "https://127.0.0.1:9"}}]
users: [{name: dead, user: {token: none}}]
contexts: [{name: dead, context: {cluster: dead, user: dead}}]
"""


def test_a_loss_of_power() -> None:
    if BEFORE.exists():
        after()
    else:
        before()


def objects() -> list[dict[str, Any]]:
    """Containers in every state that a reboot can meet."""

    def marking(name: str, **fields: Any) -> dict[str, Any]:
        return container(name, ROOTFS, "sh", "-c", "[ ! -e /mark ] || exit 9; touch /mark; exec sleep 100000", **fields)

    return [
        marking("always"),
        container("ended", ROOTFS, "sh", "-c", "exit 3", restartPolicy="Never"),
        marking("once", restartPolicy="Never"),
        marking("stopped", state="Stopped"),
        marking("paused", state="Paused"),
        container("again", ROOTFS, "sh", "-c", "exit 4"),
        marking("retried", restartPolicy="OnFailure"),
        marking("of-the-api"),
    ]


def before() -> None:
    """Bring all of them to where the power is to be lost."""
    make_rootfs(ROOTFS)
    DIRS.manifests.mkdir(parents=True)
    node = Operator(DIRS, "--backoff-initial", "300s")
    node.start()
    *manifests, of_the_api = objects()
    node.apply(*manifests)
    node.apply(of_the_api, file="api.yaml")
    wanted = {"always": "Running", "ended": "Failed", "once": "Running", "stopped": "Stopped", "paused": "Paused"}
    wanted |= {"again": "BackOff", "retried": "Running", "of-the-api": "Running"}
    for name, phase in wanted.items():
        node.wait(name, lambda status, phase=phase: status["phase"] == phase, 120)
    node.kill()
    _give_to_the_api(node)
    BEFORE.write_text(json.dumps({"boot": _boot(), "records": node.records()}))
    node.start()
    os.sync()
    # The disk has its record from before its start at most: what comes after is in memory alone.
    node.apply(LATE, file="late.yaml")
    node.wait("late", lambda status: status["phase"] == "Running", 120)
    print("reboot: power off")
    Path("/proc/sysrq-trigger").write_text("b")
    time.sleep(60)
    raise AssertionError("the node goes on")


def after() -> None:
    """The node comes back: first with nobody who could say what is desired, then with the manifests."""
    told = json.loads(BEFORE.read_text())
    old: dict[str, Any] = told["records"]
    assert told["boot"] != _boot(), "it is still the same boot"
    assert {*old, "late"} == set(NAMES)
    DIRS.manifests.rename(LASTING / "not-yet")
    (LASTING / "kubeconfig").write_text(DEAD_API)
    node = Operator(DIRS, "--backoff-initial", "300s", "--kubeconfig", str(LASTING / "kubeconfig"))
    node.start()
    for name in ("always", "retried", "of-the-api"):
        status = node.wait(name, lambda s: s["phase"] == "Running" and s.get("lastState"), 120)
        assert status["lastState"]["terminated"]["reason"] == "NodeRebooted", status
        assert status["restartCount"] == 1
    status = node.wait("paused", lambda s: s["phase"] == "Paused" and s.get("lastState"), 120)
    assert status["lastState"]["terminated"]["reason"] == "NodeRebooted", status
    for name in ("once", "late"):
        status = node.wait(name, lambda s: s["phase"] == "Failed", 120)
        assert (status["reason"], status["state"]["terminated"]["reason"]) == ("NodeRebooted", "NodeRebooted"), status
    status = node.wait("again", lambda s: s["phase"] == "BackOff" and s["restartCount"] > 1, 120)
    assert node.status("stopped")["phase"] == "Stopped"
    assert (node.status("ended")["phase"], node.status("ended")["exitCode"]) == ("Failed", 3)
    print("reboot: all are where they belong, with neither manifests nor API")

    (LASTING / "not-yet" / "late.yaml").write_text(yaml.safe_dump(LATE))  # the file was in memory too
    (LASTING / "not-yet").rename(DIRS.manifests)
    eventually(lambda: "watching" in node.log(), "the manifests are read", 60)
    time.sleep(2)  # for what should not happen
    now = node.records()
    assert set(now) == set(NAMES), node.log()
    made = {name: now[name]["attempt"] - record["attempt"] for name, record in old.items()}
    expected = {"always": 1, "ended": 0, "once": 0, "stopped": 0, "paused": 1, "again": 2, "retried": 1}
    assert made == expected | {"of-the-api": 1}
    assert now["late"]["attempt"] == 1
    assert all(record["bootID"] == _boot() for record in now.values())
    _nothing_is_left(node, old)
    print("reboot: nothing is left of the boot before")
    assert node.stop() == 0


def _nothing_is_left(node: Operator, old: dict[str, Any]) -> None:
    """Runtime state, mounts, cgroups, sockets and upper layers are of the present attempts alone."""

    def present() -> dict[str, str]:
        records = node.records()
        return {name: record["current"]["containerID"] for name, record in records.items() if record.get("current")}

    eventually(lambda: set(present()) == {"always", "paused", "retried", "of-the-api"}, "the others have ended")
    for kind in census(DIRS):
        eventually(lambda kind=kind: census(DIRS)[kind] == set(present().values()), f"{kind} are those that run")
    layers = {path.parent.name + "-" + path.name for path in (DIRS.state / "containers").glob("*/[0-9]*")}
    assert layers == set(present().values())
    assert mounts_below(DIRS.root) == []
    before = {record["current"]["containerID"] for record in old.values() if record.get("current")}
    assert len(before) >= 4
    for path in (*DIRS.state.rglob("*"), *DIRS.run.rglob("*"), *Path("/sys/fs/cgroup").rglob("*")):
        assert not any(each in path.name for each in before), path


def _give_to_the_api(node: Operator) -> None:
    """Make one record that of an API object: what the API source would have written."""
    for path in (DIRS.state / "records").glob("[!.]*.json"):
        record = json.loads(path.read_bytes())
        if record["name"] == "of-the-api":
            path.write_text(json.dumps(record | {"source": "kubernetes", "origin": None}))
    (DIRS.manifests / "api.yaml").unlink()


def _boot() -> str:
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
