"""One attempt: bundle, network, monitor and runtime, put together for a keeper."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import logging
import signal
from collections.abc import Callable
from pathlib import Path

from oarlock.api.identity import container_id
from oarlock.api.spec import Spec
from oarlock.bundle import make as bundle
from oarlock.bundle.config import shares_network
from oarlock.bundle.tree import Tree
from oarlock.cgroups.place import place
from oarlock.errors import RuntimeFailure
from oarlock.linux import clock
from oarlock.linux.family import wake_parents
from oarlock.linux.process import Process
from oarlock.linux.removal import remove_tree
from oarlock.network import loopback
from oarlock.reconcile import attemptlogs
from oarlock.reconcile.ending import Ending
from oarlock.reconcile.node import Node
from oarlock.records.model import Current, Record, Restarts
from oarlock.runtime import rescue
from oarlock.runtime.container import Container
from oarlock.runtime.path import runtime_path
from oarlock.runtime.runtime import Live, adopt

logger = logging.getLogger(__name__)

_REMEDIES = ((5.0, rescue.unblock), (15.0, rescue.end))
"""What is done to a monitor that has not ended so many seconds after its container, and after what was done before."""
_OOM_SETTLES, _OOM_COUNTED = 0.2, 3.0
"""Seconds until it is looked whom the OOM killer took, doubling at each look; and from which on nobody was counted."""


class Attempt:
    """What a keeper can do with one attempt. `wake` is called when its process ends."""

    def __init__(self, node: Node, current: Current, wake: Callable[[], None], title: str = "") -> None:
        self._node, self.current, self._wake = node, current, wake
        self._live: Live | None = None
        self.ended = False
        self.monitor_lost = self._monitor_hung = False
        self.child_killed = False
        self.left = False
        cid = current.containerID
        self._container = Container(
            id=cid,
            runtime=Path(current.runtime),
            bundle=node.bundles / cid,
            log=Path(current.logPath),
            place=place(current.cgroupManager, current.cgroupParent, cid),
            terminal=bool(current.spec.get("tty", False)),
            stdin=bool(current.spec.get("stdin", False)),
            stdin_once=bool(current.spec.get("stdinOnce", False)),
            title=title,
        )
        self._folder = node.containers / cid.rpartition("-")[0] / str(current.attempt)
        self._logs = self._folder.parent / "logs"

    @staticmethod
    def plan(node: Node, record: Record, spec: Spec, restarts: Restarts) -> Current:
        """What is recorded of an attempt before anything of it exists."""
        policy = node.policy
        runtime = runtime_path(
            handler=spec.runtimeHandler,
            trusted=spec.trusted,
            privileged=spec.securityContext.privileged,
            default_trusted=policy.default_trusted,
            trusted_path=policy.runtime_trusted,
            untrusted_path=policy.runtime_untrusted,
            handlers=policy.handlers,
        )
        return Current(
            attempt=record.attempt,
            containerID=container_id(record.uid, record.attempt),
            runtime=str(runtime),
            cgroupManager=node.runtime.cgroups.name,
            cgroupParent=node.runtime.cgroups.parent,
            spec=record.spec,
            restarts=restarts,
            logPath=str(node.containers / record.uid / "logs" / f"{record.attempt}.log"),
        )

    @staticmethod
    def remove_object(node: Node, uid: str) -> None:
        """Remove everything kept of an object: layers and logs."""
        remove_tree(node.containers / uid)

    async def create(self, spec: Spec, tree: Tree, hostname: str) -> None:
        """Bundle, container and network; its init waits. On failure nothing is left, or `left` says that it is."""
        container = self._container
        self.left = True
        try:
            container.log.parent.mkdir(parents=True, exist_ok=True)
            make = functools.partial(
                bundle.make,
                spec,
                tree,
                hostname=hostname,
                cgroup_path=container.place.oci,
                attempt_dir=self._folder,
                bundle_dir=container.bundle,
            )
            self._live = await self._node.runtime.create(container, make)
            if not shares_network(spec):
                await loopback.up(self._live.init.pid)
        except BaseException:
            await asyncio.shield(self.destroy())
            raise
        self._hold(self._live)
        self.current.stage = "created"

    async def start(self) -> None:
        """Run the command. When that fails although it ran, and is over, it has `ended`."""
        assert self._live is not None
        try:
            await self._node.runtime.start(self._container, self._live.init)
        except RuntimeFailure:
            self.ended = self._live.init.has_ended()
            raise

    def drop_old_logs(self) -> None:
        """Keep no more logs of the object than are promised, now that this attempt runs."""
        attemptlogs.drop_old(self._logs)

    async def adopt(self) -> bool:
        """Take up a container that runs since before; False when there is none to take up."""
        current = self.current
        init = adopt(current.pid, current.pidStart)
        if init is None:
            return False
        if current.stage != "started":
            with contextlib.ExitStack() as undo:
                undo.callback(init.close)
                if not await self._was_started(init):
                    return False
                undo.pop_all()
        current.stage = "started"
        if current.startedAt is None:  # started, and the operator killed before it could say so
            current.startedAt, current.startedBoot = clock.rfc3339(clock.wall()), clock.boot_seconds()
        self._hold(Live(init, adopt(current.monitorPID, current.monitorStart)))
        return True

    async def _was_started(self, init: Process) -> bool:
        """Whether a container that is recorded as created runs its command: the kernel's word and the runtime's."""
        if init.is_fork():
            return False
        return await self._node.runtime.state(self._container) in ("running", "paused")

    async def has_ended(self) -> bool:
        """Whether a container that never got to be recorded as started did run and end."""
        if self.current.stage != "created":
            return False
        if init := adopt(self.current.pid, self.current.pidStart):
            init.close()
            return False
        return await self._exit_code() is not None

    @property
    def is_dead(self) -> bool:
        """Whether its process is dead, though it may not be known yet how it ended."""
        return self.ended or (self._live is not None and self._live.init.has_ended())

    def signal(self, number: int) -> None:
        """Send a signal to the container's init."""
        if self._live is not None:
            self._live.init.signal(number)

    async def kill(self) -> None:
        """Kill the container; in the node's own pid namespace its init's end does not take the others along."""
        self.signal(signal.SIGKILL)
        if self._shares_pids:
            await self._node.runtime.kill_all(self._container)

    def wake_parents(self) -> None:
        """Have stopped clients see that their commands in it have ended: it cannot end before."""
        if self._live is not None and not self._shares_pids and (woken := wake_parents(self._live.init.pid)):
            logger.warning(
                "container %s: CONT sent to stopped clients that hold it up: %s", self.current.containerID, woken
            )

    def uninterruptible(self) -> list[str]:
        """Its processes that the kernel cannot let go of just now."""
        return self._node.runtime.uninterruptible(self._container)

    def see(self) -> None:
        """Enter whether it is frozen now, whoever froze or thawed it."""
        self.current.paused = self._node.runtime.frozen(self._container)

    async def freeze(self) -> None:
        """Freeze every process."""
        await self._node.runtime.pause(self._container)
        self.current.paused = True

    async def thaw(self) -> None:
        """Thaw, whoever froze it; nothing when it is not frozen."""
        self.see()
        if self.current.paused:
            await self._node.runtime.resume(self._container)
            self.current.paused = False

    async def ending(self) -> Ending:
        """How it ended, as far as kernel and conmon tell."""
        runtime, container = self._node.runtime, self._container
        wait_status = self._live.init.wait_status() if self._live is not None else None
        code = await self._exit_code() if wait_status is None else None
        ago = runtime.seconds_since_exit(container) if self._live is None else 0.0
        return Ending(wait_status, code, runtime.oom_killed(container), ago, self._monitor_hung)

    async def free(self) -> None:
        """Remove what it wrote, while all that tells of its end stays."""
        await asyncio.to_thread(bundle.free, self._folder, self._container.bundle)

    async def remove(self) -> None:
        """Remove an ended attempt: what is recorded of it stays, and its log."""
        live = self._live
        ended = live is not None and live.monitor is not None and await self._monitor_end(live.monitor)
        if self._shares_pids:
            await self._node.runtime.end_all(self._container)
        if ended:
            await self._forget()
        else:
            await self._node.runtime.delete(self._container)
            await self._node.runtime.destroy(self._container)
        await self._clear()

    async def destroy(self) -> None:
        """End and remove whatever there is of it, and the log of what never ran: it hides none of what did."""
        await self._node.runtime.destroy(self._container)
        await self._clear()
        attemptlogs.drop(self._logs, self.current.attempt)
        self.left = False

    def _hold(self, live: Live) -> None:
        self._live = live
        current = self.current
        current.pid, current.pidStart = live.init.pid, live.init.start
        if live.monitor is not None:
            current.monitorPID, current.monitorStart = live.monitor.pid, live.monitor.start
            self._node.endings.watch(live.monitor, self._on_monitor_end)
        else:
            self._on_monitor_end()
        self._node.endings.watch(live.init, self._on_end, self._on_death)
        self._node.ooms.watch(self._container, self._on_oom)

    def _on_end(self) -> None:
        self.ended = True
        self._wake()

    def _on_death(self) -> None:
        """Its process is dead, and conmon asks in a moment how it ended, unless it hangs."""
        after = 0.0
        for wait, remedy in _REMEDIES:
            after += wait
            asyncio.get_running_loop().call_later(after, self._help, remedy)

    def _help(self, remedy: Callable[[Process], None]) -> None:
        if not self.ended and self._live is not None and self._live.monitor is not None:
            remedy(self._live.monitor)

    def _on_monitor_end(self) -> None:
        """conmon ends after its container; before it, it was killed."""
        if self._live is not None and not self._live.init.has_ended():
            self.monitor_lost = True
            self._node.runtime.clear_monitor(self._container)
            self._wake()

    def _on_oom(self) -> None:
        """Whether it was a child is known once init has had the time to end of it."""
        self._look_at_init(_OOM_SETTLES)

    def _look_at_init(self, pause: float) -> None:
        asyncio.get_running_loop().call_later(pause, self._after_oom, pause)

    def _after_oom(self, pause: float) -> None:
        if self._live is None or self._live.init.has_ended():
            return
        counted = pause > _OOM_COUNTED or self._node.runtime.oom_counted(self._container)
        if self._live.init.is_dying() or not counted:
            self._look_at_init(2 * pause)
        else:
            self.child_killed = True
            self._wake()

    @property
    def _shares_pids(self) -> bool:
        return bool(self.current.spec.get("hostPID"))

    async def _forget(self) -> None:
        """The runtime forgets it while its files go: each takes about as long as the other."""
        files = asyncio.to_thread(bundle.remove, self._folder, self._container.bundle)
        both = await asyncio.gather(self._node.runtime.delete(self._container), files, return_exceptions=True)
        for error in filter(None, both):
            raise error

    async def _clear(self) -> None:
        if self._live is not None:
            self._node.endings.forget(self._live.init)
            if self._live.monitor is not None:
                self._node.endings.forget(self._live.monitor)
            self._live.close()
            self._live = None
        self._node.ooms.forget(self._container)
        await self._node.runtime.clear(self._container)
        await asyncio.to_thread(bundle.remove, self._folder, self._container.bundle)

    async def _monitor_end(self, monitor: Process) -> bool:
        """conmon ends right after its container. One that hangs is helped, and then killed: False."""
        for wait, remedy in _REMEDIES:
            try:
                async with asyncio.timeout(wait):
                    await monitor.end()
                    return True
            except TimeoutError:
                remedy(monitor)
                self._monitor_hung = True
        return False

    async def _exit_code(self) -> int | None:
        """The code in conmon's exit file; while conmon lives it may still be about to write it."""
        code = self._node.runtime.exit_code(self._container)
        if code is not None:
            return code
        if monitor := adopt(self.current.monitorPID, self.current.monitorStart):
            with contextlib.closing(monitor):
                await self._monitor_end(monitor)
        return self._node.runtime.exit_code(self._container)
