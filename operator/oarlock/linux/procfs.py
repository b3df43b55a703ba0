"""What /proc tells of a process, by its pid alone. Imports next to nothing: `oarlock ps` starts with it."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path


def boot_id() -> str:
    """The id of this boot: what was recorded under another one does not run any more."""
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()


def facts(pid: int) -> list[bytes] | None:
    """The fields of /proc/pid/stat from the third on, which is the state (proc(5)); None when the process is gone.

    The second is a name that the process gives to itself: any bytes, brackets and spaces too.
    """
    try:
        return Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return None


def is_dead(told: Sequence[bytes]) -> bool:
    """Whether these facts are those of a dead process: one whose first thread alone has ended looks like a zombie."""
    return told[0] in (b"Z", b"X") and threads(told) <= 1


def threads(told: Sequence[bytes]) -> int:
    """How many threads a process has (field 20)."""
    return int(told[17])


def parent(pid: int) -> int | None:
    """The pid of the process's parent; None when it is gone."""
    told = facts(pid)
    if told is None:
        return None
    found = int(told[1])
    return found if found or os.path.exists(f"/proc/{pid}") else None  # 0 also of one reaped while it was read


def has_ended(pid: int) -> bool:
    """Whether the process is dead, reaped or not; not while it has threads left, though its first one has ended."""
    told = facts(pid)
    return told is None or is_dead(told)


def start_time(pid: int) -> int | None:
    """When the process started, in clock ticks since boot; None when it is gone."""
    told = facts(pid)
    return None if told is None else int(told[19])
