"""Commands in running containers: ExecSync for probes and deadlines, `oarlock exec` for people."""

from __future__ import annotations

import asyncio
import dataclasses
import gc
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from oarlock.cgroups.hierarchy import hierarchy
from oarlock.cgroups.manager import manager
from oarlock.errors import ExecSyncError, ExecTimeout
from oarlock.runtime import execmonitor
from oarlock.runtime.execprocess import ExecProcess, ExecUser, in_memory
from oarlock.runtime.execution import OUTPUT_LIMIT, ExecResult, Output, exec_sync
from oarlock.runtime.runtime import Runtime
from tests.entering import container_of, settings_of
from tests.node_dirs import NodeDirs, mounts_below
from tests.operating import PATIENCE, Operator, census, container, eventually, operating
from tests.running import arguments, processes
from tests.terminals import at_a_terminal

LONG = 60.0 * PATIENCE


async def soon(look: Callable[[], Any], what: str) -> Any:
    """`eventually`, while this loop goes on."""
    return await asyncio.to_thread(eventually, look, what, LONG)


class Inside:
    """One running container and what can be run in it, as the operator itself would."""

    def __init__(self, node: Operator, name: str) -> None:
        record = node.records()[name]
        current = record["current"]
        self.pid, self.id = current["pid"], current["containerID"]
        self.container = container_of(node.dirs, record)
        cgroups = manager(current["cgroupManager"], current["cgroupParent"])
        self.root = node.dirs.root
        self.runtime = Runtime(settings_of(node.dirs), cgroups, create_timeout=LONG)

    async def exec(self, *args: str, timeout: float = LONG, **how: Any) -> ExecResult:
        return await self.runtime.exec_sync(self.container, ExecProcess(args, **how), timeout)

    @property
    def leftovers(self) -> list[str]:
        """Folders of execs in the bundle."""
        return [entry.name for entry in self.container.bundle.iterdir() if entry.name.startswith("exec-")]

    def processes(self, *words: str) -> set[int]:
        """Those of the container whose arguments end in these words."""
        return processes(*words) & hierarchy().processes(self.container.place.container)


@contextmanager
def running(dirs: NodeDirs, rootfs: Path, *command: str, **fields: Any) -> Iterator[tuple[Operator, Inside]]:
    """A node with one running container, `web`."""
    with operating(dirs) as node:
        node.apply(container("web", rootfs, *(command or ("sleep", "100000")), **fields))
        node.wait("web", lambda s: s["phase"] == "Running")
        yield node, Inside(node, "web")


async def test_streams_are_apart_lines_whole_and_the_code_its_own(node_dirs: NodeDirs, busybox_rootfs: Path) -> None:
    """20,000 bytes come as three parts from conmon, of which none is a line."""
    script = "head -c 20000 /dev/zero | tr '\\0' a; echo; printf end; echo no >&2; exit 3"
    with running(node_dirs, busybox_rootfs) as (_, inside):
        result = await inside.exec("sh", "-c", script)
        assert result == ExecResult(b"a" * 20000 + b"\nend", b"no\n", 3)
        assert inside.leftovers == []
        assert (await inside.exec("sh", "-c", "kill -9 $$")).exit_code == 137


async def test_each_call_chooses_environment_user_folder_and_terminal(
    node_dirs: NodeDirs, busybox_rootfs: Path
) -> None:
    env = [{"name": "COLOUR", "value": "red"}, {"name": "KEPT", "value": "yes"}]
    with running(node_dirs, busybox_rootfs, env=env) as (_, inside):
        config = (inside.container.bundle / "config.json").read_bytes()
        script = "id -u; id -G; pwd; echo $HOME $COLOUR $KEPT; test -t 1 && echo tty; grep CapEff /proc/self/status"
        user = ExecUser(1000, 1000, (1000, 2000), "/home/app")
        chosen = await inside.exec(
            "sh", "-c", script, user=user, cwd="/tmp", env={"COLOUR": "a b"}, terminal=True, size=(40, 100)
        )
        lines = chosen.stdout.decode().split("\r\n")
        assert lines[:5] == ["1000", "1000 2000", "/tmp", "/home/app a b yes", "tty"]
        assert lines[5].split() == ["CapEff:", "0" * 16]
        assert (await inside.exec("stty", "size", terminal=True, size=(40, 100))).stdout == b"40 100\r\n"
        plain = (await inside.exec("sh", "-c", script)).stdout.decode().splitlines()
        assert plain[:4] == ["0", "0", "/", "/root red yes"]
        assert "tty" not in plain
        assert (inside.container.bundle / "config.json").read_bytes() == config


