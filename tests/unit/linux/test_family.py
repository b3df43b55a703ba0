"""Ending what a process began, and nobody else."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Iterator

import pytest

from oarlock.linux.family import end_descendants, session_of
from oarlock.linux.process import hold


@pytest.fixture
def bystander() -> Iterator[subprocess.Popen[bytes]]:
    """A process in this test's own session."""
    process = subprocess.Popen(["sleep", "1000"])
    end = time.monotonic() + 10
    while states([process.pid]) != ["S"] and time.monotonic() < end:
        time.sleep(0.001)
    yield process
    process.kill()
    process.wait()


def states(pids: list[int]) -> list[str]:
    """Of those that are there, the state in /proc."""
    found = []
    for pid in pids:
        with contextlib.suppress(FileNotFoundError, ProcessLookupError), open(f"/proc/{pid}/stat") as file:
            found.append(file.read().rpartition(")")[2].split()[0])
    return found


def children(script: str, count: int, *, leads: bool = True) -> tuple[subprocess.Popen[bytes], list[int]]:
    """A shell, which leads a session of its own or not, and the pids that it printed."""
    shell = subprocess.Popen(["sh", "-c", script], stdout=subprocess.PIPE, start_new_session=leads)
    assert shell.stdout is not None
    with shell.stdout:
        return shell, [int(shell.stdout.readline()) for _ in range(count)]


def ended(pids: list[int]) -> bool:
    end = time.monotonic() + 10
    while time.monotonic() < end:
        if set(states(pids)) <= {"Z"}:
            return True
        time.sleep(0.01)
    return False


def test_descendants_end_and_the_process_itself_goes_on(bystander: subprocess.Popen[bytes]) -> None:
    shell, pids = children("sleep 1000 & echo $!; setsid sleep 1000 & echo $!; wait; sleep 1000", 2)
    try:
        shell.send_signal(signal.SIGSTOP)
        for process in end_descendants(shell.pid):
            process.close()
        assert ended(pids)
        shell.send_signal(signal.SIGCONT)
        assert shell.poll() is None
        assert bystander.poll() is None
        assert states([bystander.pid, os.getpid()]) == ["S", "R"]
    finally:
        shell.kill()
        shell.wait()


def test_a_child_in_somebody_elses_session_takes_nobody_along(bystander: subprocess.Popen[bytes]) -> None:
    """The session that a child is in is not its own when another leads it: it may be the caller's."""
    shell, pids = children("sleep 1000 & echo $!; wait", 1, leads=False)
    try:
        shell.send_signal(signal.SIGSTOP)
        for process in end_descendants(shell.pid):
            process.close()
        assert ended(pids)
        assert states([bystander.pid]) == ["S"]
    finally:
        shell.kill()
        shell.wait()


def test_what_an_ended_leader_left_in_its_session_ends(bystander: subprocess.Popen[bytes]) -> None:
    leader, pids = children("sleep 1000 & echo $!; read line", 1)
    held = hold(leader.pid)
    assert held is not None
    leader.kill()
    leader.wait()
    bystander.send_signal(signal.SIGSTOP)
    try:
        for process in end_descendants(bystander.pid, held):
            process.close()
        assert ended(pids)
        assert states([bystander.pid]) == ["T"]
    finally:
        held.close()


def test_so_does_what_is_in_the_session_of_an_ended_process_between_the_two(
    bystander: subprocess.Popen[bytes],
) -> None:
    leader, pids = children("(sleep 1000 & echo $!); sleep 1000 & echo $!; wait", 2)
    session = session_of(pids[1])
    held = hold(pids[1])
    assert held is not None
    bystander.send_signal(signal.SIGSTOP)
    for process in end_descendants(bystander.pid, held, session):  # its leader lives: it is somebody else's
        process.close()
    assert ended(pids[1:])
    assert states(pids[:1]) == ["S"]
    leader.kill()
    leader.wait()
    for process in end_descendants(bystander.pid, held, session):
        process.close()
    held.close()
    assert ended(pids)
    assert states([bystander.pid]) == ["T"]


def test_the_callers_own_session_is_left_alone(bystander: subprocess.Popen[bytes]) -> None:
    assert session_of(bystander.pid) == os.getsid(0)
    bystander.send_signal(signal.SIGSTOP)
    assert end_descendants(bystander.pid, None, os.getsid(0)) == []
    assert states([bystander.pid]) == ["T"]
