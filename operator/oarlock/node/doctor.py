"""Whether this node can run containers, as the conditions RuntimeReady and NetworkReady.

Each check looks at one thing, changes nothing that stays, and says what helps when it is wrong. The last one makes a
container and removes it (`trial`): what only looks right is found by it.
(oci.go: RuntimeReady and NetworkReady, which were stubs that returned true.)
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum

from oarlock.node.configuration import Configuration
from oarlock.node.versions import Program


class Verdict(StrEnum):
    OK = "ok"
    WARN = "warn"
    FAIL = "fail"


class Condition(StrEnum):
    RUNTIME = "RuntimeReady"
    NETWORK = "NetworkReady"


@dataclass(frozen=True, slots=True)
class Check:
    """The outcome of one check.

    Attributes:
        message: what was found, one sentence.
        way_out: what helps; empty when all is well.
    """

    name: str
    verdict: Verdict
    message: str
    way_out: str = ""
    condition: Condition = Condition.RUNTIME


def ok(name: str, message: str, condition: Condition = Condition.RUNTIME) -> Check:
    return Check(name, Verdict.OK, message, "", condition)


def warn(name: str, message: str, way_out: str, condition: Condition = Condition.RUNTIME) -> Check:
    return Check(name, Verdict.WARN, message, way_out, condition)


def fail(name: str, message: str, way_out: str, condition: Condition = Condition.RUNTIME) -> Check:
    return Check(name, Verdict.FAIL, message, way_out, condition)


def examine(configuration: Configuration) -> Iterator[Check]:
    """Every check, one after the other; takes up to three seconds where pid 1 is slow to reap, more where a program
    hangs."""
    from oarlock.node import checks_parts, versions
    from oarlock.node.trial import Trial

    yield from examine_node(configuration, versions.programs(configuration), Trial(configuration).run)
    yield checks_parts.lock(configuration)
    yield from checks_parts.api(configuration)


def examine_node(
    configuration: Configuration, programs: Sequence[Program], trial: Callable[[], Check]
) -> Iterator[Check]:
    """The checks of the node itself, whoever runs on it.

    Args:
        programs: conmon and the runtimes as they answered.
        trial: makes and removes a container; asked for only where nothing is known to be in its way.
    """
    hindered = False
    for check in _looks(configuration, programs):
        hindered |= check.condition is Condition.RUNTIME and check.verdict is Verdict.FAIL
        yield check
    if not hindered:
        yield trial()


def _looks(configuration: Configuration, programs: Sequence[Program]) -> Iterator[Check]:
    from oarlock.node import checks_host, checks_parts

    yield from checks_parts.programs(configuration, programs)
    yield from checks_host.kernel()
    yield checks_host.overlay()
    yield from checks_host.cgroups(configuration)
    yield from checks_host.capabilities()
    yield from checks_parts.disks(configuration)
    yield checks_host.inotify()
    yield checks_host.clock()
    yield from checks_host.pid_one()
    yield checks_host.network()


def conditions(checks: Sequence[Check]) -> list[dict[str, str]]:
    """The checks summed up as conditions in Kubernetes' shape."""
    return [_condition(each, [check for check in checks if check.condition is each]) for each in Condition]


def _condition(condition: Condition, checks: Sequence[Check]) -> dict[str, str]:
    failed = [check for check in checks if check.verdict is Verdict.FAIL]
    if not failed:
        return {"type": condition.value, "status": "True", "reason": "ChecksPassed", "message": ""}
    return {
        "type": condition.value,
        "status": "False",
        "reason": "".join(word.capitalize() for word in failed[0].name.replace("-", " ").split()) + "Failed",
        "message": "; ".join(f"{check.name}: {check.message}" for check in failed),
    }
