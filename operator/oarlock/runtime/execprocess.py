"""What runs in a container beside its own process, and how the runtime is told: the `process` of an exec."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from oarlock.cgroups.hierarchy import hierarchy
from oarlock.errors import ExecSyncError
from oarlock.linux.files import unusable_name
from oarlock.runtime.command import command_code, message_of
from oarlock.runtime.container import Container

_FRAME = "exec failed: unable to start container process: "
_PAUSED = re.compile(r"paused container|is paused", re.IGNORECASE)
_ENDED = re.compile(r"stopped container|is not running|does not exist|error opening file .*status", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class ExecUser:
    """Whom a command runs as instead of the container's user. `home` becomes HOME unless the call sets it."""

    uid: int
    gid: int
    additional_gids: tuple[int, ...] = ()
    home: str = "/"


@dataclass(frozen=True, slots=True)
class ExecProcess:
    """A command for a running container. What is not given is as the container's own process has it.

    Attributes:
        args: program and arguments, looked up in the container's PATH.
        env: added to the container's variables, or in place of them.
        user: whom it runs as.
        cwd: an absolute path in the container.
        terminal: whether this command gets a terminal, whatever the container's own process has.
        size: the terminal's, as rows and columns.
    """

    args: tuple[str, ...]
    env: Mapping[str, str] = field(default_factory=dict)
    user: ExecUser | None = None
    cwd: str | None = None
    terminal: bool = False
    size: tuple[int, int] | None = None


def process_of(bundle: Path, call: ExecProcess) -> dict[str, Any]:
    """The OCI `process` of a call, made from the bundle's own, which stays as it is.

    Raises:
        FileNotFoundError: there is no such bundle (any more).
        ExecSyncError: the program's name is too long.
    """
    if call.args and (problem := unusable_name(call.args[0])):
        raise ExecSyncError(bundle.name, problem, exit_code=126)
    own: Mapping[str, Any] = json.loads((bundle / "config.json").read_bytes())["process"]
    env = dict(variable.partition("=")[::2] for variable in own.get("env", ()))
    if call.terminal:
        env.setdefault("TERM", "xterm")
    made = {**own, "args": list(call.args), "terminal": call.terminal, "cwd": call.cwd or own["cwd"]}
    made.pop("consoleSize", None)
    if call.size is not None:
        made["consoleSize"] = {"height": call.size[0], "width": call.size[1]}
    if call.user is not None:
        env["HOME"] = call.user.home
        made["user"] = {
            **own.get("user", {}),
            "uid": call.user.uid,
            "gid": call.user.gid,
            "additionalGids": list(call.user.additional_gids),
        }
        made["capabilities"] = _capabilities(own.get("capabilities", {}), call.user.uid)
    made["env"] = [f"{name}={value}" for name, value in (env | dict(call.env)).items()]
    return made


@contextmanager
def in_memory(process: Mapping[str, Any]) -> Iterator[int]:
    """A file without a name that holds a process (environments hold secrets): its descriptor, for a child to read.

    The child finds it as /proc/self/fd/N, and nothing of it is left however everybody ends.
    """
    fd = os.memfd_create("process.json")
    try:
        with open(fd, "wb", closefd=False) as file:
            file.write(json.dumps(process, separators=(",", ":")).encode())
        yield fd
    finally:
        os.close(fd)


def refusal(container: str, said: str, command: str) -> ExecSyncError:
    """What the runtime's words mean when it did not run a command. (crun does not always name it.)"""
    lines = [line for line in said.splitlines() if line.strip()]
    message = message_of(lines[-1]) if lines else "the runtime ended without a word"
    if _PAUSED.search(message):
        problem = "it is paused, so nothing can be run in it; resume it first (`oarlock unpause`)"
        return ExecSyncError(container, problem)
    if not message.startswith(_FRAME) and _ENDED.search(message):
        return ended(container)
    message = message.removeprefix(_FRAME)
    code = command_code(message)
    problem = message if code is None or command in message else f"{command}: {message}"
    return ExecSyncError(container, problem, exit_code=code)


def is_over(container: Container) -> bool:
    """Whether a container has ended, whatever the runtime makes of that: it fails anywhere, in any words."""
    return not hierarchy().processes(container.place.container)


def ended(container: str) -> ExecSyncError:
    """The container does not run (any more)."""
    return ExecSyncError(container, "it does not run, so nothing can be run in it; start it first")


def _capabilities(own: Mapping[str, Any], uid: int) -> dict[str, Any]:
    """Root has all of the container's bounding set; others start with none (as `bundle.config` has it)."""
    bounding = own.get("bounding", [])
    held = bounding if uid == 0 else []
    return {"bounding": bounding, "effective": held, "permitted": held}
