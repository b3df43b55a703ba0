"""Processes below one process: finding and ending them all, and being the one to whom orphans come."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
from collections.abc import Collection, Iterator

from oarlock.linux.process import Process, hold

_PR_SET_CHILD_SUBREAPER = 36  # linux/prctl.h
_ROUNDS = 100
_libc = ctypes.CDLL(None, use_errno=True)


def become_subreaper() -> None:
    """Make this process the parent of whatever process below it loses its own (prctl(2))."""
    if _libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "PR_SET_CHILD_SUBREAPER")


def end_descendants(pid: int, begun: Process | None = None) -> list[Process]:
    """Kill every process below `pid`, and the members of the sessions that they began; `pid` itself goes on.

    `begun` is taken for its child, though it may have lost it, or have ended and left its session behind.

    They are stopped first, until there is no new one: what is stopped cannot fork. A process that left for a session
    of its own and whose parent has ended is not found: nothing tells any more that it came from here.

    Returns:
        those that were sent KILL, each held: the caller waits for their ends, and closes them.
    """
    children = set() if begun is None or begun.has_ended() else {begun.pid}
    sessions = {pid} if begun is None else {pid, begun.pid}
    stopped: dict[int, Process] = {}
    for _ in range(_ROUNDS):
        new = _below(pid, children, sessions) - stopped.keys()
        if not new:
            break
        for process in filter(None, map(hold, new)):
            process.signal(signal.SIGSTOP)
            stopped[process.pid] = process
    for process in stopped.values():
        process.signal(signal.SIGKILL)
    return list(stopped.values())


def _below(top: int, children: Collection[int], sessions: Collection[int]) -> set[int]:
    """The descendants of `top` and of its further `children`, and the members of these sessions and of those that they
    lead: never of one that somebody else leads, which may be the caller's own."""
    processes = {pid: (parent, session) for pid, parent, session in _all()}
    found, led = {top}, set(sessions)
    grown = True
    while grown:
        more = {
            pid
            for pid, (parent, session) in processes.items()
            if pid not in found and (parent in found or session in led or pid in children)
        }
        found |= more
        led |= more  # a session is called by its leader
        grown = bool(more)
    return found - {top}


def _all() -> Iterator[tuple[int, int, int]]:
    """Every process but zombies: pid, parent and session."""
    for name in os.listdir("/proc"):
        if name.isdigit():
            with contextlib.suppress(FileNotFoundError, ProcessLookupError), open(f"/proc/{name}/stat", "rb") as file:
                state, parent, _, session = file.read().rpartition(b")")[2].split()[:4]
                if state not in (b"Z", b"X"):
                    yield int(name), int(parent), int(session)
