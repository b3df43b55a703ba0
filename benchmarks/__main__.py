"""`python -m benchmarks`: every figure in one run; the table on stdout and build/bench.json."""

from __future__ import annotations

import argparse
import os
import platform
import sys
import time
from collections.abc import Callable
from pathlib import Path

from benchmarks import crowds, deletes, execs, logs, starts, table
from benchmarks.setting import Setting, setting
from benchmarks.table import Figure

_RESULTS = Path(__file__).parents[1] / "build" / "bench.json"

Theme = Callable[[Setting, bool], list[Figure]]

THEMES: dict[str, Theme] = {
    "starts": lambda at, quick: starts.measure(at, 5 if quick else 20),
    "exec": lambda at, quick: execs.measure(at, 5 if quick else 20),
    "delete": lambda at, quick: deletes.measure(at, 5 if quick else 20),
    "logs": lambda at, quick: logs.measure(at, 1 if quick else 3),
    "burst": lambda at, quick: crowds.burst(at),
    "idle": lambda at, quick: crowds.idle(at, 10.0 if quick else 60.0),
    "ps": lambda at, quick: crowds.listing(at, 3 if quick else 10),
    "memory": lambda at, quick: crowds.memory(at),
    "restart": lambda at, quick: crowds.restart(at, 1 if quick else 3),
}
"""In this order: each leaves the node as the next one wants it."""


def main() -> int:
    """Measure, print, write. A missed limit is told, not an error: the exit code is 0 when all could be measured."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--only", action="append", choices=THEMES, metavar="NAME", help=f"one of {', '.join(THEMES)}")
    parser.add_argument("--quick", action="store_true", help="fewer rounds, a shorter idle time")
    given = parser.parse_args()
    if os.geteuid() != 0:
        print("benchmarks: run them as root: they run real containers", file=sys.stderr)
        return 2
    began = time.monotonic()
    figures: list[Figure] = []

    def say(what: str) -> None:
        print(f"{time.monotonic() - began:6.1f} s  {what}", file=sys.stderr, flush=True)

    with setting(say) as at:
        for name, theme in THEMES.items():
            if not given.only or name in given.only:
                say(f"measuring: {name}")
                figures += theme(at, given.quick)
        say("clearing up")
        at.delete(at.standing)
    table.write(figures, _RESULTS)
    say(f"done; {_RESULTS}")
    print(f"\n{os.cpu_count()} cores, Linux {platform.release()}, Python {platform.python_version()}\n")
    print("\n".join(table.lines(figures)))
    missed = [figure.name for figure in figures if not figure.ok]
    print(f"\n{len(figures)} figures, {len(missed)} missed" + "".join(f"\n  {name}" for name in missed))
    return 0


if __name__ == "__main__":
    sys.exit(main())
