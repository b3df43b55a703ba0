"""What this node refuses although the spec is well-formed."""

from __future__ import annotations

from oarlock.api.spec import Spec
from oarlock.bundle.config import shares_network
from oarlock.reconcile.node import Policy


def refusal(spec: Spec, policy: Policy) -> str | None:
    """One sentence with the field and the way out; None when the node accepts the spec."""
    security = spec.securityContext
    if security.privileged and not policy.allow_privileged:
        return "spec.securityContext.privileged: not allowed on this node; start the operator with --allow-privileged"
    untrusted = not spec.trusted or not policy.default_trusted
    if security.privileged and untrusted and not policy.allow_untrusted_privileged:
        return (
            "spec.trusted: an untrusted container may not be privileged; "
            "drop one of them, or start the operator with --allow-untrusted-privileged"
        )
    if not policy.allow_privileged:
        if security.seccompProfile.type == "Unconfined":
            return (
                "spec.securityContext.seccompProfile.type: Unconfined is not allowed on this node; "
                "use RuntimeDefault, or start the operator with --allow-privileged"
            )
        risky = sorted({name.removeprefix("CAP_") for name in security.capabilities.add} - _HARMLESS)
        if risky:
            return (
                f"spec.securityContext.capabilities.add: {', '.join(risky)} is not allowed on this node; "
                "drop it, or start the operator with --allow-privileged"
            )
    if shares_network(spec) and not policy.allow_host_network:
        return "spec.hostNetwork: not allowed on this node; start the operator with --allow-host-network"
    return None


_HARMLESS = frozenset(
    (
        *("CHOWN", "DAC_OVERRIDE", "FOWNER", "FSETID", "KILL", "NET_BIND_SERVICE", "NET_RAW", "SETFCAP", "SETGID"),
        *("SETPCAP", "SETUID", "SYS_CHROOT", "AUDIT_WRITE", "MKNOD"),
    )
)
"""Pod Security's baseline: what a container may add without being able to leave."""
