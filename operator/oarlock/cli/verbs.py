"""`oarlock stop`, `start`, `restart`, `pause`, `unpause`, `delete`: change what is desired, then wait until it is so.

An object of the API is changed in the API. An object of the manifest directory has an override
beside its record, which holds until its document asks for another container or state; it is deleted by
removing its document.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from oarlock.api.identity import KUBERNETES
from oarlock.api.standing import standing
from oarlock.cli import exitcodes, output
from oarlock.cli.records import Record, read_shelf
from oarlock.node.configuration import Configuration
from oarlock.node.presence import find_operator

RESTARTED_AT = "oarlock.dev/restartedAt"
STATES = {"stop": "Stopped", "start": "Running", "pause": "Paused", "unpause": "Running"}
"""The state that each of these verbs asks for."""
SETTLED = frozenset({"Stopped", "Succeeded", "Failed"})
ENDED = frozenset({"Succeeded", "Failed", "Unknown", "BackOff"})
"""Phases in which nothing runs although it was wanted."""
MARGIN = 30.0
"""Seconds a stop may take beyond the grace period before the wait is given up."""


@dataclass(frozen=True, slots=True)
class Wish:
    """What a verb wants of one container.

    Attributes:
        verb: as it is typed.
        done: the past participle, for the sentence at the end.
        reached: whether the record shows it (None: the record is gone), compared with the one before.
        failed: why it never will, or None.
    """

    verb: str
    done: str
    reached: Callable[[Record | None, Record], bool]
    failed: Callable[[Record, Record], str | None]


@dataclass(frozen=True, slots=True)
class Waiting:
    """Whether and how long to wait; no timeout given means: as long as this container may take."""

    wait: bool = True
    timeout: float | None = None

    def seconds(self, record: Record, verb: str) -> float:
        if self.timeout is not None:
            return self.timeout
        if verb in ("start", "pause", "unpause"):
            return MARGIN
        grace = record.spec.get("terminationGracePeriodSeconds")
        return float(30 if grace is None else grace) + MARGIN


def act(configuration: Configuration, namespace: str | None, names: list[str], verb: str, waiting: Waiting) -> int:
    """Change each of the containers and wait; the exit code of the first that failed."""
    operator = find_operator(configuration.lock_file)
    shelf = read_shelf(configuration, operator)
    records = [shelf.find(name, namespace) for name in names]
    for record in records:
        _check(record, verb)
    wishes = [change(configuration, record, verb) for record in records]
    if not operator.running:
        output.note("the operator is not running: this takes effect when it runs again")
        return exitcodes.OPERATOR_DOWN if waiting.wait else exitcodes.OK
    if not waiting.wait:
        return exitcodes.OK
    from oarlock.cli.waiting import wait_for

    codes = [
        wait_for(configuration, record, WISHES[verb], waiting.seconds(record, verb), operator, wish)
        for record, wish in zip(records, wishes, strict=True)
    ]
    return next((code for code in codes if code), exitcodes.OK)


def change(configuration: Configuration, record: Record, verb: str) -> Mapping[str, Any] | None:
    """Write down what is desired now, where the object comes from. What has ended by itself is started as anew.

    Returns:
        the override of a manifest's container.

    Raises:
        OarlockError: the API refused or does not answer.
    """
    if verb == "start" and record.phase in ENDED:
        verb = "restart"
    if record.source == KUBERNETES:
        _change_object(configuration, record, verb)
        return None
    path = configuration.overrides_dir / f"{record.uid}.json"
    wish = override(override_now(path), record, verb, datetime.now(UTC))
    try:
        _write(path, wish)
    except OSError as error:
        told = f"{record}: {path.parent} cannot be written: {error.strerror}; make room there, or write into"
        raise exitcodes.Failure(f"{told} {record.origin or 'its manifest'} what is wanted") from None
    return wish


def override(before: Mapping[str, Any], record: Record, verb: str, now: datetime) -> dict[str, Any]:
    """The override of a manifest's container after `verb`. An earlier one of another document is void."""
    document = standing(record.spec)
    valid = before if before.get("document") == document else {}
    state, restarted_at = valid.get("state"), valid.get("restartedAt")
    if verb in STATES:
        state = STATES[verb]
    else:
        restarted_at = _rfc3339(now)
        if (state or record.spec.get("state") or "Running") != "Running":
            state = "Running"
    return {"document": document, "state": state, "restartedAt": restarted_at}


def patch(record: Record, verb: str, now: datetime) -> dict[str, Any]:
    """The merge patch (RFC 7386) of an API object; empty when it says already what is wanted."""
    change: dict[str, Any] = {}
    wanted = STATES.get(verb, "Running")
    if (record.spec.get("state") or "Running") != wanted:
        change["spec"] = {"state": wanted}
    if verb == "restart":
        change["metadata"] = {"annotations": {RESTARTED_AT: _rfc3339(now)}}
    return change


