"""The spec of a ContainerSpec: core/v1's names wherever core/v1 has the field, flattened.

A field is in this model only once it works. The CRD is generated from it (`crd.py`).
"""

from __future__ import annotations

import re
from enum import StrEnum
from typing import Annotated, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, StrictBool, StrictInt, StrictStr, model_validator

from oarlock.api import quantity
from oarlock.api.capabilities import CAPABILITIES


class State(StrEnum):
    """What the object's author wants of the container."""

    RUNNING = "Running"
    STOPPED = "Stopped"
    PAUSED = "Paused"


class RestartPolicy(StrEnum):
    """What happens when the container ends by itself."""

    ALWAYS = "Always"
    ON_FAILURE = "OnFailure"
    NEVER = "Never"


def _quantity(value: object) -> object:
    if isinstance(value, bool) or not isinstance(value, (str, int)):
        raise ValueError("must be a quantity such as 500m, 2, 64Mi or 1G")
    quantity.value_of(value)
    return value


Quantity = Annotated[
    StrictStr | StrictInt,
    BeforeValidator(_quantity),
    Field(json_schema_extra={"x-kubernetes-int-or-string": True, "pattern": quantity.PATTERN}),
]
AbsolutePath = Annotated[StrictStr, Field(pattern=r"^/[^\x00]*$", max_length=4096)]


class Part(BaseModel):
    """Base of every piece of a spec: what it does not know, it refuses."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class RootFS(Part):
    """A directory tree of the node, used as the container's root. It is never written to."""

    path: AbsolutePath = Field(
        description="Absolute path of the tree on the node. It may be shared by many containers."
    )
    readOnly: StrictBool = Field(False, description="Whether the container sees its root read-only.")


class EnvVar(Part):
    """One environment variable."""

    name: Annotated[StrictStr, Field(pattern=r"^[ -<>-~]+$", max_length=1024)] = Field(
        description="Name of the variable: printable ASCII without '='."
    )
    value: Annotated[StrictStr, Field(max_length=131072, pattern=r"^[^\x00]*$")] = Field(
        "", description="Its value. $(NAME) of an earlier variable is expanded, $$ is one $."
    )


class ResourceList(Part):
    """Amounts of what the node has."""

    cpu: Quantity | None = Field(None, description="CPU cores, as 500m or 2.")
    memory: Quantity | None = Field(None, description="Memory in bytes, as 64Mi.")


class Resources(Part):
    """What the container may use, and what it is weighed by."""

    limits: ResourceList = Field(
        ResourceList(), description="The most the container may use; memory above it is an OOM kill."
    )
    requests: ResourceList = Field(
        ResourceList(), description="The share the container is weighed by under contention."
    )

    @model_validator(mode="after")
    def _consistent(self) -> Resources:
        for name, measure in (("cpu", quantity.cpu_millis), ("memory", quantity.bytes_of)):
            request, limit = getattr(self.requests, name), getattr(self.limits, name)
            if request is not None and limit is not None and measure(request) > measure(limit):
                raise ValueError(
                    f"requests.{name} {request} is more than limits.{name} {limit}; lower it or raise the limit"
                )
        return self


def _capability(value: object) -> object:
    if isinstance(value, str) and value != "ALL" and value.removeprefix("CAP_") not in CAPABILITIES:
        raise ValueError(f"{value!r} is not a Linux capability; write one such as NET_ADMIN, or ALL")
    return value


Capability = Annotated[StrictStr, BeforeValidator(_capability), Field(max_length=64)]


class Capabilities(Part):
    """Linux capabilities relative to the default set."""

    add: Annotated[list[Capability], Field(max_length=64)] = Field(
        [], description="Capabilities to add, as NET_ADMIN; ALL for every one."
    )
    drop: Annotated[list[Capability], Field(max_length=64)] = Field(
        [], description="Capabilities to take away; ALL for every one."
    )


class SeccompProfile(Part):
    """Which system calls are allowed."""

    type: Literal["RuntimeDefault", "Unconfined"] = Field(
        "RuntimeDefault",
        description="RuntimeDefault: the field's default profile. Unconfined: no filter; needs the node's permission.",
    )


UserId = Annotated[StrictInt, Field(ge=0, le=4294967294)]


class SecurityContext(Part):
    """Who the container runs as and what it may do."""

    runAsUser: UserId | None = Field(None, description="Numeric user id; 0 when absent.")
    runAsGroup: UserId | None = Field(
        None, description="Numeric group id; the user's own from /etc/passwd when absent."
    )
    runAsNonRoot: StrictBool = Field(False, description="Refuse to run as user 0.")
    readOnlyRootFilesystem: StrictBool = Field(False, description="Whether the container sees its root read-only.")
    allowPrivilegeEscalation: StrictBool | None = Field(
        None, description="Allow set-user-id programs to gain privileges; no when absent."
    )
    privileged: StrictBool = Field(
        False, description="Everything the operator itself may do; only where the node allows it."
    )
    capabilities: Capabilities = Field(Capabilities(), description="Linux capabilities to add and to drop.")
    seccompProfile: SeccompProfile = Field(SeccompProfile(), description="The seccomp profile.")

    @model_validator(mode="after")
    def _consistent(self) -> SecurityContext:
        if self.runAsNonRoot and self.runAsUser == 0:
            raise ValueError("runAsNonRoot contradicts runAsUser 0; give another user or drop runAsNonRoot")
        if self.privileged and self.allowPrivilegeEscalation is False:
            raise ValueError("privileged contradicts allowPrivilegeEscalation false; drop one of them")
        return self


