"""A person's terminal for a test: a real pty, on which a command of oarlock runs."""

from __future__ import annotations

import contextlib
import fcntl
import os
import pty
import re
import select
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Iterator

from tests.operating import DEADLINE, PATIENCE, Operator, eventually


class Person:
    """Someone at a terminal: types, reads, resizes the window."""

    def __init__(self, node: Operator, *arguments: str, rows: int = 24, columns: int = 80) -> None:
        self._master, self._slave = pty.openpty()
        self.resize(rows, columns)
        self.before = termios.tcgetattr(self._slave)
        self.process = subprocess.Popen(
            [sys.executable, "-m", "oarlock", *arguments],
            env=node.environment,
            stdin=self._slave,
            stdout=self._slave,
            stderr=self._slave,
            start_new_session=True,
            preexec_fn=self._take_terminal,
        )
        self.seen = b""

    def _take_terminal(self) -> None:
        fcntl.ioctl(self._slave, termios.TIOCSCTTY, 0)

    def resize(self, rows: int, columns: int) -> None:
        """Change the window; the kernel tells whoever runs in it."""
        fcntl.ioctl(self._master, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def sits_down(self) -> Person:
        """Wait until the command has taken the terminal: what is typed before is for the terminal itself."""
        eventually(lambda: not self.is_as_before, "the terminal is in raw mode")
        return self

    def type(self, text: str) -> None:
        """Press these keys."""
        os.write(self._master, text.encode())

    def reads(self, pattern: str, deadline: float = DEADLINE * PATIENCE) -> re.Match[bytes]:
        """Read until this (a regular expression) is on the screen; what was before it is forgotten."""
        end = time.monotonic() + deadline
        while (match := re.search(pattern.encode(), self.seen)) is None:
            if not select.select([self._master], [], [], max(0.0, end - time.monotonic()))[0]:
                raise AssertionError(f"not within {deadline:g} s: {pattern!r}; the screen has {self.seen[-2000:]!r}")
            self.seen += os.read(self._master, 65536)
        self.seen = self.seen[match.end() :]
        return match

    def ends(self, deadline: float = DEADLINE * PATIENCE) -> int:
        """Wait for the command's end; its exit code."""
        end = time.monotonic() + deadline
        while self.process.poll() is None:
            assert time.monotonic() < end, f"not ended within {deadline:g} s; the screen has {self.seen[-2000:]!r}"
            if select.select([self._master], [], [], 0.02)[0]:
                self.seen += os.read(self._master, 65536)
        while select.select([self._master], [], [], 0)[0]:
            self.seen += os.read(self._master, 65536)
        return self.process.returncode

    @property
    def is_as_before(self) -> bool:
        """Whether the terminal works as it did before the command."""
        return termios.tcgetattr(self._slave) == self.before

    def close(self) -> None:
        """End the command the hard way, and the terminal."""
        with contextlib.suppress(ProcessLookupError):
            self.process.send_signal(signal.SIGKILL)
        self.process.wait()
        os.close(self._slave)
        os.close(self._master)


@contextlib.contextmanager
def at_a_terminal(node: Operator, *arguments: str, rows: int = 24, columns: int = 80) -> Iterator[Person]:
    """`oarlock …` on a terminal of its own."""
    person = Person(node, *arguments, rows=rows, columns=columns)
    try:
        yield person
    finally:
        person.close()
