"""What is watched while a container runs: its monitor, the OOM killer, processes that do not end."""

from __future__ import annotations

import contextlib
import ctypes
import math
import os
import re
import signal
import stat
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from oarlock.linux.process import hold
from tests import node_cgroups
from tests.node_dirs import NodeDirs
from tests.operating import KERNEL_TELLS_EXITS, PATIENCE, Operator, container, eventually, left, operating

AT_ONCE = 1.0 * PATIENCE
"""Seconds in which it is told that a monitor was killed."""


def degraded(status: dict[str, Any]) -> tuple[str, str] | None:
    """Reason and sentence of the condition Degraded, while there is one."""
    for each in status.get("conditions", ()):
        if each["type"] == "Degraded":
            assert each["status"] == "True"
            return each["reason"], each["message"]
    return None


@contextmanager
def traced(pid: int) -> Iterator[None]:
    """A process that stands still as under a debugger: CONT does not wake it, and KILL ends it."""
    libc = ctypes.CDLL(None, use_errno=True)
    for request in (0x4206, 0x4207):  # PTRACE_SEIZE, PTRACE_INTERRUPT of linux/ptrace.h
        assert libc.ptrace(ctypes.c_long(request), pid, None, None) == 0, os.strerror(ctypes.get_errno())
    try:
        yield
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0x40000000)  # __WALL


def kill_the_monitor(node: Operator, name: str) -> int:
    """Kill conmon with KILL; the container's pid."""
    status = node.wait(name, lambda s: s["phase"] == "Running")
    os.kill(status["monitorPID"], signal.SIGKILL)
    return int(status["pid"])


def test_a_killed_monitor_is_noticed_at_once_and_the_exit_is_honest(node_dirs: NodeDirs, busybox_rootfs: Path) -> None:
    """Of three tries the fastest counts: others may want the processor."""
    took: list[float] = []
    with operating(node_dirs) as node:
        while len(took) < 3 and min(took, default=math.inf) >= AT_ONCE:
            name = f"web-{len(took)}"
            web = container(name, busybox_rootfs, "sh", "-c", "sleep 1000 & wait", restartPolicy="Never")
            node.apply(web, file=f"{name}.yaml")
            pid = kill_the_monitor(node, name)
            began = time.monotonic()
            status = node.wait(name, degraded)
            took.append(time.monotonic() - began)
            assert degraded(status) == ("MonitorLost", degraded(status)[1])  # type: ignore[index]
            assert "conmon" in degraded(status)[1]  # type: ignore[index]
            assert (status["phase"], status["pid"]) == ("Running", pid)
            eventually(lambda name=name: f"default/{name}: MonitorLost" in node.log(), "it is logged")
            eventually(lambda: not node_cgroups.containers(node_dirs.cgroup)[1], "the monitor's cgroup is gone")
            os.kill(pid, signal.SIGKILL)
            ended_unseen(node, name, 137, 9)
        eventually(lambda: not left(node_dirs), "nothing is left")
    assert min(took) < AT_ONCE, took


def ended_unseen(node: Operator, name: str, code: int, number: int | None) -> None:
    """How a container without a monitor ended is the kernel's word, or unknown."""
    status = node.wait(name, lambda s: not s.get("pid"))
    assert degraded(status) is None
    if KERNEL_TELLS_EXITS:
        assert (status["phase"], status["exitCode"], status.get("signal")) == ("Failed", code, number)
    else:
        assert (status["phase"], status["reason"]) == ("Unknown", "ContainerStatusUnknown")
        assert (status["exitCode"], "its monitor was killed" in status["message"]) == (-1, True)


