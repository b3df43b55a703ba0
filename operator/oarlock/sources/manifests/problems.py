"""What the manifest directory has wrong: told once in the log, and kept in `problems.json` for the command.

`problems.json` is a list of `{"where": "web.yaml:12", "field": "spec.command", "problem": "…"}`.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong.

    Attributes:
        where: file and line, as `web.yaml:12`; the file alone when no line is at fault.
        field: the field's path, as `spec.env[1].name`; "" when the whole file or document is meant.
        problem: what is wrong and what would be right.
    """

    where: str
    field: str
    problem: str

    def __str__(self) -> str:
        return ": ".join(part for part in (self.where, self.field, self.problem) if part)


class ProblemList:
    """The present problems: logs what is new and what is over, and writes the file when it changed.

    Args:
        path: `problems.json` in the state directory; its folder must exist.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._known: tuple[Problem, ...] = ()
        self._written = _content(path)

    def __iter__(self) -> Iterable[Problem]:
        return iter(self._known)

    def replace(self, problems: Iterable[Problem]) -> None:
        """These are the problems now."""
        present = tuple(dict.fromkeys(problems))
        for problem in present:
            if problem not in self._known:
                logger.error("%s", problem)
        for where in dict.fromkeys(_file(problem) for problem in self._known if problem not in present):
            if where not in {_file(problem) for problem in present}:
                logger.info("%s: no problem any more", where)
        self._known = present
        self._write()

    def _write(self) -> None:
        """Bring the file up to date. A full disk is no reason to stop: it is tried again at the next change."""
        content = json.dumps([asdict(problem) for problem in self._known], indent=1).encode() + b"\n"
        if content == self._written:
            return
        temporary = self._path.with_name(f".{self._path.name}.new")
        try:
            with contextlib.ExitStack() as undo:
                undo.callback(temporary.unlink, missing_ok=True)
                with open(temporary, "wb", opener=_private) as file:
                    file.write(content)
                temporary.rename(self._path)
        except OSError as error:
            logger.warning("%s cannot be written: %s", self._path, error.strerror or error)
        else:
            self._written = content


def _file(problem: Problem) -> str:
    """The file that a problem is in: its `where` without the line."""
    name, _, line = problem.where.rpartition(":")
    return name if name and line.isdigit() else problem.where


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


def _content(path: Path) -> bytes | None:
    try:
        return path.read_bytes()
    except OSError:
        return None
