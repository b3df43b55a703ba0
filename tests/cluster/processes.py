"""A server process of the tests: started, watched and ended with deadlines, its output in a file."""

from __future__ import annotations

import contextlib
import ctypes
import os
import secrets
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

_PR_SET_PDEATHSIG = 1
_libc = ctypes.CDLL(None, use_errno=True)


class ServerFailed(Exception):
    """A server ended by itself or did not get ready; the message holds the end of its log."""


_PORTS = range(20_000, 32_000)
"""Below those that the kernel gives to outgoing connections, which would take the port of a server that restarts."""


def free_port() -> int:
    """A TCP port of the loopback that was free a moment ago."""
    while True:
        port = secrets.choice(_PORTS)
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port


def free_ports(count: int) -> list[int]:
    """As many of them, each another."""
    found: list[int] = []
    while len(found) < count:
        if (port := free_port()) not in found:
            found.append(port)
    return found


def _die_with_parent() -> None:
    _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)


class Server:
    """One server program that can be started again with the same arguments.

    The kernel kills it with the thread that spawned it (PR_SET_PDEATHSIG), so a killed test run leaves
    nothing behind; that is why spawning has a thread of its own that lives as long as the object.
    """

    def __init__(self, arguments: Sequence[str | Path], *, log: Path, environment: Mapping[str, str]) -> None:
        self.name = Path(arguments[0]).name
        self.log = log
        self._arguments = [str(argument) for argument in arguments]
        self._environment = dict(environment)
        self._spawner = ThreadPoolExecutor(max_workers=1, thread_name_prefix=f"spawn-{self.name}")
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        """Its pid while it runs."""
        if self._process is None:
            raise ServerFailed(f"{self.name} does not run")
        return self._process.pid

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def start(self, *, ready: Callable[[], bool], timeout: float) -> None:
        """Start it and return once `ready` says so, at most `timeout` seconds later.

        Raises:
            ServerFailed: it ended, or is not ready in time; nothing of it is left running.
        """
        if self.running:
            return
        self._process = self._spawner.submit(self._spawn).result()
        deadline = time.monotonic() + timeout
        try:
            while not ready():
                if self._process.poll() is not None:
                    raise ServerFailed(f"{self.name} ended with {self._process.returncode}:\n{self.log_end()}")
                if time.monotonic() > deadline:
                    raise ServerFailed(f"{self.name} is not ready after {timeout:.0f} s:\n{self.log_end()}")
                time.sleep(0.03)
        except BaseException:
            self.stop(grace=0)
            raise

    def _spawn(self) -> subprocess.Popen[bytes]:
        with self.log.open("ab") as output:
            return subprocess.Popen(
                self._arguments,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=self._environment,
                start_new_session=True,
                preexec_fn=_die_with_parent,
            )

    def stop(self, *, grace: float) -> None:
        """End it: SIGTERM, and SIGKILL once `grace` seconds have passed (at once for 0)."""
        process, self._process = self._process, None
        if process is None or process.poll() is not None:
            return
        try:
            if grace > 0:
                process.send_signal(signal.SIGCONT)
                process.terminate()
                process.wait(grace)
        except subprocess.TimeoutExpired:
            pass
        finally:
            process.kill()
            process.wait(10)

    def pause(self) -> None:
        """Freeze it: connections stay open and nothing answers."""
        os.kill(self.pid, signal.SIGSTOP)

    def resume(self) -> None:
        os.kill(self.pid, signal.SIGCONT)

    def log_end(self, lines: int = 25) -> str:
        """The last lines of its output."""
        if not self.log.exists():
            return ""
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:])

    def close(self, *, grace: float) -> None:
        """End it for good, with the thread that spawned it."""
        self.stop(grace=grace)
        self._spawner.shutdown()
