"""`oarlock logs -f`: goes on with a log across rotation and later attempts, losing and doubling nothing.

The open file is the truth: it is read to its end before the next one is begun, whatever its name is by then.
Newer files are opened as soon as there are any, so that a slow reader still has what rotation removes meanwhile.
"""

from __future__ import annotations

import time
from collections import deque
from pathlib import Path

from oarlock.cli import exitcodes, output
from oarlock.cli.folders import Folders
from oarlock.cli.keptlogs import is_at, open_kept
from oarlock.cli.liveness import ended_unseen
from oarlock.cli.logs import Printer, show
from oarlock.cli.records import Record, read_record
from oarlock.cli.verbs import SETTLED
from oarlock.linux.procfs import boot_id
from oarlock.node.configuration import Configuration
from oarlock.node.logfiles import attempts
from oarlock.node.presence import find_operator

QUIET = 0.25
"""Seconds without a change after a container's end, in which conmon may still write what it had read."""


MOST_AHEAD = 256
"""Files that are held open until they are read."""


class Log:
    """The log of one attempt, followed: an open file, those after it, and what was read of its last line."""

    def __init__(self, path: Path, attempt: int, tail: int | None, printer: Printer) -> None:
        self.attempt = attempt
        self._path = path
        files = open_kept(path)
        self._splitter = show(files, tail, printer)
        self._files = deque(files[-1:])
        for each in files[:-1]:
            each.close()

    def close(self) -> None:
        for each in self._files:
            each.close()

    def drain(self, printer: Printer) -> None:
        """Print all that has been written until now, in the open file and in those that came after it."""
        self._read(printer)
        while len(self._files) > 1:
            self._read(printer)  # what was written before the newer file began
            printer.print(self._splitter.finish())
            self._files.popleft().close()
            self._read(printer)

    def finish(self, printer: Printer) -> None:
        """Print what a writer that was cut off left of a line."""
        printer.print(self._splitter.finish())

    def _read(self, printer: Printer) -> None:
        self._look_ahead()
        if self._files:
            for block in self._files[0].blocks():
                printer.print(self._splitter.feed(block))
                self._look_ahead()

    def _look_ahead(self) -> None:
        """Open the files that were begun after the newest open one."""
        if not self._files:
            self._files.extend(open_kept(self._path))
            return
        newest = self._files[-1]
        if len(self._files) > MOST_AHEAD or is_at(newest, self._path):
            return
        found = open_kept(self._path, after=newest.number)
        if found and found[0].number > newest.number + 1:
            output.note(f"{self._path.name}: lines were rotated away before they could be read")
        self._files.extend(found)


def follow(
    configuration: Configuration,
    record: Record,
    folder: Path,
    attempt: int | None,
    tail: int | None,
    printer: Printer,
) -> int:
    """Print the log from attempt `attempt` on, until the container is settled or deleted."""
    path = configuration.records_dir / f"{record.uid}.json"
    followed: list[Log] = []
    with Folders() as folders:
        folders.add(path.parent)
        operator = find_operator(configuration.lock_file)
        folders.process(operator.pid if operator.running else record.current.get("pid"))
        try:
            while True:
                folders.add(folder)
                now = _read(path)
                known = attempts(folder)
                if not followed and known:
                    first = known[-1] if attempt is None else attempt
                    followed.append(Log(folder / f"{first}.log", first, tail, printer))
                for log in followed:
                    log.drain(printer)
                later = [each for each in known if followed and each > followed[-1].attempt]
                if later:
                    followed[-1].finish(printer)
                    printer.end_lines()
                    followed.append(Log(folder / f"{later[0]}.log", later[0], None, printer))
                    if len(followed) > 2:
                        followed.pop(0).close()
                    continue
                printer.flush()
                if _ended(now, configuration):
                    _rest(folders, followed, printer)
                    if now is None:
                        output.note(f"{record} was deleted")
                    return exitcodes.OK
                folders.wait()
        finally:
            for log in followed:
                log.close()


def _rest(folders: Folders, followed: list[Log], printer: Printer) -> None:
    """Print what conmon still writes after the container's end, until it is quiet."""
    limit = time.monotonic() + 8 * QUIET
    while folders.wait(min(limit, time.monotonic() + QUIET)):
        for log in followed:
            log.drain(printer)
    for log in followed:
        log.finish(printer)
    printer.flush()


def _ended(record: Record | None, configuration: Configuration) -> bool:
    """Whether nothing more will be written: settled or deleted, or dead while no operator runs."""
    if record is None:
        return True
    watched = find_operator(configuration.lock_file).running
    if record.phase in {*SETTLED, "Unknown"} and not record.status.get("pid"):
        # An end is told before conmon has written all that it read; what is left of the attempt goes after conmon.
        return not (watched and record.current) or bool(record.data.get("problem"))
    return not watched and ended_unseen(record.data, boot_id(), configuration.exits_dir) is not None


def _read(path: Path) -> Record | None:
    try:
        return read_record(path)
    except ValueError as error:
        raise exitcodes.Failure(f"{path}: {error}") from None
