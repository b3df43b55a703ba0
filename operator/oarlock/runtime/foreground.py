"""A command in a running container as a child of this process, its streams in this process's hands.

The runtime is asked as conmon asks it (`exec --detach --process`): runc and crun then do the same. It ends as soon as
the command runs, and the command becomes a child of this process, which waits for it. Its streams are pipes or a
terminal of its own, never the caller's: what runs in a container gets no descriptor of the node's.
"""

from __future__ import annotations

import contextlib
import os
import re
import secrets
import select
import signal
import socket
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from io import FileIO
from pathlib import Path
from typing import Any

from oarlock.cgroups.hierarchy import hierarchy
from oarlock.errors import ExecSyncError, RuntimeFailure, RuntimeTimeout
from oarlock.linux.family import become_subreaper, end_descendants
from oarlock.linux.process import Process, hold
from oarlock.linux.procfs import parent
from oarlock.linux.removal import remove_tree
from oarlock.runtime.command import not_run
from oarlock.runtime.container import Container
from oarlock.runtime.execprocess import ExecProcess, ended, in_memory, is_over, process_of, refusal
from oarlock.runtime.monitor import MonitorSettings

_ANSWER = 30.0
_WORDS = 1 << 16
_DECORATION = re.compile(r"\x1b\[[\d;]*m(\d{4}-\d\d-\d\dT[\d:.]+Z: )?")
_FROM_KEYS = frozenset({signal.SIGINT, signal.SIGQUIT, signal.SIGHUP})


@dataclass(slots=True)
class Foreground:
    """A command that runs, or has ended and is not waited for yet.

    Attributes:
        stdin: where its input is written to; None when it has none.
        stdout, stderr: where its output is read from. With a terminal all three are one, and there is no stderr.
        waited_for: whether its exit code was taken.
    """

    process: Process
    stdin: FileIO | None
    stdout: FileIO
    stderr: FileIO | None
    waited_for: bool = False

    def signal(self, number: int) -> None:
        """Send it a signal; what a terminal's keys send, to all of its process group, as a terminal does."""
        if self.waited_for:
            return  # its number may be another's now
        if number in _FROM_KEYS:
            with contextlib.suppress(ProcessLookupError):
                group = os.getpgid(self.process.pid)
                if group != os.getpgrp():
                    os.killpg(group, number)
                    return
        self.process.signal(number)

    def exit_code(self) -> int:
        """Wait for its end: its exit code, or 128 + n after signal n."""
        self.waited_for = True
        code = os.waitstatus_to_exitcode(os.waitpid(self.process.pid, 0)[1])
        return code if code >= 0 else 128 - code


@contextlib.contextmanager
def foreground(
    settings: MonitorSettings, container: Container, call: ExecProcess, *, interactive: bool
) -> Iterator[Foreground]:
    """A command in a running container.

    Args:
        interactive: whether it gets an input; otherwise its reads are at the end at once.

    Raises:
        ExecSyncError: it did not run; `exit_code` 126 or 127: because of the command.
        RuntimeTimeout: the runtime gave no answer.
    """
    become_subreaper()
    with contextlib.ExitStack() as held:
        with contextlib.ExitStack() as failed:
            failed.callback(_end_begun, container)
            try:
                running = _begin(held, settings, container, call, interactive=interactive)
            except ExecSyncError:
                if is_over(container):
                    raise ended(container.id) from None
                raise
            failed.pop_all()
        yield running


def _begin(
    held: contextlib.ExitStack, settings: MonitorSettings, container: Container, call: ExecProcess, *, interactive: bool
) -> Foreground:
    try:
        process = process_of(container.bundle, call)
        folder = held.enter_context(_folder(container.bundle))
        console = _Console(held, folder) if call.terminal else None
    except FileNotFoundError:
        raise ended(container.id) from None
    streams = _Streams(held, stdin=interactive and not call.terminal)
    stdin, out, err = streams.given
    spec = held.enter_context(in_memory(process))
    arguments = [
        container.runtime,
        *("--root", settings.runtime_root),
        *("exec", "--detach", "--pid-file", folder / "pid", "--process", f"/proc/self/fd/{spec}"),
        *(("--console-socket", console.path) if console is not None else ()),
        container.id,
    ]
    code = _run(arguments, (stdin, err if console else out, err), spec, settings)
    streams.close_given()
    if code != 0:
        said = streams.words() or (console.words(held) if console is not None else "")
        raise refusal(container.id, said, call.args[0])
    started = _child(folder / "pid")
    if started is None:
        raise ExecSyncError(container.id, f"{container.runtime} said that it runs, and told no process of its own")
    held.callback(started.close)
    if console is None:
        return Foreground(started, streams.stdin, streams.stdout, streams.stderr)
    master = console.receive(held)
    if master is None:
        raise ExecSyncError(container.id, f"{container.runtime} said that it runs, and handed over no terminal")
    return Foreground(started, master if interactive else None, master, None)


