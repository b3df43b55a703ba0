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
    if _untrusted_privileged(spec, policy) and not policy.allow_untrusted_privileged:
        untrusted = "spec.trusted: an untrusted container may not be privileged; drop one of them"
        if spec.trusted:
            untrusted = (
                "spec.securityContext.privileged: not allowed where every container counts as untrusted "
                "(--default-trust-level untrusted); drop it"
            )
        return f"{untrusted}, or start the operator with --allow-untrusted-privileged"
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
    if spec.hostPID and not policy.allow_host_pid:
        return "spec.hostPID: not allowed on this node; drop it, or start the operator with --allow-host-pid"
    handler = spec.runtimeHandler
    if handler is not None and handler not in policy.handlers:
        return (
            f"spec.runtimeHandler: {handler} is not a runtime of this node, which has "
            f"{', '.join(sorted(policy.handlers))}; name one of them, or start the operator with "
            f"--runtimes {handler}=PATH"
        )
    return None


def warning(spec: Spec, policy: Policy) -> tuple[str, str] | None:
    """Reason and one sentence on what the node accepts and its people should know; None when there is nothing."""
    if not _untrusted_privileged(spec, policy):
        return None
    runtime = f"runtime {spec.runtimeHandler}" if spec.runtimeHandler else "the trusted runtime"
    return "UntrustedPrivileged", f"it is untrusted and privileged: it runs under {runtime} with all rights on the node"


def _untrusted_privileged(spec: Spec, policy: Policy) -> bool:
    return spec.securityContext.privileged and not (spec.trusted and policy.default_trusted)


_HARMLESS = frozenset(
    (
        *("CHOWN", "DAC_OVERRIDE", "FOWNER", "FSETID", "KILL", "NET_BIND_SERVICE", "NET_RAW", "SETFCAP", "SETGID"),
        *("SETPCAP", "SETUID", "SYS_CHROOT", "AUDIT_WRITE", "MKNOD"),
    )
)
"""Pod Security's baseline: what a container may add without being able to leave."""
