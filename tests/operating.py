"""A real operator for a test: started, stopped, killed; its objects given as manifests or through an API."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml

from tests import node_cgroups
from tests.node_dirs import NodeDirs

DEADLINE = 30.0
PATIENCE = float(os.environ.get("OARLOCK_TEST_PATIENCE", "1"))
"""What every deadline is multiplied by where the processor is an emulated one."""
KERNEL_TELLS_EXITS = tuple(int(part) for part in os.uname().release.split(".")[:2]) >= (6, 15)
"""PIDFD_GET_INFO with the exit: below it a signal cannot be told from an exit code of 128 and more."""
SLEEPER = ("sh", "-c", "trap 'exit 7' TERM; while :; do sleep 1000 & wait; done")
"""A command that ends with 7 when it is asked to end."""


def container(name: str, rootfs: Path, *command: str, **fields: Any) -> dict[str, Any]:
    """A ContainerSpec that runs `command` on `rootfs`."""
    spec = {"rootfs": {"path": str(rootfs)}, "command": list(command), **fields}
    return {
        "apiVersion": "oarlock.dev/v1alpha1",
        "kind": "ContainerSpec",
        "metadata": {"name": name},
        "spec": spec,
    }


def eventually(look: Callable[[], Any], what: str, deadline: float = DEADLINE) -> Any:
    """The first true answer of `look`; fails, with the last one, after `deadline` seconds."""
    end = time.monotonic() + deadline * PATIENCE
    while True:
        found = look()
        if found:
            return found
        if time.monotonic() > end:
            raise AssertionError(f"not within {deadline:g} s: {what}")
        time.sleep(0.01)  # between two looks at a fact, never instead of one


def traps(pid: int, number: int = signal.SIGTERM) -> None:
    """Wait until this init handles a signal, as `SLEEPER` TERM after a moment; before that the kernel drops it."""
    caught = 1 << (number - 1)

    def handled() -> bool:
        status = Path(f"/proc/{pid}/status").read_text()
        return bool(int(status.partition("SigCgt:")[2].split()[0], 16) & caught)

    eventually(handled, f"it handles signal {number}")


class Operator:
    """One node's operator as a process of its own, with what the command says of it."""

    def __init__(self, dirs: NodeDirs, *options: str, entry: tuple[str, ...] = ("-m", "oarlock")) -> None:
        self.dirs, self._options, self._entry = dirs, options, entry
        self.process: subprocess.Popen[bytes] | None = None
        self._log = dirs.root / "operator.log"

    @property
    def environment(self) -> dict[str, str]:
        inherited = {name: os.environ[name] for name in ("PATH", "PYTHONPATH") if name in os.environ}
        mine = {
            "NODE_NAME": "node-a",
            "MANIFESTS": self.dirs.manifests,
            "STATE_DIR": self.dirs.state,
            "RUN_DIR": self.dirs.run,
            "CGROUP_MANAGER": node_cgroups.MANAGER,
            "CGROUP_PARENT": self.dirs.cgroup_parent,
            "RUNTIME_TRUSTED": node_cgroups.RUNTIME,
        }
        return inherited | {f"OARLOCK_{name}": str(value) for name, value in mine.items()}

    def start(self, *options: str, **environment: str) -> None:
        """Start it, without waiting for anything; `options` are this start's alone, after those of every one."""
        patient = {"OARLOCK_RUNTIME_TIMEOUT": f"{30 * PATIENCE:.0f}s"} if PATIENCE > 1 else {}
        with self._log.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, *self._entry, "run", *self._options, *options],
                env=self.environment | patient | environment,
                stdout=log,
                stderr=log,
            )

    def wait_ready(self, count: int = 1) -> None:
        """Wait until it has said `count` times in all that it is ready; fails with its log when it ends instead."""

        def ready() -> bool:
            assert self.process is not None
            assert self.process.poll() is None, self.log()
            return self.log().count("is ready") >= count

        eventually(ready, "the operator is ready")

    def kill(self) -> None:
        """End it the hard way."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()

    def stop(self) -> int:
        """End it as systemd does; its exit code."""
        assert self.process is not None
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(timeout=15 * PATIENCE)

    def ends(self) -> int:
        """The exit code with which it ends by itself."""
        assert self.process is not None
        return self.process.wait(timeout=DEADLINE * PATIENCE)

    def cpu_seconds(self) -> float:
        """CPU time it has used, user and system."""
        assert self.process is not None
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def log(self) -> str:
        """All that it has said."""
        return self._log.read_text() if self._log.exists() else ""

    def command(self, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run `oarlock …` against this node."""
        done = subprocess.run(
            [sys.executable, "-m", "oarlock", *arguments],
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=60 * PATIENCE,
        )
        assert not check or done.returncode == 0, done.stderr
        return done

    @contextmanager
    def beside(self, *arguments: str, output: Path) -> Iterator[subprocess.Popen[bytes]]:
        """`oarlock …` running beside the test, its stdout in a file; killed at the end if it has not ended."""
        with output.open("wb") as file:
            process = subprocess.Popen(
                [sys.executable, "-m", "oarlock", *arguments],
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.PIPE,
            )
        try:
            yield process
        finally:
            process.kill()
            process.communicate()

    def apply(self, *objects: dict[str, Any], file: str = "objects.yaml") -> None:
        """Put these objects, as one file, into the manifest directory by a rename."""
        draft = self.dirs.root / "draft"
        draft.write_text(yaml.safe_dump_all(objects))
        draft.rename(self.dirs.manifests / file)

    def records(self) -> dict[str, dict[str, Any]]:
        """Every record, by the object's name."""
        folder = self.dirs.state / "records"
        found = {}
        for path in folder.glob("[!.]*.json") if folder.is_dir() else ():
            try:
                record = json.loads(path.read_bytes())
            except FileNotFoundError:
                continue
            found[record["name"]] = record
        return found

    def removed(self, name: str) -> None:
        """Wait until the object has no attempt any more: an exit is told before conmon has written all that it read."""
        eventually(lambda: not self.records()[name].get("current"), f"the attempt of {name} is removed")

    def status(self, name: str) -> dict[str, Any]:
        """The object's status; empty while there is none."""
        status: dict[str, Any] = self.records().get(name, {}).get("status", {})
        return status

    def wait(self, name: str, until: Callable[[dict[str, Any]], Any], deadline: float = DEADLINE) -> dict[str, Any]:
        """The object's status once `until` holds for it."""
        last: dict[str, Any] = {}

        def reached() -> bool:
            nonlocal last
            last = self.status(name)
            return bool(last) and bool(until(last))

        try:
            eventually(reached, f"status of {name}", deadline)
        except AssertionError as error:
            raise AssertionError(f"{error}; last: {last}\n{self.log()[-3000:]}") from None
        return last


