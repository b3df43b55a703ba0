"""Freezing and thawing: by the command, and when a restart policy or a restart meets a frozen container."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from pathlib import Path

from tests import node_cgroups
from tests.node_dirs import NodeDirs
from tests.operating import SLEEPER, container, eventually, operating, traps


def test_the_command_pauses_and_unpauses(node_dirs: NodeDirs, busybox_rootfs: Path) -> None:
    with operating(node_dirs) as node:
        node.apply(container("web", busybox_rootfs, "sleep", "1000", terminationGracePeriodSeconds=1))
        pid = node.wait("web", lambda s: s["phase"] == "Running")["pid"]
        assert node.command("pause", "web").stdout == "default/web paused\n"
        eventually(lambda: node_cgroups.frozen(pid), "it is frozen")
        ready = next(each for each in node.status("web")["conditions"] if each["type"] == "Ready")
        assert (node.status("web")["phase"], ready["status"]) == ("Paused", "True")
        assert node.command("pause", "web").returncode == 0
        # The next operator still knows.
        node.stop()
        node.start()
        node.wait_ready(2)
        assert node.command("unpause", "web").stdout == "default/web unpaused\n"
        assert not node_cgroups.frozen(pid)
        assert node.status("web")["pid"] == pid
        again = node.command("unpause", "web", check=False)
        assert (again.returncode, "default/web is not paused but Running" in again.stderr) == (1, True)
        node.command("stop", "web")
        refused = node.command("pause", "web", check=False)
        assert refused.returncode == 1
        assert "default/web is Stopped, and only what runs can be paused" in refused.stderr


def test_a_frozen_container_that_is_killed_comes_back_as_it_should_be(
    node_dirs: NodeDirs, busybox_rootfs: Path
) -> None:
    """Version 2 kills what is frozen; version 1 keeps the signal until the thaw."""
    with operating(node_dirs) as node:
        node.apply(container("web", busybox_rootfs, "sleep", "1000", state="Paused"))
        pid = node.wait("web", lambda s: s["phase"] == "Paused")["pid"]
        os.kill(pid, signal.SIGKILL)
        if node_cgroups.UNIFIED:
            status = node.wait("web", lambda s: s["phase"] == "Paused" and s["pid"] != pid)
            assert node_cgroups.frozen(status["pid"])
        else:
            node.command("unpause", "web", "--no-wait")
            status = node.wait("web", lambda s: s["phase"] == "Running" and s["pid"] != pid)
        assert (status["restartCount"], status["lastState"]["terminated"]["exitCode"]) == (1, 137)


def test_a_frozen_container_is_thawed_to_be_replaced_or_stopped(node_dirs: NodeDirs, busybox_rootfs: Path) -> None:
    with operating(node_dirs) as node:
        node.apply(container("web", busybox_rootfs, *SLEEPER))
        pid = node.wait("web", lambda s: s["phase"] == "Running")["pid"]
        traps(pid)
        node.command("pause", "web")
        node.command("restart", "web")
        status = node.status("web")
        assert (status["phase"], status["pid"] != pid) == ("Running", True)
        assert status["lastState"]["terminated"]["exitCode"] == 7
        traps(status["pid"])
        node.command("pause", "web")
        node.command("stop", "web")
        eventually(lambda: node.status("web").get("exitCode") == 7, "it had its TERM")


def test_what_somebody_else_froze_is_thawed_to_be_stopped(node_dirs: NodeDirs, busybox_rootfs: Path) -> None:
    with operating(node_dirs) as node:
        node.apply(container("web", busybox_rootfs, *SLEEPER))
        pid = node.wait("web", lambda s: s["phase"] == "Running")["pid"]
        traps(pid)
        node_cgroups.freeze(pid)
        eventually(lambda: node_cgroups.frozen(pid), "it is frozen")
        node.command("stop", "web")
        assert node.status("web")["exitCode"] == 7


def test_what_somebody_else_froze_or_thawed_is_seen(node_dirs: NodeDirs, busybox_rootfs: Path) -> None:
    with operating(node_dirs) as node:
        node.apply(container("web", busybox_rootfs, "sleep", "1000", terminationGracePeriodSeconds=0))
        pid = node.wait("web", lambda s: s["phase"] == "Running")["pid"]
        node_cgroups.freeze(pid)
        node.command("unpause", "web", check=False)  # the operator may have looked, and thawed it
        assert not node_cgroups.frozen(pid)
        node.command("pause", "web")
        node_cgroups.thaw(pid)
        assert node.command("pause", "web").stdout == "default/web paused\n"
        eventually(lambda: node_cgroups.frozen(pid), "it is frozen")


def test_a_stop_does_not_wait_for_whoever_freezes_it(node_dirs: NodeDirs, busybox_rootfs: Path) -> None:
    """Version 2 kills what is frozen; version 1 keeps the signal until the thaw."""
    ended = threading.Event()
    with operating(node_dirs) as node:
        node.apply(container("web", busybox_rootfs, "sleep", "1000", terminationGracePeriodSeconds=1))
        pid = node.wait("web", lambda s: s["phase"] == "Running")["pid"]

        def freeze_again_and_again() -> None:
            with contextlib.suppress(OSError):  # its cgroup is gone
                while not ended.is_set():
                    node_cgroups.freeze(pid)

        freezer = threading.Thread(target=freeze_again_and_again)
        freezer.start()
        try:
            node.command("stop", "web", "--no-wait")
            eventually(lambda: "KILL sent" in node.log(), "it is killed")
        finally:
            ended.set()
            freezer.join()
        with contextlib.suppress(OSError):
            node_cgroups.thaw(pid)
        assert node.wait("web", lambda s: s["phase"] == "Stopped")["exitCode"] == 137
