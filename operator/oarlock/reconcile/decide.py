"""The next step towards what is desired. Pure: no clock, file or process is read here."""

from __future__ import annotations

from dataclasses import dataclass

from oarlock.api.spec import RestartPolicy, State


@dataclass(frozen=True, slots=True)
class Desired:
    """What the object wants now. `refused`: whether the node's policy is against its newest version."""

    state: State
    policy: RestartPolicy
    grace: float
    deleted: bool = False
    held: bool = True
    blocked_by: str | None = None
    refused: bool = False


@dataclass(frozen=True, slots=True)
class Created:
    """An attempt exists and waits to be started."""


@dataclass(frozen=True, slots=True)
class HalfMade:
    """What is left of an attempt that did not get to run."""


@dataclass(frozen=True, slots=True)
class Alive:
    """An attempt runs. Times are seconds since boot; `changed` names the fields that replace it.

    `dying`: its end comes by itself. `stuck_at`: when it is to be said that KILL did not end it.
    """

    dying: bool = False
    paused: bool = False
    changed: tuple[str, ...] = ()
    stop_since: float | None = None
    stop_grace: float = 0.0
    stop_cause: str | None = None
    killed: bool = False
    stuck_at: float | None = None


@dataclass(frozen=True, slots=True)
class Ended:
    """An attempt has ended and was not yet recorded and removed."""


@dataclass(frozen=True, slots=True)
class LastExit:
    """How the attempt before ended. `rearmed`: something since then asks for a new one."""

    code: int
    by_itself: bool
    rearmed: bool = False


@dataclass(frozen=True, slots=True)
class Observed:
    """What there is now."""

    container: Created | HalfMade | Alive | Ended | None = None
    last: LastExit | None = None
    retry_at: float = 0.0
    recorded: bool = True


@dataclass(frozen=True, slots=True)
class Create:
    """Make a new attempt."""


@dataclass(frozen=True, slots=True)
class Start:
    """Run the created attempt."""


@dataclass(frozen=True, slots=True)
class Discard:
    """Undo an attempt that was never started."""


@dataclass(frozen=True, slots=True)
class Terminate:
    """Send the stop signal and let the grace period run."""

    grace: float
    cause: str


@dataclass(frozen=True, slots=True)
class Kill:
    """Send KILL: the grace period is over."""

    cause: str


@dataclass(frozen=True, slots=True)
class Pause:
    """Freeze."""


@dataclass(frozen=True, slots=True)
class Resume:
    """Thaw."""


@dataclass(frozen=True, slots=True)
class Collect:
    """Record how the attempt ended, and remove it."""


@dataclass(frozen=True, slots=True)
class Release:
    """Nothing is left of it: let the object go."""


@dataclass(frozen=True, slots=True)
class Rearm:
    """Stopped as desired: the next Running starts a new attempt whatever the policy."""


@dataclass(frozen=True, slots=True)
class Wait:
    """Look again at `until` (seconds since boot), or when something happens."""

    until: float | None
    reason: str


@dataclass(frozen=True, slots=True)
class Settled:
    """As desired: nothing to do until something happens."""


Step = Create | Start | Discard | Terminate | Kill | Pause | Resume | Collect | Release | Rearm | Wait | Settled


def decide(desired: Desired, observed: Observed, now: float) -> Step:
    """The next step. The order of the cases is the priority: removal, stopping, then starting."""
    match observed.container:
        case Ended():
            return Collect()
        case HalfMade():
            return Discard()
        case Created():
            if desired.deleted or desired.state is State.STOPPED or desired.blocked_by or desired.refused:
                return Discard()
            return Start() if desired.held else Wait(None, "Finalizer")
        case Alive() as alive:
            return _alive(desired, alive, now)
    if desired.deleted:
        return Release()
    if desired.blocked_by:
        return Wait(None, "NameTaken")
    if desired.state is State.STOPPED:
        last = observed.last
        return Rearm() if last is not None and last.by_itself and not last.rearmed else Settled()
    return _absent(desired, observed, now)


def _alive(desired: Desired, alive: Alive, now: float) -> Step:
    cause = _why_stop(desired, alive)
    if cause is not None:
        return _stop(desired, alive, cause, now)
    if alive.dying:
        return Settled()
    if desired.state is State.PAUSED and not alive.paused:
        return Pause()
    if desired.state is State.RUNNING and alive.paused:
        return Resume()
    return Settled()


def _why_stop(desired: Desired, alive: Alive) -> str | None:
    """A stop once begun is never taken back: the process may have seen its TERM."""
    if desired.deleted:
        return "Deleted"
    if desired.state is State.STOPPED:
        return "Stopped"
    if alive.changed and not desired.refused:
        return "Replaced"
    return alive.stop_cause


def _stop(desired: Desired, alive: Alive, cause: str, now: float) -> Step:
    if alive.killed:
        looks_again = alive.stuck_at is not None and alive.stuck_at > now
        return Wait(alive.stuck_at if looks_again else None, cause)
    if alive.stop_since is None:
        return Terminate(desired.grace, cause) if desired.grace > 0 else Kill(cause)
    deadline = alive.stop_since + min(desired.grace, alive.stop_grace)
    return Kill(cause) if now >= deadline else Wait(deadline, cause)


def _absent(desired: Desired, observed: Observed, now: float) -> Step:
    last = observed.last
    if last is not None and last.by_itself and not last.rearmed:
        ended = desired.policy is RestartPolicy.NEVER
        ended = ended or (desired.policy is RestartPolicy.ON_FAILURE and last.code == 0)
        if ended:
            return Settled()
    if desired.refused:
        return Wait(None, "Refused")
    if observed.retry_at > now:
        return Wait(observed.retry_at, "BackOff")
    return Create()
