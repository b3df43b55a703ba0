"""One container's life on this node, from a manifest: real conmon, real runc."""

from __future__ import annotations

import os
import shutil
import signal
from pathlib import Path
from typing import Any

import pytest

from oarlock.api.status import Status
from tests import node_cgroups
from tests.node_dirs import NodeDirs
from tests.operating import KERNEL_TELLS_EXITS, PATIENCE, SLEEPER, census, container, eventually, left, operating, traps
from tests.running import arguments

KILLED = 9 if KERNEL_TELLS_EXITS else None
"""The signal in a status after KILL."""


def ended(status: dict) -> bool:
    return status["phase"] in ("Succeeded", "Failed")


def test_a_running_container_has_a_pid_that_is_its_own(node_dirs: NodeDirs, busybox_rootfs: Path) -> None:
    with operating(node_dirs) as node:
        node.apply(container("web", busybox_rootfs, "sleep", "1000"))
        status = node.wait("web", lambda s: s["phase"] == "Running")
        Status.model_validate(status)
        eventually(lambda: arguments(status["pid"]) == b"sleep\x001000\x00", "it is that process")
        ready = {each["type"]: each["status"] for each in status["conditions"]}
        assert ready == {
            "Ready": "True",
            "Reconciling": "False",
            "Stalled": "False",
            "ContainerReady": "True",
        }


@pytest.mark.parametrize("code", [0, 3, 255])
def test_an_exit_code_reaches_the_status(node_dirs: NodeDirs, busybox_rootfs: Path, code: int) -> None:
    with operating(node_dirs) as node:
        node.apply(container("job", busybox_rootfs, "sh", "-c", f"exit {code}", restartPolicy="Never"))
        status = node.wait("job", ended)
        assert (status["exitCode"], status["oomKilled"], status.get("pid"), status.get("signal")) == (
            code,
            False,
            None,
            None,
        )
        assert status["phase"] == ("Failed" if code else "Succeeded")
        terminated = status["state"]["terminated"]
        assert (terminated["exitCode"], terminated["reason"]) == (code, "Error" if code else "Completed")
        assert status["restartCount"] == 0


def test_a_signal_from_outside_is_told(node_dirs: NodeDirs, busybox_rootfs: Path) -> None:
    with operating(node_dirs) as node:
        node.apply(container("victim", busybox_rootfs, "sleep", "1000", restartPolicy="Never"))
        status = node.wait("victim", lambda s: s["phase"] == "Running")
        os.kill(status["pid"], signal.SIGKILL)
        status = node.wait("victim", ended)
        assert (status["exitCode"], status.get("signal"), status["oomKilled"]) == (137, KILLED, False)


@pytest.mark.parametrize(("command", "code"), [("nosuch", 127), ("/etc/passwd", 126), ("/etc", 126)])
def test_a_command_that_cannot_run_is_told(node_dirs: NodeDirs, busybox_rootfs: Path, command: str, code: int) -> None:
    with operating(node_dirs) as node:
        node.apply(container("broken", busybox_rootfs, command, restartPolicy="Never"))
        status = node.wait("broken", ended)
        assert (status["exitCode"], status["reason"]) == (code, "ContainerCannotRun")
        assert command in status["message"]


def test_a_working_directory_that_is_a_file_is_told(node_dirs: NodeDirs, busybox_rootfs: Path) -> None:
    with operating(node_dirs) as node:
        rootfs = shutil.copytree(busybox_rootfs, node_dirs.root / "rootfs", symlinks=True)
        (rootfs / "dangling").symlink_to("../../nowhere/at/all")
        for name, folder in (("file", "/etc/passwd"), ("link", "/dangling")):
            node.apply(container(name, rootfs, "pwd", workingDir=folder, restartPolicy="Never"))
            status = node.wait(name, ended)
            assert (status["exitCode"], status["reason"]) == (126, "ContainerCannotRun")