@contextmanager
def operating(dirs: NodeDirs, *options: str) -> Iterator[Operator]:
    """A running operator, ended hard at the end if the test has not ended it."""
    operator = Operator(dirs, *options)
    operator.start()
    try:
        yield operator
    finally:
        operator.kill()


def live_inits(dirs: NodeDirs) -> dict[str, list[int]]:
    """By container id: the monitors alive on this node (a census of /proc)."""
    found: dict[str, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                arguments = (entry / "cmdline").read_bytes().split(b"\0")
            except (FileNotFoundError, ProcessLookupError):
                continue
            if arguments[0].endswith(b"conmon") and str(dirs.run / "bundles").encode() in b"\0".join(arguments):
                found.setdefault(arguments[2].decode(), []).append(int(entry.name))
    return found


def left(dirs: NodeDirs) -> dict[str, set[str]]:
    """What the census still finds, by kind; empty when nothing is left of any container."""
    return {kind: found for kind, found in census(dirs).items() if found}


def census(dirs: NodeDirs) -> dict[str, set[str]]:
    """Everything of containers on this node, by kind: what each of them must agree on is the records."""
    mounts = Path("/proc/self/mountinfo").read_text()
    bundles = dirs.run / "bundles"
    containers, monitors = node_cgroups.containers(dirs.cgroup)
    return {
        "monitors": set(live_inits(dirs)),
        "runtime": {entry.name for entry in (dirs.run / "runtime").iterdir()},
        "bundles": {entry.name for entry in bundles.iterdir()},
        "mounts": {entry.name for entry in bundles.iterdir() if f"{entry}/rootfs " in mounts},
        "sockets": {entry.name for entry in (dirs.run / "sockets").iterdir()},
        "cgroups": containers,
        "conmon's cgroups": monitors,
    }
