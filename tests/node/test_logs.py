"""Logs: rotated at full speed, compressed, followed; no line is lost or doubled, whatever is killed meanwhile."""

from __future__ import annotations

import contextlib
import gzip
import json
import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from oarlock.linux import mount
from oarlock.node.checked import JOURNAL
from oarlock.runtime.crilog import Splitter
from tests.node_dirs import NodeDirs
from tests.operating import PATIENCE, Operator, container, eventually, operating

SLOW = 120.0
"""Seconds that something may take under slow emulation."""

KILLED_AT = Path(__file__).with_name("killed_at.py")
PAD = "x" * 190
FULL_SPEED = 50e6
"""Bytes a second of a container's own output, without what the log adds to each line."""
WIDE = {"maxSize": "1Mi", "maxFiles": 100}
WAITS = "until [ -e /go ]; do usleep 10000; done"
"""A shell command that ends once the test has said `go`."""
FAST = {"requests": {"cpu": "4"}}
"""As much CPU time as the monitor gets where others want it too; without a request it is the least."""


def numbered(count: int, first: int = 1, pad: str = PAD) -> str:
    """A shell command that writes numbered lines as fast as conmon takes them."""
    return f"awk 'BEGIN {{ for (i = {first}; i < {first + count}; i++) print i \" {pad}\" }}'"


def lines(count: int, first: int = 1, pad: str = PAD) -> bytes:
    """What `numbered` writes."""
    return b"".join(b"%d %s\n" % (number, pad.encode()) for number in range(first, first + count))


def shell(name: str, rootfs: Path, script: str, **fields: Any) -> dict[str, Any]:
    return container(name, rootfs, "sh", "-c", script, **{"restartPolicy": "Never"} | fields)


def go(pid: int) -> None:
    """Let a container go on that `WAITS`."""
    Path(f"/proc/{pid}/root/go").touch()


def log_path(node: Operator, name: str) -> Path:
    current = eventually(lambda: node.records().get(name, {}).get("current"), f"{name} has an attempt")
    return Path(current["logPath"])


def rotated(log: Path) -> dict[int, str]:
    """The rotated files of a log: number and name."""
    names = [each.name for each in log.parent.glob(f"{log.name}.*") if each.suffix not in (".tmp", ".new")]
    return {int(name.removeprefix(f"{log.name}.").removesuffix(".gz")): name for name in names}


def printed(node: Operator, *arguments: str) -> bytes:
    """What `oarlock logs` prints to stdout, byte for byte."""
    output = node.dirs.root / "printed"
    with node.beside("logs", *arguments, output=output) as process:
        _, errors = process.communicate(timeout=SLOW)
    assert process.returncode == 0, errors.decode()
    return output.read_bytes()


def assert_same(found: bytes, wanted: bytes) -> None:
    """Compare long outputs without printing them."""
    if found != wanted:
        index = next((i for i, (a, b) in enumerate(zip(found, wanted, strict=False)) if a != b), len(found))
        raise AssertionError(
            f"{len(found)} bytes instead of {len(wanted)}; from byte {index} on {found[index - 60 : index + 60]!r} "
            f"instead of {wanted[index - 60 : index + 60]!r}"
        )


def test_at_full_speed_no_line_is_lost_or_doubled(node_dirs: NodeDirs, busybox_rootfs: Path) -> None:
    """The lines are complete in every run; rate and rotations in the best of three: others may want the processor."""
    written = lines(500_000)
    rootfs = node_dirs.root / "rootfs"
    shutil.copytree(busybox_rootfs, rootfs, symlinks=True)
    (rootfs / "lines").write_bytes(written)
    rates: list[float] = []
    with operating(node_dirs) as node:
        while len(rates) < 3 and max(rates, default=0.0) < FULL_SPEED / PATIENCE:
            name = f"chatty-{len(rates)}"
            node.apply(shell(name, rootfs, "cat /lines", logRotation=WIDE, resources=FAST), file=f"{name}.yaml")
            node.wait(name, lambda s: s["phase"] == "Succeeded", SLOW)
            node.removed(name)
            assert_same(printed(node, name), written)
            log = node_dirs.state / "containers" / node.records()[name]["uid"] / "logs" / "1.log"
            rates.append(len(written) / seconds_of(log) if len(rotated(log)) >= 3 else 0.0)
    assert max(rates) >= FULL_SPEED / PATIENCE, rates


