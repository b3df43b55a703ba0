"""Cgroup v1 with plain folders: the monitor's own cgroup, and what the kernel tells of an OOM kill."""

from __future__ import annotations

import contextlib
import errno
from pathlib import Path

ROOT = Path("/sys/fs/cgroup")
MONITOR_CONTROLLERS = ("memory", "pids", "cpu")


def adopt(pid: int, cgroup: str) -> None:
    """Move a process into a cgroup of its own in each controller that a monitor needs (`oci.go: CreateContainer`).

    Raises:
        OSError: the cgroup cannot be made, or the process is gone.
    """
    for controller in MONITOR_CONTROLLERS:
        folder = ROOT / controller / cgroup.strip("/")
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "cgroup.procs").write_text(str(pid))


def remove(cgroup: str) -> None:
    """Remove a cgroup from every hierarchy that has it; one that still holds processes stays."""
    for hierarchy in ROOT.iterdir():
        with contextlib.suppress(FileNotFoundError, NotADirectoryError):
            try:
                (hierarchy / cgroup.strip("/")).rmdir()
            except OSError as error:
                if error.errno not in (errno.EBUSY, errno.ENOENT, errno.ENOTDIR):
                    raise


def processes(cgroup: str) -> set[int]:
    """Every process in a cgroup, in any hierarchy."""
    found: set[int] = set()
    for hierarchy in ROOT.iterdir():
        with contextlib.suppress(FileNotFoundError, NotADirectoryError, ProcessLookupError):
            found.update(int(pid) for pid in (hierarchy / cgroup.strip("/") / "cgroup.procs").read_text().split())
    return found


def oom_kills(cgroup: str) -> int:
    """How many processes of a cgroup the kernel's OOM killer has taken."""
    with contextlib.suppress(OSError):
        control = (ROOT / "memory" / cgroup.strip("/") / "memory.oom_control").read_text()
        fields = dict(line.split() for line in control.splitlines())
        return int(fields.get("oom_kill", 0))
    return 0