def test_what_writes_without_a_monitor_meets_a_broken_pipe(node_dirs: NodeDirs, busybox_rootfs: Path) -> None:
    """The kernel spares the init of a pid namespace SIGPIPE, but not the error; at a terminal it is another one."""
    script = (
        "until [ -e /go ]; do sleep 0.1; done; echo lost; echo $? > /said; busybox cat /etc/hostname; "
        "echo $? >> /said; until [ -e /end ]; do sleep 0.1; done; exec yes"
    )
    met = {"pipe": [1, 128 + signal.SIGPIPE], "terminal": [1, 1]}
    with operating(node_dirs) as node:
        for name in met:
            web = container(name, busybox_rootfs, "sh", "-c", script, restartPolicy="Never", tty=name == "terminal")
            node.apply(web, file=f"{name}.yaml")
        roots = {name: Path(f"/proc/{kill_the_monitor(node, name)}/root") for name in met}
        for name, root in roots.items():
            sentence = (degraded(node.wait(name, degraded)) or ("", ""))[1]
            assert "a process that writes meets EPIPE or SIGPIPE (EIO at a terminal), and may end of it" in sentence
            (root / "go").touch()
        for name, root in roots.items():
            eventually(lambda root=root: len(said(root)) == 2, "it has tried twice, and goes on")
            assert (said(root), node.status(name)["phase"]) == (met[name], "Running")
            (root / "end").touch()
        for name in met:
            ended_unseen(node, name, 1, None)
        eventually(lambda: not left(node_dirs), "nothing is left")


def said(root: Path) -> list[int]:
    """The exit codes that a container has written down."""
    return [int(line) for line in (root / "said").read_text().split()] if (root / "said").exists() else []


def test_a_monitor_that_was_stopped_hides_no_exit(node_dirs: NodeDirs, busybox_rootfs: Path) -> None:
    """It is woken, so that it tells the exit code on kernels that do not."""
    with operating(node_dirs) as node:
        fields: dict[str, Any] = {"restartPolicy": "Never", "terminationGracePeriodSeconds": 0}
        job = container("job", busybox_rootfs, "sh", "-c", "until [ -e /go ]; do sleep 0.1; done; exit 3", **fields)
        node.apply(job, container("web", busybox_rootfs, "sleep", "1000", **fields))
        running = {name: node.wait(name, lambda s: s["phase"] == "Running") for name in ("job", "web")}
        for status in running.values():
            os.kill(status["monitorPID"], signal.SIGSTOP)
        Path(f"/proc/{running['job']['pid']}/root/go").touch()
        node.command("stop", "web", "--timeout", "120s")
        assert node.status("web")["exitCode"] == 137
        assert node.wait("job", lambda s: s["phase"] == "Failed")["exitCode"] == 3
        assert f"conmon, pid {running['job']['monitorPID']}, hangs though its container has ended" in node.log()
        assert "StillRunning" not in node.log()
        eventually(lambda: not left(node_dirs), "nothing is left")


def test_a_monitor_that_hangs_is_killed_and_hides_no_exit(node_dirs: NodeDirs, busybox_rootfs: Path) -> None:
    with operating(node_dirs) as node:
        node.apply(container("web", busybox_rootfs, "sleep", "1000", terminationGracePeriodSeconds=0))
        status = node.wait("web", lambda s: s["phase"] == "Running")
        with traced(status["monitorPID"]):
            node.command("stop", "web", "--timeout", "120s")
            told = node.status("web")
        assert told["exitCode"] == (137 if KERNEL_TELLS_EXITS else -1)
        assert KERNEL_TELLS_EXITS or "while its monitor (conmon) hung" in told["message"]
        assert "hangs though its container has ended: it is killed" in node.log()
        eventually(lambda: not left(node_dirs), "nothing is left")


def test_a_client_that_reads_nothing_hides_no_exit(node_dirs: NodeDirs, busybox_rootfs: Path) -> None:
    """conmon waits for it to read, and asks nobody for the exit code meanwhile."""
    script = "until [ -e /go ]; do echo ready; sleep 0.1; done; exec cat /dev/zero"
    shown = node_dirs.root / "shown"
    with operating(node_dirs) as node:
        node.apply(container("web", busybox_rootfs, "sh", "-c", script, restartPolicy="Never"))
        status = node.wait("web", lambda s: s["phase"] == "Running")
        pid = status["pid"]
        with node.beside("attach", "web", output=shown) as client:
            eventually(lambda: "ready" in shown.read_text(), "it is attached")
            client.send_signal(signal.SIGSTOP)
            Path(f"/proc/{pid}/root/go").touch()
            eventually(lambda: waits_for_its_reader(pid, status["monitorPID"]), "the container waits for the client")
            os.kill(pid, signal.SIGKILL)
            assert node.wait("web", lambda s: s["phase"] == "Failed")["exitCode"] == 137
        assert "its attached clients are let go" in node.log()
        assert "it is killed" not in node.log()
        eventually(lambda: not left(node_dirs), "nothing is left")


