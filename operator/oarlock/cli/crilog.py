"""Reading the CRI log format: `TIME STREAM TAG TEXT`, where tag P marks a part of a line and F its end.

Everything is bytes: what a container writes need not be text. (oci.go: parseLog, which ignored the tag.)
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import BinaryIO

from oarlock.cli.output import parse_time

BLOCK = 1 << 16


@dataclass(frozen=True, slots=True)
class Entry:
    """One line of the log file: a line of the container's output, or a part of one."""

    time: bytes
    stream: bytes
    partial: bool
    text: bytes

    @property
    def moment(self) -> datetime | None:
        return parse_time(self.time.decode("ascii", "replace"))


def parse(line: bytes) -> Entry:
    """One line without its newline. What is no CRI line is shown as it is, as stdout without a time."""
    parts = line.split(b" ", 3)
    if len(parts) == 4 and parts[1] in (b"stdout", b"stderr") and parts[2][:1] in (b"P", b"F"):
        return Entry(parts[0], parts[1], parts[2][:1] == b"P", parts[3])
    if len(parts) == 3 and parts[1] in (b"stdout", b"stderr") and parts[2] in (b"P", b"F"):
        return Entry(parts[0], parts[1], parts[2] == b"P", b"")
    return Entry(b"", b"stdout", False, line)


@dataclass(slots=True)
class Splitter:
    """Cuts what is read into lines and keeps the beginning of one that is not written to its end yet."""

    rest: bytes = b""

    def feed(self, block: bytes) -> Iterator[Entry]:
        """The entries that are complete with this block."""
        *lines, self.rest = (self.rest + block).split(b"\n")
        return map(parse, lines)

    def finish(self) -> Iterator[Entry]:
        """What a writer that was cut off left behind."""
        if self.rest:
            yield parse(self.rest)
            self.rest = b""


def read(file: BinaryIO, splitter: Splitter) -> Iterator[Entry]:
    """The entries of an open file from where it stands on; `splitter` keeps what is no whole line yet."""
    while block := file.read(BLOCK):
        yield from splitter.feed(block)


def count_lines(entries: Iterable[Entry]) -> int:
    """How many lines of output begin in these entries."""
    return len(_starts(entries))


def last(entries: Iterable[Entry], count: int) -> list[Entry]:
    """The entries that make up the last `count` lines, of both streams together."""
    kept: list[Entry] = []
    for entry in entries:
        kept.append(entry)
        if len(kept) > 4 * count + 1024:
            kept = _cut(kept, count)
    return _cut(kept, count)


def _cut(entries: list[Entry], count: int) -> list[Entry]:
    """The end of `entries` from the first part of the count-last line on."""
    if count == 0:
        return []
    starts = _starts(entries)
    if len(starts) <= count:
        return entries
    first = starts[-count]
    begun_before = _unfinished(entries[:first])
    kept: list[Entry] = []
    for entry in entries[first:]:
        if entry.stream in begun_before:
            if not entry.partial:
                begun_before.discard(entry.stream)
            continue
        kept.append(entry)
    return kept


def _starts(entries: Iterable[Entry]) -> list[int]:
    """Where lines begin: at each entry whose stream is not within a line."""
    begun: set[bytes] = set()
    starts: list[int] = []
    for index, entry in enumerate(entries):
        if entry.stream not in begun:
            starts.append(index)
        (begun.add if entry.partial else begun.discard)(entry.stream)
    return starts


def _unfinished(entries: Iterable[Entry]) -> set[bytes]:
    """The streams whose last entry was a part only."""
    begun: set[bytes] = set()
    for entry in entries:
        (begun.add if entry.partial else begun.discard)(entry.stream)
    return begun
