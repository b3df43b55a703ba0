"""`oarlock attach`: this terminal, or these streams, at a container's own input and output, until it ends."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from pathlib import Path
from typing import NoReturn

from oarlock.cli import detaching, exitcodes, output, terminal
from oarlock.cli.folders import Folders
from oarlock.cli.records import Record, read_record
from oarlock.cli.relay import Sink, Source, relay
from oarlock.cli.signals import handling
from oarlock.cli.target import Target, find_target
from oarlock.errors import RuntimeFailure
from oarlock.linux.process import Process, hold
from oarlock.node.configuration import Configuration
from oarlock.runtime.attachment import PACKET, STDERR, Attachment

UNREAD = 16 << 20
"""Bytes that wait for whoever reads this output. conmon waits for its clients, and the container for conmon: so a
client that is not read detaches."""
PATIENCE = 30.0
"""Seconds after the container's end in which its exit code is awaited."""
_IN, _OUT, _ERR = 0, 1, 2


class _Over(Exception):
    """The attachment ends with this exit code; None: with the container's own."""

    def __init__(self, code: int | None, said: str = "") -> None:
        super().__init__(code)
        self.code, self.said = code, said


def attach(configuration: Configuration, namespace: str | None, name: str, stdin: bool, detach_keys: str) -> int:
    """Show what the container writes from now on, and give it what is typed; its exit code, or 0 when detached."""
    try:
        keys = detaching.parse(detach_keys)
    except ValueError as error:
        raise exitcodes.Failure(f"--detach-keys: {error}", exitcodes.USAGE) from None
    target = find_target(configuration, namespace, name)
    if stdin and not target.container.stdin:
        output.note(f"{target.record} takes no input (spec.stdin is false); only its output is shown")
        stdin = False
    process = hold(target.pid, target.pid_start)
    with contextlib.ExitStack() as held:
        if process is not None:
            held.callback(process.close)
        try:
            connection = held.enter_context(Attachment(target.container.bundle))
        except RuntimeFailure as error:
            raise exitcodes.Failure(f"{target.record}: {error}") from None
        try:
            _pass_on(target, connection, stdin, keys)
        except _Over as over:
            if over.said:
                output.note(over.said)
            return _exit_code(configuration, target, process) if over.code is None else over.code


def _pass_on(target: Target, connection: Attachment, stdin: bool, keys: bytes) -> NoReturn:
    """Copy until something ends it.

    Raises:
        _Over: the container has ended, the keys were typed, or a signal came.
    """
    typed = stdin and terminal.is_terminal(_IN)
    with contextlib.ExitStack() as held:
        held.enter_context(handling((signal.SIGTERM, signal.SIGHUP), _end_by))
        if typed and target.container.terminal:
            held.enter_context(handling((signal.SIGWINCH,), lambda _: _resize(connection)))
            _resize(connection)
            held.enter_context(terminal.raw(_IN))
        out, err = Sink(_OUT), Sink(_ERR)
        sources, sinks = [_output(target, connection, out, err)], [out, err]
        if stdin:
            into = Sink(connection.fileno(), lambda _, data: connection.send(data), PACKET)
            sources.append(_input(target, connection, into, keys if typed else b""))
            sinks.append(into)

        def broken(sink: Sink) -> None:
            if sink in (out, err):
                raise exitcodes.ReaderGone
            del sources[1:]

        try:
            relay(sources, sinks, None, broken)
        except _Over:
            relay([], [out, err], None, broken)
            raise
        raise _Over(None)


def _output(target: Target, connection: Attachment, out: Sink, err: Sink) -> Source:
    def take(packet: bytes) -> None:
        if not packet:
            raise _Over(None)
        sink = err if packet[0] == STDERR else out
        sink.push(packet[1:])
        if len(sink.pending) > UNREAD:
            raise exitcodes.Failure(f"{target.record}: what it writes is not read here; detached, so that it can go on")

    return Source(connection.fileno(), take, read=lambda _fd, _size: connection.read())


def _input(target: Target, connection: Attachment, into: Sink, keys: bytes) -> Source:
    detach = detaching.DetachKeys(keys)

    def take(block: bytes) -> None:
        passed, done = detach.feed(block)
        into.push(passed)
        if done:
            raise _Over(exitcodes.OK, f"detached; {target.record} goes on")
        if not block:
            into.finish(connection.end_input)

    return Source(_IN, take, into)


def _resize(connection: Attachment) -> None:
    now = terminal.size(_IN, _OUT, _ERR)
    if now is not None:
        connection.resize(*now)


def _end_by(number: int) -> None:
    raise _Over(128 + number)


def _exit_code(configuration: Configuration, target: Target, process: Process | None) -> int:
    """The ended container's: from the kernel where it tells it, else from the record, or conmon's file.

    Raises:
        Failure: it is not told in time, or the object was deleted meanwhile.
    """
    if process is not None:
        if not process.has_ended():
            raise exitcodes.Failure(f"{target.record}: its conmon has ended, so nothing is heard of it; it goes on")
        status = process.wait_status()
        if status is not None:
            code = os.waitstatus_to_exitcode(status)
            return code if code >= 0 else 128 - code
    path = configuration.records_dir / f"{target.record.uid}.json"
    deadline = time.monotonic() + PATIENCE
    with Folders() as folders:
        folders.add(path.parent)
        folders.add(configuration.exits_dir)
        while True:
            record = read_record(path)
            told = _told(record, target.container.id, configuration.exits_dir / target.container.id)
            if told is not None:
                return told
            if record is None:
                raise exitcodes.Failure(f"{target.record} was deleted before its exit code was told")
            if not folders.wait(deadline):
                raise exitcodes.Failure(f"{target.record} has ended; its exit code was not told within {PATIENCE:g} s")


def _told(record: Record | None, container_id: str, exit_file: Path) -> int | None:
    """The exit code that is known of a container, if one is."""
    for each in (record.data.get("exits") or ()) if record is not None else ():
        if each.get("containerID") == container_id:
            return int(each["exitCode"]) % 256
    with contextlib.suppress(OSError, ValueError):
        return int(exit_file.read_text())
    return None
