"""`oarlock logs`: what a container wrote, over all files that rotation kept, and on as it writes."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from oarlock.cli import crilog, exitcodes, output
from oarlock.cli.crilog import Entry, Splitter
from oarlock.cli.keptlogs import LogFile, open_kept
from oarlock.cli.ps import operator_note
from oarlock.cli.records import Record, read_shelf
from oarlock.node import values
from oarlock.node.configuration import Configuration
from oarlock.node.logfiles import attempts
from oarlock.node.presence import find_operator

TAIL_GUESS = 1 << 18
"""Bytes from the end of the newest file in which `--tail` looks first."""


@dataclass(frozen=True, slots=True)
class Choice:
    """Which lines are wanted, and how."""

    follow: bool = False
    tail: int | None = None
    since: str | None = None
    timestamps: bool = False
    previous: bool = False


def logs(configuration: Configuration, namespace: str | None, name: str, choice: Choice) -> int:
    """Print the log of a container's newest attempt (or of its last state), then follow it when asked to."""
    operator = find_operator(configuration.lock_file)
    record = read_shelf(configuration, operator).find(name, namespace)
    folder = logs_folder(configuration, record)
    attempt = _attempt(folder, record, choice.previous)
    printer = Printer(choice.timestamps, since_when(choice.since, datetime.now(UTC)))
    if choice.follow and not choice.previous:  # what has ended is complete
        from oarlock.cli.follow import follow

        operator_note(operator, configuration)
        return follow(configuration, record, folder, attempt, choice.tail, printer)
    if attempt is None:
        if not operator.running:
            operator_note(operator, configuration)
        raise exitcodes.Failure(f"{record} has not written a log yet (it is {record.phase})", exitcodes.FAILED)
    with ExitStack() as stack:
        files = open_kept(folder / f"{attempt}.log")
        for each in files:
            stack.callback(each.close)
        printer.print(show(files, choice.tail, printer).finish())
    printer.flush()
    operator_note(operator, configuration)
    return exitcodes.OK


def logs_folder(configuration: Configuration, record: Record) -> Path:
    """Where the container's logs lie."""
    path = record.current.get("logPath")
    return Path(path).parent if path else configuration.containers_dir / record.uid / "logs"


def show(files: list[LogFile], tail: int | None, printer: Printer) -> Splitter:
    """Print what the files hold, or the last `tail` lines of it.

    Returns:
        What the newest file has of a line that is being written.
    """
    splitter = Splitter()
    if tail is None or tail < 0:
        for each in files if printer.since is None else begun_by(files, printer.since):
            printer.print(splitter.finish())
            printer.print(crilog.read(each.blocks(), splitter))
        return splitter
    for begin, offset in _guesses(files):
        splitter.rest = b""
        entries = crilog.last(_from(files[begin:], offset, splitter), tail + 1)
        if (begin, offset) == (0, 0) or crilog.count_lines(entries) > tail:
            printer.print(crilog.last(entries, tail))
            break
    return splitter


def begun_by(files: list[LogFile], since: datetime) -> list[LogFile]:
    """The files without those that are followed by one which begins before `since`."""
    for index in range(len(files) - 1, 0, -1):
        file = files[index].file
        block = next(files[index].blocks(), b"")
        file.seek(0)
        moment = next((each.moment for each in Splitter().feed(block)), None)
        if moment is not None and moment < since:
            return files[index:]
    return files


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
    except (ValueError, OverflowError):
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
        self.since = since
        self._streams = {b"stdout": sys.stdout.buffer, b"stderr": sys.stderr.buffer}
        self._within: set[bytes] = set()
        self._last = b"stdout"

    def print(self, entries: Iterable[Entry]) -> None:
        """Print these entries, from the first on that is not too old."""
        for entry in entries:
            if self.since is not None:
                moment = entry.moment
                if moment is not None and moment < self.since:
                    continue
                self.since = None if moment is not None else self.since
            prefix = b"" if entry.stream in self._within or not self._timestamps else entry.time + b" "
            (self._within.add if entry.partial else self._within.discard)(entry.stream)
            self._switch(entry.stream)
            self._streams[entry.stream].write(prefix + entry.text + (b"" if entry.partial else b"\n"))

    def _switch(self, stream: bytes) -> None:
        """Before the other stream's turn what this one has goes out: both may lead to one place."""
        if stream != self._last:
            self._streams[self._last].flush()
            self._last = stream

    def end_lines(self) -> None:
        """End what was left within a line: another attempt begins."""
        for stream in self._within:
            self._switch(stream)
            self._streams[stream].write(b"\n")
        self._within.clear()

    def flush(self) -> None:
        for stream in self._streams.values():
            stream.flush()


def _attempt(folder: Path, record: Record, previous: bool) -> int | None:
    known = attempts(folder)
    if previous:
        known = [each for each in known if each <= _last_ended(record)]
        if not known:
            raise exitcodes.Failure(f"{record} has no log of an earlier attempt", exitcodes.NOT_FOUND)
    return known[-1] if known else None


def _last_ended(record: Record) -> int:
    """The attempt that `lastState` names, as for `kubectl logs -p`; 0 when there is none."""
    terminated = (record.status.get("lastState") or {}).get("terminated") or {}
    number = str(terminated.get("containerID") or "").rpartition("-")[2]
    return int(number) if number.isdigit() else 0


def _guesses(files: list[LogFile]) -> Iterator[tuple[int, int]]:
    """How far back to look for the last lines: the end of the newest file, the whole of it, one more, …"""
    if not files:
        return
    end = 0 if files[-1].packed else files[-1].file.seek(0, 2)
    if end > TAIL_GUESS:
        yield len(files) - 1, end - TAIL_GUESS
    yield from ((begin, 0) for begin in range(len(files) - 1, -1, -1))


def _from(files: list[LogFile], offset: int, newest: Splitter) -> Iterator[Entry]:
    for each in files:
        each.file.seek(offset if each is files[0] else 0)
        splitter = newest if each is files[-1] else Splitter()
        entries = crilog.read(each.blocks(), splitter)
        if offset and each is files[0]:
            next(entries, None)  # the rest of a line whose beginning was not read
        yield from entries
        if splitter is not newest:
            yield from splitter.finish()
