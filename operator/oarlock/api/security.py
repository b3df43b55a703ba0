"""Who a container runs as and what it may do: `spec.securityContext`."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import ConfigDict, Field, StrictBool, model_validator

from oarlock.api.fields import Capability, Contradiction, Part, UserId, cel, rules


class Capabilities(Part):
    """Linux capabilities relative to the default set."""

    add: Annotated[list[Capability], Field(max_length=64)] = Field(
        [],
        description="Capabilities to add to the default set, as NET_ADMIN; ALL for every one that the operator has. "
        "A name that Linux does not have is refused.",
    )
    drop: Annotated[list[Capability], Field(max_length=64)] = Field(
        [],
        description="Capabilities to take away, as NET_RAW; ALL for every one that add does not name. "
        "A name in both lists is taken away.",
    )


class SeccompProfile(Part):
    """Which system calls are allowed."""

    type: Literal["RuntimeDefault", "Unconfined"] = Field(
        "RuntimeDefault",
        description="RuntimeDefault: the usual profile, which refuses system calls that containers rarely need. "
        "Unconfined: no filter; only where the node allows it.",
    )


_NOT_ROOT = "contradicts runAsUser 0; give another user or drop runAsNonRoot"
_MAY_NOT_GAIN = "false contradicts privileged; drop one of them"


class SecurityContext(Part):
    """Who the container runs as and what it may do."""

    model_config = ConfigDict(
        json_schema_extra=rules(
            cel(
                "!(has(self.runAsNonRoot) && self.runAsNonRoot && has(self.runAsUser) && self.runAsUser == 0)",
                _NOT_ROOT,
                ".runAsNonRoot",
            ),
            cel(
                "!(has(self.privileged) && self.privileged && has(self.allowPrivilegeEscalation)"
                " && !self.allowPrivilegeEscalation)",
                _MAY_NOT_GAIN,
                ".allowPrivilegeEscalation",
            ),
        )
    )

    runAsUser: UserId | None = Field(None, description="Numeric user id of the process; 0 when absent.")
    runAsGroup: UserId | None = Field(
        None,
        description="Numeric primary group of the process; the user's own from the container's /etc/passwd, or 0, "
        "when absent.",
    )
    runAsNonRoot: StrictBool = Field(
        False, description="Refuse to start the container when its process would run as user 0."
    )
    readOnlyRootFilesystem: StrictBool = Field(
        False,
        description="Whether the container sees its root read-only. The same as rootfs.readOnly; either is enough.",
    )
    allowPrivilegeEscalation: StrictBool | None = Field(
        None,
        description="Whether a program may gain more rights than its parent, as through set-user-id files. When "
        "absent it may not (no_new_privs is set), unless the container is privileged.",
    )
    privileged: StrictBool = Field(
        False,
        description="Run with every capability of the operator, all devices of the node and no filter of system "
        "calls: root in the container is then root on the node. Only where the node allows it.",
    )
    capabilities: Capabilities = Field(
        Capabilities(), description="Linux capabilities to add to the default set and to drop from it."
    )
    seccompProfile: SeccompProfile = Field(
        SeccompProfile(), description="The filter of system calls; none when the container is privileged."
    )

    @model_validator(mode="after")
    def _consistent(self) -> SecurityContext:
        if self.runAsNonRoot and self.runAsUser == 0:
            raise Contradiction(("runAsNonRoot",), _NOT_ROOT)
        if self.privileged and self.allowPrivilegeEscalation is False:
            raise Contradiction(("allowPrivilegeEscalation",), _MAY_NOT_GAIN)
        return self
