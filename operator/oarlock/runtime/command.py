"""Running conmon and the OCI runtime: argument lists, a built environment, deadlines."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Sequence
from pathlib import Path

from oarlock.errors import RuntimeFailure, RuntimeTimeout

ENVIRONMENT = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C.UTF-8"}
"""All that conmon and the runtime see. NOTIFY_SOCKET would block `runc start` for the container's whole life,
a LISTEN_PID makes create fail."""


async def run(arguments: Sequence[str | Path], *, timeout: float) -> str:
    """Run one command of the runtime and return what it printed.

    Raises:
        RuntimeFailure: it ended with a code other than 0; the message is the last line it wrote.
        RuntimeTimeout: it did not end within `timeout` seconds and was killed.
    """
    process = await asyncio.create_subprocess_exec(
        *[os.fspath(argument) for argument in arguments],
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env=ENVIRONMENT,
        umask=0o022,
    )
    try:
        async with asyncio.timeout(timeout):
            out, err = await process.communicate()
    except TimeoutError:
        raise RuntimeTimeout(f"{arguments[0]} gave no answer within {timeout:g} s and was killed") from None
    finally:
        if process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()
    if process.returncode:
        lines = [line for line in err.decode(errors="replace").splitlines() if line.strip()]
        raise RuntimeFailure(message_of(lines[-1]) if lines else f"{arguments[0]} ended with {process.returncode}")
    return out.decode(errors="replace")


def message_of(line: str) -> str:
    """The sentence in a line that the runtime wrote, without its own `level=error msg=` frame."""
    _, found, message = line.partition('level=error msg="')
    return message.rstrip('"').replace('\\"', '"') if found else line.strip()