def waits_for_its_reader(pid: int, monitor: int) -> bool:
    """Whether `cat` has written nothing for a second, since it and its monitor both wait."""
    before, _, after = (io := Path(f"/proc/{pid}/io")).read_bytes(), time.sleep(PATIENCE), io.read_bytes()
    waits = {state(pid), state(monitor)} == {"S"}
    return waits and before == after and b"cat" in Path(f"/proc/{pid}/comm").read_bytes()


def test_a_monitor_killed_while_the_operator_is_away_is_noticed_at_its_start(
    node_dirs: NodeDirs, busybox_rootfs: Path
) -> None:
    node = Operator(node_dirs)
    node.start()
    try:
        node.apply(container("web", busybox_rootfs, "sleep", "1000", terminationGracePeriodSeconds=1))
        node.wait("web", lambda s: s["phase"] == "Running")
        node.kill()
        pid = kill_the_monitor(node, "web")
        node.start()
        status = node.wait("web", degraded)
        assert (status["phase"], status["pid"]) == ("Running", pid)
        # Replacing the container is the way out: the next one has a monitor.
        node.command("restart", "web")
        status = node.wait("web", lambda s: s["phase"] == "Running" and s["pid"] != pid)
        assert degraded(status) is None
        assert Path(f"/proc/{status['monitorPID']}").exists()
    finally:
        node.kill()


def test_a_child_taken_by_the_oom_killer_is_told_while_init_lives(node_dirs: NodeDirs, busybox_rootfs: Path) -> None:
    hungry = ("sh", "-c", "(tail /dev/zero; :) ; exec sleep 1000")
    limits = {"limits": {"memory": "32Mi"}}
    with operating(node_dirs) as node:
        node.apply(container("web", busybox_rootfs, *hungry, resources=limits, terminationGracePeriodSeconds=0))
        eventually(lambda: "OOMKilling" in node.log(), "the OOM kill is told")
        status = node.status("web")
        assert (status["phase"], status.get("oomKilled")) == ("Running", None)
        assert "took a child process; init lives on" in node.log()
        node.command("stop", "web")
        assert node.status("web")["oomKilled"] is True


def test_an_oom_kill_without_a_monitor_is_told_by_the_kernels_count(node_dirs: NodeDirs, busybox_rootfs: Path) -> None:
    """But on version 1 under systemd, where the count ends with the container."""
    script = "until [ -e /go ]; do sleep 0.1; done; tail /dev/zero; exit 3"
    limits = {"limits": {"memory": "32Mi"}}
    with operating(node_dirs) as node:
        node.apply(container("web", busybox_rootfs, "sh", "-c", script, resources=limits, restartPolicy="Never"))
        pid = kill_the_monitor(node, "web")
        node.wait("web", degraded)
        Path(f"/proc/{pid}/root/go").touch()
        status = node.wait("web", lambda s: not s.get("pid"))
        if node_cgroups.UNIFIED or node_cgroups.MANAGER == "cgroupfs":
            assert status["oomKilled"] is True
        if KERNEL_TELLS_EXITS:
            assert (status["exitCode"], status["reason"]) == (3, "OOMKilled")
            assert "took a child process of it" in status["message"]


