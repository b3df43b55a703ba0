"""What is amiss with a container that runs: told as the condition Degraded, and once as a warning event."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

STUCK_AFTER = 10.0
"""Seconds after KILL in which a process ends, unless the kernel cannot let go of it."""


@dataclass(frozen=True, slots=True)
class Condition:
    """What was seen of a live container.

    Attributes:
        monitor_lost: its conmon is gone.
        killed_for: seconds since KILL was sent; None when it was not.
        uninterruptible: its processes in uninterruptible sleep (state D), each with where in the kernel.
        warning: what admission lets pass but tells.
    """

    monitor_lost: bool = False
    killed_for: float | None = None
    uninterruptible: Sequence[str] = ()
    warning: tuple[str, str] | None = None


def concerns(seen: Condition) -> dict[str, str]:
    """Reason → sentence of each concern."""
    found: dict[str, str] = {}
    if seen.warning is not None:
        found[seen.warning[0]] = seen.warning[1]
    if seen.monitor_lost:
        found["MonitorLost"] = (
            "its monitor (conmon) was killed; the container goes on, but nobody reads its output from now on: "
            "a process that writes meets EPIPE or SIGPIPE (EIO at a terminal), and may end of it; "
            "`oarlock restart` gives it a new monitor"
        )
    if seen.killed_for is not None and seen.killed_for >= STUCK_AFTER:
        where = ", ".join(seen.uninterruptible)
        found["StillRunning"] = f"it has not ended {STUCK_AFTER:g} s after KILL; " + (
            f"the kernel cannot let go of {where}, in uninterruptible sleep: look at the device or file system it "
            "waits for"
            if where
            else "look at its processes"
        )
    return found
