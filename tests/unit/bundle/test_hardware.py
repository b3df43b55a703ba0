"""The disks, CPUs and memory nodes that a spec names are this node's."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from oarlock.bundle import hardware
from oarlock.errors import BundleError
from tests.unit.bundle.test_config import spec


def look(path: str) -> dict[str, tuple[int, int]]:
    return dict(hardware.look(spec(resources={"io": {"devices": [{"path": path, "readIops": 1}]}})).disks)


@pytest.mark.parametrize(
    ("path", "problem"),
    [
        ("/dev/null", "is no disk; name a block device"),
        ("/dev/nonesuch", "No such file or directory; name a disk of this node"),
        ("/dev", "is not below /dev"),
        ("/dev/", "No such file or directory"),
        ("/etc/passwd", "is not below /dev"),
        ("/dev/../etc/passwd", "leads out of /dev"),
        ("/dev/fd/0", "leads out of /dev"),
        ("/dev/shm/x", "leads out of /dev|No such file"),
        ("/dev/null/x", "Not a directory"),
    ],
)
def test_what_is_no_disk_is_named(path: str, problem: str) -> None:
    with pytest.raises(BundleError, match=rf"^spec\.resources\.io\.devices\[0\]\.path: .*({problem})"):
        look(path)


def test_a_disk_has_its_numbers_and_a_partition_is_refused() -> None:
    blocks = Path("/sys/class/block")
    for entry in blocks.iterdir() if blocks.is_dir() else ():
        path = Path("/dev") / entry.name
        if not path.is_block_device():
            continue
        if (entry / "partition").exists():
            with pytest.raises(BundleError, match="is a partition"):
                look(str(path))
        else:
            device = os.stat(path).st_rdev
            assert look(str(path)) == {str(path): (os.major(device), os.minor(device))}


@pytest.mark.parametrize(
    ("cpuset", "problem"),
    [
        ({"cpus": "0,9999"}, "cpus: CPU 9999 is not on this node, which has .*; name others"),
        ({"cpus": "0-9999"}, "cpus: CPU [0-9]+ is not on this node"),
        ({"mems": "1000"}, "mems: memory node 1000 is not on this node"),
    ],
)
def test_cpus_and_memory_nodes_that_are_not_there(cpuset: dict[str, Any], problem: str) -> None:
    with pytest.raises(BundleError, match=rf"^spec\.resources\.cpuset\.{problem}"):
        hardware.look(spec(resources={"cpuset": cpuset}))
    assert hardware.look(spec(resources={"cpuset": {"cpus": "0", "mems": "0"}})) == hardware.NONE