def test_an_oom_kill_of_init_and_of_a_child_is_told(node_dirs: NodeDirs, busybox_rootfs: Path) -> None:
    memory = {"resources": {"limits": {"memory": "16Mi"}}, "restartPolicy": "Never"}
    with operating(node_dirs) as node:
        node.apply(
            container("init", busybox_rootfs, "tail", "/dev/zero", **memory),
            container("child", busybox_rootfs, "sh", "-c", "tail /dev/zero; exit 4", **memory),
            container("survivor", busybox_rootfs, "sh", "-c", "tail /dev/zero; exit 0", **memory),
        )
        init, child, survivor = (node.wait(name, ended) for name in ("init", "child", "survivor"))
        assert (init["exitCode"], init.get("signal"), init["oomKilled"], init["reason"]) == (
            137,
            KILLED,
            True,
            "OOMKilled",
        )
        assert "took init of it" in init["message"] or not KERNEL_TELLS_EXITS
        assert "took a child process of it" in child["message"]
        assert (child["exitCode"], child["oomKilled"], child["reason"]) == (4, True, "OOMKilled")
        assert (survivor["exitCode"], survivor["oomKilled"], survivor["phase"]) == (0, True, "Succeeded")


@pytest.mark.slow
@pytest.mark.timeout(600 * PATIENCE)
def test_five_hundred_containers_that_run_true_all_end_with_0(node_dirs: NodeDirs, busybox_rootfs: Path) -> None:
    """Containers that live a millisecond, 20 at a time: no 255, no −1 (a race cri-o's users met for years)."""
    with operating(node_dirs) as node:
        for batch in range(int(25 / PATIENCE)):
            names = [f"true-{batch}-{number}" for number in range(20)]
            node.apply(*(container(name, busybox_rootfs, "true", restartPolicy="Never") for name in names))
            told = [node.wait(name, ended)["exitCode"] for name in names]
            assert told == [0] * 20


def test_stopped_and_back(node_dirs: NodeDirs, busybox_rootfs: Path) -> None:
    with operating(node_dirs) as node:
        node.apply(container("web", busybox_rootfs, *SLEEPER))
        traps(node.wait("web", lambda s: s["phase"] == "Running")["pid"])
        node.apply(container("web", busybox_rootfs, *SLEEPER, state="Stopped"))
        status = node.wait("web", lambda s: s["phase"] == "Stopped")
        assert (status["exitCode"], status["conditions"][0]["status"]) == (7, "True")
        node.apply(container("web", busybox_rootfs, *SLEEPER))
        status = node.wait("web", lambda s: s["phase"] == "Running")
        assert status["lastState"]["terminated"]["exitCode"] == 7


def test_a_changed_command_replaces_the_container_once(node_dirs: NodeDirs, busybox_rootfs: Path) -> None:
    with operating(node_dirs) as node:
        node.apply(container("web", busybox_rootfs, *SLEEPER))
        first = node.wait("web", lambda s: s["phase"] == "Running")
        traps(first["pid"])
        node.apply(container("web", busybox_rootfs, *SLEEPER, env=[{"name": "A", "value": "1"}]))
        node.wait("web", lambda s: s["phase"] == "Running" and s["pid"] != first["pid"])
        assert node.records()["web"]["attempt"] == 2
        assert [each["cause"] for each in node.records()["web"]["exits"]] == ["replaced"]


def test_a_changed_policy_replaces_nothing(node_dirs: NodeDirs, busybox_rootfs: Path) -> None:
    with operating(node_dirs) as node:
        node.apply(container("web", busybox_rootfs, *SLEEPER))
        first = node.wait("web", lambda s: s["phase"] == "Running")
        node.apply(container("web", busybox_rootfs, *SLEEPER, restartPolicy="Never", terminationGracePeriodSeconds=1))
        status = node.wait("web", lambda s: s["observedGeneration"] == 2)
        assert status["pid"] == first["pid"]


def test_the_stop_signal_is_the_one_asked_for(node_dirs: NodeDirs, busybox_rootfs: Path) -> None:
    script = "trap 'exit 8' USR1; trap 'exit 9' 37; while :; do sleep 1000 & wait; done"
    with operating(node_dirs) as node:
        for name, number, code in (
            ("SIGUSR1", signal.SIGUSR1, 8),
            ("SIGRTMIN+3", 37, 9),
        ):  # the second applies in place
            node.apply(container("web", busybox_rootfs, "sh", "-c", script, lifecycle={"stopSignal": name}))
            status = node.wait(
                "web",
                lambda s: s["phase"] == "Running" and s["observedGeneration"] == node.records()["web"]["generation"],
            )
            traps(status["pid"], number)
            node.command("stop", "web")
            assert (node.status("web")["exitCode"], f"{name.removeprefix('SIG')} sent" in node.log()) == (code, True)
            node.command("start", "web")


