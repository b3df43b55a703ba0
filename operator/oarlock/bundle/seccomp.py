"""The default seccomp profile: which system calls a container may make.

`seccomp.json` is the data of moby's default profile: module github.com/moby/profiles/seccomp v0.3.0
(12 October 2026), file `default.json`, Apache-2.0, "Copyright The Moby Authors"; only spaces are taken out.
Its rules depend on the container's capabilities, the architecture and the kernel; here they are resolved
as moby's `setupSeccomp` does, with two differences. Only the native architecture is allowed: each
further one costs as much time at each create as the first. And the rules without arguments become one.
"""

from __future__ import annotations

import json
import platform
from collections.abc import Mapping
from functools import lru_cache
from importlib import resources
from typing import Any

_ARCHITECTURES = {
    "x86_64": ("amd64", "SCMP_ARCH_X86_64"),
    "aarch64": ("arm64", "SCMP_ARCH_AARCH64"),
    "ppc64le": ("ppc64le", "SCMP_ARCH_PPC64LE"),
    "s390x": ("s390x", "SCMP_ARCH_S390X"),
    "riscv64": ("riscv64", "SCMP_ARCH_RISCV64"),
}
"""`uname -m` → the profile's name, the OCI name."""

_ALLOW = "SCMP_ACT_ALLOW"


@lru_cache(maxsize=64)
def profile(capabilities: frozenset[str], kernel: tuple[int, int], machine: str = platform.machine()) -> dict[str, Any]:
    """The OCI `linux.seccomp` for a container with these capabilities. Cached: do not change the result.

    Args:
        capabilities: the bounding set, as `CAP_CHOWN`.
        kernel: the running kernel's version, as (6, 18).
        machine: as `uname -m` says.
    """
    source = json.loads(resources.files(__package__).joinpath("seccomp.json").read_text(encoding="utf-8"))
    name, oci = _ARCHITECTURES.get(machine, (machine, None))
    allowed: set[str] = set()
    rules: list[dict[str, Any]] = []
    for rule in source["syscalls"]:
        if not _applies(rule, capabilities, kernel, name):
            continue
        if rule["action"] == _ALLOW and not rule.get("args"):
            allowed.update(rule["names"])
        else:
            rules.append({key: rule[key] for key in ("names", "action", "args", "errnoRet") if rule.get(key)})
    rules = [rule for rule in rules if not allowed.issuperset(rule["names"])]
    return {
        "defaultAction": source["defaultAction"],
        "defaultErrnoRet": source["defaultErrnoRet"],
        "architectures": [oci] if oci else [],
        "syscalls": [{"names": sorted(allowed), "action": _ALLOW}, *rules],
    }


def _applies(rule: Mapping[str, Any], capabilities: frozenset[str], kernel: tuple[int, int], machine: str) -> bool:
    """Whether a rule of the source holds: all that it includes, and none of what it excludes."""
    includes, excludes = rule.get("includes") or {}, rule.get("excludes") or {}
    return (
        capabilities.issuperset(includes.get("caps", ()))
        and capabilities.isdisjoint(excludes.get("caps", ()))
        and machine in includes.get("arches", [machine])
        and machine not in excludes.get("arches", ())
        and kernel >= _version(includes.get("minKernel", "0.0"))
        and not ("minKernel" in excludes and kernel >= _version(excludes["minKernel"]))
    )


def _version(text: str) -> tuple[int, int]:
    major, _, minor = text.partition(".")
    return int(major), int(minor or 0)
