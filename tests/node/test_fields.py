"""Fields of the spec that change what the container's process sees, and fields of the status that tell of it."""

from __future__ import annotations

import os
import shutil
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from tests import node_cgroups
from tests.node_dirs import NodeDirs
from tests.operating import Operator, container, operating

SLEEPER = ("sh", "-c", "trap 'exit 7' TERM; while :; do sleep 1000 & wait; done")
NET_ADMIN, CHOWN = 1 << 12, 1 << 0


def said(node: Operator, rootfs: Path, script: str, *, name: str = "job", **fields: Any) -> str:
    """What a container with these fields writes."""
    node.apply(container(name, rootfs, "sh", "-c", script, restartPolicy="Never", **fields), file=f"{name}.yaml")
    node.wait(name, lambda s: s["phase"] in ("Succeeded", "Failed"))
    node.removed(name)
    return node.command("logs", name).stdout


def test_a_terminal(node_dirs: NodeDirs, busybox_rootfs: Path) -> None:
    script = "test -t 0 && test -t 1 && echo both || echo neither"
    with operating(node_dirs) as node:
        assert said(node, busybox_rootfs, script, tty=True).split() == ["both"]


def test_no_terminal_unless_asked_for(node_dirs: NodeDirs, busybox_rootfs: Path) -> None:
    script = "test -t 0 || test -t 1 && echo some || echo neither"
    with operating(node_dirs) as node:
        assert said(node, busybox_rootfs, script).split() == ["neither"]


def test_group_and_capabilities(node_dirs: NodeDirs, busybox_rootfs: Path) -> None:
    context = {"runAsGroup": 4242, "capabilities": {"add": ["NET_ADMIN"], "drop": ["CAP_CHOWN"]}}
    with operating(node_dirs, "--allow-privileged") as node:
        lines = said(node, busybox_rootfs, "id -g; grep CapEff /proc/self/status", securityContext=context).split()
    assert lines[0] == "4242"
    effective = int(lines[2], 16)
    assert effective & NET_ADMIN
    assert not effective & CHOWN


def test_all_capabilities_dropped(node_dirs: NodeDirs, busybox_rootfs: Path) -> None:
    context = {"capabilities": {"add": ["KILL"], "drop": ["ALL"]}}
    with operating(node_dirs) as node:
        lines = said(node, busybox_rootfs, "grep CapBnd /proc/self/status", securityContext=context).split()
    assert int(lines[1], 16) == 1 << 5


def test_requests_weigh_the_container(node_dirs: NodeDirs, busybox_rootfs: Path) -> None:
    resources = {"requests": {"cpu": "250m"}}
    file = "cpu.weight" if node_cgroups.UNIFIED else "cpu/cpu.shares"
    with operating(node_dirs) as node:
        weight = said(
            node,
            busybox_rootfs,
            f"cat /sys/fs/cgroup/{file}",
            resources=resources,
        )
    assert weight.strip() == ("10" if node_cgroups.UNIFIED else "256")


def test_network_modes(node_dirs: NodeDirs, busybox_rootfs: Path) -> None:
    own = os.readlink("/proc/self/ns/net")
    script = "readlink /proc/self/ns/net; ls /sys/class/net"
    with operating(node_dirs) as node:
        host = said(node, busybox_rootfs, script, name="host", network={"mode": "Host"}).split()
        none = said(node, busybox_rootfs, script, name="none", network={"mode": "None"}).split()
    assert host[0] == own
    assert none[0] != own
    assert none[1:] == ["lo"]


def test_the_nodes_own_processes(node_dirs: NodeDirs, busybox_rootfs: Path) -> None:
    look = "readlink /proc/self/ns/pid; tr '\\0' ' ' < /proc/{}/cmdline; echo; wc -c < /proc/interrupts"
    with operating(node_dirs, "--allow-host-pid") as node:
        node.wait_ready()
        assert node.process is not None
        pid, namespace = node.process.pid, os.readlink("/proc/self/ns/pid")
        host = said(node, busybox_rootfs, look.format(pid), name="host", hostPID=True).splitlines()
        own = said(node, busybox_rootfs, "readlink /proc/self/ns/pid", name="own").split()
    assert host[0] == namespace
    assert "-m oarlock run" in host[1]
    assert host[2] == "0"  # what is hidden of /proc stays hidden
    assert own[0] != namespace


def test_the_nodes_own_processes_are_for_those_that_may(node_dirs: NodeDirs, busybox_rootfs: Path) -> None:
    with operating(node_dirs) as node:
        node.apply(container("host", busybox_rootfs, *SLEEPER, hostPID=True))
        told = node.wait("host", lambda s: s["reason"] == "Refused")
    assert told["message"].startswith("spec.hostPID: not allowed on this node; drop it, or start the operator with ")


def test_an_untrusted_container_has_the_untrusted_runtime(node_dirs: NodeDirs, busybox_rootfs: Path) -> None:
    trusted = shutil.which(node_cgroups.RUNTIME)
    assert trusted is not None
    other = node_dirs.root / "other-runtime"
    other.symlink_to(trusted)
    with operating(node_dirs, "--runtime-untrusted", str(other)) as node:
        node.apply(
            container("mine", busybox_rootfs, *SLEEPER, trusted=True),
            container("theirs", busybox_rootfs, *SLEEPER, trusted=False),
        )
        for name, runtime in (("mine", trusted), ("theirs", str(other))):
            status = node.wait(name, lambda s: s["phase"] == "Running")
            monitor = Path(f"/proc/{status['monitorPID']}/cmdline").read_bytes().split(b"\0")
            assert monitor[monitor.index(b"-r") + 1].decode() == runtime
            assert status["containerID"].removeprefix("oarlock://").encode() in monitor


def test_times_and_flags_follow_the_container(node_dirs: NodeDirs, busybox_rootfs: Path) -> None:
    with operating(node_dirs) as node:
        second, before = timedelta(seconds=1), datetime.now(UTC)
        node.apply(container("web", busybox_rootfs, "sh", "-c", "until [ -e /go ]; do usleep 10000; done; exit 3"))
        runs = node.wait("web", lambda s: s["phase"] == "Running")
        seen = datetime.now(UTC)
        assert (runs["ready"], runs["started"]) == (True, True)
        assert runs["state"] == {"running": {"startedAt": runs["startedAt"]}}
        assert "finishedAt" not in runs
        time.sleep(1.2)  # so that the end is told from the start
        let = datetime.now(UTC)
        Path(f"/proc/{runs['pid']}/root/go").touch()
        again = node.wait("web", lambda s: s["phase"] == "Running" and s["restartCount"] == 1)
        ended = again["lastState"]["terminated"]
        assert ended["startedAt"] == runs["startedAt"]
        began, finished = (datetime.fromisoformat(ended[name]) for name in ("startedAt", "finishedAt"))
        assert before - second <= began <= seen
        assert let - second <= finished <= datetime.now(UTC)
        assert finished - began >= second
        assert datetime.fromisoformat(again["startedAt"]) >= finished
        Path(f"/proc/{again['pid']}/root/go").touch()
        backed = node.wait("web", lambda s: s["phase"] == "BackOff")
        assert (backed["ready"], backed["started"], backed["exitCode"]) == (False, False, 3)
        changed = {each["type"]: each["lastTransitionTime"] for each in backed["conditions"]}
        assert datetime.fromisoformat(changed["Ready"]) >= datetime.fromisoformat(again["startedAt"])
        assert changed["Stalled"] == {e["type"]: e["lastTransitionTime"] for e in runs["conditions"]}["Stalled"]