def test_a_container_with_the_nodes_pids_leaves_no_child_behind(node_dirs: NodeDirs, busybox_rootfs: Path) -> None:
    script = "trap '' TERM; for i in 1 2 3; do (trap '' TERM; exec sleep 4242) & done; wait"
    fields: dict[str, Any] = {"hostPID": True, "terminationGracePeriodSeconds": 1}
    with operating(node_dirs, "--allow-host-pid") as node:
        node.apply(container("stopped", busybox_rootfs, "sh", "-c", script, **fields))
        node.apply(
            container("ended", busybox_rootfs, "sh", "-c", "sleep 4242 & exit 3", hostPID=True, restartPolicy="Never"),
            file="ended.yaml",
        )
        status = node.wait("stopped", lambda s: s["phase"] == "Running")
        procs = node_cgroups.folder_of(status["pid"], "pids") / "cgroup.procs"
        eventually(lambda: len(procs.read_text().split()) == 4, "its children run")
        children = [int(pid) for pid in procs.read_text().split()]
        node.command("stop", "stopped")
        eventually(lambda: all(state(pid) in ("", "Z") for pid in children), "no child is left")
        assert node.wait("ended", lambda s: s["phase"] == "Failed")["exitCode"] == 3
        eventually(lambda: not left(node_dirs), "nothing is left")


WRITER = "until [ -e /mnt/lost+found ]; do sleep 0.1; done; while :; do echo x > /mnt/x; done"


def test_a_process_that_does_not_end_is_reported(node_dirs: NodeDirs, busybox_rootfs: Path) -> None:
    """A frozen file system holds a writer in uninterruptible sleep: KILL waits until it is thawed."""
    with operating(node_dirs) as node:
        node.apply(container("writer", busybox_rootfs, "sh", "-c", WRITER, terminationGracePeriodSeconds=0))
        pid = node.wait("writer", lambda s: s["phase"] == "Running")["pid"]
        process = hold(pid)
        assert process is not None
        assert not process.is_dying()
        with disk_in(pid, node_dirs.root / "disk") as point, contextlib.closing(process):
            eventually((point / "x").exists, "it writes")
            freeze("--freeze", point)
            try:
                eventually(lambda: state(pid) == "D", "it sleeps in the kernel")
                (node_dirs.manifests / "objects.yaml").unlink()
                status = node.wait("writer", degraded, 40)
                reason, message = degraded(status) or ("", "")
                assert (status["phase"], reason) == ("Stopping", "StillRunning")
                assert "uninterruptible sleep" in message
                assert f"pid {pid} (sh" in message
                assert "StillRunning" in node.log()
                assert process.is_dying()
            finally:
                freeze("--unfreeze", point)
            eventually(lambda: not node.records(), "it has ended, and is gone")


def test_paused_means_every_process_or_none(node_dirs: NodeDirs, busybox_rootfs: Path) -> None:
    with operating(node_dirs) as node:
        web = container("web", busybox_rootfs, "sh", "-c", WRITER, terminationGracePeriodSeconds=0)
        node.apply(web)
        pid = node.wait("web", lambda s: s["phase"] == "Running")["pid"]
        with disk_in(pid, node_dirs.root / "disk") as point:
            eventually((point / "x").exists, "it writes")
            freeze("--freeze", point)
            try:
                eventually(lambda: state(pid) == "D", "it sleeps in the kernel")
                node.apply(web | {"spec": web["spec"] | {"state": "Paused"}})
                told = node.wait("web", lambda s: s["reason"] in ("PauseContainerError", "Paused"), 60)
                if not node_cgroups.UNIFIED and told["phase"] == "Paused":
                    assert node_cgroups.frozen(pid)  # version 1 of newer kernels freezes this sleep too
                else:
                    assert told["phase"] == "Running"
                    assert f"pid {pid} (sh" in told["message"]
            finally:
                freeze("--unfreeze", point)
            node.wait("web", lambda s: s["phase"] == "Paused", 60)
            assert node_cgroups.frozen(pid)
            node.command("stop", "web")


