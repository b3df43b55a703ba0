"""Where containers and their monitors live, by oarlock itself and by systemd, and that nothing of it stays."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from oarlock.cgroups.hierarchy import unless_gone
from oarlock.cgroups.place import runs_systemd
from tests import node_cgroups
from tests.node_dirs import NodeDirs
from tests.operating import Operator, container, eventually, left, operating


def units() -> str:
    """Every scope and slice of containers and monitors that systemd knows, ended ones too; empty without systemd."""
    if not runs_systemd():
        return ""
    command = ["systemctl", "list-units", "--all", "--plain", "--no-legend", "oarlock-*.scope", "oar-*.slice"]
    silent = subprocess.DEVNULL
    return subprocess.run(command, stdin=silent, capture_output=True, text=True, timeout=60, check=True).stdout


def test_monitor_and_container_have_cgroups_of_their_own_until_they_end(
    node_dirs: NodeDirs, busybox_rootfs: Path
) -> None:
    by_systemd = node_cgroups.MANAGER == "systemd"
    with operating(node_dirs) as node:
        node.apply(container("web", busybox_rootfs, "sleep", "1000", terminationGracePeriodSeconds=0))
        status = node.wait("web", lambda s: s["phase"] == "Running")
        own = status["containerID"].removeprefix("oarlock://")
        home = node_cgroups.folder(node_dirs.cgroup)
        monitor, init = (node_cgroups.folder_of(status[name]) for name in ("monitorPID", "pid"))
        assert monitor == home / f"oarlock-conmon-{own}{'.scope' if by_systemd else ''}"
        place = home / own
        if by_systemd:
            place = home / f"{home.stem}-{own.replace('-', '_')}.slice" / f"oarlock-{own}.scope"
        assert place in (init, init.parent)  # crun makes one more below it
        assert monitor.joinpath("cgroup.procs").read_text().split() == [str(status["monitorPID"])]
        if by_systemd:
            assert f"oarlock-conmon-{own}.scope" in units()
        (node_dirs.manifests / "objects.yaml").unlink()
        eventually(lambda: not node.records(), "the object is gone")
        assert not left(node_dirs)
        eventually(lambda: own not in units().replace("_", "-"), "systemd has forgotten its scopes and slice")


def test_a_container_that_ends_by_itself_leaves_no_cgroup(node_dirs: NodeDirs, busybox_rootfs: Path) -> None:
    with operating(node_dirs) as node:
        node.apply(container("job", busybox_rootfs, "true", restartPolicy="Never"))
        own = node.wait("job", lambda s: s["phase"] == "Succeeded")["containerID"].removeprefix("oarlock://")
        eventually(lambda: not left(node_dirs), "nothing is left")
        eventually(lambda: own not in units().replace("_", "-"), "systemd has forgotten its scopes and slice")


def test_a_cgroup_that_goes_while_it_is_read_is_as_good_as_none(node_dirs: NodeDirs) -> None:
    folder = node_cgroups.folder(f"/{node_dirs.root.name}-short", "pids")
    folder.mkdir()
    with (folder / "cgroup.procs").open() as procs:
        folder.rmdir()
        with pytest.raises(OSError, match="No such device"):
            procs.read()
        with unless_gone():
            procs.read()
            raise AssertionError("it was read")


def test_the_manager_is_found_by_itself(node_dirs: NodeDirs, busybox_rootfs: Path) -> None:
    """`auto` is systemd where systemd runs; its slice and oarlock's own cgroup have names of their own."""
    told = Operator(node_dirs).command("doctor", "--cgroup-manager", "auto", "--cgroup-parent", "", check=False).stdout
    expected = "systemd manager, containers under oarlock.slice" if runs_systemd() else "cgroupfs manager, containers "
    assert expected in told
    assert f"version {2 if node_cgroups.UNIFIED else 1}" in told


def test_the_version_is_the_mounted_one_or_the_operator_does_not_start(node_dirs: NodeDirs) -> None:
    mounted, other = ("v2", "v1") if node_cgroups.UNIFIED else ("v1", "v2")
    done = Operator(node_dirs).command("run", "--cgroup-version", other, check=False)
    assert (done.returncode, f"--cgroup-version {other}: /sys/fs/cgroup is {mounted} here" in done.stderr) == (2, True)
    with operating(node_dirs, "--cgroup-version", mounted) as node:
        assert node.process is not None


@pytest.mark.parametrize("manager", ["cgroupfs", "systemd"])
def test_a_parent_that_the_manager_cannot_use_is_refused(node_dirs: NodeDirs, manager: str) -> None:
    other = "oarlock.slice" if manager == "cgroupfs" else "/oarlock"
    done = Operator(node_dirs).command("run", "--cgroup-manager", manager, "--cgroup-parent", other, check=False)
    assert done.returncode == 2
    if manager == "systemd" and not runs_systemd():
        assert "--cgroup-manager systemd: systemd does not run here" in done.stderr
    else:
        assert f"--cgroup-parent {other}: the {manager} manager needs" in done.stderr


def test_an_operator_with_another_manager_takes_up_what_runs(node_dirs: NodeDirs, busybox_rootfs: Path) -> None:
    """What the attempt was made with is recorded: the next operator freezes, stops and removes it all the same."""
    others = {"OARLOCK_CGROUP_MANAGER": "cgroupfs", "OARLOCK_CGROUP_PARENT": f"/{node_dirs.root.name}/other"}
    if runs_systemd() and node_cgroups.MANAGER == "cgroupfs":
        others = {"OARLOCK_CGROUP_MANAGER": "systemd", "OARLOCK_CGROUP_PARENT": f"{node_dirs.root.name}.slice"}
    node = Operator(node_dirs)
    node.start()
    try:
        node.apply(container("web", busybox_rootfs, "sleep", "1000", terminationGracePeriodSeconds=0))
        pid = node.wait("web", lambda s: s["phase"] == "Running")["pid"]
        home = node_cgroups.folder_of(pid).parent
        node.stop()
        node.start(**others)
        node.wait_ready(2)
        assert node.status("web")["pid"] == pid
        node.command("pause", "web")
        assert node_cgroups.frozen(pid)
        node.command("restart", "web")
        status = node.wait("web", lambda s: s["phase"] == "Running" and s["pid"] != pid)
        assert node_cgroups.folder_of(status["pid"]).parent != home
        (node_dirs.manifests / "objects.yaml").unlink()
        eventually(lambda: not node.records(), "the object is gone")
        assert not set(left(node_dirs)) - {"cgroups"}  # the other parent, made below this one
    finally:
        node.kill()
