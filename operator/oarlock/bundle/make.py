"""All steps from a spec to a bundle that the runtime can create, in the order that keeps failures cheap."""

from __future__ import annotations

import errno
from pathlib import Path
from typing import TYPE_CHECKING, Any

from oarlock.bundle import capabilities, facts, hardware, rootfs, seccomp, users
from oarlock.bundle.config import config, is_privileged, shares_network
from oarlock.bundle.tree import Tree
from oarlock.bundle.write import files, write
from oarlock.errors import BundleError, NodeFull
from oarlock.linux.removal import remove_tree

if TYPE_CHECKING:
    from oarlock.api.spec import Spec


def make(
    spec: Spec,
    tree: Tree,
    *,
    hostname: str,
    cgroup_path: str,
    attempt_dir: Path,
    bundle_dir: Path,
) -> dict[str, Any]:
    """Make `bundle_dir` (config.json, the root filesystem mounted at rootfs/) for one attempt.

    Args:
        spec: the object's spec.
        tree: its root filesystem, looked at.
        hostname: the container's host name.
        cgroup_path: `linux.cgroupsPath`.
        attempt_dir: takes what the container writes; this attempt's alone.
        bundle_dir: this attempt's alone.

    Returns:
        what was written to config.json.

    Raises:
        BundleError: the spec cannot be run on this node; nothing is mounted (`remove` takes the rest away).
        NodeFull: a disk has no room; likewise.
    """
    user = users.resolve(tree.accounts, spec)
    node = facts.read()
    try:
        made = config(
            spec,
            hostname=hostname,
            cgroup_path=cgroup_path,
            user=user,
            seccomp=seccomp.profile(capabilities.bounding(spec, node), node.kernel),
            facts=node,
            files=files(bundle_dir, hostname=hostname, host_network=shares_network(spec)),
            devices=facts.devices() if is_privileged(spec) else (),
            hardware=hardware.look(spec),
        )
        write(made, bundle_dir)
    except OSError as error:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        raise (NodeFull if full else BundleError)(f"bundle {bundle_dir}: it cannot be written: {error}") from error
    rootfs.prepare(tree.top, attempt_dir, bundle_dir / "rootfs", devices=is_privileged(spec))
    return made


def free(attempt_dir: Path, bundle_dir: Path) -> None:
    """Remove what an ended container wrote, and nothing that tells how it ended.

    Raises:
        OSError: something could not be removed; calling again goes on where it stopped.
    """
    rootfs.discard(attempt_dir, bundle_dir / "rootfs")


def remove(attempt_dir: Path, bundle_dir: Path) -> None:
    """Undo `make`: unmount, and remove both directories. Fine when they are gone already.

    Raises:
        OSError: something could not be removed; calling again goes on where it stopped.
    """
    free(attempt_dir, bundle_dir)
    remove_tree(bundle_dir)