@contextmanager
def disk_in(pid: int, image: Path) -> Iterator[Path]:
    """A small file system of its own, mounted at /mnt of a container; its place in this mount namespace."""
    point = image.with_suffix(".d")
    point.mkdir()
    run("truncate", "--size", "8M", str(image))
    run("mke2fs", "-q", "-F", "-t", "ext4", str(image))
    run("mount", "-o", "loop", str(image), str(point))
    try:
        device = run("findmnt", "-no", "SOURCE", str(point)).strip()
        os.mknod(f"/proc/{pid}/root{device}", 0o600 | stat.S_IFBLK, os.stat(device).st_rdev)
        run("nsenter", "--target", str(pid), "--mount", "/bin/busybox", "mount", "-t", "ext4", device, "/mnt")
        yield point
    finally:
        run("umount", str(point))


def freeze(what: str, point: Path) -> None:
    """Freeze or thaw a file system."""
    run("fsfreeze", what, str(point))


def run(*command: str) -> str:
    """Run a command of the machine's; what it prints."""
    silent = subprocess.DEVNULL
    return subprocess.run(command, stdin=silent, capture_output=True, text=True, timeout=60, check=True).stdout


def state(pid: int) -> str:
    """A process's state, as ps(1) shows it; empty when it is gone."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return ""


def test_an_untrusted_privileged_container_is_refused_or_warned_of(node_dirs: NodeDirs, busybox_rootfs: Path) -> None:
    fields = {"trusted": False, "securityContext": {"privileged": True}, "terminationGracePeriodSeconds": 0}
    node = Operator(node_dirs)
    node.start(OARLOCK_ALLOW_PRIVILEGED="true")
    try:
        node.apply(container("web", busybox_rootfs, "sleep", "1000", **fields))
        status = node.wait("web", lambda s: s.get("reason") == "Refused")
        assert "--allow-untrusted-privileged" in status["message"]
        node.stop()
        node.start(OARLOCK_ALLOW_PRIVILEGED="true", OARLOCK_ALLOW_UNTRUSTED_PRIVILEGED="true")
        status = node.wait("web", lambda s: s["phase"] == "Running" and degraded(s))
        assert degraded(status) == (
            "UntrustedPrivileged",
            "it is untrusted and privileged: it runs under the trusted runtime with all rights on the node",
        )
        node.apply(container("short", busybox_rootfs, "true", restartPolicy="Never", **fields), file="short.yaml")
        node.wait("short", lambda s: s["phase"] == "Succeeded")
        assert [node.log().count(f"default/{name}: UntrustedPrivileged") for name in ("web", "short")] == [1, 1]
    finally:
        node.kill()


def test_inspect_shows_what_a_container_uses(node_dirs: NodeDirs, busybox_rootfs: Path) -> None:
    busy = ("sh", "-c", "i=0; while [ $i -lt 100000 ]; do i=$((i+1)); done; exec sleep 1000")
    with operating(node_dirs) as node:
        node.apply(container("web", busybox_rootfs, *busy))
        node.wait("web", lambda s: s["phase"] == "Running")

        def shown() -> dict[str, str]:
            lines = node.command("inspect", "web").stdout.splitlines()
            return {name: value.strip() for name, found, value in (line.partition(":") for line in lines) if found}

        eventually(lambda: float(shown()["CPU time"].split()[0]) > 0.02, "it has used CPU time")
        assert shown()["Processes"] == "1"
        assert shown()["Memory"].split()[1] in ("KiB", "MiB")
        assert shown()["Runtime"].endswith(node_cgroups.RUNTIME)


def test_inspect_shows_what_a_container_waits_for(node_dirs: NodeDirs, busybox_rootfs: Path) -> None:
    """On version 2 alone, where the kernel counts it."""
    limits = {"limits": {"cpu": "50m"}}
    with operating(node_dirs) as node:
        node.apply(container("web", busybox_rootfs, "sh", "-c", "while :; do :; done", resources=limits))
        pid = node.wait("web", lambda s: s["phase"] == "Running")["pid"]
        told = r"Waited for:.* cpu [0-9.]+ %.* of the last 10 s"
        if node_cgroups.UNIFIED and (node_cgroups.folder_of(pid) / "cpu.pressure").exists():
            eventually(lambda: re.search(told, node.command("inspect", "web").stdout), "it waits for the CPU")
        else:
            assert "Waited for" not in node.command("inspect", "web").stdout
