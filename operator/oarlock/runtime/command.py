"""Running conmon and the OCI runtime: argument lists, a built environment, deadlines."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import signal
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from oarlock.errors import RuntimeFailure, RuntimeTimeout

ENVIRONMENT = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C.UTF-8"}
"""All that conmon and the runtime see. NOTIFY_SOCKET would block `runc start` for the container's whole life,
a LISTEN_PID makes create fail."""
_END = 5.0


async def run(arguments: Sequence[str | Path], *, name: str, timeout: float, environment: Mapping[str, str]) -> str:
    """Run one command of the runtime, in a process group of its own, and return what it printed.

    Args:
        name: what it is called in errors, as `runc start`.

    Raises:
        RuntimeFailure: it ended with a code other than 0; the message has the last line it wrote.
        RuntimeTimeout: it did not end within `timeout` seconds; it and its children were killed.
    """
    try:
        process = await spawn(
            *[os.fspath(argument) for argument in arguments],
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env=environment,
            umask=0o022,
            process_group=0,
        )
    except (FileNotFoundError, PermissionError) as error:
        raise RuntimeFailure(not_run(name, error)) from None
    answered = False
    try:
        async with asyncio.timeout(timeout):
            out, err = await process.communicate()
        answered = True
    except TimeoutError:
        raise RuntimeTimeout(
            f"{name} gave no answer within {timeout:g} s and was killed; see what it waits for, "
            "or raise --runtime-timeout"
        ) from None
    finally:
        if not answered:
            await _end(process)
    if process.returncode:
        lines = [line for line in err.decode(errors="replace").splitlines() if line.strip()]
        raise RuntimeFailure(f"{name}: {message_of(lines[-1]) if lines else _end_of(process.returncode)}")
    return out.decode(errors="replace")


async def spawn(*arguments: str, **how: Any) -> asyncio.subprocess.Process:
    """`asyncio.create_subprocess_exec`, which waits for ever when it is cancelled before its pipes are connected.

    (Of Python 3.11 at least.) So it is waited for; a process that is not wanted any more then is ended, with its group.
    """
    spawning = asyncio.create_task(asyncio.create_subprocess_exec(*arguments, **how))
    try:
        return await asyncio.shield(spawning)
    except asyncio.CancelledError:
        with contextlib.suppress(OSError):
            await _end(await spawning)
        raise


def not_run(name: str, error: OSError) -> str:
    """What to say of a program of the node's that could not be run."""
    return f"{name} cannot be run: {error.filename}: {error.strerror}; put it back (`oarlock doctor` looks for it)"


async def _end(process: asyncio.subprocess.Process) -> None:
    """Kill its group, which it leads; its end is awaited for a moment, since the kernel may not let go of it."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(_END):
            await process.wait()


def _end_of(code: int) -> str:
    return f"ended with code {code}" if code > 0 else f"ended by signal {-code}"


_FRAME = re.compile(r"^.*unable to start container process: ")
_NO_FOLDER = re.compile(
    r"^(error during )?(container init: )?(chdir|mkdir) ?[^:]*"
    r"(: (not a directory|no such|permission|file exists|too many levels)| set in)",
    re.I,
)
_COMMAND = re.compile(r"^(exec|executable|open executable)[: ]|exec format", re.IGNORECASE)
_MISSING = re.compile(r"no such file or directory|executable file not found|not found in \$PATH", re.IGNORECASE)
_TOO_SMALL = re.compile(r"unable to set memory limit|memory limit (could be )?too low")
"""runc on version 1, runc and crun on version 2 of cgroups."""
_NOT_EXECUTABLE = re.compile(
    r"permission denied|operation not permitted|is a directory|exec format error", re.IGNORECASE
)


def command_code(message: str) -> int | None:
    """127 or 126, as a shell has it, where what runc or crun said is about the command or its folder."""
    message = _FRAME.sub("", message)
    if _NO_FOLDER.search(message):
        return 126
    if _COMMAND.search(message):
        if _MISSING.search(message):
            return 127
        if _NOT_EXECUTABLE.search(message):
            return 126
    return None


def with_way_out(message: str) -> str:
    """What the runtime said of a create, and the field to change where init itself goes beyond its memory limit."""
    too_small = _TOO_SMALL.search(message)
    return f"{message}; spec.resources.limits.memory is too small; raise it" if too_small else message


def logged_error(log: Path) -> str | None:
    """The last error in a log that the runtime wrote with `--log-format=json`; None when there is none."""
    error = None
    with contextlib.suppress(FileNotFoundError):
        for line in log.read_text(errors="replace").splitlines():
            with contextlib.suppress(ValueError, KeyError, TypeError):
                entry = json.loads(line)
                if entry["level"] in ("error", "fatal", "panic"):
                    error = str(entry["msg"]).strip() or error
    return error


def message_of(line: str) -> str:
    """The sentence in a line that the runtime wrote, without its own `level=error msg=` frame."""
    _, found, message = line.partition('level=error msg="')
    return message.rstrip('"').replace('\\"', '"') if found else line.strip()
