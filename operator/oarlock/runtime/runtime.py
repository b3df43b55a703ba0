"""One container on this node, through conmon and an OCI runtime: the port of `oci.go`."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import json
import logging
import os
import shutil
import signal
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from oarlock.cgroups.hierarchy import hierarchy
from oarlock.cgroups.manager import CgroupManager
from oarlock.errors import CreateFailed, RuntimeFailure, RuntimeTimeout, StartFailed
from oarlock.linux import clock
from oarlock.linux.files import is_locked
from oarlock.linux.process import Process, hold, uninterruptible
from oarlock.runtime import oom, running
from oarlock.runtime.command import run
from oarlock.runtime.container import Container
from oarlock.runtime.execprocess import ExecProcess
from oarlock.runtime.execution import ExecResult, exec_sync
from oarlock.runtime.monitor import Monitor, MonitorSettings

_GONE = ("does not exist", "no such process", "not found")
_STARVED = (
    "the kernel's OOM killer took its init before it was started: spec.resources.limits.memory is too small; raise it"
)
_ENDS, _FREEZES = 30.0, 2.0
"""Seconds that the kernel has to let go of a killed process, and to freeze those that live."""

logger = logging.getLogger(__name__)


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
                starved = self.oom_killed(container)
                raise CreateFailed(_STARVED if starved else f"its init, pid {pid}, ended before it was started")
            live = Live(init, hold(monitor_pid))
            undo.pop_all()
        return live

    async def start(self, container: Container, init: Process) -> None:
        """Run the container's command (`oci.go: StartContainer`).

        What counts is the kernel's word: an init that waits for its start is a fork that has executed nothing. Of a
        runtime with another kind of init, its own word counts.

        Raises:
            StartFailed: the runtime refused.
            RuntimeTimeout: no answer, or the command was not executed though the runtime says so.
        """
        waits = init.is_fork()
        try:
            await self._runtime(container, "start", container.id)
        except RuntimeFailure as error:
            if waits and not init.is_fork() and not init.has_ended():
                logger.warning("container %s: %s; but its command runs", container.id, error)
                return
            if isinstance(error, RuntimeTimeout):
                raise
            raise StartFailed(str(error)) from error
        if waits:
            await self._executed(container, init)

    async def _executed(self, container: Container, init: Process) -> None:
        pause = 0.001
        try:
            async with asyncio.timeout(self._settings.runtime_timeout):
                while init.is_fork() and not init.has_ended():
                    await asyncio.sleep(pause)  # the kernel tells nobody; done by the first look as a rule
                    pause = min(2 * pause, 0.1)
        except TimeoutError:
            raise RuntimeTimeout(
                f"{container.runtime.name} start says that it is done, but the command was not executed within "
                f"{self._settings.runtime_timeout:g} s; see what it waits for, or raise --runtime-timeout"
            ) from None

    async def state(self, container: Container) -> str | None:
        """The runtime's own word (`created`, `running`, `paused`, `stopped`); None when it knows no such container."""
        try:
            told = await self._runtime(container, "state", container.id)
        except RuntimeFailure as error:
            if any(word in str(error) for word in _GONE):
                return None
            raise
        try:
            return str(json.loads(told)["status"])
        except (ValueError, KeyError, TypeError):
            raise RuntimeFailure(f"{container.runtime.name} state printed {told[:40]!r}, which is no state") from None

    async def pause(self, container: Container) -> None:
        """Freeze every process of the container (`oci.go: PauseContainer`): all of them, or none.

        One that only has not had its turn yet counts as frozen: it runs no instruction of its own any more.

        Raises:
            RuntimeFailure: not every process is frozen now, whatever the runtime says; it is thawed then.
        """
        refused = None
        try:
            await self._runtime(container, "pause", container.id)
        except RuntimeFailure as error:
            refused = error
        if await self._all_frozen(container):
            return
        if not self.frozen(container):
            raise refused or RuntimeFailure(
                f"{container.runtime.name} pause says that it is done, but nothing is frozen"
            )
        if sleeping := self.uninterruptible(container):
            self._hierarchy.thaw(container.place.container)
            told = ", ".join(self.uninterruptible(container) or sleeping)  # what is frozen looks the same on version 1
            raise RuntimeFailure(f"not every process could be frozen, so all were thawed: {told}")

    async def _all_frozen(self, container: Container) -> bool:
        cgroup, pause = container.place.container, 0.001
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_FREEZES):
                while self.frozen(container) and not self._hierarchy.all_frozen(cgroup):
                    await asyncio.sleep(pause)  # done by the first look as a rule, but not all runtimes wait for it
                    pause = min(2 * pause, 0.1)
        return self._hierarchy.all_frozen(cgroup)

    async def resume(self, container: Container) -> None:
        """Thaw the container (`oci.go: UnpauseContainer`): without the runtime where that one fails.

        A frozen process does not end, so no stop may hang on the runtime.

        Raises:
            RuntimeFailure: it is frozen again at once.
        """
        try:
            await self._runtime(container, "resume", container.id)
        except RuntimeFailure as error:
            logger.warning("container %s: %s", container.id, error)
        if self.frozen(container):
            logger.warning("container %s: thawed without its runtime", container.id)
            self._hierarchy.thaw(container.place.container)
            if self.frozen(container):
                raise RuntimeFailure("it is frozen again as soon as it is thawed; see what else freezes its cgroup")

    async def exec_sync(self, container: Container, call: ExecProcess, timeout: float) -> ExecResult:
        """Run a command in a running container, to its end (`oci.go: ExecSync`): see `execution.exec_sync`."""
        return await exec_sync(self._settings, container, call, timeout)

    async def delete(self, container: Container) -> None:
        """Let the runtime forget an ended container; fine when it has already (`oci.go: DeleteContainer`)."""
        known = self._settings.runtime_root / container.id
        if not known.exists():
            return
        try:
            await self._runtime(container, "delete", container.id)
        except RuntimeTimeout:
            raise
        except RuntimeFailure as error:
            logger.debug("container %s: %s; forced now", container.id, error)
        if known.exists():
            await self._force(container)

    async def destroy(self, container: Container) -> None:
        """End and remove whatever exists of a container, in whichever state: idempotent."""
        await self._end_monitors(container)
        await self.end_all(container)
        await self.delete(container)
        await self.clear(container)

    async def kill_all(self, container: Container) -> None:
        """Kill every process in the container's cgroup (`oci.go: StopContainer`), without waiting for their end."""
        await asyncio.to_thread(self._hierarchy.kill, container.place.container)

    async def end_all(self, container: Container) -> None:
        """Kill every process in the container's cgroup and its monitor's, and see them end.

        Raises:
            RuntimeTimeout: the kernel does not let go of one.
        """
        for cgroup in (container.place.container, container.place.monitor):
            kill = functools.partial(self._hierarchy.kill, cgroup)
            while await _killed(self._hierarchy.processes(cgroup), kill):
                pass  # look again: one of them may have forked meanwhile

    def uninterruptible(self, container: Container) -> list[str]:
        """Its processes that are in uninterruptible sleep, each with its name and where in the kernel."""
        pids = sorted(self._hierarchy.processes(container.place.container))
        return [told for pid in pids if (told := uninterruptible(pid))]

    async def clear(self, container: Container) -> None:
        """Remove what conmon and the runtime leave behind of an ended container, but for the bundle."""
        (self._settings.exits / container.id).unlink(missing_ok=True)
        (self._settings.sockets / container.id).unlink(missing_ok=True)
        await self.cgroups.forget(container.place)  # first: systemd makes the folder of an active unit anew
        for cgroup in (container.place.container, container.place.monitor, container.place.lasting):
            self._hierarchy.remove(cgroup)

    def exit_code(self, container: Container) -> int | None:
        """The exit code that conmon wrote; None while there is none."""
        try:
            return int((self._settings.exits / container.id).read_text())
        except (FileNotFoundError, ValueError):
            return None

    def seconds_since_exit(self, container: Container) -> float:
        """How long ago conmon wrote the exit code, by the wall clock; 0 when it did not."""
        try:
            written = (self._settings.exits / container.id).stat().st_mtime
        except FileNotFoundError:
            return 0.0
        return max(0.0, clock.wall().timestamp() - written)

    def clear_monitor(self, container: Container) -> None:
        """Remove the cgroup of a monitor that has ended before its container, unless an exec's is still in it."""
        self._hierarchy.remove(container.place.monitor)

    def frozen(self, container: Container) -> bool:
        """Whether its processes are frozen, whoever did it."""
        return self._hierarchy.frozen(container.place.container)

    def oom_killed(self, container: Container) -> bool:
        """Whether the kernel's OOM killer took a process of it: conmon's word or the cgroup's own count."""
        return (container.bundle / oom.FILE).exists() or self.oom_counted(container)

    def oom_counted(self, container: Container) -> bool:
        """Whether its cgroup counts a kill: on version 1 conmon is told that the kernel looks for a victim."""
        return any(map(self._hierarchy.oom_kills, (container.place.container, container.place.lasting)))

    async def end_commands(self) -> None:
        """End the runtime's commands that an operator before this one began: nobody waits for their answer."""
        found = running.commands(self._settings.runtime_root)
        if found:
            logger.warning("commands of the runtime that an earlier operator began are killed: pids %s", found)

        def kill() -> None:
            for pid in found:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(pid, signal.SIGKILL)

        await _killed(found, kill)

    def known(self) -> set[str]:
        """The ids of all containers that the runtime knows."""
        with contextlib.suppress(FileNotFoundError):
            return {entry.name for entry in self._settings.runtime_root.iterdir()}
        return set()

    async def _end_monitors(self, container: Container) -> None:
        """Kill conmon until its lock is free: one that is killed while it forks leaves a child that goes on.

        A runtime that it had begun, and what that has begun, may hold the lock too: crun's init does until its start.
        """
        lock = container.bundle / "monitor.lock"
        try:
            async with asyncio.timeout(_ENDS):
                while True:
                    for pid in running.monitors(container.bundle):
                        with contextlib.suppress(ProcessLookupError):
                            os.kill(pid, signal.SIGKILL)
                    if not is_locked(lock):
                        return
                    await asyncio.sleep(0.005)  # there is nothing to wait on but the lock
                    await self.end_all(container)
        except TimeoutError:
            raise RuntimeTimeout(f"its monitor (conmon) did not end within {_ENDS:g} s after KILL") from None

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
        name = f"{container.runtime.name} {arguments[0]}"
        settings = self._settings
        return await run(command, name=name, timeout=settings.runtime_timeout, environment=settings.environment)


async def _killed(pids: Iterable[int], kill: Callable[[], None]) -> bool:
    """Kill these processes and wait for their end; False when there was none.

    Raises:
        RuntimeTimeout: the kernel does not let go of one.
    """
    with contextlib.ExitStack() as held:
        processes = [held.enter_context(contextlib.closing(each)) for each in map(hold, pids) if each is not None]
        if not processes:
            return False
        await asyncio.to_thread(kill)
        try:
            async with asyncio.timeout(_ENDS):
                for process in processes:
                    await process.end()
        except TimeoutError:
            sleeping = (uninterruptible(process.pid) for process in processes)
            told = ", ".join(filter(None, sleeping)) or "look at its processes"
            raise RuntimeTimeout(f"its processes did not end within {_ENDS:g} s after KILL: {told}") from None
    return True


def adopt(pid: int | None, start: int | None) -> Process | None:
    """The recorded process, if it is still that one."""
    return hold(pid, start) if pid is not None and start is not None else None
