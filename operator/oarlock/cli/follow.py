"""`oarlock logs -f`: goes on with a log across rotation and later attempts, losing and doubling nothing.

The open file is the truth: it is read to its end before the next one is begun, whatever its name
is by then. Which one is next is found by identity (device and inode), not by name.
"""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import BinaryIO

from oarlock.cli import crilog, exitcodes, output
from oarlock.cli.crilog import Splitter
from oarlock.cli.folders import Folders
from oarlock.cli.liveness import boot_id, ended_unseen
from oarlock.cli.logs import Printer, attempts, chosen, identity, open_kept
from oarlock.cli.records import Record, read_record
from oarlock.cli.verbs import SETTLED
from oarlock.node.configuration import Configuration
from oarlock.node.presence import find_operator

QUIET = 0.25
"""Seconds without a change after a container's end, in which conmon may still write what it had read."""


class Log:
    """The log of one attempt, followed: an open file, and what was read of its last line."""

    def __init__(self, folder: Path, attempt: int, tail: int | None, printer: Printer) -> None:
        self.attempt = attempt
        self._folder = folder
        self._path = folder / f"{attempt}.log"
        self._splitter = Splitter()
        self._file: BinaryIO | None = None
        files = open_kept(folder, attempt)
        printer.print(chosen(files, tail, self._splitter))
        if files:
            self._file = files.pop()
        _close(files)

    def close(self) -> None:
        if self._file is not None:
            self._file.close()

    def drain(self, printer: Printer) -> None:
        """Print all that has been written until now, in the open file and in those that came after it."""
        self._read(printer)
        while newer := self._newer(printer):
            self._read(printer)  # what was written before the newer file began
            printer.print(self._splitter.finish())
            self.close()
            self._file, *rest = newer
            _close(rest)
            self._read(printer)

    def _read(self, printer: Printer) -> None:
        if self._file is not None:
            printer.print(crilog.read(self._file, self._splitter))

    def _newer(self, printer: Printer) -> list[BinaryIO]:
        """The files that were begun after the open one, opened, the oldest first."""
        own = None if self._file is None else identity(self._file)
        try:
            facts = os.stat(self._path)
        except FileNotFoundError:
            return []
        if own == (facts.st_dev, facts.st_ino):
            return []
        files = open_kept(self._folder, self.attempt)
        known = [identity(each) for each in files]
        if own not in known:
            if own is not None and files:
                output.note(f"{self._path.name}: lines were rotated away before they could be read")
            return files
        later = known.index(own) + 1
        _close(files[:later])
        return files[later:]


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
        if not find_operator(configuration.lock_file).running:
            folders.process(record.current.get("pid"))
        try:
            while True:
                folders.add(folder)
                now = _read(path)
                known = attempts(folder)
                if not followed and known:
                    followed.append(Log(folder, known[-1] if attempt is None else attempt, tail, printer))
                for log in followed:
                    log.drain(printer)
                later = [each for each in known if followed and each > followed[-1].attempt]
                if later:
                    followed.append(Log(folder, later[0], None, printer))
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
    printer.flush()


def _ended(record: Record | None, configuration: Configuration) -> bool:
    """Whether nothing more will be written: settled or deleted, or dead while no operator runs."""
    if record is None:
        return True
    if record.phase in SETTLED and not record.status.get("pid"):
        return True
    if find_operator(configuration.lock_file).running:
        return False
    return ended_unseen(record.data, boot_id(), configuration.exits_dir) is not None


def _read(path: Path) -> Record | None:
    try:
        return read_record(path)
    except ValueError as error:
        raise exitcodes.Failure(f"{path}: {error}") from None


def _close(files: list[BinaryIO]) -> None:
    for file in files:
        file.close()