def test_an_ignored_term_is_killed_after_the_grace_period(node_dirs: NodeDirs, busybox_rootfs: Path) -> None:
    deaf = ("sh", "-c", "trap '' TERM; while :; do sleep 1000; done")
    with operating(node_dirs) as node:
        node.apply(container("deaf", busybox_rootfs, *deaf, terminationGracePeriodSeconds=600))
        node.wait("deaf", lambda s: s["phase"] == "Running")
        node.apply(container("deaf", busybox_rootfs, *deaf, terminationGracePeriodSeconds=600, state="Stopped"))
        node.wait("deaf", lambda s: s["phase"] == "Stopping")
        node.apply(container("deaf", busybox_rootfs, *deaf, terminationGracePeriodSeconds=1, state="Stopped"))
        status = node.wait("deaf", lambda s: s["phase"] == "Stopped")
        assert (status["exitCode"], status.get("signal")) == (137, KILLED)


def test_a_shorter_grace_period_that_comes_later_wins(node_dirs: NodeDirs, busybox_rootfs: Path) -> None:
    def stubborn(state: str, grace: int) -> dict[str, Any]:
        command = ("sh", "-c", "trap '' TERM; while :; do sleep 0.2; done")
        return container("web", busybox_rootfs, *command, state=state, terminationGracePeriodSeconds=grace)

    with operating(node_dirs) as node:
        node.apply(stubborn("Running", 600))
        node.wait("web", lambda s: s["phase"] == "Running")
        node.apply(stubborn("Stopped", 600))
        node.wait("web", lambda s: s["phase"] == "Stopping")
        node.apply(stubborn("Stopped", 1))
        assert node.wait("web", lambda s: s["phase"] == "Stopped")["exitCode"] == 137
        assert node.log().count("TERM sent") == 1


def test_what_the_command_asked_for_outlives_a_change_that_applies_in_place(
    node_dirs: NodeDirs, busybox_rootfs: Path
) -> None:
    """A shorter grace period for the stop that is waited for; another command is the next word."""

    def stubborn(grace: int, **fields: Any) -> dict[str, Any]:
        command = ("sh", "-c", "trap '' TERM; while :; do sleep 0.2; done")
        return container("web", busybox_rootfs, *command, terminationGracePeriodSeconds=grace, **fields)

    with operating(node_dirs) as node:
        node.apply(stubborn(600))
        node.wait("web", lambda s: s["phase"] == "Running")
        with node.beside("stop", "web", output=node_dirs.root / "said") as stop:
            node.wait("web", lambda s: s["phase"] == "Stopping")
            node.apply(stubborn(1))
            assert stop.wait(timeout=30 * PATIENCE) == 0
        assert (node.status("web")["phase"], node.status("web")["exitCode"]) == ("Stopped", 137)
        node.apply(stubborn(1, env=[{"name": "A", "value": "b"}]))
        node.wait("web", lambda s: s["phase"] == "Running")


def test_a_command_that_another_one_overtakes_says_so(node_dirs: NodeDirs, busybox_rootfs: Path) -> None:
    script = "trap '' TERM; while :; do sleep 0.2; done"
    with operating(node_dirs) as node:
        node.apply(container("web", busybox_rootfs, "sh", "-c", script, terminationGracePeriodSeconds=600))
        node.wait("web", lambda s: s["phase"] == "Running")
        with node.beside("stop", "web", output=node_dirs.root / "said") as stop:
            node.wait("web", lambda s: s["phase"] == "Stopping")
            node.command("start", "web", "--no-wait")
            assert stop.wait(timeout=30 * PATIENCE) == 1
            assert stop.stderr is not None
            assert b"another command or its document asked for something else since" in stop.stderr.read()


