"""`oarlock inspect`: one container in full, for a person or as JSON and YAML."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Any

from oarlock.cli import exitcodes, output
from oarlock.cli.ps import operator_note
from oarlock.cli.records import Record, read_shelf
from oarlock.node.configuration import Configuration
from oarlock.node.presence import find_operator


def inspect(configuration: Configuration, namespace: str | None, name: str, form: str | None) -> int:
    """Print everything that is known of one container."""
    operator = find_operator(configuration.lock_file)
    record = read_shelf(configuration, operator).find(name, namespace)
    if form in ("json", "yaml"):
        sys.stdout.write(output.render(record.object() | {"record": facts(configuration, record)}, form))
    else:
        output.write_lines(describe(configuration, record))
    sys.stdout.flush()
    operator_note(operator, configuration)
    return exitcodes.OK


def facts(configuration: Configuration, record: Record) -> dict[str, Any]:
    """What the node knows beyond the object: where it came from, its attempts, its files."""
    container = record.current.get("containerID")
    return {
        "source": record.source,
        "origin": record.origin,
        "attempt": record.attempt,
        "bootID": record.data.get("bootID"),
        "deleted": bool(record.data.get("deleted")),
        "current": record.current or None,
        "exits": record.data.get("exits") or [],
        "logs": str(configuration.containers_dir / record.uid / "logs"),
        "bundle": str(configuration.bundles_dir / str(container)) if container else None,
    }


def describe(configuration: Configuration, record: Record) -> Iterator[str]:
    """The lines of the view for a person."""
    now = datetime.now(UTC)
    status = record.status
    known = facts(configuration, record)
    observed = output.cell(status.get("observedGeneration"))
    yield from _pairs(
        {
            "Name": record.name,
            "Namespace": record.namespace,
            "Source": f"{record.source}{f' ({record.origin})' if record.origin else ''}",
            "UID": record.uid,
            "Created": _moment(record.data.get("created"), now),
            "Labels": _joined(record.data.get("labels")),
            "Generation": f"{record.data.get('generation')} (observed {observed})",
            "State": record.desired + (" (as the command said)" if record.data.get("override") else ""),
            "Phase": record.phase,
            "Reason": ": ".join(str(status[key]) for key in ("reason", "message") if status.get(key)),
            "Pid": status.get("pid"),
            "Monitor pid": status.get("monitorPID"),
            "Container ID": status.get("containerID"),
            "Runtime": record.current.get("runtime"),
            "Started": _moment(status.get("startedAt"), now),
            "Finished": _moment(status.get("finishedAt"), now),
            "Exit code": status.get("exitCode"),
            "Signal": status.get("signal"),
            "OOM killed": status.get("oomKilled"),
            "Restarts": status.get("restartCount"),
            **_usage(record),
            "Command": " ".join(map(str, [*(record.spec.get("command") or ()), *(record.spec.get("args") or ())])),
            "Logs": known["logs"],
            "Bundle": known["bundle"],
        }
    )
    yield from _section("Conditions", status.get("conditions"), ("type", "status", "reason", "message"))
    yield from _section(
        "Attempts that ended",
        known["exits"],
        ("attempt", "exitCode", "signal", "oomKilled", "reason", "startedAt", "finishedAt", "message"),
    )
    yield from _spec(record.spec)


def _usage(record: Record) -> dict[str, str]:
    """What a container that runs uses now, as its cgroup counts it."""
    if not record.status.get("pid"):
        return {}
    from oarlock.cgroups.hierarchy import hierarchy
    from oarlock.cli.target import place_of

    used = hierarchy().usage(place_of(record.current).container)
    if used is None:
        return {}
    peak = "" if used.peak is None else f" (at most {output.size(used.peak)})"
    told = {
        "Memory": output.size(used.memory) + peak,
        "CPU time": f"{used.cpu:.2f} s",
        "Processes": str(used.processes),
    }
    pressed = [f"{name} {share:g} %" for name, share in used.pressure.items() if share]
    return told | ({"Waited for": f"{', '.join(pressed)} of the last 10 s"} if pressed else {})


def _spec(spec: Mapping[str, Any]) -> Iterator[str]:
    text = output.render(dict(spec), "yaml")
    yield "\nSpec:"
    yield from (f"  {line}" for line in text.splitlines())


def _pairs(pairs: Mapping[str, object]) -> Iterator[str]:
    width = max(map(len, pairs)) + 1
    for key, value in pairs.items():
        if value not in (None, ""):
            yield f"{key + ':':<{width}}  {output.cell(value)}"


def _section(title: str, items: list[Mapping[str, Any]] | None, keys: tuple[str, ...]) -> Iterator[str]:
    if not items:
        return
    rows = [tuple(_heading(key) for key in keys)]
    rows += [tuple(output.cell(item.get(key)) for key in keys) for item in items]
    yield f"\n{title}:"
    yield from (f"  {line}" for line in output.columns(rows))


def _heading(key: str) -> str:
    """`finishedAt` → `FINISHED AT`."""
    return "".join(f" {each}" if each.isupper() else each for each in key).upper()


def _moment(text: object, now: datetime) -> str | None:
    return None if text is None else f"{text} ({output.age(text, now)} ago)"


def _joined(labels: Mapping[str, str] | None) -> str:
    return ", ".join(f"{key}={value}" for key, value in (labels or {}).items())