async def test_a_call_is_confined_as_the_container_is(node_dirs: NodeDirs, busybox_rootfs: Path) -> None:
    script = "grep -E '^(NoNewPrivs|Seccomp|CapBnd|CapEff)' /proc/{}/status"
    with running(node_dirs, busybox_rootfs, securityContext={"capabilities": {"drop": ["CHOWN"]}}) as (_, inside):
        own, calls = [(await inside.exec("sh", "-c", script.format(which))).stdout for which in ("1", "self")]
        assert own == calls
        assert b"NoNewPrivs:\t1" in calls


@pytest.mark.parametrize(("command", "code"), [("nosuch", 127), ("/nosuch", 127), ("/etc/passwd", 126), ("/etc", 126)])
async def test_a_command_that_cannot_run_is_told(
    node_dirs: NodeDirs, busybox_rootfs: Path, command: str, code: int
) -> None:
    with running(node_dirs, busybox_rootfs) as (node, inside):
        with pytest.raises(ExecSyncError, match=command) as told:
            await inside.exec(command)
        assert told.value.exit_code == code
        assert inside.leftovers == []
        done = node.command("exec", "web", "--", command, check=False)
        assert (done.returncode, command in done.stderr) == (code, True)
        assert inside.leftovers == []


async def test_a_deadline_ends_the_command_and_all_that_it_began(node_dirs: NodeDirs, busybox_rootfs: Path) -> None:
    script = "echo begun; sleep 1971 & setsid sleep 1971 & (sleep 1971 &) ; sleep 1971"
    with running(node_dirs, busybox_rootfs) as (_, inside):
        for seconds in (2.5 * PATIENCE, 10 * PATIENCE):  # the longer one where it has not begun by then
            begin = time.monotonic()
            with pytest.raises(ExecTimeout, match=rf"longer than {seconds:g} s") as told:
                await inside.exec("sh", "-c", script, timeout=seconds)
            assert time.monotonic() - begin < 60 * PATIENCE
            if told.value.stdout:
                break
        assert (told.value.stdout, told.value.exit_code) == (b"begun\n", None)
        assert not inside.processes("sleep", "1971")
        assert inside.leftovers == []
        assert (await inside.exec("echo", "on")).stdout == b"on\n"


async def test_a_call_that_is_given_up_leaves_nothing(node_dirs: NodeDirs, busybox_rootfs: Path) -> None:
    with running(node_dirs, busybox_rootfs) as (_, inside):
        for wait in (0.0, 0.02, 0.2, 1.0):
            call = asyncio.create_task(inside.exec("sleep", "1972"))
            await asyncio.sleep(wait)  # wherever it is by then
            call.cancel()
            with pytest.raises(asyncio.CancelledError):
                await call
            await soon(lambda: inside.leftovers == [], "no folder is left")
            await soon(lambda: not inside.processes("sleep", "1972"), "the command has ended")
            await soon(lambda: calls(inside) == [], "its conmon has ended")


def calls(inside: Inside) -> list[int]:
    """The conmons of execs in a container."""
    return [
        pid
        for pid in map(int, filter(str.isdigit, os.listdir("/proc")))
        if b"conmon\0-e\0-c\0" + inside.id.encode() in arguments(pid)
    ]


