"""Cgroup v2: one tree, a handful of files (Documentation/admin-guide/cgroup-v2.rst)."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Container, Iterator
from pathlib import Path

from oarlock.cgroups.hierarchy import ROOT, remove_tree

VERSION = 2


def adopt(pid: int, cgroup: str) -> None:
    """See `Hierarchy`. One write: there is one tree (`oci.go: CreateContainer`)."""
    folder = _folder(cgroup)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "cgroup.procs").write_text(str(pid))


def remove(cgroup: str) -> None:
    """See `Hierarchy`."""
    remove_tree(_folder(cgroup))


def sweep(parent: str, kept: Container[str]) -> None:
    """See `Hierarchy`."""
    with contextlib.suppress(FileNotFoundError):
        for entry in os.scandir(_folder(parent)):
            if entry.is_dir(follow_symlinks=False) and entry.name not in kept:
                remove_tree(Path(entry.path))


def processes(cgroup: str) -> set[int]:
    """See `Hierarchy`. A runtime may have put the processes one level deeper."""
    found: set[int] = set()
    for folder in _folders(cgroup):
        with contextlib.suppress(OSError):  # gone meanwhile, or threaded: its processes are told above it
            found.update(map(int, (folder / "cgroup.procs").read_text().split()))
    return found


def kill(cgroup: str) -> None:
    """See `Hierarchy`. cgroup.kill (Linux 5.14) also takes what is frozen, and leaves no fork behind."""
    try:
        (_folder(cgroup) / "cgroup.kill").write_text("1")
    except FileNotFoundError:
        for pid in processes(cgroup):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


def frozen(cgroup: str) -> bool:
    """See `Hierarchy`. crun freezes the cgroup that it made below the one that systemd made."""
    for folder in _folders(cgroup):
        with contextlib.suppress(FileNotFoundError):
            if (folder / "cgroup.freeze").read_text().strip() == "1":
                return True
    return False


def oom_kills(cgroup: str) -> int:
    """See `Hierarchy`. The count includes the cgroups below."""
    return _keyed(_folder(cgroup) / "memory.events").get("oom_kill", 0)


def _keyed(path: Path) -> dict[str, int]:
    """A flat keyed file; empty when it is not there."""
    try:
        lines = path.read_text().splitlines()
    except FileNotFoundError:
        return {}
    return {name: int(value) for name, _, value in (line.partition(" ") for line in lines)}


def _folders(cgroup: str) -> Iterator[Path]:
    for path, _, _ in os.walk(_folder(cgroup)):
        yield Path(path)


def _folder(cgroup: str) -> Path:
    return ROOT / cgroup.strip("/")
