"""Directories of a node for one test: short paths on a real file system, and nothing left behind."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import itertools
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from oarlock.cgroups.hierarchy import hierarchy
from tests import node_cgroups

_MNT_DETACH = 2
_TRIES = 5
_libc = ctypes.CDLL(None, use_errno=True)


@dataclass(frozen=True)
class NodeDirs:
    """`state` and `run` as the operator takes them (made by it), `manifests` exists and is empty."""

    root: Path
    state: Path
    run: Path
    manifests: Path

    @property
    def cgroup_parent(self) -> str:
        """This node's alone, so that nodes do not see each other's."""
        return node_cgroups.parent(self.root.name)

    @property
    def cgroup(self) -> str:
        """The cgroup that `cgroup_parent` stands for."""
        return node_cgroups.path(self.cgroup_parent)


def filesystem_type(path: Path) -> str:
    """The type of the file system that `path` lies on, as mountinfo names it."""
    found = ("", "")
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        left, _, right = line.partition(" - ")
        point = _unescaped(left.split()[4])
        if Path(point) in (path, *path.parents) and len(point) >= len(found[0]):
            found = (point, right.split()[0])
    return found[1]


def _unescaped(field: str) -> str:
    return field.replace("\\040", " ").replace("\\011", "\t").replace("\\134", "\\")


def _base() -> Path:
    """Where test nodes live: overlayfs cannot hold another overlay's upper layer."""
    for name in (os.environ.get("OARLOCK_TEST_DIR"), "/var/tmp", "/var/lib", "/dev/shm"):
        if name and Path(name).is_dir() and filesystem_type(Path(name).resolve()) != "overlay":
            return Path(name).resolve()
    raise AssertionError("no folder on a real file system: set OARLOCK_TEST_DIR to one")


@contextlib.contextmanager
def node_directories() -> Iterator[NodeDirs]:
    """Fresh directories; at the end what still runs or is mounted in them is ended, and they are removed."""
    root = Path(tempfile.mkdtemp(prefix="oar-", dir=_base()))
    dirs = NodeDirs(root, root / "state", root / "run", root / "manifests")
    dirs.manifests.mkdir()
    try:
        yield dirs
    finally:
        remove_node(dirs)


def remove_node(dirs: NodeDirs) -> None:
    """Kill a test node's processes, delete its containers, detach its mounts; then remove its files."""
    for tries in itertools.count(1):
        end_boot(dirs)
        try:
            shutil.rmtree(dirs.root)
            break
        except OSError as error:  # a runtime that the operator was about to execute makes its folder anew
            if error.errno != errno.ENOTEMPTY or tries == _TRIES:
                raise
        time.sleep(0.2)
    for lock in Path("/run/oarlock").glob("cgroups-*.lock"):
        with contextlib.suppress(FileNotFoundError):  # another test's
            if f'"{dirs.state}"' in lock.read_text():
                lock.unlink()


def end_boot(dirs: NodeDirs) -> None:
    """Take from a test node what a loss of power takes: processes, cgroups, mounts, the run directory."""
    _kill_processes(dirs.root)
    runtime = dirs.run / "runtime"
    for container in sorted(runtime.iterdir()) if runtime.is_dir() else []:
        subprocess.run(
            [node_cgroups.RUNTIME, "--root", str(runtime), "delete", "--force", container.name],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=60,
            check=False,
        )
    hierarchy().kill(dirs.cgroup)
    hierarchy().sweep(dirs.cgroup, ())
    hierarchy().remove(dirs.cgroup)
    if node_cgroups.MANAGER == "systemd":
        stop = ["systemctl", "stop", dirs.cgroup_parent]
        subprocess.run(stop, stdin=subprocess.DEVNULL, capture_output=True, timeout=60, check=False)
    for point in reversed(mounts_below(dirs.root)):
        _libc.umount2(os.fsencode(point), _MNT_DETACH)
    left = mounts_below(dirs.root)
    if left:
        raise AssertionError(f"still mounted, so not removed: {left}")
    shutil.rmtree(dirs.run, ignore_errors=True)


def mounts_below(root: Path) -> list[Path]:
    """The mount points below `root`, in the order in which they were mounted."""
    points = []
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        point = Path(_unescaped(line.split()[4]))
        if root in point.parents:
            points.append(point)
    return points


def _kill_processes(root: Path) -> None:
    """Kill whoever names `root` in its arguments: an operator or a monitor that a failed test left."""
    needle = os.fsencode(root) + b"/"
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit() or int(entry.name) == os.getpid():
            continue
        with contextlib.suppress(OSError):
            if needle in (entry / "cmdline").read_bytes():
                os.kill(int(entry.name), signal.SIGKILL)