async def test_a_flood_is_cut_off_and_said_so(node_dirs: NodeDirs, busybox_rootfs: Path) -> None:
    with running(node_dirs, busybox_rootfs) as (_, inside):
        script = f"head -c {OUTPUT_LIMIT + 5_000_000} /dev/zero | tr '\\0' a; echo end >&2; exit 4"
        result = await inside.exec("sh", "-c", script)
        assert (len(result.stdout) + len(result.stderr), result.truncated, result.exit_code) == (OUTPUT_LIMIT, True, 4)
        exact = await inside.exec("sh", "-c", f"head -c {OUTPUT_LIMIT} /dev/zero")
        assert (len(exact.stdout), exact.truncated) == (OUTPUT_LIMIT, False)
        many = await inside.exec("seq", "1000000")
        assert (len(many.stdout), many.truncated) == (6888896, False)
        for seconds in (6 * PATIENCE, 20 * PATIENCE):  # the longer one where that is too short for so much
            with pytest.raises(ExecTimeout) as told:
                await inside.exec("yes", "y" * 1000, timeout=seconds)
            if told.value.truncated:
                break
        assert told.value.stdout.startswith(b"y" * 1000 + b"\ny")
        assert (len(told.value.stdout), told.value.truncated) == (OUTPUT_LIMIT, True)
        written = sum(path.stat().st_size for path in inside.container.bundle.glob("*") if path.is_file())
        assert written < 1 << 20


