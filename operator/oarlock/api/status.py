"""The status of a ContainerSpec; `state` and `lastState` have core/v1 ContainerState's shape."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

Time = Annotated[str, Field(json_schema_extra={"format": "date-time"})]


class Phase(StrEnum):
    """The one-word summary of where the container is."""

    PENDING = "Pending"
    RUNNING = "Running"
    PAUSED = "Paused"
    STOPPING = "Stopping"
    STOPPED = "Stopped"
    BACK_OFF = "BackOff"
    SUCCEEDED = "Succeeded"
    FAILED = "Failed"
    UNKNOWN = "Unknown"


class _Shape(BaseModel):
    model_config = ConfigDict(extra="forbid")


class Waiting(_Shape):
    """Not running yet, or between two attempts."""

    reason: str | None = Field(None, description="One word: why it waits.")
    message: str | None = Field(None, description="One sentence: what it waits for.")


class Running(_Shape):
    """A process lives."""

    startedAt: Time | None = Field(None, description="When it was started.")


class Terminated(_Shape):
    """An attempt has ended."""

    exitCode: int = Field(description="Exit code; 128 + the signal's number when a signal ended it.")
    signal: int | None = Field(None, description="The signal that ended it, when the kernel told so.")
    reason: str | None = Field(None, description="One word: how it ended.")
    message: str | None = Field(None, description="One sentence: how it ended.")
    startedAt: Time | None = Field(None, description="When it was started.")
    finishedAt: Time | None = Field(None, description="When it ended.")
    containerID: str | None = Field(None, description="The attempt, as oarlock://<id>.")


class ContainerState(_Shape):
    """Exactly one of its fields is set."""

    waiting: Waiting | None = Field(None, description="Set while nothing runs but something will.")
    running: Running | None = Field(None, description="Set while a process lives.")
    terminated: Terminated | None = Field(None, description="Set when the attempt has ended.")


class Condition(_Shape):
    """A condition in metav1's shape, read by kstatus."""

    type: Literal["Ready", "Reconciling", "Stalled", "ContainerReady", "Degraded"] = Field(
        description="Which condition."
    )
    status: Literal["True", "False", "Unknown"] = Field(description="True, False or Unknown.")
    reason: str = Field(description="One word: why.")
    message: str = Field("", description="One sentence: why.")
    lastTransitionTime: Time = Field(description="When its status last changed.")
    observedGeneration: int = Field(0, description="The generation it speaks of.")


class Status(_Shape):
    """What the node observes."""

    observedGeneration: int | None = Field(None, description="The newest generation that the node has looked at.")
    phase: Phase | None = Field(None, description="The one-word summary.")
    reason: str | None = Field(None, description="One word: why this phase.")
    message: str | None = Field(None, description="One sentence: why this phase, and the way out.")
    nodeName: str | None = Field(None, description="The node that speaks.")
    containerID: str | None = Field(None, description="The latest attempt, as oarlock://<id>.")
    pid: int | None = Field(None, description="Process id of the container's init on the node; only while it lives.")
    monitorPID: int | None = Field(None, description="Process id of its monitor, conmon; only while it lives.")
    exitCode: int | None = Field(
        None, description="Exit code of the attempt that ended last; absent once the next runs."
    )
    signal: int | None = Field(None, description="The signal that ended it, when the kernel told so.")
    oomKilled: bool | None = Field(
        None, description="The kernel's OOM killer took a process of the attempt that ended last."
    )
    startedAt: Time | None = Field(None, description="When the latest attempt was started.")
    finishedAt: Time | None = Field(None, description="When the attempt that ended last ended.")
    restartCount: int = Field(0, description="How many times the container was started again.")
    ready: bool = Field(False, description="Whether the container runs and may be used.")
    started: bool = Field(False, description="Whether the container has been started.")
    state: ContainerState | None = Field(None, description="The present state, as core/v1 has it.")
    lastState: ContainerState | None = Field(None, description="The state before the present one, as core/v1 has it.")
    conditions: list[Condition] | None = Field(
        None,
        max_length=16,
        json_schema_extra={"x-key": "type"},
        description="Ready, Reconciling, Stalled and ContainerReady, as kstatus reads them; and Degraded, while "
        "something is amiss with a container that runs.",
    )