def test_of_too_many_files_the_last_ones_are_kept(node_dirs: NodeDirs, busybox_rootfs: Path) -> None:
    count = 200_000
    with operating(node_dirs) as node:
        rotation = {"maxSize": "256Ki", "maxFiles": 3}
        write = numbered(count) + "; sleep 1000"
        node.apply(shell("chatty", busybox_rootfs, write, logRotation=rotation, resources=FAST))
        log = log_path(node, "chatty")
        eventually(lambda: ends_with(log, f"{count} {PAD}\n"), "the last line", SLOW)
        eventually(lambda: len(rotated(log)) == 2 and max(rotated(log)) > 3, "three files are left")
        kept = printed(node, "chatty")
        assert lines(count).endswith(kept), kept[:500]
        assert len(kept) > 256 << 10


@pytest.mark.parametrize("point", ["log renamed", "conmon told to reopen"])
def test_a_rotation_that_a_kill_cut_off_is_finished_by_the_next_operator(
    node_dirs: NodeDirs, busybox_rootfs: Path, point: str
) -> None:
    count = 6000
    script = f"{steady(3000, then='true')}; {WAITS}; {steady(count, first=3001)}"
    killed = Operator(node_dirs, entry=(str(KILLED_AT), point))
    killed.start()
    killed.apply(shell("steady", busybox_rootfs, script, logRotation={"maxSize": "20Ki", "maxFiles": 100}))
    log = log_path(killed, "steady")
    assert killed.process is not None
    assert killed.process.wait(timeout=SLOW) == -signal.SIGKILL, killed.log()
    assert list(rotated(log)) == [1]
    with operating(node_dirs) as node:
        eventually(log.exists, "a new file")
        go(node.records()["steady"]["current"]["pid"])
        eventually(lambda: ends_with(log, f"{count}\n"), "the last line", SLOW)
        eventually(lambda: len(rotated(log)) > 1, "rotated again", SLOW)
        assert_same(printed(node, "steady"), counted(count))


def test_a_conmon_that_is_stopped_loses_nothing_by_rotations_and_restarts_of_the_operator(
    node_dirs: NodeDirs, busybox_rootfs: Path
) -> None:
    count = 6000
    rotation = {"maxSize": "20Ki", "maxFiles": 100}
    with operating(node_dirs) as node:
        node.apply(shell("steady", busybox_rootfs, steady(count)))
        log = log_path(node, "steady")
        eventually(lambda: log.exists() and log.stat().st_size > 20 << 10, "it has written", SLOW)
        with stopped(conmon_of(node, "steady")):
            node.apply(shell("steady", busybox_rootfs, steady(count), logRotation=rotation))
            eventually(lambda: rotated(log), "renamed; conmon has not opened a new one")
            node.kill()
            node.start()
            node.wait_ready(2)
            assert not log.exists()
        eventually(lambda: ends_with(log, f"{count}\n"), "the last line", SLOW)
        assert_same(printed(node, "steady"), counted(count))


def test_a_full_control_fifo_puts_the_rotation_off(node_dirs: NodeDirs, busybox_rootfs: Path) -> None:
    count = 6000
    with operating(node_dirs) as node:
        node.apply(shell("steady", busybox_rootfs, steady(count)))
        log = log_path(node, "steady")
        eventually(lambda: log.exists() and log.stat().st_size > 20 << 10, "it has written", SLOW)
        with stopped(conmon_of(node, "steady")):
            fill(node_dirs.run / "bundles" / log_owner(node, "steady") / "ctl")
            node.apply(shell("steady", busybox_rootfs, steady(count), logRotation={"maxSize": "20Ki", "maxFiles": 100}))
            eventually(lambda: "could not be rotated" in node.log(), "it is told")
            assert log.exists()
            assert not rotated(log)
        eventually(lambda: rotated(log), "rotated later", SLOW)
        eventually(lambda: ends_with(log, f"{count}\n"), "the last line", SLOW)
        assert_same(printed(node, "steady"), counted(count))


