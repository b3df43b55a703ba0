"""Which Linux capabilities a container's processes get."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from oarlock.bundle.facts import CAPABILITIES
from oarlock.errors import BundleError

if TYPE_CHECKING:
    from oarlock.api.spec import Spec
    from oarlock.bundle.facts import Facts

DEFAULT = frozenset(
    (
        "CAP_CHOWN",
        "CAP_DAC_OVERRIDE",
        "CAP_FOWNER",
        "CAP_FSETID",
        "CAP_KILL",
        "CAP_NET_BIND_SERVICE",
        "CAP_SETFCAP",
        "CAP_SETGID",
        "CAP_SETPCAP",
        "CAP_SETUID",
        "CAP_SYS_CHROOT",
    )
)
"""podman's and CRI-O's default (containers/common v0.50.1, pkg/config/default.go): moby's without
MKNOD, NET_RAW and AUDIT_WRITE."""

_FIELD = "spec.securityContext.capabilities"


def bounding(spec: Spec, facts: Facts) -> frozenset[str]:
    """The container's bounding set: the default, with what the spec adds and drops.

    `ALL` first, then single names, and a dropped name wins (containerd: `WithCapabilities`). `ALL` and
    `privileged` mean all that the operator itself has.

    Raises:
        BundleError: a name that Linux does not have, or one that the operator cannot give.
    """
    context = spec.securityContext
    if context is None:
        return DEFAULT & facts.capabilities
    if context.privileged:
        return facts.capabilities
    lists = context.capabilities
    add = _names((lists.add if lists is not None else None) or (), "add")
    drop = _names((lists.drop if lists is not None else None) or (), "drop")
    for name in add - facts.capabilities - {"ALL"}:
        raise BundleError(f"{_FIELD}.add: the operator does not have {name} itself, so it cannot give it")
    base = DEFAULT & facts.capabilities
    if "ALL" in add:
        base = facts.capabilities
    if "ALL" in drop:
        base = frozenset()
    return ((base | add) - drop) - {"ALL"}


def _names(given: Iterable[str], which: str) -> frozenset[str]:
    names = set()
    for name in given:
        full = name.upper()
        full = full if full == "ALL" or full.startswith("CAP_") else f"CAP_{full}"
        if full != "ALL" and full not in CAPABILITIES:
            raise BundleError(f"{_FIELD}.{which}: Linux has no capability {name}; names are as NET_ADMIN")
        names.add(full)
    return frozenset(names)
