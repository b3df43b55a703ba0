"""The trial that doctor and the operator make: what only looks like a runtime is found out, and nothing is left."""

from __future__ import annotations

import asyncio
import fcntl
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from oarlock.cgroups import place
from oarlock.errors import NodeFull
from oarlock.linux.procfs import has_ended
from oarlock.node import readiness, trial
from oarlock.node.configuration import Configuration
from oarlock.node.doctor import Verdict
from oarlock.node.readiness import Readiness
from oarlock.node.trial import Trial
from tests import node_cgroups
from tests.node.test_health import conditions, ready, runtime_of
from tests.node_dirs import NodeDirs, mounts_below
from tests.operating import PATIENCE, Operator, eventually, operating

REAL = f'exec {node_cgroups.RUNTIME} "$@"'
REFUSES = "echo 'level=error msg=\"out of order\"' >&2; exit 1"
CREATE = "no container can be made: "


def on_create(lines: str) -> str:
    """A runtime's script that does this for its `create`, and is the real one else."""
    return f'case "$*" in *" create "*) {lines};; esac; {REAL}'


def configured(dirs: NodeDirs, **options: str) -> Configuration:
    """The configuration of a test node."""
    mine = {
        "run_dir": str(dirs.run),
        "state_dir": str(dirs.state),
        "manifests": str(dirs.manifests),
        "cgroup_parent": dirs.cgroup_parent,
        "cgroup_manager": node_cgroups.MANAGER,
        "runtime_trusted": node_cgroups.RUNTIME,
    }
    return Configuration.load(mine | options, {})


def doctor(dirs: NodeDirs, *options: str) -> tuple[int, dict[str, Any], dict[str, dict[str, str]]]:
    """Exit code, what doctor told as JSON, and its checks by name."""
    done = Operator(dirs).command("doctor", "-o", "json", *options, check=False)
    told = json.loads(done.stdout)
    return done.returncode, told, {each["name"]: each for each in told["checks"]}


def left(dirs: NodeDirs) -> list[str]:
    """What there is of a trial: folders, mounts, cgroups, and processes that name its folders."""
    folders = [each / "trial" for each in (dirs.run, dirs.state) if (each / "trial").exists()]
    cgroups = [each for each in Path("/sys/fs/cgroup").rglob("*oarlock?trial*") if _of(dirs) in str(each)]
    processes = [each for each in Path("/proc").glob("[0-9]*") if os.fsencode(dirs.run / "trial") in _arguments(each)]
    return list(map(str, (*folders, *mounts_below(dirs.run), *cgroups, *processes)))


def _of(dirs: NodeDirs) -> str:
    return dirs.cgroup.rpartition("/")[2]


def _arguments(process: Path) -> bytes:
    try:
        return (process / "cmdline").read_bytes()
    except (FileNotFoundError, ProcessLookupError):
        return b""


@pytest.fixture
def runtime(tmp_path: Path) -> Iterator[Path]:
    """Where a test puts a runtime of its own; the processes that it wrote to `pids` are ended."""
    yield tmp_path / "runtime"
    for pid in pids(tmp_path):
        if not has_ended(pid):
            os.kill(pid, signal.SIGKILL)


def pids(folder: Path) -> list[int]:
    return [int(line) for line in (folder / "pids").read_text().split()] if (folder / "pids").exists() else []


def hanging(folder: Path) -> str:
    """A script that tells its pid and its child's, and hangs."""
    return f"sleep 1000 & echo $$ $! >> {folder}/pids; wait"


def test_a_node_that_can_make_containers_makes_one_and_keeps_nothing_of_it(node_dirs: NodeDirs) -> None:
    code, told, checks = doctor(node_dirs)
    assert (code, conditions(told)["RuntimeReady"]) == (0, ("True", "ChecksPassed"))
    made = f"conmon and {node_cgroups.RUNTIME} made and removed a container"
    assert (checks["create"]["verdict"], checks["create"]["message"]) == ("ok", made)
    assert left(node_dirs) == []
    assert not node_dirs.run.exists()
    assert not node_dirs.state.exists()
    if node_cgroups.MANAGER == "cgroupfs":
        assert list(Path("/sys/fs/cgroup").rglob(_of(node_dirs))) == []