def test_an_order_that_conmon_overlooks_is_given_again(node_dirs: NodeDirs, busybox_rootfs: Path) -> None:
    """conmon 2.1 takes every line of one read for the first: here for a change of the terminal's size."""
    count = 6000
    with operating(node_dirs) as node:
        node.apply(shell("steady", busybox_rootfs, steady(count)))
        log = log_path(node, "steady")
        eventually(lambda: log.exists() and log.stat().st_size > 20 << 10, "it has written", SLOW)
        with stopped(conmon_of(node, "steady")):
            (node_dirs.run / "bundles" / log_owner(node, "steady") / "ctl").write_text("1 24 80\n")
            node.apply(shell("steady", busybox_rootfs, steady(count), logRotation={"maxSize": "20Ki", "maxFiles": 100}))
            eventually(lambda: rotated(log), "renamed")
        eventually(lambda: len(rotated(log)) > 1, "rotated again", SLOW)
        eventually(lambda: ends_with(log, f"{count}\n"), "the last line", SLOW)
        assert_same(printed(node, "steady"), counted(count))


def test_another_rotation_applies_in_place(node_dirs: NodeDirs, busybox_rootfs: Path) -> None:
    write = f"{numbered(3000)}; {WAITS}; {steady(6000)}"
    with operating(node_dirs) as node:

        def apply(**rotation: Any) -> None:
            node.apply(shell("web", busybox_rootfs, write, logRotation=rotation))

        apply(maxSize="10Mi", maxFiles=50)
        pid = node.wait("web", lambda s: s["phase"] == "Running")["pid"]
        log = log_path(node, "web")
        eventually(lambda: ends_with(log, f"3000 {PAD}\n"), "all is written", SLOW)
        assert not rotated(log)
        apply(maxSize="4Ki", maxFiles=50)
        eventually(lambda: rotated(log), "rotated at the smaller size, though nothing is written")
        go(pid)
        eventually(lambda: len(rotated(log)) > 3 and ends_with(log, "6000\n"), "rotated further", SLOW)
        apply(maxSize="4Ki", maxFiles=3, compress=True)
        eventually(lambda: len(rotated(log)) == 2 and packed(log), "older ones are gone at once")
        assert node.status("web")["pid"] == pid


def test_a_log_that_somebody_removed_is_begun_anew(node_dirs: NodeDirs, busybox_rootfs: Path) -> None:
    with operating(node_dirs) as node:
        node.apply(shell("steady", busybox_rootfs, "while true; do echo tick; usleep 100000; done"))
        log = log_path(node, "steady")
        eventually(log.exists, "the log")
        for removed in (log, log.parent):
            eventually(lambda: ends_with(log, "tick\n"), "it writes")
            eventually(lambda removed=removed: remove(removed), f"{removed} is removed")
            eventually(lambda: ends_with(log, "tick\n"), f"it writes again, without {removed}", SLOW)


def test_a_log_that_grew_while_no_operator_ran_is_rotated_by_the_next(
    node_dirs: NodeDirs, busybox_rootfs: Path
) -> None:
    count = 20_000
    with operating(node_dirs) as node:
        script = f"{WAITS}; {numbered(count)}; sleep 1000"
        node.apply(shell("chatty", busybox_rootfs, script, logRotation={"maxSize": "64Ki"}))
        pid = node.wait("chatty", lambda s: s["phase"] == "Running")["pid"]
        log = log_path(node, "chatty")
        node.kill()
        go(pid)
        eventually(lambda: ends_with(log, f"{count} {PAD}\n"), "the last line", SLOW)
        assert not rotated(log)
        node.start()
        eventually(lambda: list(rotated(log)) == [1] and log.exists(), "rotated", SLOW)
        assert_same(printed(node, "chatty"), lines(count))


