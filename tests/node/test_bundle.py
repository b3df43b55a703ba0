"""What a process in a container can see and do, with the real runc.

Each test runs a shell inside a container as somebody hostile would, and looks at what it managed.
"""

from __future__ import annotations

import asyncio
import gc
import os
import shutil
import stat
import subprocess
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from oarlock.api.spec import Spec
from oarlock.bundle import facts, make, rootfs
from oarlock.bundle.tree import look
from oarlock.cgroups.hierarchy import hierarchy
from oarlock.errors import BundleError, RuntimeFailure
from oarlock.linux import mount
from oarlock.linux.removal import remove_tree
from oarlock.network import loopback
from tests import node_cgroups

PASSWD = "root:x:0:0:root:/root:/bin/sh\napp:x:1000:1001::/home/app:/bin/sh\n"
GROUP = "root:x:0:\napp:x:1001:\naudio:x:29:app\n"


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A root filesystem of busybox; the tests share it, as containers may."""
    top = tmp_path_factory.mktemp("rootfs")
    top.chmod(0o755)
    for name in ("bin", "etc", "root", "tmp", "home/app"):
        (top / name).mkdir(parents=True)
    (top / "tmp").chmod(0o1777)
    busybox = Path(shutil.which("busybox") or "")
    shutil.copy(busybox, top / "bin/busybox")
    names = subprocess.run([busybox, "--list"], capture_output=True, text=True, check=True).stdout.split()
    for name in names:
        if name != "busybox":
            (top / "bin" / name).symlink_to("busybox")
    (top / "etc/passwd").write_text(PASSWD)
    (top / "etc/group").write_text(GROUP)
    return top


class Node:
    """Makes bundles below one directory and runs them with runc, in the foreground or detached."""

    def __init__(self, directory: Path, tree: Path) -> None:
        self.directory, self.tree = directory, tree
        self.made: list[str] = []

    def bundle(self, **fields: Any) -> str:
        """Make the bundle of a container; its id."""
        name = f"test-{uuid.uuid4().hex[:12]}"
        given = {"nodeName": "n", "rootfs": {"path": str(self.tree)}} | fields
        self.made.append(name)
        spec = Spec.model_validate(given)
        make.make(
            spec,
            look(Path(spec.rootfs.path), forbidden=[self.directory]),
            hostname="web",
            cgroup_path=f"/oarlock-test/{name}",
            attempt_dir=self.attempt(name),
            bundle_dir=self.directory / "bundles" / name,
        )
        return name

    def attempt(self, name: str) -> Path:
        return self.directory / "containers" / name

    def runc(self, *words: str | Path) -> subprocess.CompletedProcess[str]:
        command = [node_cgroups.RUNTIME, "--root", self.directory / "runtime", *words]
        return subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60, check=False
        )

    def sh(self, script: str, **fields: Any) -> str:
        """Run `script` in a container of its own; what it wrote to both outputs."""
        name = self.bundle(command=["sh", "-c", script], **fields)
        done = self.runc("run", "-b", self.directory / "bundles" / name, name)
        return done.stdout + done.stderr

    def start(self, script: str, **fields: Any) -> tuple[str, int]:
        """Run `script` in the background; the container's id and pid."""
        name = self.bundle(command=["sh", "-c", script], **fields)
        bundle = self.directory / "bundles" / name
        command = [node_cgroups.RUNTIME, "--root", self.directory / "runtime", "create"]
        command += ["--bundle", bundle, "--pid-file", bundle / "pidfile", name]
        silent = subprocess.DEVNULL
        subprocess.run(command, stdin=silent, stdout=silent, stderr=silent, timeout=60, check=True)
        return name, int((bundle / "pidfile").read_text())

    def clean(self) -> None:
        for name in self.made:
            self.runc("delete", "--force", name)
            make.remove(self.attempt(name), self.directory / "bundles" / name)
        hierarchy().remove("/oarlock-test")


@pytest.fixture
def node(tmp_path: Path, tree: Path) -> Iterator[Node]:
    found = Node(tmp_path, tree)
    yield found
    found.clean()
    assert mount.mounts_under(tmp_path) == []


