"""Whether the node is ready for containers: doctor's checks, done while the operator runs.

They are done at the start, when somebody asks, when a step failed for the node's reasons, and, while something is wrong
and shown on the Node, again and again; never while all is well and nobody asks. They block for seconds, in a thread.

The trial among them, which makes a container, is not for whoever asks: while all is well its outcome is carried on.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass

from oarlock.cgroups.hierarchy import hierarchy
from oarlock.linux import clock
from oarlock.node import doctor, versions
from oarlock.node.configuration import Configuration
from oarlock.node.doctor import Check, Verdict
from oarlock.node.trial import NAME, Trial

logger = logging.getLogger(__name__)

Conditions = list[dict[str, str]]

FRESH, FRESH_IN_DOUBT, UNASKED = 60.0, 5.0, 30.0
"""Seconds for which a look answers whoever asks; the same while something is wrong; until another look then."""
_GIVEN_UP = 2.0
"""Seconds that a trial has to remove what there is of it when the operator ends."""


@dataclass(frozen=True, slots=True)
class Look:
    """What one look at the node found.

    Attributes:
        conditions: RuntimeReady and NetworkReady in Kubernetes' shape; that which is True has versions for message.
        versions: of oarlock, conmon and the runtimes; None for what tells none.
        at: when, as RFC 3339.
        trial: the outcome of the last trial; None where something was in its way.
    """

    conditions: Conditions
    versions: dict[str, str | None]
    at: str
    trial: Check | None = None

    @property
    def ready(self) -> bool:
        """Whether containers can run here."""
        return all(each["status"] == "True" for each in self.conditions)


class Readiness:
    """The last look at the node, and the next. Lives in the engine's loop.

    `listeners` are told the conditions that each look found.
    """

    def __init__(self, configuration: Configuration) -> None:
        self._configuration = configuration
        self.listeners: list[Callable[[Conditions], None]] = []
        self._loop = asyncio.get_running_loop()
        self._last: tuple[float, Look] | None = None
        self._looking: asyncio.Future[Look] | None = None
        self._doubted = True
        self._trial = Trial(configuration)
        self._thread: threading.Thread | None = None
        self._again: asyncio.TimerHandle | None = None

    async def look(self) -> Look:
        """What the last look found while it is fresh, else the next."""
        if self._last is not None:
            found_at, look = self._last
            if self._loop.time() - found_at <= (FRESH if look.ready else FRESH_IN_DOUBT):
                return look
        return await asyncio.shield(self._look())

    def doubt(self) -> None:
        """Something failed for the node's reasons: look whether it is ready still, and this time try."""
        self._doubted = True
        if self._last is None or self._loop.time() - self._last[0] > FRESH_IN_DOUBT:
            self._look()

    def close(self) -> None:
        """Give up a trial that is under way; what blocks a look otherwise is not waited for."""
        if self._trial.cancel() and self._thread is not None:
            self._thread.join(_GIVEN_UP)

    def _look(self) -> asyncio.Future[Look]:
        """Begin a look, unless one is under way; its outcome."""
        if self._looking is None:
            self._thread = threading.Thread(
                target=self._examine, args=(self._trial_for_this_look(),), name="readiness", daemon=True
            )
            self._thread.start()
            self._looking = self._loop.create_future()
        return self._looking

    def _trial_for_this_look(self) -> Callable[[], Check]:
        """A new one while there is doubt, else what came of the last one."""
        last = self._last[1] if self._last is not None else None
        known = last.trial if last is not None and last.ready and not self._doubted else None
        self._doubted = False
        if known is None or known.verdict is not Verdict.OK:
            return self._trial.run
        return lambda: known

    def _examine(self, trial: Callable[[], Check]) -> None:
        found = examined(self._configuration, trial)
        try:
            self._loop.call_soon_threadsafe(self._found, found)
        except RuntimeError:
            logger.debug("the operator ended while its node was looked at")

    def _found(self, look: Look) -> None:
        before = self._last[1] if self._last is not None else None
        for condition in look.conditions:
            _carry_over(condition, before.conditions if before else [], look.at)
        if (before is None or before.ready) and not look.ready:
            for condition in look.conditions:
                if condition["status"] != "True":
                    logger.warning("%s is %s: %s", condition["type"], condition["status"], condition["message"])
        elif before is not None and not before.ready and look.ready:
            logger.info("the node is ready for containers again")
        self._last = (self._loop.time(), look)
        if self._looking is not None:
            self._looking.set_result(look)
            self._looking = None
        for tell in self.listeners:
            tell(look.conditions)
        if self._again is not None:
            self._again.cancel()
        self._again = self._loop.call_later(UNASKED, self._look) if self.listeners and not look.ready else None


def examined(configuration: Configuration, trial: Callable[[], Check]) -> Look:
    """Look at the node now; blocks, for up to about eight seconds when a program hangs, and for as long as `trial`."""
    at = clock.rfc3339(clock.wall())
    try:
        programs = versions.programs(configuration)
        checks = list(doctor.examine_node(configuration, programs, trial))
        told = versions.named(programs)
        tried = next((each for each in checks if each.name == NAME), None)
        return Look(_conditions(checks, summary(configuration, told)), told, at, tried)
    except Exception as error:  # noqa: BLE001 (the outermost frame of a thread: told as a condition)
        message = f"the checks broke ({type(error).__name__}: {error}); try `oarlock doctor`"
        unknown = {"status": "Unknown", "reason": "ChecksBroke", "message": message}
        return Look([{"type": each.value, **unknown} for each in doctor.Condition], {}, at)


def summary(configuration: Configuration, told: dict[str, str | None]) -> str:
    """The node's parts in one line, as `oarlock 0.1.0, conmon 2.1.6, runc 1.1.5, cgroup v1 by cgroupfs`."""
    programs = [f"{name} {version or 'of unknown version'}" for name, version in told.items()]
    return ", ".join((*programs, f"cgroup v{hierarchy().VERSION} by {configuration.manager}"))


def _conditions(checks: list[doctor.Check], parts: str) -> Conditions:
    found = doctor.conditions(checks)
    for condition in found:
        if condition["status"] == "True":
            network = condition["type"] == doctor.Condition.NETWORK.value
            told = [each.message for each in checks if each.condition is doctor.Condition.NETWORK]
            condition["message"] = "; ".join(told) if network else parts
    return found


def _carry_over(condition: dict[str, str], before: Conditions, now: str) -> None:
    """Since when the condition has this status."""
    known = next((each for each in before if each["type"] == condition["type"]), None)
    same = known is not None and known["status"] == condition["status"]
    condition["lastTransitionTime"] = known["lastTransitionTime"] if known is not None and same else now