def test_a_disk_without_room_puts_rotation_off_and_that_is_told_once(node_dirs: NodeDirs, busybox_rootfs: Path) -> None:
    count = 6000
    node_dirs.state.mkdir()
    mount.mount_tmpfs(node_dirs.state, 32 << 20, 0o700)
    with operating(node_dirs) as node:
        node.wait_ready()
        filler = node_dirs.state / "filler"
        filler.write_bytes(b"x" * (20 << 20))
        rotation = {"maxSize": "20Ki", "maxFiles": 100}
        node.apply(shell("steady", busybox_rootfs, steady(count), logRotation=rotation))
        log = log_path(node, "steady")
        eventually(lambda: "could not be rotated: No space left on device" in node.log(), "it is told", SLOW)
        eventually(lambda: ends_with(log, f"{count}\n"), "the last line", SLOW)
        assert not rotated(log)
        assert node.log().count("could not be rotated") == 1
        filler.unlink()
        eventually(lambda: rotated(log), "rotated once there is room", SLOW)
        assert_same(printed(node, "steady"), counted(count))


def test_one_file_alone_cannot_be_rotated(node_dirs: NodeDirs) -> None:
    done = Operator(node_dirs).command("run", "--log-max-files", "1", check=False)
    assert done.returncode != 0
    assert "--log-max-files: must be at least 2" in done.stderr


def test_rotated_files_are_compressed_and_read_as_before(node_dirs: NodeDirs, busybox_rootfs: Path) -> None:
    count, turns = 40_000, 5
    bursts = "; ".join(f"{numbered(8000, 1 + 8000 * turn)}; usleep 300000" for turn in range(turns))
    with operating(node_dirs, "--log-compress") as node:
        rotation = {"maxSize": "512Ki", "maxFiles": 100}
        node.apply(shell("chatty", busybox_rootfs, bursts + "; sleep 1000", logRotation=rotation))
        log = log_path(node, "chatty")
        eventually(lambda: ends_with(log, f"{count} {PAD}\n"), "all is written", SLOW)
        eventually(lambda: packed(log), "compressed", SLOW)
        oldest = gzip.decompress((log.parent / rotated(log)[1]).read_bytes())
        assert oldest.splitlines()[0].endswith(b" stdout F 1 " + PAD.encode())
        wanted = lines(count)
        assert_same(printed(node, "chatty"), wanted)
        assert_same(printed(node, "chatty", "--tail", "30000"), wanted[wanted.index(b"\n10001 ") + 1 :])
        assert printed(node, "chatty", "--tail", "1") == lines(1, count)
        written = oldest.splitlines()[-1].split()[0].decode()
        assert wanted.endswith(printed(node, "chatty", "--since", written))
        node.apply(shell("chatty", busybox_rootfs, bursts + "; sleep 1000", logRotation=rotation | {"maxFiles": 4}))
        eventually(lambda: len(rotated(log)) == 3, "compressed ones count too")
        assert wanted.endswith(printed(node, "chatty"))


@pytest.mark.parametrize("compress", [False, True])
def test_a_follower_prints_every_line_once_over_rotations(
    node_dirs: NodeDirs, busybox_rootfs: Path, compress: bool
) -> None:
    count, turns = 20_000, 8
    bursts = "; ".join(f"{numbered(count, 1 + count * turn)}; usleep 200000" for turn in range(turns))
    with operating(node_dirs) as node:
        rotation = {"maxSize": "1Mi", "maxFiles": 100, "compress": compress}
        node.apply(shell("chatty", busybox_rootfs, f"{WAITS}; {bursts}", logRotation=rotation, resources=FAST))
        pid = node.wait("chatty", lambda s: s["phase"] == "Running")["pid"]
        log = log_path(node, "chatty")
        printed_to = node_dirs.root / "followed"
        with node.beside("logs", "-f", "chatty", output=printed_to) as follower:
            go(pid)
            node.wait("chatty", lambda s: s["phase"] == "Succeeded", SLOW)
            assert follower.wait(timeout=SLOW) == 0
        assert len(rotated(log)) >= 3
        assert_same(printed_to.read_bytes(), lines(count * turns))