@pytest.mark.parametrize("program", ["runtime-trusted", "conmon"])
def test_what_only_tells_a_version_is_found_out(node_dirs: NodeDirs, program: str) -> None:
    code, told, checks = doctor(node_dirs, f"--{program}", "/bin/true")
    assert checks[program]["verdict"] == "ok"
    assert (code, conditions(told)["RuntimeReady"]) == (1, ("False", "CreateFailed"))
    assert checks["create"]["message"].endswith("create (or conmon) ended without a word")
    assert "--conmon" in checks["create"]["way_out"]
    assert left(node_dirs) == []


def test_a_runtime_that_refuses_every_create_makes_the_node_not_ready_until_it_is_mended(
    node_dirs: NodeDirs, runtime: Path
) -> None:
    runtime_of(runtime, on_create(REFUSES))
    address = f"unix:{node_dirs.root}/health"
    assert doctor(node_dirs, "--runtime-trusted", str(runtime))[2]["create"]["message"] == f"{CREATE}out of order"
    with operating(node_dirs, "--health-address", address, "--runtime-trusted", str(runtime)) as operator:
        operator.wait_ready()
        status, told = ready(address)
        assert (status, conditions(told)["RuntimeReady"]) == (503, ("False", "CreateFailed"))
        assert f"RuntimeReady is False: create: {CREATE}out of order" in operator.log()
        runtime_of(runtime, REAL)
        eventually(lambda: ready(address)[0] == 200, "ready again")
        assert "the node is ready for containers again" in operator.log()
        assert not (node_dirs.run / "trial").exists()
        assert operator.stop() == 0


@pytest.mark.parametrize("verb", ["create", "delete"])
def test_a_call_that_hangs_is_ended_with_all_that_there_is(node_dirs: NodeDirs, runtime: Path, verb: str) -> None:
    runtime_of(runtime, f'case "$*" in *" {verb} "*) {hanging(runtime.parent)};; esac; {REAL}')
    began = time.monotonic()
    code, _, checks = doctor(node_dirs, "--runtime-trusted", str(runtime))
    assert time.monotonic() - began < 15 * PATIENCE
    assert code == 1
    assert f"runtime {verb} gave no answer within " in checks["create"]["message"]
    assert left(node_dirs) == []
    assert [pid for pid in pids(runtime.parent) if not has_ended(pid)] == []


def test_a_conmon_that_hangs_is_ended(node_dirs: NodeDirs, runtime: Path) -> None:
    runtime_of(runtime, f'[ "$1" != --version ] || exec conmon --version; {hanging(runtime.parent)}')
    code, _, checks = doctor(node_dirs, "--conmon", str(runtime))
    assert code == 1
    assert "gave no answer within " in checks["create"]["message"]
    assert left(node_dirs) == []
    assert [pid for pid in pids(runtime.parent) if not has_ended(pid)] == []


@pytest.fixture
def killed(node_dirs: NodeDirs, runtime: Path) -> Callable[[str], None]:
    """A doctor that is killed while the runtime does this."""

    def kill(verb: str) -> None:
        runtime_of(runtime, f'case "$*" in *" {verb} "*) {hanging(runtime.parent)};; esac; {REAL}')
        command = [sys.executable, "-m", "oarlock", "doctor", "--runtime-trusted", str(runtime)]
        with subprocess.Popen(command, env=Operator(node_dirs).environment, stdout=subprocess.DEVNULL) as process:
            eventually(lambda: pids(runtime.parent), "it hangs")
            process.kill()
        assert left(node_dirs)

    return kill


@pytest.mark.parametrize("verb", ["create", "delete"])
def test_what_a_killed_doctor_leaves_the_next_one_clears(
    node_dirs: NodeDirs, runtime: Path, killed: Callable[[str], None], verb: str
) -> None:
    killed(verb)
    assert doctor(node_dirs)[0] == 0
    assert left(node_dirs) == []
    assert [pid for pid in pids(runtime.parent) if not has_ended(pid)] == []


def test_what_a_killed_doctor_leaves_the_next_operator_clears(
    node_dirs: NodeDirs, runtime: Path, killed: Callable[[str], None]
) -> None:
    killed("create")
    with operating(node_dirs) as operator:
        operator.wait_ready()
        eventually(lambda: "what a trial of the node had left is removed" in operator.log(), "it is cleared")
        assert not [each for each in left(node_dirs) if "trial" in each]
        assert [pid for pid in pids(runtime.parent) if not has_ended(pid)] == []
        assert operator.stop() == 0
        assert "Traceback" not in operator.log()


