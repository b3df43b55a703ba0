"""The spec of a ContainerSpec: core/v1's names wherever core/v1 has the field, flattened.

A field is in this model only once it works. The CRD is generated from it (`crd.py`), and the descriptions
are what `kubectl explain` prints.
"""

from __future__ import annotations

import re
from enum import StrEnum
from typing import Annotated, Literal

from pydantic import ConfigDict, Field, StrictBool, StrictInt, model_validator

from oarlock.api.fields import (
    WHOLE,
    AbsolutePath,
    Contradiction,
    EnvName,
    Label,
    LogSize,
    NodeName,
    Part,
    SignalName,
    Word,
    cel,
    rules,
)
from oarlock.api.resources import Resources
from oarlock.api.security import SecurityContext


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


class RootFS(Part):
    """A directory tree of the node, used as the container's root. It is never written to."""

    path: AbsolutePath = Field(
        description="Absolute path of an unpacked root filesystem on the node, as /srv/rootfs/busybox. It is never "
        "written to: what a container writes goes to a layer of its own, thrown away at the next restart. Many "
        "containers may share one tree."
    )
    readOnly: StrictBool = Field(
        False,
        description="Whether the container sees its root read-only, so that writes fail with EROFS. "
        "The same as securityContext.readOnlyRootFilesystem; either is enough.",
    )


class EnvVar(Part):
    """One environment variable."""

    name: EnvName = Field(description="Name of the variable: printable ASCII without '='.")
    value: Word = Field(
        "",
        description="Its value; numbers and booleans must be quoted. $(NAME) is replaced by a variable further up in "
        "the list, $$ is one $; what cannot be resolved stays as it is.",
    )


class Network(Part):
    """Where the container's network comes from."""

    mode: Literal["Host", "None"] = Field(
        "None", description="Host: the node's own network. None: a network of its own with nothing but loopback."
    )


class Lifecycle(Part):
    """What is done when the container is stopped."""

    stopSignal: SignalName = Field(
        "SIGTERM",
        description="The signal that asks the container to end, as SIGQUIT or SIGRTMIN+3.",
    )


class LogRotation(Part):
    """When the container's log is rotated, and how much of it is kept."""

    maxSize: LogSize | None = Field(
        None,
        description="Bytes at which the log file is rotated, as 10Mi; at least 4Ki. "
        "The operator's own setting (10Mi) when absent.",
    )
    maxFiles: Annotated[StrictInt, Field(ge=2, le=100), WHOLE] | None = Field(
        None,
        description="How many files are kept, the current one included. The operator's own setting (5) when absent.",
    )
    compress: StrictBool | None = Field(
        None,
        description="Whether rotated files are compressed (gzip), but for the newest of them. "
        "The operator's own setting (false) when absent.",
    )


_NO_COMMAND = "command and args are both empty; give the program to run in command"
_TWO_NETWORKS = "hostNetwork true contradicts network.mode None; drop one of them"


