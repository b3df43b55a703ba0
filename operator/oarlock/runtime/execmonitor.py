"""The conmon of one exec: spawned, told to start, asked for pid and exit code, ended with all that it began.

It writes the command's output in the CRI format into a pipe, and tells pid and exit code over its sync pipe. So nothing
lies on a disk but the pid file, in a folder that ends with the call.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import math
import os
import secrets
import signal
import socket
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any, BinaryIO

from oarlock.cgroups.hierarchy import hierarchy
from oarlock.errors import ExecSyncError, RuntimeTimeout
from oarlock.linux.family import end_descendants, session_of
from oarlock.linux.process import Process, hold
from oarlock.linux.procfs import has_ended, parent
from oarlock.linux.removal import remove_tree
from oarlock.runtime.command import not_run, spawn
from oarlock.runtime.container import Container
from oarlock.runtime.execprocess import ExecProcess, ended, in_memory, is_over, process_of, refusal
from oarlock.runtime.monitor import MonitorSettings

LOG_LIMIT = 800 << 20
"""Bytes that conmon writes for a command: 46 a line are its own, so that 16 MiB of empty lines are less than this. What
comes after it reads and drops."""
_BLOCK = 1 << 16
_END = 5.0
_MARGIN = 30
"""Seconds after which conmon itself ends a command whose caller is gone."""
_LONGEST = 2**31 - 1
"""conmon reads a C int."""


@contextlib.asynccontextmanager
async def executing(
    settings: MonitorSettings, container: Container, call: ExecProcess, timeout: float, written: Callable[[bytes], None]
) -> AsyncIterator[ExecMonitor]:
    """A conmon that runs one command. Afterwards nothing of it is left, whatever happened meanwhile.

    Args:
        written: is called with each block of conmon's log, and with b"" at its end.

    Raises:
        ExecSyncError: there is no such container (any more).
    """
    with contextlib.ExitStack() as held:
        folder = container.bundle / f"exec-{secrets.token_hex(8)}"
        try:
            process = process_of(container.bundle, call)
            folder.mkdir(mode=0o700)
        except FileNotFoundError:
            raise ended(container.id) from None
        held.callback(remove_tree, folder)
        spec = held.enter_context(in_memory(process))
        log, log_end = _pipe(held)
        start_end, start = _pipe(held)
        sync, sync_end = socket.socketpair()
        held.callback(sync.close)
        held.callback(sync_end.close)
        sync.setblocking(False)
        pipes = {"_OCI_SYNCPIPE": str(sync_end.fileno()), "_OCI_STARTPIPE": str(start_end.fileno())}
        try:
            conmon = await spawn(
                *_arguments(settings, container, call, spec, log_end.fileno(), timeout),
                cwd=folder,
                env={**settings.environment, **pipes},
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.DEVNULL,
                stderr=asyncio.subprocess.PIPE,
                pass_fds=(spec, log_end.fileno(), start_end.fileno(), sync_end.fileno()),
                start_new_session=True,
                umask=0o022,
            )
        except (FileNotFoundError, PermissionError) as error:
            if folder.exists():
                raise ExecSyncError(container.id, not_run("conmon", error)) from None
            raise ended(container.id) from None
        monitor = ExecMonitor(container, sync, conmon, call.args[0], folder / "pid", settings.runtime_timeout)
        for given in (log_end, start_end, sync_end):
            given.close()
        try:
            await monitor.join()
            await monitor.collect(log, written)
            monitor.release(start)
            yield monitor
        finally:
            await asyncio.shield(monitor.end())


def _pipe(held: contextlib.ExitStack) -> tuple[BinaryIO, BinaryIO]:
    read, write = os.pipe()
    return held.enter_context(open(read, "rb", buffering=0)), held.enter_context(open(write, "wb", buffering=0))


def _arguments(
    settings: MonitorSettings, container: Container, call: ExecProcess, spec: int, log: int, timeout: float
) -> list[str]:
    """`-e` goes first: whoever looks for the container's own conmon looks for `-c ID` there."""
    return [
        str(settings.conmon),
        "-e",
        "-c", container.id,
        "-u", container.id,
        "-n", container.id,
        "--sync",
        "--api-version",
        "-r", str(container.runtime),
        "--runtime-arg", f"--root={settings.runtime_root}",
        "-p", "pid",
        "-l", f"k8s-file:/proc/self/fd/{log}",
        "--log-global-size-max", str(LOG_LIMIT),
        "--no-sync-log",
        "--exec-process-spec", f"/proc/self/fd/{spec}",
        "-T", str(min(math.ceil(timeout) + _MARGIN, _LONGEST)),
        *(["-t"] if call.terminal else []),
    ]  # fmt: skip


class MonitorLost(ExecSyncError):
    """conmon was killed while its command ran."""


