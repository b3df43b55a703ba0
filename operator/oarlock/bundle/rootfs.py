"""The root filesystem of one attempt: an overlay whose lower layer is the tree that the object names.

The given tree is only ever read, so any number of containers may share it. What a container writes
goes to an upper layer of its attempt alone, and goes away with the attempt.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections.abc import Sequence
from pathlib import Path

from oarlock.errors import BundleError, NodeFull
from oarlock.linux import mount
from oarlock.linux.removal import remove_tree

SYSTEM = tuple(
    Path(path)
    for path in (
        *("/boot", "/dev", "/etc", "/home", "/proc", "/root", "/run", "/sys"),
        *("/var/lib/etcd", "/var/lib/kubelet"),
    )
)
"""No root filesystem is taken from these unless the operator's configuration lists it."""

FIELD = "spec.rootfs.path"


def check_rootfs(path: Path, *, forbidden: Sequence[Path], allowed: Sequence[Path]) -> Path:
    """The real path of a root filesystem that an object may use.

    Args:
        path: what the object says.
        forbidden: the operator's own directories; no root filesystem lies in them or contains them.
        allowed: when not empty, only these directories and what is below them. A system directory
            (or `/`) has to be listed itself.

    Raises:
        BundleError: it does not exist, is not a directory, or must not be used.
    """
    try:
        real = Path(os.path.realpath(path, strict=True))
        is_directory = stat.S_ISDIR(os.stat(real).st_mode)
    except (OSError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) else str(error)
        raise BundleError(f"{FIELD}: {path} cannot be used: {why}; make the directory on this node") from None
    if not is_directory:
        raise BundleError(f"{FIELD}: {path} is not a directory; name the top of an unpacked filesystem")
    permitted = [_real(entry) for entry in allowed]
    for own in map(_real, forbidden):
        if real.is_relative_to(own) or own.is_relative_to(real):
            raise BundleError(f"{FIELD}: {path} lies in or contains the operator's own directory {own}")
    if permitted and not any(real.is_relative_to(entry) for entry in permitted):
        places = ", ".join(map(str, permitted))
        raise BundleError(f"{FIELD}: {path} is outside of what this node allows ({places})")
    system = any(real.is_relative_to(place) or place.is_relative_to(real) for place in map(_real, SYSTEM))
    if system and real not in permitted:
        raise BundleError(
            f"{FIELD}: {path} is part of the node's own system, or contains it, and is not allowed on this node; "
            "move it, or name it in --allowed-rootfs"
        )
    return real


def prepare(lower: Path, attempt_dir: Path, target: Path, *, devices: bool = False) -> None:
    """Make `attempt_dir`/{upper,work} and mount the attempt's root filesystem at `target`.

    Args:
        lower: the given tree, as returned by `check_rootfs`.
        attempt_dir: a directory of this attempt alone; what an earlier try left in it is removed.
        target: where to mount; made when missing.
        devices: whether device nodes in it can be opened (privileged containers).

    Raises:
        BundleError: it cannot be mounted; nothing is left behind.
        NodeFull: the disk has no room.
    """
    try:
        attempt_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        target.mkdir(mode=0o755, parents=True, exist_ok=True)
        try:
            upper, work = _layers(lower, attempt_dir)
        except FileExistsError:
            if mount.is_mounted(target):
                raise BundleError(f"{target} is already mounted; it belongs to a live attempt") from None
            remove_tree(attempt_dir)
            attempt_dir.mkdir(mode=0o700)
            upper, work = _layers(lower, attempt_dir)
        mount.mount_overlay(lower, upper, work, target, devices=devices)
    except OSError as error:
        discard(attempt_dir, target)
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise NodeFull(f"no room for a root filesystem in {attempt_dir}: {error.strerror}") from error
        raise BundleError(f"{FIELD}: {lower} cannot be mounted at {target}: {error}") from error


def discard(attempt_dir: Path, target: Path) -> None:
    """Unmount an attempt's root filesystem and remove all that the container wrote. Does not fail twice.

    Blocks as long as the removal takes: a thread's work when the container wrote much.

    Raises:
        OSError: something could not be removed; calling again goes on where it stopped.
    """
    mount.unmount(target)
    remove_tree(attempt_dir)
    with contextlib.suppress(FileNotFoundError, NotADirectoryError):
        target.rmdir()


def _layers(lower: Path, attempt_dir: Path) -> tuple[Path, Path]:
    """Make the two directories; the upper's owner and mode become those of the container's `/`."""
    top = os.stat(lower)
    upper, work = attempt_dir / "upper", attempt_dir / "work"
    upper.mkdir(mode=0o700)
    os.chown(upper, top.st_uid, top.st_gid)
    upper.chmod(stat.S_IMODE(top.st_mode))
    work.mkdir(mode=0o700)
    return upper, work


def _real(path: Path) -> Path:
    return Path(os.path.realpath(path))
