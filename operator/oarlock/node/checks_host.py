"""Doctor's checks of the host: kernel, cgroups, capabilities, limits, clock, pid 1, network."""

from __future__ import annotations

import ctypes
import fcntl
import os
import re
import socket
import struct
import subprocess
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

from oarlock.cgroups.hierarchy import hierarchy
from oarlock.cgroups.place import runs_systemd
from oarlock.errors import ConfigurationError
from oarlock.linux.inotify import Inotify, Mask
from oarlock.node.configuration import Configuration
from oarlock.node.doctor import Check, Condition, fail, ok, warn

CGROUPS = Path("/sys/fs/cgroup")
NEEDED_CONTROLLERS = {1: ("cpu", "devices", "freezer", "memory", "pids"), 2: ("cpu", "memory", "pids")}
"""By version; version 2 has devices (BPF) and the freezer without a controller."""
OLDEST_KERNEL, EXIT_INFO_KERNEL = (5, 8), (6, 15)
"""Python's pidfds and the mount API; the ioctl PIDFD_GET_INFO with the exit status."""

CAPABILITIES = {
    "CHOWN": 0, "DAC_OVERRIDE": 1, "FOWNER": 3, "KILL": 5, "SETGID": 6, "SETUID": 7, "SETPCAP": 8,
    "NET_ADMIN": 12, "SYS_CHROOT": 18, "SYS_PTRACE": 19, "SYS_ADMIN": 21, "SYS_RESOURCE": 24, "MKNOD": 27,
}  # fmt: skip
"""Numbers of linux/capability.h."""
HELPFUL = {"SYS_RESOURCE": "negative oom_score_adj and raised hard limits are refused"}

INITIAL_PID_NAMESPACE = 0xEFFFFFFC
"""PROC_PID_INIT_INO of the kernel: the inode of the host's pid namespace."""
REAP = 3.0
"""Seconds that pid 1 has to reap an orphan."""

_CLONE_NEWNET = 0x40000000
_SIOCGIFFLAGS, _SIOCSIFFLAGS, _IFF_UP = 0x8913, 0x8914, 0x1


def kernel() -> Iterator[Check]:
    """The kernel's version, and what oarlock has of it."""
    release = os.uname().release
    numbers = _numbers(release)
    if numbers < OLDEST_KERNEL:
        yield fail("kernel", f"{release} is older than 5.8", "use a newer kernel")
        return
    try:
        os.close(os.pidfd_open(os.getpid()))
    except OSError as error:
        yield fail("kernel", f"{release}: pidfd_open: {error.strerror}", "allow it in the seccomp profile")
        return
    if numbers >= EXIT_INFO_KERNEL:
        yield ok("kernel", f"{release}: exits are read from pidfds (PIDFD_GET_INFO)")
    else:
        yield ok("kernel", f"{release}: exits are read from conmon's files (PIDFD_GET_INFO needs 6.15)")


def overlay() -> Check:
    """Whether the kernel has overlayfs, built in or as a module."""
    names = {line.split()[-1] for line in Path("/proc/filesystems").read_text("ascii").splitlines() if line}
    if "overlay" in names:
        return ok("overlay", "in the kernel")
    modules = Path("/lib/modules") / os.uname().release / "kernel/fs/overlayfs"
    if modules.is_dir() and any(modules.iterdir()):
        return warn("overlay", "a module that is not loaded", "modprobe overlay")
    return fail("overlay", "this kernel has no overlayfs", "modprobe overlay, or use a kernel with it")


def cgroups(configuration: Configuration) -> Iterator[Check]:
    """Version, controllers and writability of the cgroup file systems."""
    mounts = _cgroup_mounts()
    if not mounts:
        yield fail("cgroups", f"none mounted at {CGROUPS}", "mount them, or share the host's")
        return
    version = hierarchy().VERSION
    if version == 2:
        held = set((CGROUPS / "cgroup.controllers").read_text(encoding="utf-8").split())
        missing = [each for each in NEEDED_CONTROLLERS[2] if each not in held]
    else:
        missing = [each for each in NEEDED_CONTROLLERS[1] if each not in mounts]
    if missing:
        yield fail("cgroups", f"version {version} without {', '.join(missing)}", "enable these controllers")
        return
    folders = [CGROUPS] if version == 2 else [mounts[each] for each in NEEDED_CONTROLLERS[1]]
    closed = [str(each) for each in folders if not os.access(each, os.W_OK)]
    if closed:
        yield fail("cgroups", f"{', '.join(closed)} cannot be written", "mount /sys/fs/cgroup writable")
        return
    if configuration.manager == "systemd" and not runs_systemd():
        yield fail("cgroups", "systemd does not run here", "--cgroup-manager cgroupfs, or share /run/systemd")
        return
    yield ok("cgroups", f"version {version}, {configuration.manager} manager, containers under {configuration.parent}")


