"""Cgroup v1 through cgroupspy's nodes: the monitor's own cgroup, and what the kernel tells of an OOM kill.

Nodes are made by path, never with cgroupspy's `Tree()`, which reads every cgroup of the machine.
"""

from __future__ import annotations

import contextlib
import errno
import os
from pathlib import Path

from cgroupspy.nodes import Node

ROOT = Path("/sys/fs/cgroup")
MONITOR_CONTROLLERS = ("memory", "pids", "cpu")
"""Enough to count and bound monitors; each one more costs 3 ms at every create."""


def adopt(pid: int, cgroup: str) -> None:
    """Move a process into a cgroup of its own in each controller that a monitor needs (`oci.go: CreateContainer`).

    Raises:
        OSError: the cgroup cannot be made, or the process is gone.
    """
    for controller in MONITOR_CONTROLLERS:
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


def processes(cgroup: str) -> set[int]:
    """Every process in a cgroup, in any hierarchy."""
    found: set[int] = set()
    for hierarchy in ROOT.iterdir():
        with contextlib.suppress(FileNotFoundError, NotADirectoryError, ProcessLookupError):
            found.update(map(int, (hierarchy / cgroup.strip("/") / "cgroup.procs").read_text().split()))
    return found


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
