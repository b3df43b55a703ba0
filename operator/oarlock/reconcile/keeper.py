"""One keeper per object: it looks, decides and acts, woken by what happens and by nothing else."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import logging
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

from oarlock.api.accepted import RESTARTED_AT, Accepted
from oarlock.api.identity import KUBERNETES
from oarlock.api.quantity import bytes_of
from oarlock.api.spec import Spec, State
from oarlock.bundle.tree import Tree, looked_at
from oarlock.errors import OarlockError, ObjectGone
from oarlock.linux import clock
from oarlock.reconcile import decide, view
from oarlock.reconcile.admission import refusal
from oarlock.reconcile.attempt import Attempt
from oarlock.reconcile.backoff import RETRY
from oarlock.reconcile.ledger import Ledger
from oarlock.reconcile.node import Node, Retention
from oarlock.reconcile.status import Words
from oarlock.reconcile.steps import Steps
from oarlock.records.model import Record, Restarts

logger = logging.getLogger(__name__)


class Keeper:
    """Keeps one object in its desired state. `removed` is called when nothing of it is left."""

    def __init__(self, node: Node, record: Record, removed: Callable[[Keeper], None]) -> None:
        self.node, self.record, self._removed = node, record, removed
        self.key = record.key
        self.blocked_by: str | None = None
        self.override_restart: str | None = None
        self._spec = Spec.model_validate(record.spec)
        self._holding: asyncio.Task[None] | None = None
        self._creating: asyncio.Task[None] | None = None
        self._wake = asyncio.Event()
        self._ledger = Ledger(node, record, lambda: self.state, self._outdated, self.wake)
        self._steps = Steps(node, record, self._ledger, self.wake, self._foresee)

    # What the outside says.

    def apply(self, obj: Accepted) -> None:
        """A version of the object; cheap when nothing changed."""
        record = self.record
        record.held = obj.finalizer
        if not obj.deleted and (record.current is not None or record.exits):
            self._begin_hold()  # somebody took it off, or it was never there: its end would go untold
        record.refused, self._ledger.telling = None, True
        told = (obj.generation, dict(obj.given), obj.deleted, dict(obj.annotations), dict(obj.labels), obj.origin)
        if told != (
            record.generation, record.spec, record.deleted, record.annotations, record.labels, record.origin,
        ):  # fmt: skip
            if told[1] != record.spec:
                self._spec = obj.spec
            record.generation, record.spec, record.deleted = told[:3]
            record.annotations, record.labels, record.origin = told[3:]
            record.clear_problem()
            if record.last is None or record.last.cause != "exited":
                record.retryAt = 0.0
            if record.current is None or record.left:
                self._foresee()
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
            self.record.clear_problem()
            self._ledger.save()
        self.wake()

    def wake(self) -> None:
        """Look again. Nobody waits for a runtime that hangs to make what is not wanted any more."""
        creating, wanted = self._creating, not self.record.deleted and self.state is not State.STOPPED
        if creating is not None and not wanted and not creating.cancelling():
            creating.cancel()
        self._wake.set()

    # The loop.

    async def run(self) -> None:
        """Look, decide, act, until nothing of the object is left."""
        while True:
            self._wake.clear()
            step: decide.Step | None = None
            try:
                await self.take_up()
                self._steps.notice(self._spec)
                step = decide.decide(self._desired(), self._observe(), clock.boot_seconds())
                if isinstance(step, decide.Settled | decide.Wait):
                    await self._rest(step)
                elif await self._act(step):
                    return
            except (OarlockError, OSError) as error:
                await self._trouble(error, step)
            except Exception as error:
                # The outermost guard: a defect met by one object must not end the keepers of all others.
                logger.exception("%s: a defect in oarlock; please report it", self.key)
                await self._trouble(error, step)

    @property
    def state(self) -> State:
        """The desired state, an override of the command's applied."""
        return State(self.record.override) if self.record.override else self._spec.state

    def _desired(self) -> decide.Desired:
        return decide.Desired(
            state=self.state,
            policy=self._spec.restartPolicy,
            grace=float(self._spec.terminationGracePeriodSeconds),
            deleted=self.record.deleted,
            held=self.record.held or self.record.source != KUBERNETES,
            blocked_by=self.blocked_by,
            refused=self._refused() is not None,
        )

    def _observe(self) -> decide.Observed:
        return view.observed(self.record, self._restarts(), alive=self._steps.alive, dying=self._steps.dying)

    def _restarts(self) -> Restarts:
        return self.record.annotations.get(RESTARTED_AT), self.override_restart

    def _refused(self) -> str | None:
        return refusal(self._spec, self.node.policy)

    def _outdated(self) -> Words | None:
        current = self.record.current
        if current is None or not view.changed(self.record, current.spec, current.restarts, self._restarts()):
            return None
        return view.outdated(self._refused())

    async def _rest(self, step: decide.Settled | decide.Wait) -> None:
        until = step.until if isinstance(step, decide.Wait) else None
        self._ledger.waiting = self._words(step)
        if isinstance(step, decide.Wait) and step.reason == "Finalizer":
            self._begin_hold()
        self.record.clear_problem()  # whatever could not be done is not to be done any more
        self._ledger.save()
        timeout = None if until is None else max(0.0, until - clock.boot_seconds())
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout):
                await self._wake.wait()

    def _foresee(self) -> None:
        """What comes after the attempt that has just ended: its exit and this are told together."""
        observed = dataclasses.replace(self._observe(), container=None)
        self._ledger.waiting = self._words(decide.decide(self._desired(), observed, clock.boot_seconds()))

    def _words(self, step: decide.Step) -> tuple[str, str] | None:
        backoff, refused = self.node.policy.backoff, self._refused()
        return view.words(step, self.record, backoff, blocked_by=self.blocked_by, refused=refused)

    async def _act(self, step: decide.Step) -> bool:
        """Do one step; True when nothing of the object is left."""
        if self.record.current is None:
            self._ledger.waiting = self._words(step)
        match step:
            case decide.Create():
                await self._while_wanted(self._create())
            case decide.Start():
                await self._steps.start(self._spec.restartPolicy)
                self._keep_log()
            case decide.Discard():
                await self._steps.discard()
            case decide.Terminate(grace=grace, cause=cause):
                await self._steps.terminate(self._spec.lifecycle.stopSignal, grace, cause)
            case decide.Kill(cause=cause):
                await self._steps.kill(cause)
            case decide.Pause() | decide.Resume():
                await self._steps.freeze(isinstance(step, decide.Pause))
            case decide.Collect():
                await self._steps.collect()
            case decide.Rearm():
                if self.record.last is not None:
                    self.record.last.cause = "stopped"
                self._ledger.start_afresh()
                self._ledger.save()
            case decide.Release():
                return await self._release()
        return False

    async def _create(self) -> None:
        last = self._observe().last
        if last is not None and last.rearmed:
            self._ledger.start_afresh()
        spec = self._spec
        await self._look(spec)  # before it takes a turn
        if self.node.creates.locked():
            self._ledger.save(patient=True)  # it waits for its turn, and is to be seen meanwhile
        async with self.node.creates:
            tree = await self._look(spec)
            if self._spec is spec:  # else it is decided anew: this one was not seen by the policy
                self._begin_hold()
                await self._steps.create(spec, tree, self._restarts())

    async def _look(self, spec: Spec) -> Tree:
        policy = self.node.policy
        return await looked_at(Path(spec.rootfs.path), forbidden=policy.forbidden, allowed=policy.allowed_rootfs)

    async def _while_wanted(self, creating: Coroutine[Any, Any, None]) -> None:
        """Create, unless `wake` gives that up: then what there is of it is undone."""
        self._creating = asyncio.create_task(creating)
        try:
            await self._creating
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if task is not None and task.cancelling():
                raise
        finally:
            self._creating = None

    async def _trouble(self, error: Exception, step: decide.Step | None) -> None:
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

    async def _release(self) -> bool:
        """Let go of the object, unless it has come back meanwhile."""
        await asyncio.to_thread(Attempt.remove_object, self.node, self.record.uid)
        if not self.record.deleted:
            return False
        if self._holding is not None:
            self._holding.cancel()
        self._ledger.save()
        await self.node.reporters[self.key.source].release(self.key)
        self.node.store.remove(self.record.uid)
        logger.info("%s: gone", self.key)
        self._removed(self)
        return True

    def _begin_hold(self) -> None:
        """Have the source keep the object until it is released; meanwhile work goes on."""
        if not self.record.held and self._holding is None:
            self._holding = asyncio.create_task(self._hold())

    async def _hold(self) -> None:
        try:
            await self.node.reporters[self.key.source].hold(self.key)
        except ObjectGone:
            self.vanish()
        else:
            self.record.held = True
            self.wake()
        finally:
            self._holding = None

    async def take_up(self) -> None:
        """Take up what a predecessor left, once.

        Raises:
            RuntimeFailure: that cannot be done now.
        """
        if await self._steps.take_up():
            self._keep_log()

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