def snapshot(top: Path) -> dict[str, tuple[Any, ...]]:
    """Everything of a tree that a writer could change."""
    found: dict[str, tuple[Any, ...]] = {}
    for path in [top, *sorted(top.rglob("*"))]:
        what = path.lstat()
        content = path.read_bytes() if stat.S_ISREG(what.st_mode) else b""
        link = os.readlink(path) if path.is_symlink() else ""
        key = str(path.relative_to(top))
        found[key] = (what.st_mode, what.st_uid, what.st_gid, what.st_mtime_ns, what.st_ino, content, link)
    return found


def test_root_in_the_container_is_a_tamed_root(node: Node) -> None:
    said = node.sh("grep -E 'Cap|NoNew|Seccomp:' /proc/self/status; id; umask; cat /proc/self/oom_score_adj")
    status = dict(line.split(":\t") for line in said.splitlines() if ":\t" in line)
    assert status["CapEff"] == status["CapBnd"] == status["CapPrm"] == "00000000800405fb"
    assert status["CapAmb"] == status["CapInh"] == "0000000000000000"
    assert (status["NoNewPrivs"], status["Seccomp"]) == ("1", "2")
    assert "uid=0(root) gid=0(root)" in said
    assert said.splitlines()[-2:] == ["0022", "1000"]


def test_a_user_of_the_container_has_its_groups_and_home_and_no_capability(node: Node) -> None:
    said = node.sh("id; echo $HOME; grep Cap /proc/self/status", securityContext={"runAsUser": 1000})
    assert "uid=1000(app) gid=1001(app) groups=29(audio),1001(app)" in said
    assert "/home/app" in said.splitlines()
    assert "CapEff:\t0000000000000000" in said


def test_setuid_programs_gain_nothing_unless_the_spec_allows_it(node: Node, tmp_path: Path) -> None:
    """busybox's su is asked to become root: setuid(0) works for whoever has gained root by the setuid bit."""
    setuid = tmp_path / "setuid"
    shutil.copytree(node.tree, setuid, symlinks=True)
    (setuid / "bin/busybox").chmod(0o4755)
    (setuid / "etc/shadow").write_text("root::1::::::\n")
    (setuid / "etc/passwd").write_text(PASSWD.replace("root:x:", "root::"))
    node.directory = tmp_path / "node"
    fields: dict[str, Any] = {"rootfs": {"path": str(setuid)}}
    script = "su root -c 'id -u; head -c0 /etc/shadow && echo as-root'"
    said = node.sh(script, securityContext={"runAsUser": 1000}, **fields)
    assert "as-root" not in said
    allowed = {"runAsUser": 1000, "allowPrivilegeEscalation": True}
    said = node.sh(script, securityContext=allowed, **fields)
    assert said.split() == ["0", "as-root"]


@pytest.mark.parametrize(
    "path",
    [
        "/sys/fs/cgroup/x",
        "/sys/fs/cgroup/memory/x",
        "/sys/fs/cgroup/pids/cgroup.procs",
        "/sys/fs/cgroup/devices/devices.allow",
        "/proc/sys/kernel/pid_max",
        "/proc/sys/kernel/core_pattern",
        "/proc/sys/vm/overcommit_memory",
        "/proc/sysrq-trigger",
        "/proc/irq/default_smp_affinity",
        "/sys/kernel/x",
        "/sys/power/state",
    ],
)
def test_the_node_cannot_be_written_to(node: Node, path: str) -> None:
    for fields in ({}, {"hostNetwork": True}):
        said = node.sh(f"echo 1 > {path} && echo written; mkdir {path}-dir && echo made", **fields)
        assert "written" not in said
        assert "made" not in said


def test_dangerous_system_calls_fail(node: Node) -> None:
    said = node.sh(
        "unshare -m true && echo got-unshare; unshare -U true && echo got-userns;"
        "mount -t tmpfs x /tmp && echo got-mount; umount /proc/sys && echo got-umount;"
        "mount -o remount,rw /sys && echo got-remount; chroot / true && echo chroot-works;"
        "mknod /tmp/disk b 254 0 && echo got-mknod; hostname x && echo got-hostname;"
        "date -s 2020-01-01 2>&1 | grep -q permitted || echo got-date;"
        "swapoff -a && echo got-swapoff; dmesg && echo got-dmesg;"
        "nsenter -t 1 -m true && echo got-nsenter"
    )
    assert "got-" not in said
    assert "chroot-works" in said


