"""`oarlock logs`: what a container wrote, over all files that rotation kept, and on as it writes."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import BinaryIO

from oarlock.cli import crilog, exitcodes, output
from oarlock.cli.crilog import Entry, Splitter
from oarlock.cli.ps import operator_note
from oarlock.cli.records import Record, read_shelf
from oarlock.node import values
from oarlock.node.configuration import Configuration
from oarlock.node.presence import find_operator

TAIL_GUESS = 1 << 18
"""Bytes from the end of the newest file in which `--tail` looks first."""

_ATTEMPT = re.compile(r"(\d+)\.log(?:\.(\d+))?")


@dataclass(frozen=True, slots=True)
class Choice:
    """Which lines are wanted, and how."""

    follow: bool = False
    tail: int | None = None
    since: str | None = None
    timestamps: bool = False
    previous: bool = False


def logs(configuration: Configuration, namespace: str | None, name: str, choice: Choice) -> int:
    """Print the log of a container's newest attempt (or the one before), then follow it when asked to."""
    operator = find_operator(configuration.lock_file)
    record = read_shelf(configuration, operator).find(name, namespace)
    folder = logs_folder(configuration, record)
    attempt = _attempt(folder, record, choice.previous)
    printer = Printer(choice.timestamps, since_when(choice.since, datetime.now(UTC)))
    if choice.follow:
        from oarlock.cli.follow import follow

        operator_note(operator, configuration)
        return follow(configuration, record, folder, attempt, choice.tail, printer)
    if attempt is None:
        if not operator.running:
            operator_note(operator, configuration)
        raise exitcodes.Failure(f"{record} has not written a log yet (it is {record.phase})", exitcodes.FAILED)
    with ExitStack() as stack:
        files = [stack.enter_context(file) for file in open_kept(folder, attempt)]
        splitter = Splitter()
        printer.print(chosen(files, choice.tail, splitter))
        printer.print(splitter.finish())
    printer.flush()
    operator_note(operator, configuration)
    return exitcodes.OK


def logs_folder(configuration: Configuration, record: Record) -> Path:
    """Where the container's logs lie."""
    path = record.current.get("logPath")
    return Path(path).parent if path else configuration.containers_dir / record.uid / "logs"


def attempts(folder: Path) -> list[int]:
    """The attempts that have a log, the oldest first."""
    try:
        matches = [_ATTEMPT.fullmatch(each.name) for each in folder.iterdir()]
    except FileNotFoundError:
        return []
    return sorted({int(match[1]) for match in matches if match})


def open_kept(folder: Path, attempt: int) -> list[BinaryIO]:
    """The files of one attempt's log, opened, the oldest first.

    Looked for from the newest on: rotation only moves files to higher numbers, so whatever it
    does meanwhile, none is missed; one that is met twice is kept once.
    """
    found: list[BinaryIO] = []
    seen: set[tuple[int, int]] = set()
    newest = folder / f"{attempt}.log"
    for path in (newest, *_rotated(folder, newest.name)):
        try:
            file = path.open("rb", buffering=0)
        except FileNotFoundError:
            continue
        known = identity(file)
        if known in seen:
            file.close()
        else:
            seen.add(known)
            found.append(file)
    return found[::-1]


def identity(file: BinaryIO) -> tuple[int, int]:
    """Which file this is, whatever its name is now."""
    facts = os.fstat(file.fileno())
    return facts.st_dev, facts.st_ino


def chosen(files: list[BinaryIO], tail: int | None, splitter: Splitter) -> Iterable[Entry]:
    """The entries of all files, or those of the last `tail` lines; the newest file is then read to its end.

    `splitter` keeps what the newest file has of a line that is being written.
    """
    if tail is None or tail < 0:
        return _from(files, 0, splitter)
    for begin, offset in _guesses(files):
        splitter.rest = b""
        entries = crilog.last(_from(files[begin:], offset, splitter), tail + 1)
        if (begin, offset) == (0, 0) or crilog.count_lines(entries) > tail:
            return crilog.last(entries, tail)
    return ()


def since_when(text: str | None, now: datetime) -> datetime | None:
    """The moment that `--since` names: a duration ago, or an RFC 3339 time.

    Raises:
        Failure: it is neither (exit code 2).
    """
    if text is None:
        return None
    moment = output.parse_time(text)
    if moment is not None and "-" in text:
        return moment
    try:
        return now - timedelta(seconds=values.duration(text))
    except ValueError:
        raise exitcodes.Failure(
            f"--since: {text!r} is neither a duration (10m) nor a time (2026-01-31T12:00:00Z)",
            exitcodes.USAGE,
        ) from None


class Printer:
    """Writes entries: each stream to its own, byte for byte, with times where they are wanted.

    A part of a line is written at once (a prompt must be seen), and its end completes the line.
    """

    def __init__(self, timestamps: bool, since: datetime | None) -> None:
        self._timestamps = timestamps
        self._since = since
        self._streams = {b"stdout": sys.stdout.buffer, b"stderr": sys.stderr.buffer}
        self._within: set[bytes] = set()

    def print(self, entries: Iterable[Entry]) -> None:
        for entry in entries:
            if self._since is not None:
                moment = entry.moment
                if moment is not None and moment < self._since:
                    continue
                self._since = None if moment is not None else self._since
            prefix = b"" if entry.stream in self._within or not self._timestamps else entry.time + b" "
            (self._within.add if entry.partial else self._within.discard)(entry.stream)
            self._streams[entry.stream].write(prefix + entry.text + (b"" if entry.partial else b"\n"))

    def flush(self) -> None:
        for stream in self._streams.values():
            stream.flush()


def _attempt(folder: Path, record: Record, previous: bool) -> int | None:
    known = attempts(folder)
    if previous:
        if len(known) < 2:
            raise exitcodes.Failure(f"{record} has no log of an earlier attempt", exitcodes.NOT_FOUND)
        return known[-2]
    return known[-1] if known else None


def _rotated(folder: Path, name: str) -> Iterator[Path]:
    """`1.log.1`, `1.log.2`, … as far as there are any, and some more: a rotation may be adding one."""
    try:
        numbers = [
            int(match[2])
            for match in (_ATTEMPT.fullmatch(each.name) for each in folder.iterdir())
            if match and match[2] and f"{match[1]}.log" == name
        ]
    except FileNotFoundError:
        return
    yield from (folder / f"{name}.{number}" for number in range(1, max(numbers, default=0) + 4))


def _guesses(files: list[BinaryIO]) -> Iterator[tuple[int, int]]:
    """How far back to look for the last lines: the end of the newest file, the whole of it, one more, …"""
    if not files:
        return
    end = files[-1].seek(0, 2)
    if end > TAIL_GUESS:
        yield len(files) - 1, end - TAIL_GUESS
    yield from ((begin, 0) for begin in range(len(files) - 1, -1, -1))


def _from(files: list[BinaryIO], offset: int, newest: Splitter) -> Iterator[Entry]:
    for file in files:
        file.seek(offset if file is files[0] else 0)
        splitter = newest if file is files[-1] else Splitter()
        entries = crilog.read(file, splitter)
        if offset and file is files[0]:
            next(entries, None)  # the rest of a line whose beginning was not read
        yield from entries
        if splitter is not newest:
            yield from splitter.finish()
