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
    ("file", "expected"),
    [
        ("memory/memory.memsw.limit_in_bytes", True),
        ("memory/memory.limit_in_bytes", False),
        ("system.slice/memory.swap.max", True),
        ("system.slice/memory.max", False),
    ],
)
def test_swap_accounting_is_seen_on_both_versions(tmp_path: Path, file: str, expected: bool) -> None:
    (tmp_path / file).parent.mkdir(parents=True)
    (tmp_path / file).touch()
    assert facts._swap_accounting(tmp_path) is expected


def test_devices_have_a_kind_and_numbers() -> None:
    found = {device.path: device for device in facts.devices()}
    assert (found["/dev/null"].kind, found["/dev/null"].major, found["/dev/null"].minor) == ("c", 1, 3)
    assert not any(path.startswith(("/dev/pts/", "/dev/shm/")) for path in found)