async def test_a_call_whose_conmon_is_killed_ends_and_tells_what_came(
    node_dirs: NodeDirs, busybox_rootfs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    came, feed = bytearray(), Output.feed

    def noted(output: Output, block: bytes) -> None:
        came.extend(block)
        feed(output, block)

    monkeypatch.setattr(Output, "feed", noted)
    with running(node_dirs, busybox_rootfs) as (_, inside):
        call = asyncio.create_task(inside.exec("sh", "-c", "echo begun; sleep 1974"))
        await soon(lambda: inside.processes("sleep", "1974"), "the command runs")
        await soon(lambda: came.endswith(b"begun\n"), "what is in conmon's hands goes with it, so it has told")
        os.kill(calls(inside)[0], signal.SIGKILL)
        with pytest.raises(ExecSyncError, match="conmon ended before the command") as told:
            await call
        assert (told.value.stdout, told.value.exit_code) == (b"begun\n", None)
        assert not inside.processes("sleep", "1974")
        assert inside.leftovers == []


def by_another_runtime(node: Operator, inside: Inside, runtime: str) -> Inside:
    """The operator is gone, and calls are run by another runtime than the container was."""
    node.kill()
    path = node.dirs.state / "records" / f"{node.records()['web']['uid']}.json"
    path.write_text(path.read_text().replace(f'"runtime":"{inside.container.runtime}"', f'"runtime":"{runtime}"'))
    return Inside(node, "web")


@pytest.mark.parametrize(
    ("lies", "told"), [("/bin/true", "told no process of its own"), ("/bin/false", "without a word")]
)
async def test_a_runtime_that_lies_or_says_nothing_is_told(
    node_dirs: NodeDirs, busybox_rootfs: Path, lies: str, told: str
) -> None:
    with running(node_dirs, busybox_rootfs) as (node, inside):
        inside = by_another_runtime(node, inside, lies)
        with pytest.raises(ExecSyncError, match="without a word"):
            await inside.exec("true")
        done = node.command("exec", "web", "--", "true", check=False)
        assert (done.returncode, told in done.stderr) == (1, True)
        assert inside.leftovers == []


async def test_a_conmon_that_is_gone_is_told(node_dirs: NodeDirs, busybox_rootfs: Path) -> None:
    with running(node_dirs, busybox_rootfs) as (_, inside):
        settings = dataclasses.replace(settings_of(node_dirs), conmon=node_dirs.root / "conmon")
        with pytest.raises(ExecSyncError, match=r"conmon cannot be run: .*/conmon: No such file .* put it back"):
            await exec_sync(settings, inside.container, ExecProcess(("true",)), LONG)
        assert inside.leftovers == []


async def test_a_call_counts_with_the_containers_own_monitor(node_dirs: NodeDirs, busybox_rootfs: Path) -> None:
    with running(node_dirs, busybox_rootfs) as (_, inside):
        call = asyncio.create_task(inside.exec("sleep", "1973"))
        await soon(lambda: inside.processes("sleep", "1973"), "the command runs")
        assert set(calls(inside)) <= hierarchy().processes(inside.container.place.monitor)
        assert inside.container.place.monitor in Path(f"/proc/{calls(inside)[0]}/cgroup").read_text()
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call


async def test_no_call_in_a_paused_or_an_ended_container(node_dirs: NodeDirs, busybox_rootfs: Path) -> None:
    with running(node_dirs, busybox_rootfs) as (node, inside):
        node.apply(container("web", busybox_rootfs, "sleep", "100000", state="Paused"))
        node.wait("web", lambda s: s["phase"] == "Paused")
        with pytest.raises(ExecSyncError, match=r"paused.*resume it first"):
            await inside.exec("true")
        told = node.command("exec", "web", "--", "true", check=False)
        assert (told.returncode, "default/web: it is paused" in told.stderr) == (1, True)
        node.apply(
            container("web", busybox_rootfs, "sleep", "100000", state="Stopped", terminationGracePeriodSeconds=1)
        )
        node.wait("web", lambda s: s["phase"] == "Stopped")
        with pytest.raises(ExecSyncError, match="does not run"):
            await inside.exec("true")
        told = node.command("exec", "web", "--", "true", check=False)
        assert (told.returncode, "default/web does not run (it is Stopped)" in told.stderr) == (1, True)


@pytest.mark.parametrize("spawned", [False, True])
async def test_a_call_of_a_container_that_ends_this_moment_says_so(
    node_dirs: NodeDirs, busybox_rootfs: Path, monkeypatch: pytest.MonkeyPatch, spawned: bool
) -> None:
    def end_it() -> None:
        node.apply()
        eventually(lambda: not inside.container.bundle.exists(), "the bundle is gone")

    @contextmanager
    def ends_first(process: Mapping[str, Any]) -> Iterator[int]:
        end_it()
        with in_memory(process) as spec:
            yield spec

    async def ends_meanwhile(monitor: execmonitor.ExecMonitor) -> None:
        end_it()

    if spawned:
        monkeypatch.setattr(execmonitor.ExecMonitor, "join", ends_meanwhile)
    else:
        monkeypatch.setattr(execmonitor, "in_memory", ends_first)
    with running(node_dirs, busybox_rootfs, terminationGracePeriodSeconds=1) as (node, inside):
        with pytest.raises(ExecSyncError, match="does not run"):
            await inside.exec("true")
        await soon(lambda: not any(census(node_dirs).values()), "nothing is left")


async def test_a_runtime_that_fails_since_the_container_has_ended_is_no_fault(
    node_dirs: NodeDirs, busybox_rootfs: Path
) -> None:
    """runc says `setns process: exit status 1`, `write init-p: broken pipe`, `lstat /proc/1/ns/ipc`, …"""
    with running(node_dirs, busybox_rootfs) as (node, inside):
        too_late = node_dirs.root / "too-late"
        too_late.write_text(
            f"#!/bin/sh\nkill -9 {inside.pid}\nwhile [ -d /proc/{inside.pid} ]; do sleep 0.01; done\n"
            "echo 'lstat /proc/1/ns/ipc: no such file or directory' >&2\nexit 1\n"
        )
        too_late.chmod(0o755)
        by_another_runtime(node, inside, str(too_late))
        done = node.command("exec", "web", "--", "true", check=False)
        assert (done.returncode, "default/web: it does not run" in done.stderr) == (1, True)
        assert inside.leftovers == []


def ignores(pid: int, *numbers: signal.Signals) -> bool:
    """Whether a process ignores these signals."""
    mask = int(Path(f"/proc/{pid}/status").read_text().partition("SigIgn:")[2].split()[0], 16)
    return all(mask & 1 << number - 1 for number in numbers)


async def test_a_reader_that_does_not_read_keeps_no_container_from_ending(
    node_dirs: NodeDirs, busybox_rootfs: Path
) -> None:
    """The command is the client's child, and a pid namespace is over once each of its processes was waited for."""
    with running(node_dirs, busybox_rootfs, restartPolicy="Never") as (node, inside):
        client = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "oarlock", "exec", "web", "--", "yes"),
            env=node.environment,
            stdout=asyncio.subprocess.PIPE,
            limit=1,
        )
        await soon(lambda: inside.processes("yes"), "it runs")
        await soon(lambda: ignores(client.pid, signal.SIGTSTP, signal.SIGTTIN, signal.SIGTTOU), "nothing stops it")
        os.kill(inside.pid, signal.SIGKILL)
        assert node.wait("web", lambda s: s["phase"] == "Failed")["exitCode"] == 137
        assert client.returncode is None
        client.send_signal(signal.SIGTERM)  # there is no command any more to pass it on to
        async with asyncio.timeout(LONG):
            await client.communicate()
        assert client.returncode in (143, -signal.SIGTERM)  # on its way out its handlers are gone: a shell's 143 too


