"""Clocks that jump, disks that fill, processes that try to get out: one node, real conmon and runc."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from oarlock.linux import mount
from tests import node_cgroups
from tests.node_dirs import NodeDirs
from tests.operating import PATIENCE, Operator, census, container, eventually, left, live_inits, operating
from tests.running import arguments

JUMPING = """
import sys
from datetime import timedelta
from pathlib import Path
from oarlock.cli import main
from oarlock.linux import clock
true = clock.wall
clock.wall = lambda: true() + timedelta(hours=float(Path({file!r}).read_text()))
sys.exit(main())
"""


@pytest.mark.parametrize("hours", [1, -1])
def test_a_jump_of_the_wall_clock_moves_neither_back_off_nor_grace(
    node_dirs: NodeDirs, busybox_rootfs: Path, hours: int
) -> None:
    offset, script = node_dirs.root / "offset", node_dirs.root / "jumping.py"
    offset.write_text("0")
    script.write_text(JUMPING.format(file=str(offset)))
    node = Operator(node_dirs, "--backoff-initial", "3s", entry=(str(script),))
    node.start()
    try:
        node.wait_ready()
        first = time.monotonic()
        deaf = ("sh", "-c", "trap '' TERM; while :; do sleep 1000; done")
        node.apply(
            container("flaky", busybox_rootfs, "sh", "-c", "exit 3"),
            container("deaf", busybox_rootfs, *deaf, terminationGracePeriodSeconds=3),
        )
        node.wait("flaky", lambda s: s["phase"] == "BackOff")
        node.wait("deaf", lambda s: s["phase"] == "Running")
        began = time.monotonic()
        node.apply(container("flaky", busybox_rootfs, "sh", "-c", "exit 3"))
        node.wait("deaf", lambda s: s["phase"] == "Stopping")
        offset.write_text(str(hours))
        node.wait("flaky", lambda s: s["restartCount"] == 2)
        assert time.monotonic() - first > 2.5, "the back-off, which began after that"
        assert time.monotonic() - began < 20 * PATIENCE
        eventually(lambda: "deaf" not in node.records(), "killed when its grace period was over")
        assert 2.5 < time.monotonic() - began < 30 * PATIENCE
    finally:
        node.kill()


@contextmanager
def small_disk(folder: Path) -> Iterator[None]:
    """A state directory of 6 MiB."""
    folder.mkdir()
    mount.mount_tmpfs(folder, 6 << 20, 0o700)
    try:
        yield
    finally:
        mount.unmount(folder)


def fill(folder: Path) -> Path:
    """Fill the disk that a folder lies on; the file that does it."""
    filler = folder / "filler"
    with filler.open("wb", buffering=0) as file, pytest.raises(OSError, match="No space left"):
        while True:
            file.write(b"x" * 4096)
    return filler


def test_a_full_disk_is_told_harms_nothing_and_is_got_over(node_dirs: NodeDirs, busybox_rootfs: Path) -> None:
    with small_disk(node_dirs.state), operating(node_dirs) as node:
        old = container("old", busybox_rootfs, "sh", "-c", "while [ ! -e /go ]; do sleep 0.05; done; exit 5")
        node.apply(old)
        pid = node.wait("old", lambda s: s["phase"] == "Running")["pid"]
        go = Path(f"/proc/{pid}/root/go")
        go.touch()  # made while there is room; it is what ends the container
        filler = fill(node_dirs.state)
        node.apply(old, container("new", busybox_rootfs, "sleep", "1000"))
        eventually(lambda: "No space left" in node.log(), "the full disk is told")
        assert node.process is not None
        assert node.process.poll() is None, node.log()
        filler.unlink()
        node.wait("new", lambda s: s["phase"] == "Running", 90)
        status = node.wait("old", lambda s: s["phase"] == "Running" and s["restartCount"] >= 1, 90)
        assert status["lastState"]["terminated"]["exitCode"] == 5
        (node_dirs.manifests / "objects.yaml").unlink()
        eventually(lambda: not node.records(), "gone", 60)
        assert census(node_dirs) == {kind: set() for kind in census(node_dirs)}


def test_what_fills_the_disk_can_be_stopped_and_removed(node_dirs: NodeDirs, busybox_rootfs: Path) -> None:
    script = "until [ -e /go ]; do sleep 0.05; done; cat /dev/zero > /big; exec sleep 1000"
    with small_disk(node_dirs.state), operating(node_dirs) as node:
        hogs = [
            container(name, busybox_rootfs, "sh", "-c", script, terminationGracePeriodSeconds=0) for name in ("a", "b")
        ]
        node.apply(*hogs)
        pids = {name: node.wait(name, lambda s: s["phase"] == "Running")["pid"] for name in ("a", "b")}
        for name, pid in pids.items():
            Path(f"/proc/{pid}/root/go").touch()
            eventually(lambda pid=pid: arguments(pid).startswith(b"sleep\0"), f"{name} has filled the disk")
        eventually(lambda: free(node_dirs.state) == 0, "nothing is free")
        refused = node.command("stop", "a", check=False)
        assert refused.returncode == 1
        assert "default/a: " in refused.stderr
        assert "No space left on device; make room there" in refused.stderr
        hogs[0]["spec"]["state"] = "Stopped"
        node.apply(*hogs)
        assert node.wait("a", lambda s: s["phase"] == "Stopped", 90)["exitCode"] == 137
        assert free(node_dirs.state) > 0
        fill(node_dirs.state)
        node.apply(hogs[0])
        eventually(lambda: "b" not in node.records(), "b is gone", 90)


def test_a_log_that_fills_the_disk_costs_output_alone(node_dirs: NodeDirs, busybox_rootfs: Path) -> None:
    writes = "head -c 9000000 /dev/zero | tr '\\0' a | fold -w 1000"
    waits = "until [ -e /go ]; do sleep 0.05; done"
    script = f"trap 'echo; echo after; exit 5' TERM; {waits}; {writes}; while :; do sleep 4242 & wait; done"
    with small_disk(node_dirs.state), operating(node_dirs) as node:
        filler = node_dirs.state / "filler"
        filler.write_bytes(b"x" * (1 << 20))
        chatty = container("chatty", busybox_rootfs, "sh", "-c", script)
        node.apply(chatty)
        status = node.wait("chatty", lambda s: s["phase"] == "Running")
        Path(f"/proc/{status['pid']}/root/go").touch()
        procs = node_cgroups.folder_of(status["pid"], "pids") / "cgroup.procs"
        eventually(lambda: any(map(is_sleeping, procs.read_text().split())), "it has written all", 90)
        eventually(lambda: free(node_dirs.state) == 0, "nothing is free")
        node.apply(chatty, container("new", busybox_rootfs, "sleep", "1000"))
        eventually(lambda: "default/new: NodeFull" in node.log(), "the full disk is told")
        assert len(live_inits(node_dirs)) == 1
        assert {name: node.status("chatty")[name] for name in ("phase", "pid", "monitorPID")} == {
            name: status[name] for name in ("phase", "pid", "monitorPID")
        }
        filler.unlink()
        node.wait("new", lambda s: s["phase"] == "Running", 90)
        node.command("stop", "chatty")
        assert node.status("chatty")["exitCode"] == 5
        node.removed("chatty")
        logs = node.command("logs", "chatty").stdout.splitlines()
        assert logs[-1].endswith("after")  # conmon may have written a part of a line for which there was room
        assert set(logs[:1000]) == {"a" * 1000}
        node.apply()
        eventually(lambda: not node.records() and not left(node_dirs), "nothing is left", 60)


def free(folder: Path) -> int:
    """Bytes that can still be written there."""
    facts = os.statvfs(folder)
    return facts.f_bavail * facts.f_frsize


def is_sleeping(pid: str) -> bool:
    """Whether a container's script has come to its end."""
    with suppress(FileNotFoundError, ProcessLookupError):
        return Path(f"/proc/{pid}/cmdline").read_bytes() == b"sleep\0004242\0"
    return False


