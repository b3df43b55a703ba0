"""Processes below one process: finding and ending them all, and being the one to whom orphans come."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import time
from collections.abc import Collection, Iterator, Mapping
from typing import NamedTuple

from oarlock.linux.process import Process, hold
from oarlock.linux.procfs import facts

_PR_SET_CHILD_SUBREAPER = 36  # linux/prctl.h
_ROUNDS, _PAUSE = 100, 0.001
_STILL = (b"T", b"t", b"Z", b"X")
"""States in which nothing is begun: stopped, or dead."""
_libc = ctypes.CDLL(None, use_errno=True)


def become_subreaper() -> None:
    """Make this process the parent of whatever process below it loses its own (prctl(2))."""
    if _libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "PR_SET_CHILD_SUBREAPER")


def session_of(pid: int) -> int | None:
    """The session that a process is in; None when it is gone."""
    try:
        return os.getsid(pid)
    except ProcessLookupError:
        return None


def end_descendants(pid: int, begun: Process | None = None, session: int | None = None) -> list[Process]:
    """Kill every process below `pid`, and the members of the sessions that they began.

    `pid` itself has got SIGSTOP from the caller, or has ended: it might begin another one. `begun` is taken for its
    child, though it may have lost it, or have ended and left its session behind. So is what is in `session`, the one
    that it was in, when that one's leader has ended: a process between the two began it (crun).

    They are stopped first, until there is no new one: what has stopped cannot fork. A process that left for a session
    of its own and whose parent has ended is not found: nothing tells any more that it came from here.

    Returns:
        those that were sent KILL, each held: the caller waits for their ends, and closes them.
    """
    children = set() if begun is None or begun.has_ended() else {begun.pid}
    sessions = {pid} if begun is None else {pid, begun.pid}
    left_behind = {session} if session is not None and session != os.getsid(0) else set()
    stopped: dict[int, Process] = {}
    quiet = False
    for _ in range(_ROUNDS):
        processes = {each.pid: each for each in _all()}
        below = _below(processes, pid, children, sessions | (left_behind - processes.keys()))
        new = below - stopped.keys()
        settled = not new and all(map(_has_stopped, {pid} | below))
        if settled and quiet:
            break
        quiet = settled  # twice: what began and lost its parent while /proc was read is in the next look alone
        for process in filter(None, map(hold, new)):
            process.signal(signal.SIGSTOP)
            stopped[process.pid] = process
        time.sleep(_PAUSE)  # a fork that was under way is finished first; nobody tells when it has stopped
    for process in stopped.values():
        process.signal(signal.SIGKILL)
    return list(stopped.values())


def _has_stopped(pid: int) -> bool:
    """Whether all its threads have; so has what is gone."""
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        for thread in os.listdir(f"/proc/{pid}/task"):
            told = facts(int(thread))
            if told is not None and told[0] not in _STILL:
                return False
    return True


def wake_parents(pid: int) -> list[int]:
    """Have the stopped parents of what has ended in the pid namespace of `pid` go on: it is over once they have looked.

    Its init cannot end before (pid_namespaces(7)); what was put into it from outside has its parent there.

    Returns:
        the pids that were sent CONT.
    """
    namespace, woken = _pid_namespace(pid), set[int]()
    for each in _all(ended=True):
        if namespace is not None and _pid_namespace(each.pid) == namespace != _pid_namespace(each.parent):
            parent = hold(each.parent)
            if parent is not None:
                with contextlib.closing(parent):
                    told = facts(parent.pid)
                    if told is not None and told[0] in (b"T", b"t") and parent.signal(signal.SIGCONT):
                        woken.add(parent.pid)
    return sorted(woken)


def _pid_namespace(pid: int) -> str | None:
    """The pid namespace that a process is in; a zombie is still in its own."""
    try:
        return os.readlink(f"/proc/{pid}/ns/pid")
    except OSError:
        return None


class _Stat(NamedTuple):
    pid: int
    state: bytes
    parent: int
    session: int


def _below(processes: Mapping[int, _Stat], top: int, children: Collection[int], sessions: Collection[int]) -> set[int]:
    """The descendants of `top` and of its further `children`, and the members of these sessions and of those that they
    lead: never of one that somebody else leads, which may be the caller's own."""
    found, led = {top}, set(sessions)
    grown = True
    while grown:
        more = {
            pid
            for pid, of in processes.items()
            if pid not in found and (of.parent in found or of.session in led or pid in children)
        }
        found |= more
        led |= more  # a session is called by its leader
        grown = bool(more)
    return found - {top}


def _all(*, ended: bool = False) -> Iterator[_Stat]:
    """Every process but zombies, or those alone."""
    for name in os.listdir("/proc"):
        if name.isdigit():
            told = facts(int(name))
            if told is not None and (told[0] in (b"Z", b"X")) is ended:
                yield _Stat(int(name), told[0], int(told[1]), int(told[3]))
