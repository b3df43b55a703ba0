"""ExecSync: a command in a running container, to its end, through a conmon of its own (`oci.go: ExecSync`)."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass, field

from oarlock.errors import ExecSyncError, ExecTimeout
from oarlock.runtime.container import Container
from oarlock.runtime.crilog import Entry, Splitter
from oarlock.runtime.execmonitor import LOG_LIMIT, MonitorLost, executing
from oarlock.runtime.execprocess import ExecProcess
from oarlock.runtime.monitor import MonitorSettings

OUTPUT_LIMIT = 16 << 20
"""Bytes of stdout and stderr together that are kept (cri-o: `maxExecSyncSize`)."""


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
        timeout: seconds from its start; a fraction counts. Until it starts, `settings.runtime_timeout` counts.

    Raises:
        ExecSyncError: it did not run (`exit_code` 126 or 127: because of the command), or its end is not known.
        ExecTimeout: it ran longer; it and all processes that it began were ended.
        RuntimeTimeout: the runtime did not start it.
    """
    if not call.args:
        raise ExecSyncError(container.id, "no command is given; name the program to run")
    output, code, problem = Output(), -1, ""
    failed: type[ExecSyncError] | None = None
    async with executing(settings, container, call, timeout, output.feed) as monitor:
        try:
            await monitor.started()
            async with asyncio.timeout(timeout):
                code = await monitor.exit_code()
        except TimeoutError:
            failed, problem = ExecTimeout, f"{call.args[0]} ran longer than {timeout:g} s and was ended"
        except MonitorLost as lost:
            failed, problem = ExecSyncError, lost.problem
    out, err, truncated = bytes(output.stdout), bytes(output.stderr), output.truncated
    if failed is None:
        return ExecResult(out, err, code, truncated)
    left = f"; {monitor.left} of its processes have not ended yet" if monitor.left else ""
    raise failed(container.id, problem + left, stdout=out, stderr=err, truncated=truncated)


@dataclass(slots=True)
class Output:
    """The two streams, taken out of the CRI format, up to `limit` bytes together."""

    limit: int = OUTPUT_LIMIT
    log_limit: int = LOG_LIMIT
    stdout: bytearray = field(default_factory=bytearray)
    stderr: bytearray = field(default_factory=bytearray)
    truncated: bool = False
    _splitter: Splitter = field(default_factory=Splitter)
    _read: int = 0

    def feed(self, block: bytes) -> None:
        """Take what conmon wrote next; b"" says that nothing follows."""
        self._read += len(block)
        if not self.truncated:
            self._take(self._splitter.feed(block) if block else self._splitter.finish())
        self.truncated |= self._read >= self.log_limit

    def _take(self, entries: Iterator[Entry]) -> None:
        for entry in entries:
            text, room = entry.output, self.limit - len(self.stdout) - len(self.stderr)
            self.truncated |= len(text) > room
            (self.stdout if entry.stream == b"stdout" else self.stderr).extend(text[:room])