async def test_a_stopped_client_does_not_keep_a_container_from_being_stopped(
    node_dirs: NodeDirs, busybox_rootfs: Path
) -> None:
    with running(node_dirs, busybox_rootfs, terminationGracePeriodSeconds=0) as (node, inside):
        client = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "oarlock", "exec", "web", "--", "sleep", "1976"), env=node.environment
        )
        await soon(lambda: inside.processes("sleep", "1976"), "it runs")
        client.send_signal(signal.SIGSTOP)
        await asyncio.to_thread(node.command, "stop", "web")
        assert node.status("web")["exitCode"] == 137
        async with asyncio.timeout(LONG):
            assert await client.wait() == 137


async def test_calls_work_while_it_stops_and_end_with_it(node_dirs: NodeDirs, busybox_rootfs: Path) -> None:
    slow = ("sh", "-c", "trap 'until [ -e /go ]; do sleep 0.1; done; exit 7' TERM; while :; do sleep 1000 & wait; done")
    with running(node_dirs, busybox_rootfs, *slow, terminationGracePeriodSeconds=60) as (node, inside):
        call = asyncio.create_task(inside.exec("sh", "-c", "trap : TERM; while :; do sleep 1; done"))
        streaming = asyncio.create_task(
            asyncio.to_thread(node.command, "exec", "web", "--", "sleep", "1974", check=False)
        )
        await soon(lambda: inside.processes("sleep", "1974") and calls(inside), "both run")
        node.apply(container("web", busybox_rootfs, *slow, state="Stopped", terminationGracePeriodSeconds=60))
        await asyncio.to_thread(node.wait, "web", lambda s: s["phase"] == "Stopping")
        assert (await inside.exec("echo", "still")).stdout == b"still\n"
        Path(f"/proc/{inside.pid}/root/go").touch()  # by a call it would be a race with the end
        async with asyncio.timeout(LONG):
            assert (await call).exit_code == 137
            assert (await streaming).returncode == 137
        node.wait("web", lambda s: s["phase"] == "Stopped")
        await soon(lambda: not any(census(node_dirs).values()), "nothing is left")


def oarlock(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "oarlock", *arguments]


def test_exec_passes_streams_and_code_on(node_dirs: NodeDirs, busybox_rootfs: Path) -> None:
    with running(node_dirs, busybox_rootfs) as (node, inside):
        node.kill()  # the operator is not needed
        chosen = ("exec", "-i", "-u", "app:extra", "-w", "/tmp", "-e", "A=b c", "-e", "SECRET")
        script = "id -u; id -g; pwd; echo $A $SECRET $HOME; cat; echo no >&2; exit 3"
        done = subprocess.run(
            oarlock(*chosen, "web", "--", "sh", "-c", script),
            env=node.environment | {"SECRET": "hush"},
            input=b"typed",
            capture_output=True,
            timeout=LONG,
        )
        assert (done.stdout, done.stderr, done.returncode) == (
            b"1000\n2000\n/tmp\nb c hush /home/app\ntyped",
            b"no\n",
            3,
        )
        assert node.command("exec", "web", "--", "cat", check=False).stdout == ""  # no input without -i
        assert node.command("exec", "web", "--", "sh", "-c", "kill -9 $$", check=False).returncode == 137
        assert inside.leftovers == []


