"""What is remembered of one object, and told of it: record, status, exits, back-off."""

from __future__ import annotations

import asyncio
import hashlib
import logging
from collections.abc import Callable
from datetime import timedelta
from typing import Literal

from oarlock.api.spec import State
from oarlock.linux import clock
from oarlock.reconcile.backoff import RETRY
from oarlock.reconcile.ending import Ending
from oarlock.reconcile.node import Node
from oarlock.reconcile.ports import EventKind
from oarlock.reconcile.status import Words, status_of
from oarlock.records.model import Current, Exit, Record

logger = logging.getLogger(__name__)
_KEPT_EXITS = 10
_PATIENCE = 0.5
"""Seconds that a creation may take before its source is told of it: most are over sooner, which saves a patch."""
_CAUSES: dict[str | None, Literal["exited", "replaced", "stopped"]] = {None: "exited", "Replaced": "replaced"}


class Ledger:
    """Keeps an object's record and its status the same on disk, in memory and at its source.

    Args:
        state: gives the desired state, overrides applied.
        outdated: gives reason and sentence why what runs is not of the object's newest version.
        wake: called when something that could not be written should be tried again.

    Attributes:
        waiting: reason and sentence of what is waited for while nothing runs.
        telling: whether the object still exists at its source.
    """

    def __init__(
        self,
        node: Node,
        record: Record,
        state: Callable[[], State],
        outdated: Callable[[], Words | None],
        wake: Callable[[], None],
    ) -> None:
        self._node, self._state, self._outdated, self._wake = node, state, outdated, wake
        self.record = record
        self.waiting: Words | None = None
        self.telling = True
        self._saved: bytes | None = None
        self._lasts = False
        self._failures = 0
        self._telling: asyncio.TimerHandle | None = None
        self._retrying: asyncio.TimerHandle | None = None

    def save(self, *, durable: bool = False, required: bool = False, patient: bool = False) -> None:
        """Bring status, disk and source up to date; nothing is written when nothing changed.

        Args:
            durable: the record must outlive a power loss.
            required: what follows must not happen unless the record is written.
            patient: the source is told only if this is still so in half a second.

        Raises:
            OSError: with `required`; else the write is tried again later.
        """
        record = self.record
        now = clock.rfc3339(clock.wall())
        state, outdated = self._state(), self._outdated()
        status = status_of(record, state=state, now=now, waiting=self.waiting, outdated=outdated)
        changed = status != record.status
        record.status = status
        try:
            self._write(durable)
        except OSError as error:
            if required:
                raise
            self._try_again(error)
        if changed:
            self._tell_soon(_PATIENCE if patient else 0.0)

    def _try_again(self, error: OSError) -> None:
        """Wake the keeper, which saves, once the delay is over; what fails before that changes nothing."""
        if self._retrying is not None:
            return
        self._failures += 1
        delay = RETRY.delay(self._failures)
        logger.warning("%s: its record cannot be written: %s; tried again in %g s", self.record.key, error, delay)

        def again() -> None:
            self._retrying = None
            self._wake()

        self._retrying = asyncio.get_running_loop().call_later(delay, again)

    def _tell_soon(self, delay: float) -> None:
        if self._telling is not None:
            self._telling.cancel()
            self._telling = None
        if delay:
            self._telling = asyncio.get_running_loop().call_later(delay, self._tell)
        else:
            self._tell()

    def _tell(self) -> None:
        if self.telling:
            self._node.reporters[self.record.source].report(self.record.key, self.record.status)

    def event(self, kind: EventKind, reason: str, message: str) -> None:
        """Tell the source of something that the object's status does not say at once."""
        if self.telling:
            self._node.reporters[self.record.source].event(self.record.key, kind, reason, message)
        else:
            logger.warning("%s: %s: %s", self.record.key, reason, message)

    def concern(self, current: Current, found: dict[str, str]) -> None:
        """Enter what is amiss with the present attempt; what is new is an event."""
        for reason in found.keys() - current.concerns.keys():
            self.event("Warning", reason, found[reason])
        current.concerns = found

    def _write(self, durable: bool) -> None:
        data = self.record.model_dump_json(exclude_none=True).encode()
        digest = hashlib.blake2b(data, digest_size=16).digest()
        if digest != self._saved or (durable and not self._lasts):
            self._node.store.write(self.record.uid, data, durable=durable)
            self._saved, self._lasts, self._failures = digest, durable, 0

    def ended(self, current: Current, ending: Ending, rebooted: bool) -> Exit:
        """Enter how an attempt that was started has ended."""
        cause, (code, number) = current.stopCause, ending.facts()
        reason, message = ending.sentence(cause, other_kills=current.killed or current.childKilled)
        if rebooted:
            reason, message = "NodeRebooted", "it ended with the node's last boot"
        elif not ending.is_known:
            unseen = "while its monitor (conmon) hung" if ending.monitor_hung else "while nobody looked"
            unseen = "after its monitor was killed" if "MonitorLost" in current.concerns else unseen
            reason, message = "ContainerStatusUnknown", f"it ended {unseen}; its exit code is not known"
        now = clock.boot_seconds()
        since_start = max(0.0, now - (now if rebooted or current.startedBoot is None else current.startedBoot))
        ago = min(ending.ago, since_start)  # not before its start, whoever set the wall clock meanwhile
        exit_ = Exit(
            attempt=current.attempt,
            containerID=current.containerID,
            exitCode=code,
            signal=number,
            oomKilled=ending.oom_killed,
            reason=reason,
            message=message,
            startedAt=current.startedAt,
            finishedAt=clock.rfc3339(clock.wall() - timedelta(seconds=ago)),
            cause=_CAUSES.get(cause, "stopped"),
        )
        self._append(exit_, current)
        if cause is None and not rebooted:
            steps = self._node.policy.backoff.steps(self.record.backoffSteps, since_start - ago)
            self._back_off(steps, ago)
        else:
            self.start_afresh()
        return exit_

    def refused(self, current: Current, message: str, code: int) -> None:
        """Enter an attempt that ended the moment it was made: its command cannot run (`oci.go: SetStartFailed`)."""
        now = clock.rfc3339(clock.wall())
        self._append(
            Exit(
                attempt=current.attempt,
                containerID=current.containerID,
                exitCode=code,
                reason="ContainerCannotRun",
                message=message,
                startedAt=now,
                finishedAt=now,
                cause="refused",
            ),
            current,
        )
        self._back_off(self.record.backoffSteps)

    def start_afresh(self) -> None:
        """The next attempt need not wait."""
        self.record.backoffSteps, self.record.retryAt = 0, 0.0

    def _back_off(self, count: int, ago: float = 0.0) -> None:
        """The next restart is number `count` (from 0) and the end was so many seconds `ago`: note when it may be."""
        record, delay = self.record, self._node.policy.backoff.delay(count) - ago
        record.backoffSteps = count + 1
        record.retryAt = clock.boot_seconds() + delay
        record.retryTime = clock.rfc3339(clock.wall() + timedelta(seconds=delay))

    def _append(self, ended: Exit, current: Current) -> None:
        self.record.exits = [*self.record.exits[1 - _KEPT_EXITS :], ended]
        self.record.lastSpec, self.record.lastRestarts = current.spec, current.restarts