class Spec(Part):
    """What the container is and which state it should be in."""

    model_config = ConfigDict(
        json_schema_extra=rules(
            cel(
                "!(has(self.hostNetwork) && self.hostNetwork && has(self.network) && self.network.mode != 'Host')",
                _TWO_NETWORKS,
                ".hostNetwork",
            ),
            cel(
                "(has(self.command) && size(self.command) > 0) || (has(self.args) && size(self.args) > 0)",
                _NO_COMMAND,
                ".command",
            ),
        )
    )

    nodeName: NodeName = Field(
        description="Name of the node that runs the container: what its operator was started with. It cannot be "
        "changed; make a new object instead. In the manifest directory it may be left out.",
        json_schema_extra=rules(
            cel("self == oldSelf", "nodeName cannot be changed; delete the object and make it again")
        ),
    )
    state: State = Field(
        State.RUNNING,
        description="What the container should be doing. Running: started, and started again as restartPolicy says. "
        "Stopped: ended, and kept so. Paused: every process frozen, its memory kept. Applies in place.",
    )
    rootfs: RootFS = Field(
        description="The root filesystem: a directory tree on the node. A change replaces the container."
    )
    command: Annotated[list[Word], Field(max_length=1024)] = Field(
        [],
        description="The program and its first arguments, run without a shell and looked up in the container's PATH. "
        "$(NAME) is replaced by a variable from env, $$ is one $. Needed unless args is given. A change replaces the "
        "container.",
    )
    args: Annotated[list[Word], Field(max_length=4096)] = Field(
        [],
        description="Arguments after those of command, with $(NAME) and $$ as there. A change replaces the container.",
    )
    workingDir: AbsolutePath | None = Field(
        None,
        description="Directory in the container where the program starts, made when missing; / when absent. "
        "A change replaces the container.",
    )
    env: Annotated[list[EnvVar], Field(max_length=1024, json_schema_extra={"x-key": "name"})] = Field(
        [],
        description="Environment variables, in order, each name once. PATH, HOME and HOSTNAME are set unless named "
        "here. A change replaces the container.",
    )
    resources: Resources = Field(
        Resources(),
        description="CPU, memory, processes and disks: what it is weighed by, and limits. A node that cannot enforce "
        "one of them does not run the container. A change replaces the container.",
    )
    securityContext: SecurityContext = Field(
        SecurityContext(), description="User, capabilities and confinement. A change replaces the container."
    )
    tty: StrictBool = Field(
        False,
        description="Give the process a terminal: its standard output and error are then one stream. "
        "A change replaces the container.",
    )
    stdin: StrictBool = Field(
        False,
        description="Keep the process's standard input open for clients that attach; without it a read is at the end "
        "at once. A change replaces the container.",
    )
    stdinOnce: StrictBool = Field(
        False,
        description="Close the standard input for good when the first client that attached ends, instead of keeping it "
        "open for the next one. Without stdin it means nothing. A change replaces the container.",
    )
    restartPolicy: RestartPolicy = Field(
        RestartPolicy.ALWAYS,
        description="When an ended container is started again. Always: at every end. OnFailure: when the exit code is "
        "not 0. Never: not at all. The first restart is at once, the next after 10 s, doubling up to 5 minutes, and "
        "at once again after a run of 10 minutes. Applies in place.",
    )
    terminationGracePeriodSeconds: Annotated[StrictInt, Field(ge=0, le=31536000), WHOLE] = Field(
        30,
        description="Seconds between the stop signal (TERM) and KILL when the container is stopped, replaced or "
        "deleted; 0 is KILL at once. Applies in place.",
    )
    lifecycle: Lifecycle = Field(
        Lifecycle(), description="How the container is asked to end when it is stopped. Applies in place."
    )
    hostNetwork: StrictBool = Field(
        False,
        description="Use the node's own network; the same as network.mode Host. A change replaces the container.",
    )
    network: Network | None = Field(
        None,
        description="The container's network. When absent it has nothing but loopback, unless hostNetwork is true. "
        "A change replaces the container.",
    )
    hostPID: StrictBool = Field(
        False,
        description="Use the node's own pid namespace: the container sees every process of the node. Its operator has "
        "to allow it. A change replaces the container.",
    )
    hostname: Label | None = Field(
        None,
        description="The host name that the container sees; the object's name when absent. With the node's network "
        "it is always the node's name. A change replaces the container.",
    )
    trusted: StrictBool = Field(
        True,
        description="Whether the container's program is trusted. If not, it runs under the node's untrusted runtime, "
        "where one is configured; so do all containers of a node whose default is untrusted. "
        "A change replaces the container.",
    )
    runtimeHandler: Label | None = Field(
        None,
        description="Name of the OCI runtime to run under, as a RuntimeClass' handler: one of those that the node's "
        "operator was given, or its usual one by its own name, as runc. It goes before trusted. "
        "A change replaces the container.",
    )
    logRotation: LogRotation = Field(
        LogRotation(), description="How much of the container's output is kept on the node. Applies in place."
    )

    @model_validator(mode="after")
    def _consistent(self) -> Spec:
        if self.hostNetwork and self.network is not None and self.network.mode != "Host":
            raise Contradiction(("hostNetwork",), _TWO_NETWORKS)
        if not self.command and not self.args:
            raise Contradiction(("command",), _NO_COMMAND)
        seen: set[str] = set()
        for index, variable in enumerate(self.env):
            if variable.name in seen:
                raise Contradiction(("env", index, "name"), f"is {variable.name!r} a second time; keep one of them")
            seen.add(variable.name)
        return self


SUPPORTED_LATER = re.compile(
    "^(image|ports|envFrom|volumeMounts|volumes|postStart|preStop|startupProbe|readinessProbe|livenessProbe|"
    "imagePullPolicy|imagePullSecrets|terminationMessagePath|terminationMessagePolicy|restartPolicyRules|hostIPC|"
    "hostUsers|hostAliases|dnsPolicy|dnsConfig|activeDeadlineSeconds|devices|ulimits|startAfter|"
    "ttlSecondsAfterFinished|valueFrom|seLinuxOptions|appArmorProfile|procMount|localhostProfile|volumeDevices|"
    "resizePolicy|ephemeral-storage)$"
)
"""Fields of core/v1 and of the plan that this version does not have: named as such when somebody pastes them."""
