"""What conmon and each OCI runtime say of their version (`oci.go: Version`, `getOCIVersion`).

Imports no asyncio and no models: `oarlock version` answers with it.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import re
import signal
import subprocess
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from oarlock import __version__
from oarlock.errors import ConfigurationError
from oarlock.node.checked import find_program
from oarlock.node.configuration import Configuration

ANSWER = 5.0
"""Seconds that a program has to answer."""
_READ = 0.2
"""Seconds to read what one has said long ago, after another had all of `ANSWER`."""

_VERSION = re.compile(r"\d+(?:\.\d+)+(?:[-+~.\w]*)")


@dataclass(frozen=True, slots=True)
class Program:
    """One program that oarlock runs, and what it said.

    Attributes:
        label: `conmon`, `runtime-trusted`, `runtime-untrusted`, or `runtime-NAME` of a named one.
        name: `conmon`, or the handler's name.
        path: where it is; None when it is missing.
        version: None when it told none.
        problem: one sentence; empty when it told its version.
        way_out: what helps against the problem.
        usable: whether it can be run.
    """

    label: str
    name: str
    path: Path | None = None
    version: str | None = None
    problem: str = ""
    way_out: str = ""
    usable: bool = True


def versions(configuration: Configuration) -> dict[str, str | None]:
    """Versions by name: oarlock's, conmon's and each runtime's; None for what is missing or tells none.

    Blocks for as long as the slowest takes, about `ANSWER` seconds at most.
    """
    return named(programs(configuration))


def named(programs: Iterable[Program]) -> dict[str, str | None]:
    """oarlock's version, and that of each program by its name."""
    return {"oarlock": __version__} | {each.name: each.version for each in programs}


def programs(configuration: Configuration) -> list[Program]:
    """conmon and each configured runtime, asked all at once."""
    found = [_found(label, option, program) for label, option, program in _wanted(configuration)]
    paths = {each.path for each in found if each.path is not None}
    answers = _ask(paths, dict(configuration.conmon_env))
    told = [each if each.path is None else _told(each, answers[each.path]) for each in found]
    names = [each.name for each in told]
    return [
        dataclasses.replace(each, name=f"{each.name} (untrusted)")
        if each.label == "runtime-untrusted" and names.count(each.name) > 1
        else each
        for each in told
    ]


def version_of(text: str) -> str | None:
    """The version in what `--version` printed: that of the first line that has one; None if none has.

    runc prints five lines, conmon two, crun ends without a newline; other builds print what they like.
    """
    return next((match[0] for line in text.splitlines() if (match := _VERSION.search(line))), None)


def _wanted(configuration: Configuration) -> Iterable[tuple[str, str, Path]]:
    """Label, option and program of each."""
    yield "conmon", "conmon", configuration.conmon
    yield "runtime-trusted", "runtime_trusted", configuration.runtime_trusted
    if configuration.runtime_untrusted is not None:
        yield "runtime-untrusted", "runtime_untrusted", configuration.runtime_untrusted
    for name, program in configuration.runtimes:
        yield f"runtime-{name}", "runtimes", program


def _found(label: str, option: str, program: Path) -> Program:
    named = label.removeprefix("runtime-") if option == "runtimes" else None
    name = named or ("conmon" if option == "conmon" else program.name)
    try:
        return Program(label, name, find_program(option, program, named))
    except ConfigurationError as error:
        problem, _, way_out = str(error).partition("; ")
        return Program(label, name, problem=problem, way_out=way_out, usable=False)


def _told(program: Program, answer: tuple[str, int] | str) -> Program:
    """The program with what it said: (output, exit code), or a sentence on why there is no answer."""
    if isinstance(answer, str):
        return dataclasses.replace(program, problem=answer, way_out="try it by hand", usable=False)
    said, code = answer
    first = next((line.strip() for line in said.splitlines() if line.strip()), "nothing")[:200]
    if code:
        problem = f"{program.path} --version ended with {code}: {first}"
        return dataclasses.replace(program, problem=problem, way_out="try it by hand", usable=False)
    version = version_of(said)
    if version is None:
        problem, way_out = f"{program.path}: no version in {first!r}", "check that it is the right program"
        return dataclasses.replace(program, problem=problem, way_out=way_out)
    return dataclasses.replace(program, version=version)


def _ask(paths: Iterable[Path], variables: Mapping[str, str]) -> dict[Path, tuple[str, int] | str]:
    """Each program's output and exit code for `--version`; a sentence where it gave none."""
    deadline = time.monotonic() + ANSWER
    answers: dict[Path, tuple[str, int] | str] = {}
    with contextlib.ExitStack() as ended:
        running: list[tuple[Path, subprocess.Popen[bytes]]] = []
        for path in paths:
            try:
                running.append((path, ended.enter_context(_started(path, variables))))
            except OSError as error:
                answers[path] = f"{path} cannot be executed: {error.strerror}"
        for path, process in running:
            try:
                out, err = process.communicate(timeout=max(_READ, deadline - time.monotonic()))
                answers[path] = (out or err).decode("utf-8", "replace"), process.returncode
            except subprocess.TimeoutExpired:
                answers[path] = f"{path} --version gave no answer in {ANSWER:g} s"
    return answers


@contextlib.contextmanager
def _started(path: Path, variables: Mapping[str, str]) -> Iterator[subprocess.Popen[bytes]]:
    """`path --version`, in a process group of its own; at the end it is ended with all that it began."""
    with subprocess.Popen(
        [path, "--version"],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={"PATH": os.defpath, "LC_ALL": "C.UTF-8", **variables},
        process_group=0,
    ) as process:
        try:
            yield process
        finally:
            if process.returncode is None:  # so the number is still its own
                os.killpg(process.pid, signal.SIGKILL)
