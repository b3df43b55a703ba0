"""What is recorded of one object: enough to go on after any crash, with no source in reach."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from oarlock.api.identity import Key

FORMAT = 1
Restarts = tuple[str | None, str | None]
"""The restarts asked for last: by the annotation, and by the command's override."""


class Current(BaseModel):
    """The attempt that exists now, or is being made.

    stage: `creating` is written before conmon is spawned, `created` before `start`, `started` after it.
    Times that order are in seconds since boot; `startedAt` is wall time for display.
    """

    model_config = ConfigDict(extra="forbid")

    attempt: int
    containerID: str
    runtime: str
    cgroupManager: str = "cgroupfs"
    cgroupParent: str = "/oarlock"
    spec: dict[str, Any]
    restarts: Restarts = (None, None)
    logPath: str
    stage: Literal["creating", "created", "started"] = "creating"
    pid: int | None = None
    pidStart: int | None = None
    monitorPID: int | None = None
    monitorStart: int | None = None
    startedAt: str | None = None
    startedBoot: float | None = None
    paused: bool = False
    stopSince: float | None = None
    stopGrace: float | None = None
    stopCause: str | None = None
    killed: bool = False
    killedBoot: float | None = None
    concerns: dict[str, str] = {}
    childKilled: bool = False


class Exit(BaseModel):
    """How one attempt ended. `cause` is what ended it: `exited` by itself, or what oarlock did."""

    model_config = ConfigDict(extra="forbid")

    attempt: int
    containerID: str
    exitCode: int
    signal: int | None = None
    oomKilled: bool = False
    reason: str
    message: str = ""
    startedAt: str | None = None
    finishedAt: str
    cause: Literal["exited", "stopped", "replaced", "refused"] = "exited"


class Record(BaseModel):
    """One object.

    override: the state that the command asked for, instead of the spec's.
    held: the source is known to keep the object until it is released.
    """

    model_config = ConfigDict(extra="forbid")

    format: int = FORMAT
    nodeName: str
    bootID: str
    source: str
    namespace: str
    name: str
    uid: str
    origin: str | None = None
    generation: int
    created: str
    labels: dict[str, str] = {}
    annotations: dict[str, str] = {}
    spec: dict[str, Any]
    deleted: bool = False
    held: bool = False
    override: str | None = None
    attempt: int = 0
    current: Current | None = None
    exits: list[Exit] = []
    restartCount: int = 0
    lastSpec: dict[str, Any] | None = None
    lastRestarts: Restarts = (None, None)
    backoffSteps: int = 0
    retryAt: float = 0.0
    retryTime: str | None = None
    failures: int = 0
    problem: tuple[str, str] | None = None
    refused: tuple[int, str] | None = None
    status: dict[str, Any] = {}

    @property
    def key(self) -> Key:
        """Who the object is."""
        return Key(self.source, self.namespace, self.name, self.uid)

    @property
    def last(self) -> Exit | None:
        """The attempt that ended last."""
        return self.exits[-1] if self.exits else None

    @property
    def left(self) -> bool:
        """Whether the present attempt has ended, and is told of, and what is left of it is still to be removed."""
        return self.current is not None and self.last is not None and self.current.attempt == self.last.attempt

    def clear_problem(self) -> None:
        """What it was hindered by, if anything, is over."""
        self.problem, self.failures = None, 0