def capabilities() -> Iterator[Check]:
    """Whether this process has what containers need (as root, all of it)."""
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    match = re.search(r"^CapEff:\s*([0-9a-f]+)", status, re.MULTILINE)
    held = int(match[1], 16) if match else 0
    missing = [name for name, bit in CAPABILITIES.items() if not held >> bit & 1]
    needed = [name for name in missing if name not in HELPFUL]
    if needed:
        named = ", ".join(f"CAP_{name}" for name in needed)
        yield fail("capabilities", f"missing {named}", "run as root, in a pod as privileged")
    else:
        yield ok("capabilities", "all that are needed")
    for name in missing:
        if name in HELPFUL:
            yield warn(f"cap-{name.lower().replace('_', '-')}", f"missing: {HELPFUL[name]}", f"grant CAP_{name}")


def inotify() -> Check:
    """An instance and a watch of inotify, as the operator needs them, and its limits; on v2 each conmon holds one."""
    folder = Path("/proc/sys/fs/inotify")
    instances, watches = (int((folder / f"max_user_{each}").read_text()) for each in ("instances", "watches"))
    told = f"{instances} instances, {watches} watches"
    try:
        with Inotify() as probe:
            probe.add("/", Mask.DELETE_SELF | Mask.ONLYDIR)
    except ConfigurationError as error:
        found, _, way_out = str(error).partition(": ")[2].partition("; ")
        return fail("inotify", f"{told}: {found}", way_out)
    except OSError as error:
        return fail("inotify", f"{told}: {error.strerror}", "allow inotify in the seccomp profile")
    if instances < 256:
        return warn(
            "inotify",
            f"{told}: on cgroup v2 the container after that many loses OOM detection",
            "sysctl fs.inotify.max_user_instances=8192",
        )
    if watches < 4096:
        return warn("inotify", f"{told}: few", "sysctl fs.inotify.max_user_watches=65536")
    return ok("inotify", told)


def clock() -> Check:
    """Whether wall time can be right: certificates, ages and log times depend on it."""
    now = datetime.now(UTC)
    if now.year < 2024:
        return fail("clock", f"it says {now:%Y-%m-%d %H:%M} UTC", "set the time, for example by NTP")
    return ok("clock", f"{now:%Y-%m-%d %H:%M:%S} UTC")


def pid_one() -> Iterator[Check]:
    """Whether this is the host's pid namespace, and pid 1 reaps the orphans that conmon leaves."""
    if os.stat("/proc/self/ns/pid").st_ino == INITIAL_PID_NAMESPACE:
        yield ok("pid-namespace", "the host's")
    else:
        yield warn(
            "pid-namespace",
            "not the host's: containers end with this one",
            "in a pod set hostPID: true; on a virtual host this is fine",
        )
    name = Path("/proc/1/comm").read_text(errors="replace").strip()
    if _orphan_is_reaped():
        yield ok("pid-1", f"{name} reaps orphans")
    else:
        yield fail("pid-1", f"{name} leaves zombies for over {REAP:g} s", "run an init as pid 1 (tini, systemd)")


def network() -> Check:
    """Whether a network namespace can be made, with its loopback up; done in a thread that ends with it."""
    outcome: list[str | None] = []
    thread = threading.Thread(target=lambda: outcome.append(_loopback()), name="doctor-network")
    thread.start()
    thread.join()
    error = outcome[0] if outcome else "the probe broke"
    if error is None:
        return ok("network", "own namespaces, loopback up", Condition.NETWORK)
    return fail("network", error, "needs CAP_SYS_ADMIN, CAP_NET_ADMIN and a kernel with namespaces", Condition.NETWORK)


def _loopback() -> str | None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(_CLONE_NEWNET) != 0:
        return f"no new network namespace: {os.strerror(ctypes.get_errno())}"
    try:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            request = struct.pack("16sH14x", b"lo", 0)
            flags = struct.unpack("16sH14x", fcntl.ioctl(probe, _SIOCGIFFLAGS, request))[1]
            fcntl.ioctl(probe, _SIOCSIFFLAGS, struct.pack("16sH14x", b"lo", flags | _IFF_UP))
    except OSError as error:
        return f"loopback cannot be brought up: {error.strerror}"
    return None


def _orphan_is_reaped() -> bool:
    """Leave pid 1 an orphan that has ended, and see whether it vanishes."""
    done = subprocess.run(
        ["/bin/sh", "-c", "true & echo $!"],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=REAP,
        check=False,
    )
    pid = int(done.stdout)
    deadline = time.monotonic() + REAP
    while Path(f"/proc/{pid}").exists():  # pidfds tell a zombie from one that is reaped since Linux 6.9 only
        if time.monotonic() >= deadline:
            return False
        time.sleep(0.01)
    return True


def _cgroup_mounts() -> dict[str, Path]:
    """Mount points by controller of version 1, and `cgroup2`."""
    found: dict[str, Path] = {}
    for line in Path("/proc/self/mounts").read_text(encoding="utf-8", errors="replace").splitlines():
        _device, point, kind, options, *_ = line.split()
        if kind == "cgroup2":
            found.setdefault("cgroup2", Path(point))
        elif kind == "cgroup":
            for option in options.split(","):
                found.setdefault(option, Path(point))
    return found


def _numbers(release: str) -> tuple[int, ...]:
    match = re.match(r"(\d+)\.(\d+)", release)
    return (int(match[1]), int(match[2])) if match else (0, 0)
