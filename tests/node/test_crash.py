"""`kill -9` of the operator: never two live containers for an object, no exit lost, nothing left behind."""

from __future__ import annotations

import contextlib
import json
import random
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from tests import node_cgroups
from tests.node_dirs import NodeDirs
from tests.operating import PATIENCE, SLEEPER, Operator, census, container, eventually, live_inits, operating

KILLED_AT = Path(__file__).with_name("killed_at.py")
UPGRADED = Path(__file__).with_name("upgraded.py")
POINTS = (
    "record written",
    "conmon spawned",
    "conmon in its cgroup",
    "start byte sent",
    "pid read",
    "start called",
    "exit seen",
    "exit recorded",
)


def agree(node: Operator) -> bool:
    """Whether everything on the node is what the records say."""
    named = {r["current"]["containerID"] for r in node.records().values() if r.get("current")}
    return all(found == named for found in census(node.dirs).values())


def at_most_one_each(node: Operator) -> bool:
    owners = [name.rpartition("-")[0] for name in live_inits(node.dirs)]
    return len(owners) == len(set(owners))


def test_containers_keep_their_pid_over_a_restart_of_the_operator(node_dirs: NodeDirs, busybox_rootfs: Path) -> None:
    with operating(node_dirs) as node:
        node.apply(container("web", busybox_rootfs, "sleep", "1000"))
        pid = node.wait("web", lambda s: s["phase"] == "Running")["pid"]
        assert node.stop() == 0
        node.start()
        node.wait_ready(2)
        node.kill()
        node.start()
        node.wait_ready(3)
        assert node.wait("web", lambda s: s["phase"] == "Running")["pid"] == pid


def test_an_upgrade_with_one_more_default_restarts_nothing(node_dirs: NodeDirs, busybox_rootfs: Path) -> None:
    old = Operator(node_dirs)
    objects = [container(f"c{number}", busybox_rootfs, *SLEEPER) for number in range(3)]
    old.apply(*objects)
    old.start()
    pids = {name: old.wait(name, lambda s: s["phase"] == "Running")["pid"] for name in ("c0", "c1", "c2")}
    old.stop()
    later = Operator(node_dirs, entry=(str(UPGRADED),))
    later.start()
    later.wait_ready(2)
    try:
        objects[0]["spec"]["priority"] = 7
        objects[1]["spec"]["priority"] = 100
        later.apply(*objects)
        replaced = later.wait("c0", lambda s: s["phase"] == "Running" and s["pid"] != pids["c0"])
        assert replaced["restartCount"] == 1
        assert {name: later.status(name)["pid"] for name in ("c1", "c2")} == {n: pids[n] for n in ("c1", "c2")}
    finally:
        later.kill()


def test_an_exit_while_the_operator_is_away_is_told(node_dirs: NodeDirs, busybox_rootfs: Path) -> None:
    with operating(node_dirs) as node:
        node.apply(
            container(
                "job",
                busybox_rootfs,
                "sh",
                "-c",
                "while [ ! -e /go ]; do sleep 0.05; done; exit 5",
                restartPolicy="Never",
            )
        )
        pid = node.wait("job", lambda s: s["phase"] == "Running")["pid"]
        node.kill()
        Path(f"/proc/{pid}/root/go").write_text("")
        eventually(lambda: not live_inits(node_dirs), "the container ended")
        ended = datetime.now(UTC)
        time.sleep(2 + PATIENCE)
        node.start()
        status = node.wait("job", lambda s: s["phase"] == "Failed")
        assert status["exitCode"] == 5
        assert datetime.fromisoformat(status["finishedAt"]) <= ended + timedelta(seconds=1 + PATIENCE)
        eventually(lambda: agree(node), "nothing is left")


