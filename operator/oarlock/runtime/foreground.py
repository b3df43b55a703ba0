"""A command in a running container as a child of this process, its streams in this process's hands.

The runtime is asked as conmon asks it (`exec --detach --process`): runc and crun then do the same. It ends as soon as
the command runs, and the command becomes a child of this process, which waits for it. Its streams are pipes or a
terminal of its own, never the caller's: what runs in a container gets no descriptor of the node's.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import select
import signal
import socket
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from oarlock.errors import RuntimeTimeout
from oarlock.linux.family import become_subreaper
from oarlock.linux.process import Process, hold
from oarlock.linux.removal import remove_tree
from oarlock.runtime.command import ENVIRONMENT
from oarlock.runtime.container import Container
from oarlock.runtime.execprocess import ExecProcess, ended, in_memory, process_of, refusal

_ANSWER = 30.0
_WORDS = 1 << 16
_FROM_KEYS = frozenset({signal.SIGINT, signal.SIGQUIT, signal.SIGHUP})


@dataclass(slots=True)
class Foreground:
    """A command that runs, or has ended and is not waited for yet.

    Attributes:
        stdin: where its input is written to; None when it has none.
        stdout, stderr: where its output is read from. With a terminal all three are one, and there is no stderr.
    """

    process: Process
    stdin: int | None
    stdout: int
    stderr: int | None

    def signal(self, number: int) -> None:
        """Send it a signal; what a terminal's keys send, to all of its process group, as a terminal does."""
        if number in _FROM_KEYS:
            with contextlib.suppress(ProcessLookupError):
                group = os.getpgid(self.process.pid)
                if group != os.getpgrp():
                    os.killpg(group, number)
                    return
        self.process.signal(number)

    def exit_code(self) -> int:
        """Wait for its end: its exit code, or 128 + n after signal n."""
        code = os.waitstatus_to_exitcode(os.waitpid(self.process.pid, 0)[1])
        return code if code >= 0 else 128 - code


@contextlib.contextmanager
def foreground(container: Container, runtime_root: Path, call: ExecProcess, *, interactive: bool) -> Iterator[Foreground]:
    """A command in a running container.

    Args:
        interactive: whether it gets an input; otherwise its reads are at the end at once.

    Raises:
        ExecSyncError: it did not run; `exit_code` 126 or 127: because of the command.
        RuntimeTimeout: the runtime gave no answer.
    """
    become_subreaper()
    with contextlib.ExitStack() as held:
        try:
            process = process_of(container.bundle, call)
            folder = held.enter_context(_folder(container.bundle))
        except FileNotFoundError:
            raise ended(container.id) from None
        streams = _Streams(held, interactive and not call.terminal)
        console = _Console(held, folder) if call.terminal else None
        spec = held.enter_context(in_memory(process))
        arguments = [
            container.runtime,
            *("--root", runtime_root),
            *("exec", "--detach", "--pid-file", folder / "pid", "--process", f"/proc/self/fd/{spec}"),
            *(("--console-socket", console.path) if console is not None else ()),
            container.id,
        ]
        code = _run(arguments, streams.given(console is not None), spec)
        streams.close_given()
        if code != 0:
            raise refusal(container.id, streams.words())
        started = hold(int((folder / "pid").read_text()))
        assert started is not None, "a child that is not waited for is there"
        held.callback(started.close)
        if console is None:
            yield Foreground(started, streams.stdin, streams.stdout, streams.stderr)
        else:
            master = console.receive(held)
            yield Foreground(started, master if interactive else None, master, None)


@contextlib.contextmanager
def _folder(bundle: Path) -> Iterator[Path]:
    folder = bundle / f"exec-{secrets.token_hex(8)}"
    folder.mkdir(mode=0o700)
    try:
        yield folder
    finally:
        remove_tree(folder)


class _Streams:
    """Three pipes, or two: this process's ends, and those that are given away."""

    def __init__(self, held: contextlib.ExitStack, with_stdin: bool) -> None:
        self._held = held
        self.stdin: int | None = None
        self._given: list[int] = []
        if with_stdin:
            theirs, self.stdin = self._pipe()
        else:
            theirs = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
        self.stdout, out = self._pipe()
        self.stderr, err = self._pipe()
        self._given = [theirs, out, err]
        held.callback(self.close_given)

    def given(self, terminal: bool) -> tuple[int, int, int]:
        """The ends for the runtime, and with it for the command unless that has a terminal."""
        stdin, out, err = self._given
        return (stdin, err, err) if terminal else (stdin, out, err)

    def close_given(self) -> None:
        """Leave them to whom they were given, so that their end can be seen."""
        while self._given:
            os.close(self._given.pop())

    def words(self) -> str:
        """What the runtime complained of."""
        os.set_blocking(self.stderr, False)
        with contextlib.suppress(BlockingIOError):
            return os.read(self.stderr, _WORDS).decode(errors="replace")
        return ""

    def _pipe(self) -> tuple[int, int]:
        read, write = os.pipe()
        mine = write if self.stdin is None and not self._given else read
        return read, write
