"""Cgroup v1 through cgroupspy's nodes: a hierarchy a controller, or several together.

Nodes are made by path, never with cgroupspy's `Tree()`, which reads every cgroup of the machine.
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Container, Iterator
from functools import cache
from pathlib import Path

from cgroupspy.nodes import Node

from oarlock.cgroups.hierarchy import ROOT, Usage, remove_tree, unless_gone

VERSION = 1
MONITOR_CONTROLLERS = ("memory", "pids", "cpu")
"""Enough to count and bound monitors; each one more costs 3 ms at every create."""
_FREEZING = 2.0


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
    """See `Hierarchy`. Into a cgroup in each hierarchy that a monitor leaves (`oci.go: CreateContainer`)."""
    for controller in monitor_hierarchies():
        node = _node(controller)
        for name in _names(cgroup):
            node = node.create_cgroup(name)
            if controller == "cpuset":
                _fill(_folder(node))
        (_folder(node) / "cgroup.procs").write_text(str(pid))


def _fill(folder: Path) -> None:
    """A new cpuset has no CPUs and no memory nodes, and takes no process then (cpuset(7)): it gets its parent's."""
    for name in ("cpuset.cpus", "cpuset.mems"):
        if not (folder / name).read_text().strip():
            (folder / name).write_text((folder.parent / name).read_text())


def remove(cgroup: str) -> None:
    """See `Hierarchy`."""
    for folder in _folders(cgroup):
        remove_tree(folder)


def sweep(parent: str, kept: Container[str]) -> None:
    """See `Hierarchy`."""
    for folder in _folders(parent):
        with unless_gone():
            for entry in os.scandir(folder):
                if entry.is_dir(follow_symlinks=False) and entry.name not in kept:
                    remove_tree(Path(entry.path))


def children(cgroup: str) -> set[str]:
    """See `Hierarchy`. In any hierarchy."""
    found: set[str] = set()
    for folder in _folders(cgroup):
        with unless_gone():
            found.update(entry.name for entry in os.scandir(folder) if entry.is_dir(follow_symlinks=False))
    return found


def processes(cgroup: str) -> set[int]:
    """See `Hierarchy`. In any hierarchy."""
    found: set[int] = set()
    for top in _folders(cgroup):
        for path, _, _ in os.walk(top):
            with unless_gone():
                found.update(map(int, Path(path, "cgroup.procs").read_text().split()))
    return found


def kill(cgroup: str) -> None:
    """See `Hierarchy`. Frozen first, so that nothing forks meanwhile; KILL takes effect with the thaw."""
    state = _freezer(cgroup)
    with unless_gone():
        state.write_text("FROZEN")
        end = time.monotonic() + _FREEZING
        while not all_frozen(cgroup) and time.monotonic() < end:
            time.sleep(0.001)  # the kernel tells nobody when it is done; a millisecond as a rule
    try:
        for pid in processes(cgroup):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
    finally:
        with unless_gone():
            state.write_text("THAWED")


def frozen(cgroup: str) -> bool:
    """See `Hierarchy`. Not for a cgroup above it: that one's is not for a runtime to thaw."""
    with unless_gone():
        return _freezer(cgroup).with_name("freezer.self_freezing").read_text().strip() == "1"
    return False


def all_frozen(cgroup: str) -> bool:
    """See `Hierarchy`. Until then its state is FREEZING."""
    with unless_gone():
        return _freezer(cgroup).read_text().strip() == "FROZEN"
    return False


def thaw(cgroup: str) -> None:
    """See `Hierarchy`."""
    with unless_gone():
        _freezer(cgroup).write_text("THAWED")


def oom_kills(cgroup: str) -> int:
    """See `Hierarchy`."""
    node = _below("memory", cgroup)
    try:
        return int(node.controller.oom_control.get("oom_kill", 0))
    except OSError:
        return 0


def oom_events(cgroup: str) -> Path | None:
    """See `Hierarchy`. Version 1 tells it through an eventfd, which conmon has."""
    return None


def usage(cgroup: str) -> Usage | None:
    """See `Hierarchy`."""
    memory, cpu, pids = (_below(name, cgroup) for name in ("memory", "cpuacct", "pids"))
    try:
        return Usage(
            memory=memory.controller.usage_in_bytes,
            cpu=cpu.controller.usage / 1e9,
            processes=int((_folder(pids) / "pids.current").read_text()),
            peak=memory.controller.max_usage_in_bytes,
        )
    except OSError:  # gone, or going
        return None


def _freezer(cgroup: str) -> Path:
    return ROOT / "freezer" / cgroup.strip("/") / "freezer.state"


def _folders(cgroup: str) -> Iterator[Path]:
    """The cgroup's folder in each hierarchy that has it."""
    for hierarchy in ROOT.iterdir():
        folder = hierarchy / cgroup.strip("/")
        if folder.is_dir():
            yield folder


def _node(controller: str) -> Node:
    """A controller's root."""
    return Node(controller, parent=Node(str(ROOT)))


def _below(controller: str, cgroup: str) -> Node:
    """A cgroup of one controller, there or not."""
    node = _node(controller)
    for name in _names(cgroup):
        node = Node(name, parent=node)
    return node


def _names(cgroup: str) -> list[str]:
    return cgroup.strip("/").split("/")


def _folder(node: Node) -> Path:
    return Path(os.fsdecode(node.full_path))
