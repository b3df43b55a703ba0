"""The steps that `decide` names, done to an object's attempt and written down."""

from __future__ import annotations

import errno
import logging
from collections.abc import Callable

from oarlock.api.signals import number_of
from oarlock.api.spec import RestartPolicy, Spec
from oarlock.bundle.tree import Tree
from oarlock.errors import CommandNotRunnable, RuntimeFailure, StartFailed
from oarlock.linux import clock
from oarlock.reconcile import view
from oarlock.reconcile.admission import warning
from oarlock.reconcile.attempt import Attempt
from oarlock.reconcile.concerns import STUCK_AFTER, Condition, concerns
from oarlock.reconcile.ending import Ending
from oarlock.reconcile.ledger import Ledger
from oarlock.reconcile.node import Node
from oarlock.records.model import Current, Record, Restarts

logger = logging.getLogger(__name__)


class Steps:
    """One object's attempts, one after another; nothing else creates, signals or removes them.

    Args:
        wake: called when the present attempt ends, or there is something to notice of it.
        foresee: enters what comes after an exit, so that both are told together.
    """

    def __init__(
        self, node: Node, record: Record, ledger: Ledger, wake: Callable[[], None], foresee: Callable[[], None]
    ) -> None:
        self._node, self._record, self._ledger, self._wake, self._foresee = node, record, ledger, wake, foresee
        self._attempt: Attempt | None = None
        self._taken_up = record.current is None
        self._rebooted = record.current is not None and record.bootID != node.boot

    @property
    def alive(self) -> bool:
        """Whether the present attempt's process lives."""
        return self._attempt is not None and not self._attempt.ended

    @property
    def dying(self) -> bool:
        """Whether the present attempt's process is dead, though not yet known to have ended."""
        return self.alive and self._attempt is not None and self._attempt.is_dead

    async def take_up(self) -> bool:
        """Take up the recorded attempt after a restart of the operator, or clear up after it: True when it runs. Once.

        Raises:
            RuntimeFailure: that cannot be done now.
        """
        current = self._record.current
        if self._taken_up or current is None:
            return False
        if self._rebooted:
            current.pid = current.monitorPID = None  # others may have these numbers now
        attempt = Attempt(self._node, current, self._wake)
        if not self._rebooted and await attempt.adopt():
            self._attempt = attempt
        elif current.stage != "started" and not self._ran_before_the_boot() and not await attempt.has_ended():
            await self.discard()
            self._rebooted = False
        self._taken_up = True
        self._record.clear_problem()
        return self._attempt is not None

    def notice(self, spec: Spec) -> None:
        """See whether a container that runs is frozen, and say what is amiss with it."""
        attempt, current = self._attempt, self._record.current
        if attempt is None or current is None or current.stage != "started" or attempt.ended:
            return
        attempt.see()
        killed_for = None
        if current.killedBoot is not None and not attempt.is_dead:
            killed_for = clock.boot_seconds() - current.killedBoot
        stuck = killed_for is not None and killed_for >= STUCK_AFTER
        if stuck:
            attempt.wake_parents()
        seen = Condition(
            monitor_lost=attempt.monitor_lost,
            killed_for=killed_for,
            uninterruptible=attempt.uninterruptible() if stuck else (),
            warning=warning(spec, self._node.policy),
        )
        self._ledger.concern(current, concerns(seen))
        if attempt.child_killed and not current.childKilled:
            current.childKilled = True
            self._ledger.event("Warning", "OOMKilling", "the kernel's OOM killer took a child process; init lives on")

    async def create(self, spec: Spec, tree: Tree, restarts: Restarts) -> None:
        """Make the next attempt, as recorded before anything of it exists; its init waits.

        Args:
            tree: its root filesystem, looked at.
            restarts: those that were asked for last.
        """
        record = self._record
        if record.last is not None and record.last.attempt == record.attempt:
            record.restartCount += 1
        record.attempt += 1
        record.current = Attempt.plan(self._node, record, spec, restarts)
        self._attempt = Attempt(self._node, record.current, self._wake, f"{record.namespace}/{record.name}")
        self._ledger.concern(record.current, concerns(Condition(warning=warning(spec, self._node.policy))))
        try:
            self._ledger.save(durable=True, required=True, patient=True)
            await self._attempt.create(spec, tree, view.hostname(spec, record.name, self._node.name))
        except CommandNotRunnable as error:
            await self._refused_by_runtime(view.about_the_command(str(error), spec), error.exit_code)
            return
        except BaseException:
            if not self._attempt.left:
                record.current, self._attempt = None, None
            self._ledger.save()
            raise
        self._ledger.save()

    async def start(self, policy: RestartPolicy) -> None:
        """Run the command, unless the runtime finds that it cannot run: then that is recorded as its end."""
        assert self._attempt is not None
        current = self._attempt.current
        current.startedAt, current.startedBoot = clock.rfc3339(clock.wall()), clock.boot_seconds()
        if policy is not RestartPolicy.ALWAYS:
            self._ledger.save(durable=True)  # for after a loss of power: Never does not run again, OnFailure counts it
        try:
            await self._attempt.start()
        except RuntimeFailure as error:
            if self._attempt.ended:
                return
            if not isinstance(error, StartFailed):
                await self.discard()
                raise
            await self._refused_by_runtime(str(error), 128)
            return
        current.stage = "started"
        self._say("started, pid %s", current.pid)
        self._done()
        self._attempt.drop_old_logs()

    async def discard(self) -> None:
        """Remove an attempt that does not get to run; until that is done it stays recorded, and no other is made."""
        record = self._record
        assert record.current is not None
        attempt = self._attempt or Attempt(self._node, record.current, self._wake)
        record.current.stage = "creating"
        await attempt.destroy()
        record.current, self._attempt = None, None
        self._ledger.save()

    async def terminate(self, stop_signal: str, grace: float, cause: str) -> None:
        """Signal first, record then: after a crash between the two the signal is sent again, not forgotten."""
        assert self._attempt is not None
        current = self._attempt.current
        await self._thaw_if_it_can_be(self._attempt)
        self._attempt.signal(number_of(stop_signal))
        current.stopSince, current.stopGrace, current.stopCause = clock.boot_seconds(), grace, cause
        self._done()
        name = stop_signal.removeprefix("SIG")
        self._say("%s sent, grace period %g s, because it was %s", name, grace, cause.lower())

    async def kill(self, cause: str) -> None:
        """End it at once; recorded afterwards, as `terminate` does."""
        assert self._attempt is not None
        current = self._attempt.current
        await self._thaw_if_it_can_be(self._attempt)
        await self._attempt.kill()
        if current.stopSince is None:
            current.stopSince, current.stopGrace = clock.boot_seconds(), 0.0
        current.killed, current.killedBoot, current.stopCause = True, clock.boot_seconds(), cause
        self._done()
        self._say("KILL sent, because it was %s", cause.lower())

    async def _thaw_if_it_can_be(self, attempt: Attempt) -> None:
        """Before a signal, which counts all the same when it is frozen again: cgroup v2 kills what is frozen."""
        try:
            await attempt.thaw()
        except RuntimeFailure as error:
            logger.warning("%s: %s", self._record.key, error)

    async def freeze(self, pause: bool) -> None:
        """Freeze it, or thaw it; nothing when it ends meanwhile."""
        assert self._attempt is not None
        try:
            await (self._attempt.freeze() if pause else self._attempt.thaw())
        except RuntimeFailure:
            if not self._attempt.is_dead:
                raise
        self._done()

    async def collect(self) -> None:
        """Record the exit before anything of it goes, then remove what is left (`oci.go: UpdateStatus`)."""
        record, current = self._record, self._record.current
        assert current is not None
        attempt = self._attempt or Attempt(self._node, current, self._wake)
        if not record.left:
            self._record_exit(current, await attempt.ending())
        try:
            self._ledger.save(durable=True, required=not record.deleted)
        except OSError as error:
            if error.errno not in (errno.ENOSPC, errno.EDQUOT):
                raise
            await attempt.free()  # it may be what fills the disk
            self._ledger.save(durable=True, required=True)
        await attempt.remove()
        record.current, self._attempt, self._rebooted = None, None, False
        self._foresee()
        self._done()

    def _ran_before_the_boot(self) -> bool:
        """Whether the recorded attempt ended with another boot, or may have: its start was begun."""
        return self._rebooted and self._record.current is not None and self._record.current.startedAt is not None

    def _record_exit(self, current: Current, ending: Ending) -> None:
        exit_ = self._ledger.ended(current, ending, self._rebooted)
        self._foresee()
        self._ledger.save(durable=True)
        self._say("%s (%s)", exit_.message, exit_.reason)

    async def _refused_by_runtime(self, message: str, code: int) -> None:
        """The runtime refused the command: an attempt that ended the moment it was made (`oci.go: SetStartFailed`)."""
        record, current, attempt = self._record, self._record.current, self._attempt
        assert current is not None
        assert attempt is not None
        record.clear_problem()
        self._ledger.refused(current, message, code)
        self._foresee()
        self._ledger.save(durable=True)
        self._say("it cannot run: %s", message)
        await attempt.destroy()
        record.current, self._attempt = None, None

    def _done(self) -> None:
        self._record.clear_problem()
        self._ledger.save()

    def _say(self, text: str, *values: object) -> None:
        logger.info("%s: " + text, self._record.key, *values)
