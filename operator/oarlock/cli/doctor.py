"""`oarlock doctor`: the checks as they are done, then the two conditions."""

from __future__ import annotations

import dataclasses
import sys

from oarlock.cli import exitcodes, output
from oarlock.node.configuration import Configuration
from oarlock.node.doctor import Check, Verdict, conditions, examine

MARKS = {Verdict.OK: ("ok  ", "32"), Verdict.WARN: ("warn", "33"), Verdict.FAIL: ("FAIL", "31")}


def doctor(configuration: Configuration, form: str | None) -> int:
    """Print all checks; exit code 1 unless both conditions are True."""
    checks: list[Check] = []
    for check in examine(configuration):
        checks.append(check)
        if form is None:
            _print(check)
    summary = conditions(checks)
    if form is not None:
        document = {"conditions": summary, "checks": [dataclasses.asdict(each) for each in checks]}
        sys.stdout.write(output.render(_plain(document), form))
    else:
        print()
        for condition in summary:
            told = f": {condition['message']}" if condition["message"] else ""
            print(f"{condition['type']}: {condition['status']}{told}")
    ready = all(each["status"] == "True" for each in summary)
    return exitcodes.OK if ready else exitcodes.FAILED


def _print(check: Check) -> None:
    word, code = MARKS[check.verdict]
    if output.wants_colour(sys.stdout):
        word = f"\x1b[{code}m{word}\x1b[0m"
    print(f"{word}  {check.name:<17} {check.message}")
    if check.way_out:
        print(f"      {'':<17} → {check.way_out}")
    sys.stdout.flush()


def _plain(value: object) -> object:
    """Enumerations as their texts, for YAML."""
    if isinstance(value, dict):
        return {key: _plain(each) for key, each in value.items()}
    if isinstance(value, list):
        return [_plain(each) for each in value]
    return str(value) if isinstance(value, Verdict) or not isinstance(value, (int, float, bool)) else value