def test_a_follower_ends_when_nobody_knows_how_the_container_did(node_dirs: NodeDirs, busybox_rootfs: Path) -> None:
    with operating(node_dirs) as node:
        node.apply(shell("web", busybox_rootfs, "echo hello; exec sleep 1000", restartPolicy="Never"))
        status = node.wait("web", lambda s: s["phase"] == "Running")
        eventually(lambda: ends_with(log_path(node, "web"), "hello\n"), "it has written", SLOW)
        node.kill()
        for pid in (status["monitorPID"], status["pid"]):
            os.kill(pid, signal.SIGKILL)
        eventually(lambda: not Path(f"/proc/{status['pid']}").exists(), "its exit code is nobody's any more")
        node.start()
        node.wait("web", lambda s: s["phase"] == "Unknown")
        with node.beside("logs", "-f", "web", output=node_dirs.root / "followed") as follower:
            assert follower.wait(timeout=SLOW) == 0
        assert (node_dirs.root / "followed").read_text() == "hello\n"


def test_a_follower_goes_on_with_the_next_attempt(node_dirs: NodeDirs, busybox_rootfs: Path) -> None:
    count = 20_000
    script = f"{numbered(count)}; printf 'no end'; {WAITS}; exit 1"
    with operating(node_dirs) as node:
        rotation = {"maxSize": "256Ki", "maxFiles": 100, "compress": True}
        web = shell("web", busybox_rootfs, script, restartPolicy="OnFailure", logRotation=rotation)
        node.apply(web)
        first = node.wait("web", lambda s: s["phase"] == "Running")
        log = log_path(node, "web")
        printed_to = node_dirs.root / "followed"
        with node.beside("logs", "-f", "web", output=printed_to) as follower:
            eventually(lambda: printed_to.read_bytes().endswith(b"no end"), "the prompt", SLOW)
            go(first["pid"])
            node.wait("web", lambda s: s["phase"] == "Running" and s["restartCount"] == 1, SLOW)
            second = log.with_name("2.log")
            eventually(lambda: ends_with(second, "no end"), "the second attempt has written", SLOW)
            eventually(lambda: printed_to.read_bytes().count(b"no end") == 2, "both are printed", SLOW)
            assert follower.poll() is None
            node.apply(web | {"spec": web["spec"] | {"state": "Stopped", "terminationGracePeriodSeconds": 0}})
            assert follower.wait(timeout=SLOW) == 0
        one = lines(count) + b"no end"
        assert_same(printed_to.read_bytes(), one + b"\n" + one)
        assert_same(printed(node, "web", "--previous"), one)
        assert_same(printed(node, "web", "-p", "--tail", "2"), lines(1, count) + b"no end")


def test_attempts_that_do_not_get_to_run_leave_the_log_of_the_last_that_did(
    node_dirs: NodeDirs, busybox_rootfs: Path
) -> None:
    unlimited = {"io": {"devices": [{"path": "/dev/null", "readIops": 1}]}}
    with operating(node_dirs) as node:
        node.apply(shell("web", busybox_rootfs, "echo crashed; exit 1", restartPolicy="Always"))
        node.wait("web", lambda s: s["phase"] == "BackOff" and s["restartCount"] == 1, SLOW)
        node.removed("web")
        assert printed(node, "web", "-p") == printed(node, "web") == b"crashed\n"
        ran = 2
        node.apply(shell("web", busybox_rootfs, "exit 0", resources=unlimited))
        eventually(lambda: node.records()["web"]["attempt"] > ran + 2, "three tries have failed", SLOW)
        for which in ((), ("-p",)):
            assert printed(node, "web", *which) == b"crashed\n"
        node.apply(container("web", busybox_rootfs, "nosuch"))
        node.wait("web", lambda s: s["state"].get("waiting", {}).get("reason") == "CrashLoopBackOff")
        assert node.status("web")["exitCode"] == 127
        for which in ((), ("-p",)):
            assert printed(node, "web", *which) == b"crashed\n"


