"""Whether an operator holds a run directory: asked of its lock, without waiting."""

from __future__ import annotations

import fcntl
import json
import os
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Operator:
    """Whether an operator holds the run directory, and what its lock file says of it."""

    running: bool
    pid: int | None = None
    since: float | None = None

    def __str__(self) -> str:
        if self.running:
            return f"the operator runs (pid {self.pid})"
        return "the operator is not running"


def find_operator(lock_file: Path) -> Operator:
    """Look at the lock; a lock file that is absent or free means: not running.

    The lock is tried shared, for microseconds: an operator that starts just then has to try twice.
    """
    try:
        descriptor = os.open(lock_file, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return Operator(running=False)
    try:
        return _read_lock(descriptor)
    finally:
        os.close(descriptor)


def _read_lock(descriptor: int) -> Operator:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        fcntl.flock(descriptor, fcntl.LOCK_UN)
        running = False
    except BlockingIOError:
        running = True
    try:
        pid = int(json.loads(os.pread(descriptor, 65536, 0))["pid"])
    except (ValueError, KeyError, TypeError):
        pid = None
    return Operator(running=running, pid=pid, since=os.fstat(descriptor).st_mtime)
