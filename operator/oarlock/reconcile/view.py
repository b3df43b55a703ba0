"""What a keeper sees of its object, and the words for it: pure functions of the record."""

from __future__ import annotations

import errno
from typing import Any

from oarlock.api.accepted import RESTARTED_AT
from oarlock.api.changes import replaced_fields
from oarlock.api.spec import Spec
from oarlock.bundle.config import shares_network
from oarlock.errors import BundleError, NodeFull
from oarlock.reconcile import decide
from oarlock.reconcile.backoff import BackOff
from oarlock.reconcile.concerns import STUCK_AFTER
from oarlock.reconcile.status import Words
from oarlock.records.model import Record, Restarts

_HOST_NAME = 63
"""Characters of a host name (the kernel takes 64, the kubelet gives 63)."""
_VERBS: dict[type, str] = {
    type(None): "Adopt",
    decide.Start: "Run",
    decide.Terminate: "Kill",
    decide.Kill: "Kill",
    decide.Pause: "Pause",
    decide.Resume: "Resume",
    decide.Discard: "Remove",
    decide.Collect: "Remove",
}
"""What could not be done, as the kubelet's reasons have it (`RunContainerError`)."""


def observed(record: Record, restarts: Restarts, *, alive: bool, dying: bool = False) -> decide.Observed:
    """What there is of an object.

    Args:
        restarts: those that are asked for.
        alive: whether the recorded attempt's process lives.
        dying: whether it is dead though, and about to be told.
    """
    current, last = record.current, record.last
    container: decide.Created | decide.HalfMade | decide.Alive | decide.Ended | None = None
    if current is not None:
        refused = current.stage == "created" and record.left
        if current.stage == "creating" or refused:
            container = decide.HalfMade()
        elif not alive:
            container = decide.Ended()
        elif current.stage != "started":
            container = decide.Created()
        else:
            container = decide.Alive(
                paused=current.paused,
                dying=dying,
                changed=changed(record, current.spec, current.restarts, restarts),
                stop_since=current.stopSince,
                stop_grace=current.stopGrace or 0.0,
                stop_cause=current.stopCause,
                killed=current.killed,
                stuck_at=None if current.killedBoot is None else current.killedBoot + STUCK_AFTER,
            )
    told = None
    if last is not None:
        rearmed = record.lastSpec is not None and bool(changed(record, record.lastSpec, record.lastRestarts, restarts))
        told = decide.LastExit(last.exitCode, last.cause in ("exited", "refused"), rearmed)
    return decide.Observed(container=container, last=told, retry_at=0.0 if told and told.rearmed else record.retryAt)


def changed(record: Record, spec: dict[str, Any], before: Restarts, asked: Restarts) -> tuple[str, ...]:
    """Why the object's present version needs another container than one made of `spec`; empty when it does not.

    Each restart is compared with its like: one that is asked for no longer is no reason.
    """
    if any(now not in (None, then) for then, now in zip(before, asked, strict=True)):
        return (f"metadata.annotations[{RESTARTED_AT}]",)
    return () if spec == record.spec else replaced_fields(spec, record.spec)


def outdated(refused: str | None) -> Words:
    """Why what runs is not of the object's newest version."""
    if refused is not None:
        return "Refused", f"{refused}. The container of the version before goes on"
    return "Replacing", "the container of the version before is there still; it is replaced"


def words(
    step: decide.Step, record: Record, backoff: BackOff, *, blocked_by: str | None, refused: str | None
) -> Words | None:
    """What is waited for before a step is over; None when nothing is."""
    match step:
        case decide.Wait(reason="BackOff"):
            delay = backoff.delay(record.backoffSteps - 1)
            return "CrashLoopBackOff", f"back-off {delay:g} s, next start at {record.retryTime}"
        case decide.Wait(reason="NameTaken"):
            return "NameTaken", f"{blocked_by}; rename one of them or remove it"
        case decide.Wait(reason="Refused"):
            return "Refused", refused or ""
        case decide.Create():
            return "ContainerCreating", "the container is being created"
        case _:
            return None


def hostname(spec: Spec, object_name: str, node_name: str) -> str:
    """The container's host name."""
    if shares_network(spec):
        return node_name[:_HOST_NAME].rstrip("-.")
    return spec.hostname or object_name.replace(".", "-")[:_HOST_NAME].rstrip("-")


def about_the_command(message: str, spec: Spec) -> str:
    """The runtime's words on a command that cannot run, with its name. (crun does not always say it.)"""
    program = [*spec.command, *spec.args][0]
    return message if program[:40] in message else f"{program[:40]}: {message}"


def trouble(error: Exception, step: decide.Step | None) -> str:
    """The reason of a step that failed for something that is not the container's doing.

    Args:
        step: None when a container could not be taken up after a restart of the operator.
    """
    if isinstance(error, NodeFull) or (isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)):
        return "NodeFull"
    if isinstance(error, OSError):
        return "NodeError"
    if isinstance(error, BundleError):
        return "CreateContainerConfigError"
    return f"{_VERBS.get(type(step), 'Create')}ContainerError"
