"""Helping a conmon that hangs though its container has ended."""

from __future__ import annotations

import contextlib
import logging
import signal
import socket

from oarlock.linux.process import Process

logger = logging.getLogger(__name__)
_HANGS = "conmon, pid %d, hangs though its container has ended: it "


def unblock(conmon: Process) -> None:
    """Let it go on if it was stopped, and take from it the clients that are attached: it waits for one to read."""
    logger.warning(_HANGS + "is woken, and its attached clients are let go", conmon.pid)
    conmon.signal(signal.SIGCONT)
    for each in conmon.sockets():
        if each.type is socket.SOCK_SEQPACKET:
            with contextlib.suppress(OSError):  # the one that it listens on is not connected
                each.getpeername()
                each.shutdown(socket.SHUT_RDWR)


def end(conmon: Process) -> None:
    """Kill it: whoever inherits its processes asks how they ended."""
    logger.warning(_HANGS + "is killed", conmon.pid)
    conmon.signal(signal.SIGKILL)
