"""The status of an object: a pure function of its record.

Conditions follow kstatus: Ready means that the desired state is reached, Stalled that it will not be by itself.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from oarlock.records.model import Current, Exit, Record

_REACHED = {"Running": ("Running",), "Stopped": ("Stopped",), "Paused": ("Paused",)}


Words = tuple[str, str]
"""Reason and sentence."""


def status_of(
    record: Record, *, state: str, now: str, waiting: Words | None = None, outdated: Words | None = None
) -> dict[str, Any]:
    """The API's status shape.

    Args:
        state: the desired state, overrides applied.
        now: RFC 3339, for the conditions whose status changes.
        waiting: what is waited for, when nothing runs.
        outdated: why the container that runs is not of the object's newest version.
    """
    last = record.last
    left = record.left
    if left:
        record = record.model_copy(update={"current": None})
    current = record.current
    if current is not None:
        waiting = None
    phase, reason, message = _ended(record, state, waiting) if left else _phase(record, state, waiting)
    running = current is not None and current.stage == "started"
    status: dict[str, Any] = {
        "observedGeneration": _generation(record),
        "phase": phase,
        "reason": reason,
        "message": message,
        "nodeName": record.nodeName,
        "containerID": _container_id(current or last),
        "startedAt": current.startedAt if running and current else (last.startedAt if last else None),
        "restartCount": record.restartCount,
        "ready": phase == "Running",
        "started": running,
        "state": _state(record, phase, reason, message),
        "lastState": _last_state(record, phase),
    }
    if running and current is not None:
        status |= {"pid": current.pid, "monitorPID": current.monitorPID}
    elif last is not None:
        status |= {
            "exitCode": last.exitCode,
            "signal": last.signal,
            "oomKilled": last.oomKilled,
            "finishedAt": last.finishedAt,
        }
    outdated = outdated if phase in ("Running", "Paused") else None
    status["conditions"] = _conditions(record, state, phase, (reason, message), outdated, now)
    return {name: value for name, value in status.items() if value is not None}


def _container_id(attempt: Current | Exit | None) -> str | None:
    return f"oarlock://{attempt.containerID}" if attempt is not None else None


def _generation(record: Record) -> int:
    """The newest version that was looked at, good or not."""
    return max(record.generation, record.refused[0]) if record.refused is not None else record.generation


def _ended(record: Record, state: str, waiting: Words | None) -> tuple[str, str, str]:
    """Its exit is told, and what is left of it goes; where that fails, no exit is taken back."""
    if record.problem is None or record.deleted:
        return _phase(record, state, waiting)
    return _phase(record.model_copy(update={"problem": None}), state, waiting)[0], *record.problem


def _phase(record: Record, state: str, waiting: Words | None) -> tuple[str, str, str]:
    current, last = record.current, record.last
    if current is not None and current.stage == "started":
        phase, *words = _live_phase(current)
        return phase, *(record.problem or words)
    if record.problem is not None:
        return ("Stopping" if record.deleted else "Pending"), *record.problem
    if current is not None:
        return "Pending", "ContainerCreating", "the container is being created"
    if record.deleted:
        return "Stopping", "Deleted", "the container is gone; the object goes next"
    if waiting is not None and waiting[0] != "CrashLoopBackOff":
        return "Pending", *waiting
    if state == "Stopped":
        return (
            "Stopped",
            last.reason if last else "Stopped",
            last.message if last else "stopped, as spec.state says",
        )
    if waiting is not None:
        return "BackOff", *waiting
    if last is None:
        return "Pending", "ContainerCreating", "the container is being created"
    if last.reason == "ContainerStatusUnknown":
        return "Unknown", last.reason, last.message
    return ("Succeeded" if last.exitCode == 0 else "Failed"), last.reason, last.message


def _live_phase(current: Current) -> tuple[str, str, str]:
    if current.stopCause is not None:
        grace = f"grace period {current.stopGrace or 0:g} s"
        return "Stopping", current.stopCause, f"waiting for the process to end, {grace}"
    if current.paused:
        return "Paused", "Paused", "every process is frozen"
    return "Running", "Running", f"pid {current.pid} runs"


def _state(record: Record, phase: str, reason: str, message: str) -> dict[str, Any]:
    if record.current is not None and record.current.stage == "started":
        return {"running": _present({"startedAt": record.current.startedAt})}
    if record.last is not None and phase in ("Succeeded", "Failed", "Stopped", "Unknown", "Stopping"):
        return {"terminated": _terminated(record.last)}
    return {"waiting": {"reason": reason, "message": message}}


def _last_state(record: Record, phase: str) -> dict[str, Any] | None:
    exits = record.exits
    if record.current is None and phase in ("Succeeded", "Failed", "Stopped", "Unknown", "Stopping"):
        exits = exits[:-1]
    return {"terminated": _terminated(exits[-1])} if exits else None


def _terminated(last: Exit) -> dict[str, Any]:
    fields = last.model_dump(include={"exitCode", "signal", "reason", "message", "startedAt", "finishedAt"})
    return _present(fields | {"containerID": _container_id(last)})


def _conditions(
    record: Record, state: str, phase: str, words: Words, outdated: Words | None, now: str
) -> list[dict[str, Any]]:
    reasons = ("InvalidSpec", record.refused[1]) if record.refused is not None else outdated or words
    ready = phase in _REACHED[state] or (phase == "Succeeded" and state != "Stopped")
    ready = ready and record.refused is None and outdated is None
    stalled = phase in ("Failed", "Unknown") or reasons[0] in ("InvalidSpec", "Refused", "NameTaken")
    wanted = {
        "Ready": (ready, reasons),
        "Reconciling": (not ready and not stalled, record.problem or outdated or words),
        "Stalled": (stalled, reasons),
        "ContainerReady": (phase == "Running", words),
    }
    before = {each["type"]: each for each in record.status.get("conditions", ())}
    if record.current is not None and (amiss := record.current.concerns):
        wanted["Degraded"] = (True, (next(iter(amiss)), "; ".join(amiss.values())))
    return [_condition(record, before.get(kind), kind, value, words, now) for kind, (value, words) in wanted.items()]


def _condition(
    record: Record, before: Mapping[str, Any] | None, kind: str, value: bool, words: Words, now: str
) -> dict[str, Any]:
    status = "True" if value else "False"
    same = before is not None and before["status"] == status
    return {
        "type": kind,
        "status": status,
        "reason": words[0],
        "message": words[1],
        "lastTransitionTime": before["lastTransitionTime"] if same and before else now,
        "observedGeneration": _generation(record),
    }


def _present(fields: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in fields.items() if value is not None}
