"""Limits of a container in the kernel's own files, on both versions of cgroups; and what a node says without them."""

from __future__ import annotations

import os
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from tests.node_cgroups import UNIFIED, folder_of
from tests.node_dirs import NodeDirs
from tests.operating import DEADLINE, Operator, container, operating

SLEEPER = ("sh", "-c", "exec sleep 1000")
HUGE_PAGES = Path("/sys/kernel/mm/hugepages")
LIMITED = {
    "limits": {"cpu": "250m", "memory": "64Mi", "swap": "16Mi", "pids": 50},
    "cpuset": {"cpus": "0", "mems": "0"},
}


def limit(pid: int, first: str, second: str) -> list[str]:
    """The words of a limit's file, by its names on version 1 and 2.

    On version 2 crun runs the container in a cgroup below the one that systemd made and limits.
    """
    if not UNIFIED:
        return (folder_of(pid, first.partition(".")[0]) / first).read_text().split()
    folder = folder_of(pid)
    found = [(place / second).read_text().split() for place in (folder, folder.parent) if (place / second).exists()]
    return next((words for words in found if words and words[0] != "max"), ["max"])


def running(node: Operator, rootfs: Path, **fields: Any) -> int:
    """The pid of a running container with these fields."""
    node.apply(container("web", rootfs, *SLEEPER, **fields))
    pid = node.wait("web", lambda s: s["phase"] == "Running")["pid"]
    assert isinstance(pid, int)
    return pid


def disk_of(folder: Path) -> tuple[str, str]:
    """The disk that a folder lies on: its path in /dev, and its numbers."""
    device = os.stat(folder).st_dev
    block = Path(f"/sys/dev/block/{os.major(device)}:{os.minor(device)}").resolve()
    disk = block.parent if (block / "partition").exists() else block
    return f"/dev/{disk.name}", (disk / "dev").read_text().strip()


def test_limits_reach_the_cgroup(node_dirs: NodeDirs, busybox_rootfs: Path) -> None:
    with operating(node_dirs) as node:
        pid = running(node, busybox_rootfs, resources=LIMITED)
        assert limit(pid, "memory.limit_in_bytes", "memory.max") == [str(64 << 20)]
        swap = limit(pid, "memory.memsw.limit_in_bytes", "memory.swap.max")
        assert swap == [str((16 if UNIFIED else 64 + 16) << 20)]
        assert limit(pid, "pids.max", "pids.max") == ["50"]
        assert limit(pid, "cpuset.cpus", "cpuset.cpus") == ["0"]
        assert limit(pid, "cpuset.mems", "cpuset.mems") == ["0"]
        assert limit(pid, "cpu.cfs_quota_us", "cpu.max")[0] == "25000"
        status = Path(f"/proc/{pid}/status").read_text().split()
        assert status[status.index("Cpus_allowed_list:") + 1] == "0"


def test_no_swap_and_4096_processes_unless_asked_for(node_dirs: NodeDirs, busybox_rootfs: Path) -> None:
    with operating(node_dirs) as node:
        pid = running(node, busybox_rootfs, resources={"limits": {"memory": "64Mi"}})
        swap = limit(pid, "memory.memsw.limit_in_bytes", "memory.swap.max")
        assert swap == ["0" if UNIFIED else str(64 << 20)]
        assert limit(pid, "pids.max", "pids.max") == ["4096"]


def test_a_container_cannot_have_more_processes_than_its_limit(node_dirs: NodeDirs, busybox_rootfs: Path) -> None:
    forks = "for i in 1 2 3 4 5 6 7 8 9; do sleep 1000 & done; echo all"
    resources = {"limits": {"pids": 5}}
    with operating(node_dirs) as node:
        node.apply(container("bomb", busybox_rootfs, "sh", "-c", forks, resources=resources, restartPolicy="Never"))
        ended = node.wait("bomb", lambda s: s["phase"] == "Failed")
        assert (ended["exitCode"], ended["oomKilled"]) == (2, False)
        node.removed("bomb")
        said = node.command("logs", "bomb")
        assert "can't fork" in said.stderr
        assert "all" not in said.stdout


def test_a_container_cannot_have_more_memory_than_its_limit(node_dirs: NodeDirs, busybox_rootfs: Path) -> None:
    resources = {"limits": {"memory": "16Mi", "swap": "1Mi"}}
    with operating(node_dirs) as node:
        node.apply(
            container("glutton", busybox_rootfs, "tail", "/dev/zero", resources=resources, restartPolicy="Never")
        )
        ended = node.wait("glutton", lambda s: s["phase"] == "Failed")
        assert (ended["exitCode"], ended["oomKilled"], ended["reason"]) == (137, True, "OOMKilled")


