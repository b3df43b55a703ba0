"""How the command prints: columns as kubectl prints them, JSON, YAML, ages, colour only on a terminal."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Any, TextIO

COLOURS = {
    "Running": "32",
    "Succeeded": "32",
    "Pending": "33",
    "Stopping": "33",
    "BackOff": "31",
    "Failed": "31",
    "Unknown": "35",
    "Paused": "36",
    "Stopped": "2",
}
"""SGR codes by phase."""


def columns(rows: Sequence[Sequence[str]]) -> list[str]:
    """Lines with the cells of `rows` (the first: the headings) in columns, three blanks apart."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return ["   ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]


def wants_colour(stream: TextIO) -> bool:
    """Whether `stream` is a terminal whose owner did not ask for none (https://no-color.org)."""
    return stream.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def coloured(line: str, phase: str) -> str:
    """The line with its phase in the phase's colour."""
    code = COLOURS.get(phase)
    return line if code is None else line.replace(f" {phase} ", f" \x1b[{code}m{phase}\x1b[0m ", 1)


def note(message: str) -> None:
    """One line for the person, beside the output."""
    print(f"oarlock: {plain(message)}", file=sys.stderr)


def render(document: Any, form: str) -> str:
    """A document as `json` or `yaml`, with its last newline."""
    if form == "json":
        return json.dumps(document, indent=4, ensure_ascii=False) + "\n"
    import yaml

    return yaml.safe_dump(document, sort_keys=False, allow_unicode=True, default_flow_style=False)


def parse_time(text: object) -> datetime | None:
    """An RFC 3339 time, or None for anything else."""
    try:
        moment = datetime.fromisoformat(str(text))
    except ValueError:
        return None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def age(text: object, now: datetime) -> str:
    """How long ago a time was, as kubectl writes it: 45s, 3m10s, 5h, 12d."""
    moment = parse_time(text)
    if moment is None:
        return "-"
    return span((now - moment).total_seconds())


def span(seconds: float) -> str:
    """A duration of two parts at most (apimachinery, duration.HumanDuration)."""
    whole = max(0, int(seconds))
    if whole < 120:
        return f"{whole}s"
    minutes, rest = divmod(whole, 60)
    if minutes < 10:
        return f"{minutes}m{rest}s" if rest else f"{minutes}m"
    if minutes < 180:
        return f"{minutes}m"
    hours, minutes = divmod(minutes, 60)
    if hours < 8:
        return f"{hours}h{minutes}m" if minutes else f"{hours}h"
    if hours < 48:
        return f"{hours}h"
    days, hours = divmod(hours, 24)
    if days < 8:
        return f"{days}d{hours}h" if hours else f"{days}d"
    return f"{days}d" if days < 730 else f"{days // 365}y{days % 365}d"


def size(count: int) -> str:
    """`12.5 MiB` of a number of bytes."""
    for unit, shift in (("GiB", 30), ("MiB", 20), ("KiB", 10)):
        if count >= 1 << shift:
            return f"{count / (1 << shift):.1f} {unit}"
    return f"{count} B"


def cell(value: object) -> str:
    """A table's cell; what is absent is a dash."""
    if value is None or value == "":
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return plain(str(value))


def plain(text: str) -> str:
    """Text of others for a terminal: what is not printable, a sequence that rules it too, is a blank."""
    return "".join(each if each.isprintable() else " " for each in text)


def write_lines(lines: Iterable[str]) -> None:
    """Print lines in one write."""
    text = "".join(f"{line}\n" for line in lines)
    if text:
        sys.stdout.write(text)