def test_bytes_come_out_as_they_went_in(node_dirs: NodeDirs, busybox_rootfs: Path) -> None:
    """NULs, no UTF-8, lines that look like lines of the log, CRLF, a line of 5 MiB, no newline at the end."""
    strange = (
        bytes(range(256)) * 64
        + b"\n\n\r\nover\rwritten\r\n"
        + b"2026-01-31T12:00:00.000000000+00:00 stdout F not a line of the log\n"
        + b"2026-01-31T12:00:00.000000000+00:00 stderr P nor this\n"
        + b"stdout F\n P \nF \n\xff\xfe\x00\n"
        + os.urandom(1 << 20)
        + b"\n"
        + b"long" * (5 << 18)
        + b"\nlast, without an end"
    )
    rootfs = node_dirs.root / "rootfs"
    shutil.copytree(busybox_rootfs, rootfs, symlinks=True)
    (rootfs / "strange").write_bytes(strange)
    with operating(node_dirs) as node:
        script = f"{WAITS}; cat /strange"
        node.apply(shell("odd", rootfs, script, logRotation={"maxSize": "64Ki", "maxFiles": 100}))
        pid = node.wait("odd", lambda s: s["phase"] == "Running")["pid"]
        printed_to = node_dirs.root / "followed"
        with node.beside("logs", "-f", "odd", output=printed_to) as follower:
            go(pid)
            node.wait("odd", lambda s: s["phase"] == "Succeeded", SLOW)
            assert follower.wait(timeout=SLOW) == 0
        assert_same(printed_to.read_bytes(), strange)
        node.removed("odd")
        assert_same(printed(node, "odd"), strange)
        assert_same(printed(node, "odd", "--tail", "2"), strange[strange.rindex(b"\nlong") + 1 :])


def test_the_two_streams_keep_apart_though_their_parts_are_mixed(node_dirs: NodeDirs, busybox_rootfs: Path) -> None:
    script = (
        "for i in 1 2 3 4 5; do printf out$i-; usleep 20000; printf err$i- >&2; usleep 20000; done; "
        f"echo; usleep 20000; echo >&2; {WAITS}; echo last; printf open >&2"
    )
    with operating(node_dirs) as node:
        node.apply(shell("two", busybox_rootfs, script))
        pid = node.wait("two", lambda s: s["phase"] == "Running")["pid"]
        log = log_path(node, "two")
        eventually(lambda: [each[-2:] for each in output(log).values()] == [b"-\n"] * 2, "both lines are there", SLOW)
        go(pid)
        node.wait("two", lambda s: s["phase"] == "Succeeded", SLOW)
        node.removed("two")
        done = node.command("logs", "two")
        assert done.stdout == "out1-out2-out3-out4-out5-\nlast\n"
        assert done.stderr.startswith("err1-err2-err3-err4-err5-\nopen")
        tail = node.command("logs", "two", "--tail", "2")
        assert (tail.stdout, tail.stderr.startswith("open")) == ("last\n", True)


def test_the_journal_has_the_lines_too_and_a_missing_journal_is_told(node_dirs: NodeDirs, busybox_rootfs: Path) -> None:
    """Where this machine has a journal, its lines are looked for there; where it has none, nothing is started."""
    if not JOURNAL.is_socket():
        done = Operator(node_dirs).command("run", "--journald", check=False)
        assert done.returncode == 2
        assert f"--journald: no journal listens at {JOURNAL}; start systemd-journald" in done.stderr
        assert not node_dirs.state.exists()
        return
    with operating(node_dirs, "--journald") as node:
        node.apply(shell("web", busybox_rootfs, "echo out; echo err >&2; printf 'in '; sleep 1; echo parts"))
        node.wait("web", lambda s: s["phase"] == "Succeeded", SLOW)
        (ended,) = node.records()["web"]["exits"]
        match = f"CONTAINER_ID_FULL={ended['containerID']}"
        eventually(lambda: len(journal(match)) == 3, "all in the journal", SLOW)
        told = journal(match)
        assert [each["MESSAGE"].rstrip("\n") for each in told] == ["out", "err", "in parts"]
        node.removed("web")
        assert {each["CONTAINER_NAME"] for each in told} == {"default/web"}
        assert {each["CONTAINER_ID"] for each in told} == {ended["containerID"][:12]}
        assert [each["PRIORITY"] for each in told] == ["6", "3", "6"]
        assert printed(node, "web") == b"out\nin parts\n"


