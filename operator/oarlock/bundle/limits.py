"""Resources of a container as the kernel counts them: the kubelet's arithmetic.

Sources: kubernetes pkg/kubelet/cm/helpers_linux.go (`MilliCPUToShares`, `MilliCPUToQuota`) and
pkg/kubelet/qos/policy.go (`GetContainerOOMScoreAdjust`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from oarlock.api.quantity import bytes_of, cpu_millis

if TYPE_CHECKING:
    from oarlock.api.spec import Spec
    from oarlock.bundle.facts import Facts

PIDS = 4096
"""Processes and threads a container may have: stops a fork bomb, leaves room for a large JVM."""

_PERIOD = 100_000  # µs
_MIN_SHARES, _MAX_SHARES, _MIN_QUOTA = 2, 262_144, 1_000


def resources(spec: Spec, facts: Facts) -> dict[str, Any]:
    """OCI `linux.resources` without devices.

    CPU shares come from the request, or else from the limit; with neither a container has the least
    weight, as with the kubelet. A memory limit counts swap too where the kernel can: no swap beyond it.
    """
    cpu: dict[str, int] = {"shares": shares(_millis(spec, "requests") or _millis(spec, "limits"))}
    if limit := _millis(spec, "limits"):
        cpu |= {"period": _PERIOD, "quota": max(limit * _PERIOD // 1000, _MIN_QUOTA)}
    found: dict[str, Any] = {"cpu": cpu, "pids": {"limit": PIDS}}
    if memory := _memory(spec, "limits"):
        found["memory"] = {"limit": memory} | ({"swap": memory} if facts.swap_accounting else {})
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