def test_nothing_of_the_operator_is_in_a_container(node_dirs: NodeDirs, busybox_rootfs: Path) -> None:
    node = Operator(node_dirs)
    node.start(OARLOCK_SECRET="x", NOTIFY_SOCKET="/run/nowhere", LISTEN_PID="1")
    try:
        node.apply(container("web", busybox_rootfs, "sleep", "1000", env=[{"name": "A", "value": "b"}]))
        pid = node.wait("web", lambda s: s["phase"] == "Running")["pid"]
        environ = Path(f"/proc/{pid}/environ")
        eventually(lambda: arguments(pid) == b"sleep\x001000\x00" and environ.read_bytes(), "the command is executed")
        environment = dict(pair.split("=", 1) for pair in environ.read_text().split("\0") if pair)
        assert set(environment) == {"PATH", "HOME", "HOSTNAME", "A"}
        assert environment["HOSTNAME"] == "web"
        assert {entry.name for entry in Path(f"/proc/{pid}/fd").iterdir()} <= {"0", "1", "2"}
    finally:
        node.kill()


def test_a_container_reaches_neither_its_given_tree_nor_another_ones_layer(
    node_dirs: NodeDirs, busybox_rootfs: Path
) -> None:
    writes = ("/etc/passwd", "/sys/fs/cgroup/x", "/proc/sys/kernel/hostname", "/proc/sysrq-trigger", "/new")
    tries = "; ".join(f"(echo x > {path}) 2>/dev/null && echo wrote {path}" for path in writes)
    before = (busybox_rootfs / "etc/passwd").read_bytes()
    with operating(node_dirs) as node:
        three = container("three", busybox_rootfs, "sh", "-c", f"{tries}; sleep 1000")
        three["spec"]["rootfs"]["readOnly"] = True
        node.apply(
            container("one", busybox_rootfs, "sh", "-c", f"{tries}; touch /mine; sleep 1000"),
            container("two", busybox_rootfs, "sh", "-c", "ls /; sleep 1000"),
            three,
        )
        for name in ("one", "two", "three"):
            node.wait(name, lambda s: s["phase"] == "Running")
        eventually(lambda: "/new" in node.command("logs", "one").stdout, "it has tried")
        assert node.command("logs", "one").stdout.split() == ["wrote", "/etc/passwd", "wrote", "/new"]
        assert "mine" not in node.command("logs", "two").stdout
        assert node.command("logs", "three").stdout == ""
    assert (busybox_rootfs / "etc/passwd").read_bytes() == before
    assert not (busybox_rootfs / "new").exists()