def _end_begun(container: Container) -> None:
    """Kill what the runtime has begun in the container and is not known to run: this process has inherited it."""
    for pid in hierarchy().processes(container.place.container):
        begun = hold(pid) if parent(pid) == os.getpid() else None
        if begun is not None:
            begun.signal(signal.SIGSTOP)
            for each in (*end_descendants(pid), begun):
                each.signal(signal.SIGKILL)
                each.close()


@contextlib.contextmanager
def _folder(bundle: Path) -> Iterator[Path]:
    folder = bundle / f"exec-{secrets.token_hex(8)}"
    folder.mkdir(mode=0o700)
    try:
        yield folder
    finally:
        remove_tree(folder)


class _Streams:
    """The pipes of one command: this process's ends, and the `given` ones for the runtime and its command."""

    def __init__(self, held: contextlib.ExitStack, *, stdin: bool) -> None:
        read, write = (_file(held, fd, mode) for fd, mode in zip(os.pipe(), ("rb", "wb"), strict=True))
        self.stdin = write if stdin else None
        self.stdout, out = (_file(held, fd, mode) for fd, mode in zip(os.pipe(), ("rb", "wb"), strict=True))
        self.stderr, err = (_file(held, fd, mode) for fd, mode in zip(os.pipe(), ("rb", "wb"), strict=True))
        if not stdin:
            write.close()  # so that a read of it is at the end
        self.given = (read, out, err)

    def close_given(self) -> None:
        """Leave them to whom they were given, so that their end can be seen here."""
        for each in self.given:
            each.close()

    def words(self) -> str:
        """What the runtime complained of."""
        os.set_blocking(self.stderr.fileno(), False)
        return (self.stderr.read(_WORDS) or b"").decode(errors="replace")


class _Console:
    """Where the runtime hands over the terminal that it made, in a folder of any length."""

    def __init__(self, held: contextlib.ExitStack, folder: Path) -> None:
        directory = os.open(folder, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        held.callback(os.close, directory)
        self._socket = held.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM))
        self._socket.bind(f"/proc/self/fd/{directory}/console")
        self._socket.listen(1)
        self._socket.settimeout(_ANSWER)
        self.path = f"/proc/{os.getpid()}/fd/{directory}/console"

    def receive(self, held: contextlib.ExitStack) -> FileIO | None:
        """The terminal's own end; None when the runtime hands over none."""
        try:
            connection, _ = self._socket.accept()
            with connection:
                connection.settimeout(_ANSWER)
                fds = socket.recv_fds(connection, _WORDS, 1)[1]
        except TimeoutError:
            return None
        if not fds:
            return None
        os.set_inheritable(fds[0], False)
        return _file(held, fds[0], "r+b")

    def words(self, held: contextlib.ExitStack) -> str:
        """What crun complained of on the terminal that it had made already: in colour, and with a time."""
        poll = select.poll()
        poll.register(self._socket, select.POLLIN)
        if not poll.poll(0):
            return ""
        master = self.receive(held)
        if master is None:
            return ""
        os.set_blocking(master.fileno(), False)
        with contextlib.suppress(OSError):  # nothing was written: EIO
            return _DECORATION.sub("", (master.read(_WORDS) or b"").decode(errors="replace"))
        return ""


def _child(pid_file: Path) -> Process | None:
    """The command, a child of this process until it is waited for; None when the runtime did not tell of one."""
    try:
        pid = int(pid_file.read_text())
        os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except (FileNotFoundError, ValueError, ChildProcessError):
        return None
    return hold(pid)


def _file(held: contextlib.ExitStack, fd: int, mode: str) -> FileIO:
    return held.enter_context(FileIO(fd, mode))


def _run(arguments: Sequence[str | Path], streams: Sequence[FileIO], spec: int, settings: MonitorSettings) -> int:
    """Run the runtime until it has started the command; its exit code.

    Raises:
        RuntimeTimeout: it gave no answer and was killed.
    """
    stdin, out, err = streams
    deadline = settings.runtime_timeout
    name = f"{Path(arguments[0]).name} exec"
    how: dict[str, Any] = {"stdin": stdin, "stdout": out, "stderr": err, "pass_fds": (spec,)}
    try:
        begun = subprocess.Popen(arguments, env=settings.environment, umask=0o022, process_group=0, **how)
    except (FileNotFoundError, PermissionError) as error:
        raise RuntimeFailure(not_run(name, error)) from None
    with begun as process:
        pidfd = os.pidfd_open(process.pid)
        try:
            poll = select.poll()
            poll.register(pidfd, select.POLLIN)
            if not poll.poll(deadline * 1000):
                os.killpg(process.pid, signal.SIGKILL)
                raise RuntimeTimeout(
                    f"{name} gave no answer within {deadline:g} s and was killed; see what it waits for, "
                    "or raise --runtime-timeout"
                )
        finally:
            os.close(pidfd)
        return process.wait()
