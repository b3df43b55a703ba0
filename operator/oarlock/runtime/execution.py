"""ExecSync: a command in a running container, to its end, through a conmon of its own (`oci.go: ExecSync`).

conmon writes the command's output in the CRI format into a pipe, and tells pid and exit code over its sync pipe. So
nothing lies on a disk but the pid file, in a folder that ends with the call.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import math
import os
import secrets
import socket
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from oarlock.cgroups.hierarchy import hierarchy
from oarlock.errors import ExecSyncError, ExecTimeout, RuntimeTimeout
from oarlock.linux.family import end_descendants
from oarlock.linux.process import Process
from oarlock.linux.removal import remove_tree
from oarlock.runtime.command import ENVIRONMENT
from oarlock.runtime.container import Container
from oarlock.runtime.crilog import Entry, Splitter
from oarlock.runtime.execprocess import ExecProcess, ended, in_memory, process_of, refusal
from oarlock.runtime.monitor import MonitorSettings

OUTPUT_LIMIT = 16 << 20
"""Bytes of stdout and stderr together that are kept (cri-o: `maxExecSyncSize`)."""
_LOG_LIMIT = 2 * OUTPUT_LIMIT
"""Bytes that conmon writes for them: 46 a line are its own. What comes after is read and dropped by conmon itself."""
_BLOCK = 1 << 16
_ANSWER = 30.0
_END = 5.0


@dataclass(frozen=True, slots=True)
class ExecResult:
    """How a command ended. `exit_code` is 128 + n after signal n; `truncated`: more was written than is kept."""

    stdout: bytes
    stderr: bytes
    exit_code: int
    truncated: bool = False


async def exec_sync(settings: MonitorSettings, container: Container, call: ExecProcess, timeout: float) -> ExecResult:
    """Run a command in a running container and wait for its end.

    Args:
        timeout: seconds from its start; a fraction counts. Until it starts, the runtime has 30 s.

    Raises:
        ExecSyncError: it did not run (`exit_code` 126 or 127: because of the command), or its end is not known.
        ExecTimeout: it ran longer; it and all processes that it began were ended.
        RuntimeTimeout: the runtime did not start it.
    """
    if not call.args:
        raise ExecSyncError(container.id, "no command is given; name the program to run")
    try:
        process = process_of(container.bundle, call)
    except FileNotFoundError:
        raise ended(container.id) from None
    output = Output()
    async with _conmon(settings, container, process, timeout, output) as run:
        try:
            await run.started()
            try:
                async with asyncio.timeout(timeout):
                    code = await run.exit_code()
            except TimeoutError:
                code = None
        finally:
            await asyncio.shield(run.end())
    if code is None:
        left = f"; {run.left} of its processes have not ended yet" if run.left else ""
        problem = f"{call.args[0]} ran longer than {timeout:g} s and was ended{left}"
        raise ExecTimeout(container.id, problem, stdout=bytes(output.stdout), stderr=bytes(output.stderr))
    return ExecResult(bytes(output.stdout), bytes(output.stderr), code, output.truncated)


@dataclass(slots=True)
class Output:
    """The two streams, taken out of the CRI format, up to `limit` bytes together."""

    limit: int = OUTPUT_LIMIT
    log_limit: int = _LOG_LIMIT
    stdout: bytearray = field(default_factory=bytearray)
    stderr: bytearray = field(default_factory=bytearray)
    truncated: bool = False
    _splitter: Splitter = field(default_factory=Splitter)
    _read: int = 0

    def feed(self, block: bytes) -> None:
        """Take what conmon wrote next; b"" says that nothing follows."""
        self._read += len(block)
        self._take(self._splitter.feed(block) if block else self._splitter.finish())
        self.truncated |= self._read >= self.log_limit

    def _take(self, entries: Iterator[Entry]) -> None:
        for entry in entries:
            text, room = entry.output, self.limit - len(self.stdout) - len(self.stderr)
            self.truncated |= len(text) > room
            (self.stdout if entry.stream == b"stdout" else self.stderr).extend(text[:room])


class _Run:
    """One conmon, from its start byte on."""

    def __init__(self, container: Container, conmon: asyncio.subprocess.Process, sync: socket.socket) -> None:
        self._container, self._conmon, self._sync = container, conmon, sync
        self._told = b""
        self._reading: asyncio.Task[None] | None = None
        self.left = 0

    async def collect(self, pipe: int, output: Output) -> None:
        """Read what conmon writes, meanwhile."""
        reader = asyncio.StreamReader(_BLOCK)
        loop = asyncio.get_running_loop()
        source = open(pipe, "rb", buffering=0)
        transport, _ = await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), source)

        async def read() -> None:
            with contextlib.closing(transport):
                while block := await reader.read(_BLOCK):
                    output.feed(block)
                output.feed(b"")

        self._reading = asyncio.create_task(read())

    async def started(self) -> None:
        """The command runs."""
        try:
            async with asyncio.timeout(_ANSWER):
                answer = await self._next()
        except TimeoutError:
            raise RuntimeTimeout(f"{self._container.id}: nothing was started within {_ANSWER:g} s") from None
        if answer is None or answer["data"] <= 0:
            raise refusal(self._container.id, await self._words() if answer is None else answer.get("message", ""))

    async def exit_code(self) -> int:
        """The command's exit code, once it has ended and its output is read.

        Raises:
            TimeoutError: conmon itself ended it.
        """
        answer = await self._next()
        if self._reading is not None:
            await self._reading
        if answer is None:
            raise ExecSyncError(self._container.id, "conmon ended before the command; how that ended is not known")
        if answer["data"] < 0:
            raise TimeoutError
        return int(answer["data"])

    async def end(self) -> None:
        """End whatever is left of the command, then conmon. Nothing of either runs afterwards."""
        if self._conmon.returncode is None and (self._told or not self._sync_ended()):
            killed = await asyncio.to_thread(end_descendants, self._conmon.pid)
            self.left = await _await_ends(killed)
        try:
            async with asyncio.timeout(_END):
                await self._conmon.wait()
        except TimeoutError:
            self._conmon.kill()
            await self._conmon.wait()
        if self._reading is not None:
            await asyncio.wait([self._reading], timeout=_END)
            self._reading.cancel()

    def _sync_ended(self) -> bool:
        return self._told == b"" and self._conmon.returncode is not None

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
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_END):
                return (await self._conmon.stderr.read(_BLOCK)).decode(errors="replace")
        return ""