def command_lines() -> Iterator[bytes]:
    """The arguments of every process."""
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            with suppress(FileNotFoundError, ProcessLookupError):
                yield (entry / "cmdline").read_bytes()


def test_records_and_bundles_are_for_root_alone(node_dirs: NodeDirs, busybox_rootfs: Path) -> None:
    with operating(node_dirs) as node:
        node.apply(container("web", busybox_rootfs, "sleep", "1000", env=[{"name": "TOKEN", "value": "s3cret"}]))
        node.wait("web", lambda s: s["phase"] == "Running")
        for folder in (node_dirs.state, node_dirs.run):
            assert folder.stat().st_mode & 0o777 == 0o700
        for path in (*node_dirs.state.glob("records/*.json"), *node_dirs.run.glob("bundles/*/config.json")):
            assert path.stat().st_mode & 0o777 == 0o600
        assert "s3cret" not in node.log()
        assert not any(b"s3cret" in arguments for arguments in command_lines())


def test_records_of_another_node_are_refused_and_left_alone(node_dirs: NodeDirs, busybox_rootfs: Path) -> None:
    with operating(node_dirs) as node:
        node.apply(container("web", busybox_rootfs, "sleep", "1000"))
        pid = node.wait("web", lambda s: s["phase"] == "Running")["pid"]
        node.kill()
        refused = node.command("run", "--node-name", "node-b", check=False)
        assert refused.returncode == 1
        assert "node-a" in refused.stderr
        os.kill(pid, 0)


def test_a_program_whose_name_no_kernel_takes_is_told_and_holds_up_nothing(
    node_dirs: NodeDirs, busybox_rootfs: Path
) -> None:
    with operating(node_dirs) as node:
        node.apply(container("long", busybox_rootfs, "x" * 70_000, restartPolicy="Never"))
        status = node.wait("long", lambda s: s["phase"] == "Failed")
        assert (status["reason"], status["exitCode"]) == ("ContainerCannotRun", 126)
        assert "file name too long, 70000 bytes" in status["message"]
        assert len(status["message"]) < 200


