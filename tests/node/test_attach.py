"""Clients at a container's own input and output."""

from __future__ import annotations

import itertools
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.node_dirs import NodeDirs
from tests.operating import PATIENCE, Operator, container, eventually, operating
from tests.running import processes
from tests.terminals import at_a_terminal

LONG = 60.0 * PATIENCE
NUMBERS = itertools.count()


class Client:
    """`oarlock attach` with pipes; what it prints is collected in files."""

    def __init__(self, node: Operator, *arguments: str) -> None:
        number = next(NUMBERS)
        self._out, self._err = node.dirs.root / f"{number}.out", node.dirs.root / f"{number}.err"
        with self._out.open("wb") as out, self._err.open("wb") as err:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "oarlock", "attach", *arguments],
                env=node.environment,
                stdin=subprocess.PIPE,
                stdout=out,
                stderr=err,
            )

    @property
    def stdout(self) -> str:
        return self._out.read_text()

    @property
    def stderr(self) -> str:
        return self._err.read_text()

    def type(self, text: str) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(text.encode())
        self.process.stdin.flush()

    def close_input(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()

    def reads(self, text: str) -> None:
        eventually(lambda: text in self.stdout, f"{text!r} is shown", LONG)

    def ends(self) -> int:
        return self.process.wait(timeout=LONG)

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        self.close_input()


@contextmanager
def attached(node: Operator, *arguments: str) -> Iterator[Client]:
    client = Client(node, *arguments)
    try:
        yield client
    finally:
        client.close()


@contextmanager
def running(dirs: NodeDirs, rootfs: Path, *command: str, name: str = "web", **fields: Any) -> Iterator[Operator]:
    """A node with one running container."""
    with operating(dirs) as node:
        node.apply(container(name, rootfs, *command, restartPolicy="Never", **fields))
        node.wait(name, lambda s: s["phase"] == "Running")
        yield node


def test_input_and_output_of_a_container_and_its_exit_code(node_dirs: NodeDirs, busybox_rootfs: Path) -> None:
    script = 'while read line; do echo "out $line"; echo "err $line" >&2; test "$line" = end && exit 5; done'
    with running(node_dirs, busybox_rootfs, "sh", "-c", script, stdin=True) as node:
        node.kill()  # the operator is not needed
        with attached(node, "web") as client:
            client.type("one\n")
            client.reads("out one\n")
            eventually(lambda: "err one\n" in client.stderr, "the other stream is apart")
            client.type("end\n")
            assert client.ends() == 5
            assert client.stdout == "out one\nout end\n"
    lines = next((node_dirs.state / "containers").glob("*/logs/1.log")).read_text().splitlines()
    assert sorted(line.split(" ", 3)[3] for line in lines) == ["err end", "err one", "out end", "out one"]


def test_the_exit_code_is_told_by_an_operator_that_went_on(node_dirs: NodeDirs, busybox_rootfs: Path) -> None:
    with operating(node_dirs) as node:
        node.apply(container("web", busybox_rootfs, "sh", "-c", "read line; exit 6", stdin=True))
        node.wait("web", lambda s: s["phase"] == "Running")
        with attached(node, "web") as client:
            client.type("go\n")
            assert client.ends() == 6


def test_with_stdin_once_the_first_client_ends_the_input(node_dirs: NodeDirs, busybox_rootfs: Path) -> None:
    with running(node_dirs, busybox_rootfs, "cat", stdin=True, stdinOnce=True) as node:
        with attached(node, "web") as client:
            client.type("one\n")
            client.reads("one\n")
            client.close_input()
            assert client.ends() == 0
        assert node.wait("web", lambda s: s["phase"] == "Succeeded")["exitCode"] == 0


def test_without_it_a_second_client_goes_on(node_dirs: NodeDirs, busybox_rootfs: Path) -> None:
    with running(node_dirs, busybox_rootfs, "cat", stdin=True) as node:
        for text in ("one\n", "two\n"):
            with attached(node, "web") as client:
                client.type(text)
                client.close_input()
                client.reads(text)
                assert client.process.poll() is None
        assert node.status("web")["phase"] == "Running"


def test_many_clients_see_the_same(node_dirs: NodeDirs, busybox_rootfs: Path) -> None:
    with (
        running(node_dirs, busybox_rootfs, "cat", stdin=True) as node,
        attached(node, "web") as one,
        attached(node, "--no-stdin", "web") as two,
        attached(node, "web") as three,
    ):
        clients = (one, two, three)

        def all_there() -> bool:
            one.type("there?\n")
            return all("there?\n" in each.stdout for each in clients)

        eventually(all_there, "every client is told")
        three.type("last\n")
        for each in clients:
            each.reads("last\n")


def test_a_container_without_input_shows_its_output(node_dirs: NodeDirs, busybox_rootfs: Path) -> None:
    script = "read line && exit 1; while :; do echo tick; sleep 0.2; done"
    with running(node_dirs, busybox_rootfs, "sh", "-c", script) as node:
        with attached(node, "web") as client:
            client.type("ignored\n")
            client.reads("tick\n")
            assert "default/web takes no input (spec.stdin is false)" in client.stderr
        with attached(node, "--no-stdin", "web") as client:
            client.reads("tick\n")
            assert client.stderr == ""
        assert node.status("web")["phase"] == "Running"


def test_at_a_terminal_of_the_container(node_dirs: NodeDirs, busybox_rootfs: Path) -> None:
    with (
        running(node_dirs, busybox_rootfs, "sh", tty=True, stdin=True) as node,
        at_a_terminal(node, "attach", "web", rows=30, columns=90) as person,
    ):
        person.sits_down().type("\n")
        person.reads("# ")
        _sees_size(person, "30 90")
        person.resize(50, 132)
        _sees_size(person, "50 132")
        person.type("sleep 1978\n")
        eventually(lambda: processes("sleep", "1978"), "the command runs")
        person.type("\x03")  # for the container
        person.reads("# ")
        person.type("echo $((40 + 2)); exit 9\n")
        person.reads("42\r\n")
        assert person.ends() == 9
        assert person.is_as_before


def _sees_size(person: Any, size: str) -> None:
    def look() -> bool:
        person.type("echo [$(stty size)]\n")
        return bool(person.reads(r"\[(\d+ \d+)\]\r\n")[1].decode() == size)

    eventually(look, f"the container sees {size}")


@pytest.mark.parametrize(("options", "keys"), [((), "\x10\x11"), (("--detach-keys", "ctrl-a,d"), "\x01d")])
def test_detached_and_attached_again(
    node_dirs: NodeDirs, busybox_rootfs: Path, options: tuple[str, ...], keys: str
) -> None:
    with running(node_dirs, busybox_rootfs, "sh", tty=True, stdin=True) as node:
        with at_a_terminal(node, "attach", *options, "web") as person:
            person.sits_down().type("x=7\n")
            person.reads("x=7")
            person.type(keys)
            assert person.ends() == 0
            assert b"detached; default/web goes on" in person.seen
            assert person.is_as_before
        with at_a_terminal(node, "attach", "web") as person:
            person.sits_down().type("echo $((x + 1)).\n")
            person.reads(r"8\.\r\n")
        assert node.status("web")["phase"] == "Running"


def test_a_client_that_is_ended_restores_the_terminal(node_dirs: NodeDirs, busybox_rootfs: Path) -> None:
    with (
        running(node_dirs, busybox_rootfs, "sh", tty=True, stdin=True) as node,
        at_a_terminal(node, "attach", "web") as person,
    ):
        person.sits_down().type("echo $((40 + 2))\n")
        person.reads("42\r\n")
        person.process.terminate()
        assert person.ends() == 143
        assert person.is_as_before
        assert node.status("web")["phase"] == "Running"


def test_folders_and_names_of_any_length(busybox_rootfs: Path, node_dirs: NodeDirs) -> None:
    """A socket's path may have 107 bytes; this run directory alone has more."""
    deep = node_dirs.root / "/".join(["a-folder-with-a-rather-long-name"] * 5)
    dirs = NodeDirs(node_dirs.root, deep / "state", deep / "run", node_dirs.manifests)
    deep.mkdir(parents=True)
    name = "n" * 253
    with (
        running(dirs, busybox_rootfs, "cat", name=name, stdin=True, stdinOnce=True, hostname="web") as node,
        attached(node, name) as client,
    ):
        client.type("one\n")
        client.reads("one\n")
        with at_a_terminal(node, "exec", "-it", name, "--", "sh") as person:
            person.type("tty\n")
            person.reads("/dev/pts/0\r\n")
        client.close_input()
        assert client.ends() == 0


def test_a_monitor_that_is_gone_is_told(node_dirs: NodeDirs, busybox_rootfs: Path) -> None:
    with running(node_dirs, busybox_rootfs, "sh", "-c", "cat; sleep 1000", stdin=True) as node:
        node.kill()
        monitor = node.status("web")["monitorPID"]
        with attached(node, "web") as client:
            client.type("one\n")
            client.reads("one\n")
            os.kill(monitor, 9)
            assert client.ends() == 1
            assert "its conmon has ended" in client.stderr
        with attached(node, "web") as client:
            assert client.ends() == 1
            assert re.search("default/web: nobody listens", client.stderr)


def test_a_changed_stdin_replaces_the_container(node_dirs: NodeDirs, busybox_rootfs: Path) -> None:
    with running(node_dirs, busybox_rootfs, "sleep", "1000", terminationGracePeriodSeconds=0) as node:
        for fields in ({"stdin": True}, {"stdin": True, "stdinOnce": True}):
            pid = node.status("web")["pid"]
            fields |= {"restartPolicy": "Never", "terminationGracePeriodSeconds": 0}
            node.apply(container("web", busybox_rootfs, "sleep", "1000", **fields))
            node.wait("web", lambda s, pid=pid: s["phase"] == "Running" and s["pid"] != pid)  # type: ignore[misc]


def test_wrong_usage_is_told(node_dirs: NodeDirs, busybox_rootfs: Path) -> None:
    with running(node_dirs, busybox_rootfs, "sleep", "1000") as node:
        told = node.command("attach", "--detach-keys", "ctrl-,q", "web", check=False)
        assert (told.returncode, "--detach-keys: 'ctrl-' is no key" in told.stderr) == (2, True)
        assert node.command("attach", "nobody", check=False).returncode == 3
