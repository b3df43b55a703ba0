"""Waiting until a record shows what a verb asked for, telling meanwhile what is waited for."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from oarlock.cli import exitcodes
from oarlock.cli.folders import Folders
from oarlock.cli.records import Record, read_record
from oarlock.cli.verbs import Wish, override_now
from oarlock.node.configuration import Configuration
from oarlock.node.presence import Operator, find_operator

PATIENCE = 1.0
"""Seconds before a wait says that it waits."""


class Telling:
    """What a long wait says on stderr: one line that is rewritten on a terminal, else a line per change."""

    def __init__(self, record: Record, verb: str, timeout: float) -> None:
        self._begin = time.monotonic()
        self._subject = f"{verb} {record}"
        self._timeout = timeout
        self._terminal = sys.stderr.isatty()
        self._last = ""

    def say(self, record: Record | None) -> None:
        now = "gone" if record is None else _stage(record)
        waited = time.monotonic() - self._begin
        if self._terminal:
            line = f"{self._subject}: {now}, {waited:.0f} of {self._timeout:.0f} s"
            print(f"\r\x1b[2K{line}", end="", file=sys.stderr, flush=True)
        elif now != self._last:
            print(
                f"oarlock: {self._subject}: {now}, waiting up to {self._timeout:.0f} s",
                file=sys.stderr,
                flush=True,
            )
        self._last = now

    def end(self) -> None:
        if self._terminal and self._last:
            print("\r\x1b[2K", end="", file=sys.stderr, flush=True)


def wait_for(
    configuration: Configuration,
    before: Record,
    wish: Wish,
    timeout: float,
    operator: Operator,
    override: Mapping[str, Any] | None,
) -> int:
    """Wait until the record shows what `wish` asks for, and print the outcome.

    Woken by the record's file and by the operator's end; the only clock is for the line on the terminal.

    Args:
        override: what was written for it. Once another one stands there, or none, it will not come true any more.
    """
    path = configuration.records_dir / f"{before.uid}.json"
    telling = Telling(before, wish.verb, timeout)
    with Folders() as folders:
        folders.add(path.parent)
        folders.process(operator.pid)
        try:
            return _wait(folders, configuration, path, before, wish, timeout, telling, override)
        finally:
            telling.end()


def _wait(
    folders: Folders,
    configuration: Configuration,
    path: Path,
    before: Record,
    wish: Wish,
    timeout: float,
    telling: Telling,
    override: Mapping[str, Any] | None,
) -> int:
    begin = time.monotonic()
    deadline = begin + timeout
    while True:
        record = _read(path)
        if wish.reached(record, before):
            telling.end()
            print(f"{before} {wish.done}")
            return exitcodes.OK
        if record is None:
            raise exitcodes.Failure(f"{before} was deleted while waiting for it", exitcodes.NOT_FOUND)
        why = wish.failed(record, before)
        if why is not None:
            raise exitcodes.Failure(f"{before}: {why}")
        if override is not None and override_now(configuration.overrides_dir / path.name) != override:
            raise exitcodes.Failure(
                f"{before}: another command or its document asked for something else since; it is {_stage(record)}"
            )
        now = time.monotonic()
        if now >= deadline:
            raise exitcodes.Failure(
                f"{wish.verb} {before}: not within {timeout:g} s; it is {_stage(record)}", exitcodes.TIMED_OUT
            )
        if now - begin >= PATIENCE:
            telling.say(record)
        if not folders.wait(min(deadline, now + PATIENCE)) and not find_operator(configuration.lock_file).running:
            raise exitcodes.Failure(
                f"{before}: the operator ended; this takes effect when it runs again", exitcodes.OPERATOR_DOWN
            )


def _read(path: Path) -> Record | None:
    try:
        return read_record(path)
    except ValueError as error:
        raise exitcodes.Failure(f"{path}: {error}") from None


def _stage(record: Record) -> str:
    told = record.phase
    if record.status.get("reason") not in (None, "", record.phase):
        told += f" ({record.status['reason']})"
    pid = record.status.get("pid")
    return told + (f", pid {pid}" if pid else "")