def test_a_process_may_call_itself_anything(node_dirs: NodeDirs, busybox_rootfs: Path) -> None:
    """Not UTF-8, and like the end of a name in /proc/PID/stat."""
    naming = "printf '\\377) R 1' > /proc/self/comm"
    script = f"{naming}; trap 'exit 7' TERM; touch /named; while :; do sleep 1000 & wait; done"
    with operating(node_dirs) as node:
        node.apply(container("web", busybox_rootfs, "sh", "-c", script))
        pid = node.wait("web", lambda s: s["phase"] == "Running")["pid"]
        eventually(Path(f"/proc/{pid}/root/named").exists, "it has its name")
        assert b"\xff) R 1" in Path(f"/proc/{pid}/stat").read_bytes()
        node.kill()
        node.start()
        node.wait_ready(2)
        assert node.wait("web", lambda s: s["phase"] == "Running")["pid"] == pid
        assert node.command("exec", "--timeout", "60s", "web", "--", "echo", "on").stdout == "on\n"
        node.command("stop", "web")
        assert node.status("web")["exitCode"] == 7
        assert "a defect in oarlock" not in node.log()


@pytest.mark.parametrize("rootfs", ["/nope/nope", "/etc"])
def test_what_cannot_start_can_be_stopped(node_dirs: NodeDirs, rootfs: str) -> None:
    with operating(node_dirs) as node:
        node.apply(container("web", Path(rootfs), "sleep", "1000"))
        node.wait("web", lambda s: s["reason"] == "CreateContainerConfigError")
        assert node.command("stop", "web").stdout == "default/web stopped\n"
        assert node.status("web")["phase"] == "Stopped"
        row = node.command("ps").stdout.splitlines()[1].split()
        assert row[1:4] == ["web", "Stopped", "Stopped"]
        node.command("start", "--no-wait", "web")
        node.wait("web", lambda s: s["reason"] == "CreateContainerConfigError")


@contextmanager
def served_by_nobody(folder: Path) -> Iterator[int]:
    """A file system whose server never answers, until the descriptor is closed: FUSE without a daemon."""
    fuse = os.open("/dev/fuse", os.O_RDWR)
    try:
        options = f"fd={fuse},rootmode=40000,user_id=0,group_id=0"
        command = ["mount", "-i", "-t", "fuse", "nobody", folder, "-o", options]
        subprocess.run(command, check=True, pass_fds=[fuse])
        yield fuse
    finally:
        mount.unmount(folder)


def test_a_root_filesystem_that_does_not_answer_holds_up_no_other_object(
    node_dirs: NodeDirs, busybox_rootfs: Path
) -> None:
    away = node_dirs.root / "away"
    away.mkdir()
    with operating(node_dirs) as node, served_by_nobody(away) as server:
        hung = [container(f"hung-{number}", away, "sleep", "1000") for number in range(10)]
        node.apply(*hung, file="hung.yaml")
        node.wait_ready()
        node.apply(container("web", busybox_rootfs, "sleep", "1000", terminationGracePeriodSeconds=0))
        node.wait("web", lambda s: s["phase"] == "Running")
        told = node.wait("hung-3", lambda s: s["reason"] == "CreateContainerConfigError")
        assert f"spec.rootfs.path: {away} gives no answer within 5 s" in told["message"]
        node.command("stop", "web")
        assert threads(node) < 30
        os.close(server)
        node.wait("hung-3", lambda s: "Transport endpoint is not connected" in s["message"], 70)
        node.apply(file="hung.yaml")
        eventually(lambda: set(node.records()) == {"web"}, "they are gone")


def threads(node: Operator) -> int:
    assert node.process is not None
    return len(list(Path(f"/proc/{node.process.pid}/task").iterdir()))


def test_a_broken_record_is_one_sentence(node_dirs: NodeDirs, busybox_rootfs: Path) -> None:
    with operating(node_dirs) as node:
        node.apply(container("web", busybox_rootfs, "true", restartPolicy="Never"))
        node.wait("web", lambda s: s["phase"] == "Succeeded")
        node.stop()
        (record,) = (node_dirs.state / "records").glob("[!.]*.json")
        for each in (node_dirs.state / "records").iterdir():
            each.write_text("{")  # the one before it too
        before = len(node.log().splitlines())
        node.start()
        assert node.ends() == 1
        (line,) = node.log().splitlines()[before:]
        assert f"record {record} cannot be read" in line


