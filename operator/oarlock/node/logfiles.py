"""The files of a container's logs, by name.

`2.log` is what attempt 2 writes to; `2.log.1`, `2.log.2.gz`, … were rotated away, the oldest first. A number is
given once and stays with its file, so that nothing has to be renamed again, and nobody who reads meets a file twice.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

PACKED = ".gz"
_NAME = re.compile(r"(?P<attempt>[0-9]+)\.log(?:\.(?P<number>[0-9]+)(?P<packed>\.gz)?)?")


@dataclass(frozen=True, slots=True)
class Rotated:
    """A file that was rotated away; `packed` when there is nothing of it but its compressed form."""

    number: int
    path: Path
    packed: bool

    def remove(self) -> None:
        """Remove it, in whichever form, and what an interrupted compression left."""
        plain = self.path.with_name(self.path.name.removesuffix(PACKED))
        for path in (plain, packed_path(plain), draft_path(plain)):
            path.unlink(missing_ok=True)


def packed_path(plain: Path) -> Path:
    """Where the compressed form of a rotated file lies."""
    return plain.with_name(plain.name + PACKED)


def draft_path(plain: Path) -> Path:
    """Where the compressed form is while it is being written."""
    return plain.with_name(f"{plain.name}{PACKED}.new")


def attempts(folder: Path) -> list[int]:
    """The attempts that have a log, the oldest first."""
    try:
        matches = [_NAME.fullmatch(each.name) for each in folder.iterdir()]
    except FileNotFoundError:
        return []
    return sorted({int(match["attempt"]) for match in matches if match})


def rotated(log: Path) -> list[Rotated]:
    """The files that were rotated away, the oldest first.

    Where a file lies there in both forms, its compression was cut off before it could remove the first: it counts
    once, as it was.
    """
    found: dict[int, Rotated] = {}
    try:
        names = [each.name for each in log.parent.iterdir()]
    except FileNotFoundError:
        return []
    for name in names:
        match = _NAME.fullmatch(name)
        if match and match["number"] and f"{match['attempt']}.log" == log.name:
            number, packed = int(match["number"]), match["packed"] is not None
            if not packed or number not in found:
                found[number] = Rotated(number, log.with_name(name), packed)
    return [found[number] for number in sorted(found)]
