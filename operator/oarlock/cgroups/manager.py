"""Who makes the cgroup of a monitor: oarlock itself in the file system, or systemd over D-Bus."""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from typing import Protocol

from oarlock.cgroups.hierarchy import hierarchy
from oarlock.cgroups.place import Manager, Place, place


class CgroupManager(Protocol):
    """Places containers, and moves monitors there."""

    name: Manager
    parent: str

    def place(self, container_id: str) -> Place:
        """Where a new container goes."""

    async def adopt(self, pid: int, place: Place) -> None:
        """Move a monitor to its cgroup, before it can have children (`oci.go: CreateContainer`).

        Raises:
            OSError: it cannot be done, or the process is gone.
        """

    async def forget(self, place: Place) -> None:
        """Let go of what was made for an ended container beside its cgroups; fine when there is nothing.

        Raises:
            OSError: it cannot be done now.
        """

    async def sweep(self, container_ids: Collection[str]) -> None:
        """Remove the empty cgroups that are of none of these containers."""

    async def close(self) -> None:
        """Let go of what it has open; it can be used again."""


class CgroupFS:
    """oarlock makes the cgroups itself."""

    name: Manager = "cgroupfs"

    def __init__(self, parent: str) -> None:
        self.parent = parent

    def place(self, container_id: str) -> Place:
        """See `CgroupManager`."""
        return place(self.name, self.parent, container_id)

    async def adopt(self, pid: int, place: Place) -> None:
        """See `CgroupManager`. In a thread: on version 1 the kernel takes about 10 ms."""
        await asyncio.get_running_loop().run_in_executor(None, hierarchy().adopt, pid, place.monitor)

    async def forget(self, place: Place) -> None:
        """See `CgroupManager`."""

    async def sweep(self, container_ids: Collection[str]) -> None:
        """See `CgroupManager`."""
        hierarchy().sweep(self.parent, kept(self, container_ids))

    async def close(self) -> None:
        """See `CgroupManager`."""


def kept(manager: CgroupManager, container_ids: Collection[str]) -> set[str]:
    """The names right below the parent that belong to these containers."""
    places = [manager.place(each) for each in container_ids]
    return {path.rpartition("/")[2] for where in places for path in (where.lasting, where.monitor)}


def manager(name: Manager, parent: str) -> CgroupManager:
    """The manager of this name; D-Bus is loaded for systemd alone."""
    if name == "systemd":
        from oarlock.cgroups.systemd import Systemd

        return Systemd(parent)
    return CgroupFS(parent)
