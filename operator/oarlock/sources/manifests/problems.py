"""What the manifest directory has wrong: told once in the log, and kept in `problems.json` for the command.

`problems.json` is a list of `{"where": "web.yaml:12", "field": "spec.command", "problem": "…"}`.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

from oarlock.linux.files import write_atomic

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

    @property
    def place(self) -> tuple[str, int]:
        """File and line (0: the file as a whole); sorts problems as one reads."""
        name, _, line = self.where.rpartition(":")
        return (name, int(line)) if name and line.isdecimal() else (self.where, 0)


class ProblemList:
    """The present problems: logs what is new and what is over, and writes the file when it changed.

    Args:
        path: `problems.json` in the state directory; its folder must exist.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._present: tuple[Problem, ...] = ()
        try:
            self._written: bytes | None = path.read_bytes()
        except OSError:
            self._written = None

    @property
    def count(self) -> int:
        """How many there are."""
        return len(self._present)

    def replace(self, problems: Iterable[Problem]) -> None:
        """These are the problems now."""
        present = tuple(dict.fromkeys(problems))
        before = self._present
        for problem in present:
            if problem not in before:
                logger.error("%s", problem)
        broken = {problem.place[0] for problem in present}
        for name in dict.fromkeys(problem.place[0] for problem in before):
            if name not in broken:
                logger.info("%s: nothing is wrong any more", name)
        self._present = present
        self._write()

    def _write(self) -> None:
        """Bring the file up to date. A full disk stops nothing: it is tried again at the next change."""
        content = json.dumps([asdict(problem) for problem in self._present], indent=1).encode() + b"\n"
        if content == self._written:
            return
        try:
            write_atomic(self._path, content, durable=False)
        except OSError as error:
            logger.warning("%s cannot be written: %s", self._path, error.strerror)
        else:
            self._written = content