# What the tests above say with one word.


def steady(count: int, first: int = 1, then: str = "sleep 1000") -> str:
    """A shell command that writes the numbers up to `count`, a few thousand a second, and goes on with `then`."""
    turn = "echo $i; [ $((i % 50)) != 0 ] || usleep 20000; i=$((i + 1))"
    return f"i={first}; while [ $i -le {count} ]; do {turn}; done; {then}"


def counted(count: int) -> bytes:
    """What `steady` writes."""
    return b"".join(b"%d\n" % number for number in range(1, count + 1))


def newest(log: Path) -> bytes:
    """The end of a log, also when it was rotated just now."""
    names = rotated(log)
    paths = [log.parent / names[max(names)], log] if names else [log]
    return b"".join(map(tail, paths))


def output(log: Path) -> dict[bytes, bytes]:
    """By stream: the end of what was written to it. conmon cuts a line wherever one of its reads ends."""
    found = {b"stdout": b"", b"stderr": b""}
    for entry in Splitter().feed(newest(log)):
        found[entry.stream] += entry.output
    return found


def ends_with(log: Path, text: str) -> bool:
    """Whether this is the last that the log has of stdout."""
    return output(log)[b"stdout"].endswith(text.encode())


def remove(path: Path) -> bool:
    """Remove a file, or a folder though somebody may make files in it at the same time; whether that is done."""
    with contextlib.suppress(OSError):
        shutil.rmtree(path) if path.is_dir() else path.unlink()
        return True
    return False


def tail(path: Path, size: int = 1 << 16) -> bytes:
    with contextlib.suppress(FileNotFoundError), path.open("rb") as file:
        file.seek(max(0, file.seek(0, 2) - size))
        return file.read()
    return b""


def seconds_of(log: Path) -> float:
    """From the first line to the last one, by the times at which conmon read them; a millisecond at least."""
    with (log.parent / rotated(log).get(1, log.name)).open("rb") as oldest:
        first = oldest.readline()
    last = newest(log).splitlines()[-1]
    begin, end = (datetime.fromisoformat(each.split(b" ", 1)[0].decode()) for each in (first, last))
    return max((end - begin).total_seconds(), 0.001)


def packed(log: Path) -> bool:
    """Whether all rotated files are compressed but the newest."""
    names = rotated(log)
    return [name.endswith(".gz") for _, name in sorted(names.items())] == [True] * (len(names) - 1) + [False]


def journal(match: str) -> list[dict[str, Any]]:
    """What systemd's journal has of that field."""
    done = subprocess.run(
        ["journalctl", "--no-pager", "-o", "json", match],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=SLOW,
        check=True,
    )
    return [json.loads(line) for line in done.stdout.splitlines()]


def log_owner(node: Operator, name: str) -> str:
    owner: str = node.records()[name]["current"]["containerID"]
    return owner


def conmon_of(node: Operator, name: str) -> int:
    pid: int = eventually(lambda: node.records()[name]["current"].get("monitorPID"), "its conmon")
    return pid


@contextlib.contextmanager
def stopped(pid: int) -> Iterator[None]:
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


def fill(fifo: Path) -> None:
    """Fill conmon's control fifo with orders that mean nothing: sizes of a terminal that is not there."""
    fd = os.open(fifo, os.O_WRONLY | os.O_NONBLOCK)
    with contextlib.suppress(BlockingIOError):
        while True:
            os.write(fd, b"9 0 0\n" * 33)
    with contextlib.suppress(BlockingIOError):
        while True:
            os.write(fd, b"9 0 0\n")
    os.close(fd)
