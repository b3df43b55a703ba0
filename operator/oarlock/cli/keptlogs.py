"""The files of one attempt's log, opened for reading: plain or compressed, in the order in which they were written."""

from __future__ import annotations

import gzip
import os
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, cast

from oarlock.cli import output
from oarlock.node.logfiles import Rotated, packed_path, rotated

BLOCK = 1 << 16


@dataclass(frozen=True, slots=True, eq=False)
class LogFile:
    """One open file of a log; the one being written has the number that it will get when it is rotated away."""

    number: int
    file: BinaryIO
    packed: bool = False

    @property
    def identity(self) -> tuple[int, int]:
        """Which file this is, whatever its name is now."""
        facts = os.fstat(self.file.fileno())
        return facts.st_dev, facts.st_ino

    def blocks(self) -> Iterator[bytes]:
        """What it holds from where it stands on."""
        while block := self._block():
            yield block

    def _block(self) -> bytes:
        try:
            return self.file.read(BLOCK)
        except (EOFError, gzip.BadGzipFile, zlib.error):
            output.note(f"{self.file.name} is damaged; the rest of it is left out")
            return b""

    def close(self) -> None:
        self.file.close()


def open_kept(log: Path, after: int = 0) -> list[LogFile]:
    """The files of a log with numbers above `after`, opened, the oldest first.

    All are opened before one is read: what is open is not lost when rotation removes it.
    """
    while True:
        current = _open(log)
        older = rotated(log)
        files = [file for each in older if each.number > after and (file := _open_rotated(each)) is not None]
        if current is None:  # between a rotation and the opening of the next file
            return files
        newest = LogFile(older[-1].number + 1 if older else 1, current)
        if is_at(newest, log):
            return [*files, newest]
        for file in (*files, newest):  # rotated meanwhile
            file.close()


def is_at(file: LogFile, path: Path) -> bool:
    """Whether this file has that name."""
    try:
        facts = os.stat(path)
    except FileNotFoundError:
        return False
    return file.identity == (facts.st_dev, facts.st_ino)


def _open_rotated(each: Rotated) -> LogFile | None:
    """None when it was removed meanwhile; compressed meanwhile is fine."""
    if not each.packed and (plain := _open(each.path)) is not None:
        return LogFile(each.number, plain)
    packed = each.path if each.packed else packed_path(each.path)
    try:
        return LogFile(each.number, cast(BinaryIO, gzip.open(packed)), packed=True)
    except FileNotFoundError:
        return None


def _open(path: Path) -> BinaryIO | None:
    try:
        return path.open("rb", buffering=0)
    except FileNotFoundError:
        return None
