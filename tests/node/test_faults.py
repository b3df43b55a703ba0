"""A runtime that fails, hangs or lies: each fault is told, got over, and leaves nothing behind."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import shutil
import subprocess
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest

from oarlock.errors import RuntimeFailure
from oarlock.runtime.execprocess import ExecProcess
from oarlock.runtime.execution import exec_sync
from tests import node_cgroups
from tests.entering import container_of, settings_of
from tests.node_dirs import NodeDirs
from tests.operating import PATIENCE, Operator, container, eventually, left, live_inits, operating
from tests.running import arguments
from tests.terminals import at_a_terminal

SCRIPT = Path(__file__).with_name("faulty_runtime")
LONG = 60.0
KINDS = ("fail", "fail-after", "hang", "hang-after", "die", "die-after", "lie")

TOLD: dict[str, dict[str, str]] = {
    "create": {
        "fail": "CreateContainerError: create is out of order",
        "fail-after": "CreateContainerError: create is out of order",
        "hang": "CreateContainerError: faulty create gave no answer within .* raise --create-timeout",
        "hang-after": "CreateContainerError: faulty create gave no answer within .* raise --create-timeout",
        "die": "CreateContainerError: faulty create .*ended without a word",
        "die-after": "CreateContainerError: faulty create ",
        "lie": "CreateContainerError: faulty create .*ended without a word",
        "pidfile": "CreateContainerError: faulty create .*ended without a word",
        "pidfile foreign": "CreateContainerError: faulty create named pid .* as the container's, which is no child",
    },
    "start": {
        "fail": "CrashLoopBackOff: back-off",
        "fail-after": "Running: ",
        "hang": "RunContainerError: faulty start gave no answer within .* raise --runtime-timeout",
        "hang-after": "Running: ",
        "die": "CrashLoopBackOff: back-off",
        "die-after": "Running: ",
        "lie": "RunContainerError: faulty start says that it is done, but the command was not executed within",
    },
    "pause": {
        "fail": "PauseContainerError: faulty pause: pause is out of order",
        "fail-after": "Paused: ",
        "hang": "PauseContainerError: faulty pause gave no answer within .* raise --runtime-timeout",
        "hang-after": "Paused: ",
        "die": "PauseContainerError: faulty pause: ended by signal 9",
        "die-after": "Paused: ",
        "lie": "PauseContainerError: faulty pause says that it is done, but nothing is frozen",
    },
    "resume": dict.fromkeys(KINDS, "Running: "),
    "delete": {
        "fail": "RemoveContainerError: faulty delete: delete is out of order",
        "fail-after": "Completed|Error: ",
        "hang": "RemoveContainerError: faulty delete gave no answer within .* raise --runtime-timeout",
        "hang-after": "Completed|Error: |RemoveContainerError: faulty delete gave no answer within",
        "die": "RemoveContainerError: faulty delete: ended by signal 9",
        "die-after": "Completed|Error: ",
        "lie": "Completed|Error: ",
    },
}
"""By verb and fault: what the status says while it lasts (`reason: message`)."""

BEFORE = {"create": None, "start": None, "pause": "Running", "resume": "Paused", "delete": "Running"}
"""The state from which a verb is asked for, and below the one that asks for it."""
AFTER = {"create": "Running", "start": "Running", "pause": "Paused", "resume": "Running", "delete": "Stopped"}


class Faulty:
    """The runtime of a test node, beside the files that tell it what to do.

    Attributes:
        foreign: a process that has nothing to do with any container.
        timeout: seconds, short, but ample for a call without a fault on this machine as it is now.
    """

    def __init__(self, dirs: NodeDirs, foreign: subprocess.Popen[bytes]) -> None:
        self.foreign = foreign
        self._folder = dirs.root / "runtime"
        self._folder.mkdir()
        self.path = self._folder / "faulty"
        shutil.copy(SCRIPT, self.path)
        self.path.chmod(0o755)
        os.mkfifo(self._folder / "never")
        real = shutil.which(node_cgroups.RUNTIME)
        assert real is not None
        (self._folder / "real").write_text(real)
        began = time.monotonic()
        subprocess.run([self.path, "--version"], stdin=subprocess.DEVNULL, capture_output=True, check=True, timeout=60)
        self.timeout = max(3.0, 10 * (time.monotonic() - began))

    def break_(self, verb: str, fault: str, name: str) -> None:
        """From now on this verb does so for the object of this name."""
        draft = self._folder / "draft"
        draft.write_text(fault.replace("foreign", str(self.foreign.pid)))
        draft.rename(self._folder / f"{verb}.{name}")

    def mend_one(self, verb: str, name: str) -> None:
        """This call does what it should."""
        (self._folder / f"{verb}.{name}").unlink()

    def mend(self) -> None:
        """Every call does what it should."""
        for each in self._folder.glob("*.*"):
            each.unlink()

    def calls(self, verb: str, name: str) -> int:
        """How often this was called."""
        log = self._folder / "calls"
        lines = log.read_text().splitlines() if log.exists() else []
        return sum(line.split()[:2] == [verb, name] for line in lines)

    def patience(self, fault: str) -> float:
        """Seconds for an exec with this fault: few where it takes them all."""
        return self.timeout * max(1, PATIENCE / 2) * (1 if fault in ("hang", "hang-after", "die-after") else 10)

    def processes(self) -> set[int]:
        """Every process of it, those that hang in it too."""
        found = set()
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit():
                with contextlib.suppress(FileNotFoundError, ProcessLookupError):
                    if (entry / "cmdline").read_bytes().split(b"\0")[1:2] == [os.fsencode(self.path)]:
                        found.add(int(entry.name))
        return found


@contextlib.contextmanager
def broken(dirs: NodeDirs, *others: str) -> Iterator[tuple[Operator, Faulty]]:
    """A node with a runtime that can be broken."""
    with subprocess.Popen(["sleep", "1000"]) as foreign:
        try:
            faulty = Faulty(dirs, foreign)
            create, other = (f"{faulty.timeout * factor:.0f}s" for factor in (PATIENCE, max(1, PATIENCE / 2)))
            options = (
                "--runtime-trusted",
                str(faulty.path),
                "--create-timeout",
                create,
                "--runtime-timeout",
                other,
                *others,
            )
            with operating(dirs, *options, "--backoff-initial", "1s", "--backoff-max", "2s") as node:
                yield node, faulty
        finally:
            foreign.kill()


def name_of(fault: str) -> str:
    return fault.replace(" ", "-")


def objects(faults: Iterable[str], rootfs: Path, state: str) -> list[dict[str, Any]]:
    """One object for each fault, named by it."""
    script = "trap 'exit 0' TERM; while :; do sleep 1000 & wait; done"
    return [
        container(name_of(fault), rootfs, "sh", "-c", script, state=state, terminationGracePeriodSeconds=2)
        for fault in faults
    ]


def reach(node: Operator, faulty: Faulty, rootfs: Path, verb: str) -> dict[str, str]:
    """Bring objects to where `verb` is called for each, with a fault of its own; the faults."""
    faults, before = TOLD[verb], BEFORE[verb]
    if before is not None:
        node.apply(*objects(faults, rootfs, before))
        for fault in faults:
            node.wait(name_of(fault), lambda s: s["phase"] == before, LONG)
    for fault in faults:
        faulty.break_(verb, fault, name_of(fault))
    node.apply(*objects(faults, rootfs, AFTER[verb]))
    return faults


def consistent(node: Operator, name: str) -> bool:
    """What the status says of an object is what the kernel says; and it has at most one container."""
    record = node.records().get(name, {})
    status, uid = record.get("status", {}), record.get("uid")
    monitors = [cid for cid in live_inits(node.dirs) if cid.rpartition("-")[0] == uid]
    if len(monitors) > 1:
        return False
    pid = status.get("pid")
    if pid is None:
        return status.get("phase") not in ("Running", "Paused")
    return b"trap" in arguments(pid) and node_cgroups.frozen(pid) is (status["phase"] == "Paused")


def nothing_left(node: Operator, faulty: Faulty) -> None:
    """Once the objects are gone nothing of them is there, nor of the runtime that was called."""
    (node.dirs.manifests / "objects.yaml").unlink(missing_ok=True)
    eventually(lambda: not node.records(), f"every object is gone\n{node.log()[-3000:]}", LONG)
    eventually(lambda: not left(node.dirs), f"nothing is left: {left(node.dirs)}")
    eventually(lambda: not faulty.processes(), "no process of the runtime is left")
    assert faulty.foreign.poll() is None
    assert node.process is not None
    operator = node.process.pid
    eventually(lambda: not zombies(operator), "it has asked about each child that ended")
    assert "a defect in oarlock" not in node.log()


def zombies(parent: int) -> set[str]:
    """The ended children that a process has not asked about."""
    found = set()
    for task in Path(f"/proc/{parent}/task").iterdir():
        children: list[str] = []
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):  # a thread that ended
            children = (task / "children").read_text().split()
        for child in children:
            with contextlib.suppress(FileNotFoundError, ProcessLookupError):
                if Path(f"/proc/{child}/stat").read_text().rpartition(")")[2].split()[0] == "Z":
                    found.add(child)
    return found


@pytest.mark.parametrize("verb", TOLD)
def test_each_fault_is_told_and_got_over(node_dirs: NodeDirs, busybox_rootfs: Path, verb: str) -> None:
    with broken(node_dirs) as (node, faulty):
        faults = reach(node, faulty, busybox_rootfs, verb)
        for fault, told in faults.items():
            node.wait(name_of(fault), says(told), LONG)
            eventually(lambda fault=fault: consistent(node, name_of(fault)), f"the status after {fault} is true", LONG)
        faulty.mend()
        for fault in faults:
            node.wait(name_of(fault), lambda s: s["phase"] == AFTER[verb] and ready(s), LONG)
            eventually(lambda fault=fault: consistent(node, name_of(fault)), f"the status after {fault} is true", LONG)
        nothing_left(node, faulty)


def says(told: str) -> Any:
    return lambda status: re.match(told, f"{status['reason']}: {status['message']}")


def ready(status: dict[str, Any]) -> bool:
    return any(each["type"] == "Ready" and each["status"] == "True" for each in status["conditions"])


@pytest.mark.parametrize("verb", TOLD)
def test_a_deletion_amid_each_fault_leaves_nothing(node_dirs: NodeDirs, busybox_rootfs: Path, verb: str) -> None:
    with broken(node_dirs) as (node, faulty):
        faults = reach(node, faulty, busybox_rootfs, verb)
        for fault in faults:
            eventually(lambda fault=fault: faulty.calls(verb, name_of(fault)), f"{fault} has met it", LONG)
        node.apply()
        faulty.mend()
        nothing_left(node, faulty)
        assert not any(faulty.calls("kill", name_of(fault)) for fault in faults)


def test_stop_and_deletion_do_not_wait_for_a_create_that_hangs(node_dirs: NodeDirs, busybox_rootfs: Path) -> None:
    """Nor for the turn of one that was not begun."""
    names = [f"c{number}" for number in range(3)]

    def begun() -> int:
        return sum(faulty.calls("create", name) for name in names)

    with broken(node_dirs, "--create-timeout", "1h", "--max-parallel-creates", "2") as (node, faulty):
        for name in names:
            faulty.break_("create", "hang", name)
        node.apply(*objects(names, busybox_rootfs, "Running"))
        eventually(lambda: begun() == 2, "two are being created", LONG)
        assert {record["status"]["phase"] for record in node.records().values()} == {"Pending"}
        assert set(node.records()) == set(names)
        for name in names:
            node.command("stop", name)
            assert node.status(name)["phase"] == "Stopped"
        before = begun()
        for name in names[:2]:
            node.command("start", name, "--no-wait")
        eventually(lambda: begun() == before + 2, "they are again", LONG)
        nothing_left(node, faulty)
        assert begun() == before + 2


@pytest.mark.parametrize("verb", TOLD)
def test_a_kill_of_the_operator_amid_each_fault_is_repaired(
    node_dirs: NodeDirs, busybox_rootfs: Path, verb: str
) -> None:
    with broken(node_dirs) as (node, faulty):
        faults = reach(node, faulty, busybox_rootfs, verb)
        for fault in faults:
            eventually(lambda fault=fault: faulty.calls(verb, name_of(fault)), f"{fault} has met it", LONG)
        node.kill()
        node.start()
        node.wait_ready(2)
        faulty.mend()
        for fault in faults:
            node.wait(name_of(fault), lambda s: s["phase"] == AFTER[verb] and ready(s), LONG)
            eventually(lambda fault=fault: consistent(node, name_of(fault)), f"the status after {fault} is true", LONG)
        nothing_left(node, faulty)


@pytest.mark.parametrize("fault", ["fail", "hang"])
def test_while_an_attempt_cannot_be_removed_no_other_is_made(
    node_dirs: NodeDirs, busybox_rootfs: Path, fault: str
) -> None:
    """Neither by this operator nor by the next."""
    with broken(node_dirs) as (node, faulty):
        faulty.break_("create", "fail-after", "web")
        faulty.break_("delete", fault, "web")
        node.apply(*objects(["web"], busybox_rootfs, "Running"))
        node.wait("web", says("RemoveContainerError: faulty delete"), LONG)
        node.kill()
        calls = faulty.calls("delete", "web")
        node.start()
        node.wait("web", says("AdoptContainerError: faulty delete|RemoveContainerError: faulty delete"), LONG)
        eventually(lambda: faulty.calls("delete", "web") > calls + 1, "it is tried again", LONG)
        assert faulty.calls("create", "web") == 1
        assert not live_inits(node_dirs)
        faulty.mend()
        node.wait("web", ready, LONG)
        assert faulty.calls("create", "web") >= 2
        nothing_left(node, faulty)


STATE = {
    "fail": "AdoptContainerError: faulty state: state is out of order",
    "hang": "AdoptContainerError: faulty state gave no answer within",
    "die-after": "AdoptContainerError: faulty state: ended by signal 9",
    "lie": "AdoptContainerError: faulty state printed .* which is no state",
    "lie []": "AdoptContainerError: faulty state printed .* which is no state",
    'lie {"status": "stopped"}': "Running: ",
    'lie {"status": "running"}': "Running: ",
}


@pytest.mark.parametrize("start", ["hang", "hang-after"])
def test_whether_a_container_was_started_is_found_out_whatever_the_runtime_says(
    node_dirs: NodeDirs, busybox_rootfs: Path, start: str
) -> None:
    """The operator is killed while `start` is under way: before it was done, and after it."""
    names = {fault: f"c{number}" for number, fault in enumerate(STATE)}
    with broken(node_dirs, "--runtime-timeout", f"{LONG * PATIENCE:.0f}s") as (node, faulty):
        for fault, name in names.items():
            faulty.break_("start", start, name)
            faulty.break_("state", fault, name)
        node.apply(*objects(names.values(), busybox_rootfs, "Running"))
        for name in names.values():
            eventually(lambda name=name: faulty.calls("start", name), "it is being started", LONG)
            if start == "hang-after":
                eventually(lambda name=name: runs_its_command(node, name), "its command runs", LONG)
        node.kill()
        for name in names.values():
            faulty.mend_one("start", name)
        node.start("--runtime-timeout", f"{10 * PATIENCE:.0f}s")
        for fault, name in names.items():
            node.wait(name, says(STATE[fault] if start == "hang-after" else "Running: "), LONG)
            eventually(lambda name=name: consistent(node, name), f"the status after {fault} is true", LONG)
        faulty.mend()
        for name in names.values():
            node.wait(name, ready, LONG)
            eventually(lambda name=name: consistent(node, name), "the status is true", LONG)
        nothing_left(node, faulty)


def runs_its_command(node: Operator, name: str) -> bool:
    """Whether the recorded process executes what the object says."""
    pid = (node.records().get(name, {}).get("current") or {}).get("pid")
    return pid is not None and b"trap" in arguments(pid)


def test_a_container_without_a_record_is_removed_once_the_runtime_can(
    node_dirs: NodeDirs, busybox_rootfs: Path
) -> None:
    with broken(node_dirs) as (node, faulty):
        node.apply(*objects(["stray", "other"], busybox_rootfs, "Running"))
        pids = {name: node.wait(name, ready, LONG)["pid"] for name in ("stray", "other")}
        node.kill()
        (node_dirs.state / "records" / f"{node.records()['stray']['uid']}.json").unlink()
        (node_dirs.manifests / "objects.yaml").unlink()
        node.apply(*objects(["other"], busybox_rootfs, "Running"))
        faulty.break_("delete", "hang", "stray")
        node.start()
        node.wait_ready(2)
        assert node.wait("other", ready)["pid"] == pids["other"]
        eventually(
            lambda: "has no record, and is not removed: faulty delete gave no answer" in node.log(), "told", LONG
        )
        faulty.mend()
        eventually(lambda: {len(found) for found in left(node_dirs).values()} == {1}, "the stray is gone", LONG)
        eventually(lambda: len(list((node_dirs.state / "containers").iterdir())) == 1, "with its logs")
        nothing_left(node, faulty)


@pytest.mark.parametrize("verb", ["create", "start", "delete"])
def test_the_operator_ends_while_the_runtime_hangs(node_dirs: NodeDirs, busybox_rootfs: Path, verb: str) -> None:
    with broken(node_dirs) as (node, faulty):
        node.apply(*objects(["web"], busybox_rootfs, BEFORE[verb] or "Stopped"))
        node.wait("web", ready, LONG)
        faulty.break_(verb, "hang", "web")
        node.apply(*objects(["web"], busybox_rootfs, AFTER[verb]))
        eventually(lambda: faulty.calls(verb, "web"), "it hangs", LONG)
        assert node.stop() == 0
        eventually(lambda: not faulty.processes(), "no process of the runtime is left")
        faulty.mend()
        node.start()
        node.wait("web", lambda s: s["phase"] == AFTER[verb] and ready(s), LONG)
        nothing_left(node, faulty)


EXEC = {
    "fail": "exec is out of order",
    "fail-after": "exec is out of order",
    "hang": "faulty exec started nothing within .* raise --runtime-timeout",
    "hang-after": "faulty exec started nothing within .* raise --runtime-timeout",
    "die": "",
    "die-after": "",
    "lie": "",
    "pidfile foreign": "faulty exec named pid .*, which is no child of its monitor",
}


def test_a_command_that_the_runtime_does_not_run_well_is_an_error_and_leaves_nothing(
    node_dirs: NodeDirs, busybox_rootfs: Path
) -> None:
    names = {fault: f"c{number}" for number, fault in enumerate(EXEC)}
    with broken(node_dirs) as (node, faulty):
        node.apply(*objects(names.values(), busybox_rootfs, "Running"))
        for fault, name in names.items():
            node.wait(name, ready, LONG)
            faulty.break_("exec", fault, name)
        errors = asyncio.run(all_exec(node, faulty, names))
        for fault, name in names.items():
            assert re.search(EXEC[fault], str(errors[fault])), (fault, errors[fault])
            procs = node_cgroups.folder_of(node.status(name)["pid"], "pids") / "cgroup.procs"
            eventually(lambda procs=procs: not any(map(is_command, procs.read_text().split())), f"{fault}: ended")
            assert not list((node_dirs.run / "bundles").glob("*/exec-*"))
        eventually(lambda: not faulty.processes(), "no process of the runtime is left")
        faulty.mend()
        errors = asyncio.run(all_exec(node, faulty, {"none": "c0"}, "true"))
        assert errors == {"none": None}
        nothing_left(node, faulty)


FOREGROUND = EXEC | {
    "hang": "faulty exec gave no answer within .* raise --runtime-timeout",
    "hang-after": "faulty exec gave no answer within .* raise --runtime-timeout",
    "lie": "told no process of its own",
    "pidfile foreign": "told no process of its own",
}


@pytest.mark.parametrize("terminal", [False, True])
def test_a_command_in_the_foreground_that_the_runtime_does_not_run_well_leaves_nothing(
    node_dirs: NodeDirs, busybox_rootfs: Path, terminal: bool
) -> None:
    """At a terminal too, which the runtime makes."""
    with broken(node_dirs) as (node, faulty):
        config = node_dirs.root / "config.yaml"
        node.apply(*objects(["web"], busybox_rootfs, "Running"))
        procs = node_cgroups.folder_of(node.wait("web", ready, LONG)["pid"], "pids") / "cgroup.procs"
        for fault, told in FOREGROUND.items():
            faulty.break_("exec", fault, "web")
            config.write_text(f"runtimeTimeout: {faulty.patience(fault):.0f}s")
            how = ("-it",) if terminal else ()
            command = ("exec", "--config", str(config), *how, "web", "--", "sleep", "4321")
            if terminal:
                with at_a_terminal(node, *command) as person:
                    code, said = person.ends(), person.seen.decode()
            else:
                done = node.command(*command, check=False)
                code, said = done.returncode, done.stderr
            assert code == 1, fault
            assert re.search(f"oarlock: default/web: .*{told}", said), (fault, said)
            eventually(lambda: not any(map(is_command, procs.read_text().split())), f"{fault}: ended")
            assert not list((node_dirs.run / "bundles").glob("*/exec-*"))
        eventually(lambda: not faulty.processes(), "no process of the runtime is left")


def is_command(pid: str) -> bool:
    """Whether this is the command that the test had run."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().startswith(b"sleep\0004321")
    except (FileNotFoundError, ProcessLookupError):
        return False


async def all_exec(
    node: Operator, faulty: Faulty, names: dict[str, str], *command: str
) -> dict[str, RuntimeFailure | None]:
    """Run a command in each of these containers at once; how that failed."""

    async def one(fault: str) -> RuntimeFailure | None:
        settings = settings_of(node.dirs, 2 * faulty.patience(fault))
        target = container_of(node.dirs, node.records()[names[fault]])
        try:
            await exec_sync(settings, target, ExecProcess(command or ("sleep", "4321")), LONG)
        except RuntimeFailure as error:
            return error
        return None

    return dict(zip(names, await asyncio.gather(*map(one, names)), strict=True))
