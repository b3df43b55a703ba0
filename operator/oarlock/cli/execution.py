"""`oarlock exec`: a command in a running container, streams and end passed on; or to its end, with a deadline."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import signal
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING

from oarlock.bundle import users
from oarlock.cli import exitcodes, output, terminal
from oarlock.cli.liveness import is_alive
from oarlock.cli.relay import Sink, Source, relay
from oarlock.cli.signals import handling
from oarlock.cli.target import Target, find_target
from oarlock.errors import BundleError, ExecSyncError, ExecTimeout, RuntimeFailure
from oarlock.node.checked import find_program
from oarlock.node.configuration import Configuration
from oarlock.node.settings import monitor_settings
from oarlock.runtime.execprocess import ExecProcess, ExecUser, ended
from oarlock.runtime.foreground import Foreground, foreground

if TYPE_CHECKING:
    from oarlock.runtime.execution import ExecResult

PASSED_ON = (signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2)
STOPS = (signal.SIGTSTP, signal.SIGTTIN, signal.SIGTTOU)
"""What stops a process that it is sent to, and does not here: one that has stopped waits for no command."""
_IN, _OUT, _ERR = 0, 1, 2
_AT_END = 1 << 20
"""Bytes of a stream that are still read once the command has ended: more than a pipe holds."""


@dataclass(frozen=True, slots=True)
class Call:
    """A command line of `oarlock exec`."""

    command: tuple[str, ...]
    interactive: bool = False
    terminal: bool = False
    user: str | None = None
    directory: str | None = None
    env: tuple[str, ...] = ()
    timeout: float | None = None


def execute(configuration: Configuration, namespace: str | None, name: str, call: Call) -> int:
    """Run the command; its own exit code, 128 + n after signal n, 127 or 126 when it is missing or cannot be run."""
    target = find_target(configuration, namespace, name)
    wants_terminal = call.terminal
    if call.timeout is not None and call.interactive:
        raise exitcodes.Failure("--timeout: the command then has no input; leave out -i", exitcodes.USAGE)
    if call.timeout is None and wants_terminal and not terminal.is_terminal(_IN):
        output.note("-t: the standard input is no terminal; going on without one")
        wants_terminal = False
    process = ExecProcess(
        args=tuple(map(_text, call.command)),
        env={_text(name): _text(value) for name, value in map(_variable, call.env)},
        user=None if call.user is None else _user(target, call.user),
        cwd=_directory(call.directory),
        terminal=wants_terminal,
        size=terminal.size(_IN, _OUT, _ERR) if wants_terminal else None,
    )
    try:
        if call.timeout is not None:
            return _to_its_end(configuration, target, process, call.timeout)
        return _streaming(configuration, target, process, call.interactive)
    except ExecSyncError as error:
        _write(target, error)
        late = isinstance(error, ExecTimeout)
        code = exitcodes.TIMED_OUT if late else error.exit_code or exitcodes.FAILED
        raise exitcodes.Failure(f"{target.record}: {error.problem}", code) from None
    except RuntimeFailure as error:
        told = str(error).removeprefix(f"{target.container.id}: ")
        raise exitcodes.Failure(f"{target.record}: {told}") from None


def _streaming(configuration: Configuration, target: Target, process: ExecProcess, interactive: bool) -> int:
    pending: list[int] = []
    with contextlib.ExitStack() as held:
        held.enter_context(handling(PASSED_ON, pending.append))
        held.enter_context(handling(STOPS, lambda _: None))  # none is ignored yet: the command would inherit that
        settings = monitor_settings(configuration)
        running = held.enter_context(foreground(settings, target.container, process, interactive=interactive))
        held.enter_context(handling(STOPS, signal.SIG_IGN))
        held.enter_context(handling(PASSED_ON, running.signal))
        for number in pending:
            running.signal(number)
        if process.terminal:
            held.enter_context(handling((signal.SIGWINCH,), lambda _: _resize(running)))
            _resize(running)
            # Without an input the keys stay this terminal's, and Ctrl-C is a signal to pass on.
            if running.stdin is not None and terminal.is_ours(_IN):
                held.enter_context(terminal.raw(_IN))
        return _pass_on(running)


def _pass_on(running: Foreground) -> int:
    """Copy until the command has ended and all that it wrote is out; its exit code.

    It is waited for the moment it ends, however slow the reader is: a container is over when its last process is.
    """
    out, err = Sink(_OUT), Sink(_ERR)
    reads = [Source(running.stdout.fileno(), out.push, out)]
    if running.stderr is not None:
        reads.append(Source(running.stderr.fileno(), err.push, err))
    sources, sinks = list(reads), [out, err]
    for each in (running.stdin, running.stdout, running.stderr):
        if each is not None:
            os.set_blocking(each.fileno(), False)
    if running.stdin is not None:
        into, close = Sink(running.stdin.fileno()), running.stdin.close
        shared = running.stdin is running.stdout  # a terminal has no end of input to be told

        def feed(block: bytes) -> None:
            into.push(block)
            if not block and not shared:
                into.finish(close)

        sources.append(Source(_IN, feed, into))
        sinks.append(into)

    def broken(sink: Sink) -> None:
        if sink in (out, err):
            raise exitcodes.ReaderGone
        sources[:] = reads

    relay(sources, sinks, running.process.fd, broken)
    code = running.exit_code()
    with handling(PASSED_ON, _give_up):
        for source in reads:
            source.drain(_AT_END)
        relay([], [out, err], None, broken)
    return code


def _give_up(number: int) -> None:
    """There is nobody any more to pass it on to, but a reader who takes his time."""
    raise SystemExit(128 + number)


def _to_its_end(configuration: Configuration, target: Target, process: ExecProcess, timeout: float) -> int:
    """Through conmon, as the operator would."""
    import asyncio

    from oarlock.runtime.execution import exec_sync

    conmon = find_program("conmon", configuration.conmon)
    settings = dataclasses.replace(monitor_settings(configuration), conmon=conmon)
    if sys.version_info < (3, 12):
        asyncio.get_event_loop_policy().set_child_watcher(asyncio.PidfdChildWatcher())
    by: list[int] = []

    async def run() -> ExecResult | None:
        task = asyncio.current_task()
        assert task is not None

        def end(number: int) -> None:
            by.append(number)
            task.cancel()

        for number in PASSED_ON:
            asyncio.get_running_loop().add_signal_handler(number, end, number)
        with contextlib.suppress(asyncio.CancelledError):
            return await exec_sync(settings, target.container, process, timeout)
        return None

    result = asyncio.run(run())
    if result is None:
        return 128 + by[0]
    _write(target, result)
    return result.exit_code


def _write(target: Target, told: ExecResult | ExecSyncError) -> None:
    for stream, text in ((sys.stdout, told.stdout), (sys.stderr, told.stderr)):
        stream.buffer.write(text)
        stream.flush()
    if told.truncated:
        output.note(f"{target.record}: the command wrote more than is kept; what follows was cut off")


def _resize(running: Foreground) -> None:
    now = terminal.size(_IN, _OUT, _ERR)
    if now is not None:
        terminal.set_size(running.stdout.fileno(), *now)


def _text(word: str) -> str:
    """The word, if it is text: with other bytes in it, it would reach the command as another word."""
    try:
        word.encode()
    except UnicodeEncodeError:
        shown = word.encode("utf-8", "backslashreplace").decode()
        raise exitcodes.Failure(f"'{shown}' is not UTF-8, and a runtime takes nothing else", exitcodes.USAGE) from None
    return word


def _variable(given: str) -> tuple[str, str]:
    """NAME=VALUE, or NAME alone for the caller's own value, which then stands in nobody's arguments."""
    name, has_value, value = given.partition("=")
    if not name or "\0" in given:
        raise exitcodes.Failure(f"-e: {given!r} is no variable; write NAME=VALUE, or NAME", exitcodes.USAGE)
    if has_value:
        return name, value
    if name not in os.environ:
        raise exitcodes.Failure(f"-e: {name} is not set here; write {name}=VALUE, or export it", exitcodes.USAGE)
    return name, os.environ[name]


def _directory(given: str | None) -> str | None:
    if given is not None and not given.startswith("/"):
        raise exitcodes.Failure(f"-w: {given!r} is relative; give the whole path in the container", exitcodes.USAGE)
    return given


def _user(target: Target, given: str) -> ExecUser:
    try:
        user = users.find(target.container.bundle / "rootfs", given)
    except BundleError as error:
        if not is_alive(target.pid, target.pid_start):
            raise exitcodes.Failure(f"{target.record}: {ended(target.container.id).problem}") from None
        raise exitcodes.Failure(f"{target.record}: -u: {error}") from None
    return ExecUser(user.uid, user.gid, user.additional_gids, user.home)