@pytest.mark.parametrize("point", POINTS)
def test_a_kill_at_each_point_is_repaired(node_dirs: NodeDirs, busybox_rootfs: Path, point: str) -> None:
    job = container("job", busybox_rootfs, "sh", "-c", "sleep 0.2; exit 3", restartPolicy="Never")
    web = container("web", busybox_rootfs, "sleep", "1000")
    node = Operator(node_dirs, entry=(str(KILLED_AT), point))
    try:
        node.apply(job)
        node.start()
        assert node.ends() == -9, node.log()
        node = Operator(node_dirs)
        node.start()
        node.apply(job, web)
        status = node.wait("job", lambda s: s["phase"] == "Failed")
        assert status["exitCode"] == 3
        attempts = [each["attempt"] for each in node.records()["job"]["exits"]]
        assert attempts == sorted(set(attempts))
        node.wait("web", lambda s: s["phase"] == "Running")
        assert at_most_one_each(node)
        eventually(lambda: agree(node), f"the node agrees with the records: {census(node_dirs)}")
    finally:
        node.kill()


def killed_at(point: str, dirs: NodeDirs) -> None:
    """Run an operator until it kills itself at this point."""
    node = Operator(dirs, entry=(str(KILLED_AT), point))
    node.start()
    assert node.ends() == -9, node.log()


@pytest.mark.parametrize("point", ["before a signal", "signal sent"])
@pytest.mark.parametrize("number", ["TERM", "KILL"])
def test_a_kill_around_a_signal_is_repaired(node_dirs: NodeDirs, busybox_rootfs: Path, number: str, point: str) -> None:
    node = Operator(node_dirs)
    node.start()
    try:
        grace = 600 if number == "KILL" else 1
        node.apply(container("web", busybox_rootfs, "sleep", "1000", terminationGracePeriodSeconds=grace))
        node.wait("web", lambda s: s["phase"] == "Running")
        if number == "KILL":
            node.apply()
            node.wait("web", lambda s: s["phase"] == "Stopping")
        node.kill()
        if number == "KILL":  # its grace period is over a second after TERM, but not before the operator is killed
            path = node_dirs.state / "records" / f"{node.records()['web']['uid']}.json"
            record = json.loads(path.read_text())
            record["current"]["stopGrace"] = 1
            path.write_text(json.dumps(record))
        node.apply()
        killed_at(point, node_dirs)
        node.start()
        eventually(lambda: not node.records(), "the object is gone")
        assert agree(node)
    finally:
        node.kill()


@pytest.mark.parametrize(
    ("before", "point", "after"),
    [
        ("Running", "frozen", "Running"),
        ("Running", "frozen", "Paused"),
        ("Running", "frozen", None),
        ("Paused", "thawed", "Running"),
        ("Paused", "thawed", "Paused"),
        ("Paused", "thawed", None),
    ],
)
def test_a_kill_around_the_freezer_is_repaired(
    node_dirs: NodeDirs, busybox_rootfs: Path, before: str, point: str, after: str | None
) -> None:
    def web(state: str) -> dict[str, Any]:
        return container("web", busybox_rootfs, "sleep", "1000", terminationGracePeriodSeconds=1, state=state)

    node = Operator(node_dirs)
    node.start()
    try:
        node.apply(web(before))
        pid = node.wait("web", lambda s: s["phase"] == before)["pid"]
        node.kill()
        node.apply(web("Paused" if before == "Running" else "Running"))
        killed_at(point, node_dirs)
        assert node_cgroups.frozen(pid) is (point == "frozen")
        node.apply(*([web(after)] if after else []))
        node.start()
        if after is None:
            eventually(lambda: not node.records(), "the object is gone")
        else:
            assert node.wait("web", lambda s: s["phase"] == after)["pid"] == pid
            wanted = after == "Paused"
            eventually(lambda: node_cgroups.frozen(pid) is wanted, f"frozen is {wanted}")
        assert agree(node)
    finally:
        node.kill()


