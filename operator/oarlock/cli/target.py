"""The running container that `exec` and `attach` are about, found by its record alone: no operator is needed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from oarlock.cgroups.place import Place, place
from oarlock.cli import exitcodes
from oarlock.cli.liveness import is_alive
from oarlock.cli.records import Record, read_shelf
from oarlock.node.configuration import Configuration
from oarlock.node.presence import find_operator
from oarlock.runtime.container import Container


@dataclass(frozen=True, slots=True)
class Target:
    """A container that ran a moment ago: its record, and how conmon and the runtime know it."""

    record: Record
    container: Container
    pid: int
    pid_start: int


def find_target(configuration: Configuration, namespace: str | None, name: str) -> Target:
    """The container of `name`.

    Raises:
        Failure: there is none, or it does not run.
    """
    record = read_shelf(configuration, find_operator(configuration.lock_file)).find(name, namespace)
    current = record.current
    pid, start = current.get("pid"), current.get("pidStart")
    if not pid or not start or not is_alive(pid, start):
        phase = "just ended" if record.phase in ("Running", "Paused") else record.phase
        raise exitcodes.Failure(
            f"{record} does not run (it is {phase}); `oarlock inspect {record}` says why, "
            f"`oarlock start {record}` starts what was stopped"
        )
    container_id, spec = str(current["containerID"]), current["spec"]
    container = Container(
        id=container_id,
        runtime=Path(current["runtime"]),
        bundle=configuration.bundles_dir / container_id,
        log=Path(current["logPath"]),
        place=place_of(current),
        terminal=bool(spec.get("tty")),
        stdin=bool(spec.get("stdin")),
        stdin_once=bool(spec.get("stdinOnce")),
    )
    return Target(record, container, int(pid), int(start))


def place_of(current: Mapping[str, Any]) -> Place:
    """The cgroups of a record's present attempt."""
    manager, parent = current.get("cgroupManager", "cgroupfs"), current.get("cgroupParent", "/oarlock")
    return place(manager, parent, str(current["containerID"]))
