"""What a spec's resources name of this node: its disks, CPUs and memory nodes."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from oarlock.api.resources import numbers
from oarlock.errors import BundleError
from oarlock.linux.openat import BENEATH, NO_MAGICLINKS, NO_XDEV, openat2

if TYPE_CHECKING:
    from oarlock.api.spec import Spec

SYSTEM = Path("/sys/devices/system")


@dataclass(frozen=True, slots=True)
class Hardware:
    """What was asked for and is there.

    Attributes:
        disks: major and minor number by path.
    """

    disks: Mapping[str, tuple[int, int]] = field(default_factory=dict)


NONE = Hardware()


def look(spec: Spec) -> Hardware:
    """Find what the spec's resources name.

    Raises:
        BundleError: it is not on this node, or is no disk; names the field and the way out.
    """
    cpuset = spec.resources.cpuset
    _present("cpus", "CPU", cpuset.cpus, SYSTEM / "cpu/online")
    _present("mems", "memory node", cpuset.mems, SYSTEM / "node/online")
    disks = enumerate(spec.resources.io.devices)
    return Hardware(
        {device.path: _disk(f"spec.resources.io.devices[{index}].path", device.path) for index, device in disks}
    )


def _present(name: str, noun: str, wanted: str | None, online: Path) -> None:
    """On cgroup v2 the kernel takes numbers that are not there, and ignores them."""
    if wanted is None:
        return
    there = online.read_text().strip() if online.exists() else "0"  # no NUMA: one node
    missing = sorted(set(numbers(wanted)) - set(numbers(there)))
    if missing:
        raise BundleError(
            f"spec.resources.cpuset.{name}: {noun} {missing[0]} is not on this node, which has {there}; name others"
        )


def _disk(field: str, path: str) -> tuple[int, int]:
    """The numbers of a disk below /dev. Links are followed within /dev alone, where they are root's."""
    if not path.startswith("/dev/"):
        raise BundleError(f"{field}: {path} is not below /dev; name the disk there")
    top = os.open("/dev", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        place = openat2(path.removeprefix("/dev/"), os.O_PATH, resolve=BENEATH | NO_XDEV | NO_MAGICLINKS, dir_fd=top)
        try:
            what = os.fstat(place)
        finally:
            os.close(place)
    except OSError as error:
        if error.errno in (errno.EXDEV, errno.ELOOP):
            raise BundleError(f"{field}: {path} leads out of /dev; name the disk itself") from None
        raise BundleError(f"{field}: {path}: {error.strerror}; name a disk of this node (lsblk)") from None
    finally:
        os.close(top)
    if not stat.S_ISBLK(what.st_mode):
        raise BundleError(f"{field}: {path} is no disk; name a block device of this node (lsblk)")
    major, minor = os.major(what.st_rdev), os.minor(what.st_rdev)
    if Path(f"/sys/dev/block/{major}:{minor}/partition").exists():
        raise BundleError(f"{field}: {path} is a partition, which the kernel cannot limit; name the whole disk")
    return major, minor
