"""One container on this node, through conmon and an OCI runtime: the port of `oci.go`."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import signal
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from oarlock.cgroups.hierarchy import hierarchy
from oarlock.cgroups.manager import CgroupManager
from oarlock.errors import RuntimeFailure, RuntimeTimeout, StartFailed
from oarlock.linux.files import is_locked
from oarlock.linux.process import Process, hold, uninterruptible
from oarlock.runtime import oom
from oarlock.runtime.command import run
from oarlock.runtime.container import Container
from oarlock.runtime.execprocess import ExecProcess
from oarlock.runtime.execution import ExecResult, exec_sync
from oarlock.runtime.monitor import Monitor, MonitorSettings

_GONE = ("does not exist", "no such process", "not found")
_ANSWER = 30.0


@dataclass(frozen=True, slots=True)
class Live:
    """A container's init and its monitor, held from before the start: no exit can be missed."""

    init: Process
    monitor: Process | None

    def close(self) -> None:
        """Let go of both."""
        self.init.close()
        if self.monitor is not None:
            self.monitor.close()


class Runtime:
    """Creates, starts, signals, freezes and deletes containers. Decides nothing and remembers nothing."""

    def __init__(self, settings: MonitorSettings, cgroups: CgroupManager, *, create_timeout: float) -> None:
        self._settings = settings
        self.cgroups, self._hierarchy = cgroups, hierarchy()
        self._create_timeout = create_timeout

    async def create(self, container: Container, prepare: Callable[[], object]) -> Live:
        """Create the container; its init waits for `start` (`oci.go: CreateContainer`).

        Args:
            prepare: makes the bundle, meanwhile: for most of the 10 ms that conmon's move to its cgroup takes,
                the kernel only waits.

        Raises:
            CreateFailed: the runtime refused; nothing of the container is left behind.
            RuntimeTimeout: no answer; likewise.
        """
        monitor = Monitor(self._settings, container)
        async with contextlib.AsyncExitStack() as undo:
            undo.push_async_callback(self.destroy, container)
            with contextlib.closing(monitor):
                monitor.spawn()
                moved = asyncio.create_task(monitor.adopt(self.cgroups))
                await asyncio.sleep(0)  # it is under way before this thread is busy
                try:
                    prepare()
                finally:
                    await moved
                monitor.send_start_byte()
                pid, monitor_pid = await monitor.read_pids(self._create_timeout)
            init = hold(pid)
            if init is None:
                raise RuntimeFailure(f"init {pid} ended before it was started")
            live = Live(init, hold(monitor_pid))
            undo.pop_all()
        return live

    async def start(self, container: Container) -> None:
        """Run the container's command (`oci.go: StartContainer`).

        Raises:
            StartFailed: the runtime refused.
        """
        try:
            await self._runtime(container, "start", container.id)
        except RuntimeFailure as error:
            raise StartFailed(str(error)) from error

    async def state(self, container: Container) -> str | None:
        """The runtime's own word (`created`, `running`, `paused`, `stopped`); None when it knows no such container."""
        try:
            return str(json.loads(await self._runtime(container, "state", container.id))["status"])
        except RuntimeFailure as error:
            if any(word in str(error) for word in _GONE):
                return None
            raise

    async def pause(self, container: Container) -> None:
        """Freeze every process of the container (`oci.go: PauseContainer`)."""
        await self._runtime(container, "pause", container.id)

    async def resume(self, container: Container) -> None:
        """Thaw the container (`oci.go: UnpauseContainer`)."""
        await self._runtime(container, "resume", container.id)

    async def exec_sync(self, container: Container, call: ExecProcess, timeout: float) -> ExecResult:
        """Run a command in a running container, to its end (`oci.go: ExecSync`): see `execution.exec_sync`."""
        return await exec_sync(self._settings, container, call, timeout)

    async def delete(self, container: Container) -> None:
        """Let the runtime forget an ended container; fine when it has already (`oci.go: DeleteContainer`)."""
        if not (self._settings.runtime_root / container.id).exists():
            return
        try:
            await self._runtime(container, "delete", container.id)
        except RuntimeFailure:
            await self._force(container)

    async def destroy(self, container: Container) -> None:
        """End and remove whatever exists of a container, in whichever state: idempotent."""
        await self._end_monitors(container)
        await self.end_all(container)
        await self.delete(container)
        self.clear(container)

    async def kill_all(self, container: Container) -> None:
        """Kill every process in the container's cgroup (`oci.go: StopContainer`), without waiting for their end."""
        await asyncio.to_thread(self._hierarchy.kill, container.place.container)

    async def end_all(self, container: Container) -> None:
        """Kill every process in the container's cgroup and its monitor's, and see them end.

        Raises:
            RuntimeTimeout: the kernel does not let go of one.
        """
        for cgroup in (container.place.container, container.place.monitor):
            with contextlib.ExitStack() as held:
                found = [hold(pid) for pid in self._hierarchy.processes(cgroup)]
                processes = [held.enter_context(contextlib.closing(each)) for each in found if each is not None]
                if not processes:
                    continue
                await asyncio.to_thread(self._hierarchy.kill, cgroup)
                try:
                    async with asyncio.timeout(_ANSWER):
                        for process in processes:
                            await process.end()
                except TimeoutError:
                    raise RuntimeTimeout(f"its processes did not end within {_ANSWER:g} s after KILL") from None

    def uninterruptible(self, container: Container) -> list[str]:
        """Its processes that are in uninterruptible sleep, each with its name and where in the kernel."""
        pids = sorted(self._hierarchy.processes(container.place.container))
        return [told for pid in pids if (told := uninterruptible(pid))]

    def clear(self, container: Container) -> None:
        """Remove what conmon and the runtime leave behind of an ended container, but for the bundle."""
        (self._settings.exits / container.id).unlink(missing_ok=True)
        (self._settings.sockets / container.id).unlink(missing_ok=True)
        self._hierarchy.remove(container.place.container)
        self._hierarchy.remove(container.place.monitor)

    def exit_code(self, container: Container) -> int | None:
        """The exit code that conmon wrote; None while there is none."""
        try:
            return int((self._settings.exits / container.id).read_text())
        except (FileNotFoundError, ValueError):
            return None

    def frozen(self, container: Container) -> bool:
        """Whether its processes are frozen, whoever did it."""
        return self._hierarchy.frozen(container.place.container)

    def oom_killed(self, container: Container) -> bool:
        """Whether the kernel's OOM killer took a process of it: conmon's word or the cgroup's own count."""
        return (container.bundle / oom.FILE).exists() or self._hierarchy.oom_kills(container.place.container) > 0

    def monitors(self, container_id: str) -> list[int]:
        """Every conmon of this container, by its arguments: also one that never got to write its pid."""
        found = []
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit():
                with contextlib.suppress(FileNotFoundError, ProcessLookupError):
                    arguments = (entry / "cmdline").read_bytes().split(b"\0")
                    if arguments[1:3] == [b"-c", container_id.encode()] and b"conmon" in arguments[0]:
                        found.append(int(entry.name))
        return found

    def known(self) -> set[str]:
        """The ids of all containers that the runtime knows."""
        with contextlib.suppress(FileNotFoundError):
            return {entry.name for entry in self._settings.runtime_root.iterdir()}
        return set()

    async def _end_monitors(self, container: Container) -> None:
        """Kill conmon until its lock is free: one that is killed while it forks leaves a child that goes on."""
        lock = container.bundle / "monitor.lock"
        async with asyncio.timeout(_ANSWER):
            while True:
                for pid in self.monitors(container.id):
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(pid, signal.SIGKILL)
                if not is_locked(lock):
                    return
                await asyncio.sleep(0.005)  # there is nothing to wait on but the lock

    async def _force(self, container: Container) -> None:
        if (self._settings.runtime_root / container.id).exists():
            try:
                await self._runtime(container, "delete", "--force", container.id)
            except RuntimeFailure as error:
                if not any(word in str(error) for word in _GONE):
                    raise
            shutil.rmtree(self._settings.runtime_root / container.id, ignore_errors=True)

    async def _runtime(self, container: Container, *arguments: str) -> str:
        by_systemd = ("--systemd-cgroup",) if container.place.by_systemd else ()
        command = [container.runtime, "--root", self._settings.runtime_root, *by_systemd, *arguments]
        return await run(command, timeout=_ANSWER)


def adopt(pid: int | None, start: int | None) -> Process | None:
    """The recorded process, if it is still that one."""
    return hold(pid, start) if pid is not None and start is not None else None