def test_an_operator_that_ends_takes_its_trial_along(node_dirs: NodeDirs, runtime: Path) -> None:
    runtime_of(runtime, on_create(hanging(runtime.parent)))
    address = f"unix:{node_dirs.root}/health"
    with operating(node_dirs, "--health-address", address, "--runtime-trusted", str(runtime)) as operator:
        eventually(lambda: pids(runtime.parent), "it hangs")
        assert operator.stop() == 0
        assert not [each for each in left(node_dirs) if "trial" in each]
        assert [pid for pid in pids(runtime.parent) if not has_ended(pid)] == []
        assert "Traceback" not in operator.log()


async def test_whoever_asks_for_the_health_makes_no_container_while_all_is_well(
    node_dirs: NodeDirs, runtime: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = runtime.parent / "calls"
    runtime_of(runtime, f'echo "$*" >> {calls}; {REAL}')
    monkeypatch.setattr(readiness, "FRESH", -1.0)  # whoever asks makes it look
    monkeypatch.setattr(readiness, "FRESH_IN_DOUBT", -1.0)
    node = Readiness(configured(node_dirs, runtime_trusted=str(runtime)))

    async def look() -> tuple[bool, int, int]:
        found = await node.look()
        told = calls.read_text().splitlines()
        return found.ready, told.count("--version"), sum(" create " in each for each in told)

    assert await look() == (True, 1, 1)
    assert await look() == (True, 2, 1)
    node.doubt()
    assert await look() == (True, 3, 2)
    runtime_of(runtime, f'echo "$*" >> {calls}; {on_create(REFUSES)}')
    assert await look() == (True, 4, 2)
    node.doubt()
    assert await look() == (False, 5, 3)
    runtime_of(runtime, f'echo "$*" >> {calls}; {REAL}')
    assert await look() == (True, 6, 4)
    node.close()


def test_two_never_try_at_once(node_dirs: NodeDirs, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trial, "_TURN", 0.1)
    (node_dirs.run / "trial").mkdir(parents=True)
    lock = os.open(node_dirs.run / "trial", os.O_RDONLY)
    fcntl.flock(lock, fcntl.LOCK_EX)
    found = Trial(configured(node_dirs)).run()
    assert (found.verdict, found.message) == (Verdict.WARN, "not tried: another trial is under way")
    os.close(lock)
    assert Trial(configured(node_dirs)).run().verdict is Verdict.OK
    assert left(node_dirs) == []


def test_doctors_at_one_time_take_turns_and_leave_nothing(node_dirs: NodeDirs) -> None:
    command = [sys.executable, "-m", "oarlock", "doctor"]
    environment = Operator(node_dirs).environment
    several = [subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) for _ in range(4)]
    told = [each.communicate(timeout=60 * PATIENCE)[0] for each in several]
    assert [each.returncode for each in several] == [0, 0, 0, 0], told
    assert all("made and removed a container" in each for each in told)
    assert left(node_dirs) == []


def test_that_the_disk_is_full_is_another_checks_word(node_dirs: NodeDirs, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise NodeFull("no room for a root filesystem")

    monkeypatch.setattr("oarlock.bundle.make.make", full)
    found = Trial(configured(node_dirs)).run()
    assert (found.verdict, found.message) == (Verdict.WARN, "not tried: no room for a root filesystem")
    assert left(node_dirs) == []


def test_a_systemd_that_does_not_answer_is_told(
    node_dirs: NodeDirs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(place, "SYSTEMD_RUNS", tmp_path)
    monkeypatch.setenv("DBUS_SYSTEM_BUS_ADDRESS", f"unix:path={tmp_path}/nobody")
    options = {"cgroup_manager": "systemd", "cgroup_parent": f"{node_dirs.root.name}.slice"}
    found = Trial(configured(node_dirs, **options)).run()
    assert found.verdict is Verdict.FAIL
    assert "the system's D-Bus cannot be reached" in found.message
    assert found.way_out == "see that systemd answers on D-Bus, or give --cgroup-manager cgroupfs"
    assert left(node_dirs) == []


def test_a_trial_that_is_given_up_before_it_begins_makes_nothing(node_dirs: NodeDirs) -> None:
    given_up = Trial(configured(node_dirs))
    assert not given_up.cancel()
    assert asyncio.run(asyncio.to_thread(given_up.run)).verdict is Verdict.WARN
    assert left(node_dirs) == []