class Network(Part):
    """Where the container's network comes from."""

    mode: Literal["Host", "None"] = Field(
        "None", description="Host: the node's network. None: an own one with loopback only."
    )


def _size(value: object) -> object:
    if quantity.bytes_of(_quantity(value)) < 4096:  # type: ignore[arg-type]  # _quantity checked the type
        raise ValueError("must be at least 4Ki")
    return value


LogSize = Annotated[Quantity, BeforeValidator(_size)]


class LogRotation(Part):
    """When the container's log is rotated, and how much of it is kept."""

    maxSize: LogSize | None = Field(
        None, description="Rotate at this size; the operator's own setting (10Mi) when absent."
    )
    maxFiles: Annotated[StrictInt, Field(ge=2, le=100)] | None = Field(
        None,
        description="How many files are kept, the current one included; the operator's own setting (5) when absent.",
    )


Word = Annotated[StrictStr, Field(max_length=131072, pattern=r"^[^\x00]*$")]


class Spec(Part):
    """What the container is and which state it should be in."""

    nodeName: Annotated[StrictStr, Field(min_length=1, max_length=253, pattern=r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$")] = (
        Field(description="The node that runs it. It cannot be changed.")
    )
    state: State = Field(State.RUNNING, description="Desired state: Running, Stopped or Paused (frozen in memory).")
    rootfs: RootFS = Field(description="The root filesystem: a directory tree on the node.")
    command: Annotated[list[Word], Field(max_length=1024)] = Field(
        [], description="The program and its first arguments."
    )
    args: Annotated[list[Word], Field(max_length=4096)] = Field([], description="Arguments added to command.")
    workingDir: AbsolutePath | None = Field(None, description="Working directory, made when missing; / when absent.")
    env: Annotated[list[EnvVar], Field(max_length=1024, json_schema_extra={"x-key": "name"})] = Field(
        [], description="Environment variables, in order."
    )
    resources: Resources = Field(Resources(), description="CPU and memory requests and limits.")
    securityContext: SecurityContext = Field(SecurityContext(), description="User, capabilities and confinement.")
    tty: StrictBool = Field(False, description="Give the container a terminal.")
    restartPolicy: RestartPolicy = Field(
        RestartPolicy.ALWAYS, description="Always, OnFailure (exit code other than 0) or Never. Applies in place."
    )
    terminationGracePeriodSeconds: Annotated[StrictInt, Field(ge=0, le=31536000)] = Field(
        30, description="Seconds between TERM and KILL when the container is stopped. Applies in place."
    )
    hostNetwork: StrictBool = Field(False, description="Use the node's network; the same as network.mode Host.")
    network: Network | None = Field(None, description="The container's network; none but loopback when absent.")
    hostname: Annotated[StrictStr, Field(max_length=63, pattern=r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$")] | None = Field(
        None,
        description="The container's host name; the object's name when absent, the node's with the node's network.",
    )
    trusted: StrictBool = Field(
        True, description="Whether the trusted runtime may be used; false asks for the untrusted one."
    )
    logRotation: LogRotation = Field(LogRotation(), description="Log rotation. Applies in place.")

    @model_validator(mode="after")
    def _consistent(self) -> Spec:
        if self.hostNetwork and self.network is not None and self.network.mode != "Host":
            raise ValueError("hostNetwork true contradicts network.mode None; drop one of them")
        if not self.command and not self.args:
            raise ValueError("command and args are both empty; give the program to run in command")
        names = [variable.name for variable in self.env]
        for name in names:
            if names.count(name) > 1:
                raise ValueError(f"env has the name {name!r} twice; keep one of them")
        return self


SUPPORTED_LATER = re.compile(
    "^(image|ports|envFrom|volumeMounts|volumes|lifecycle|startupProbe|readinessProbe|livenessProbe|stdin|stdinOnce|"
    "imagePullPolicy|imagePullSecrets|terminationMessagePath|terminationMessagePolicy|restartPolicyRules|hostPID|hostIPC|"
    "hostUsers|hostAliases|dnsPolicy|dnsConfig|activeDeadlineSeconds|runtimeHandler|devices|ulimits|startAfter|"
    "ttlSecondsAfterFinished)$"
)
"""Fields of core/v1 and of the plan that this version does not have: named as such when somebody pastes them."""
