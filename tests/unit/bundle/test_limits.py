"""Resources of a spec as the OCI runtime is told of them, and what a node that cannot enforce them says."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from oarlock.bundle import limits
from oarlock.bundle.hardware import Hardware
from oarlock.errors import BundleError
from tests.unit.bundle.test_config import FACTS, spec

ABLE = dataclasses.replace(
    FACTS, controllers=frozenset({"cpuset", "io", "hugetlb"}), io_weight=True, huge_pages=frozenset({"2MB", "1GB"})
)
HARDWARE = Hardware({"/dev/sda": (8, 0), "/dev/sdb": (8, 16)})


def resources(given: dict[str, Any], facts: Any = ABLE) -> dict[str, Any]:
    return limits.resources(spec(resources=given), facts, HARDWARE)


def test_nothing_given_is_the_least_weight_and_a_bound_on_processes() -> None:
    assert resources({}) == {"cpu": {"shares": 2}, "pids": {"limit": limits.PIDS}}


def test_each_limit_has_its_place() -> None:
    found = resources(
        {
            "limits": {"cpu": "1500m", "memory": "64Mi", "swap": "16Mi", "pids": 20, "hugepages-2Mi": "4Mi"},
            "requests": {"cpu": "250m"},
            "cpuset": {"cpus": "0-1", "mems": "0"},
        }
    )
    assert found == {
        "cpu": {"shares": 256, "period": 100_000, "quota": 150_000, "cpus": "0-1", "mems": "0"},
        "memory": {"limit": 64 << 20, "swap": 80 << 20},
        "pids": {"limit": 20},
        "hugepageLimits": [{"pageSize": "2MB", "limit": 4 << 20}],
    }


@pytest.mark.parametrize(
    ("given", "accounting", "expected"),
    [
        ({"memory": "1Mi"}, True, {"limit": 1 << 20, "swap": 1 << 20}),
        ({"memory": "1Mi", "swap": 0}, True, {"limit": 1 << 20, "swap": 1 << 20}),
        ({"memory": "1Mi", "swap": "2Mi"}, True, {"limit": 1 << 20, "swap": 3 << 20}),
        ({"memory": "1Mi"}, False, {"limit": 1 << 20}),
    ],
)
def test_swap_is_counted_with_memory(given: dict[str, Any], accounting: bool, expected: dict[str, int]) -> None:
    facts = dataclasses.replace(ABLE, swap_accounting=accounting)
    assert resources({"limits": given}, facts)["memory"] == expected


def test_no_huge_pages_at_all_is_a_limit_too() -> None:
    found = resources({"limits": {"hugepages-1Gi": 0}})
    assert found["hugepageLimits"] == [{"pageSize": "1GB", "limit": 0}]


def test_disks_by_their_numbers() -> None:
    devices = [
        {"path": "/dev/sda", "readBps": "10Mi", "writeIops": 7},
        {"path": "/dev/sdb", "readBps": 5, "writeBps": "1k", "readIops": 9},
    ]
    assert resources({"io": {"weight": 500, "devices": devices}})["blockIO"] == {
        "weight": 500,
        "throttleReadBpsDevice": [
            {"major": 8, "minor": 0, "rate": 10 << 20},
            {"major": 8, "minor": 16, "rate": 5},
        ],
        "throttleWriteBpsDevice": [{"major": 8, "minor": 16, "rate": 1000}],
        "throttleReadIOPSDevice": [{"major": 8, "minor": 16, "rate": 9}],
        "throttleWriteIOPSDevice": [{"major": 8, "minor": 0, "rate": 7}],
    }


@pytest.mark.parametrize(
    ("given", "lacking", "problem"),
    [
        ({"cpuset": {"cpus": "0"}}, {"controllers": frozenset()}, "cpuset: .*no cpuset controller; drop"),
        ({"limits": {"hugepages-2Mi": 0}}, {"controllers": frozenset()}, "limits.hugepages-2Mi: .*no hugetlb"),
        ({"limits": {"hugepages-1Gi": 0}}, {"controllers": frozenset()}, "limits.hugepages-1Gi: .*no hugetlb"),
        ({"io": {"weight": 10}}, {"controllers": frozenset()}, "io.weight: .*no io controller; drop"),
        (
            {"io": {"devices": [{"path": "/dev/sda", "readIops": 1}]}},
            {"controllers": frozenset()},
            "io.devices: .*no io controller; drop",
        ),
        ({"io": {"weight": 10}}, {"io_weight": False}, "io.weight: .*weighs no disk; drop"),
        (
            {"limits": {"hugepages-1Gi": 0}},
            {"huge_pages": frozenset({"2MB"})},
            r"limits.hugepages-1Gi: this node has no huge pages of 1Gi \(2MB\); drop",
        ),
        ({"limits": {"memory": 1, "swap": 1}}, {"swap_accounting": False}, "limits.swap: .*does not count swap; drop"),
    ],
)
def test_what_cannot_be_enforced_is_named(given: dict[str, Any], lacking: dict[str, Any], problem: str) -> None:
    resources(given)
    with pytest.raises(BundleError, match=rf"^spec\.resources\.{problem}"):
        resources(given, dataclasses.replace(ABLE, **lacking))