def test_a_device_of_the_node_cannot_be_opened(node: Node) -> None:
    said = node.sh(
        "mknod /tmp/kmsg c 1 11 && head -c1 /tmp/kmsg && echo got-it; ls -l /tmp",
        securityContext={"capabilities": {"add": ["MKNOD"]}},
    )
    assert "got-it" not in said


def test_the_environment_is_the_specs_and_nothing_of_ours(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPERATORS_SECRET", "1")
    said = node.sh(
        "tr '\\0' '\\n' < /proc/1/environ; ls /proc/1/fd",
        env=[{"name": "GREETING", "value": "hello"}, {"name": "BOTH", "value": "$(GREETING) $$(X)"}],
    )
    variables = dict(line.split("=", 1) for line in said.splitlines() if "=" in line)
    assert variables == {
        "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        "HOSTNAME": "web",
        "HOME": "/root",
        "GREETING": "hello",
        "BOTH": "hello $(X)",
    }
    assert set(said.split()[-4:]) >= {"0", "1", "2"}


def test_it_has_its_name_and_working_directory(node: Node) -> None:
    said = node.sh("hostname; pwd; cat /etc/hostname; cat /etc/hosts", workingDir="/srv/new")
    assert said.splitlines()[:3] == ["web", "/srv/new", "web"]
    assert "127.0.0.1\tlocalhost web" in said


def test_names_are_there_when_etc_is_a_link(node: Node, tmp_path: Path) -> None:
    linked = tmp_path / "linked"
    shutil.copytree(node.tree, linked, symlinks=True)
    (linked / "etc").rename(linked / "conf")
    (linked / "etc").symlink_to("/conf")
    node.directory = tmp_path / "node"
    assert node.sh("cat /conf/hostname", rootfs={"path": str(linked)}) == "web\n"


def test_three_containers_share_a_tree_and_none_of_them_changes_it(node: Node) -> None:
    before = snapshot(node.tree)
    script = "echo mine > /tmp/x; rm /etc/group; chmod 700 /bin; chown 5 /root; ls -a /tmp /; mv /home /gone"
    names = [node.start(f"{script}; sleep 100")[0] for _ in range(3)]
    for name in names:
        assert node.runc("start", name).returncode == 0
    said = [node.sh("ls /tmp /etc", rootfs={"path": str(node.tree)}) for _ in range(2)]
    assert all("x" not in text.split() and "group" in text.split() for text in said)
    for name in names:
        node.runc("delete", "--force", name)
    assert snapshot(node.tree) == before


def test_another_containers_files_cannot_be_reached(node: Node) -> None:
    other, _ = node.start("echo secret > /tmp/theirs; sleep 100")
    node.runc("start", other)
    upper = node.attempt(other) / "upper"
    said = node.sh(f"ls {upper} {node.directory} /proc/1/root/..; cat /proc/*/root/tmp/theirs; ps")
    assert "theirs" not in said.replace("/tmp/theirs", "")
    assert "secret" not in said


def test_a_read_only_root_filesystem_takes_nothing(node: Node) -> None:
    for fields in (
        {"rootfs": {"path": str(node.tree), "readOnly": True}},
        {"securityContext": {"readOnlyRootFilesystem": True}},
    ):
        said = node.sh("touch /x && echo written; touch /dev/shm/x && echo scratch", **fields)
        assert "Read-only file system" in said
        assert "written" not in said
        assert "scratch" in said


def test_a_container_without_network_has_nothing_but_lo(node: Node) -> None:
    said = node.sh("ls /sys/class/net; cat /proc/net/route")
    assert said.split()[0] == "lo"
    assert "eth" not in said


def addresses(pid: int) -> str:
    """The interfaces and addresses in the network namespace of a process."""
    command = ["nsenter", "-t", str(pid), "-n", "busybox", "ip", "addr"]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


async def test_lo_is_up_before_the_container_starts(node: Node) -> None:
    ours = os.readlink("/proc/self/ns/net")
    gc.collect()  # what earlier tests left
    descriptors = os.listdir("/proc/self/fd")
    _, pid = node.start("sleep 100")
    for _ in range(2):
        await loopback.up(pid)
    shown = addresses(pid)
    assert "<LOOPBACK,UP,LOWER_UP>" in shown
    assert "127.0.0.1/8" in shown
    assert os.readlink("/proc/self/ns/net") == ours
    assert os.listdir("/proc/self/fd") == descriptors


async def test_lo_of_a_process_that_ended_is_an_error() -> None:
    ended = await asyncio.create_subprocess_exec("true")
    await ended.wait()
    with pytest.raises(RuntimeFailure, match=f"process {ended.pid}"):
        await loopback.up(ended.pid)


def test_any_user_may_ping_and_listen_on_low_ports_of_its_own_network(node: Node) -> None:
    said = node.sh(
        "cat /proc/sys/net/ipv4/ping_group_range /proc/sys/net/ipv4/ip_unprivileged_port_start",
        securityContext={"runAsUser": 1000},
    )
    assert said.split() == ["0", "2147483647", "0"]


def test_the_host_network_is_the_nodes(node: Node) -> None:
    said = node.sh("ls /sys/class/net; readlink /proc/self/ns/net; cat /etc/resolv.conf", hostNetwork=True)
    assert set(os.listdir("/sys/class/net")) <= set(said.split())
    assert os.readlink("/proc/self/ns/net") in said


def test_limits_reach_the_cgroup(node: Node) -> None:
    first = "memory/memory.limit_in_bytes memory/memory.memsw.limit_in_bytes"
    first += " cpu/cpu.cfs_quota_us cpu/cpu.shares pids/pids.max"
    second = "memory.max memory.swap.max cpu.max cpu.weight pids.max"
    files = second if node_cgroups.UNIFIED else first
    limits = {"cpu": "500m", "memory": "64Mi"}
    said = node.sh(f"cd /sys/fs/cgroup; cat {files}; ulimit -n", resources={"limits": limits})
    open_files = str(min(1 << 20, facts.read().open_files))
    if node_cgroups.UNIFIED:
        assert said.split() == [str(64 << 20), "0", "50000", "100000", "20", "4096", open_files]
    else:
        assert said.split() == [str(64 << 20), str(64 << 20), "50000", "512", "4096", open_files]


def test_a_privileged_container_has_all_that_the_operator_has(node: Node) -> None:
    said = node.sh(
        "grep -E 'CapEff|Seccomp:' /proc/self/status; cd /sys/fs/cgroup; [ ! -d memory ] || cd memory;"
        "mkdir x && echo cgroup; rmdir x;"
        "mount -t tmpfs x /tmp && echo mounted; ls /dev; head -c0 /dev/kmsg && echo device",
        securityContext={"privileged": True},
    )
    ours = next(line for line in Path("/proc/self/status").read_text().splitlines() if "CapBnd" in line)
    assert f"CapEff:\t{ours.split()[1]}" in said
    assert "Seccomp:\t0" in said
    assert {"cgroup", "mounted", "device", "kmsg"} <= set(said.split())


def test_an_unconfined_container_keeps_its_small_set_of_capabilities(node: Node) -> None:
    said = node.sh(
        "grep -E 'CapEff|Seccomp:' /proc/self/status",
        securityContext={"seccompProfile": {"type": "Unconfined"}},
    )
    assert said.split() == ["CapEff:", "00000000800405fb", "Seccomp:", "0"]


def test_a_user_id_of_root_is_refused_when_the_spec_forbids_root(node: Node) -> None:
    with pytest.raises(BundleError, match="runAsNonRoot"):
        node.bundle(command=["id"], securityContext={"runAsNonRoot": True})
    assert mount.mounts_under(node.directory) == []


def test_names_that_mean_something_to_overlay_are_only_names(node: Node, tmp_path: Path) -> None:
    odd = tmp_path / "a:b,c\\d e\nf"
    shutil.copytree(node.tree, odd / "tree", symlinks=True)
    node.directory = tmp_path / "node,:\\ x"
    assert node.sh("echo fine", rootfs={"path": str(odd / "tree")}) == "fine\n"


def test_a_lower_layer_that_became_a_link_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("/etc")
    with pytest.raises(BundleError, match=r"^spec\.rootfs\.path"):
        rootfs.prepare(tmp_path / "link", tmp_path / "attempt", tmp_path / "root")
    assert not (tmp_path / "attempt").exists()
    assert mount.mounts_under(tmp_path) == []


def test_the_containers_root_has_the_owner_and_mode_of_the_tree(node: Node, tmp_path: Path) -> None:
    own = tmp_path / "own"
    own.mkdir()
    os.chown(own, 1000, 1001)
    own.chmod(0o2750)
    rootfs.prepare(own, tmp_path / "attempt", tmp_path / "root")
    try:
        top = (tmp_path / "root").stat()
        assert (top.st_uid, top.st_gid, stat.S_IMODE(top.st_mode)) == (1000, 1001, 0o2750)
        assert mount.is_mounted(tmp_path / "root")
    finally:
        for _ in range(2):
            rootfs.discard(tmp_path / "attempt", tmp_path / "root")
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["own"]


def test_what_a_killed_operator_left_of_an_attempt_is_replaced(node: Node, tmp_path: Path) -> None:
    attempt, target = tmp_path / "attempt", tmp_path / "root"
    rootfs.prepare(node.tree, attempt, target)
    (target / "left").touch()
    mount.unmount(target)
    rootfs.prepare(node.tree, attempt, target)
    assert not (target / "left").exists()
    with pytest.raises(BundleError, match="live attempt"):
        rootfs.prepare(node.tree, attempt, target)
    rootfs.discard(attempt, target)


def test_a_tree_made_to_resist_removal_is_removed(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "kept").touch()
    top = tmp_path / "top"
    top.mkdir()
    (top / "link").symlink_to(outside)
    os.mkfifo(top / "fifo")
    (top / "locked").mkdir(mode=0)
    (top / "locked/file").touch()
    (top / "immutable").mkdir()
    (top / "immutable/file").write_text("x")
    subprocess.run(["chattr", "+i", top / "immutable/file", top / "immutable"], check=True)
    here = os.open(top, os.O_RDONLY)
    for _ in range(3000):
        os.mkdir("d", dir_fd=here)
        below = os.open("d", os.O_RDONLY, dir_fd=here)
        os.close(here)
        here = below
    os.close(here)
    remove_tree(top)
    remove_tree(top)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["outside"]
    assert (outside / "kept").exists()


def test_what_is_put_into_a_tree_that_goes_is_removed_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As an exec does with its folder in the bundle of a container that ends this moment."""
    top, rmdir, late = tmp_path / "top", os.rmdir, ["one", "two", "three"]

    def after_somebody_elses_mkdir(name: str, *, dir_fd: int) -> None:
        if name == "top" and late:
            (top / late.pop() / "inside").mkdir(parents=True)
        rmdir(name, dir_fd=dir_fd)

    monkeypatch.setattr(os, "rmdir", after_somebody_elses_mkdir)
    top.mkdir()
    remove_tree(top)
    assert (top.exists(), late) == (False, [])


def test_a_filesystem_mounted_in_a_tree_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "top/mounted").mkdir(parents=True)
    mount.mount_tmpfs(tmp_path / "top/mounted", 1 << 20, 0o700)
    (tmp_path / "top/mounted/kept").touch()
    try:
        assert mount.mounts_under(tmp_path) == [tmp_path / "top/mounted"]
        with pytest.raises(OSError, match=r"\[Errno 18\]"):
            remove_tree(tmp_path / "top")
        assert (tmp_path / "top/mounted/kept").exists()
    finally:
        mount.unmount(tmp_path / "top/mounted")
    remove_tree(tmp_path / "top")


def test_unmounting_what_is_not_mounted_is_fine(tmp_path: Path) -> None:
    mount.unmount(tmp_path)
    mount.unmount(tmp_path / "missing")
    (tmp_path / "spaced name").mkdir()
    mount.mount_tmpfs(tmp_path / "spaced name", 1 << 20, 0o700)
    (tmp_path / "link").symlink_to("spaced name")
    mount.unmount(tmp_path / "link")
    assert mount.is_mounted(tmp_path / "spaced name")
    assert mount.mounts_under(tmp_path) == [tmp_path / "spaced name"]
    mount.unmount(tmp_path / "spaced name")
    assert not mount.is_mounted(tmp_path / "spaced name")


def test_a_private_directory_keeps_its_mounts(tmp_path: Path) -> None:
    for _ in range(2):
        mount.mount_private(tmp_path)
    lines = [line.split() for line in Path("/proc/self/mountinfo").read_text().splitlines() if f" {tmp_path} " in line]
    mount.unmount(tmp_path)
    assert len(lines) == 1
    assert not any(field.startswith(("shared:", "master:")) for field in lines[0])
