"""`oarlock version`."""

from __future__ import annotations

import sys
from typing import Any

from oarlock import __version__
from oarlock.cli import output
from oarlock.node.configuration import Configuration
from oarlock.node.versions import Program, programs


def version(configuration: Configuration, form: str | None) -> int:
    """Print the versions of oarlock, conmon and each runtime, as lines or as a document."""
    conmon, *runtimes = programs(configuration)
    if form is None:
        lines = [f"{each.name} {each.version}" if each.version else _missing(each) for each in (conmon, *runtimes)]
        output.write_lines([f"oarlock {__version__}", *lines])
        return 0
    known = {
        "version": __version__,
        "api": "oarlock.dev/v1alpha1",
        "python": ".".join(map(str, sys.version_info[:3])),
        "conmon": _facts(conmon),
        "runtimes": [{"name": each.name} | _facts(each) for each in runtimes],
    }
    sys.stdout.write(output.render(known, form))
    return 0


def _missing(program: Program) -> str:
    return f"{program.name} unknown: {program.problem}; {program.way_out}"


def _facts(program: Program) -> dict[str, Any]:
    path = None if program.path is None else str(program.path)
    return {"version": program.version, "path": path} | ({"problem": program.problem} if program.problem else {})
