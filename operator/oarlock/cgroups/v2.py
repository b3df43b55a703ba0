"""Cgroup v2: one tree, a handful of files (Documentation/admin-guide/cgroup-v2.rst)."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Container, Iterator
from pathlib import Path

from oarlock.cgroups.hierarchy import ROOT, Usage, remove_tree, unless_gone

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
    for name in children(parent):
        if name not in kept:
            remove_tree(_folder(parent) / name)


def children(cgroup: str) -> set[str]:
    """See `Hierarchy`."""
    with unless_gone():
        return {entry.name for entry in os.scandir(_folder(cgroup)) if entry.is_dir(follow_symlinks=False)}
    return set()


def processes(cgroup: str) -> set[int]:
    """See `Hierarchy`. A runtime may have put the processes one level deeper."""
    found: set[int] = set()
    for folder in _folders(cgroup):
        with contextlib.suppress(OSError):  # gone meanwhile, or threaded: its processes are told above it
            found.update(map(int, (folder / "cgroup.procs").read_text().split()))
    return found


def kill(cgroup: str) -> None:
    """See `Hierarchy`. cgroup.kill (Linux 5.14) also takes what is frozen, and leaves no fork behind."""
    with unless_gone():
        (_folder(cgroup) / "cgroup.kill").write_text("1")
        return
    for pid in processes(cgroup):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def frozen(cgroup: str) -> bool:
    """See `Hierarchy`. What a container has frozen below its own cgroup is its own affair."""
    for folder in _frozen_by_runtimes(cgroup):
        with unless_gone():
            if (folder / "cgroup.freeze").read_text().strip() == "1":
                return True
    return False


def all_frozen(cgroup: str) -> bool:
    """See `Hierarchy`."""
    return any(_keyed(folder / "cgroup.events").get("frozen") == 1 for folder in _frozen_by_runtimes(cgroup))


def thaw(cgroup: str) -> None:
    """See `Hierarchy`."""
    for folder in _frozen_by_runtimes(cgroup):
        with unless_gone():
            (folder / "cgroup.freeze").write_text("0")


def oom_kills(cgroup: str) -> int:
    """See `Hierarchy`. The count includes the cgroups below."""
    return _keyed(_folder(cgroup) / "memory.events").get("oom_kill", 0)


def oom_events(cgroup: str) -> Path | None:
    """See `Hierarchy`."""
    return _folder(cgroup) / "memory.events"


def usage(cgroup: str) -> Usage | None:
    """See `Hierarchy`."""
    folder = _folder(cgroup)
    try:
        return Usage(
            memory=int((folder / "memory.current").read_text()),
            cpu=_keyed(folder / "cpu.stat")["usage_usec"] / 1e6,
            processes=int((folder / "pids.current").read_text()),
            peak=int(peak.read_text()) if (peak := folder / "memory.peak").exists() else None,
            pressure={name: _pressure(folder / f"{name}.pressure") for name in ("cpu", "memory", "io")},
        )
    except (OSError, KeyError):  # gone, or going
        return None


def _pressure(path: Path) -> float:
    """`avg10` of the line `some` (Documentation/accounting/psi.rst); 0 where the kernel has no pressure stalls."""
    try:
        first = path.read_text().split()
    except OSError:
        return 0.0
    return float(first[1].removeprefix("avg10="))


def _keyed(path: Path) -> dict[str, int]:
    """A flat keyed file; empty when it is not there."""
    with unless_gone():
        lines = path.read_text().splitlines()
        return {name: int(value) for name, _, value in (line.partition(" ") for line in lines)}
    return {}


def _frozen_by_runtimes(cgroup: str) -> tuple[Path, Path]:
    """crun freezes the cgroup that it made below the one that systemd made."""
    return _folder(cgroup), _folder(cgroup) / "container"


def _folders(cgroup: str) -> Iterator[Path]:
    for path, _, _ in os.walk(_folder(cgroup)):
        yield Path(path)


def _folder(cgroup: str) -> Path:
    return ROOT / cgroup.strip("/")
