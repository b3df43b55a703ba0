"""`oarlock validate`: every problem of manifests, with file, line and field."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field

from oarlock.api import containerspec
from oarlock.cli import exitcodes, output
from oarlock.sources.manifests.documents import Content, Document, parse
from oarlock.sources.manifests.problems import Problem
from oarlock.sources.manifests.reader import is_manifest, read_file

STDIN = "-"
_PIPED = 64 << 20
"""Bytes that it may have: a rendered chart, of which most is none of oarlock's."""


@dataclass(slots=True)
class Findings:
    """What was found in all files together.

    Attributes:
        names: where each (namespace, name) was first met, and which document that was; another one is a problem.
        missing: files that are not there.
        skipped: objects of other API groups, as a rendered chart has them.
    """

    node_name: str | None
    problems: list[str] = field(default_factory=list)
    valid: int = 0
    skipped: int = 0
    missing: list[str] = field(default_factory=list)
    names: dict[tuple[str, str], tuple[str, Document]] = field(default_factory=dict)


def validate(files: list[str], node_name: str | None) -> int:
    """Check each file, and each manifest of a directory; exit code 1 when anything is wrong."""
    findings = Findings(node_name)
    for path in {os.path.realpath(path): path for given in files for path in _paths(given)}.values():
        _check(path, findings)
    output.write_lines(map(output.plain, findings.problems))
    sys.stdout.flush()
    if findings.skipped:
        output.note(f"skipped {_count(findings.skipped, 'object')} of other kinds")
    if findings.missing:
        raise exitcodes.Failure("; ".join(f"{path}: no such file" for path in findings.missing), exitcodes.NOT_FOUND)
    if findings.problems:
        output.note(_count(len(findings.problems), "problem"))
        return exitcodes.FAILED
    print(f"{_count(findings.valid, 'ContainerSpec')} checked, no problems")
    return exitcodes.OK


def _check(path: str, findings: Findings) -> None:
    """Add what is wrong in one file."""
    try:
        content: Content = parse(sys.stdin.buffer.read(), "stdin", _PIPED) if path == STDIN else read_file(path)
    except FileNotFoundError:
        findings.missing.append(path)
        return
    name = "stdin" if path == STDIN else os.path.basename(path)
    folder = "" if path == STDIN else os.path.dirname(path)
    found = list(content.problems)
    for document in content.documents:
        if document.foreign and _of_another_group(document):
            findings.skipped += 1
            continue
        wrong = [*document.problems] or [*_problems(document, path, name, findings)]
        findings.valid += not wrong
        found += wrong
    findings.problems += [os.path.join(folder, str(problem)) for problem in found]


def _problems(document: Document, path: str, name: str, findings: Findings) -> Iterator[Problem]:
    spec = document.mapping.get("spec")
    own = spec.get("nodeName") if isinstance(spec, dict) else None
    node = findings.node_name or (own if isinstance(own, str) and own else "this-node")
    for problem in containerspec.problems(document.mapping, where=name, node_name=node):
        yield Problem(f"{name}:{document.line_of(problem.field)}", problem.field, problem.problem)
    key = document.name
    if key is None:
        return
    place = "stdin" if path == STDIN else path
    first, other = findings.names.setdefault(key, (f"{place}:{document.line}", document))
    if other is not document:
        told = f"{'/'.join(key)} is already in {first}; give it another name"
        yield Problem(f"{name}:{document.line}", "metadata.name", told)


def _of_another_group(document: Document) -> bool:
    version = document.mapping.get("apiVersion")
    return isinstance(version, str) and version.partition("/")[0] != containerspec.GROUP


def _paths(given: str) -> Iterator[str]:
    if given == STDIN or not os.path.isdir(given):
        yield given
        return
    yield from (os.path.join(given, name) for name in _manifests(given))


def _manifests(folder: str) -> list[str]:
    """The names that the operator would read there, in its order."""
    return sorted(entry.name for entry in os.scandir(folder) if is_manifest(entry.name) and not entry.is_dir())


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"
