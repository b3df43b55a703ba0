"""Fixtures that all tests share: the cluster, a node's directories, a busybox root filesystem."""

from __future__ import annotations

import os
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from tests.busybox import make_rootfs
from tests.cluster.control_plane import ControlPlane
from tests.node_dirs import NodeDirs, node_directories

ROOT = Path(__file__).parents[1]
CRD = ROOT / "crds" / "oarlock.dev_containerspecs.yaml"


# The same examples each time, however long a busy machine takes; `--hypothesis-profile=default` draws others.
settings.register_profile("same", derandomize=True, deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("same")


def pytest_configure() -> None:
    """Clear up on TERM as on Ctrl-C: containers, clusters and guests would go on without their tests."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)


@pytest.fixture(autouse=True)
def _root_where_needed(request: pytest.FixtureRequest) -> None:
    """Tests of the node and the cluster fail without root; they are never skipped."""
    folders = Path(request.path).relative_to(ROOT).parts
    if {"node", "cluster"} & set(folders[:2]) and os.geteuid() != 0:
        pytest.fail("this test needs root: it runs real containers")


@pytest.fixture(scope="session")
def cluster() -> Iterator[ControlPlane]:
    """A real control plane with the ContainerSpec CRD, started once per run."""
    with ControlPlane() as control_plane:
        control_plane.apply_crd(CRD)
        yield control_plane


@pytest.fixture
def node_dirs() -> Iterator[NodeDirs]:
    """State, run and manifest directories of a node for this test alone."""
    with node_directories() as dirs:
        yield dirs


@pytest.fixture(scope="session")
def busybox_rootfs() -> Iterator[Path]:
    """A root filesystem with busybox, for every container of the run: nothing may ever write to it."""
    with tempfile.TemporaryDirectory(prefix="oar-rootfs-", dir="/var/tmp") as folder:
        root = Path(folder) / "busybox"
        root.mkdir()
        yield make_rootfs(root)
