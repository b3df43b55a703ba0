"""Which containers are alive while no operator watches them: asked of /proc, by pid and start time."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

ALIVE_PHASES = frozenset({"Running", "Paused", "Stopping"})
ENDED = "EndedUnobserved"


def boot_id() -> str:
    """The kernel's id of this boot."""
    return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()


def is_alive(pid: int, start: int | None) -> bool:
    """Whether this very process runs: the pid exists, started then (field 22 of its stat), is no zombie.

    One whose first thread alone has ended looks like a zombie, but for the number of its threads (field 20).
    """
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            fields = file.read().rpartition(b")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return False
    dead = fields[0] in (b"Z", b"X") and int(fields[17]) <= 1
    return not dead and (start is None or int(fields[19]) == start)


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
