"""The floor: conmon and runc driven by hand with oarlock's own config.json, and nothing around them.

Of a start what is timed is conmon's spawn, the answer with the pid, and `runc start`. The bundle (config.json, the
overlay) is made before, and there is no record, no cgroup for conmon, no network set-up and no status. Likewise of an
exec: its process spec is made before.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import shutil
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from io import BufferedReader
from pathlib import Path
from typing import Any

from oarlock.api.containerspec import validate
from oarlock.bundle import make as bundle
from oarlock.bundle.tree import look
from oarlock.runtime.execprocess import ExecProcess, process_of

_ENVIRONMENT = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C.UTF-8"}
_CGROUP = "/oarlock-floor"
_HIERARCHIES = Path("/sys/fs/cgroup")


@dataclass(frozen=True, slots=True)
class Made:
    """A bundle that is ready to be created, and where the container's log goes."""

    id: str
    bundle: Path
    layers: Path
    log: Path


class Floor:
    """Runs containers with the least that conmon and runc need.

    Args:
        state: takes the containers' layers and logs, as oarlock's state directory does.
        run: takes everything else, as its run directory does.
    """

    def __init__(self, state: Path, run: Path) -> None:
        self._folder, self._kept = run, state / "floor"
        self._conmon, self._runc = _found("conmon"), _found("runc")
        for folder in (self._kept / "logs", *(run / name for name in ("runtime", "exits", "sockets", "bundles"))):
            folder.mkdir(mode=0o700, parents=True)
        self._count = 0

    def make(self, document: Mapping[str, Any]) -> Made:
        """The bundle that oarlock makes of an object; not timed."""
        self._count += 1
        name = f"floor-{self._count:04d}"
        made = Made(name, self._folder / "bundles" / name, self._kept / name, self._kept / "logs" / name)
        spec = validate(document, where="the floor's object", node_name="node-a")
        bundle.make(
            spec,
            look(Path(spec.rootfs.path)),
            hostname="floor",
            cgroup_path=f"{_CGROUP}/{name}",
            attempt_dir=made.layers,
            bundle_dir=made.bundle,
        )
        return made

    def run(self, made: Made) -> float:
        """Create and start the container; the seconds that took."""
        began = time.monotonic()
        with self._conmon_of(self._arguments(made), made.bundle) as (conmon, sync):
            answer = json.loads(sync.readline())
            self._runtime("start", made.id)
            took = time.monotonic() - began
            conmon.wait()
        if answer["pid"] <= 0:
            raise AssertionError(f"the floor's container was not created: {answer}")
        return took

    def process(self, made: Made, *command: str) -> Path:
        """The process spec that oarlock makes of a command, as a file; not timed."""
        spec = made.bundle / "process.json"
        spec.write_text(json.dumps(process_of(made.bundle, ExecProcess(args=command))))
        return spec

    def exec_by_conmon(self, made: Made, spec: Path) -> float:
        """`conmon -e`, until its output is read and conmon has ended; the seconds that took."""
        log = made.bundle / "exec.log"
        began = time.monotonic()
        with self._conmon_of(self._exec_arguments(made, spec, log), made.bundle) as (conmon, sync):
            told = [json.loads(line) for line in sync]
            conmon.wait()
        log.read_bytes()
        took = time.monotonic() - began
        log.unlink()
        if [answer["data"] for answer in told[1:]] != [0]:
            raise AssertionError(f"the floor's exec failed: {told}")
        return took

    def exec_by_runtime(self, made: Made, spec: Path) -> float:
        """`runc exec`; the seconds that took."""
        began = time.monotonic()
        self._runtime("exec", "--process", str(spec), made.id)
        return time.monotonic() - began

    def delete(self, made: Made) -> float:
        """`runc delete --force`, and nothing else; the seconds that took."""
        began = time.monotonic()
        self._runtime("delete", "--force", made.id)
        return time.monotonic() - began

    def monitor(self, made: Made) -> int:
        """The pid of the container's conmon."""
        return int((made.bundle / "conmon.pid").read_text())

    def remove(self, made: Made) -> None:
        """End the container and remove all of it; not timed."""
        self._runtime("delete", "--force", made.id)
        with contextlib.suppress(FileNotFoundError):
            wait_for_end(self.monitor(made), 5.0)
        bundle.remove(made.layers, made.bundle)
        made.log.unlink(missing_ok=True)
        for hierarchy in _HIERARCHIES.iterdir():
            with contextlib.suppress(OSError):
                (hierarchy / _CGROUP.strip("/") / made.id).rmdir()

    def burst(self, documents: Sequence[Mapping[str, Any]], at_once: int) -> float:
        """Containers per second with so many being made at one time."""
        made = [self.make(document) for document in documents]
        with ThreadPoolExecutor(at_once) as threads:
            try:
                began = time.monotonic()
                list(threads.map(self.run, made))
                return len(made) / (time.monotonic() - began)
            finally:
                list(threads.map(self.remove, made))

    def _runtime(self, *arguments: str) -> None:
        subprocess.run(
            [self._runc, "--root", str(self._folder / "runtime"), *arguments],
            env=_ENVIRONMENT,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            check=True,
            timeout=30,
        )

    @contextlib.contextmanager
    def _conmon_of(
        self, arguments: Sequence[str], folder: Path
    ) -> Iterator[tuple[subprocess.Popen[bytes], BufferedReader]]:
        """A conmon that was told to go on, and what it says."""
        start_read, start_write = os.pipe()
        sync_read, sync_write = os.pipe()
        pipes = {"_OCI_SYNCPIPE": str(sync_write), "_OCI_STARTPIPE": str(start_read)}
        conmon = subprocess.Popen(
            arguments,
            cwd=folder,
            env=_ENVIRONMENT | pipes,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            pass_fds=(sync_write, start_read),
        )
        os.close(sync_write)
        os.close(start_read)
        os.write(start_write, b"\0")
        with open(sync_read, "rb") as sync:
            yield conmon, sync
        os.close(start_write)

    def _exec_arguments(self, made: Made, spec: Path, log: Path) -> list[str]:
        return [
            self._conmon,
            *("-e", "-c", made.id, "-u", made.id, "-n", made.id, "--sync", "--api-version"),
            *("-r", self._runc, "--runtime-arg", f"--root={self._folder / 'runtime'}"),
            *("-p", str(made.bundle / "exec.pid"), "-l", f"k8s-file:{log}", "--no-sync-log"),
            *("--exec-process-spec", str(spec)),
        ]

    def _arguments(self, made: Made) -> list[str]:
        """As oarlock has them, so that conmon does the same work."""
        return [
            self._conmon,
            *("-c", made.id, "-u", made.id, "-n", made.id),
            *("-r", self._runc, "--runtime-arg", f"--root={self._folder / 'runtime'}"),
            *("-b", str(made.bundle), "-p", str(made.bundle / "pidfile"), "-P", str(made.bundle / "conmon.pid")),
            *("-l", f"k8s-file:{made.log}"),
            *("--exit-dir", str(self._folder / "exits"), "--persist-dir", str(made.bundle)),
            *("--socket-dir-path", str(self._folder / "sockets"), "--no-sync-log"),
        ]


@contextlib.contextmanager
def floor(state: Path, run: Path) -> Iterator[Floor]:
    """A floor in new folders; its cgroups are gone at the end."""
    try:
        yield Floor(state, run)
    finally:
        for hierarchy in _HIERARCHIES.iterdir():
            with contextlib.suppress(OSError):
                (hierarchy / _CGROUP.strip("/")).rmdir()


def wait_for_end(pid: int, deadline: float) -> None:
    """Wait until a process has ended; fine when it has already."""
    try:
        fd = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    try:
        poll = select.poll()
        poll.register(fd, select.POLLIN)
        if not poll.poll(1000 * deadline):
            raise AssertionError(f"process {pid} does not end")
    finally:
        os.close(fd)


def _found(program: str) -> str:
    path = shutil.which(program, path=_ENVIRONMENT["PATH"])
    if path is None:
        raise FileNotFoundError(f"{program} is missing: run make setup")
    return path
