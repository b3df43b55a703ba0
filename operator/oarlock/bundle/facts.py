"""What this node lets a container have: read once, then plain data for the pure `config`."""

from __future__ import annotations

import os
import re
import resource
import stat
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from oarlock.cgroups.hierarchy import ROOT, hierarchy

CAPABILITIES = (
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_DAC_READ_SEARCH",
    "CAP_FOWNER",
    "CAP_FSETID",
    "CAP_KILL",
    "CAP_SETGID",
    "CAP_SETUID",
    "CAP_SETPCAP",
    "CAP_LINUX_IMMUTABLE",
    "CAP_NET_BIND_SERVICE",
    "CAP_NET_BROADCAST",
    "CAP_NET_ADMIN",
    "CAP_NET_RAW",
    "CAP_IPC_LOCK",
    "CAP_IPC_OWNER",
    "CAP_SYS_MODULE",
    "CAP_SYS_RAWIO",
    "CAP_SYS_CHROOT",
    "CAP_SYS_PTRACE",
    "CAP_SYS_PACCT",
    "CAP_SYS_ADMIN",
    "CAP_SYS_BOOT",
    "CAP_SYS_NICE",
    "CAP_SYS_RESOURCE",
    "CAP_SYS_TIME",
    "CAP_SYS_TTY_CONFIG",
    "CAP_MKNOD",
    "CAP_LEASE",
    "CAP_AUDIT_WRITE",
    "CAP_AUDIT_CONTROL",
    "CAP_SETFCAP",
    "CAP_MAC_OVERRIDE",
    "CAP_MAC_ADMIN",
    "CAP_SYSLOG",
    "CAP_WAKE_ALARM",
    "CAP_BLOCK_SUSPEND",
    "CAP_AUDIT_READ",
    "CAP_PERFMON",
    "CAP_BPF",
    "CAP_CHECKPOINT_RESTORE",
)
"""All of Linux's capabilities, by number (uapi/linux/capability.h)."""


@dataclass(frozen=True, slots=True)
class Device:
    """A device node of this node, for privileged containers."""

    path: str
    kind: str  # "c" or "b"
    major: int
    minor: int
    mode: int
    uid: int
    gid: int


@dataclass(frozen=True, slots=True)
class Facts:
    """What of this node shapes a config.json.

    Attributes:
        capabilities: those that the operator can give away (its own bounding set).
        kernel: version of the running kernel, as (6, 18).
        open_files: the highest RLIMIT_NOFILE that the operator may set.
        swap_accounting: the kernel can bound memory and swap together.
        cgroup_version: 1 or 2.
        controllers: what cgroups can limit, by version 2's names (`io` for version 1's blkio).
        io_weight: cgroups can weigh who uses a disk.
        huge_pages: sizes that can be limited, as 2MB.
        memory_bytes: the machine's memory.
        oom_score_adj: the operator's own; a lower one cannot be given without CAP_SYS_RESOURCE.
        masked: paths of this machine to hide besides the usual ones.
    """

    capabilities: frozenset[str]
    kernel: tuple[int, int]
    open_files: int
    swap_accounting: bool
    memory_bytes: int
    oom_score_adj: int
    masked: tuple[str, ...] = ()
    cgroup_version: int = 1
    controllers: frozenset[str] = frozenset()
    io_weight: bool = False
    huge_pages: frozenset[str] = frozenset()


@lru_cache(maxsize=1)
def read() -> Facts:
    """The facts of the node that this process runs on; read once."""
    major, minor = re.findall(r"\d+", os.uname().release)[:2]
    version = hierarchy().VERSION
    controllers = _controllers(ROOT, version)
    return Facts(
        capabilities=_bounding_set(),
        kernel=(int(major), int(minor)),
        open_files=resource.getrlimit(resource.RLIMIT_NOFILE)[1],
        swap_accounting=_swap_accounting(ROOT),
        memory_bytes=os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        oom_score_adj=int(Path("/proc/self/oom_score_adj").read_text()),
        masked=tuple(sorted(map(str, Path("/sys/devices/system/cpu").glob("cpu[0-9]*/thermal_throttle")))),
        cgroup_version=version,
        controllers=controllers,
        io_weight=_io_weight(ROOT, version, controllers),
        huge_pages=_huge_pages(Path("/sys/kernel/mm/hugepages")) if "hugetlb" in controllers else frozenset(),
    )


def devices() -> tuple[Device, ...]:
    """The node's device nodes, but those of terminals and other filesystems (containerd: `HostDevices`)."""
    return tuple(_devices("/dev", os.stat("/dev").st_dev))


_SKIPPED = {"pts", "shm", "fd", "mqueue", "console", "stdin", "stdout", "stderr", "core", "ptmx"}


def _devices(directory: str, filesystem: int) -> list[Device]:
    found: list[Device] = []
    for entry in sorted(os.scandir(directory), key=lambda entry: entry.name):
        try:
            what = entry.stat(follow_symlinks=False)
        except FileNotFoundError:
            continue
        if entry.name in _SKIPPED and directory == "/dev":
            continue
        if stat.S_ISDIR(what.st_mode) and what.st_dev == filesystem:
            found += _devices(entry.path, filesystem)
        elif stat.S_ISCHR(what.st_mode) or stat.S_ISBLK(what.st_mode):
            kind = "c" if stat.S_ISCHR(what.st_mode) else "b"
            major, minor = os.major(what.st_rdev), os.minor(what.st_rdev)
            mode = stat.S_IMODE(what.st_mode)
            found.append(Device(entry.path, kind, major, minor, mode, what.st_uid, what.st_gid))
    return found


def _bounding_set() -> frozenset[str]:
    status = Path("/proc/self/status").read_text()
    bits = int(status.partition("CapBnd:")[2].split(maxsplit=1)[0], 16)
    return frozenset(name for number, name in enumerate(CAPABILITIES) if bits >> number & 1)


def _swap_accounting(
    cgroups: Path, swaps: Path = Path("/proc/swaps"), command_line: Path = Path("/proc/cmdline")
) -> bool:
    if (cgroups / "memory").is_dir():
        return (cgroups / "memory" / "memory.memsw.limit_in_bytes").exists()
    if any(cgroups.glob("*/memory.max")):
        return any(cgroups.glob("*/memory.swap.max"))
    # The root has no such file, and no cgroup below it counts memory yet: that comes with the first container.
    return swaps.exists() and "swapaccount=0" not in command_line.read_text().split()


def _controllers(cgroups: Path, version: int) -> frozenset[str]:
    if version == 2:
        return frozenset((cgroups / "cgroup.controllers").read_text().split())
    mounted = [folder.name for folder in cgroups.iterdir() if (folder / "cgroup.procs").exists()]
    return frozenset("io" if name == "blkio" else name for names in mounted for name in names.split(","))


def _io_weight(cgroups: Path, version: int, controllers: frozenset[str]) -> bool:
    """On version 1 of the scheduler bfq (the root has no weight, but its counters) or of the older cfq."""
    if version == 2:
        return "io" in controllers
    return any((cgroups / "blkio" / f"blkio.{name}").exists() for name in ("bfq.io_serviced", "weight"))


def _huge_pages(sizes: Path) -> frozenset[str]:
    """Sizes as the hugetlb controller names them, from folders as hugepages-2048kB."""
    if not sizes.is_dir():
        return frozenset()
    found = [int(folder.name.removeprefix("hugepages-").removesuffix("kB")) for folder in sizes.iterdir()]
    return frozenset(f"{kib >> 20}GB" if kib >> 20 else f"{kib >> 10}MB" if kib >> 10 else f"{kib}KB" for kib in found)