def test_exec_carries_much_both_ways_at_once(node_dirs: NodeDirs, busybox_rootfs: Path) -> None:
    data = os.urandom(1 << 20) * 8
    with running(node_dirs, busybox_rootfs) as (node, _):
        done = subprocess.run(
            oarlock("exec", "-i", "web", "--", "cat"),
            env=node.environment,
            input=data,
            capture_output=True,
            timeout=LONG,
        )
        assert done.stdout == data


def test_exec_with_a_deadline_ends_with_5(node_dirs: NodeDirs, busybox_rootfs: Path) -> None:
    with running(node_dirs, busybox_rootfs) as (node, inside):
        for seconds in (f"{3 * PATIENCE:g}", f"{10 * PATIENCE:g}"):  # the longer one where it has not begun by then
            command = ("web", "--", "sh", "-c", "echo a; sleep 1975")
            late = node.command("exec", "--timeout", f"{seconds}s", *command, check=False)
            if late.stdout:
                break
        assert (late.returncode, late.stdout) == (5, "a\n")
        assert f"default/web: sh ran longer than {seconds} s and was ended" in late.stderr
        assert not inside.processes("sleep", "1975")
        done = node.command("exec", "--timeout", "60s", "web", "--", "sh", "-c", "echo a; exit 4", check=False)
        assert (done.returncode, done.stdout) == (4, "a\n")


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_exec_passes_signals_on(node_dirs: NodeDirs, busybox_rootfs: Path, number: signal.Signals, code: int) -> None:
    """Ctrl-C too reaches the shell's child, as it does on a terminal."""
    script = "exec sleep 1976" if number == signal.SIGTERM else "sleep 1976; true"
    with running(node_dirs, busybox_rootfs) as (node, inside):
        call = subprocess.Popen(oarlock("exec", "web", "--", "sh", "-c", script), env=node.environment)
        eventually(lambda: inside.processes("sleep", "1976"), "the command runs")
        call.send_signal(number)
        assert call.wait(timeout=LONG) == code
        eventually(lambda: not inside.processes("sleep", "1976"), "and its child")


def test_a_shell_at_a_terminal(node_dirs: NodeDirs, busybox_rootfs: Path) -> None:
    with (
        running(node_dirs, busybox_rootfs) as (node, inside),
        at_a_terminal(node, "exec", "-it", "web", "--", "sh", rows=30, columns=90) as person,
    ):
        person.reads("# ")
        person.type("stty size\n")
        person.reads(r"30 90\r\n")
        person.resize(50, 132)
        eventually(lambda: _says(person, "stty size\n", r"(\d+ \d+)\r\n") == b"50 132", "the new size is seen")
        person.type("sleep 1977\n")
        eventually(lambda: inside.processes("sleep", "1977"), "the command runs")
        person.type("\x03")  # Ctrl-C interrupts it, not oarlock
        person.reads("# ")
        person.type("echo $((40 + 2)); tty; exit 9\n")
        person.reads(r"42\r\n/dev/pts/0\r\n")
        assert person.ends() == 9
        assert person.is_as_before
        assert inside.leftovers == []


def _says(person: Any, typed: str, pattern: str) -> bytes:
    person.type(typed)
    answer: bytes = person.reads(pattern)[1]
    return answer


def test_the_terminal_is_restored_when_nothing_could_run(node_dirs: NodeDirs, busybox_rootfs: Path) -> None:
    with (
        running(node_dirs, busybox_rootfs) as (node, _),
        at_a_terminal(node, "exec", "-it", "web", "--", "nosuch") as person,
    ):
        assert person.ends() == 127
        assert b"nosuch" in person.seen
        assert person.is_as_before


def test_a_terminal_that_is_none_is_told(node_dirs: NodeDirs, busybox_rootfs: Path) -> None:
    with running(node_dirs, busybox_rootfs) as (node, _):
        done = node.command("exec", "-it", "web", "--", "sh", "-c", "test -t 1 || echo plain", check=False)
        assert (done.stdout, "-t: the standard input is no terminal" in done.stderr) == ("plain\n", True)