def _change_object(configuration: Configuration, record: Record, verb: str) -> None:
    import asyncio

    from oarlock.sources.kubernetes import client

    if not configuration.uses_kubernetes:
        raise exitcodes.Failure(
            f"{record} is an object of the Kubernetes API: say which with --kubeconfig FILE (or KUBECONFIG)",
            exitcodes.USAGE,
        )
    if verb == "delete":
        asyncio.run(client.delete_object(configuration, record.namespace, record.name, record.uid))
    else:
        change = patch(record, verb, datetime.now(UTC))
        if change:
            asyncio.run(client.patch_object(configuration, record.namespace, record.name, record.uid, change))
        else:
            _wake(configuration.overrides_dir / f"{record.uid}.json")


def _wake(override: Path) -> None:
    """Have the operator look at an object again whose desired state is the same: the kernel's may not be."""
    override.parent.mkdir(mode=0o700, exist_ok=True)
    override.touch()
    override.unlink()


def _check(record: Record, verb: str) -> None:
    """Refuse what makes no sense now (`oci.go: PauseContainer`, which did not look)."""
    if verb == "pause" and record.phase not in ("Running", "Paused"):
        raise exitcodes.Failure(f"{record} is {record.phase}, and only what runs can be paused; `oarlock start` first")
    if verb == "unpause" and "Paused" not in (record.phase, record.desired) and not _frozen(record):
        raise exitcodes.Failure(f"{record} is not paused but {record.phase}")
    if verb == "delete" and record.source != KUBERNETES:
        file = (record.origin or "its manifest").rpartition(":")[0] or record.origin or "its manifest"
        raise exitcodes.Failure(
            f"{record} comes from {record.origin or 'a manifest'}: remove that document "
            f"(or the file {file}) and the operator removes the container; `oarlock stop` only stops it"
        )


def _frozen(record: Record) -> bool:
    """Whether the kernel says that its processes are frozen, whoever did it."""
    from oarlock.cgroups.hierarchy import hierarchy
    from oarlock.cli.target import place_of

    return "containerID" in record.current and hierarchy().frozen(place_of(record.current).container)


def override_now(path: Path) -> Mapping[str, Any]:
    """The override in this file; empty when there is none."""
    try:
        found = json.loads(path.read_bytes())
    except (FileNotFoundError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _write(path: Path, document: Mapping[str, Any]) -> None:
    """Write a small file that the operator never sees half of, and that outlives a power cut."""
    path.parent.mkdir(mode=0o700, exist_ok=True)
    descriptor, temporary = tempfile.mkstemp(prefix=".", suffix=".tmp", dir=path.parent)
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            json.dump(document, file)
            file.flush()
            os.fsync(file.fileno())
        os.rename(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def _rfc3339(now: datetime) -> str:
    return now.isoformat(timespec="microseconds").replace("+00:00", "Z")


def _stopped(record: Record | None, _before: Record) -> bool:
    return record is None or (not record.status.get("pid") and record.phase in SETTLED)


def _started(record: Record | None, before: Record) -> bool:
    if record is None:
        return False
    fresh = record.attempt > before.attempt
    return (record.phase == "Running" and bool(record.status.get("pid"))) or (fresh and record.phase == "Succeeded")


def _restarted(record: Record | None, before: Record) -> bool:
    return record is not None and record.attempt > before.attempt and _started(record, before)


def _paused(record: Record | None, _before: Record) -> bool:
    return record is not None and record.phase == "Paused" and _frozen(record)


def _unpaused(record: Record | None, before: Record) -> bool:
    return record is not None and _started(record, before) and not _frozen(record)


def _gone(record: Record | None, _before: Record) -> bool:
    return record is None


_HOPELESS = frozenset({"Refused", "NameTaken"})
"""Reasons for which nothing is started, whatever is asked for."""


def _start_failed(record: Record, before: Record) -> str | None:
    """An end counts if it is of a newer attempt: until the operator has looked, the status is of the one before."""
    if record.attempt > before.attempt and record.phase in ("Failed", "BackOff", "Unknown"):
        return _why(record)
    for each in record.status.get("conditions") or ():
        if (each.get("type"), each.get("status")) == ("Stalled", "True") and each.get("reason") in _HOPELESS:
            return f"{record.phase}: {each['reason']}: {each.get('message')}"
    return None


def _freeze_failed(record: Record, before: Record) -> str | None:
    """What runs can be frozen and thawed, whatever its newest version is refused for."""
    return None if record.phase in ("Running", "Paused") else _start_failed(record, before)


def _never(_record: Record, _before: Record) -> str | None:
    return None


def _why(record: Record) -> str:
    told = [
        record.phase,
        *(str(record.status[key]) for key in ("reason", "message") if record.status.get(key)),
    ]
    code = record.status.get("exitCode")
    return ": ".join(told) + (f" (exit code {code})" if code is not None else "")


WISHES: Mapping[str, Wish] = {
    "stop": Wish("stop", "stopped", _stopped, _never),
    "start": Wish("start", "started", _started, _start_failed),
    "restart": Wish("restart", "restarted", _restarted, _start_failed),
    "pause": Wish("pause", "paused", _paused, _freeze_failed),
    "unpause": Wish("unpause", "unpaused", _unpaused, _freeze_failed),
    "delete": Wish("delete", "deleted", _gone, _never),
}
