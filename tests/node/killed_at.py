"""An operator that kills itself at a named point: product functions are wrapped from outside.

Run as `killed_at.py "POINT" run …`.
"""

from __future__ import annotations

import functools
import inspect
import os
import signal
import sys
from collections.abc import Callable
from typing import Any

from oarlock.cli import main
from oarlock.node import reopening, rotation
from oarlock.reconcile.attempt import Attempt
from oarlock.reconcile.steps import Steps
from oarlock.records.store import Store
from oarlock.runtime.monitor import Monitor
from oarlock.runtime.runtime import Runtime
from oarlock.sources.kubernetes.finalizers import Finalizers
from oarlock.sources.kubernetes.statuses import Statuses

POINTS: dict[str, tuple[Any, str]] = {
    "record written": (Store, "write"),
    "conmon spawned": (Monitor, "spawn"),
    "conmon in its cgroup": (Monitor, "adopt"),
    "start byte sent": (Monitor, "send_start_byte"),
    "pid read": (Monitor, "read_pids"),
    "start called": (Runtime, "start"),
    "before a signal": (Attempt, "signal"),
    "signal sent": (Attempt, "signal"),
    "frozen": (Attempt, "freeze"),
    "thawed": (Attempt, "thaw"),
    "log renamed": (reopening, "put_aside"),
    "conmon told to reopen": (rotation, "rotate"),
    "exit seen": (Steps, "_record_exit"),
    "exit recorded": (Steps, "_record_exit"),
    "before the patch": (Statuses, "_send"),
    "after the patch": (Statuses, "_send"),
    "finalizer on": (Finalizers, "hold"),
    "finalizer off": (Finalizers, "release"),
}
BEFORE = ("before a signal", "exit seen", "before the patch")


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def wrap(function: Callable[..., Any], before: bool) -> Callable[..., Any]:
    """The same function, and the end of this process after (or before) its first call."""
    if inspect.iscoroutinefunction(function):

        @functools.wraps(function)
        async def wrapped(*arguments: Any, **named: Any) -> None:
            if not before:
                await function(*arguments, **named)
            die()

        return wrapped

    @functools.wraps(function)
    def called(*arguments: Any, **named: Any) -> None:
        if not before:
            function(*arguments, **named)
        die()

    return called


if __name__ == "__main__":
    point = sys.argv.pop(1)
    owner, name = POINTS[point]
    setattr(owner, name, wrap(getattr(owner, name), before=point in BEFORE))
    sys.exit(main())