def test_a_paused_container_is_frozen_thawed_and_deleted(node_dirs: NodeDirs, busybox_rootfs: Path) -> None:
    with operating(node_dirs) as node:
        node.apply(container("web", busybox_rootfs, *SLEEPER, state="Paused"))
        status = node.wait("web", lambda s: s["phase"] == "Paused")
        assert node_cgroups.frozen(status["pid"])
        node.apply(container("web", busybox_rootfs, *SLEEPER))
        assert node.wait("web", lambda s: s["phase"] == "Running")["pid"] == status["pid"]
        node.apply(container("web", busybox_rootfs, *SLEEPER, state="Paused"))
        node.wait("web", lambda s: s["phase"] == "Paused")
        (node_dirs.manifests / "objects.yaml").unlink()
        eventually(lambda: not node.records(), "the object is gone")
        assert census(node_dirs) == {kind: set() for kind in census(node_dirs)}


def test_restarts_back_off_as_the_kubelet_does(node_dirs: NodeDirs, busybox_rootfs: Path) -> None:
    with operating(node_dirs, "--backoff-initial", "60s") as node:
        node.apply(container("flaky", busybox_rootfs, "sh", "-c", "exit 3"))
        status = node.wait("flaky", lambda s: s["phase"] == "BackOff")
        assert (status["restartCount"], status["exitCode"], status["reason"]) == (1, 3, "CrashLoopBackOff")
        assert "back-off 60 s, next start at 20" in status["message"]
        assert status["state"]["waiting"]["reason"] == "CrashLoopBackOff"
        node.kill()
        node.start("--backoff-initial", "1s")  # the other's is over too late for a test
        node.apply(container("again", busybox_rootfs, "sh", "-c", "exit 3"))
        node.wait("again", lambda s: s["phase"] == "BackOff" and s["restartCount"] >= 2)


def test_a_removed_file_leaves_nothing_behind(node_dirs: NodeDirs, busybox_rootfs: Path) -> None:
    before = sorted(str(path) for path in busybox_rootfs.rglob("*"))
    with operating(node_dirs) as node:
        write = "echo x > /etc/new; exec sleep 1000"
        node.apply(container("web", busybox_rootfs, "sh", "-c", write, terminationGracePeriodSeconds=0))
        node.wait("web", lambda s: s["phase"] == "Running")
        (node_dirs.manifests / "objects.yaml").unlink()
        eventually(lambda: not node.records(), "the object is gone")
        assert census(node_dirs) == {kind: set() for kind in census(node_dirs)}
        assert list((node_dirs.state / "containers").iterdir()) == []
        assert list((node_dirs.run / "exits").iterdir()) == []
        assert not any((node_dirs.run / "sockets").iterdir())
    assert sorted(str(path) for path in busybox_rootfs.rglob("*")) == before


def test_a_broken_file_leaves_the_last_good_version_alone(node_dirs: NodeDirs, busybox_rootfs: Path) -> None:
    with operating(node_dirs) as node:
        node.apply(container("web", busybox_rootfs, "sleep", "1000"))
        pid = node.wait("web", lambda s: s["phase"] == "Running")["pid"]
        node.apply(container("web", busybox_rootfs, "sleep", "1000", comand=["typo"]))
        status = node.wait("web", lambda s: s["conditions"][2]["status"] == "True")
        assert status["pid"] == pid
        assert "spec.comand: is not a field here; did you mean command?" in status["conditions"][2]["message"]
        (node_dirs.manifests / "objects.yaml").write_text("{")
        eventually(lambda: "objects.yaml:2" in (node_dirs.state / "problems.json").read_text(), "the problem is told")
        assert node.status("web")["pid"] == pid


def test_a_second_operator_leaves_and_names_the_first(node_dirs: NodeDirs) -> None:
    with operating(node_dirs) as node:
        node.wait_ready()
        second = node.command("run", check=False)
        assert second.returncode == 1
        assert f"pid {node.process.pid}" in second.stderr


def test_the_log_is_what_the_container_wrote_and_nothing_else(node_dirs: NodeDirs, busybox_rootfs: Path) -> None:
    """Neither conmon nor the runtime says anything there: runc warns of devices that systemd cannot be told."""
    with operating(node_dirs) as node:
        node.apply(container("job", busybox_rootfs, "sh", "-c", "echo out; echo err >&2", restartPolicy="Never"))
        node.wait("job", lambda s: s["phase"] == "Succeeded")
        eventually(lambda: not left(node_dirs), "conmon has written all that it read")
        (log,) = (node_dirs.state / "containers").glob("*/logs/1.log")
        assert sorted(line.split(" ", 1)[1] for line in log.read_text().splitlines()) == [
            "stderr F err",
            "stdout F out",
        ]


