"""`oarlock ps -w`: a live table on a terminal, else a line (or document) for each change."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from oarlock.cli import output
from oarlock.cli.folders import Folders
from oarlock.cli.ps import HEADINGS, WIDE_HEADINGS, notes, operator_note, print_records, row
from oarlock.cli.records import Record, Shelf, read_problems, read_shelf
from oarlock.node.configuration import Configuration
from oarlock.node.presence import Operator, find_operator

if TYPE_CHECKING:
    from rich.console import Group

AGES = 1.0
"""Seconds after which the live table is drawn anew for its ages."""


def watch_containers(configuration: Configuration, namespace: str | None, form: str | None, operator: Operator) -> int:
    """Show the containers and each change of them until interrupted."""
    with Folders() as folders:
        if not folders.add(configuration.state_dir):
            folders.add(configuration.state_dir.parent)
            if not folders.add(configuration.state_dir):  # else it was made this moment
                output.note(f"{configuration.state_dir} does not exist yet; waiting for it")
        folders.add(configuration.records_dir)
        folders.process(operator.pid if operator.running else None)
        if sys.stdout.isatty() and form in (None, "wide"):
            _live(folders, configuration, namespace, form == "wide")
        _lines(folders, configuration, namespace, form, operator)
    return 0


def _lines(
    folders: Folders,
    configuration: Configuration,
    namespace: str | None,
    form: str | None,
    operator: Operator,
) -> None:
    """A line for each container, then one for each change; columns are as wide as what came so far needs."""
    shown: dict[str, str] = {}
    widths = [len(heading) for heading in (WIDE_HEADINGS if form == "wide" else HEADINGS)]
    if form in (None, "wide"):
        _line(WIDE_HEADINGS if form == "wide" else HEADINGS, widths)
    shelf = read_shelf(configuration, operator)
    notes(configuration, shelf, operator, empty=False, namespace=namespace)
    while True:
        seen: dict[str, str] = {}
        for record in shelf.select(namespace):
            seen[record.uid] = _essence(record)
            if shown.get(record.uid) != seen[record.uid]:
                _change(record, form, widths)
        for uid in shown.keys() - seen.keys():
            if form in (None, "wide"):
                print(f"{shown[uid].split('|', 1)[0]} is gone")
        shown = seen
        sys.stdout.flush()
        folders.wait()
        folders.add(configuration.state_dir)
        folders.add(configuration.records_dir)
        before, operator = operator, find_operator(configuration.lock_file)
        if before.running != operator.running:
            _operator_changed(operator, configuration, folders)
        shelf = read_shelf(configuration, operator)


def _operator_changed(operator: Operator, configuration: Configuration, folders: Folders) -> None:
    if operator.running:
        output.note(str(operator))
        folders.process(operator.pid)
    else:
        operator_note(operator, configuration)


def _change(record: Record, form: str | None, widths: list[int]) -> None:
    if form in ("json", "yaml"):
        sys.stdout.write(("---\n" if form == "yaml" else "") + output.render(record.object(), form))
    elif form == "name":
        print_records([record], form)
    else:
        _line(row(record, form == "wide", datetime.now(UTC)), widths)


def _line(cells: tuple[str, ...], widths: list[int]) -> None:
    widths[:] = [max(width, len(cell)) for width, cell in zip(widths, cells, strict=True)]
    print("   ".join(cell.ljust(width) for cell, width in zip(cells, widths, strict=True)).rstrip())


def _essence(record: Record) -> str:
    """What a line shows, but for the age: a record written anew without a difference makes no line."""
    cells = row(record, True, datetime.now(UTC))
    return "|".join((str(record), *cells[:8], *cells[9:]))


def _live(folders: Folders, configuration: Configuration, namespace: str | None, wide: bool) -> None:
    """Redraw the table at each change, and once a second for the ages."""
    from rich.live import Live

    with Live(auto_refresh=False, screen=False) as live:
        while True:
            operator = find_operator(configuration.lock_file)
            shelf = read_shelf(configuration, operator)
            live.update(_table(configuration, shelf, operator, namespace, wide), refresh=True)
            time.sleep(PACE)
            folders.wait(time.monotonic() + AGES - PACE)
            folders.add(configuration.records_dir)


def _table(configuration: Configuration, shelf: Shelf, operator: Operator, namespace: str | None, wide: bool) -> Group:
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, padding=(0, 3, 0, 0), header_style="bold")
    for heading in WIDE_HEADINGS if wide else HEADINGS:
        table.add_column(heading, no_wrap=True)
    now = datetime.now(UTC)
    for record in shelf.select(namespace):
        cells = [Text(cell) for cell in row(record, wide, now)]
        cells[3] = Text(record.phase, style=STYLES.get(record.phase, ""))
        table.add_row(*cells)
    below = [Text(str(operator), style="dim" if operator.running else "bold red")]
    below += [Text(problem, style="red") for problem in read_problems(configuration)]
    return Group(table, *below)


PACE = 0.1
"""Seconds at least between two drawings: a burst of changes is drawn once."""
STYLES: Mapping[str, str] = {
    "Running": "green",
    "Succeeded": "green",
    "Pending": "yellow",
    "Stopping": "yellow",
    "BackOff": "red",
    "Failed": "red",
    "Unknown": "magenta",
    "Paused": "cyan",
    "Stopped": "dim",
}
