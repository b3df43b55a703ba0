"""Which containers are alive while no operator watches them: asked of /proc, by pid and start time."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from oarlock.linux.procfs import facts, is_dead

ALIVE_PHASES = frozenset({"Running", "Paused", "Stopping"})
ENDED = "EndedUnobserved"


def is_alive(pid: int, start: int | None) -> bool:
    """Whether this very process runs: the pid exists, started then, is not dead."""
    told = facts(pid)
    return told is not None and not is_dead(told) and (start is None or int(told[19]) == start)


def ended_unseen(data: Mapping[str, Any], boot: str, exits_dir: Path) -> Mapping[str, Any] | None:
    """The honest status of a container that ended while no operator watched; None: the recorded one holds.

    The exit code is told in the message when conmon's exit file has it; the status itself stays
    without one: whether the end was a signal or a kill for memory only the operator can find out.
    """
    status: Mapping[str, Any] = data.get("status") or {}
    current = data.get("current") or {}
    pid = current.get("pid")
    if status.get("phase") not in ALIVE_PHASES or not pid:
        return None
    if data.get("bootID") in (None, boot) and is_alive(int(pid), current.get("pidStart")):
        return None
    if data.get("bootID") not in (None, boot):
        message = "ended with the boot before this one, while the operator was away"
    else:
        code = _exit_file(exits_dir, str(current.get("containerID", "")))
        told = "" if code is None else f" with exit code {code}"
        message = f"ended{told} while the operator was away"
    unknown = {"waiting": {"reason": ENDED, "message": message}}
    return {
        **status,
        "phase": "Unknown",
        "reason": ENDED,
        "message": message,
        "pid": None,
        "ready": False,
        "state": unknown,
        "conditions": [_unknown(each) for each in status.get("conditions") or ()],
    }


def _unknown(condition: Mapping[str, Any]) -> Mapping[str, Any]:
    if condition.get("type") not in ("Ready", "ContainerReady"):
        return condition
    return {**condition, "status": "Unknown", "reason": ENDED, "message": "no operator has looked since"}


def _exit_file(exits_dir: Path, container_id: str) -> int | None:
    try:
        return int((exits_dir / container_id).read_text(encoding="ascii"))
    except (OSError, ValueError):
        return None