def test_a_memory_limit_that_init_itself_goes_beyond_names_the_field(node_dirs: NodeDirs, busybox_rootfs: Path) -> None:
    with operating(node_dirs) as node:
        node.apply(container("tiny", busybox_rootfs, "sleep", "9", resources={"limits": {"memory": "100m"}}))
        told = node.wait("tiny", lambda s: s["reason"] == "CreateContainerError")["message"]
        assert "spec.resources.limits.memory is too small; raise it" in told


def test_disks_are_weighed_and_throttled(node_dirs: NodeDirs, busybox_rootfs: Path) -> None:
    path, numbers = disk_of(node_dirs.root)
    rates = {"readBps": "10Mi", "writeBps": "5M", "readIops": 300, "writeIops": 200}
    with operating(node_dirs) as node:
        pid = running(node, busybox_rootfs, resources={"io": {"weight": 500, "devices": [{"path": path, **rates}]}})
        folder = folder_of(pid, "blkio")
        places = (folder, folder.parent) if UNIFIED else (folder,)
        files = [each for place in places for each in place.glob("*weight") if each.name != "blkio.leaf_weight"]
        weights = {word for each in files for word in each.read_text().split()}
        assert weights & {"500", "4950", "4949"}  # of 1000 for bfq, of 10000 for io.weight
        if UNIFIED:
            told = [numbers, f"rbps={10 << 20}", "wbps=5000000", "riops=300", "wiops=200"]
            assert limit(pid, "", "io.max") == told
        else:
            throttles = {"read_bps": 10 << 20, "write_bps": 5_000_000, "read_iops": 300, "write_iops": 200}
            for name, rate in throttles.items():
                assert (folder / f"blkio.throttle.{name}_device").read_text().split() == [numbers, str(rate)]


def test_a_throttled_container_writes_slower(node_dirs: NodeDirs, busybox_rootfs: Path) -> None:
    path, _ = disk_of(node_dirs.root)
    write = ("dd", "if=/dev/zero", "of=/file", "bs=64k", "count=16", "oflag=direct")
    resources = {"io": {"devices": [{"path": path, "writeBps": "256Ki"}]}}
    with operating(node_dirs) as node:
        node.apply(container("slow", busybox_rootfs, *write, resources=resources, restartPolicy="Never"))
        ended = node.wait("slow", lambda s: s["phase"] == "Succeeded", deadline=2 * DEADLINE)["state"]["terminated"]
    began, finished = (datetime.fromisoformat(ended[name]) for name in ("startedAt", "finishedAt"))
    assert (finished - began).total_seconds() > 2


@pytest.mark.parametrize(("name", "size", "kib"), [("hugepages-2Mi", "2MB", 2048), ("hugepages-1Gi", "1GB", 1048576)])
def test_huge_pages_are_limited_where_the_node_has_them(
    node_dirs: NodeDirs, busybox_rootfs: Path, name: str, size: str, kib: int
) -> None:
    mounted = "hugetlb" in Path("/sys/fs/cgroup/cgroup.controllers").read_text().split() if UNIFIED else None
    able = Path("/sys/fs/cgroup/hugetlb").is_dir() if mounted is None else mounted
    resources = {"limits": {name: kib << 11}}
    with operating(node_dirs) as node:
        if able and (HUGE_PAGES / f"hugepages-{kib}kB").is_dir():
            pid = running(node, busybox_rootfs, resources=resources)
            assert limit(pid, f"hugetlb.{size}.limit_in_bytes", f"hugetlb.{size}.max") == [str(kib << 11)]
        else:
            node.apply(container("web", busybox_rootfs, *SLEEPER, resources=resources))
            told = node.wait("web", lambda s: s["reason"] == "CreateContainerConfigError")
            assert told["message"].startswith(f"spec.resources.limits.{name}: this node")


@pytest.mark.parametrize(
    ("resources", "problem"),
    [
        ({"cpuset": {"cpus": "0,9999"}}, "spec.resources.cpuset.cpus: CPU 9999 is not on this node, which has "),
        ({"cpuset": {"mems": "1000"}}, "spec.resources.cpuset.mems: memory node 1000 is not on this node"),
        (
            {"io": {"devices": [{"path": "/dev/null", "readIops": 1}]}},
            "spec.resources.io.devices[0].path: /dev/null is no disk; name a block device of this node",
        ),
    ],
)
def test_what_is_not_on_this_node_is_named(
    node_dirs: NodeDirs, busybox_rootfs: Path, resources: dict[str, Any], problem: str
) -> None:
    with operating(node_dirs) as node:
        node.apply(container("web", busybox_rootfs, *SLEEPER, resources=resources))
        told = node.wait("web", lambda s: s["reason"] == "CreateContainerConfigError")
        assert told["message"].startswith(problem)
        assert told["phase"] == "Pending"
        node.apply(container("web", busybox_rootfs, *SLEEPER))
        node.wait("web", lambda s: s["phase"] == "Running")
