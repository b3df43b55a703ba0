"""Reading a log file from its beginning, or from a number of lines before its end."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from oarlock.runtime.crilog import Entry, Splitter, parse

__all__ = ["Entry", "Splitter", "count_lines", "last", "parse", "read"]


def read(blocks: Iterable[bytes], splitter: Splitter) -> Iterator[Entry]:
    """The entries of a file read in blocks; `splitter` keeps what is no whole line yet."""
    for block in blocks:
        yield from splitter.feed(block)


def count_lines(entries: Iterable[Entry]) -> int:
    """How many lines of output begin in these entries."""
    return len(_starts(entries))


def last(entries: Iterable[Entry], count: int) -> list[Entry]:
    """The entries that make up the last `count` lines, of both streams together."""
    kept: list[Entry] = []
    full = 4 * count + 1024
    for entry in entries:
        kept.append(entry)
        if len(kept) > full:
            kept = _cut(kept, count)
            full = max(4 * count + 1024, 2 * len(kept))
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