def test_one_state_directory_has_one_operator(node_dirs: NodeDirs) -> None:
    with operating(node_dirs) as first:
        first.wait_ready()
        second = Operator(node_dirs, "--run-dir", str(node_dirs.root / "another"))
        second.start()
        assert second.ends() == 1
        assert first.process is not None
        assert f"oarlock with pid {first.process.pid} (node node-a) already runs there" in second.log()


def test_containers_of_one_name_and_cgroup_parent_have_one_operator(node_dirs: NodeDirs) -> None:
    others = ("--run-dir", str(node_dirs.root / "run-b"), "--state-dir", str(node_dirs.root / "state-b"))
    with operating(node_dirs) as first:
        first.wait_ready()
        assert first.process is not None
        second = Operator(node_dirs, *others)
        second.start()
        assert second.ends() == 1
        told = f"--cgroup-parent {node_dirs.cgroup_parent}: oarlock with pid {first.process.pid} (node node-a) already"
        assert told in second.log()


def test_containers_that_go_on_are_not_left_behind_by_other_directories(
    node_dirs: NodeDirs, busybox_rootfs: Path
) -> None:
    """A state directory that is mistyped, or not mounted, is no reason to kill what it does not know."""
    others = (("--state-dir", str(node_dirs.root / "b")), ("--run-dir", str(node_dirs.root / "c")))
    with operating(node_dirs) as node:
        node.apply(container("web", busybox_rootfs, "sleep", "1000", terminationGracePeriodSeconds=0))
        pid = node.wait("web", lambda s: s["phase"] == "Running")["pid"]
        node.stop()
        for wrong in (*others, (*others[0], *others[1])):
            done = node.command("run", *wrong, check=False)
            assert done.returncode == 2
            assert f"under --state-dir {node_dirs.state}, --run-dir {node_dirs.run}; start with these" in done.stderr
        mounted = node_dirs.state.rename(node_dirs.root / "not mounted")
        done = node.command("run", check=False)
        assert (done.returncode, f"--state-dir {node_dirs.state}: it is empty" in done.stderr) == (2, True)
        shutil.rmtree(node_dirs.state)
        mounted.rename(node_dirs.state)
        node.start()
        node.wait_ready(2)
        assert node.status("web")["pid"] == pid
        node.apply()
        eventually(lambda: not node.records(), "it is removed")
        node.stop()
        second = Operator(node_dirs, *others[0], *others[1])
        second.start()
        second.wait_ready(3)
        second.kill()


def test_empty_cgroups_that_are_nobodys_are_removed(node_dirs: NodeDirs, busybox_rootfs: Path) -> None:
    stray = node_cgroups.folder(node_dirs.cgroup, "pids") / "oarlock-conmon-stray-1"
    stray.mkdir(parents=True)
    with operating(node_dirs) as node:
        node.wait_ready()
        assert not stray.exists()


@pytest.mark.parametrize("controller", ["freezer", "cpuset"])
def test_a_monitor_leaves_the_unit_that_the_operator_runs_in(
    node_dirs: NodeDirs, busybox_rootfs: Path, controller: str
) -> None:
    """A new cpuset of version 1 takes no process until it has CPUs."""
    unit = node_cgroups.folder(f"/oar-{controller}", controller)
    unit.mkdir(exist_ok=True)
    for name in ("cpuset.cpus", "cpuset.mems") if controller == "cpuset" and not node_cgroups.UNIFIED else ():
        if not (unit / name).read_text().strip():
            (unit / name).write_text((unit.parent / name).read_text())
    with operating(node_dirs) as node:
        assert node.process is not None
        (unit / "cgroup.procs").write_text(str(node.process.pid))
        node.apply(container("web", busybox_rootfs, "sleep", "1000"))
        status = node.wait("web", lambda s: s["phase"] == "Running")
        assert set(map(int, (unit / "cgroup.procs").read_text().split())) == {node.process.pid}
        own = f"oarlock-conmon-{status['containerID'].removeprefix('oarlock://')}"
        monitor = node_cgroups.folder_of(status["monitorPID"], controller)
        assert (monitor.parent, monitor.stem) == (node_cgroups.folder(node_dirs.cgroup, controller), own)
        assert unit.name not in Path(f"/proc/{status['pid']}/cgroup").read_text()
    unit.rmdir()