def test_a_restart_by_the_command_and_one_by_the_annotation_are_told_apart(
    node_dirs: NodeDirs, busybox_rootfs: Path
) -> None:
    def web(annotation: str, grace: int) -> dict[str, Any]:
        made = container("web", busybox_rootfs, "sleep", "1000", terminationGracePeriodSeconds=grace)
        made["metadata"]["annotations"] = {"oarlock.dev/restartedAt": annotation}
        return made

    with operating(node_dirs) as node:
        node.apply(web("a", 0))
        node.wait("web", lambda s: s["phase"] == "Running")
        node.command("restart", "web")
        pid = node.status("web")["pid"]
        node.apply(web("b", 0))
        pid = node.wait("web", lambda s: s["phase"] == "Running" and s["pid"] != pid)["pid"]
        node.command("restart", "web")
        pid = node.status("web")["pid"]
        node.apply(web("b", 1))  # the override is void now, and the grace period applies in place
        node.wait("web", lambda s: s["observedGeneration"] == 2)
        node.command("stop", "web")  # what comes before it is done
        assert node.status("web")["restartCount"] == 3


def test_what_has_ended_is_started_again(node_dirs: NodeDirs, busybox_rootfs: Path) -> None:
    with operating(node_dirs) as node:
        node.apply(container("job", busybox_rootfs, "sh", "-c", "exit 0", restartPolicy="Never"))
        node.wait("job", lambda s: s["phase"] == "Succeeded")
        assert node.command("start", "job").stdout == "default/job started\n"
        assert node.wait("job", lambda s: s["phase"] == "Succeeded")["restartCount"] == 1


def test_stop_start_and_restart_are_overrides_of_a_manifest(node_dirs: NodeDirs, busybox_rootfs: Path) -> None:
    with operating(node_dirs) as node:
        node.apply(container("web", busybox_rootfs, *SLEEPER))
        pid = node.wait("web", lambda s: s["phase"] == "Running")["pid"]
        node.command("stop", "web")
        assert node.status("web")["phase"] == "Stopped"
        node.command("start", "web")
        node.command("restart", "web")
        assert node.status("web")["pid"] != pid
        refused = node.command("delete", "web", check=False)
        assert refused.returncode != 0
        assert "objects.yaml" in refused.stderr


def test_what_runs_goes_on_when_its_next_version_is_not_allowed(node_dirs: NodeDirs, busybox_rootfs: Path) -> None:
    def told(status: dict[str, Any]) -> dict[str, tuple[str, str]]:
        return {each["type"]: (each["status"], each["reason"]) for each in status["conditions"]}

    good = container("web", busybox_rootfs, "sleep", "1000", terminationGracePeriodSeconds=0)
    bad = container("web", busybox_rootfs, "sleep", "1001", securityContext={"privileged": True})
    with operating(node_dirs) as node:
        node.apply(good)
        pid = node.wait("web", lambda s: s["phase"] == "Running")["pid"]
        node.apply(bad)
        status = node.wait("web", lambda s: told(s)["Stalled"] == ("True", "Refused"))
        assert (status["phase"], status["pid"], told(status)["Ready"]) == ("Running", pid, ("False", "Refused"))
        assert told(status)["ContainerReady"] == ("True", "Running")
        refused = node.command("restart", "web", check=False)
        assert (refused.returncode, "--allow-privileged" in refused.stderr) == (1, True)
        node.apply(good)
        status = node.wait("web", lambda s: told(s)["Ready"][0] == "True")
        assert (status["pid"], status["restartCount"]) == (pid, 0)


def test_what_the_node_does_not_allow_is_refused(node_dirs: NodeDirs, busybox_rootfs: Path) -> None:
    with operating(node_dirs) as node:
        node.apply(
            container("king", busybox_rootfs, "true", securityContext={"privileged": True}),
            container("thief", Path("/"), "cat", "/etc/shadow"),
        )
        king = node.wait("king", lambda s: s["reason"] == "Refused")
        assert "--allow-privileged" in king["message"]
        assert king["conditions"][2]["status"] == "True"
        assert (
            "spec.rootfs.path" in node.wait("thief", lambda s: s["reason"] == "CreateContainerConfigError")["message"]
        )