class ExecMonitor:
    """One conmon that runs one command."""

    def __init__(
        self,
        container: Container,
        sync: socket.socket,
        conmon: asyncio.subprocess.Process,
        program: str,
        pidfile: Path,
        runtime_timeout: float,
    ) -> None:
        self._container, self._sync, self._conmon, self._program = container, sync, conmon, program
        self._pidfile, self._runtime_timeout = pidfile, runtime_timeout
        self._told = b""
        self._released = self._over = False
        self._command: Process | None = None
        self._session: int | None = None
        self._reading: asyncio.Task[None] | None = None
        self.left = 0

    async def join(self) -> None:
        """Count with the container's own conmon, not with the operator; it stays here when that one is gone."""
        cgroups, place = hierarchy(), self._container.place
        with contextlib.suppress(OSError):
            if cgroups.processes(place.monitor):
                loop = asyncio.get_running_loop()
                await loop.run_in_executor(None, cgroups.adopt, self._conmon.pid, place.monitor)

    async def collect(self, log: BinaryIO, written: Callable[[bytes], None]) -> None:
        """Read what conmon writes, meanwhile."""
        reader = asyncio.StreamReader(_BLOCK)
        loop = asyncio.get_running_loop()
        transport, _ = await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), log)

        async def read() -> None:
            with contextlib.closing(transport):
                while block := await reader.read(_BLOCK):
                    written(block)
                written(b"")

        self._reading = asyncio.create_task(read())

    def release(self, start: BinaryIO) -> None:
        """Let conmon go on: it has the runtime run the command."""
        with contextlib.suppress(BrokenPipeError):  # it has ended already: `started` says why
            start.write(b"\0")
        self._released = True

    async def started(self) -> None:
        """The command runs.

        Raises:
            ExecSyncError: it does not; says why.
            RuntimeTimeout: the runtime gave no answer.
        """
        try:
            async with asyncio.timeout(self._runtime_timeout):
                answer = await self._next()
                if answer is None:
                    answer = {"data": -1, "message": await self._words(), "killed": await self._conmon.wait() < 0}
        except TimeoutError:
            raise RuntimeTimeout(
                f"{self._container.id}: {self._container.runtime.name} exec started nothing within "
                f"{self._runtime_timeout:g} s and was killed; see what it waits for, or raise --runtime-timeout"
            ) from None
        if answer["data"] <= 0:
            self._hold(self._begun())
            if answer.get("killed"):
                raise self._lost()
            self._over = self._command is None
            if is_over(self._container):
                raise ended(self._container.id)
            raise refusal(self._container.id, str(answer.get("message", "")), self._program)
        if parent(answer["data"]) not in (self._conmon.pid, None):
            if has_ended(self._conmon.pid):
                self._hold(self._begun())
                raise self._lost()
            name = self._container.runtime.name
            problem = f"{name} exec named pid {answer['data']} as the command's, which is no child of its monitor"
            raise ExecSyncError(self._container.id, f"{problem}; try another runtime")
        self._hold(answer["data"])

    def _lost(self) -> MonitorLost:
        return MonitorLost(self._container.id, "conmon ended before the command; how that ended is not known")

    def _hold(self, pid: int | None) -> None:
        if pid is not None:
            self._command, self._session = hold(pid), session_of(pid)

    def _begun(self) -> int | None:
        """The command of a runtime that began it and failed then; conmon ends without it."""
        try:
            pid = int(self._pidfile.read_text())
        except (FileNotFoundError, ValueError):
            return None
        return pid if pid in hierarchy().processes(self._container.place.container) else None

    async def exit_code(self) -> int:
        """The command's exit code, once it has ended and its output is read.

        Raises:
            TimeoutError: conmon itself ended it.
        """
        answer = await self._next()
        if answer is None:
            raise self._lost()
        if answer["data"] < 0:
            raise TimeoutError
        self._over = True
        if self._reading is not None:
            await self._reading
        return int(answer["data"])

    async def end(self) -> None:
        """End whatever is left of the command, then conmon. Nothing of either runs afterwards."""
        if not self._released:
            self._conmon.kill()
        elif not self._over:
            if self._command is None:  # given up before conmon told of it
                self._hold(self._begun())
            self._signal(signal.SIGSTOP)
            begun = await asyncio.to_thread(end_descendants, self._conmon.pid, self._command, self._session)
            # One that has not begun its command yet must never do so; else it tells what became of it, and ends.
            self._signal(signal.SIGCONT if begun or self._command else signal.SIGKILL)
            self.left = await _ends(begun)
        try:
            async with asyncio.timeout(_END):
                await self._conmon.wait()
        except TimeoutError:
            self._conmon.kill()
            await self._conmon.wait()
        if self._reading is not None:
            await asyncio.wait([self._reading], timeout=_END)
            self._reading.cancel()
        if self._command is not None:
            self._command.close()
        if not self._container.bundle.exists():  # it ended meanwhile, and its cgroup was not empty then
            hierarchy().remove(self._container.place.monitor)

    def _signal(self, number: int) -> None:
        with contextlib.suppress(ProcessLookupError):
            self._conmon.send_signal(number)

    async def _next(self) -> dict[str, Any] | None:
        """conmon's next word; None when it has ended."""
        loop = asyncio.get_running_loop()
        while b"\n" not in self._told:
            block = await loop.sock_recv(self._sync, _BLOCK)
            if not block:
                return None
            self._told += block
        line, _, self._told = self._told.partition(b"\n")
        answer: dict[str, Any] = json.loads(line.decode(errors="replace"), strict=False)
        return answer

    async def _words(self) -> str:
        """What conmon itself complained of."""
        assert self._conmon.stderr is not None
        return (await self._conmon.stderr.read(_BLOCK)).decode(errors="replace")


async def _ends(processes: list[Process]) -> int:
    """Wait until these have ended, a few seconds at most; how many have not (frozen, or in a sleep of the kernel)."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(_END):
            for process in processes:
                await process.end()
    left = sum(not process.has_ended() for process in processes)
    for process in processes:
        process.close()
    return left
