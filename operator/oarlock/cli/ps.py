"""`oarlock ps`: the containers of this node, from their records."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime

from oarlock.cli import exitcodes, output
from oarlock.cli.records import Record, Shelf, read_problems, read_shelf
from oarlock.node.configuration import Configuration
from oarlock.node.presence import Operator, find_operator

HEADINGS = ("NAMESPACE", "NAME", "STATE", "PHASE", "PID", "EXIT", "OOM", "RESTARTS", "AGE")
WIDE_HEADINGS = (*HEADINGS, "READY", "REASON", "SOURCE", "CONTAINER ID", "COMMAND")


def ps(configuration: Configuration, namespace: str | None, form: str | None, watch: bool) -> int:
    """Print the containers; with `watch` go on with each change until interrupted."""
    operator = find_operator(configuration.lock_file)
    shelf = read_shelf(configuration, operator)
    if watch:
        from oarlock.cli.watch import watch_containers

        return watch_containers(configuration, namespace, form, operator)
    records = shelf.select(namespace)
    print_records(records, form)
    sys.stdout.flush()
    notes(configuration, shelf, operator, empty=not records, namespace=namespace)
    return exitcodes.OK


def print_records(records: Sequence[Record], form: str | None) -> None:
    """Print records as a table, as names, or as a List of objects."""
    if form in ("json", "yaml"):
        listed = {
            "apiVersion": "v1",
            "kind": "List",
            "metadata": {},
            "items": [each.object() for each in records],
        }
        sys.stdout.write(output.render(listed, form))
    elif form == "name":
        output.write_lines(f"containerspec.oarlock.dev/{each.name}" for each in records)
    elif records:
        output.write_lines(table(records, form == "wide", output.wants_colour(sys.stdout)))


def table(records: Iterable[Record], wide: bool, colour: bool = False) -> list[str]:
    """The lines of the table, headings first."""
    records = list(records)
    now = datetime.now(UTC)
    rows = [WIDE_HEADINGS if wide else HEADINGS, *(row(each, wide, now) for each in records)]
    lines = output.columns(rows)
    if colour:
        lines[1:] = [output.coloured(line, each.phase) for line, each in zip(lines[1:], records, strict=True)]
    return lines


def row(record: Record, wide: bool, now: datetime) -> tuple[str, ...]:
    """The cells of one container."""
    status = record.status
    cells: list[object] = [
        record.namespace,
        record.name,
        _desired(record),
        record.phase,
        status.get("pid"),
        status.get("exitCode"),
        status.get("oomKilled"),
        status.get("restartCount") or 0,
        output.age(record.data.get("created"), now),
    ]
    if wide:
        command = [*(record.spec.get("command") or ()), *(record.spec.get("args") or ())]
        cells += [
            bool(status.get("ready")),
            status.get("reason"),
            record.source,
            status.get("containerID"),
            _one_line(" ".join(map(str, command))),
        ]
    return tuple(map(output.cell, cells))


def notes(configuration: Configuration, shelf: Shelf, operator: Operator, empty: bool, namespace: str | None) -> None:
    """What a person must know beside the table, on stderr."""
    if empty:
        place = f"namespace {namespace}" if namespace else str(configuration.records_dir)
        output.note(f"no containers in {place}")
    operator_note(operator, configuration)
    for problem in shelf.unreadable:
        output.note(f"unreadable record {problem}")
    problems = read_problems(configuration)
    if problems:
        output.note(f"problems in {configuration.manifests}:")
        for problem in problems:
            print(f"  {output.plain(problem)}", file=sys.stderr)


def operator_note(operator: Operator, configuration: Configuration) -> None:
    """Say that no operator runs, since when, and what that means for what is shown."""
    if operator.running:
        return
    last = ""
    if operator.pid is not None and operator.since is not None:
        started = datetime.fromtimestamp(operator.since).astimezone()
        last = f" (the last one, pid {operator.pid}, started {started:%Y-%m-%d %H:%M:%S})"
    output.note(f"the operator is not running{last}; this is what it recorded, checked against /proc")


def _desired(record: Record) -> str:
    if record.data.get("deleted"):
        return "Deleted"
    return record.desired


def _one_line(text: str) -> str:
    shown = output.plain(text)
    return shown if len(shown) <= 60 else shown[:59] + "…"
