"""Cgroup v1 through cgroupspy's nodes: the monitor's own cgroup, and what the kernel tells of an OOM kill.

Nodes are made by path, never with cgroupspy's `Tree()`, which reads every cgroup of the machine.
"""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Container
from functools import cache
from pathlib import Path

from cgroupspy.nodes import Node

ROOT = Path("/sys/fs/cgroup")
MONITOR_CONTROLLERS = ("memory", "pids", "cpu")
"""Enough to count and bound monitors; each one more costs 3 ms at every create."""


@cache
def monitor_hierarchies() -> tuple[str, ...]:
    """The hierarchies in which a monitor is moved: what counts it, and all in which this process is in a cgroup of its
    own (a systemd unit, a pod). Whoever ends that cgroup must not end the containers."""
    found = dict.fromkeys(MONITOR_CONTROLLERS)
    for line in Path("/proc/self/cgroup").read_text().splitlines():
        _, names, path = line.split(":", 2)
        name = names.removeprefix("name=")
        if path != "/" and name and (ROOT / name / "cgroup.procs").exists():
            found[name] = None
    return tuple(found)


def adopt(pid: int, cgroup: str) -> None:
    """Move a process into a cgroup of its own in each hierarchy that a monitor leaves (`oci.go: CreateContainer`).

    Raises:
        OSError: the cgroup cannot be made, or the process is gone.
    """
    for controller in monitor_hierarchies():
        node = _node(controller)
        for name in _names(cgroup):
            node = node.create_cgroup(name)
        (_folder(node) / "cgroup.procs").write_text(str(pid))


def remove(cgroup: str) -> None:
    """Remove a cgroup from every hierarchy that has it; one that still holds processes stays."""
    for hierarchy in ROOT.iterdir():
        with contextlib.suppress(FileNotFoundError, NotADirectoryError):
            try:
                (hierarchy / cgroup.strip("/")).rmdir()
            except OSError as error:
                if error.errno not in (errno.EBUSY, errno.ENOENT, errno.ENOTDIR):
                    raise


def sweep(parent: str, kept: Container[str]) -> None:
    """Remove every empty cgroup right below `parent` whose name is not among those kept."""
    for hierarchy in ROOT.iterdir():
        with contextlib.suppress(FileNotFoundError, NotADirectoryError):
            for entry in os.scandir(hierarchy / parent.strip("/")):
                if entry.is_dir(follow_symlinks=False) and entry.name not in kept:
                    with contextlib.suppress(OSError):  # it holds processes, or is gone
                        os.rmdir(entry.path)


def processes(cgroup: str) -> set[int]:
    """Every process in a cgroup, in any hierarchy."""
    found: set[int] = set()
    for hierarchy in ROOT.iterdir():
        with contextlib.suppress(FileNotFoundError, NotADirectoryError, ProcessLookupError):
            found.update(map(int, (hierarchy / cgroup.strip("/") / "cgroup.procs").read_text().split()))
    return found


def frozen(cgroup: str) -> bool:
    """Whether the processes of a cgroup are frozen, or on their way to it; not when the cgroup is gone."""
    try:
        state = (ROOT / "freezer" / cgroup.strip("/") / "freezer.state").read_text()
    except FileNotFoundError:
        return False
    return state.strip() != "THAWED"


def oom_kills(cgroup: str) -> int:
    """How many processes of a cgroup the kernel's OOM killer has taken; 0 when the cgroup is gone."""
    node = _node("memory")
    for name in _names(cgroup):
        node = Node(name, parent=node)
    try:
        return int(node.controller.oom_control.get("oom_kill", 0))
    except OSError:
        return 0


def _node(controller: str) -> Node:
    """A controller's root."""
    return Node(controller, parent=Node(str(ROOT)))


def _names(cgroup: str) -> list[str]:
    return cgroup.strip("/").split("/")


def _folder(node: Node) -> Path:
    return Path(os.fsdecode(node.full_path))
