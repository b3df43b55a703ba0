"""Resources of a container as the kernel counts them: the kubelet's arithmetic.

Sources: kubernetes pkg/kubelet/cm/helpers_linux.go (`MilliCPUToShares`, `MilliCPUToQuota`) and
pkg/kubelet/qos/policy.go (`GetContainerOOMScoreAdjust`).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from oarlock.api.quantity import bytes_of, cpu_millis
from oarlock.errors import BundleError

if TYPE_CHECKING:
    from oarlock.api.spec import Spec
    from oarlock.bundle.facts import Facts
    from oarlock.bundle.hardware import Hardware

PIDS = 4096
"""Processes and threads of a container that says nothing: stops a fork bomb, leaves room for a large JVM."""

_PERIOD = 100_000  # µs
_MIN_SHARES, _MAX_SHARES, _MIN_QUOTA = 2, 262_144, 1_000


def resources(spec: Spec, facts: Facts, hardware: Hardware) -> dict[str, Any]:
    """OCI `linux.resources` without devices, in cgroup v1's terms: runc and crun convert them for v2.

    CPU shares come from the request, or else from the limit; with neither a container has the least
    weight, as with the kubelet. A memory limit counts swap too where the kernel can.

    Raises:
        BundleError: this node cannot enforce a field; names it and the way out.
    """
    for controller, field in _asked(spec):
        if controller not in facts.controllers:
            raise BundleError(
                f"spec.resources.{field}: this node's cgroups have no {controller} controller; "
                f"drop the field, or give the node one"
            )
    found = {
        "cpu": _cpu(spec),
        "memory": _memory_limits(spec, facts),
        "pids": {"limit": spec.resources.limits.pids or PIDS},
        "hugepageLimits": _huge_pages(spec, facts),
        "blockIO": _block_io(spec, facts, hardware),
    }
    return {name: value for name, value in found.items() if value}


def _asked(spec: Spec) -> Iterator[tuple[str, str]]:
    """Controllers that not every node has, with the field that asks for each."""
    limits, cpuset, io = spec.resources.limits, spec.resources.cpuset, spec.resources.io
    for controller, field, asked in (
        ("cpuset", "cpuset", cpuset.cpus or cpuset.mems),
        ("hugetlb", "limits.hugepages-2Mi", limits.hugepages_2Mi is not None),
        ("hugetlb", "limits.hugepages-1Gi", limits.hugepages_1Gi is not None),
        ("io", "io.devices", io.devices),
        ("io", "io.weight", io.weight),
    ):
        if asked:
            yield controller, field


def _cpu(spec: Spec) -> dict[str, Any]:
    found: dict[str, Any] = {"shares": shares(_millis(spec, "requests") or _millis(spec, "limits"))}
    if limit := _millis(spec, "limits"):
        found |= {"period": _PERIOD, "quota": max(limit * _PERIOD // 1000, _MIN_QUOTA)}
    cpuset = spec.resources.cpuset
    return found | {name: each for name, each in (("cpus", cpuset.cpus), ("mems", cpuset.mems)) if each}


def _memory_limits(spec: Spec, facts: Facts) -> dict[str, int]:
    swap = spec.resources.limits.swap
    if swap is not None and not facts.swap_accounting:
        raise BundleError(
            "spec.resources.limits.swap: this node's kernel does not count swap; drop the field, "
            "or boot with swapaccount=1"
        )
    limit = _memory(spec, "limits")
    if not limit:
        return {}
    beyond = 0 if swap is None else bytes_of(swap)
    return {"limit": limit} | ({"swap": limit + beyond} if facts.swap_accounting else {})


def _huge_pages(spec: Spec, facts: Facts) -> list[dict[str, Any]]:
    limits, found = spec.resources.limits, []
    for name, size, limit in (("2Mi", "2MB", limits.hugepages_2Mi), ("1Gi", "1GB", limits.hugepages_1Gi)):
        if limit is None:
            continue
        if size not in facts.huge_pages:
            raise BundleError(
                f"spec.resources.limits.hugepages-{name}: this node has no huge pages of {name} "
                f"({', '.join(sorted(facts.huge_pages)) or 'none at all'}); drop the field"
            )
        found.append({"pageSize": size, "limit": bytes_of(limit)})
    return found


def _block_io(spec: Spec, facts: Facts, hardware: Hardware) -> dict[str, Any]:
    io = spec.resources.io
    if io.weight is not None and not facts.io_weight:
        raise BundleError(
            "spec.resources.io.weight: this node's kernel weighs no disk; drop the field, or load the scheduler bfq"
        )
    found: dict[str, Any] = {} if io.weight is None else {"weight": io.weight}
    for device in io.devices:
        major, minor = hardware.disks[device.path]
        for name, rate in (
            ("throttleReadBpsDevice", device.readBps),
            ("throttleWriteBpsDevice", device.writeBps),
            ("throttleReadIOPSDevice", device.readIops),
            ("throttleWriteIOPSDevice", device.writeIops),
        ):
            if rate is not None:
                found.setdefault(name, []).append({"major": major, "minor": minor, "rate": bytes_of(rate)})
    return found


def shares(millis: int) -> int:
    """CPU shares (cgroup v1; the runtime converts them for v2) of `millis` thousandths of a core."""
    return min(max(millis * 1024 // 1000, _MIN_SHARES), _MAX_SHARES)


def oom_score_adj(spec: Spec, facts: Facts) -> int:
    """How readily the kernel kills this container when the node runs out of memory.

    1000 for one that asks for nothing, less the more memory it asks for; never below the operator's own
    (lowering it takes CAP_SYS_RESOURCE) and never negative.
    """
    memory = _memory(spec, "requests") or _memory(spec, "limits")
    if not memory:
        cpu = _millis(spec, "requests") or _millis(spec, "limits")
        score = 999 if cpu else 1000
    else:
        score = min(max(1000 - 1000 * memory // max(facts.memory_bytes, 1), 2), 999)
    return max(score, facts.oom_score_adj, 0)


def _millis(spec: Spec, kind: str) -> int:
    quantity = getattr(getattr(spec.resources, kind, None), "cpu", None)
    return 0 if quantity is None else cpu_millis(quantity)


def _memory(spec: Spec, kind: str) -> int:
    quantity = getattr(getattr(spec.resources, kind, None), "memory", None)
    return 0 if quantity is None else bytes_of(quantity)
