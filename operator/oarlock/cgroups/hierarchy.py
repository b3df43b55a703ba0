"""What both versions of cgroups can do with one cgroup, named by its path below the hierarchy's root."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
from collections.abc import Container, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Protocol

ROOT = Path("/sys/fs/cgroup")
_CGROUP2_SUPER_MAGIC = 0x63677270  # linux/magic.h


@dataclass(frozen=True, slots=True)
class Usage:
    """What a cgroup uses now.

    Attributes:
        memory: bytes, page cache included; `peak`: the most so far (version 2: from Linux 5.19 on).
        cpu: seconds of CPU time so far.
        processes: processes and threads.
        pressure: by resource, per cent of the last 10 s in which some process waited for it; empty on version 1.
    """

    memory: int
    cpu: float
    processes: int
    peak: int | None = None
    pressure: Mapping[str, float] = field(default_factory=dict)


class Hierarchy(Protocol):
    """The modules `v1` and `v2`. A cgroup that is not there is as good as an empty one."""

    VERSION: int

    def adopt(self, pid: int, cgroup: str) -> None:
        """Move a process into a cgroup, made for it.

        Raises:
            OSError: the cgroup cannot be made, or the process is gone.
        """

    def remove(self, cgroup: str) -> None:
        """Remove a cgroup with those below it; one that still holds processes stays."""

    def sweep(self, parent: str, kept: Container[str]) -> None:
        """Remove every empty cgroup right below `parent` whose name is not among those kept."""

    def children(self, cgroup: str) -> set[str]:
        """The names of the cgroups right below one."""

    def processes(self, cgroup: str) -> set[int]:
        """Every process in a cgroup and below it."""

    def kill(self, cgroup: str) -> None:
        """Send KILL to every process in a cgroup and below it, also to those that are just being forked."""

    def frozen(self, cgroup: str) -> bool:
        """Whether the processes of a cgroup are frozen, or on their way to it."""

    def all_frozen(self, cgroup: str) -> bool:
        """Whether each of them has got there: one in uninterruptible sleep does not."""

    def thaw(self, cgroup: str) -> None:
        """Thaw the processes of a cgroup and below it."""

    def oom_kills(self, cgroup: str) -> int:
        """How many processes of a cgroup the kernel's OOM killer has taken."""

    def oom_events(self, cgroup: str) -> Path | None:
        """The file that changes when the OOM killer takes a process; None where the kernel has none."""

    def usage(self, cgroup: str) -> Usage | None:
        """What a cgroup uses now; None when it is gone."""


@cache
def hierarchy() -> Hierarchy:
    """This node's: version 2 where it alone is mounted, else version 1."""
    from oarlock.cgroups import v1, v2

    return v2 if _filesystem(ROOT) == _CGROUP2_SUPER_MAGIC else v1


@contextlib.contextmanager
def unless_gone() -> Iterator[None]:
    """Go on after the block when the cgroup is not there; a file of it that was open already says ENODEV then."""
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.ENOENT, errno.ENODEV):
            raise


def remove_tree(folder: Path) -> None:
    """Remove a cgroup's folder and those below it, the deepest first; what holds processes stays."""
    for path, _, _ in os.walk(folder, topdown=False):
        try:
            os.rmdir(path)
        except (FileNotFoundError, NotADirectoryError):
            continue
        except OSError as error:
            if error.errno not in (errno.EBUSY, errno.ENOTEMPTY):
                raise


def _filesystem(path: Path) -> int:
    """The magic number of the file system that `path` lies on (statfs(2); Python's statvfs does not tell it)."""
    buffer = (ctypes.c_long * 32)()
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.statfs(os.fsencode(path), buffer) != 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()), str(path))
    return int(buffer[0])
