"""One conmon: spawned, moved to its own cgroup, told to start, asked for the container's pid.

Each step is a method of its own, in the order of `oci.go: CreateContainer`.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import json
import os
import signal
import socket
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from oarlock.cgroups.manager import CgroupManager
from oarlock.errors import CommandNotRunnable, CreateFailed, RuntimeTimeout
from oarlock.linux.process import hold
from oarlock.linux.procfs import parent
from oarlock.runtime.command import ENVIRONMENT, command_code, logged_error, message_of, not_run, with_way_out
from oarlock.runtime.container import Container

_LOG = "runtime.log"
"""The runtime's own log of the creation, in the bundle."""
TESTED = "; `oarlock doctor` tests both"
"""The way out where neither conmon nor the runtime says anything."""


@dataclass(frozen=True, slots=True)
class MonitorSettings:
    """What every monitor is started with."""

    conmon: Path
    runtime_root: Path
    exits: Path
    sockets: Path
    no_pivot: bool = False
    journald: bool = False
    runtime_timeout: float = 30.0
    """Seconds that the runtime has for anything but create."""
    environment: Mapping[str, str] = field(default_factory=lambda: ENVIRONMENT)
    """conmon's, and so the runtime's."""


class Monitor:
    """conmon while it creates one container; closed when that is done, while conmon itself goes on."""

    def __init__(self, settings: MonitorSettings, container: Container) -> None:
        self._settings = settings
        self._container = container
        self._undo = contextlib.ExitStack()
        self._process: subprocess.Popen[bytes] | None = None

    def spawn(self) -> None:
        """Start conmon; it waits for the start byte.

        conmon takes the end of the start pipe for the start byte, so it is given both ends: an operator
        that dies now leaves a conmon that waits. It holds `monitor.lock` for its life, so that the next operator
        knows when it has really ended.
        """
        self._container.bundle.mkdir(mode=0o700, exist_ok=True)
        start_read, self._start = os.pipe()
        self._undo.callback(os.close, start_read)
        self._undo.callback(os.close, self._start)
        self._sync, sync_child = socket.socketpair()
        self._undo.callback(self._sync.close)
        self._undo.callback(sync_child.close)
        lock = os.open(self._container.bundle / "monitor.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        self._undo.callback(os.close, lock)
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        pipes = {"_OCI_SYNCPIPE": str(sync_child.fileno()), "_OCI_STARTPIPE": str(start_read)}
        self._errors = os.open(self._container.bundle / "monitor.err", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        self._undo.callback(os.close, self._errors)
        try:
            self._process = subprocess.Popen(
                self._arguments(),
                cwd=self._container.bundle,
                env={**self._settings.environment, **pipes},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=self._errors,
                pass_fds=(sync_child.fileno(), start_read, self._start, lock),
                process_group=0,
                umask=0o022,
            )
        except (FileNotFoundError, PermissionError) as error:
            raise CreateFailed(not_run("conmon", error)) from None
        sync_child.close()

    async def adopt(self, cgroups: CgroupManager) -> None:
        """Move conmon to a cgroup of its own, before it can have children.

        Raises:
            CreateFailed: it has ended already.
            OSError: it cannot be moved.
        """
        assert self._process is not None
        try:
            await cgroups.adopt(self._process.pid, self._container.place)
        except OSError:
            if self._process.poll() is None:
                raise
            raise CreateFailed(self._last_error()) from None

    def send_start_byte(self) -> None:
        """Let conmon go on: it forks and creates the container."""
        os.write(self._start, b"\0")

    async def read_pids(self, timeout: float) -> tuple[int, int]:
        """The container's pid and conmon's own.

        Raises:
            CreateFailed, CommandNotRunnable: the runtime refused.
            RuntimeTimeout: no answer within `timeout` seconds.
        """
        loop = asyncio.get_running_loop()
        self._sync.setblocking(False)
        data = b""
        try:
            async with asyncio.timeout(timeout):
                while not data.endswith(b"\n") and (block := await loop.sock_recv(self._sync, 65536)):
                    data += block
                await self._wait_for_fork()
        except TimeoutError:
            raise RuntimeTimeout(
                f"{self._container.runtime.name} create gave no answer within {timeout:g} s and was killed; "
                "see what it waits for, or raise --create-timeout"
            ) from None
        pid, message = _answer(data)
        if pid <= 0:
            raise self._refusal(message)
        monitor = int((self._container.bundle / "conmon.pid").read_text())
        if parent(pid) not in (monitor, None):
            raise CreateFailed(
                f"{self._container.runtime.name} create named pid {pid} as the container's, which is no child of its "
                "monitor; try another runtime"
            )
        return pid, monitor

    async def _wait_for_fork(self) -> None:
        """conmon's first process ends once it has forked; reaping it may not block the loop."""
        assert self._process is not None
        if first := hold(self._process.pid):
            with contextlib.closing(first):
                await first.end()
        self._process.wait()

    def _refusal(self, message: str) -> CreateFailed:
        """What the runtime logged says most; some only write it to stderr, which conmon passes on."""
        said = message.strip().splitlines()
        message = logged_error(self._container.bundle / _LOG) or (message_of(said[-1]) if said else self._last_error())
        code = command_code(message)
        if code is not None:
            return CommandNotRunnable(message, code)
        return CreateFailed(with_way_out(message))

    def _last_error(self) -> str:
        lines = os.pread(self._errors, 65536, 0).decode(errors="replace").strip().splitlines()
        if lines:
            return message_of(lines[-1])
        return f"{self._container.runtime.name} create (or conmon) ended without a word{TESTED}"

    def close(self) -> None:
        """Let go of the pipes, and of a first process that was not waited for: with its group, which it leads."""
        if self._process is not None and self._process.poll() is None:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
        self._undo.close()

    def _arguments(self) -> list[str]:
        container, settings = self._container, self._settings
        arguments = [
            str(settings.conmon),
            "-c", container.id,
            "-u", container.id,
            "-n", container.title or container.id,
            "-r", str(container.runtime),
            "--runtime-arg", f"--root={settings.runtime_root}",
            # Else it writes its warnings to what becomes the container's own stderr.
            "--runtime-arg", "--log-format=json",
            "--runtime-arg", f"--log={container.bundle / _LOG}",
            "-b", str(container.bundle),
            "-p", str(container.bundle / "pidfile"),
            "-P", str(container.bundle / "conmon.pid"),
            "-l", f"k8s-file:{container.log}",
            "--exit-dir", str(settings.exits),
            "--persist-dir", str(container.bundle),
            "--socket-dir-path", str(settings.sockets),
            "--no-sync-log",
        ]  # fmt: skip
        if container.place.by_systemd:
            arguments.append("-s")
        if settings.journald:  # conmon writes to every -l; its -n is CONTAINER_NAME there
            arguments += ["-l", "journald:"]
        if settings.no_pivot:
            arguments.append("--no-pivot")
        if container.terminal:
            arguments.append("-t")
        if container.stdin:
            arguments += ["-i"] if container.stdin_once else ["-i", "--leave-stdin-open"]
        return arguments


def _answer(data: bytes) -> tuple[int, str]:
    """The pid that conmon told, or a number below 1 and the runtime's words; it may have been cut off."""
    try:
        told = json.loads(data.decode(errors="replace"), strict=False)
        return int(told["pid"]), str(told.get("message", ""))
    except (ValueError, KeyError, TypeError):
        return -1, ""