def test_without_an_input_the_keys_of_the_terminal_are_signals(node_dirs: NodeDirs, busybox_rootfs: Path) -> None:
    with (
        running(node_dirs, busybox_rootfs) as (node, inside),
        at_a_terminal(node, "exec", "-t", "web", "--", "sleep", "1977") as person,
    ):
        eventually(lambda: inside.processes("sleep", "1977"), "the command runs")
        person.type("\x03")
        assert person.ends() == 130
        assert not inside.processes("sleep", "1977")


def test_a_command_with_a_deadline_ends_with_who_called_it(node_dirs: NodeDirs, busybox_rootfs: Path) -> None:
    with running(node_dirs, busybox_rootfs) as (node, inside):
        command = oarlock("exec", "--timeout", "600s", "web", "--", "sleep", "1978")
        with subprocess.Popen(command, env=node.environment) as calling:
            eventually(lambda: inside.processes("sleep", "1978"), "the command runs")
            calling.terminate()
            assert calling.wait(timeout=LONG) == 143
        assert not inside.processes("sleep", "1978")
        assert inside.leftovers == []


def test_odd_callers_and_words(node_dirs: NodeDirs, busybox_rootfs: Path) -> None:
    with running(node_dirs, busybox_rootfs) as (node, _):
        for closed in ("<&-", ">&-", "2>&-", "<&- >&- 2>&-"):
            done = subprocess.run(
                ["sh", "-c", f'exec "$@" {closed}', "sh", *oarlock("exec", "web", "--", "echo", "hi")],
                env=node.environment,
                capture_output=True,
                timeout=LONG,
            )
            assert (done.returncode, done.stderr) == (0, b""), closed
        for how in ([], ["--timeout", "60s"]):
            long = node.command("exec", *how, "web", "--", "x" * 90_000, check=False)
            assert (long.returncode, "file name too long" in long.stderr, len(long.stderr) < 200) == (126, True, True)
        odd = subprocess.run(
            [*map(os.fsencode, oarlock("exec", "web", "--", "echo")), b"caf\xe9"],
            env=node.environment,
            capture_output=True,
            timeout=LONG,
        )
        assert (odd.returncode, b"'caf\\udce9' is not UTF-8" in odd.stderr) == (2, True)


def test_wrong_usage_is_told(node_dirs: NodeDirs, busybox_rootfs: Path) -> None:
    with running(node_dirs, busybox_rootfs) as (node, _):
        for arguments, word in (
            (("-w", "tmp", "web", "--", "true"), "-w"),
            (("-e", "=x", "web", "--", "true"), "-e"),
            (("-i", "--timeout", "1s", "web", "--", "true"), "--timeout"),
        ):
            told = node.command("exec", *arguments, check=False)
            assert (told.returncode, word in told.stderr) == (2, True)
        told = node.command("exec", "-u", "nosuch", "web", "--", "true", check=False)
        assert (told.returncode, "no user 'nosuch'" in told.stderr) == (1, True)
        assert node.command("exec", "nobody", "--", "true", check=False).returncode == 3


async def test_many_calls_leave_no_more_than_one(node_dirs: NodeDirs, busybox_rootfs: Path) -> None:
    with running(node_dirs, busybox_rootfs) as (_, inside):
        await inside.exec("true")
        gc.collect()  # what earlier tests left
        before = grown(inside)
        for _ in range(10):
            await asyncio.gather(*(inside.exec("true") for _ in range(4)))
        await soon(lambda: grown(inside) == before, f"as before: {before}, not {grown(inside)}")


def grown(inside: Inside) -> tuple[int, int, int, int]:
    """Descriptors here, mounts, processes in the container, and entries of its bundle."""
    return (
        len(os.listdir("/proc/self/fd")),
        len(mounts_below(inside.root)),
        len(hierarchy().processes(inside.container.place.container)),
        len(os.listdir(inside.container.bundle)),
    )
