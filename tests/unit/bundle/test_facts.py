"""What is read from the node for config.json."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from oarlock.bundle import facts


def test_the_facts_are_this_machines() -> None:
    found = facts.read()
    assert found.capabilities <= set(facts.CAPABILITIES)
    assert os.uname().release.startswith("{}.{}".format(*found.kernel))
    assert found.open_files > 0
    assert found.memory_bytes > 1 << 26
    assert facts.read() is found


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        (("memory/memory.memsw.limit_in_bytes",), True),
        (("memory/memory.limit_in_bytes",), False),
        (("system.slice/memory.max", "system.slice/memory.swap.max"), True),
        (("system.slice/memory.max",), False),
    ],
)
def test_swap_accounting_is_seen_on_both_versions(tmp_path: Path, files: tuple[str, ...], expected: bool) -> None:
    for file in files:
        (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / file).touch()
    assert facts._swap_accounting(tmp_path) is expected


@pytest.mark.parametrize(
    ("command_line", "expected"), [("quiet splash", True), ("quiet swapaccount=0", False), (None, False)]
)
def test_swap_is_counted_before_any_cgroup_counts_memory(
    tmp_path: Path, command_line: str | None, expected: bool
) -> None:
    """On version 2 without systemd the first container's cgroup is the first that counts memory at all."""
    (tmp_path / "oarlock").mkdir()
    (tmp_path / "oarlock" / "cgroup.procs").touch()
    (tmp_path / "cmdline").write_text(command_line or "")
    if command_line is not None:
        (tmp_path / "swaps").touch()
    assert facts._swap_accounting(tmp_path, tmp_path / "swaps", tmp_path / "cmdline") is expected


def test_controllers_are_seen_on_both_versions(tmp_path: Path) -> None:
    for name in ("cpu,cpuacct", "memory", "blkio"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "cgroup.procs").touch()
    (tmp_path / "empty").mkdir()
    assert facts._controllers(tmp_path, 1) == {"cpu", "cpuacct", "memory", "io"}
    (tmp_path / "cgroup.controllers").write_text("cpuset cpu io memory hugetlb pids rdma misc\n")
    assert facts._controllers(tmp_path, 2) >= {"cpuset", "io", "hugetlb"}


@pytest.mark.parametrize(
    ("version", "file", "expected"),
    [
        (1, "blkio/blkio.bfq.io_serviced", True),
        (1, "blkio/blkio.weight", True),
        (1, "blkio/blkio.throttle.io_serviced", False),
        (2, "io.stat", True),
    ],
)
def test_weights_of_disks_are_seen_on_both_versions(tmp_path: Path, version: int, file: str, expected: bool) -> None:
    (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / file).touch()
    assert facts._io_weight(tmp_path, version, frozenset({"io"})) is expected


def test_huge_pages_are_named_as_the_controller_names_them(tmp_path: Path) -> None:
    assert facts._huge_pages(tmp_path / "none") == frozenset()
    for size in (64, 2048, 32768, 1048576):
        (tmp_path / f"hugepages-{size}kB").mkdir()
    assert facts._huge_pages(tmp_path) == {"64KB", "2MB", "32MB", "1GB"}


def test_devices_have_a_kind_and_numbers() -> None:
    found = {device.path: device for device in facts.devices()}
    assert (found["/dev/null"].kind, found["/dev/null"].major, found["/dev/null"].minor) == ("c", 1, 3)
    assert not any(path.startswith(("/dev/pts/", "/dev/shm/")) for path in found)
