"""One keeper per object: it looks, decides and acts, woken by what happens and by nothing else."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import logging
import signal
from collections.abc import Callable
from pathlib import Path

from oarlock.api.accepted import RESTARTED_AT, Accepted
from oarlock.api.quantity import bytes_of
from oarlock.api.spec import RestartPolicy, Spec, State
from oarlock.errors import CommandNotRunnable, OarlockError, ObjectGone, RuntimeFailure, StartFailed
from oarlock.linux import clock
from oarlock.reconcile import decide as steps
from oarlock.reconcile import view
from oarlock.reconcile.admission import refusal, warning
from oarlock.reconcile.attempt import Attempt
from oarlock.reconcile.backoff import RETRY
from oarlock.reconcile.concerns import STUCK_AFTER, Condition, concerns
from oarlock.reconcile.ledger import Ledger
from oarlock.reconcile.node import Node, Retention
from oarlock.records.model import Current, Record

logger = logging.getLogger(__name__)


class Keeper:
    """Keeps one object in its desired state. `removed` is called when nothing of it is left."""

    def __init__(self, node: Node, record: Record, removed: Callable[[Keeper], None]) -> None:
        self.node, self.record, self._removed = node, record, removed
        self.key = record.key
        self.blocked_by: str | None = None
        self.override_restart: str | None = None
        self._spec = Spec.model_validate(record.spec)
        self._held = record.source != "kubernetes" or bool(record.current or record.exits)
        self._holding: asyncio.Task[None] | None = None
        self._attempt: Attempt | None = None
        self._wake = asyncio.Event()
        self._ledger = Ledger(node, record, lambda: self.state, self.wake)
        self._taken_up = record.current is None
        self._rebooted = record.current is not None and record.bootID != node.boot

    # What the outside says.

    def apply(self, obj: Accepted) -> None:
        """A version of the object; cheap when nothing changed."""
        record = self.record
        self._held = self._held or obj.finalizer
        record.refused = None
        told = (obj.generation, dict(obj.given), obj.deleted, dict(obj.annotations), obj.origin)
        if told != (record.generation, record.spec, record.deleted, record.annotations, record.origin):
            record.generation, record.spec, record.deleted = obj.generation, dict(obj.given), obj.deleted
            record.annotations, record.labels, record.origin = (
                dict(obj.annotations),
                dict(obj.labels),
                obj.origin,
            )
            self._spec = obj.spec
            record.problem, record.failures = None, 0
            if record.last is None or record.last.cause != "exited":
                record.retryAt = 0.0
            self._ledger.save()
            self._keep_log()
        self.wake()

    def refuse(self, generation: int, problem: str) -> None:
        """The newest version is invalid; the last good one goes on."""
        if self.record.refused != (generation, problem):
            self.record.refused = (generation, problem)
            self.wake()

    def vanish(self) -> None:
        """The object does not exist any more."""
        self._ledger.telling = False
        if not self.record.deleted:
            self.record.deleted = True
            self._ledger.save()
        self.wake()

    def wake(self) -> None:
        """Look again."""
        self._wake.set()

    # The loop.

    async def run(self) -> None:
        """Look, decide, act, until nothing of the object is left."""
        while True:
            self._wake.clear()
            step: steps.Step | None = None
            try:
                await self.take_up()
                self._notice()
                step = self._decide()
                if isinstance(step, steps.Settled | steps.Wait):
                    await self._rest(step)
                elif await self._act(step):
                    return
            except (OarlockError, OSError) as error:
                await self._trouble(error, step)
            except Exception as error:
                # The outermost guard: a defect met by one object must not end the keepers of all others.
                logger.exception("%s: a defect in oarlock; please report it", self.key)
                await self._trouble(error, step)

    def _notice(self) -> None:
        """Say what is amiss with a container that runs."""
        attempt, current = self._attempt, self.record.current
        if attempt is None or current is None or current.stage != "started" or attempt.ended:
            return
        killed_for = None if current.killedBoot is None else clock.boot_seconds() - current.killedBoot
        stuck = killed_for is not None and killed_for >= STUCK_AFTER
        seen = Condition(
            monitor_lost=attempt.monitor_lost,
            killed_for=killed_for,
            uninterruptible=attempt.uninterruptible() if stuck else (),
            warning=warning(self._spec, self.node.policy),
        )
        self._ledger.concern(current, concerns(seen))
        if attempt.child_killed and not current.childKilled:
            current.childKilled = True
            self._ledger.event("Warning", "OOMKilling", "the kernel's OOM killer took a child process; init lives on")

    def _decide(self) -> steps.Step:
        record = self.record
        if record.current is None:
            if record.deleted or self.state is State.STOPPED:
                record.problem, record.failures = None, 0
            elif refused := refusal(self._spec, self.node.policy):
                record.problem = ("Refused", refused)
                return steps.Settled()
        return steps.decide(self._desired(), self._observe(), clock.boot_seconds())

    @property
    def state(self) -> State:
        """The desired state, an override of the command's applied."""
        return State(self.record.override) if self.record.override else self._spec.state

    def _desired(self) -> steps.Desired:
        return steps.Desired(
            state=self.state,
            policy=self._spec.restartPolicy,
            grace=float(self._spec.terminationGracePeriodSeconds),
            deleted=self.record.deleted,
            held=self._held,
            blocked_by=self.blocked_by,
        )

    def _observe(self) -> steps.Observed:
        alive = self._attempt is not None and not self._attempt.ended
        return view.observed(self.record, self._restarted_at(), alive=alive)

    def _restarted_at(self) -> str | None:
        return self.override_restart or self.record.annotations.get(RESTARTED_AT)

    async def _rest(self, step: steps.Settled | steps.Wait) -> None:
        until = step.until if isinstance(step, steps.Wait) else None
        self._ledger.waiting = self._words(step)
        if isinstance(step, steps.Wait) and step.reason == "Finalizer" and self._holding is None:
            self._holding = asyncio.create_task(self._hold())
        self._ledger.save()
        timeout = None if until is None else max(0.0, until - clock.boot_seconds())
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout):
                await self._wake.wait()

    def _foresee(self) -> None:
        """What comes after the attempt that has just ended: its exit and this are told together."""
        observed = dataclasses.replace(self._observe(), container=None)
        self._ledger.waiting = self._words(steps.decide(self._desired(), observed, clock.boot_seconds()))

    def _words(self, step: steps.Step) -> tuple[str, str] | None:
        return view.words(step, self.record, self.node.policy.backoff, self.blocked_by)

    async def _act(self, step: steps.Step) -> bool:
        """Do one step; True when nothing of the object is left."""
        match step:
            case steps.Create():
                await self._create()
            case steps.Start():
                await self._start()
            case steps.Discard():
                await self._discard()
            case steps.Terminate(grace=grace, cause=cause):
                await self._terminate(grace, cause)
            case steps.Kill(cause=cause):
                await self._kill(cause)
            case steps.Pause() | steps.Resume():
                await self._freeze(isinstance(step, steps.Pause))
            case steps.Collect():
                await self._collect()
            case steps.Rearm():
                if self.record.last is not None:
                    self.record.last.cause = "stopped"
                self._ledger.start_afresh()
                self._ledger.save()
            case steps.Release():
                await self._release()
                return True
        return False

    async def _trouble(self, error: Exception, step: steps.Step | None) -> None:
        """A step failed for a reason that is not the container's: say so, and try again later."""
        reason = view.trouble(error, step)
        record = self.record
        record.failures += 1
        delay = RETRY.delay(record.failures)
        if record.problem != (reason, str(error)):
            logger.warning("%s: %s: %s; tried again in %g s", self.key, reason, error, delay)
        record.problem = (reason, str(error))
        self._ledger.save()
        for tell in self.node.troubled if reason != "CreateContainerConfigError" else ():
            tell()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(delay):
                await self._wake.wait()

    # The steps.

    async def _create(self) -> None:
        record, spec = self.record, self._spec
        async with self.node.creates:
            if record.last is not None and record.last.attempt == record.attempt:
                record.restartCount += 1
            record.attempt += 1
            record.current = Attempt.plan(self.node, record, spec, self._restarted_at())
            self._attempt = Attempt(self.node, record.current, self.wake, f"{record.namespace}/{record.name}")
            if not self._held and self._holding is None:
                self._holding = asyncio.create_task(self._hold())
            try:
                self._ledger.save(durable=True, required=True, patient=True)
                await self._attempt.create(spec, view.hostname(spec, record.name, self.node.name))
            except CommandNotRunnable as error:
                await self._refused_by_runtime(str(error), error.exit_code)
                return
            except BaseException:
                if not self._attempt.left:
                    record.current, self._attempt = None, None
                self._ledger.save()
                raise
            self._ledger.save()

    async def _start(self) -> None:
        assert self._attempt is not None
        current = self._attempt.current
        current.startedAt, current.startedBoot = clock.rfc3339(clock.wall()), clock.boot_seconds()
        if self._spec.restartPolicy is not RestartPolicy.ALWAYS:
            self._ledger.save(durable=True)  # what may run once only is not run again after a loss of power
        try:
            await self._attempt.start()
        except RuntimeFailure as error:
            if self._attempt.ended:
                return
            if not isinstance(error, StartFailed):
                await self._discard()
                raise
            await self._refused_by_runtime(str(error), 128)
            return
        current.stage = "started"
        self._say("started, pid %s", current.pid)
        self._done()
        self._keep_log()

    async def _discard(self) -> None:
        """Remove an attempt that does not get to run; until that is done it stays recorded, and no other is made."""
        record = self.record
        assert record.current is not None
        attempt = self._attempt or Attempt(self.node, record.current, self.wake)
        record.current.stage = "creating"
        await attempt.destroy()
        record.current, self._attempt = None, None
        self._ledger.save()

    def _done(self) -> None:
        """What a step was hindered by, if anything, is over."""
        self.record.problem, self.record.failures = None, 0
        self._ledger.save()

    async def _terminate(self, grace: float, cause: str) -> None:
        """Signal first, record then: after a crash between the two the signal is sent again, not forgotten."""
        assert self._attempt is not None
        current = self._attempt.current
        await self._attempt.thaw()
        self._attempt.signal(signal.SIGTERM)
        current.stopSince, current.stopGrace, current.stopCause = clock.boot_seconds(), grace, cause
        self._done()
        self._say("TERM sent, grace period %g s, because it was %s", grace, cause.lower())

    async def _kill(self, cause: str) -> None:
        assert self._attempt is not None
        current = self._attempt.current
        await self._attempt.thaw()
        await self._attempt.kill()
        if current.stopSince is None:
            current.stopSince, current.stopGrace = clock.boot_seconds(), 0.0
        current.killed, current.killedBoot, current.stopCause = True, clock.boot_seconds(), cause
        self._done()
        self._say("KILL sent, because it was %s", cause.lower())

    async def _freeze(self, pause: bool) -> None:
        assert self._attempt is not None
        if pause:
            await self._attempt.freeze()
        else:
            await self._attempt.thaw()
        self._done()

    async def _collect(self) -> None:
        """Record the exit before anything of it goes, then remove what is left (`oci.go: UpdateStatus`)."""
        record, current = self.record, self.record.current
        assert current is not None
        attempt = self._attempt or Attempt(self.node, current, self.wake)
        if record.last is None or record.last.attempt != current.attempt:
            self._record_exit(current, *await attempt.ending())
        self._ledger.save(durable=True, required=True)
        await attempt.remove()
        record.current, self._attempt, self._rebooted = None, None, False
        self._done()

    def _record_exit(self, current: Current, wait_status: int | None, exit_code: int | None, oom_killed: bool) -> None:
        exit_ = self._ledger.ended(current, wait_status, exit_code, oom_killed, self._rebooted)
        self._foresee()
        self._ledger.save(durable=True)
        self._say("%s (%s)", exit_.message, exit_.reason)

    async def _refused_by_runtime(self, message: str, code: int) -> None:
        """The runtime refused the command: an attempt that ended the moment it was made (`oci.go: SetStartFailed`)."""
        record, current, attempt = self.record, self.record.current, self._attempt
        assert current is not None
        assert attempt is not None
        record.problem, record.failures = None, 0
        self._ledger.refused(current, message, code)
        self._foresee()
        self._ledger.save(durable=True)
        self._say("it cannot run: %s", message)
        await attempt.destroy()
        record.current, self._attempt = None, None

    async def _release(self) -> None:
        await asyncio.to_thread(Attempt.remove_object, self.node, self.record.uid)
        if self._holding is not None:
            self._holding.cancel()
        self._ledger.save()
        await self.node.reporters[self.key.source].release(self.key)
        self.node.store.remove(self.record.uid)
        self._say("gone")
        self._removed(self)

    async def _hold(self) -> None:
        try:
            await self.node.reporters[self.key.source].hold(self.key)
        except ObjectGone:
            self.vanish()
        else:
            self._held = True
            self.wake()

    # Starting over, and telling.

    async def take_up(self) -> None:
        """Take up the recorded attempt after a restart of the operator: adopt it, or clear up after it. Once.

        Raises:
            RuntimeFailure: that cannot be done now.
        """
        current = self.record.current
        if self._taken_up or current is None:
            return
        if self._rebooted:
            current.pid = current.monitorPID = None  # others may have these numbers now
        attempt = Attempt(self.node, current, self.wake)
        if not self._rebooted and await attempt.adopt():
            self._attempt = attempt
            self._keep_log()
        elif current.stage != "started" and not self._ran_before_the_boot() and not await attempt.has_ended():
            await self._discard()
            self._rebooted = False
        self._taken_up = True
        self.record.problem, self.record.failures = None, 0

    def _ran_before_the_boot(self) -> bool:
        """Whether the recorded attempt ended with another boot, or may have: its start was begun."""
        return self._rebooted and self.record.current is not None and self.record.current.startedAt is not None

    def _keep_log(self) -> None:
        if self.record.current is not None and self.record.current.stage == "started":
            for watch in self.node.log_watchers:
                watch(self.log())

    def log(self) -> Retention:
        """How much to keep of the present attempt's log."""
        current, rotation, policy = self.record.current, self._spec.logRotation, self.node.policy
        assert current is not None
        size = policy.log_max_size if rotation.maxSize is None else bytes_of(rotation.maxSize)
        return Retention(
            log=Path(current.logPath),
            bundle=self.node.bundles / current.containerID,
            max_size=size,
            max_files=rotation.maxFiles or policy.log_max_files,
            compress=policy.log_compress if rotation.compress is None else rotation.compress,
        )

    def _say(self, text: str, *values: object) -> None:
        logger.info("%s: " + text, self.key, *values)