def test_a_stranger_with_a_recorded_pid_is_left_alone(node_dirs: NodeDirs, busybox_rootfs: Path) -> None:
    """The container ends while the operator is away, and other processes get the pids that it and its monitor had."""
    with operating(node_dirs) as node, subprocess.Popen(["sleep", "1000"]) as stranger:
        try:
            script = "until [ -e /go ]; do sleep 0.1; done; exit 5"
            node.apply(container("job", busybox_rootfs, "sh", "-c", script, terminationGracePeriodSeconds=0))
            status = node.wait("job", lambda s: s["phase"] == "Running")
            node.kill()
            Path(f"/proc/{status['pid']}/root/go").touch()
            eventually(lambda: not live_inits(node_dirs), "the container ended")
            path = node_dirs.state / "records" / f"{node.records()['job']['uid']}.json"
            record = json.loads(path.read_text())
            record["current"] |= {"pid": stranger.pid, "monitorPID": stranger.pid}
            path.write_text(json.dumps(record))
            assert node.command("exec", "job", "--", "true", check=False).returncode == 1
            node.start()
            told = node.wait("job", lambda s: s["phase"] == "Running" and s["restartCount"] == 1)
            assert told["lastState"]["terminated"]["exitCode"] == 5
            node.apply()
            eventually(lambda: not node.records() and agree(node), "nothing is left")
            assert stranger.poll() is None
        finally:
            stranger.kill()


def test_operations_that_overlap_are_done_one_after_another(node_dirs: NodeDirs, busybox_rootfs: Path) -> None:
    """Thirty commands for one object at once, while its manifest changes too: the last word counts."""
    chance = random.Random(20261126)
    with operating(node_dirs) as node, contextlib.ExitStack() as begun:
        for number in range(30):
            if number % 10 == 0:
                fields = {"env": [{"name": "N", "value": str(number)}], "terminationGracePeriodSeconds": 1}
                node.apply(container("web", busybox_rootfs, *SLEEPER, **fields))
                node.wait("web", lambda s: s["phase"] != "Pending")
            verb = chance.choice(("stop", "start", "restart", "pause", "unpause"))
            output = begun.enter_context((node_dirs.root / f"{number}.out").open("wb"))
            command = [sys.executable, "-m", "oarlock", verb, "web", "--no-wait"]
            begun.enter_context(
                subprocess.Popen(command, env=node.environment, stdout=output, stderr=subprocess.STDOUT)
            )
            assert at_most_one_each(node), live_inits(node_dirs)
            time.sleep(chance.uniform(0, 0.2))
        begun.close()
        assert at_most_one_each(node), live_inits(node_dirs)
        node.command("start", "web")
        status = node.status("web")
        assert (status["phase"], node_cgroups.frozen(status["pid"])) == ("Running", False)
        exits = [each["attempt"] for each in node.records()["web"]["exits"]]
        assert exits == sorted(set(exits))
        assert "a defect" not in node.log()
        node.command("stop", "web")
        eventually(lambda: agree(node), "nothing is left")


def test_fifty_kills_at_random_moments(node_dirs: NodeDirs, busybox_rootfs: Path) -> None:
    """30 objects are created, changed and deleted while the operator is killed again and again."""
    chance = random.Random(20261125)
    node = Operator(node_dirs)
    try:
        for number in range(50):
            node.start()
            commands = (("sleep", "1000"), ("sh", "-c", "exit 3"), ("sleep", "2000"))
            objects = []
            for each in chance.sample(range(30), 12):
                fields = {"restartPolicy": chance.choice(("Always", "Never")), "terminationGracePeriodSeconds": 1}
                objects.append(container(f"c{each}", busybox_rootfs, *chance.choice(commands), **fields))
            node.apply(*objects)
            assert node.process is not None
            with_luck = chance.uniform(0.4, 1.6)
            try:
                node.process.wait(timeout=with_luck)
            except subprocess.TimeoutExpired:
                node.kill()
            else:
                raise AssertionError(node.log()[-3000:])
            assert at_most_one_each(node), f"round {number}: {live_inits(node_dirs)}"
        node.start()
        node.apply(container("last", busybox_rootfs, "sleep", "1000"))
        node.wait("last", lambda s: s["phase"] == "Running", 60)
        eventually(lambda: set(node.records()) == {"last"}, "only the last object is left", 60)
        eventually(lambda: agree(node), "the node agrees with the records")
        for record in node.records().values():
            attempts = [each["attempt"] for each in record["exits"]]
            assert attempts == sorted(set(attempts))
    finally:
        node.kill()
