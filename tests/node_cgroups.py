"""The cgroups of a test node, whichever version and manager this run is about: read from the kernel's files alone."""

from __future__ import annotations

import os
from pathlib import Path

from oarlock.api.identity import TRIAL
from oarlock.cgroups.place import slice_path

ROOT = Path("/sys/fs/cgroup")
UNIFIED = (ROOT / "cgroup.controllers").exists()
MANAGER = os.environ.get("OARLOCK_CGROUP_MANAGER", "cgroupfs")
RUNTIME = os.environ.get("OARLOCK_RUNTIME_TRUSTED", "runc")


def parent(name: str) -> str:
    """What --cgroup-parent is for a test node of this name."""
    return f"{name}.slice" if MANAGER == "systemd" else f"/{name}"


def path(parent: str) -> str:
    """The cgroup that a parent stands for."""
    return slice_path(parent) if MANAGER == "systemd" else parent


def folder(cgroup: str, controller: str = "memory") -> Path:
    """Where a cgroup's files of one controller are."""
    return ROOT / (cgroup if UNIFIED else controller + cgroup).lstrip("/")


def folder_of(pid: int, controller: str = "memory") -> Path:
    """Where the files of one controller are of the cgroup that a process is in."""
    for line in Path(f"/proc/{pid}/cgroup").read_text().splitlines():
        _, names, cgroup = line.split(":", 2)
        if (names == "") if UNIFIED else controller in names.split(","):
            return folder(cgroup, controller)
    raise AssertionError(f"process {pid} is in no cgroup of {controller}")


def frozen(pid: int) -> bool:
    """Whether the kernel says that a process is frozen."""
    if UNIFIED:
        return "frozen 1" in (folder_of(pid) / "cgroup.events").read_text()
    return (folder_of(pid, "freezer") / "freezer.state").read_text().strip() == "FROZEN"


def freeze(pid: int) -> None:
    """Freeze the cgroup that a process is in, past everybody."""
    _write_state(pid, "1", "FROZEN")


def thaw(pid: int) -> None:
    """Thaw it, likewise."""
    _write_state(pid, "0", "THAWED")


def _write_state(pid: int, second: str, first: str) -> None:
    """Of version 2 or 1."""
    if UNIFIED:
        (folder_of(pid) / "cgroup.freeze").write_text(second)
    else:
        (folder_of(pid, "freezer") / "freezer.state").write_text(first)


def containers(cgroup: str) -> tuple[set[str], set[str]]:
    """The container ids that have a cgroup of their own below this one, and those whose monitor has.

    The node's trial is left out: it is no object's, and comes and goes.
    """
    names = {entry.name for entry in folder(cgroup).glob("*") if entry.is_dir()}
    monitors = {name for name in names if name.startswith("oarlock-conmon-")}
    own = names - monitors
    if MANAGER == "systemd":  # a slice of its own: PARENT-ID.slice
        prefix = cgroup.rpartition("/")[2].removesuffix(".slice") + "-"
        own = {name.removeprefix(prefix).removesuffix(".slice").replace("_", "-") for name in own}
    monitored = {name.removeprefix("oarlock-conmon-").removesuffix(".scope") for name in monitors}
    return own - {TRIAL}, monitored - {TRIAL}
